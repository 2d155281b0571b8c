from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from runtime.portclient import PortClient
from tests.served import Keeper
from tests.toyport import RealToy, Toy, app_of, client_of

Eventually = Callable[[Callable[[], object]], Awaitable[None]]


@pytest.fixture
def eventually() -> Eventually:
    """Wait, at most ten seconds, until something holds."""

    async def wait(holds: Callable[[], object]) -> None:
        for _ in range(2000):
            if holds():
                return
            await asyncio.sleep(0.005)
        raise AssertionError("it did not come to hold")

    return wait


@pytest.fixture
def toy() -> RealToy:
    return RealToy()


@pytest.fixture
async def keeper(toy: RealToy) -> AsyncIterator[Keeper]:
    async with Keeper(app_of(toy)) as keeper:
        yield keeper
        toy.gate.set()


@pytest.fixture
async def client(keeper: Keeper) -> AsyncIterator[PortClient[Toy]]:
    client = client_of(keeper.url)
    yield client
    await client.close()
