"""Turns in MongoDB: a document each, with who has it and until when.

`turn` {_id: name, holder, taken, until}: from when until when, by the holder's clock in Unix seconds. Clocks may differ
by less than a turn is long, else two may work at the same time; and a turn that was taken in a future further away than
that counts for nothing, so that a machine whose clock was wrong does not keep it for years.
"""

from __future__ import annotations

import asyncio

import structlog
from pymongo.errors import DuplicateKeyError

from homing.turns import TurnsUnavailable
from runtime.clock import Clock, SystemClock
from runtime.ids import new_id
from runtime.mongo import Mongo, told_unavailable

COLLECTION = "turn"
CLOSE_SECONDS = 2.0
FUTURE_SECONDS = 300.0
"""How far ahead of ours the clock of a turn's holder is believed to be."""

log = structlog.get_logger("homing")


class MongoTurns:
    """`homing.turns.Turns`."""

    def __init__(self, mongo: Mongo, clock: Clock | None = None) -> None:
        self._mongo = mongo
        self._turns = mongo.database[COLLECTION]
        self._clock = clock or SystemClock()
        self._holder = new_id()
        self._held: set[str] = set()

    async def mine(self, name: str, seconds: float) -> bool:
        now = self._clock.now()
        turn = {"holder": self._holder, "taken": now, "until": now + seconds}
        free = [{"holder": self._holder}, {"until": {"$lte": now}}, {"taken": {"$gt": now + FUTURE_SECONDS}}]
        with told_unavailable(TurnsUnavailable):
            taken = await self._turns.update_one({"_id": name, "$or": free}, {"$set": turn})
            if taken.matched_count == 0:
                try:
                    await self._turns.insert_one({"_id": name, **turn})
                except DuplicateKeyError:
                    self._held.discard(name)
                    return False
        self._held.add(name)
        return True

    async def close(self) -> None:
        held, self._held = self._held, set()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                with told_unavailable(TurnsUnavailable):
                    for name in held:
                        await self._turns.update_one({"_id": name, "holder": self._holder}, {"$set": {"until": 0.0}})
        except (TimeoutError, TurnsUnavailable) as error:
            log.info("turns are not given back: they run out", reason=str(error))
        await self._mongo.close()
