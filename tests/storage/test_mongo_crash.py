"""A process of the MongoDB adapter is killed before, and after, each of its commands; or stopped there while others go
on, and released later. Each kind of write, every step."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from storage.adapters.mongo.adapter import MongoStorage
from storage.model import ALL_UIDS, Accepted, FlagMode, MailboxRef, NewMessage, Operation, Want
from storage.port import Unavailable
from tests.storage.mongo_world import Kill, Killed, Stop, World, delivery, operation, seen, world

Call = Callable[[MongoStorage, Operation, dict[str, MailboxRef]], Awaitable[Any]]

BODY = [NewMessage(b"Subject: 1\r\n\r\nx", 8, ("new",)), NewMessage(b"Subject: 2\r\n\r\ny")]
CALLS: dict[str, Call] = {
    "append": lambda store, op, refs: store.append(op, refs["INBOX"], BODY, None),
    "deliver": lambda store, op, refs: _accept(store, delivery("one", "ann", op=op)),
    "deliver to several": lambda store, op, refs: _accept(store, delivery("x", "ann", "bob", op=op, remote=("r@far",))),
    "spool": lambda store, op, refs: _accept(store, delivery("x", op=op, remote=("r@far",))),
    "store": lambda store, op, refs: store.store_flags(op, refs["INBOX"], ((1, 3),), FlagMode.ADD, 1, ("k",)),
    "copy": lambda store, op, refs: store.copy(op, refs["INBOX"], ((2, 3),), "Sent", None),
    "move": lambda store, op, refs: store.move(op, refs["INBOX"], ((2, 9),), "Sent"),
    "expunge": lambda store, op, refs: store.expunge(op, refs["INBOX"], ((1, 1), (3, 3))),
    "create": lambda store, op, refs: store.create_mailbox(op, "ann", "a/b", "\\All"),
    "delete": lambda store, op, refs: store.delete_mailbox(op, "ann", "Archive"),
    "rename": lambda store, op, refs: store.rename_mailbox(op, "ann", "Archive", "b/c"),
    "rename INBOX": lambda store, op, refs: store.rename_mailbox(op, "ann", "INBOX", "b/c"),
    "subscribe": lambda store, op, refs: store.subscribe(op, "ann", "there", True),
    "open": lambda store, op, refs: store.open_mailbox(op, refs["INBOX"], True),
    "open account": lambda store, op, refs: store.open_account(op, "carl"),
}
ACCOUNTS = ("ann", "bob")


async def _accept(store: MongoStorage, what: Any) -> Any:
    (outcome,) = await store.accept([what])
    if not isinstance(outcome, Accepted):
        raise outcome
    return outcome


async def furnished(store: MongoStorage) -> dict[str, MailboxRef]:
    """Two accounts with mail."""
    for account in ACCOUNTS:
        await store.open_account(operation(), account)
    refs = {box.name: box.ref for box in (await store.list_mailboxes("ann")).mailboxes}
    for name in ("INBOX", "Archive"):
        messages = [NewMessage(b"Subject: old\r\n\r\n%d" % n, 8, ("old",)) for n in range(4)]
        await store.append(operation(), refs[name], messages, None)
    return refs


async def _state(store: MongoStorage) -> list[Any]:
    found = [await seen(store, account) for account in ACCOUNTS]
    return [*found, [(item.sender, item.recipients, item.size) for item in await store.spool(None)]]


@pytest.mark.parametrize("what", CALLS)
async def test_a_write_that_is_killed_happens_whole_or_not_at_all_and_its_repeat_once(what: str) -> None:
    call = CALLS[what]
    async with world("mongomock") as there:
        store = await there.store()
        refs = await furnished(store)
        before = await _state(store)
        await call(store, operation(), refs)
        after = await _state(store)
    step = 0
    while True:
        step += 1
        async with world("mongomock") as there:
            refs = await furnished(await there.store())
            kill = Kill(step)
            victim, op = await there.store(kill), operation()
            try:
                await call(victim, op, refs)
                return
            except (Killed, Unavailable):
                pass
            other = await there.store()
            now = await _state(other)
            assert all(one in (was, will) for one, was, will in zip(now, before, after, strict=True)), (what, step)
            if what != "deliver to several":
                assert now in (before, after), (what, step)
            outcome = await call(other, op, refs)
            assert await _state(other) == after, (what, step)
            assert await call(other, op, refs) == outcome
            assert await _state(other) == after, (what, step)
            assert await there.problems() == [], (what, step)
            kill.on = False
            assert await there.swept() == [], (what, step)
            assert await _state(other) == after, (what, step)
    raise AssertionError("unreachable")


@pytest.mark.parametrize("what", CALLS)
async def test_what_is_killed_and_not_repeated_is_finished_or_swept(what: str) -> None:
    call = CALLS[what]
    async with world("mongomock") as there:
        store = await there.store()
        refs = await furnished(store)
        before = await _state(store)
        await call(store, operation(), refs)
        after = await _state(store)
    step = 0
    while True:
        step += 1
        async with world("mongomock") as there:
            refs = await furnished(await there.store())
            kill = Kill(step)
            try:
                await call(await there.store(kill), operation(), refs)
                return
            except (Killed, Unavailable):
                pass
            kill.on = False
            assert await there.swept() == [], (what, step)
            now = await _state(await there.store())
            # All of it by now, whichever of its parts had come before.
            assert now in (before, after), (what, step)


async def _meanwhile(store: MongoStorage, there: World, refs: dict[str, MailboxRef], told: dict[int, int]) -> None:
    """What others do while one is stopped: read, change the same messages, sweep."""
    await _hear(store, refs["INBOX"], told)
    await store.store_flags(operation(), refs["INBOX"], ((1, 2),), FlagMode.REPLACE, 8 | 4, ("mine",))
    await _hear(store, refs["INBOX"], told)
    await store.accept([delivery("other", "ann", "bob"), delivery("another", "ann")])
    await store.move(operation(), refs["INBOX"], ((2, 2),), "Trash")
    await store.expunge(operation(), refs["INBOX"], ((4, 4), (5, 5)))
    await _hear(store, refs["INBOX"], told)
    there.clock.advance(7300)
    for _ in range(50):
        if not (await store.sweep()).more:
            break
    await _hear(store, refs["INBOX"], told)


async def _hear(store: MongoStorage, ref: MailboxRef, told: dict[int, int]) -> None:
    """Follow the mailbox as a session does: nothing comes at or below what was seen, and in the end it is all there."""
    since = told.get(0, 0)
    highest = max([0, *[modseq for uid, modseq in told.items() if uid]])
    page = await store.changes(ref, since, 10_000)
    assert not page.gone
    for entry in page.entries:
        assert entry.modseq > highest
    for first, last in page.vanished:
        for uid in range(first, last + 1):
            told.pop(uid, None)
    told |= {entry.uid: entry.modseq for entry in page.entries} | {0: page.through}
    there = {entry.uid: entry.modseq for entry in await store.entries(ref, ALL_UIDS)}
    assert {uid: modseq for uid, modseq in told.items() if uid} == there


@pytest.mark.parametrize("what", CALLS)
async def test_one_that_is_stopped_and_released_late_spoils_nothing(what: str) -> None:
    call = CALLS[what]
    step = 0
    while True:
        step += 1
        async with world("mongomock") as there:
            refs = await furnished(await there.store())
            stop, op = Stop(step), operation()
            late = asyncio.create_task(call(await there.store(stop), op, refs))
            stopped = asyncio.create_task(stop.stopped.wait())
            await asyncio.wait((late, stopped), return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if not stop.stopped.is_set():
                await late
                break
            other = await there.store()
            told: dict[int, int] = {}
            await _meanwhile(other, there, refs, told)
            boxes = (await other.list_mailboxes("ann")).mailboxes
            known = {box.ref: await other.entries(box.ref, ALL_UIDS) for box in boxes}
            stop.go_on.set()
            try:
                await late
            except Unavailable:
                # It was too slow: what it had inserted may have been swept meanwhile.
                await call(other, op, refs)
            await _hear(other, refs["INBOX"], told)
            for box in (await other.list_mailboxes("ann")).mailboxes:
                had = {entry.uid: entry for entry in known.get(box.ref, ())}
                for entry in await other.entries(box.ref, ALL_UIDS):
                    assert had.get(entry.uid) == entry or entry.modseq > max(
                        [one.modseq for one in had.values()], default=0
                    ), (what, step)
                    assert entry.uid in had or entry.uid > max(had, default=0), (what, step)
            rows = await other.rows(refs["INBOX"], ALL_UIDS, Want.CONTENT)
            assert all(row.content for row in rows)
            assert await there.problems() == [], (what, step)
            assert await there.swept() == [], (what, step)
    assert step > 5 or what == "open account"
