"""Processes of the MongoDB adapter in each other's way: takeovers at the wrong moment, histories cut and accounts
purged under a reader's or writer's hands, reads from a primary that is behind, and a long STORE among deliveries."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

import storage.adapters.mongo.accounts as accounts
import storage.adapters.mongo.arrivals as arrivals
import storage.adapters.mongo.moves as moves
from mail.flags import DELETED
from storage.adapters.mongo.adapter import MongoStorage
from storage.adapters.mongo.operations import Claim, ClaimLost
from storage.adapters.mongo.queries import Shape
from storage.model import ALL_UIDS, Accepted, Event, FlagMode, MailboxRef, NewMessage, Operation
from storage.port import Unavailable
from tests.mongo import dropped, mongo_url
from tests.reading import entries_of
from tests.storage.mongo_world import KINDS, Kill, Killed, Steps, World, delivery, operation, world


class At(Steps):
    """Does something once, before the first step of a name from when it is armed."""

    def __init__(self, name: str, what: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self._name = name
        self._what = what
        self.armed = False

    def act(self, step: str) -> Awaitable[None] | None:
        if not self.armed or step != self._name:
            return None
        self.armed = False
        return self._what()


class Gate(Steps):
    """Holds the store before the nth step of a name from when it is armed, until it is let go."""

    def __init__(self, name: str, nth: int) -> None:
        super().__init__()
        self._name = name
        self._left = nth
        self.armed = False
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()

    def act(self, step: str) -> Awaitable[None] | None:
        if not self.armed or step != self._name:
            return None
        self._left -= 1
        return self._wait() if self._left == 0 else None

    async def _wait(self) -> None:
        self.reached.set()
        await self.go_on.wait()


async def _inbox(store: MongoStorage, account: str = "ann") -> MailboxRef:
    return (await store.mailbox(account, "INBOX")).ref


async def _committed_delivery_of_the_dead(there: World, op: Operation) -> None:
    """A delivery to two accounts and the spool whose writer died when it was committed and in no mailbox yet."""
    for at in range(1, 200):
        dead = await there.store(Kill(at))
        with pytest.raises(Killed):
            await dead.accept([delivery("x", "ann", "bob", op=op, remote=("r@far",))])
        doc = await there.mongo.database["operation"].find_one({"_id": op.id})
        if doc is not None and "parts" in doc:
            return
    raise AssertionError("it was never committed")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_sweep_leaves_alone_what_another_is_finishing(kind: str) -> None:
    async with world(kind) as there:
        first = await there.store()
        for account in ("ann", "bob"):
            await first.open_account(operation(), account)
        op = operation()
        await _committed_delivery_of_the_dead(there, op)
        there.clock.advance(700)
        # Before the first commit of its own: the two before it shut the dead writer out of the two accounts.
        gate = Gate("account swap", 3)
        other = await there.store(gate)
        finishing: list[asyncio.Task[Any]] = []

        async def take_over() -> None:
            # Between the sweeper's look at the operation and its attempt to take it.
            gate.armed = True
            finishing.append(asyncio.create_task(other.accept([delivery("x", "ann", "bob", op=op, remote=("r@far",))])))
            await gate.reached.wait()

        at = At("operation swap", take_over)
        sweeper = await there.store(at)
        at.armed = True
        burying = asyncio.create_task(sweeper._recovery.bury("ann", op.id))
        await gate.reached.wait()
        await burying
        unseen = {one["_id"] for one in await there.mongo.database["entry"].find({"uid": {"$lt": 0}}).to_list()}
        gate.go_on.set()
        (ended,) = await finishing[0]
        assert isinstance(ended, Accepted)
        assert [at.account for at in ended.stored] == ["ann", "bob"]
        seen = {one["_id"] for one in await there.mongo.database["entry"].find({"uid": {"$gt": 0}}).to_list()}
        assert len(seen) == 2
        assert not seen & unseen, "what was seen later would have been swept"
        assert await there.problems() == []
        assert await there.swept() == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", ["entry insert", "email insert", "blob insert", "chunk insert"])
async def test_a_purge_under_a_delivery_leaves_nothing_behind(kind: str, step: str) -> None:
    async with world(kind) as there:
        first = await there.store()
        await first.open_account(operation(), "ann")

        async def purge() -> None:
            while not await first.purge_account(operation(), "ann"):
                pass

        at = At(step, purge)
        store = await there.store(at)
        await store.accept([delivery("before", "ann")])
        at.armed = True
        (ended,) = await store.accept([delivery("x", "ann")])
        assert not isinstance(ended, Accepted)
        assert await there.swept() == []
        for name in ("entry", "email", "blob", "chunk", "text"):
            assert await there.mongo.database[name].find({}).to_list() == [], name


@pytest.mark.parametrize("kind", KINDS)
async def test_history_that_is_cut_while_it_is_read_is_not_missed(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moves, "VANISHED_PER_MAILBOX", 4)
    async with world(kind) as there:
        first = await there.store()
        await first.open_account(operation(), "ann")
        ref = await _inbox(first)
        await first.append(operation(), ref, [NewMessage(b"x", DELETED)] * 20, None)
        since = (await first.mailbox("ann", "INBOX")).highest_modseq
        for uid in (2, 4, 6):
            await first.expunge(operation(), ref, ((uid, uid),))

        async def cut() -> None:
            await first.expunge(operation(), ref, ((8, 8), (10, 10), (12, 12)))

        at = At("vanished find", cut)
        store = await there.store(at)
        at.armed = True
        page = await store.changes(ref, since, 1_000)
        assert not at.armed
        gone = {uid for first_uid, last in page.vanished for uid in range(first_uid, last + 1)}
        assert {2, 4, 6} <= gone
        # What was read at an earlier moment is told by the next page.
        later = await store.changes(ref, page.through, 1_000)
        gone |= {uid for first_uid, last in later.vanished for uid in range(first_uid, last + 1)}
        assert gone == {2, 4, 6, 8, 10, 12}


@pytest.mark.parametrize("kind", KINDS)
async def test_an_append_that_waits_for_the_database_keeps_those_of_other_sequences_from_nothing(kind: str) -> None:
    async with world(kind) as there:
        gate = Gate("operation insert", 1)
        store = await there.store(gate)
        await store.open_account(operation(), "ann")
        ref = await _inbox(store)

        def append(sequence: str) -> asyncio.Task[Any]:
            op = replace(operation(), sequence=sequence)
            return asyncio.create_task(store.append(op, ref, [NewMessage(b"x")], None))

        gate.armed = True
        stopped = append("one")
        await gate.reached.wait()
        behind, others = append("one"), [append("two"), append("two"), append("")]
        try:
            async with asyncio.timeout(20):
                await asyncio.gather(*others)
            assert not behind.done()
        finally:
            gate.go_on.set()
        assert [(await one).uids for one in (stopped, behind)] == [(4,), (5,)]
        assert [one.result().uids for one in others[:2]] in ([(1,), (2,)], [(1,), (3,)], [(2,), (3,)])


@pytest.mark.parametrize("kind", KINDS)
async def test_no_message_appears_after_one_that_came_later(kind: str) -> None:
    async with world(kind) as there:
        first = await there.store()
        await first.open_account(operation(), "ann")
        ref = await _inbox(first)
        since = (await first.mailbox("ann", "INBOX")).highest_modseq
        await first.append(operation(), ref, [NewMessage(b"x")], None)
        await first.append(operation(), ref, [NewMessage(b"y")], None)

        async def flag() -> None:
            await first.store_flags(operation(), ref, ((1, 1),), FlagMode.ADD, DELETED)

        at = At("entry find", flag)
        store = await there.store(at)
        at.armed = True
        page = await store.changes(ref, since, 1_000)
        assert not at.armed
        assert [entry.uid for entry in page.entries] == [2, 1]
        assert not page.more


class _Behind:
    """A store whose reads of accounts and operations come from a primary that is behind, as long as it says so."""

    def __init__(self, store: MongoStorage) -> None:
        self._first = store.database.first
        self._asked = False
        self.old: dict[tuple[str, str], Any] = {}
        self.twice = asyncio.Event()
        store.database.first = self  # type: ignore[method-assign]

    async def __call__(self, shape: Shape) -> Any:
        key = (shape.collection, str(shape.filter.get("_id")))
        if key in self.old:
            if self._asked:
                self.twice.set()
            self._asked = True
            return self.old[key]
        return await self._first(shape)


async def test_a_read_from_a_primary_that_is_behind_is_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "BEHIND_SECONDS", 60.0)
    async with world("mongomock") as there:
        store = await there.store()
        await store.open_account(operation(), "ann")
        old = await there.mongo.database["account"].find_one({"_id": "ann"})
        await store.accept([delivery("x", "ann")])
        behind = _Behind(store)
        behind.old["account", "ann"] = old
        reading = asyncio.create_task(store.mailbox("ann", "INBOX"))
        await behind.twice.wait()
        behind.old.clear()
        assert (await reading).messages == 1
        monkeypatch.setattr(accounts, "BEHIND_SECONDS", 0.1)
        behind.old["account", "ann"] = old
        with pytest.raises(Unavailable):
            await store.mailbox("ann", "INBOX")
        # One that was put back to an earlier state on purpose is believed in the end.
        assert (await store.mailbox("ann", "INBOX")).messages == 0


async def test_a_claim_is_not_believed_to_a_primary_that_is_behind() -> None:
    async with world("mongomock") as there:
        store, other = await there.store(), await there.store()
        await store.open_account(operation(), "ann")
        claim = await store._operations.claim("op", "ann")
        doc = await there.mongo.database["operation"].find_one({"_id": "op"})
        taken = await other._operations.claim("op", "ann")
        assert taken != claim
        behind = _Behind(store)
        behind.old["operation", "op"] = doc
        epoch = (await store.accounts.settled("ann"))["epoch"]
        assert isinstance(claim, Claim)
        with pytest.raises(ClaimLost):
            await store._operations.check(claim, "ann", epoch)


async def test_repeats_wait_for_the_dead_together() -> None:
    async with world("mongomock") as there:
        first = await there.store()
        await first.open_account(operation(), "ann")
        ops = [operation() for _ in range(30)]
        await first._operations.claim_all([(op.id, ("ann",)) for op in ops], {"ann": 1})
        store = await there.store()
        store._operations._patience = 1.0
        begun = monotonic()
        ended = await store.accept([delivery(str(n), "ann", op=op) for n, op in enumerate(ops)])
        assert all(isinstance(one, Accepted) for one in ended)
        assert monotonic() - begun < 20, "one after the other they take thirty seconds"


async def test_messages_with_many_events_are_committed_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "EVENTS_OCTETS", 1_000)
    async with world("mongomock") as there:
        steps: list[str] = []
        store = await there.store(steps.append)
        await store.open_account(operation(), "ann")
        steps.clear()
        event = Event("trace", 1.0, "received", "ann", {"words": "x" * 400})
        batch = [delivery(str(n), "ann", op=Operation(f"op{n}", operation().actor, (event,))) for n in range(10)]
        assert all(isinstance(one, Accepted) for one in await store.accept(batch))
        assert steps.count("account swap") >= 5
        assert (await store.mailbox("ann", "INBOX")).messages == 10


DELIVERER = """
import asyncio, sys, time
from runtime.mongo import open_mongo
from storage.adapters.mongo.adapter import MongoStorage
from tests.storage.mongo_world import delivery

