"""Guess counters and usual devices: a document each, asked by _id."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from identity import guesspolicy as policy
from identity.adapters.mongo import queries
from identity.adapters.mongo.database import Database
from identity.guesses import Standing
from identity.guesspolicy import Counter
from identity.limits import MAX_COUNTERS, MAX_DEVICES

SWEPT: Final = 1000
"""Documents deleted in one command."""
_EVER: Final = 1e18


class MongoGuessStore:
    """The `shared_guesses.SharedGuessStore` of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def standing(self, keys: Sequence[str], name: str, place: str) -> Standing:
        found, device = await asyncio.gather(
            self._database.find(queries.guesses(keys)), self._database.first(queries.device(_device(name, place)))
        )
        counters = {one["_id"]: Counter(one["level"], one["at"]) for one in found}
        return Standing(counters, None if device is None else device["seen_at"])

    async def counter(self, key: str) -> Counter | None:
        for one in await self._database.find(queries.guesses([key])):
            return Counter(one["level"], one["at"])
        return None

    async def swap(self, key: str, before: Counter | None, after: Counter | None, forgotten_at: float) -> bool:
        if after is None:
            return before is None or bool(await self._database.delete(queries.counter_as(key, before)))
        values = {"level": after.level, "at": after.at, "forgotten_at": forgotten_at}
        if before is None:
            return not await self._database.insert(queries.GUESSES, [{"_id": key} | values])
        return await self._database.update(queries.counter_as(key, before), {"$set": values})

    async def remember(self, name: str, place: str, now: float) -> None:
        device = _device(name, place)
        if await self._database.update(queries.device(device), {"$set": {"seen_at": now, "place": place}}):
            return
        # One that another process made meanwhile is as good.
        await self._database.insert(queries.DEVICES, [{"_id": device, "name": name, "place": place, "seen_at": now}])
        devices = await self._database.find(queries.devices_of(name))
        if len(devices) > MAX_DEVICES:
            await self._database.delete(queries.devices([one["_id"] for one in devices[:-MAX_DEVICES]]))

    async def sweep_counters(self, now: float) -> bool:
        """Drop some of what is forgotten, and of what is too much. False when nothing is left to drop."""
        over = await self._database.count(queries.GUESSES) - MAX_COUNTERS
        shape = queries.forgotten(_EVER, min(over, SWEPT)) if over > 0 else queries.forgotten(now, SWEPT)
        old = [one["_id"] for one in await self._database.find(shape)]
        if old:
            await self._database.delete(queries.guesses(old))
        return bool(old)

    async def sweep_devices(self, now: float) -> bool:
        """Drop some of those that are usual no longer. False when nothing is left to drop."""
        old = [
            one["_id"] for one in await self._database.find(queries.devices_before(now - policy.USUAL_SECONDS, SWEPT))
        ]
        if old:
            await self._database.delete(queries.devices(old))
        return bool(old)


def _device(name: str, place: str) -> str:
    return f"{name}|{place}"
