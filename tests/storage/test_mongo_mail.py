"""What else MongoDB's adapter promises beside the contract: pages, totals, the trace, and an event loop left alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from blockbuster import blockbuster_ctx

from storage.adapters.mongo import columns, events, stats
from storage.limits import PAGE_OCTETS
from storage.model import (
    ALL_UIDS,
    All,
    Event,
    NewMessage,
    Operation,
    TextContains,
    Want,
)
from storage.port import Reason, Refused
from tests.reading import lost_rows_of, rows_of
from tests.storage.mongo_store import Store, message, mongo_store, op, pieces, sweep_all


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with mongo_store() as found:
        yield found


async def test_pages_end_at_their_octets_and_miss_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "ROWS_AT_ONCE", 7)
    storage = await store.open()
    await storage.open_account(op(), "ann")
    ref = await store.ref(storage)
    sizes = [40_000, 200_000, 5_000, 250_000, 100] * 8
    for start in range(0, len(sizes), 10):
        new = [NewMessage(message(str(n), size)) for n, size in enumerate(sizes[start : start + 10], start)]
        await storage.append(op(), ref, new, None)
    found: list[Any] = []
    pages = 0
    while page := await rows_of(storage, ref, ((len(found) + 1, 99),), Want.CONTENT | Want.SIZE | Want.PREVIEW):
        octets = sum(len(row.content or b"") + len(row.preview or "") for row in page)
        assert octets <= PAGE_OCTETS or len(page) == 1
        found += page
        pages += 1
    assert [row.entry.uid for row in found] == list(range(1, 41))
    assert [len(row.content) for row in found] == sizes
    assert 4 <= pages <= 8 + 2


async def test_lost_rows_that_are_swept_while_they_are_read_end_no_page(store: Store) -> None:
    storage = await store.open()
    await storage.open_account(op(), "ann")
    ref = await store.ref(storage)
    await storage.append(op(), ref, [NewMessage(message(str(n)), 8) for n in range(6)], None)
    await storage.expunge(op(), ref, ((1, 6),))
    first = {entry["email"] for entry in await store.all("entry") if entry["uid"] <= 3}
    await store.mongo.database["email"].delete_many({"_id": {"$in": sorted(first)}})
    page = await lost_rows_of(storage, ref, ALL_UIDS, Want.PREFIX, 3)
    assert [row.entry.uid for row in page] == [4, 5, 6]
    assert [row.prefix for row in page] == [b"", b"", b""]
    assert await lost_rows_of(storage, ref, ((7, 99),), Want.PREFIX, 3) == ()


async def test_what_was_swept_cannot_be_read(store: Store) -> None:
    storage = await store.open()
    for account in ("ann", "bob"):
        await storage.open_account(op(), account)
    (outcome,) = await storage.accept([store.delivery("ann", "bob", content=message("x"))])
    emails = [at.email for at in outcome.stored]  # type: ignore[union-attr]
    for account, email in (("ann", emails[1]), ("bob", emails[0]), ("ann", "E0"), ("\udc80", emails[0]), ("ann", "\0")):
        with pytest.raises(Refused) as refused:
            await storage.read(account, email, 0, 10)
        assert refused.value.reason is Reason.NO_SUCH_MESSAGE
    await storage.expunge(op(), await store.ref(storage), ALL_UIDS)
    assert await storage.read("ann", emails[0], 0, 9) == b"From: Eve"
    store.clock.advance(3601)
    await sweep_all(storage)
    with pytest.raises(Refused):
        await storage.read("ann", emails[0], 0, 10)
    assert await storage.read("bob", emails[1], 0, 9) == b"From: Eve"
    # Between the look at the email and the look at the chunk.
    await store.mongo.database["blob"].update_many({}, {"$set": {"size": -2}})
    await store.mongo.database["chunk"].delete_many({})
    with pytest.raises(Refused):
        await storage.read("bob", emails[1], 0, 10)


async def test_totals_of_many_accounts_are_those_of_the_last_round(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stats, "ACCOUNTS_PAGE", 2)
    storage = await store.open()
    for n in range(5):
        await storage.open_account(op(), f"a{n}")
    size = len(message("x"))
    await storage.accept([store.delivery("a0", "a4", content=message("x"))])
    first = await storage.stats()
    assert (first.accounts, first.emails, first.size, first.emails_today) == (5, 2, 2 * size, 2)
    await storage.accept([store.delivery("a1", content=message("x"), remote=("x@far.example",))])
    seen = [await storage.stats() for _ in range(6)]
    assert {one.emails for one in seen[:2]} == {2}
    assert {one.emails for one in seen[2:]} == {3}
    assert {one.spool for one in seen} == {1}
    store.clock.advance(86400)
    assert [(await storage.stats()).emails_today for _ in range(4)] == [0] * 4
    await storage.accept([store.delivery("a1", content=message("x"))])
    assert [(await storage.stats()).emails_today for _ in range(6)][-1] == 1


async def test_the_spool_is_read_in_pages_in_order(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.adapters.mongo.spool.PAGE_RECIPIENTS", 2)
    storage = await store.open()
    await storage.open_account(op(), "ann")
    mine = [store.delivery(content=message(str(n)), remote=(f"x{n}@far.example",)) for n in range(5)]
    mine[3] = replace(mine[3], op=Operation(mine[3].op.id, "ann"))
    await storage.accept(mine)
    items = await storage.spool(None)
    assert sorted(items, key=lambda item: item.id) == list(items)
    assert {item.recipients[0].address for item in items} == {f"x{n}@far.example" for n in range(5)}
    assert await storage.spool(None, 3) == items[:3]
    assert await storage.spool(None, 3, items[2].id) == items[3:]
    assert [item.account for item in await storage.spool("ann")] == ["ann"]
    assert await storage.spool("bob") == ()
    assert await storage.spool(None, 3, "\udc80") == items[:3]


async def test_the_trace_is_bounded_by_number_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "EVENT_ROWS", 3)
    storage = await store.open()
    for n in range(5):
        await storage.record([Event(f"t{n}", store.clock.now(), "refused", None, {"text": "\udc80"})])
        store.clock.advance(1)
    assert (await storage.sweep()).events == 2
    assert [len(await storage.trace(f"t{n}", None)) for n in range(5)] == [0, 0, 1, 1, 1]
    assert (await storage.trace("t4", None))[0].detail == {"text": "\udc80"}


async def test_the_event_loop_is_left_alone(store: Store) -> None:
    # The driver looks at files when a client is made, and then no more.
    storage = await store.open()
    with blockbuster_ctx():
        await storage.open_account(op(), "ann")
        ref = await store.ref(storage)
        staged = await storage.stage(pieces(message("long", 1_500_000)))
        await storage.accept(
            [store.delivery("ann", content=message(str(n)), remote=("x@far.example",)) for n in range(20)]
        )
        await storage.append(op(), ref, [NewMessage(b"\r\nx", 8), NewMessage(staged, 8)], None)
        await rows_of(storage, ref, ALL_UIDS, Want(1023))
        await storage.search(ref, All())
        await storage.search(ref, TextContains("long"))
        await storage.expunge(op(), ref, ((1, 5),))
        await lost_rows_of(storage, ref, ALL_UIDS, Want(1023))
        await storage.spool(None)
        await storage.trace("trace", None)
        await storage.stats()
        await sweep_all(storage, 0)
        await storage.scrub()
        await storage.reparse()
        await storage.purge_account(op(), "ann")
