"""Overrides in MongoDB: one document, changed by comparing its revision.

`settings` {_id: "overrides", revision, values: [{key, value}, …]}: a list, for a key has a dot, and no field may.
"""

from __future__ import annotations

from collections.abc import Mapping

from pymongo.errors import DuplicateKeyError

from homing.overrides import OverridesUnavailable, Saved
from runtime.mongo import Mongo, told_unavailable

COLLECTION = "settings"
NAME = "overrides"


class MongoOverrides:
    """`homing.overrides.Overrides`."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._settings = mongo.database[COLLECTION]

    async def read(self) -> Saved:
        with told_unavailable(OverridesUnavailable):
            found = await self._settings.find_one({"_id": NAME})
        return (
            Saved(0, {})
            if found is None
            else Saved(found["revision"], {one["key"]: one["value"] for one in found["values"]})
        )

    async def replace(self, revision: int, values: Mapping[str, str]) -> bool:
        listed = [{"key": key, "value": value} for key, value in sorted(values.items())]
        with told_unavailable(OverridesUnavailable):
            if revision == 0:
                try:
                    await self._settings.insert_one({"_id": NAME, "revision": 1, "values": listed})
                except DuplicateKeyError:
                    return False
                return True
            changed = await self._settings.update_one(
                {"_id": NAME, "revision": revision}, {"$set": {"revision": revision + 1, "values": listed}}
            )
        return changed.matched_count == 1

    async def close(self) -> None:
        await self._mongo.close()
