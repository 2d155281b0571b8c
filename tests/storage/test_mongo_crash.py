"""A process of the MongoDB adapter is killed before, and after, each of its commands; or stopped there while others go
on, and released later. Each kind of write, every step."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from storage.adapters.mongo.adapter import MongoStorage
from storage.model import (
    ALL_RIGHTS,
    ALL_UIDS,
    TASKS,
    Accepted,
    Event,
    FlagMode,
    MailboxRef,
    NewMessage,
    Operation,
    Rights,
    Settlement,
    SpoolAction,
    Want,
)
from storage.port import Refused, Unavailable
from tests.reading import entries_of, rows_of
from tests.storage.mongo_world import Kill, Killed, Stop, World, delivery, operation, seen, world

pytestmark = pytest.mark.slow

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
    "replace": lambda store, op, refs: store.replace(op, refs["INBOX"], 3, refs["INBOX"], BODY[0], 10**6),
    "expunge": lambda store, op, refs: store.expunge(op, refs["INBOX"], ((1, 1), (3, 3))),
    "create": lambda store, op, refs: store.create_mailbox(op, "ann", "a/b", "\\All"),
    "delete": lambda store, op, refs: store.delete_mailbox(op, "ann", "Archive"),
    "rename": lambda store, op, refs: store.rename_mailbox(op, "ann", "Archive", "b/c"),
    "rename INBOX": lambda store, op, refs: store.rename_mailbox(op, "ann", "INBOX", "b/c"),
    "subscribe": lambda store, op, refs: store.subscribe(op, "ann", "there", True),
    "annotate": lambda store, op, refs: _annotate(store, op, refs["INBOX"]),
    "share": lambda store, op, refs: store.set_acl(op, refs["Archive"], "bob", Rights.LOOKUP | Rights.READ),
    "copy to another": lambda store, op, refs: store.copy(op, refs["INBOX"], ((2, 3),), "Sent", None, "bob"),
    "move to another": lambda store, op, refs: store.move(op, refs["INBOX"], ((2, 3),), "Sent", None, "bob"),
    "put a task": lambda store, op, refs: _accept(store, replace(delivery("x", op=op, remote=("r@far",)), queue=TASKS)),
    "settle a task": lambda store, op, refs: _settle(store, op, _of(refs, TASK), "t@far", result="sent"),
    "open": lambda store, op, refs: store.open_mailbox(op, refs["INBOX"], True),
    "settle": lambda store, op, refs: _settle(store, op, refs, "a@far", "b@far"),
    "settle some": lambda store, op, refs: _settle(store, op, refs, "a@far", last="451 later", told=True),
    "settle with report": lambda store, op, refs: _settle(store, op, refs, "a@far", report=True),
    "settle all with report": lambda store, op, refs: _settle(store, op, refs, "a@far", "b@far", report=True),
    "hold": lambda store, op, refs: store.change_spool(op, _waiting(refs), SpoolAction.HOLD),
    "drop": lambda store, op, refs: store.change_spool(op, _waiting(refs), SpoolAction.DROP),
    "open account": lambda store, op, refs: store.open_account(op, "carl"),
}
ACCOUNTS = ("ann", "bob")
LEASED, WAITING, TASK = "leased", "waiting", "task"
PARTLY = {"deliver to several", "settle with report", "settle all with report", "hold", "drop", "move to another"}
"""Committed as one, and seen in one place before the other until it is carried out; two item by item; the last is two
changes, of which the second is the repeat's or the sweep's."""


async def _annotate(store: MongoStorage, op: Operation, ref: MailboxRef) -> int:
    """Of two documents."""
    return await store.set_annotations(replace(op, actor="ann"), ref, {"/shared/a": b"1", "/private/b": b"2"})


async def _settle(
    store: MongoStorage, op: Operation, refs: dict[str, MailboxRef], *finished: str, report: bool = False, **how: Any
) -> str:
    dsn = delivery("dsn", "ann", op=Operation(f"{op.id}/r", op.actor), remote=("p@near",)) if report else None
    own = replace(op, events=(Event("trace", 2.0, "attempt"),))
    item, lease = refs[LEASED].account, refs[LEASED].mailbox
    (outcome,) = await store.settle([Settlement(own, item, lease, finished, report=dsn, **how)])
    if isinstance(outcome, Unavailable):
        raise outcome
    return "settled" if outcome is None else outcome.text


def _of(refs: dict[str, MailboxRef], name: str) -> dict[str, MailboxRef]:
    return {LEASED: refs[name]}


def _waiting(refs: dict[str, MailboxRef]) -> list[str]:
    return [refs[WAITING].account, refs[WAITING].mailbox]


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
    # The item that one has claimed, with his lease; and two that wait, by their ids.
    await _accept(store, delivery("leased", remote=("a@far", "b@far")))
    (claimed,) = await store.claim(9, 9, 60.0)
    waiting = await _accept(store, delivery("waiting", remote=("x@one", "y@two")))
    refs[LEASED] = MailboxRef(claimed.item.id, claimed.lease)
    refs[WAITING] = MailboxRef(*waiting.spooled)
    task = await _accept(store, replace(delivery("task", remote=("t@far",)), queue=TASKS))
    (taken,) = await store.claim(9, 9, 60.0, queue=TASKS)
    refs[TASK] = MailboxRef(*task.spooled, taken.lease)
    return refs


async def _state(store: MongoStorage) -> list[Any]:
    found = [await seen(store, account) for account in ACCOUNTS]
    items = [
        (item.domain, item.recipients, item.size, item.attempts, item.claims, item.held, item.last, item.told_at)
        for item in await store.spool(None)
    ]
    shared = [(box.name, box.rights) for box in await store.shared_with("bob")]
    return [*found, shared, await store.spool_queued(TASKS, None), sorted(items, key=lambda item: item[0])]


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
            assert all(one in (was, will) for one, was, will in zip(now[:-1], before, after, strict=False)), (
                what,
                step,
            )
            # The item, and the one that its report becomes, each for itself.
            assert all(item in (*before[-1], *after[-1]) for item in now[-1]), (what, step)
            if what not in PARTLY:
                assert now in (before, after), (what, step)
            outcome = await call(other, op, refs)
            assert "gone" not in str(outcome)
            assert await _state(other) == after, (what, step)
            kinds = [event.kind for event in await other.trace("trace", None)]
            assert kinds.count("attempt") == int(what.startswith("settle")), (what, step)
            assert kinds.count("queue") == (2 if what in ("hold", "drop") else 0), (what, step)
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
            if what in ("hold", "drop"):
                _one_by_one(now, before, after)
            else:
                assert now in (before, after), (what, step)


async def test_a_move_to_another_account_that_broke_off_is_finished_by_the_next_sweep() -> None:
    """And one that may yet be committed is left alone."""
    call = CALLS["move to another"]
    seen_there: list[tuple[int, int]] = []
    step = 0
    while True:
        step += 1
        async with world("mongomock") as there:
            refs = await furnished(await there.store())
            try:
                await call(await there.store(Kill(step)), operation(), refs)
                break
            except (Killed, Unavailable):
                pass
            there.clock.advance(10)
            other = await there.store()
            await other.sweep()
            inbox, sent = await other.mailbox("ann", "INBOX"), await other.mailbox("bob", "Sent")
            seen_there.append((inbox.messages, sent.messages))
            undone = await there.mongo.database["operation"].count_documents({"undone": {"$exists": True}})
            assert not undone or sent.messages == 0
    # Each message is in one of the two places, whenever it happened.
    assert set(seen_there) == {(4, 0), (2, 2)}
    assert seen_there == sorted(seen_there, reverse=True)


@pytest.mark.parametrize("gone", ["mailbox", "account", "right"])
async def test_moved_messages_that_may_not_leave_any_more_stay_and_the_operation_ends(gone: str) -> None:
    async with world("mongomock") as there:
        store, names = await there.store(), []
        refs = await furnished(store)
        rights = Rights.LOOKUP | Rights.READ | Rights.DELETE_MESSAGES | Rights.EXPUNGE
        await store.set_acl(operation(), refs["Archive"], "bob", rights)

        def move(by: MongoStorage, uid: int) -> Coroutine[Any, Any, Any]:
            return by.move(operation("bob"), refs["Archive"], ((uid, uid),), "Sent", None, "bob")

        await move(await there.store(names.append), 1)
        # The copy is carried out, and the messages are to leave.
        kill = Kill(names.index("operation insert", names.index("operation insert") + 1) + 1)
        await store.append(operation(), refs["Archive"], BODY, None)
        with pytest.raises(Killed):
            await move(await there.store(kill), 2)
        match gone:
            case "mailbox":
                await store.delete_mailbox(operation(), "ann", "Archive")
            case "account":
                while not await store.purge_account(operation(), "ann"):
                    continue
            case _:
                await store.set_acl(operation(), refs["Archive"], "bob", Rights.LOOKUP | Rights.READ)
        there.clock.advance(10)
        await store.sweep()
        assert (await store.mailbox("bob", "Sent")).messages == 2
        assert await there.mongo.database["operation"].count_documents({"undone": {"$exists": True}}) == 0
        if gone == "right":
            assert (await store.mailbox("ann", "Archive")).messages == 5
        assert await there.problems() == []


async def test_what_the_mover_was_refused_nobody_takes_up_later() -> None:
    async with world("mongomock") as there:
        store, names = await there.store(), []
        refs = await furnished(store)
        await store.set_acl(operation(), refs["Archive"], "bob", ALL_RIGHTS)

        def move(by: MongoStorage, uid: int) -> Coroutine[Any, Any, Any]:
            return by.move(operation("bob"), refs["Archive"], ((uid, uid),), "Sent", None, "bob")

        await move(await there.store(names.append), 1)
        stop = Stop(names.index("operation insert", names.index("operation insert") + 1) + 1)
        moving = asyncio.create_task(move(await there.store(stop), 2))
        await stop.stopped.wait()
        await store.set_acl(operation(), refs["Archive"], "bob", Rights.LOOKUP | Rights.READ)
        stop.go_on.set()
        with pytest.raises(Refused):
            await moving
        await store.set_acl(operation(), refs["Archive"], "bob", ALL_RIGHTS)
        there.clock.advance(10)
        await store.sweep()
        assert (await store.mailbox("ann", "Archive")).messages == 3
        assert (await store.mailbox("bob", "Sent")).messages == 2
        assert await there.problems() == []


def _one_by_one(now: list[Any], before: list[Any], after: list[Any]) -> None:
    """Each item is as it was, or as it was to be."""
    assert now[:-1] == before[:-1]
    (*_, was), (*_, will) = before, after
    assert all(item in (*was, *will) for item in now[-1])
    assert all(item in now[-1] for item in was if item in will)


async def _meanwhile(store: MongoStorage, there: World, refs: dict[str, MailboxRef], told: dict[int, int]) -> None:
    """What others do while one is stopped: read, change the same messages, sweep."""
    await _hear(store, refs["INBOX"], told)
    for box in (await store.list_mailboxes("ann")).mailboxes:
        if box.messages:
            await store.store_flags(operation(), box.ref, ((1, 2), (6, 9)), FlagMode.REPLACE, 8 | 4, ("mine",))
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
    there = {entry.uid: entry.modseq for entry in await entries_of(store, ref, ALL_UIDS)}
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
            known = {box.ref: await entries_of(other, box.ref, ALL_UIDS) for box in boxes}
            stop.go_on.set()
            try:
                await late
            except Unavailable:
                # It was too slow: what it had inserted may have been swept meanwhile.
                await call(other, op, refs)
            await _hear(other, refs["INBOX"], told)
            for box in (await other.list_mailboxes("ann")).mailboxes:
                had = {entry.uid: entry for entry in known.get(box.ref, ())}
                for entry in await entries_of(other, box.ref, ALL_UIDS):
                    assert had.get(entry.uid) == entry or entry.modseq > max(
                        [one.modseq for one in had.values()], default=0
                    ), (what, step)
                    assert entry.uid in had or entry.uid > max(had, default=0), (what, step)
            rows = await rows_of(other, refs["INBOX"], ALL_UIDS, Want.CONTENT)
            assert all(row.content for row in rows)
            assert await there.problems() == [], (what, step)
            assert await there.swept() == [], (what, step)
    assert step > 5 or what == "open account"


COMMITS = {
    "append": "account swap",
    "deliver": "account swap",
    "deliver to several": "operation swap",
    "settle with report": "spool update",
    "settle all with report": "spool update",
}


@pytest.mark.parametrize("what", COMMITS)
@pytest.mark.parametrize("behind", [0, 1])
async def test_a_repeat_that_takes_over_and_the_first_that_goes_on_do_it_once(what: str, behind: int) -> None:
    """The first is stopped before (or just after) its commit, a repeat at each of its own steps; then the first goes
    on, then the repeat."""
    call = CALLS[what]
    async with world("mongomock") as there:
        names: list[str] = []
        store = await there.store()
        refs = await furnished(store)
        await call(await there.store(names.append), operation(), refs)
        after = await _state(store)
        commit = names.index(COMMITS[what]) + 1 + behind
    step = 0
    while True:
        step += 1
        async with world("mongomock") as there:
            refs = await furnished(await there.store())
            first, repeat, op = Stop(commit), Stop(step), operation()
            one = asyncio.create_task(call(await there.store(first), op, refs))
            await first.stopped.wait()
            other = asyncio.create_task(call(await there.store(repeat), op, refs))
            stopped = asyncio.create_task(repeat.stopped.wait())
            await asyncio.wait((other, stopped), return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            first.go_on.set()
            if repeat.stopped.is_set():
                # The first may wait for the outcome that the other is to bring.
                await asyncio.wait((one,), timeout=0.1)
            repeat.go_on.set()
            assert await one == await other, (what, step)
            assert await _state(await there.store()) == after, (what, step)
            assert await there.problems() == [], (what, step)
            if not repeat.stopped.is_set():
                break
    assert step > 5


WRITES: list[Callable[[MongoStorage, MailboxRef], Awaitable[Any]]] = [
    lambda store, ref: store.store_flags(operation(), ref, ((1, 2), (4, 4)), FlagMode.ADD, 1),
    lambda store, ref: store.expunge(operation(), ref, ((2, 3),)),
    lambda store, ref: store.accept([delivery("new", "ann")]),
    lambda store, ref: store.store_flags(operation(), ref, ((4, 5),), FlagMode.ADD, 4, ("k",)),
]


@pytest.mark.parametrize("what", ["entries", "rows", "open", "changes", "list"])
async def test_what_is_read_while_others_write_is_of_one_moment(what: str) -> None:
    reads: dict[str, Callable[[MongoStorage, MailboxRef], Awaitable[Any]]] = {
        "entries": lambda store, ref: entries_of(store, ref, ((1, 3), (4, 90))),
        "rows": lambda store, ref: rows_of(store, ref, ALL_UIDS, Want.CONTENT),
        "open": lambda store, ref: store.open_mailbox(operation(), ref, False),
        "list": lambda store, ref: store.list_mailboxes(ref.account),
        "changes": lambda store, ref: store.changes(ref, 0),
    }
    step = 0
    while True:
        step += 1
        async with world("mongomock") as there:
            writer = await there.store()
            ref = (await furnished(writer))["INBOX"]
            moments = [await reads[what](writer, ref)]
            stop = Stop(step)
            reading = asyncio.create_task(reads[what](await there.store(stop), ref))
            stopped = asyncio.create_task(stop.stopped.wait())
            await asyncio.wait((reading, stopped), return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if not stop.stopped.is_set():
                await reading
                break
            for write in WRITES:
                await write(writer, ref)
                moments.append(await reads[what](writer, ref))
            stop.go_on.set()
            found = await reading
            if what == "changes":
                # What changed again since is told by the next page instead.
                now = moments[-1]
                assert found.through in [moment.through for moment in moments]
                assert all(entry.modseq <= found.through for entry in found.entries)
                later = await writer.changes(ref, found.through)
                told = {entry.uid: entry for entry in (*found.entries, *later.entries)}
                for first, last in later.vanished:
                    for uid in range(first, last + 1):
                        told.pop(uid, None)
                assert told == {entry.uid: entry for entry in now.entries}
            else:
                assert found in moments, (what, step)
    assert step > 2


async def test_a_refused_operation_leaves_no_trace_of_itself() -> None:
    async with world("mongomock") as there:
        store = await there.store()
        await furnished(store)
        before = await there.mongo.database["operation"].find({}).to_list()
        with pytest.raises(Refused):
            await store.create_mailbox(operation(), "ann", "INBOX")
        (outcome,) = await store.accept([delivery("x", "ann", "nobody")])
        assert isinstance(outcome, Refused)
        assert await there.mongo.database["operation"].find({}).to_list() == before


async def test_a_writer_whose_operation_was_forgotten_does_not_commit_what_was_swept() -> None:
    async with world("mongomock") as there:
        store, names = await there.store(), []
        refs = await furnished(store)
        await CALLS["copy"](await there.store(names.append), operation(), refs)
        stop = Stop(names.index("account swap") + 1)
        late = asyncio.create_task(CALLS["copy"](await there.store(stop), operation(), refs))
        await stop.stopped.wait()
        # Its operation first, as if it were of yesterday; then what it has inserted.
        await there.mongo.database["operation"].delete_many({})
        assert await there.swept() == []
        stop.go_on.set()
        copied = await late
        assert (await store.mailbox("ann", "Sent")).messages == 4
        assert copied.target == ((3, 4),)
        assert await there.problems() == []
