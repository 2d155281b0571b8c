"""What the port of the task queue promises, asked of every adapter."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable
from typing import Any

import pytest

from connectors.tasks.model import CONTENT_MAX, KEY_SECONDS, REASON_MAX, RESULT_SECONDS, Claimed, Status, Task
from connectors.tasks.port import Reason, Refused
from tests.contract.tasks.conftest import MOST, World, new_task


async def _reason(call: Awaitable[Any]) -> Reason:
    with pytest.raises(Refused) as refused:
        await call
    assert refused.value.text
    return refused.value.reason


async def test_a_task_is_put_claimed_and_sent(world: World) -> None:
    id = await world.put("ü@far.example", content=b"Subject: x\r\n\r\n\x00\xff\r\n".replace(b"\x00", b"0"))
    assert await world.queue.task(id, None) == Task(
        id, "ann", "ü@far.example", Status.PENDING, 0, "", False, "digest-1"
    )
    assert await world.queue.waiting() == 1
    claimed = await world.claimed()
    assert claimed.task == await world.queue.task(id, "ann")
    assert (claimed.sender, claimed.trace, claimed.lost) == ("ann@example.org", "trace-1", 0)
    content = await world.queue.content(id)
    assert claimed.content in (None, content)
    assert content == b"Subject: x\r\n\r\n0\xff\r\n"
    assert claimed.size == len(content)
    await world.queue.succeed(claimed)
    task = await world.queue.task(id, "ann")
    assert (task.status, task.attempts, task.to, task.reason) == (Status.SUCCESS, 1, "ü@far.example", "")
    assert (task.doubtful, task.digest) == (False, "digest-1")
    assert await world.queue.waiting() == 0
    assert await _reason(world.queue.content(id)) is Reason.NO_SUCH_TASK
    assert await world.claim() == ()


async def test_nobody_else_sees_it(world: World) -> None:
    id = await world.put()
    assert await _reason(world.queue.task(id, "bob")) is Reason.NO_SUCH_TASK
    assert await _reason(world.queue.cancel(id, "bob")) is Reason.NO_SUCH_TASK
    await world.queue.succeed(await world.claimed())
    assert await _reason(world.queue.task(id, "bob")) is Reason.NO_SUCH_TASK
    assert await _reason(world.queue.cancel(id, "bob")) is Reason.NO_SUCH_TASK
    assert (await world.queue.task(id, None)).status is Status.SUCCESS


@pytest.mark.parametrize("id", ["", "x", "S", "S000000000fff", "S" + "0" * 24, "f" * 32, "ü", "../x", "x" * 5000])
async def test_what_is_no_task(world: World, id: str) -> None:
    await world.put()
    assert await _reason(world.queue.task(id, None)) is Reason.NO_SUCH_TASK
    assert await _reason(world.queue.cancel(id, None)) is Reason.NO_SUCH_TASK
    assert await _reason(world.queue.content(id)) is Reason.NO_SUCH_TASK


async def test_the_same_key_is_the_same_task(world: World) -> None:
    first = await world.put(key="k")
    assert await world.put("other@far.example", key="k") == first
    assert await world.put(account="bob", key="k") != first
    assert await world.queue.waiting() == 2
    for claimed in await world.claim():
        await world.queue.succeed(claimed)
    world.later(KEY_SECONDS - 1)
    assert await world.put(key="k") == first
    assert await world.claim() == ()


async def test_retries_come_when_they_are_due(world: World) -> None:
    id = await world.put()
    await world.queue.retry(await world.claimed(), 30.0, "421 4.3.2 come later")
    task = await world.queue.task(id, "ann")
    assert (task.status, task.attempts, task.reason) == (Status.PENDING, 1, "421 4.3.2 come later")
    world.later(29)
    assert await world.claim() == ()
    world.later(1.1)
    claimed = await world.claimed()
    assert (claimed.task.attempts, claimed.task.reason, claimed.lost) == (1, "421 4.3.2 come later", 0)
    await world.queue.retry(claimed, 0.0, "x" * 5000)
    claimed = await world.claimed()
    assert claimed.task.reason == "x" * REASON_MAX
    await world.queue.fail(claimed, "at last")
    task = await world.queue.task(id, "ann")
    assert (task.status, task.attempts, task.reason, task.doubtful) == (Status.FAILED, 3, "at last", False)
    assert await world.queue.waiting() == 0


async def test_what_is_given_back_was_not_tried(world: World) -> None:
    id = await world.put()
    await world.queue.give_back(await world.claimed(), 10.0)
    assert not (await world.queue.task(id, None)).doubtful
    assert await world.claim() == ()
    world.later(10.1)
    claimed = await world.claimed()
    assert (claimed.task.attempts, claimed.lost, claimed.task.doubtful) == (0, 0, False)
    await world.queue.give_back(claimed, doubtful=True)
    claimed = await world.claimed()
    assert (claimed.task.attempts, claimed.lost, claimed.task.doubtful) == (0, 0, True)
    await world.queue.fail(claimed, "not even once", attempted=False)
    task = await world.queue.task(id, None)
    assert (task.status, task.attempts, task.reason) == (Status.FAILED, 0, "not even once")


async def test_a_lease_that_runs_out_is_told_as_doubt(world: World) -> None:
    id = await world.put()
    first = (await world.claim(lease=20.0))[0]
    world.later(19)
    assert await world.claim() == ()
    assert not (await world.queue.task(id, None)).doubtful
    world.later(2)
    assert (await world.queue.task(id, None)).doubtful
    second = (await world.claim(lease=500.0))[0]
    assert (second.lost, second.task.doubtful, second.task.attempts) == (1, True, 0)
    world.later(100)
    # Leases of other lengths run beside each other.
    assert await world.claim(lease=1.0) == ()
    for end in (
        world.queue.succeed(first),
        world.queue.fail(first, "x"),
        world.queue.retry(first, 0.0, "x"),
        world.queue.give_back(first),
    ):
        assert await _reason(end) is Reason.LEASE_LOST
    assert await world.queue.extend({id: first.lease}, 60.0) == frozenset()
    await world.queue.succeed(second)
    task = await world.queue.task(id, None)
    assert (task.status, task.attempts, task.doubtful) == (Status.SUCCESS, 1, True)


async def test_doubt_stays(world: World) -> None:
    id = await world.put()
    await world.queue.retry(await world.claimed(), 0.0, "no reply", doubtful=True)
    assert (await world.queue.task(id, None)).doubtful
    claimed = await world.claimed()
    assert (claimed.task.doubtful, claimed.lost) == (True, 0)
    await world.queue.retry(claimed, 0.0, "not now")
    await world.queue.succeed(await world.claimed())
    task = await world.queue.task(id, None)
    assert (task.status, task.attempts, task.doubtful) == (Status.SUCCESS, 3, True)


async def test_lost_claims_are_counted_until_an_attempt_ends(world: World) -> None:
    await world.put()
    for lost in range(3):
        claimed = await world.claimed()
        assert claimed.lost == lost
        world.later(61)
    claimed = await world.claimed()
    assert claimed.lost == 3
    await world.queue.retry(claimed, 0.0, "not now")
    assert (await world.claimed()).lost == 0


async def test_leases_are_extended(world: World) -> None:
    id, other = await world.put(), await world.put()
    first, second = sorted(await world.claim(lease=20.0), key=lambda one: one.task.id != id)
    world.later(15)
    assert await world.queue.extend({}, 60.0) == frozenset()
    assert await world.queue.extend({id: first.lease, "x": "y", other: "no"}, 60.0) == {id}
    world.later(30)
    assert [one.task.id for one in await world.claim()] == [other]
    await world.queue.succeed(first)
    assert await _reason(world.queue.succeed(second)) is Reason.LEASE_LOST


async def test_ends_are_for_good(world: World) -> None:
    id = await world.put()
    claimed = await world.claimed()
    await world.queue.succeed(claimed)
    # The answer was lost, and it is said again.
    await world.queue.succeed(claimed)
    task = await world.queue.task(id, None)
    assert (task.status, task.attempts) == (Status.SUCCESS, 1)
    assert await _reason(world.queue.cancel(id, "ann")) is Reason.ENDED


async def test_a_repeated_retry_counts_once(world: World) -> None:
    id = await world.put()
    claimed = await world.claimed()
    await world.queue.retry(claimed, 5.0, "x")
    await world.queue.retry(claimed, 5.0, "x")
    assert (await world.queue.task(id, None)).attempts == 1
    world.later(6)
    assert len(await world.claim()) == 1
    assert await world.claim() == ()


async def test_what_waits_can_be_cancelled(world: World) -> None:
    id = await world.put()
    await world.queue.cancel(id, "ann")
    await world.queue.cancel(id, "ann")
    task = await world.queue.task(id, "ann")
    assert (task.status, task.attempts, task.to) == (Status.CANCELLED, 0, "x@far.example")
    assert await world.claim() == ()
    assert await world.queue.waiting() == 0


async def test_what_is_being_sent_cannot(world: World) -> None:
    id = await world.put()
    claimed = await world.claimed()
    assert await _reason(world.queue.cancel(id, "ann")) is Reason.BEING_SENT
    await world.queue.retry(claimed, 1000.0, "not now", doubtful=True)
    await world.queue.cancel(id, None)
    task = await world.queue.task(id, "ann")
    assert (task.status, task.attempts) == (Status.CANCELLED, 1)
    world.later(2000)
    assert await world.claim() == ()


async def test_what_a_dead_worker_held_can_be_cancelled(world: World) -> None:
    id = await world.put()
    claimed = await world.claimed()
    world.later(61)
    await world.queue.cancel(id, "ann")
    task = await world.queue.task(id, "ann")
    assert (task.status, task.doubtful) == (Status.CANCELLED, True)
    assert await _reason(world.queue.succeed(claimed)) is Reason.LEASE_LOST
    assert await world.claim() == ()


async def test_ends_are_forgotten_after_a_day(world: World) -> None:
    sent, cancelled, waiting = [await world.put() for _ in range(3)]
    by_id = {one.task.id: one for one in await world.claim()}
    await world.queue.succeed(by_id[sent])
    await world.queue.give_back(by_id[cancelled])
    await world.queue.give_back(by_id[waiting])
    await world.queue.cancel(cancelled, "ann")
    world.later(RESULT_SECONDS - 1)
    assert not await world.queue.sweep()
    assert (await world.queue.task(sent, None)).status is Status.SUCCESS
    world.later(2)
    for swept in (False, True):
        for id in (sent, cancelled):
            assert await _reason(world.queue.task(id, None)) is Reason.NO_SUCH_TASK
            assert await _reason(world.queue.cancel(id, None)) is Reason.NO_SUCH_TASK
        if not swept:
            assert not await world.queue.sweep()
    assert [one.task.id for one in await world.claim()] == [waiting]


async def test_bounds(world: World) -> None:
    assert await _reason(world.put(content=b"x" * (CONTENT_MAX + 1))) is Reason.TOO_BIG
    big = await world.put(content=b"x" * CONTENT_MAX)
    assert len(await world.queue.content(big)) == CONTENT_MAX
    world.later(1)
    for _ in range(MOST - 1):
        await world.put()
    assert await _reason(world.put()) is Reason.TOO_MANY
    await world.put(account="bob")
    (claimed, *_) = await world.claim(limit=1)
    assert claimed.task.id == big
    await world.queue.succeed(claimed)
    await world.put()
    assert await _reason(world.put()) is Reason.TOO_MANY


async def test_those_due_longest_come_first(world: World) -> None:
    ids = []
    for _ in range(4):
        ids.append(await world.put())
        world.later(1)
    assert [one.task.id for one in await world.claim(limit=3)] == ids[:3]
    assert [one.task.id for one in await world.claim(limit=3)] == ids[3:]


async def test_a_claim_waits_for_a_task(world: World) -> None:
    waiting = asyncio.create_task(world.queue.claim(5, 60.0, wait=30.0))
    await asyncio.sleep(0)
    id = await world.put()
    async with asyncio.timeout(20):
        (claimed,) = await waiting
    assert claimed.task.id == id
    assert await world.queue.claim(5, 60.0, wait=0.01) == ()


async def test_many_claimants_share_and_none_twice(world: World) -> None:
    ids = {await world.put(account=("ann", "bob")[n % 2]) for n in range(2 * MOST)}
    found: list[Claimed] = []

    async def claimant() -> None:
        while some := await world.claim(limit=2):
            found.extend(some)

    await asyncio.gather(*(claimant() for _ in range(5)))
    # Two that looked at the same moment may both have come away with nothing.
    await claimant()
    assert len(found) == len(ids)
    assert {one.task.id for one in found} == ids


async def test_many_puts_of_one_key_are_one_task(world: World) -> None:
    key = uuid.uuid4().hex
    ids = await asyncio.gather(*(world.queue.put(new_task(), key) for _ in range(4)))
    assert len(set(ids)) == 1
    assert len(await world.claim()) == 1
