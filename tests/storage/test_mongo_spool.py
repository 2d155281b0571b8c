"""Several processes of the MongoDB adapter that send what waits in one spool."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import Any

import pytest

from storage.adapters.mongo.adapter import MongoStorage
from storage.model import TASKS, Claimed, Settlement, SpoolAction
from storage.port import Refused, Unavailable
from tests.storage.mongo_world import KINDS, Kill, Killed, Steps, Stop, delivery, operation, world
from tests.storage.test_mongo_races import Shuffle


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
async def test_processes_that_claim_at_once_never_have_the_same_item(kind: str, seed: int) -> None:
    async with world(kind) as there:
        first = await there.store()
        await first.open_account(operation(), "ann")
        for n in range(10):
            await first.accept([delivery(str(n), remote=(f"a@d{n % 3}", f"b@e{n}"))])
        made = {item.id for item in await first.spool(None)}
        taken: list[str] = []

        async def runner(store: MongoStorage) -> None:
            for _ in range(40):
                for claimed in await store.claim(4, 2, 60.0):
                    taken.append(claimed.item.id)
                    (outcome,) = await store.settle(
                        [Settlement(operation(), claimed.item.id, claimed.lease, (claimed.item.recipients[0].address,))]
                    )
                    assert outcome is None
                if len(taken) == len(made):
                    return

        await asyncio.gather(*[runner(await there.store(Shuffle(seed * 3 + n))) for n in range(3)])
        assert sorted(taken) == sorted(made)
        assert await first.spool(None) == ()
        assert await there.problems() == []
        assert await there.swept() == []


@pytest.mark.parametrize("kind", KINDS)
async def test_what_another_process_spools_is_claimed_soon(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.adapters.mongo.sending.CLAIM_POLL", 0.1)
    async with world(kind) as there:
        first, second = await there.store(), await there.store()
        waiting = asyncio.create_task(first.claim(9, 9, 60.0, 60.0))
        await asyncio.sleep(0.05)
        await second.accept([delivery("x", remote=("a@far",))])
        # It looks again each CLAIM_POLL, and not only when its own time is over.
        async with asyncio.timeout(30):
            assert len(await waiting) == 1
        waiting = asyncio.create_task(first.claim(9, 9, 60.0, 60.0))
        await asyncio.sleep(0.05)
        there.clock.advance(60)
        async with asyncio.timeout(30):
            assert len(await waiting) == 1


@pytest.mark.parametrize("action", [SpoolAction.RETRY, SpoolAction.HOLD, SpoolAction.ROUTE])
async def test_a_lease_runs_on_though_an_administrator_changes_the_item(action: SpoolAction) -> None:
    """The process of the change stands still at each of its steps."""
    step = 0
    stopped = True
    while stopped:
        step += 1
        async with world("mongomock") as there:
            first = await there.store()
            await first.accept([delivery("x", remote=("a@far",))])
            (claimed,) = await first.claim(9, 9, 60.0)
            id, lease = claimed.item.id, claimed.lease
            stop = Stop(step)
            changing = asyncio.create_task((await there.store(stop)).change_spool(operation(), [id], action))
            waiting = asyncio.create_task(stop.stopped.wait())
            await asyncio.wait([changing, waiting], return_when=asyncio.FIRST_COMPLETED)
            stopped = not changing.done()
            there.clock.advance(40)
            assert await first.extend({id: lease}, 60.0) == {id}, step
            stop.go_on.set()
            assert await changing == (id,)
            waiting.cancel()
            there.clock.advance(40)
            assert await first.claim(9, 9, 60.0) == (), step
            assert (await first.spool_item(id, None)).leased_until == there.clock.now() + 20
            assert list(await first.settle([Settlement(operation(), id, lease, ("a@far",))])) == [None], step
    assert step > 4


async def test_a_lease_is_as_long_as_it_was_asked_for() -> None:
    """However long it took to carry out what another had left to do."""
    async with world("mongomock") as there:
        first = await there.store()
        await first.accept([delivery("x", remote=("a@far",))])
        stop = Stop(2)
        claiming = asyncio.create_task((await there.store(stop)).claim(9, 9, 60.0))
        await stop.stopped.wait()
        there.clock.advance(45)
        stop.go_on.set()
        (claimed,) = await claiming
        assert claimed.item.leased_until == there.clock.now() + 60


class Due(Steps):
    """Counts the commands that tell when something is due, and fails one of them."""

    def __init__(self, fails: int = 0) -> None:
        super().__init__()
        self.told = 0
        self._fails = fails

    def act(self, step: str) -> None:
        if step == "due update":
            self.told += 1
            if self.told == self._fails:
                raise Unavailable("away")


async def test_what_becomes_due_at_once_is_told_together() -> None:
    async with world("mongomock") as there:
        due = Due()
        store = await there.store(due)
        outcomes = await store.accept([delivery(str(n), remote=(f"a@d{n % 5}",)) for n in range(60)])
        assert not any(isinstance(one, Exception) for one in outcomes)
        assert due.told < 10
        assert len(await store.claim(100, 100, 60.0)) == 60


async def test_a_telling_that_fails_is_told_by_the_next() -> None:
    async with world("mongomock") as there:
        await there.store()
        store = await there.store(Due(fails=2))
        outcomes = await store.accept([delivery(str(n), remote=(f"a@d{n}",)) for n in range(20)])
        assert sum(isinstance(one, Unavailable) for one in outcomes) == 1
        assert {claimed.item.domain for claimed in await store.claim(100, 1, 60.0)} == {f"d{n}" for n in range(20)}


@pytest.mark.slow
async def test_a_report_is_delivered_once_by_whoever_meets_the_item() -> None:
    """The process that settles is killed at each of its steps; another claims, and settles what was not settled."""
    step = 0
    ended = False
    while not ended:
        step += 1
        async with world("mongomock") as there:
            first = await there.store()
            await first.open_account(operation(), "ann")
            await first.accept([delivery("x", remote=("a@far", "b@far"))])
            kill = Kill(step)
            victim = await there.store(kill)
            kill.on = False
            (claimed,) = await victim.claim(9, 9, 60.0)
            kill.on = True

            def settlement(claimed: Claimed) -> Settlement:
                dsn = delivery("dsn", "ann")
                return Settlement(operation(), claimed.item.id, claimed.lease, ("a@far",), 0.0, report=dsn)

            try:
                assert list(await victim.settle([settlement(claimed)])) == [None]
                ended = True
            except (Killed, AssertionError):
                pass
            there.clock.advance(60)
            other = await there.store()
            again: tuple[Claimed, ...] = ()
            for _ in range(3):
                again = again or await other.claim(9, 9, 60.0)
            (claimed,) = again
            settled = len(claimed.item.recipients) == 1
            if not settled:
                assert list(await other.settle([settlement(claimed)])) == [None]
            assert (await other.mailbox("ann", "INBOX")).messages == 1, step
            assert (await other.spool_item(claimed.item.id, None)).attempts == 1
            kill.on = False
            assert await there.swept() == [], step
            assert (await other.mailbox("ann", "INBOX")).messages == 1, step
    assert step > 10


@pytest.mark.slow
async def test_a_report_is_delivered_once_after_a_long_outage() -> None:
    """Killed at any step, and nobody there for hours: what was done is not forgotten before all of it is."""
    step = 0
    ended = False
    while not ended:
        step += 1
        async with world("mongomock") as there:
            first = await there.store()
            await first.open_account(operation(), "ann")
            await first.accept([delivery("x", remote=("a@far", "b@far"))])
            (claimed,) = await first.claim(9, 9, 60.0)
            kill = Kill(step)
            dsn = delivery("dsn", "ann")
            one = Settlement(operation(), claimed.item.id, claimed.lease, ("a@far", "b@far"), 0.0, report=dsn)
            with contextlib.suppress(Killed):
                ended = list(await (await there.store(kill)).settle([one])) == [None]
            kill.on = False
            there.clock.advance(5 * 3600)
            assert await there.swept() == [], step
            other = await there.store()
            left = len(await other.spool(None))
            assert (await other.mailbox("ann", "INBOX")).messages == 1 - left, step
    assert step > 10


@pytest.mark.parametrize("dropped", [False, True])
async def test_who_does_not_find_a_task_finds_what_became_of_it(dropped: bool) -> None:
    """The process that ends it stands still at each of its steps."""
    step = ended = 0
    stopped = True
    while stopped:
        step += 1
        async with world("mongomock") as there:
            other = await there.store()
            await other.accept([replace(delivery("x", remote=("a@far",)), queue=TASKS)])
            (claimed,) = await other.claim(9, 9, 60.0, queue=TASKS)
            item, stop = claimed.item.id, Stop(step)
            first = await there.store(stop)
            ending: asyncio.Task[Any]
            if dropped:
                there.clock.advance(61)
                ending = asyncio.create_task(first.change_spool(operation(), [item], SpoolAction.DROP))
            else:
                end = Settlement(operation(), item, claimed.lease, ("a@far",), result="sent")
                ending = asyncio.create_task(first.settle([end]))
            waiting = asyncio.create_task(stop.stopped.wait())
            await asyncio.wait([ending, waiting], return_when=asyncio.FIRST_COMPLETED)
            stopped = not ending.done()
            try:
                with contextlib.suppress(Refused):
                    await other.spool_item(item, None)
                    continue
                found = await other.spool_result(item, None)
                assert (found.queue, found.dropped, found.text) == (TASKS, dropped, "" if dropped else "sent")
                ended += 1
            finally:
                waiting.cancel()
                stop.go_on.set()
                await ending
    assert ended > 2
