"""Counts of rates, as the processes that share them see them."""

from __future__ import annotations

import asyncio

import pytest

from identity.limiting import rates
from identity.model import RateCharge, RateCount
from identity.port import Reason

HOUR = 3600


def charge(world, key: str, amount: int = 1, window: int = HOUR, back: int = 0) -> RateCharge:
    return RateCharge(key, window, int(world.clock.now() // window) - back, amount)


async def test_counts_add_up(world):
    assert await world.port.charge([charge(world, "a", 2)]) == (RateCount(0, 2),)
    assert await world.port.charge([charge(world, "a", 3), charge(world, "b", 7)]) == (
        RateCount(0, 5),
        RateCount(0, 7),
    )
    assert await world.port.charge([charge(world, "a", 0)]) == (RateCount(0, 5),)
    assert await world.port.charge([]) == ()


async def test_windows_are_counted_apart_and_the_one_before_is_told(world):
    await world.port.charge([charge(world, "a", 4)])
    world.clock.advance(HOUR)
    assert await world.port.charge([charge(world, "a", 1)]) == (RateCount(4, 1),)
    # what comes late goes where it belongs
    assert await world.port.charge([charge(world, "a", 2, back=1)]) == (RateCount(0, 6),)
    assert await world.port.charge([charge(world, "a", 0)]) == (RateCount(6, 1),)
    world.clock.advance(HOUR)
    assert await world.port.charge([charge(world, "a", 0)]) == (RateCount(1, 0),)


async def test_lengths_of_windows_are_counted_apart(world):
    await world.port.charge([charge(world, "a", 4, 60)])
    assert await world.port.charge([charge(world, "a", 1, HOUR)]) == (RateCount(0, 1),)


async def test_counts_outlive_the_process(world):
    await world.port.charge([charge(world, "a@ü.example|x", 5)])
    await world.reopen()
    assert await world.port.charge([charge(world, "a@ü.example|x", 1)]) == (RateCount(0, 6),)


async def test_counts_of_no_more_use_are_dropped(world):
    await world.port.charge([charge(world, f"key {n}", 5, 60) for n in range(30)])
    world.clock.advance(121)
    await world.port.charge([charge(world, "another")])
    for _ in range(2):
        if hasattr(world.port, "sweep"):
            await world.port.sweep()
    old = [RateCharge("key 3", 60, int(world.clock.now() // 60) - 2, 0)]
    (count,) = await world.port.charge(old)
    assert count == RateCount(0, 0)


async def test_two_at_once_lose_nothing(world, request):
    if "ferretdb" in request.node.name:
        pytest.skip("ferretdb: its update reads and writes without a lock")
    await asyncio.gather(*(world.port.charge([charge(world, "a"), charge(world, f"b{n % 3}")]) for n in range(30)))
    assert await world.port.charge([charge(world, "a", 0)]) == (RateCount(0, 30),)
    assert await world.port.charge([charge(world, "b1", 0)]) == (RateCount(0, 10),)


@pytest.mark.parametrize(
    "bad",
    [
        RateCharge("", 60, 1, 1),
        RateCharge("k" * 401, 60, 1, 1),
        RateCharge("k", 0, 1, 1),
        RateCharge("k", rates.WINDOW_MAX + 1, 1, 1),
        RateCharge("k", 60, -1, 1),
        RateCharge("k", 60, 2**50, 1),
        RateCharge("k", 60, 1, -1),
        RateCharge("k", 60, 1, 2**60),
    ],
)
async def test_what_is_no_charge_is_refused_and_nothing_is_counted(world, bad):
    assert await world.reason(world.port.charge([charge(world, "good"), bad])) is Reason.LIMIT
    assert await world.port.charge([charge(world, "good", 0)]) == (RateCount(0, 0),)


async def test_a_thousand_at_once_and_no_more(world):
    counts = await world.port.charge([charge(world, f"k{n}", n) for n in range(1000)])
    assert [one.present for one in counts] == list(range(1000))
    assert await world.reason(world.port.charge([charge(world, f"k{n}") for n in range(1001)])) is Reason.LIMIT
