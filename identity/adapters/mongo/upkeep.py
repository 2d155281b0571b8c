"""What any process does now and then for those that died: tell their news, take away what they left unfinished, and
drop what is old. All of it is safe to do twice, and by several at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from identity.adapters.mongo import queries
from identity.adapters.mongo.bearer import Bearer
from identity.adapters.mongo.guess_store import MongoGuessStore
from identity.adapters.mongo.limiting import Limiting
from identity.port import Unavailable

log = structlog.get_logger("identity")

TELL_SECONDS: Final = 3.0
"""How often news that a dead process left is looked for: so long a connection may outlive what it signed in with."""
SWEEP_EVERY: Final = 20
"""Looks for news between two sweeps of what is old."""
RESERVED_SECONDS: Final = 600.0
"""How long a name stays reserved for a process that nobody hears of, and nobody wants the name."""
_AT_ONCE = 500
# Steps of one sweep; what is left then, the next one takes.
_STEPS_AT_ONCE = 100


class Upkeep(Bearer, Limiting):
    """The task of `start`, and its steps."""

    _guess_store: MongoGuessStore
    _upkeep: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, until `stop`."""
        self._upkeep = asyncio.create_task(self._forever(), name="identity upkeep")

    async def stop(self) -> None:
        """Leave off; what is left, another process or the next start finds."""
        if self._upkeep is not None:
            self._upkeep.cancel()
            await asyncio.gather(self._upkeep, return_exceptions=True)

    async def _forever(self) -> None:
        looks = 0
        while True:
            # Processes started together soon look at different moments.
            await asyncio.sleep(TELL_SECONDS * (0.5 + random.random() / 2))
            await self._tried(self.tell_all)
            looks += 1
            if looks % SWEEP_EVERY == 0:
                await self._tried(self.sweep)

    async def _tried(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except Unavailable as error:
            log.warning("upkeep waits", reason=str(error))
        except Exception:
            log.exception("upkeep failed")

    async def tell_all(self) -> None:
        """Tell what was changed and not told."""
        for document in await self._database.find(queries.untold(_AT_ONCE)):
            await self._news.publish(document["_id"])
        for family in await self._database.find(queries.ended_families(_AT_ONCE)):
            await self._tell_end(family)

    async def sweep(self) -> None:
        """Drop reservations that were left, token families that expired, guesses that are forgotten, counts of rates
        and bans that are of no more use."""
        now = self._clock.now()
        await _until_done(lambda: self._sweep_reservations(now))
        await _until_done(lambda: self._sweep_families(now))
        await _until_done(lambda: self._guess_store.sweep_counters(now))
        await _until_done(lambda: self._guess_store.sweep_devices(now))
        await _until_done(lambda: self.sweep_limits(now))

    async def _sweep_reservations(self, now: float) -> bool:
        left = await self._database.find(queries.reserved_before(now - RESERVED_SECONDS, _AT_ONCE))
        for document in left:
            await self._database.delete(queries.of_kind(document["_id"], queries.RESERVED))
        return bool(left)

    async def _sweep_families(self, now: float) -> bool:
        expired = await self._database.find(queries.expired_families(now, _AT_ONCE))
        if expired:
            await self._database.delete(queries.families([family["_id"] for family in expired]))
        return bool(expired)


async def _until_done(step: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(_STEPS_AT_ONCE):
        if not await step():
            return
