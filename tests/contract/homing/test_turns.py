"""What `homing.turns.Turns` promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from homing.adapters.mongo.turns import MongoTurns
from homing.connect import connect_turns
from homing.turns import Turn, Turns, TurnsUnavailable
from runtime.clock import ManualClock
from runtime.mongo import open_mongo
from tests.mongo import dropped, mongo_url


@pytest.fixture(params=["mongodb", "ferretdb"])
async def url(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    found = mongo_url(request.param)
    yield found
    await dropped(found)


@pytest.fixture
async def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def pair(url: str, clock: ManualClock) -> AsyncIterator[tuple[MongoTurns, MongoTurns]]:
    """Of two processes."""
    first, second = MongoTurns(await open_mongo(url), clock), MongoTurns(await open_mongo(url), clock)
    yield first, second
    await first.close()
    await second.close()


async def test_one_has_the_turn_until_it_is_over(pair: tuple[Turns, Turns], clock: ManualClock) -> None:
    first, second = pair
    assert await first.mine("sweep", 10.0)
    assert not await second.mine("sweep", 10.0)
    assert await second.mine("scrub", 10.0)
    clock.advance(9.0)
    assert await first.mine("sweep", 10.0)
    clock.advance(9.0)
    assert not await second.mine("sweep", 10.0)
    clock.advance(1.0)
    assert await second.mine("sweep", 10.0)
    assert not await first.mine("sweep", 10.0)


async def test_a_clock_that_is_wrong_keeps_no_turn(pair: tuple[Turns, Turns], url: str, clock: ManualClock) -> None:
    ahead = ManualClock()
    third = MongoTurns(await open_mongo(url), ahead)
    # A clock that is a little ahead is believed.
    ahead.advance(60.0)
    assert await third.mine("sweep", 10.0)
    assert not await pair[0].mine("sweep", 10.0)
    # Ten years are not: the upkeep does not wait for so long when this process has died.
    ahead.advance(10 * 365 * 86400.0)
    assert await third.mine("sweep", 10.0)
    assert await pair[0].mine("sweep", 10.0)
    assert not await pair[1].mine("sweep", 10.0)
    await third.close()
    assert not await pair[1].mine("sweep", 10.0)


async def test_who_ends_gives_its_turns_back(url: str) -> None:
    first, second = await connect_turns(url), await connect_turns(url)
    assert await first.mine("sweep", 1000.0)
    assert not await second.mine("sweep", 1000.0)
    await first.close()
    assert await second.mine("sweep", 1000.0)
    await second.close()


async def test_of_many_at_once_one_has_it(url: str) -> None:
    many = [await connect_turns(url) for _ in range(6)]
    try:
        for name in ("a", "b", "c"):
            assert (await asyncio.gather(*(turns.mine(name, 100.0) for turns in many))).count(True) == 1
    finally:
        for turns in many:
            await turns.close()


async def test_a_folder_has_one_owner_whose_turn_it_always_is() -> None:
    turns = await connect_turns("sqlite:///anywhere")
    assert await turns.mine("sweep", 1.0)
    await turns.close()


async def test_nobodys_turn_while_nobody_can_say() -> None:
    class Away:
        async def mine(self, name: str, seconds: float) -> bool:
            raise TurnsUnavailable("away")

        async def close(self) -> None:
            return None

    assert not await Turn(Away())("sweep", 1.0)