async def main():
    store = MongoStorage(await open_mongo(sys.argv[1]))
    begun, waiting = time.monotonic(), set()
    for n in range(100_000):
        one = asyncio.create_task(store.accept([delivery(str(n), "ann")]))
        waiting.add(one)
        one.add_done_callback(waiting.discard)
        if n == 100:
            print("busy", flush=True)
        await asyncio.sleep(max(0, begun + n / 100 - time.monotonic()))

asyncio.run(main())
"""


@pytest.mark.slow
async def test_a_store_of_ten_thousand_ends_while_another_process_delivers() -> None:
    url = mongo_url("mongodb")
    there = World(url)
    store = await there.store()
    process: asyncio.subprocess.Process | None = None
    try:
        await store.open_account(operation(), "ann")
        ref = await _inbox(store)
        for _ in range(10):
            await store.append(operation(), ref, [NewMessage(b"x")] * 1_000, None)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            DELIVERER,
            url,
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 60) == b"busy\n"
        before = await store.usage("ann")
        stored = await store.store_flags(operation(), ref, ((1, 10_000),), FlagMode.ADD, 8)
        assert len(stored.entries) == 10_000
        assert {(entry.flags, entry.modseq) for entry in stored.entries} == {(8, stored.modseq)}
        copied = await store.copy(operation(), ref, ((1, 10_000),), "Sent", None)
        assert copied.target == ((1, 10_000),)
        now = await store.usage("ann")
        assert now.messages > before.messages + 10_000, "nothing was delivered meanwhile"
        process.kill()
        await process.wait()
        process = None
        assert (await entries_of(store, ref, ALL_UIDS, 1))[0].flags == 8
    finally:
        if process is not None:
            process.kill()
            await process.wait()
        await there.close()
        await dropped(url)
