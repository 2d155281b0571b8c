"""The spool: what waits, who may try it, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from storage.limits import CLAIM_TEXT, SPOOL_CHANGES
from storage.model import (
    ALL_UIDS,
    INLINE_MAX,
    SYSTEM,
    Accepted,
    Claimed,
    Delivery,
    Event,
    LocalRecipient,
    Operation,
    RemoteRecipient,
    Settlement,
    SpoolAction,
    SpoolItem,
    Want,
)
from storage.port import Reason, Refused, Unavailable
from tests.reading import rows_of

LEASE = 60.0


async def _reason(call: Awaitable[Any]) -> Reason:
    with pytest.raises(Refused) as refused:
        await call
    return refused.value.reason


async def _spooled(bench: Any, *addresses: str, **how: Any) -> tuple[str, ...]:
    (outcome,) = await bench.store.accept([bench.delivery(remote=addresses, **how)])
    assert isinstance(outcome, Accepted), outcome
    return outcome.spooled


async def _claim(bench: Any, limit: int = 100, per_domain: int = 100, **how: Any) -> tuple[Claimed, ...]:
    return tuple(await bench.store.claim(limit, per_domain, LEASE, **how))


async def _claimed(bench: Any, *addresses: str) -> Claimed:
    """The one item that is due, after these were spooled."""
    await _spooled(bench, *addresses)
    (claimed,) = await _claim(bench)
    return claimed


def _settlement(bench: Any, claimed: Claimed, *finished: str, op: Operation | None = None, **how: Any) -> Settlement:
    return Settlement(op or bench.op(SYSTEM), claimed.item.id, claimed.lease, finished, **how)


async def _settle(bench: Any, claimed: Claimed, *finished: str, **how: Any) -> None:
    assert list(await bench.store.settle([_settlement(bench, claimed, *finished, **how)])) == [None]


async def _item(bench: Any, id: str) -> SpoolItem:
    found: SpoolItem = await bench.store.spool_item(id, None)
    return found


def _report(bench: Any, *accounts: str, id: str | None = None, **how: Any) -> Delivery:
    return replace(bench.delivery(*accounts, id=id, **how), trace="trace-dsn", sender="")


# -- what waits


async def test_a_message_to_several_domains_is_an_item_for_each(bench: Any) -> None:
    addresses = (
        "a@Far.example",
        "b@near.example",
        "c@far.EXAMPLE",
        "d@bücher.example",
        "e@[192.0.2.1]",
        "f@near.example",
    )
    ids = await _spooled(bench, *addresses)
    items = [await _item(bench, id) for id in ids]
    assert [(item.domain, [to.address for to in item.recipients]) for item in items] == [
        ("far.example", ["a@Far.example", "c@far.EXAMPLE"]),
        ("near.example", ["b@near.example", "f@near.example"]),
        ("xn--bcher-kva.example", ["d@bücher.example"]),
        ("[192.0.2.1]", ["e@[192.0.2.1]"]),
    ]
    now = bench.clock.now()
    for item in items:
        assert item == SpoolItem(
            id=item.id,
            trace="trace-1",
            account=None,
            sender="eve@example.net",
            domain=item.domain,
            recipients=item.recipients,
            size=len(bench.message()),
            queued_at=now,
            next_attempt=now,
        )
        assert all(to.params == {"NOTIFY": "NEVER"} for to in item.recipients)
    told = [(one.detail["address"], one.detail["item"]) for one in await bench.store.trace("trace-1", None)]
    of = {to.address: item.id for item in items for to in item.recipients}
    assert told == [(address, of[address]) for address in addresses]


async def test_domains_that_are_none_are_told_apart(bench: Any) -> None:
    odd = ("x", "é\udc80@ö\udc80", "a b@c d", "y@", '"q@far.example"@near.example')
    ids = await _spooled(bench, *odd)
    items = [await _item(bench, id) for id in ids]
    assert sorted(to.address for item in items for to in item.recipients) == sorted(odd)
    assert all(item.domain.isascii() for item in items)
    assert {item.domain for item in items if item.recipients[0].address == odd[-1]} == {"near.example"}
    claimed = await _claim(bench)
    assert {one.item.id for one in claimed} == set(ids)
    for one in claimed:
        await _settle(bench, one, *(to.address for to in one.item.recipients))
    assert await bench.store.spool(None) == ()


async def test_pages_by_owner_and_domain(bench: Any) -> None:
    ids = []
    for n in range(6):
        actor = "ann" if n % 2 else SYSTEM
        ids += await _spooled(bench, f"r{n}@far.example", f"r{n}@near.example", actor=actor)
    far, near = ids[::2], ids[1::2]

    async def listed(*args: Any, **how: Any) -> list[str]:
        return [item.id for item in await bench.store.spool(*args, **how)]

    assert await listed(None, 100) == sorted(ids)
    assert await listed(None, 100, domain="far.example") == sorted(far)
    assert await listed(None, 2, sorted(near)[1], "near.example") == sorted(near)[2:4]
    assert await listed("ann", 100, domain="near.example") == sorted(near[1::2])
    assert await listed("ann", 2, domain="near.example") == sorted(near[1::2])[:2]
    assert (
        await listed("bob")
        == await listed(None, 9, domain="none.example")
        == await listed(None, 9, "", "é\udc80")
        == []
    )


async def test_an_item_is_its_owners(bench: Any) -> None:
    (id,) = await _spooled(bench, "r@far.example", actor="ann")
    assert (await bench.store.spool_item(id, "ann")).account == "ann"
    assert (await bench.store.spool_item(id, None)).account == "ann"
    assert await _reason(bench.store.spool_item(id, "bob")) is Reason.NO_SUCH_ITEM
    for other in ("", "S", "Sfff", "x\0", "é\udc80"):
        assert await _reason(bench.store.spool_item(other, None)) is Reason.NO_SUCH_ITEM
        assert await _reason(bench.store.spool_read(other, 0, 10)) is Reason.NO_SUCH_ITEM


async def test_an_item_is_read_in_pieces(bench: Any) -> None:
    content = bench.message(size=2 * INLINE_MAX + 10)
    staged = await bench.store.stage(bench.chunks(content))
    far, near = await _spooled(bench, "r@far.example", "r@near.example", content=staged)
    read = bench.store.spool_read
    assert await read(far, 0, 10**9) == content[:INLINE_MAX]
    assert await read(near, INLINE_MAX, 2 * INLINE_MAX) == content[INLINE_MAX : 2 * INLINE_MAX]
    assert await read(near, 2 * INLINE_MAX, 10**9) == content[-10:]
    assert await read(near, -5, 3) == content[:3]
    assert await read(near, 10**9, 10**9 + 1) == b""


async def test_a_short_message_may_come_with_its_claim(bench: Any) -> None:
    short, long = b"a: b\r\n\r\nshort\r\n", b"a: b\r\n\r\n" + b"x" * CLAIM_TEXT
    names = [(await _spooled(bench, "a@remote.example", content=content))[0] for content in (short, long)]
    texts = {claimed.item.id: claimed.text for claimed in await _claim(bench)}
    assert texts[names[0]] in (None, short)
    assert texts[names[1]] is None
    assert await bench.store.spool_read(names[1], 0, INLINE_MAX) == long


async def test_domains_and_totals(bench: Any) -> None:
    assert await bench.store.spool_domains() == ()
    stats = await bench.store.stats()
    assert (stats.spool, stats.spool_held, stats.spool_oldest) == (0, 0, None)
    began = bench.clock.now()
    first = await _spooled(bench, "a@near.example", "b@far.example")
    bench.clock.advance(100)
    second = await _spooled(bench, "c@far.example", content=bench.message(size=500))
    third = await _spooled(bench, "d@held.example")
    await bench.store.change_spool(bench.op(SYSTEM), [*third, first[1]], SpoolAction.HOLD)
    size = len(bench.message())
    found = await bench.store.spool_domains()
    assert [(one.domain, one.items, one.held, one.size, one.oldest, one.next_attempt) for one in found] == [
        ("far.example", 2, 1, size + 500, began, began + 100),
        ("held.example", 1, 1, size, began + 100, None),
        ("near.example", 1, 0, size, began, began),
    ]
    assert await bench.store.spool_domains(1, "far.example") == found[1:2]
    assert await bench.store.spool_domains(9, "near.example") == ()
    stats = await bench.store.stats()
    assert (stats.spool, stats.spool_held, stats.spool_oldest) == (4, 2, began)
    await bench.store.change_spool(bench.op(SYSTEM), [*first, *second, *third], SpoolAction.DROP)
    stats = await bench.store.stats()
    assert (stats.spool, stats.spool_held, stats.spool_oldest) == (0, 0, None)


# -- who may try


async def test_a_claim_is_the_callers_alone_until_its_lease_ends(bench: Any) -> None:
    (id,) = await _spooled(bench, "r@far.example")
    (first,) = await _claim(bench)
    now = bench.clock.now()
    assert first.item == replace(await _item(bench, id), claims=1, leased_until=now + LEASE)
    assert await _claim(bench) == ()
    bench.clock.advance(LEASE - 1)
    assert await _claim(bench) == ()
    bench.clock.advance(1)
    (second,) = await _claim(bench)
    assert (second.item.id, second.item.claims, second.item.attempts) == (id, 2, 0)
    assert second.lease != first.lease
    # Who was too slow changes nothing.
    (outcome,) = await bench.store.settle([_settlement(bench, first, "r@far.example")])
    assert isinstance(outcome, Refused)
    assert outcome.reason is Reason.NO_SUCH_ITEM
    assert (await _item(bench, id)).claims == 2
    await _settle(bench, second, "r@far.example")


async def test_a_lease_that_ended_shows_as_none(bench: Any) -> None:
    claimed = await _claimed(bench, "r@far.example")
    assert (await _item(bench, claimed.item.id)).leased_until == bench.clock.now() + LEASE
    bench.clock.advance(LEASE)
    assert (await _item(bench, claimed.item.id)).leased_until == 0
    # It is nobody else's yet: what came of it counts.
    await _settle(bench, claimed, "r@far.example")
    assert await bench.store.spool(None) == ()


async def test_those_due_longest_come_first_and_few_of_one_domain(bench: Any) -> None:
    ids: dict[str, list[str]] = {"dead": [], "live": [], "other": []}
    for n in range(4):
        for name in ids if n < 2 else ("dead",):
            ids[name] += await _spooled(bench, f"r{n}@{name}.example")
            bench.clock.advance(1)
    assert [one.item.id for one in await _claim(bench, 3, 9)] == [ids["dead"][0], ids["live"][0], ids["other"][0]]
    claimed = await _claim(bench, 9, 1)
    assert [one.item.id for one in claimed] == [ids["dead"][1], ids["live"][1], ids["other"][1]]
    assert await _claim(bench, 9, 9, skip=frozenset({"dead.example"})) == ()
    assert [one.item.id for one in await _claim(bench, 9, 9, skip=frozenset({"live.example"}))] == ids["dead"][2:]


async def test_what_is_put_off_is_due_in_its_order(bench: Any) -> None:
    for n in range(3):
        await _spooled(bench, f"r@d{n}.example")
    now = bench.clock.now()
    for claimed in await _claim(bench):
        n = int(claimed.item.domain[1])
        await _settle(bench, claimed, next_attempt=now + 30 - 10 * n)
    assert await _claim(bench) == ()
    bench.clock.advance(20)
    assert [one.item.domain for one in await _claim(bench)] == ["d2.example", "d1.example"]
    bench.clock.advance(10)
    assert [one.item.domain for one in await _claim(bench)] == ["d0.example"]


async def test_many_claimants_share_and_none_twice(bench: Any) -> None:
    made = set()
    for n in range(12):
        made.update(await _spooled(bench, f"r@d{n % 3}.example", f"r@e{n}.example"))
    taken: list[str] = []

    async def runner() -> None:
        while claimed := await _claim(bench, 3, 2):
            assert len({one.item.id for one in claimed}) == len(claimed) <= 3
            taken.extend(one.item.id for one in claimed)
            await asyncio.sleep(0)

    await asyncio.gather(*(runner() for _ in range(4)))
    # Who lost a race to the others may have left while something was due.
    await runner()
    assert sorted(taken) == sorted(made)


async def test_leases_are_extended_while_they_are_the_callers(bench: Any) -> None:
    await _spooled(bench, "a@a.example", "b@b.example", "c@c.example")
    a, b, c = await _claim(bench)
    await _settle(bench, b, "b@b.example")
    bench.clock.advance(LEASE - 1)
    leases = {one.item.id: one.lease for one in (a, b)} | {c.item.id: "x", "Sfff": "y", "é\udc80": "é\udc80"}
    assert await bench.store.extend(leases, 100.0) == {a.item.id}
    assert (await _item(bench, a.item.id)).leased_until == bench.clock.now() + 100
    bench.clock.advance(1)
    (again,) = await _claim(bench)
    assert again.item.id == c.item.id
    bench.clock.advance(98)
    assert not [one for one in await _claim(bench) if one.item.id == a.item.id]
    bench.clock.advance(1)
    assert a.item.id in [one.item.id for one in await _claim(bench)]
    assert await bench.store.extend({a.item.id: a.lease}, 100.0) == frozenset()
    assert await bench.store.extend({}, 1.0) == frozenset()
    assert (
        await _reason(bench.store.extend(dict.fromkeys(map(str, range(SPOOL_CHANGES + 1)), "x"), 1.0)) is Reason.LIMIT
    )


async def test_a_claim_that_waits_wakes_at_once(bench: Any, bound: Any) -> None:
    # It is woken: looking again would take longer.
    bound("CLAIM_POLL", 60.0)

    async def wakes(event: Awaitable[Any]) -> Claimed:
        waiting = asyncio.create_task(_claim(bench, wait=30.0))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await event
        async with asyncio.timeout(20):
            (claimed,) = await waiting
        return claimed

    claimed = await wakes(_spooled(bench, "r@far.example"))
    later = bench.clock.now() + 1000
    claimed = await wakes(_settle(bench, claimed, next_attempt=0.0))
    await _settle(bench, claimed, next_attempt=later)
    claimed = await wakes(bench.store.change_spool(bench.op(SYSTEM), [claimed.item.id], SpoolAction.RETRY))
    await bench.store.change_spool(bench.op(SYSTEM), [claimed.item.id], SpoolAction.HOLD)
    await _settle(bench, claimed, next_attempt=0.0)
    claimed = await wakes(bench.store.change_spool(bench.op(SYSTEM), [claimed.item.id], SpoolAction.RELEASE))
    await _settle(bench, claimed, "r@far.example")


async def test_a_claim_that_waits_wakes_when_something_is_due(bench: Any, bound: Any) -> None:
    bound("CLAIM_POLL", 0.1)
    claimed = await _claimed(bench, "r@far.example")
    await _settle(bench, claimed, next_attempt=bench.clock.now() + 50)
    waiting = asyncio.create_task(_claim(bench, wait=30.0))
    await asyncio.sleep(0.05)
    bench.clock.advance(50)
    async with asyncio.timeout(20):
        assert [one.item.id for one in await waiting] == [claimed.item.id]


async def test_a_claim_waits_no_longer_than_it_is_told(bench: Any) -> None:
    async with asyncio.timeout(30):
        assert await _claim(bench) == ()
        assert await _claim(bench, wait=0.1) == ()
        await _spooled(bench, "r@far.example")
        assert await _claim(bench, wait=0.1, skip=frozenset({"far.example"})) == ()


async def test_a_closed_store_ends_every_wait(bench: Any) -> None:
    waiting = asyncio.create_task(_claim(bench, wait=30.0))
    await asyncio.sleep(0.05)
    await bench.store.close()
    async with asyncio.timeout(30):
        with suppress(Unavailable):
            assert await waiting == ()
    for call in (_claim(bench), _claim(bench, wait=1.0), bench.store.extend({"S1": "x"}, 1.0), bench.store.spool(None)):
        with pytest.raises(Unavailable):
            await call
    (outcome,) = await bench.store.settle([Settlement(bench.op(SYSTEM), "S1", "x")])
    assert isinstance(outcome, Unavailable)


# -- what came of it


async def test_recipients_are_finished_one_by_one(bench: Any) -> None:
    addresses = ("a@far.example", "b@far.example", "c@far.example")
    claimed = await _claimed(bench, *addresses)
    now = bench.clock.now()
    await _settle(
        bench, claimed, "b@far.example", "nobody@far.example", next_attempt=now + 60, last="451 later é\udc80"
    )
    item = await _item(bench, claimed.item.id)
    assert item == replace(
        claimed.item,
        recipients=(claimed.item.recipients[0], claimed.item.recipients[2]),
        next_attempt=now + 60,
        attempts=1,
        leased_until=0.0,
        last="451 later é\udc80",
    )
    bench.clock.advance(60)
    (claimed,) = await _claim(bench)
    assert (claimed.item.attempts, claimed.item.claims) == (1, 2)
    await _settle(bench, claimed, "c@far.example", told=True, next_attempt=now + 61)
    item = await _item(bench, claimed.item.id)
    assert (item.told_at, item.last, item.attempts) == (now + 60, "", 2)
    bench.clock.advance(1)
    (claimed,) = await _claim(bench)
    assert claimed.item.told_at == now + 60
    await _settle(bench, claimed, "a@far.example")
    assert await bench.store.spool(None) == ()
    assert await _reason(bench.store.spool_item(claimed.item.id, None)) is Reason.NO_SUCH_ITEM
    assert await _reason(bench.store.spool_read(claimed.item.id, 0, 1)) is Reason.NO_SUCH_ITEM


async def test_what_was_not_tried_is_given_back(bench: Any) -> None:
    claimed = await _claimed(bench, "a@far.example", "b@far.example")
    await _settle(bench, claimed, next_attempt=bench.clock.now() + 10, last="451 first")
    before = await _item(bench, claimed.item.id)
    bench.clock.advance(10)
    (claimed,) = await _claim(bench)
    await _settle(bench, claimed, attempted=False)
    assert await _item(bench, claimed.item.id) == before
    # Not before it was due, but later where that is asked.
    (claimed,) = await _claim(bench)
    later = bench.clock.now() + 5
    await _settle(bench, claimed, attempted=False, next_attempt=later, last="busy")
    assert await _item(bench, claimed.item.id) == replace(before, next_attempt=later, last="busy")
    assert await _claim(bench) == ()


async def test_an_attempt_without_an_outcome_shows_until_the_next_has_one(bench: Any) -> None:
    claimed = await _claimed(bench, "a@far.example")
    bench.clock.advance(LEASE)
    assert (await _item(bench, claimed.item.id)).claims == 1
    (claimed,) = await _claim(bench)
    # Given back it shows still.
    await _settle(bench, claimed, attempted=False)
    (claimed,) = await _claim(bench)
    assert (claimed.item.claims, claimed.item.attempts) == (2, 0)
    await _settle(bench, claimed, next_attempt=0.0)
    item = await _item(bench, claimed.item.id)
    assert (item.claims, item.attempts) == (1, 1)
    (claimed,) = await _claim(bench)
    assert (claimed.item.claims, claimed.item.attempts) == (2, 1)
    await _settle(bench, claimed, attempted=False)
    item = await _item(bench, claimed.item.id)
    assert (item.claims, item.attempts) == (1, 1)


async def test_events_go_into_the_trace_with_the_outcome(bench: Any) -> None:
    claimed = await _claimed(bench, "a@far.example")
    event = Event("trace-1", bench.clock.now() + 1, "attempt", None, {"status": "sent", "text": "250 ok \udc80"})
    op = bench.op(SYSTEM, events=(event,))
    await _settle(bench, claimed, "a@far.example", op=op)
    assert (await bench.store.trace("trace-1", None))[-1] == event
    # A repeat changes nothing, though the item is long gone.
    await _settle(bench, claimed, "a@far.example", op=op)
    assert sum(one.kind == "attempt" for one in await bench.store.trace("trace-1", None)) == 1


async def test_a_repeat_changes_nothing_and_returns_the_first_outcome(bench: Any) -> None:
    claimed = await _claimed(bench, "a@far.example", "b@far.example")
    op = bench.op(SYSTEM, events=(Event("trace-1", 1.0, "attempt"),))
    one = _settlement(bench, claimed, "a@far.example", op=op, report=_report(bench, "ann"))
    assert list(await bench.store.settle([one, one])) == [None, None]
    before = await _item(bench, claimed.item.id)
    (again,) = await _claim(bench)
    assert list(await bench.store.settle([one])) == [None]
    assert await _item(bench, claimed.item.id) == again.item
    assert before.recipients == again.item.recipients
    assert (await bench.store.mailbox("ann", "INBOX")).messages == 1
    assert sum(event.kind == "attempt" for event in await bench.store.trace("trace-1", None)) == 1


async def test_a_refusal_is_tried_anew(bench: Any) -> None:
    claimed = await _claimed(bench, "a@far.example")
    op = bench.op(SYSTEM)
    wrong = _settlement(bench, replace(claimed, lease="another"), "a@far.example", op=op)
    (outcome,) = await bench.store.settle([wrong])
    assert isinstance(outcome, Refused)
    await _settle(bench, claimed, "a@far.example", op=op)


async def test_many_in_one_batch_each_for_itself(bench: Any) -> None:
    for n in range(80):
        await _spooled(bench, f"r{n}@d{n % 7}.example")
    claimed = await _claim(bench)
    assert len(claimed) == 80
    batch = [
        _settlement(
            bench, replace(one, lease="x") if n == 30 else one, *([one.item.recipients[0].address] if n % 2 else [])
        )
        for n, one in enumerate(claimed)
    ]
    outcomes = await bench.store.settle([*batch[:50], Settlement(bench.op(SYSTEM), "Sfff", "x"), *batch[50:]])
    refused = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, Refused)]
    assert refused == [30, 50]
    assert sum(outcome is None for outcome in outcomes) == 79
    left = {item.id for item in await bench.store.spool(None)}
    assert left == {one.item.id for n, one in enumerate(claimed) if n % 2 == 0}
    assert await bench.store.settle([]) == []


async def test_two_settlements_of_one_claim(bench: Any) -> None:
    claimed = await _claimed(bench, "a@far.example", "b@far.example")
    both = [_settlement(bench, claimed, "a@far.example"), _settlement(bench, claimed, "b@far.example")]
    outcomes = await bench.store.settle(both)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["NoneType", "Refused"]
    (item,) = await bench.store.spool(None)
    assert (len(item.recipients), item.attempts) == (1, 1)


async def test_an_item_is_settled_by_its_owner_or_the_system(bench: Any) -> None:
    await _spooled(bench, "a@far.example", actor="ann")
    (claimed,) = await _claim(bench)
    (outcome,) = await bench.store.settle([_settlement(bench, claimed, "a@far.example", op=bench.op("bob"))])
    assert isinstance(outcome, Refused)
    assert outcome.reason is Reason.NO_PERMISSION
    await _settle(bench, claimed, "a@far.example", op=bench.op("ann"))


# -- reports


async def test_a_report_is_accepted_with_the_outcome(bench: Any) -> None:
    claimed = await _claimed(bench, "a@far.example")
    seen = await bench.modseq()
    watching = asyncio.create_task(bench.store.watch({"ann": seen}, 10))
    await asyncio.sleep(0)
    content = bench.message("undelivered")
    local = (
        LocalRecipient("ann", "ann@example.org", b"Return-Path: <>\r\n", "Sent", 1),
        LocalRecipient("bob", "b@example.org"),
    )
    event = Event("trace-dsn", bench.clock.now() - 1, "dsn", "ann", {"text": "\udc80"})
    report = Delivery(
        bench.op(SYSTEM, events=(event,)),
        content,
        "",
        bench.clock.now(),
        "trace-dsn",
        local,
        (RemoteRecipient("post@other.example", {"NOTIFY": "NEVER"}),),
        {"SMTPUTF8": ""},
    )
    await _settle(bench, claimed, "a@far.example", report=report)
    assert (await watching)["ann"] > seen
    (row,) = await rows_of(bench.store, await bench.ref("Sent"), ALL_UIDS, Want.CONTENT | Want.PREFIX)
    assert (row.content, row.prefix, row.entry.flags) == (content, b"Return-Path: <>\r\n", 1)
    assert (await bench.store.mailbox("bob", "INBOX")).messages == 1
    (item,) = await bench.store.spool(None)
    assert (item.domain, item.sender, item.trace, item.params) == ("other.example", "", "trace-dsn", {"SMTPUTF8": ""})
    assert item.recipients == report.remote
    kinds = [one.kind for one in await bench.store.trace("trace-dsn", None)]
    assert sorted(kinds) == ["dsn", "spooled", "stored", "stored"]
    # The report's own operation has happened.
    (outcome,) = await bench.store.accept([report])
    assert isinstance(outcome, Accepted)
    assert outcome.spooled == (item.id,)
    assert (await bench.store.mailbox("bob", "INBOX")).messages == 1


async def test_a_staged_report_is_accepted(bench: Any) -> None:
    claimed = await _claimed(bench, "a@far.example")
    content = bench.message("undelivered", 2 * INLINE_MAX)
    staged = await bench.store.stage(bench.chunks(content))
    await _settle(bench, claimed, "a@far.example", report=_report(bench, "ann", content=staged))
    (row,) = await rows_of(bench.store, await bench.ref(), ALL_UIDS, Want.SIZE)
    assert row.size == len(content)


async def test_a_report_that_is_refused_changes_nothing(bench: Any) -> None:
    claimed = await _claimed(bench, "a@far.example")
    staged = replace(await bench.store.stage(bench.chunks(b"x")), size=2)
    reports = {
        Reason.NO_SUCH_ACCOUNT: _report(bench, "ann", "nobody"),
        Reason.UNKNOWN_CTE: _report(bench, "ann", content=b"a\0b"),
        Reason.TOO_BIG: _report(bench, "ann", content=b"x" * (INLINE_MAX + 1)),
        Reason.NO_SUCH_BLOB: _report(bench, "ann", content=staged),
    }
    for reason, report in reports.items():
        op = bench.op(SYSTEM, events=(Event("trace-1", 1.0, "attempt"),))
        (outcome,) = await bench.store.settle([_settlement(bench, claimed, "a@far.example", op=op, report=report)])
        assert isinstance(outcome, Refused)
        assert outcome.reason is reason
        assert await _item(bench, claimed.item.id) == claimed.item
    assert (await bench.store.mailbox("ann", "INBOX")).messages == 0
    assert all(one.kind == "spooled" for one in await bench.store.trace("trace-1", None))
    await _settle(bench, claimed, "a@far.example", report=_report(bench, "ann"))


async def test_without_the_lease_the_report_is_not_accepted(bench: Any) -> None:
    claimed = await _claimed(bench, "a@far.example")
    report = _report(bench, "ann")
    for one in (replace(claimed, lease="x"), replace(claimed, item=replace(claimed.item, id="Sfff"))):
        (outcome,) = await bench.store.settle([_settlement(bench, one, "a@far.example", report=report)])
        assert isinstance(outcome, Refused)
        assert outcome.reason is Reason.NO_SUCH_ITEM
    assert (await bench.store.mailbox("ann", "INBOX")).messages == 0
    assert await bench.store.trace("trace-dsn", None) == ()


# -- bodies


async def test_the_body_goes_with_the_last_item(bench: Any) -> None:
    await _spooled(bench, "a@far.example", "b@near.example")
    far, near = await _claim(bench)

    async def swept() -> int:
        bench.clock.advance(3601)
        reports = [await bench.store.sweep()]
        while reports[-1].more:
            reports.append(await bench.store.sweep())
        return sum(report.blobs for report in reports)

    await _settle(bench, far, *(to.address for to in far.item.recipients))
    assert await swept() == 0
    assert await bench.store.spool_read(near.item.id, 0, 10**6) == bench.message()
    await bench.store.change_spool(bench.op(SYSTEM), [near.item.id], SpoolAction.DROP)
    # Some stores free it at once.
    assert await swept() <= 1
    assert await bench.store.scrub() == ("", ())
    assert await swept() == 0


async def test_a_purge_leaves_what_was_accepted_for_others(bench: Any) -> None:
    (id,) = await _spooled(bench, "a@far.example", actor="ann")
    while not await bench.store.purge_account(bench.op(SYSTEM), "ann"):
        continue
    bench.clock.advance(3601)
    while (await bench.store.sweep()).more:
        continue
    (claimed,) = await _claim(bench)
    assert (claimed.item.id, claimed.item.account) == (id, "ann")
    assert await bench.store.spool_read(id, 0, 10**6) == bench.message()
    await _settle(bench, claimed, "a@far.example")


# -- what an administrator does


async def test_an_item_is_held_and_released(bench: Any) -> None:
    (id,) = await _spooled(bench, "a@far.example")
    change = bench.store.change_spool
    assert await change(bench.op(SYSTEM), [id], SpoolAction.HOLD) == (id,)
    assert (await _item(bench, id)).held
    assert await _claim(bench) == ()
    # Held, it is not due by a retry either.
    assert await change(bench.op(SYSTEM), [id], SpoolAction.RETRY) == (id,)
    assert await _claim(bench) == ()
    assert await change(bench.op(SYSTEM), [id], SpoolAction.RELEASE) == (id,)
    (claimed,) = await _claim(bench)
    assert not claimed.item.held


async def test_an_attempt_in_hand_goes_on(bench: Any) -> None:
    claimed = await _claimed(bench, "a@far.example", "b@far.example")
    id = claimed.item.id
    change = bench.store.change_spool
    for action in (SpoolAction.HOLD, SpoolAction.RELEASE, SpoolAction.RETRY, SpoolAction.ROUTE):
        assert await change(bench.op(SYSTEM), [id], action, "smtp://relay.example:25") == (id,)
        assert await _claim(bench) == ()
    # Not while it is leased.
    assert await change(bench.op(SYSTEM), [id], SpoolAction.DROP) == ()
    await change(bench.op(SYSTEM), [id], SpoolAction.HOLD)
    assert await bench.store.extend({id: claimed.lease}, LEASE) == {id}
    await _settle(bench, claimed, "a@far.example", next_attempt=0.0)
    item = await _item(bench, id)
    assert (item.held, item.route, len(item.recipients)) == (True, "smtp://relay.example:25", 1)
    assert await _claim(bench) == ()
    assert await change(bench.op(SYSTEM), [id], SpoolAction.DROP) == (id,)
    assert await bench.store.spool(None) == ()


async def test_a_retry_is_due_now(bench: Any) -> None:
    claimed = await _claimed(bench, "a@far.example")
    await _settle(bench, claimed, next_attempt=bench.clock.now() + 1000)
    assert await _claim(bench) == ()
    assert await bench.store.change_spool(bench.op(SYSTEM), [claimed.item.id], SpoolAction.RETRY) == (claimed.item.id,)
    assert (await _item(bench, claimed.item.id)).next_attempt == bench.clock.now()
    assert len(await _claim(bench)) == 1


async def test_an_item_gets_another_route(bench: Any) -> None:
    (id,) = await _spooled(bench, "a@far.example")
    await bench.store.change_spool(bench.op(SYSTEM), [id], SpoolAction.ROUTE, "mx é\udc80")
    (claimed,) = await _claim(bench)
    assert claimed.item.route == "mx é\udc80"
    await _settle(bench, claimed, next_attempt=0.0)
    await bench.store.change_spool(bench.op(SYSTEM), [id], SpoolAction.ROUTE)
    assert (await _item(bench, id)).route is None


async def test_what_is_leased_no_more_is_dropped(bench: Any) -> None:
    claimed = await _claimed(bench, "a@far.example")
    bench.clock.advance(LEASE)
    id = claimed.item.id
    assert await bench.store.change_spool(bench.op(SYSTEM), [id], SpoolAction.DROP) == (id,)
    (outcome,) = await bench.store.settle([_settlement(bench, claimed, "a@far.example")])
    assert isinstance(outcome, Refused)
    assert outcome.reason is Reason.NO_SUCH_ITEM


async def test_others_items_are_as_if_they_were_not_there(bench: Any) -> None:
    (mine,) = await _spooled(bench, "a@far.example", actor="ann")
    (other,) = await _spooled(bench, "b@far.example", actor="bob")
    (nobodys,) = await _spooled(bench, "c@far.example")
    asked = [nobodys, mine, "Sfff", other, mine, "é\udc80"]
    assert await bench.store.change_spool(bench.op("ann"), asked, SpoolAction.HOLD) == (mine,)
    assert [(await _item(bench, id)).held for id in (mine, other, nobodys)] == [True, False, False]
    assert await bench.store.change_spool(bench.op(SYSTEM), asked, SpoolAction.HOLD) == (nobodys, mine, other)
    too_many = [f"Sx{n}" for n in range(SPOOL_CHANGES + 1)]
    assert await _reason(bench.store.change_spool(bench.op(SYSTEM), too_many, SpoolAction.HOLD)) is Reason.LIMIT
    assert await bench.store.change_spool(bench.op(SYSTEM), too_many[1:], SpoolAction.HOLD) == ()


async def test_a_change_is_told_in_each_trace_and_happens_once(bench: Any) -> None:
    ids = [
        *await _spooled(bench, "a@far.example", actor="ann"),
        *await _spooled(bench, "b@far.example", "c@near.example"),
    ]
    op = bench.op(SYSTEM, events=(Event("trace-op", 1.0, "asked"),))
    assert await bench.store.change_spool(op, ids, SpoolAction.ROUTE, "mx") == tuple(ids)
    await bench.store.change_spool(bench.op(SYSTEM), ids, SpoolAction.ROUTE, None)
    assert await bench.store.change_spool(op, ids, SpoolAction.ROUTE, "mx") == tuple(ids)
    assert {(await _item(bench, id)).route for id in ids} == {None}
    told = [one for one in await bench.store.trace("trace-1", None) if one.kind == "queue"]
    assert sorted((str(one.detail["item"]), one.account, str(one.detail["route"])) for one in told) == sorted(
        (id, account, route) for id, account in zip(ids, ("ann", None, None), strict=True) for route in ("mx", "None")
    )
    assert all((one.detail["action"], one.detail["by"], one.at) == ("route", SYSTEM, bench.clock.now()) for one in told)
    assert len(await bench.store.trace("trace-op", None)) == 1
    # Also of what is gone since.
    op = bench.op(SYSTEM)
    assert await bench.store.change_spool(op, ids[:2], SpoolAction.DROP) == tuple(ids[:2])
    assert await bench.store.change_spool(op, ids[:2], SpoolAction.DROP) == tuple(ids[:2])
    assert [item.id for item in await bench.store.spool(None)] == ids[2:]
    dropped = [one for one in await bench.store.trace("trace-1", None) if one.detail.get("action") == "drop"]
    assert len(dropped) == 2
    assert "route" not in dropped[0].detail
