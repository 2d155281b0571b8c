"""The queue and the workers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from runtime.clock import SystemClock
from smtp.errors import QueueFull, WaitedTooLong
from smtp.intake import Streams
from smtp.reception import BATCH_MAX, Reception
from storage.model import Accepted, Delivery, LocalRecipient, Operation
from storage.port import Refused, Unavailable
from tests.smtp.fakes import FakeStorage

Until = Callable[[Callable[[], bool]], Awaitable[None]]


def delivery(number: int, account: str = "Aalice") -> Delivery:
    local = (LocalRecipient(account, "alice@example.org"),)
    return Delivery(Operation(f"op{number}", "system"), b"A: b\r\n\r\n", "", 0.0, f"t{number}", local)


def make(**changed: float) -> tuple[Reception, FakeStorage]:
    storage = FakeStorage()
    storage.accounts.add("Aalice")
    given = {"max_workers": 2, "timeout": 30.0, "queue_max": 1000, **changed}
    return Reception(storage, SystemClock(), **given), storage  # type: ignore[arg-type]  # the fake has what is used


async def test_batches_grow_with_what_waits(until: Until) -> None:
    reception, storage = make()
    storage.gate = asyncio.Event()
    tasks = [asyncio.create_task(reception.submit(delivery(n))) for n in range(BATCH_MAX * 2 + 10)]
    await until(lambda: len(storage.batches) == 2)
    assert reception.emails_in_queue == BATCH_MAX * 2 + 10
    storage.gate.set()
    outcomes = await asyncio.gather(*tasks)
    assert all(isinstance(one, Accepted) for one in outcomes)
    assert storage.batches == [BATCH_MAX, BATCH_MAX, 10]
    assert [one.trace for one, _ in storage.delivered] == [f"t{n}" for n in range(BATCH_MAX * 2 + 10)]
    await reception.drain()
    assert reception.emails_in_queue == 0


async def test_workers_can_be_changed_while_running(until: Until) -> None:
    reception, storage = make(max_workers=1)
    storage.gate = asyncio.Event()
    tasks = [asyncio.create_task(reception.submit(delivery(0)))]
    await until(lambda: len(storage.batches) == 1)
    tasks.append(asyncio.create_task(reception.submit(delivery(1))))
    await asyncio.sleep(0.02)
    assert len(storage.batches) == 1
    reception.max_workers = 3
    await until(lambda: len(storage.batches) == 2)
    storage.gate.set()
    await asyncio.gather(*tasks)


async def test_queue_full(until: Until) -> None:
    reception, storage = make(max_workers=1, queue_max=2)
    storage.gate = asyncio.Event()
    tasks = [asyncio.create_task(reception.submit(delivery(0)))]
    await until(lambda: len(storage.batches) == 1)
    tasks += [asyncio.create_task(reception.submit(delivery(n))) for n in (1, 2)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await reception.submit(delivery(3))
    storage.gate.set()
    await asyncio.gather(*tasks)
    await reception.submit(delivery(4))


async def test_waiting_too_long_is_not_stored(until: Until) -> None:
    reception, storage = make(max_workers=1, timeout=0.1)
    storage.gate = asyncio.Event()
    first = asyncio.create_task(reception.submit(delivery(0)))
    await until(lambda: len(storage.batches) == 1)
    with pytest.raises(WaitedTooLong):
        await reception.submit(delivery(1))
    storage.gate.set()
    await first
    await reception.drain()
    assert [one.trace for one, _ in storage.delivered] == ["t0"]


async def test_one_refused_disturbs_no_other() -> None:
    reception, _ = make()
    outcomes = await asyncio.gather(
        *(reception.submit(delivery(n, "Agone" if n == 2 else "Aalice")) for n in range(5)), return_exceptions=True
    )
    assert [type(one) for one in outcomes] == [Accepted, Accepted, Refused, Accepted, Accepted]


async def test_a_caller_that_gives_up_takes_back_what_waits_only(until: Until) -> None:
    reception, storage = make(max_workers=1)
    storage.gate = asyncio.Event()
    first = asyncio.create_task(reception.submit(delivery(0)))
    await until(lambda: len(storage.batches) == 1)
    second = asyncio.create_task(reception.submit(delivery(1)))
    await asyncio.sleep(0)
    first.cancel()
    second.cancel()
    storage.gate.set()
    await reception.drain()
    assert [one.trace for one, _ in storage.delivered] == ["t0"]


async def test_stop_turns_away_what_waits_and_finishes_what_is_in_hand(until: Until) -> None:
    reception, storage = make(max_workers=1)
    storage.gate = asyncio.Event()
    first = asyncio.create_task(reception.submit(delivery(0)))
    await until(lambda: len(storage.batches) == 1)
    second = asyncio.create_task(reception.submit(delivery(1)))
    await asyncio.sleep(0)
    stopping = asyncio.create_task(reception.stop())
    with pytest.raises(Unavailable):
        await second
    storage.gate.set()
    await stopping
    assert isinstance(await first, Accepted)


async def test_streams_wait_for_their_turn() -> None:
    streams = Streams(1, 5.0)
    assert await streams.enter()
    waiting = [asyncio.create_task(streams.enter()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    streams.leave()
    assert await waiting[1]
    streams.leave()
    assert await waiting[2]
    streams.timeout = 0.05
    assert not await streams.enter()
    streams.leave()
    assert await streams.enter()
