"""Order, repeats and upkeep: nothing appears later than what was seen, nothing happens twice."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from runtime.clock import ManualClock
from storage.model import ALL_UIDS, SYSTEM, Accepted, Event, FlagMode, NewMessage, Want
from storage.port import Reason, Refused, Unavailable
from tests.reading import entries_of, rows_of

HELD: ContextVar[bool] = ContextVar("held", default=False)
"""Set for the tasks whose steps the gate holds, and for those that they begin."""


class Gate:
    """Holds writers at every step until one of them is told to go on.

    A writer on a thread of its own is held by blocking the thread. Writers on the event loop are several, and so are
    their steps: each tells "done" after it, and while one is being carried out ``next`` waits.
    """

    def __init__(self, seed: int) -> None:
        self.on = False
        self.reached = threading.Semaphore(0)
        self._go = threading.Semaphore(0)
        self._waiting: list[asyncio.Future[None]] = []
        self._moving = 0
        self._random = random.Random(seed)

    def __call__(self, step: str) -> Awaitable[None] | None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            if self.on:
                self.reached.release()
                assert self._go.acquire(timeout=20)
            return None
        return self._hold(step) if self.on and HELD.get() else None

    async def _hold(self, step: str) -> None:
        if step == "done":
            self._moving -= 1
            return
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        await waiting
        self._moving += 1

    async def next(self, writers: Sequence[asyncio.Task[Any]]) -> bool:
        """Wait for a writer to come to its next step; False when all have ended."""
        async with asyncio.timeout(60):
            while True:
                if self.reached.acquire(blocking=False):
                    return True
                # What was told to go on has its turn first.
                for _ in range(50):
                    await asyncio.sleep(0)
                if self._waiting and not self._moving:
                    return True
                if all(writer.done() for writer in writers):
                    return False
                await asyncio.sleep(0.002)

    def go(self) -> None:
        if self._waiting:
            self._waiting.pop(self._random.randrange(len(self._waiting))).set_result(None)
        else:
            self._go.release()

    def open(self) -> None:
        self.on = False
        for waiting in self._waiting:
            waiting.set_result(None)
        self._waiting.clear()
        for _ in range(1000):
            self._go.release()


@pytest.mark.parametrize("seed", range(4))
async def test_nothing_at_or_below_what_was_seen_appears_later(
    factory: Any, clock: ManualClock, tmp_path: Path, bench_of: Callable[[Any], Any], seed: int
) -> None:
    gate = Gate(seed)
    store = await factory(tmp_path, clock, gate)
    bench = bench_of(store)
    try:
        await store.open_account(bench.op(SYSTEM), "ann")
        ref = await bench.fill(4, flags=8)
        gate.on = True
        held = HELD.set(True)
        writes = [
            asyncio.create_task(store.accept([bench.delivery("ann"), bench.delivery("ann")])),
            asyncio.create_task(store.append(bench.op(), ref, [NewMessage(b"x", 8)] * 3, None)),
            asyncio.create_task(store.store_flags(bench.op(), ref, ((1, 3),), FlagMode.ADD, 4)),
            asyncio.create_task(store.move(bench.op(), ref, ((1, 1),), "Sent")),
            asyncio.create_task(store.expunge(bench.op(), ref, ((2, 3),))),
            asyncio.create_task(store.accept([bench.delivery("ann")])),
        ]
        HELD.reset(held)
        seen_uids: set[int] = set()
        told: dict[int, int] = {}
        since = highest = steps = 0
        while await gate.next(writes):
            steps += 1
            entries = await entries_of(store, ref, ALL_UIDS)
            new = {entry.uid for entry in entries} - seen_uids
            assert all(uid > max(seen_uids, default=0) for uid in new)
            seen_uids |= new
            changes = await store.changes(ref, since)
            for entry in changes.entries:
                assert entry.modseq > highest
                told[entry.uid] = entry.modseq
            for first, last in changes.vanished:
                for uid in range(first, last + 1):
                    told.pop(uid, None)
            since = changes.through
            highest = max([highest, since, *(entry.modseq for entry in changes.entries)])
            box = await store.mailbox("ann", "INBOX")
            assert box.uidnext > max(seen_uids)
            assert told == {entry.uid: entry.modseq for entry in await entries_of(store, ref, ALL_UIDS)}
            # An answer comes after the commit: who has it sees it.
            if writes[0].done():
                uids = {at.uid for outcome in writes[0].result() for at in outcome.stored}
                assert len(uids) == 2
                assert uids <= seen_uids
            gate.go()
        # Deliveries of several callers may share a write.
        assert steps >= 8
        await asyncio.gather(*writes)
        assert await bench.uids(ref) == [4, 5, 6, 7, 8, 9, 10]
    finally:
        gate.open()
        await store.close()


async def test_a_repeat_changes_nothing_and_tells_the_first_outcome(bench: Any) -> None:
    ref = await bench.fill(4, flags=8)
    store = bench.store
    calls: list[Callable[[Any], Any]] = [
        lambda op: store.append(op, ref, [NewMessage(b"x", 8), NewMessage(b"y")], None),
        lambda op: store.store_flags(op, ref, ((1, 3),), FlagMode.ADD, 4, ("k",), 10**6),
        lambda op: store.copy(op, ref, ((1, 2),), "Sent", None),
        lambda op: store.move(op, ref, ((2, 2),), "Sent"),
        lambda op: store.replace(op, ref, 4, ref, NewMessage(b"z", 8), None),
        lambda op: store.expunge(op, ref, ((1, 1), (3, 3))),
        lambda op: store.create_mailbox(op, "ann", "new/one", "\\Flagged"),
        lambda op: store.rename_mailbox(op, "ann", "new", "newer"),
        lambda op: store.delete_mailbox(op, "ann", "newer/one"),
        lambda op: store.subscribe(op, "ann", "x", True),
        lambda op: store.open_account(op, "ann"),
    ]
    for call in calls:
        op = bench.op(events=(Event("t", 1.0, "call"),))
        first = await call(op)
        modseq, events = await bench.modseq(), await store.trace("t", None)
        lists = await store.list_mailboxes("ann")
        assert await call(op) == first
        assert (await bench.modseq(), await store.trace("t", None)) == (modseq, events)
        assert await store.list_mailboxes("ann") == lists


async def test_a_delivery_happens_once(bench: Any) -> None:
    store = bench.store
    delivery = bench.delivery("ann", "bob", remote=("x@far.example",))
    first, second = await store.accept([delivery, delivery])
    assert first == second
    assert isinstance(first, Accepted)
    outcomes = await asyncio.gather(*(store.accept([delivery]) for _ in range(3)))
    assert all(outcome == [first] for outcome in outcomes)
    assert (await store.mailbox("ann", "INBOX")).messages == 1
    assert len(await store.spool(None)) == 1
    assert len(await store.trace("trace-1", None)) == 3


async def test_an_operation_is_forgotten_after_an_hour(bench: Any) -> None:
    ref = await bench.ref()
    op = bench.op()
    for uids in ((1,), (1,)):
        assert (await bench.store.append(op, ref, [NewMessage(b"x")], None)).uids == uids
        bench.clock.advance(3599)
    bench.clock.advance(2)
    # Whether or not the sweep has come to it.
    assert (await bench.store.append(op, ref, [NewMessage(b"x")], None)).uids == (2,)
    assert (await bench.store.append(op, ref, [NewMessage(b"x")], None)).uids == (2,)
    bench.clock.advance(3601)
    assert (await bench.store.sweep()).operations >= 1
    assert (await bench.store.sweep()).operations == 0


async def test_a_refusal_is_tried_anew(bench: Any) -> None:
    ref = await bench.fill(1)
    op = bench.op()
    with pytest.raises(Refused):
        await bench.store.copy(op, ref, ALL_UIDS, "Later", None)
    await bench.store.create_mailbox(bench.op(), "ann", "Later")
    assert (await bench.store.copy(op, ref, ALL_UIDS, "Later", None)).target == ((1, 1),)


async def _sweep_all(bench: Any, grace: float = 3600.0) -> list[Any]:
    reports = [await bench.store.sweep(grace)]
    while reports[-1].more:
        reports.append(await bench.store.sweep(grace))
        assert len(reports) < 100
    return reports


async def test_the_sweep_waits_for_the_grace(bench: Any) -> None:
    ref = await bench.fill(3, flags=8)
    await bench.store.copy(bench.op(), ref, ((1, 1),), "Sent", None)
    await bench.store.expunge(bench.op(), ref, ALL_UIDS)
    bench.clock.advance(3599)
    assert sum(report.emails for report in await _sweep_all(bench)) == 0
    bench.clock.advance(2)
    reports = await _sweep_all(bench)
    # One of the three lives on as a copy.
    assert sum(report.emails for report in reports) == sum(report.blobs for report in reports) == 2
    assert (await rows_of(bench.store, await bench.ref("Sent"), ALL_UIDS, Want.CONTENT))[0].content == bench.message(
        "0"
    )
    assert (await bench.store.scrub())[1] == ()


async def test_the_sweep_of_much_is_many_small_rounds(bench: Any) -> None:
    ref = await bench.ref()
    for _ in range(3):
        await bench.store.append(bench.op(), ref, [NewMessage(b"x", 8)] * 600, None)
    await bench.store.expunge(bench.op(), ref, ((1, 900),))
    await bench.store.move(bench.op(), ref, ALL_UIDS, "Junk")
    await bench.store.delete_mailbox(bench.op(), "ann", "Junk")
    bench.clock.advance(3601)
    reports = await _sweep_all(bench)
    assert sum(report.emails for report in reports) == sum(report.blobs for report in reports) == 1800
    assert max(report.emails for report in reports) <= 500
    assert len(reports) >= 4


async def test_a_blob_goes_with_its_last_user(bench: Any) -> None:
    outcome = await bench.deliver("ann", "bob", flags=8)
    await bench.store.expunge(bench.op(), await bench.ref(), ALL_UIDS)
    bench.clock.advance(3601)
    reports = await _sweep_all(bench)
    assert (sum(report.emails for report in reports), sum(report.blobs for report in reports)) == (1, 0)
    assert await bench.store.read("bob", outcome.stored[1].email, 0, 999) == bench.message()
    await bench.store.expunge(bench.op("bob"), await bench.ref(account="bob"), ALL_UIDS)
    bench.clock.advance(3601)
    reports = await _sweep_all(bench)
    assert (sum(report.emails for report in reports), sum(report.blobs for report in reports)) == (1, 1)


async def test_a_forgotten_staged_body_is_swept(bench: Any) -> None:
    staged = await bench.store.stage(bench.chunks(b"x" * 40_000_000, 200_000))
    kept = await bench.store.stage(bench.chunks(b"y" * 300_000))
    await bench.deliver(content=kept)
    bench.clock.advance(3601)
    reports = await _sweep_all(bench)
    assert sum(report.staged + report.blobs for report in reports) == 1
    (outcome,) = await bench.store.accept([bench.delivery("ann", content=staged)])
    assert isinstance(outcome, Refused)
    assert outcome.reason is Reason.NO_SUCH_BLOB
    assert isinstance((await bench.store.accept([bench.delivery("ann", content=kept)]))[0], Accepted)


async def test_a_stage_that_breaks_off_leaves_nothing(bench: Any) -> None:
    async def broken() -> Any:
        for _ in range(20):
            yield b"x" * 200_000
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await bench.store.stage(broken())
    bench.clock.advance(3601)
    assert sum(report.staged for report in await _sweep_all(bench)) == 1
    assert await bench.store.scrub() == ("", ())


async def test_events_grow_old(bench: Any) -> None:
    await bench.store.record([Event("old", bench.clock.now(), "refused")])
    bench.clock.advance(31 * 86400)
    await bench.store.record([Event("new", bench.clock.now(), "refused")])
    assert (await bench.store.sweep()).events == 1
    assert await bench.store.trace("old", None) == ()
    assert len(await bench.store.trace("new", None)) == 1


async def test_scrub_goes_through_in_pages(bench: Any) -> None:
    await bench.fill(5)
    after, pages = "", 0
    while True:
        after, damaged = await bench.store.scrub(after, 2)
        assert damaged == ()
        pages += 1
        if not after:
            break
    assert pages == 3


async def test_reparse_renews_what_is_older(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("storage.ingest.VERSION", 1)
        await bench.fill(3)
    staged = await bench.store.stage(bench.chunks(bench.message("big", 600_000)))
    await bench.deliver(content=staged)
    before = await rows_of(bench.store, await bench.ref(), ALL_UIDS, Want(1023))
    after = await bench.store.reparse("", 2)
    assert after
    assert await bench.store.reparse(after, 2) != after
    rows = await rows_of(bench.store, await bench.ref(), ALL_UIDS, Want(1023))
    # test_usual_lines.py says who tells the lines of an older version
    assert [row._replace(headers=None) for row in rows] == [row._replace(headers=None) for row in before]
    assert all(row.headers is not None for row in rows)


@pytest.mark.parametrize("turns", [1, 3, 50])
async def test_a_watch_ends_when_the_store_is_closed(bench: Any, turns: int) -> None:
    """However far it has come: one that has yet to look for the modseq of an account never seen, too."""
    await bench.fill(1)
    watching = [asyncio.create_task(bench.store.watch({name: 10**9}, 30)) for name in ("ann", "nobody")]
    for _ in range(turns):
        await asyncio.sleep(0)
    await bench.store.close()
    async with asyncio.timeout(15):
        for outcome in await asyncio.gather(*watching, return_exceptions=True):
            assert outcome == {} or isinstance(outcome, Unavailable)


async def test_a_closed_store_is_unavailable(bench: Any) -> None:
    ref = await bench.fill(1)
    await bench.store.close()
    for call in (
        entries_of(bench.store, ref, ALL_UIDS),
        bench.store.append(bench.op(), ref, [NewMessage(b"x")], None),
        bench.store.expunge(bench.op(), ref, ALL_UIDS),
        bench.store.stage(bench.chunks(b"x")),
        bench.store.watch({"ann": 1}, 0),
        bench.store.stats(),
    ):
        with pytest.raises(Unavailable):
            await call
    (outcome,) = await bench.store.accept([bench.delivery("ann")])
    assert isinstance(outcome, Unavailable)
