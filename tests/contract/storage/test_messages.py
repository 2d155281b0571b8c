"""Delivery, APPEND, staged bodies, and reading back what was kept."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from storage.model import (
    ALL_UIDS,
    INLINE_MAX,
    PREFIX_MAX,
    SYSTEM,
    Accepted,
    Event,
    NewMessage,
    StagedBlob,
    Want,
)
from storage.port import Reason, Refused, Unavailable
from tests.reading import entries_of, rows_of


async def _reason(call: Any) -> Reason:
    with pytest.raises(Refused) as refused:
        await call
    return refused.value.reason


async def test_a_delivery_reaches_all_its_recipients(bench: Any) -> None:
    outcome = await bench.deliver("ann", "bob", remote=("x@far.example",), prefix=b"Return-Path: <>\r\n", flags=4)
    assert [at.account for at in outcome.stored] == ["ann", "bob"]
    for at in outcome.stored:
        ref = await bench.ref(account=at.account)
        (row,) = await rows_of(bench.store, ref, ALL_UIDS, Want.SIZE | Want.PREFIX | Want.CONTENT)
        box = await bench.store.mailbox(at.account, "INBOX")
        assert (row.entry.uid, row.entry.email, row.entry.flags) == (at.uid, at.email, 4)
        assert (at.mailbox, at.uidvalidity) == (ref.mailbox, box.uidvalidity)
        assert row.content == bench.message()
        assert row.prefix == b"Return-Path: <>\r\n"
        assert row.size == len(row.prefix) + len(row.content) == box.size
        assert row.entry.internaldate == row.entry.savedate == int(bench.clock.now())
    (item,) = await bench.store.spool(None)
    assert (item.id,) == outcome.spooled
    assert [(one.address, one.params) for one in item.recipients] == [("x@far.example", {"NOTIFY": "NEVER"})]
    assert (item.sender, item.size, item.account, item.attempts) == (
        "eve@example.net",
        len(bench.message()),
        None,
        0,
    )


async def test_a_delivery_is_all_or_nothing(bench: Any) -> None:
    (outcome,) = await bench.store.accept([bench.delivery("ann", "nobody", remote=("x@far.example",))])
    assert isinstance(outcome, Refused)
    assert outcome.reason is Reason.NO_SUCH_ACCOUNT
    assert await bench.store.spool(None) == ()
    assert (await bench.store.mailbox("ann", "INBOX")).uidnext == 1


async def test_a_refused_delivery_disturbs_no_other(bench: Any) -> None:
    big = b"x" * (INLINE_MAX + 1)
    outcomes = await bench.store.accept(
        [
            bench.delivery("ann"),
            bench.delivery("nobody"),
            bench.delivery("ann", content=b"a\0b"),
            bench.delivery("ann", content=big),
            bench.delivery("ann", prefix=b"x" * (PREFIX_MAX + 1)),
            bench.delivery("ann", content=StagedBlob("B00ff", 3, b"")),
            bench.delivery("ann", prefix=b"x" * PREFIX_MAX, content=big[1:]),
            bench.delivery("bob"),
        ]
    )
    assert [getattr(outcome, "reason", None) for outcome in outcomes] == [
        None,
        Reason.NO_SUCH_ACCOUNT,
        Reason.UNKNOWN_CTE,
        Reason.TOO_BIG,
        Reason.TOO_BIG,
        Reason.NO_SUCH_BLOB,
        None,
        None,
    ]
    assert [outcomes[n].stored[0].uid for n in (0, 6, 7)] == [1, 2, 1]
    assert (await bench.store.usage("ann")).messages == 2


async def test_a_bug_in_one_delivery_disturbs_no_other(bench: Any) -> None:
    broken = replace(bench.delivery("bob"), received_at="not a time")
    outcomes = await bench.store.accept([bench.delivery("ann"), broken, bench.delivery("ann")])
    assert [type(outcome) for outcome in outcomes] == [Accepted, Unavailable, Accepted]
    assert (await bench.store.mailbox("ann", "INBOX")).messages == 2
    assert (await bench.store.mailbox("bob", "INBOX")).messages == 0


async def test_a_delivery_into_a_named_mailbox_or_else_inbox(bench: Any) -> None:
    await bench.deliver(mailbox="Junk")
    await bench.deliver(mailbox="None such")
    await bench.deliver(mailbox="bad\ud800")
    assert (await bench.store.mailbox("ann", "Junk")).messages == 1
    assert (await bench.store.mailbox("ann", "INBOX")).messages == 2


async def test_quota_is_not_looked_at_on_delivery_but_on_append(bench: Any) -> None:
    size = len(bench.message())
    await bench.deliver()
    ref = await bench.ref()
    message = NewMessage(bench.message())
    assert (await bench.store.append(bench.op(), ref, [message], 2 * size)).uids == (2,)
    assert await _reason(bench.store.append(bench.op(), ref, [message], 3 * size - 1)) is Reason.OVER_QUOTA
    assert (await bench.store.append(bench.op(), ref, [message, message], None)).uids == (3, 4)
    await bench.deliver()


async def test_append_is_all_or_nothing(bench: Any) -> None:
    ref = await bench.ref()
    good = NewMessage(bench.message())
    for bad, reason in (
        (NewMessage(b"a\0"), Reason.UNKNOWN_CTE),
        (NewMessage(b"x" * (INLINE_MAX + 1)), Reason.TOO_BIG),
        (NewMessage(StagedBlob("nothing", 1, b"")), Reason.NO_SUCH_BLOB),
        (NewMessage(b"x", keywords=("not an atom",)), Reason.BAD_NAME),
    ):
        assert await _reason(bench.store.append(bench.op(), ref, [good, bad], None)) is reason
    box = await bench.store.mailbox("ann", "INBOX")
    assert (box.uidnext, box.messages) == (1, 0)
    gone = replace(ref, mailbox="M999")
    assert await _reason(bench.store.append(bench.op(), gone, [good], None)) is Reason.NO_SUCH_MAILBOX


async def test_append_keeps_flags_keywords_and_date(bench: Any) -> None:
    ref = await bench.ref("Drafts")
    message = NewMessage(bench.message(), 16 | 1, ("$Label1", "zeta", "$label1"), internaldate=-5)
    appended = await bench.store.append(bench.op(), ref, [message, NewMessage(b"")], None)
    first, second = await entries_of(bench.store, ref, ALL_UIDS)
    assert (first.flags, first.keywords, first.internaldate) == (17, ("$Label1", "zeta"), -5)
    assert first.savedate == second.internaldate == int(bench.clock.now())
    assert first.modseq == second.modseq == appended.modseq
    box = await bench.store.mailbox("ann", "Drafts")
    assert (box.messages, box.unseen, box.uidvalidity) == (2, 1, appended.uidvalidity)


async def test_keywords_per_account(bench: Any, bound: Any) -> None:
    bound("KEYWORDS_PER_ACCOUNT", 3)
    ref = await bench.fill(1, keywords=("a", "b", "c"))
    await bench.fill(1, keywords=("A", "B", "C"))
    message = NewMessage(b"x", keywords=("d",))
    assert await _reason(bench.store.append(bench.op(), ref, [message], None)) is Reason.LIMIT
    assert (await bench.store.mailbox("ann", "INBOX")).messages == 2


async def test_a_long_body_is_staged_and_then_named(bench: Any, flat: Any) -> None:
    content = bench.message("long") + bytes(range(1, 256)) * 12_000
    staged = await bench.store.stage(bench.chunks(content, INLINE_MAX))
    assert (staged.size, staged.sha256) == (len(content), hashlib.sha256(content).digest())
    await bench.deliver("ann", "bob", content=staged, prefix=b"X: y\r\n")
    (row,) = await rows_of(bench.store, await bench.ref(), ALL_UIDS, Want(1023))
    assert row.content is None
    assert row.size == len(content) + 6
    got = bytearray()
    while piece := await bench.store.read("ann", row.entry.email, len(got), len(got) + 10 * INLINE_MAX):
        assert len(piece) <= INLINE_MAX
        got += piece
    assert got == content
    for start, end in ((0, 1), (INLINE_MAX - 1, INLINE_MAX + 1), (INLINE_MAX, INLINE_MAX), (len(content) - 3, 10**9)):
        assert await bench.store.read("ann", row.entry.email, start, end) == content[start:end]
    assert b'"long"' in row.envelope
    # The same staged body can be named again while it is kept.
    await bench.store.append(bench.op(), await bench.ref("Sent"), [NewMessage(staged)], None)


async def test_what_cannot_be_staged(bench: Any, bound: Any) -> None:
    assert (await bench.store.stage(bench.chunks(b""))).size == 0
    assert await _reason(bench.store.stage(bench.chunks(b"x" * (INLINE_MAX + 1), INLINE_MAX + 1))) is Reason.TOO_BIG
    assert await _reason(bench.store.stage(bench.chunks(b"a\0b"))) is Reason.UNKNOWN_CTE
    bound("BLOB_MAX", 1000)
    assert await _reason(bench.store.stage(bench.chunks(b"x" * 1001, 10))) is Reason.TOO_BIG
    assert (await bench.store.stage(bench.chunks(b"x" * 1000, 10))).size == 1000


async def test_stored_forms_come_as_asked(bench: Any) -> None:
    await bench.deliver()
    ref = await bench.ref()
    (row,) = await rows_of(bench.store, ref, ALL_UIDS, Want(0))
    assert row[1:] == (None,) * 10
    (row,) = await rows_of(bench.store, ref, ALL_UIDS, Want(1023))
    assert row.envelope.startswith(b"(NIL ")
    assert row.body.startswith(b'("text" "plain"')
    assert row.bodystructure.startswith(b'("text" "plain"')
    assert row.headers == bench.message().split(b"\r\n\r\n")[0] + b"\r\n"
    assert row.preview == "hello"
    assert row.keys.sent == row.entry.internaldate
    assert row.parts


async def test_pages_are_bounded_and_in_order(bench: Any) -> None:
    ref = await bench.ref()
    body = b"y" * 200_000
    for _ in range(3):
        await bench.store.append(bench.op(), ref, [NewMessage(body)] * 4, None)
    got: list[int] = []
    pages = 0
    while page := await rows_of(bench.store, ref, ((got[-1] + 1 if got else 1, 0xFFFF_FFFF),), Want.CONTENT):
        got += [row.entry.uid for row in page]
        pages += 1
    assert got == list(range(1, 13))
    assert pages >= 2
    assert [entry.uid for entry in await entries_of(bench.store, ref, ((2, 3), (5, 5), (11, 99)), 3)] == [2, 3, 5]
    assert len(await rows_of(bench.store, ref, ALL_UIDS, Want.SIZE, 5)) == 5
    assert await entries_of(bench.store, ref, ()) == ()
    assert await entries_of(bench.store, ref, ((13, 20),)) == ()


async def test_another_account_reads_nothing(bench: Any) -> None:
    outcome = await bench.deliver("ann")
    email = outcome.stored[0].email
    ref = await bench.ref()
    assert await _reason(bench.store.read("bob", email, 0, 10)) is Reason.NO_SUCH_MESSAGE
    assert await _reason(bench.store.read("ann", "Exyz", 0, 10)) is Reason.NO_SUCH_MESSAGE
    assert await _reason(entries_of(bench.store, replace(ref, account="bob"), ALL_UIDS)) is Reason.NO_SUCH_MAILBOX
    assert await _reason(entries_of(bench.store, replace(ref, mailbox=email), ALL_UIDS)) is Reason.NO_SUCH_MAILBOX


async def test_spool_pages_and_owners(bench: Any) -> None:
    ids = []
    for n in range(5):
        actor = "ann" if n % 2 else SYSTEM
        outcome = await bench.deliver("bob", remote=(f"r{n}@far.example", "é\udc80@far.example"), actor=actor)
        ids.extend(outcome.spooled)
    assert ids == sorted(ids)
    assert [item.id for item in await bench.store.spool(None, 3)] == ids[:3]
    assert [item.id for item in await bench.store.spool(None, 3, ids[2])] == ids[3:]
    assert [item.id for item in await bench.store.spool("ann")] == [ids[1], ids[3]]
    assert (await bench.store.spool(None, 1))[0].recipients[1].address == "é\udc80@far.example"
    # A message for others alone needs no account here.
    (outcome,) = await bench.store.accept([bench.delivery(remote=("x@far.example",))])
    assert isinstance(outcome, Accepted)
    assert outcome.stored == ()


async def test_twelve_thousand_recipients(bench: Any) -> None:
    many = tuple(f"r{n}@far.example" for n in range(12_000))
    outcome = await bench.deliver("ann", remote=many)
    (item,) = await bench.store.spool(None)
    assert (item.id,) == outcome.spooled
    assert tuple(one.address for one in item.recipients) == many


async def test_trace_tells_each_account_its_own(bench: Any) -> None:
    early = Event("trace-1", bench.clock.now() - 5, "rcpt", "ann", {"to": "ann@example.org", "n": 1, "ok": True})
    delivery = bench.delivery("ann", "bob", remote=("x@far.example",))
    await bench.store.accept([replace(delivery, op=replace(delivery.op, events=(early,)))])
    await bench.store.record([Event("trace-1", bench.clock.now() + 1, "quit"), Event("trace-2", 1.0, "refused")])
    events = await bench.store.trace("trace-1", None)
    assert [event.kind for event in events] == ["rcpt", "stored", "stored", "spooled", "quit"]
    assert events[0] == early
    assert [event.account for event in await bench.store.trace("trace-1", "bob")] == ["bob"]
    assert (await bench.store.trace("trace-2", None))[0].kind == "refused"
    assert await bench.store.trace("trace-3", None) == ()


async def test_stats(bench: Any) -> None:
    await bench.deliver("ann", "bob", remote=("x@far.example",))
    await bench.fill(2, "Sent")
    stats = await bench.store.stats()
    size = (await bench.store.usage("ann")).size + (await bench.store.usage("bob")).size
    assert (stats.accounts, stats.emails, stats.size, stats.emails_today, stats.spool) == (2, 4, size, 4, 1)
    bench.clock.advance(86400)
    assert (await bench.store.stats()).emails_today == 0


async def test_what_is_brought_somewhere_else_counts_as_saved_today(bench: Any) -> None:
    async def today() -> int:
        return int((await bench.store.stats()).emails_today)

    ref = await bench.fill(3)
    await bench.deliver("bob")
    bench.clock.advance(86400)
    assert await today() == 0
    await bench.store.copy(bench.op(), ref, ((1, 2),), "Sent", None)
    assert await today() == 2
    await bench.store.move(bench.op(), ref, ((3, 3),), "Sent", None)
    assert await today() == 3
    await bench.store.rename_mailbox(bench.op(), "ann", "INBOX", "Old")
    assert await today() == 5
    await bench.deliver("ann", "bob")
    assert await today() == 7
    bench.clock.advance(86400)
    assert await today() == 0


async def test_cancelling_does_not_undo_and_news_goes_out(
    factory: Any, clock: Any, tmp_path: Path, bench_of: Callable[[Any], Any]
) -> None:
    steps = threading.Semaphore(0)
    store = await factory(tmp_path, clock, lambda step: steps.release())
    try:
        bench = bench_of(store)
        await store.open_account(bench.op(SYSTEM), "ann")
        ref = await bench.ref()
        before = await bench.modseq()
        watching = asyncio.create_task(store.watch({"ann": before}, 10))
        op = bench.op()
        while steps.acquire(blocking=False):
            continue
        task = asyncio.create_task(store.append(op, ref, [NewMessage(b"x")], None))
        # The second step is one of this write, even if the write before told its last one just now.
        for _ in range(2):
            assert await asyncio.to_thread(steps.acquire, True, 10)
        task.cancel()
        assert (await watching)["ann"] > before
        assert (await store.append(op, ref, [NewMessage(b"x")], None)).uids == (1,)
    finally:
        await store.close()


async def test_a_delivery_to_nobody_keeps_nothing(bench: Any) -> None:
    (outcome,) = await bench.store.accept([bench.delivery()])
    assert outcome == Accepted(())
    assert await bench.store.scrub("", 10) == ("", ())
    assert (await bench.store.stats()).emails == 0
    bench.clock.advance(3601)
    assert (await bench.store.sweep()).blobs == 0


async def test_appends_take_place_in_the_order_in_which_they_were_begun(bench: Any) -> None:
    ref = await bench.ref()
    sizes = (100_000, 10, 40_000, 20, 200_000, 30)
    ops = [replace(bench.op(), sequence="one") for _ in sizes]
    done = await asyncio.gather(
        *(
            bench.store.append(op, ref, [NewMessage(bench.message(size=size))] * 2, None)
            for op, size in zip(ops, sizes, strict=True)
        )
    )
    assert [one.uids for one in done] == [(2 * n + 1, 2 * n + 2) for n in range(len(sizes))]
    rows = await rows_of(bench.store, ref, ALL_UIDS, Want.SIZE)
    assert [row.size for row in rows[::2]] == [len(bench.message(size=size)) for size in sizes]


async def test_an_append_that_is_refused_holds_up_none_behind_it(bench: Any) -> None:
    ref = await bench.ref()
    bodies = (bench.message(size=100_000) + b"\0", bench.message(), b"\0", bench.message())
    ops = [replace(bench.op(), sequence="one") for _ in bodies]
    done = await asyncio.gather(
        *(bench.store.append(op, ref, [NewMessage(body)], None) for op, body in zip(ops, bodies, strict=True)),
        return_exceptions=True,
    )
    assert [isinstance(one, Refused) for one in done] == [True, False, True, False]
    assert await bench.uids(ref) == [1, 2]


async def test_an_append_may_ask_for_the_name_that_the_mailbox_had(bench: Any) -> None:
    box = await bench.store.create_mailbox(bench.op(), "ann", "Work")
    message = [NewMessage(bench.message())]
    assert (await bench.store.append(bench.op(), box.ref, message, None, "Work")).uids == (1,)
    await bench.store.rename_mailbox(bench.op(), "ann", "Work", "Old")
    op = bench.op()
    assert await _reason(bench.store.append(op, box.ref, message, None, "Work")) is Reason.NO_SUCH_MAILBOX
    assert (await bench.store.append(op, box.ref, message, None, "Old")).uids == (2,)
    assert (await bench.store.append(bench.op(), box.ref, message, None)).uids == (3,)
