"""Queues beside the mail: tasks are items of the spool, and never mail."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

import pytest

from storage.limits import SPOOL_RESULT, SPOOL_RESULT_AGE
from storage.model import MAIL, SYSTEM, TASKS, Accepted, Claimed, Operation, RemoteRecipient, Settlement, SpoolAction
from storage.port import Reason, Refused

LEASE = 60.0


async def _reason(call: Awaitable[Any]) -> Reason:
    with pytest.raises(Refused) as refused:
        await call
    return refused.value.reason


async def _put(bench: Any, *addresses: str, actor: str = "ann", id: str | None = None) -> str:
    delivery = replace(bench.delivery(remote=addresses, actor=actor, id=id), queue=TASKS)
    (outcome,) = await bench.store.accept([delivery])
    assert isinstance(outcome, Accepted), outcome
    (item,) = outcome.spooled
    return item


async def _claim(bench: Any, queue: str, limit: int = 100, per_domain: int = 100) -> tuple[Claimed, ...]:
    return tuple(await bench.store.claim(limit, per_domain, LEASE, queue=queue))


async def _settle(bench: Any, claimed: Claimed, **how: Any) -> None:
    settlement = Settlement(bench.op(SYSTEM), claimed.item.id, claimed.lease, **how)
    assert list(await bench.store.settle([settlement])) == [None]


async def test_mail_and_tasks_never_meet(bench: Any) -> None:
    (mail,) = (await bench.deliver(remote=("x@far.example",))).spooled
    task = await _put(bench, "y@far.example")
    assert [item.id for item in await bench.store.spool(None)] == [mail]
    assert [item.id for item in await bench.store.spool("ann")] == []
    assert [one.domain for one in await bench.store.spool_domains()] == ["far.example"]
    await bench.store.change_spool(bench.op(SYSTEM), [task], SpoolAction.HOLD)
    stats = await bench.store.stats()
    assert (stats.spool, stats.spool_held) == (1, 0)
    await bench.store.change_spool(bench.op(SYSTEM), [task], SpoolAction.RELEASE)
    assert await bench.store.spool_queued(TASKS, None) == await bench.store.spool_queued(TASKS, "ann") == 1
    assert await bench.store.spool_queued(TASKS, "bob") == 0
    assert [one.item.id for one in await _claim(bench, MAIL)] == [mail]
    (claimed,) = await _claim(bench, TASKS)
    assert (claimed.item.id, claimed.item.queue, claimed.item.account) == (task, TASKS, "ann")
    assert claimed.item.recipients == (RemoteRecipient("y@far.example", {"NOTIFY": "NEVER"}),)
    assert await bench.store.spool_read(task, 0, 1000) == bench.message()
    assert await _claim(bench, TASKS) == await _claim(bench, MAIL) == ()
    bench.clock.advance(LEASE + 1)
    assert [one.item.id for one in await _claim(bench, MAIL)] == [mail]
    assert [one.item.id for one in await _claim(bench, TASKS)] == [task]


async def test_a_message_to_several_domains_is_one_task(bench: Any) -> None:
    task = await _put(bench, "x@far.example", "y@near.example", actor=SYSTEM)
    found = await bench.store.spool_item(task, None)
    assert [one.address for one in found.recipients] == ["x@far.example", "y@near.example"]
    assert found.account is None
    events = [event for event in await bench.store.trace("trace-1", None) if event.kind == "spooled"]
    assert [event.detail["item"] for event in events] == [task, task]
    assert [event.detail["queue"] for event in events] == [TASKS, TASKS]


async def test_accounts_take_turns(bench: Any) -> None:
    ann, bob = [], []
    for n in range(3):
        ann.append(await _put(bench, f"a{n}@far.example"))
        bench.clock.advance(1)
    for n in range(2):
        bob.append(await _put(bench, f"b{n}@far.example", actor="bob"))
        bench.clock.advance(1)
    assert {one.item.id for one in await _claim(bench, TASKS, per_domain=1)} == {ann[0], bob[0]}
    assert {one.item.id for one in await _claim(bench, TASKS, 10)} == {*ann[1:], bob[1]}


async def test_what_became_of_a_task_is_kept_for_a_day(bench: Any) -> None:
    task = await _put(bench, "y@far.example")
    assert await _reason(bench.store.spool_result(task, None)) is Reason.NO_SUCH_ITEM
    (claimed,) = await _claim(bench, TASKS)
    await _settle(bench, claimed, next_attempt=bench.clock.now(), last="later")
    (claimed,) = await _claim(bench, TASKS)
    assert (claimed.item.attempts, claimed.item.last) == (1, "later")
    await _settle(bench, claimed, finished=("y@far.example",), result='{"ü": "\udc80"}')
    assert await _reason(bench.store.spool_item(task, None)) is Reason.NO_SUCH_ITEM
    for account in (None, "ann"):
        found = await bench.store.spool_result(task, account)
        assert (found.item, found.queue, found.account, found.attempts) == (task, TASKS, "ann", 2)
        assert (found.ended_at, found.dropped, found.text) == (bench.clock.now(), False, '{"ü": "\udc80"}')
        assert [one.address for one in found.recipients] == ["y@far.example"]
    assert await _reason(bench.store.spool_result(task, "bob")) is Reason.NO_SUCH_ITEM
    assert await bench.store.spool_queued(TASKS, None) == 0
    bench.clock.advance(SPOOL_RESULT_AGE - 1)
    await bench.store.sweep()
    assert (await bench.store.spool_result(task, None)).text
    bench.clock.advance(2)
    assert await _reason(bench.store.spool_result(task, None)) is Reason.NO_SUCH_ITEM
    await bench.store.sweep()
    assert await _reason(bench.store.spool_result(task, None)) is Reason.NO_SUCH_ITEM


async def test_a_result_comes_with_its_settlement_or_not_at_all(bench: Any) -> None:
    task = await _put(bench, "y@far.example")
    (claimed,) = await _claim(bench, TASKS)
    long = Settlement(bench.op(SYSTEM), task, claimed.lease, ("y@far.example",), result="x" * (SPOOL_RESULT + 1))
    other = await _put(bench, "z@far.example")
    (beside,) = await _claim(bench, TASKS)
    fine = Settlement(bench.op(SYSTEM), other, beside.lease, ("z@far.example",))
    # What is refused of a batch disturbs no other.
    outcome, done = await bench.store.settle([long, fine])
    assert done is None
    assert isinstance(outcome, Refused)
    assert outcome.reason is Reason.TOO_BIG
    stale = Settlement(bench.op(SYSTEM), task, "another", ("y@far.example",), result="x")
    (outcome,) = await _outcomes(bench, stale)
    assert isinstance(outcome, Refused)
    assert await _reason(bench.store.spool_result(task, None)) is Reason.NO_SUCH_ITEM
    op = Operation("settle-1", SYSTEM)
    good = Settlement(op, task, claimed.lease, ("y@far.example",), result="x" * SPOOL_RESULT)
    assert await _outcomes(bench, good, good) == [None, None]
    assert await _outcomes(bench, good) == [None]
    assert (await bench.store.spool_result(task, None)).attempts == 1


async def _outcomes(bench: Any, *settlements: Settlement) -> list[Any]:
    return list(await bench.store.settle(settlements))


async def test_a_task_that_is_dropped_says_so(bench: Any) -> None:
    task, other = await _put(bench, "y@far.example"), await _put(bench, "z@far.example", actor="bob")
    assert await bench.store.change_spool(bench.op("ann"), [task, other], SpoolAction.DROP) == (task,)
    found = await bench.store.spool_result(task, "ann")
    assert (found.dropped, found.attempts, found.text) == (True, 0, "")
    assert await _reason(bench.store.spool_item(task, None)) is Reason.NO_SUCH_ITEM
    (claimed,) = await _claim(bench, TASKS)
    assert claimed.item.id == other
    assert await bench.store.change_spool(bench.op("bob"), [other], SpoolAction.DROP) == ()
    (mail,) = (await bench.deliver(remote=("x@far.example",))).spooled
    await bench.store.change_spool(bench.op(SYSTEM), [mail], SpoolAction.DROP)
    assert await _reason(bench.store.spool_result(mail, None)) is Reason.NO_SUCH_ITEM


async def test_a_repeat_of_a_put_is_the_same_task(bench: Any) -> None:
    first = await _put(bench, "y@far.example", id="op-1")
    assert await _put(bench, "y@far.example", id="op-1") == first
    assert await bench.store.spool_queued(TASKS, None) == 1
