"""Storage that is away for longer than leases last: what was sent is settled, and not sent again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from smtp.outbound.transport import Letter, Result
from storage.port import Unavailable
from tests.smtp.outbound.spooled import SENT, Scripted, Spooled, opened, same

LEASE = 5.0

pytestmark = pytest.mark.slow


@pytest.fixture
async def spooled(tmp_path: Path) -> AsyncIterator[Spooled]:
    async with opened(tmp_path) as made:
        yield made


class Away:
    """The storage of all runners here, which cannot be asked while ``away`` is set."""

    def __init__(self, spooled: Spooled) -> None:
        self._storage = spooled.storage
        self.away = self.gone = False

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **named: Any) -> Any:
            if self.away:
                raise Unavailable("it is away")
            return await getattr(self._storage, name)(*args, **named)

        return call

    def during(self) -> Scripted:
        """A transport during whose work the storage goes away, once."""
        transport = Scripted()

        async def script(letter: Letter) -> Result:
            self.away, self.gone = not self.gone, True
            return same(letter, SENT)

        transport.scripts["remote.example"] = script
        return transport


async def sent_once(spooled: Spooled, storage: Away, transports: list[Scripted]) -> None:
    """One message is being sent when storage goes away; it is back after the lease has run out."""
    _, trace = await spooled.put("bob@remote.example")

    async def away() -> bool:
        return storage.away

    async def empty() -> bool:
        return await spooled.waiting() == 0

    await spooled.until(away)
    await asyncio.sleep(LEASE + 1.0)
    storage.away = False
    await spooled.until(empty)
    assert sum(len(transport.letters) for transport in transports) == 1
    (attempt,) = await spooled.events(trace, "attempt")
    assert attempt.detail["status"] == "sent"
    assert not await spooled.events(trace, "unsettled")


async def test_by_the_same_process(spooled: Spooled) -> None:
    storage = Away(spooled)
    transport = storage.during()
    async with spooled.running(transport=transport, storage=storage, lease=LEASE):
        await sent_once(spooled, storage, [transport])


async def test_by_another_process(spooled: Spooled) -> None:
    storage = Away(spooled)
    one, other = storage.during(), storage.during()
    async with (
        spooled.running(transport=one, storage=storage, lease=LEASE),
        spooled.running(transport=other, storage=storage, lease=LEASE),
    ):
        await sent_once(spooled, storage, [one, other])
