"""Notes in MongoDB: `note` {_id: "<space> <key>", text, until}."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pymongo.errors import DuplicateKeyError

from runtime.clock import Clock, SystemClock
from runtime.mongo import Index, Mongo, ensure_indexes, told_unavailable
from smtp.outbound.notes import PAGE_MAX, Note, NotesUnavailable, check

COLLECTION: Final = "note"
PURGE_SECONDS: Final = 3600.0
"""Between two looks, by one process, for notes whose time is over."""
TRIES: Final = 20


class MongoNotes:
    """`smtp.outbound.notes.Notes`. The client is closed with it."""

    def __init__(self, mongo: Mongo, clock: Clock | None = None) -> None:
        self._mongo = mongo
        self._notes = mongo.database[COLLECTION]
        self._clock = clock or SystemClock()
        self._purge_at = 0.0

    async def open(self) -> None:
        """Make the index. Raises runtime.mongo.MongoUnavailable."""
        index = Index((("until", 1),), unique=False, name="until", sparse=False)
        await ensure_indexes(self._mongo.database, {COLLECTION: (index,)})

    async def get(self, space: str, key: str) -> str | None:
        with told_unavailable(NotesUnavailable):
            found = await self._notes.find_one({"_id": _id(space, key)})
        return None if found is None or found["until"] <= self._clock.now() else str(found["text"])

    async def put(self, space: str, key: str, text: str, until: float) -> None:
        check(space, key, text=text)
        with told_unavailable(NotesUnavailable):
            await self._purge()
            for _ in range(TRIES):
                changed = await self._notes.update_one(
                    {"_id": _id(space, key)}, {"$set": {"text": text, "until": until}}
                )
                if changed.matched_count or await self._inserted(space, key, text, until):
                    return
        raise NotesUnavailable("others change the same note at the same time")

    async def first(self, space: str, key: str, text: str, until: float) -> str:
        check(space, key, text=text)
        for _ in range(TRIES):
            there = await self.get(space, key)
            if there is not None:
                return there
            with told_unavailable(NotesUnavailable):
                await self._purge()
                await self._notes.delete_many({"_id": _id(space, key), "until": {"$lte": self._clock.now()}})
                if await self._inserted(space, key, text, until):
                    return text
        raise NotesUnavailable("others change the same note at the same time")

    async def page(self, space: str, after: str = "", limit: int = PAGE_MAX) -> tuple[Note, ...]:
        # "!" follows the blank between space and key.
        among = {"_id": {"$gt": _id(space, after), "$lt": f"{space}!"}, "until": {"$gt": self._clock.now()}}
        with told_unavailable(NotesUnavailable):
            found = await self._notes.find(among, sort=[("_id", 1)], limit=min(limit, PAGE_MAX)).to_list()
        return tuple(Note(one["_id"][len(space) + 1 :], one["text"]) for one in found)

    async def remove(self, space: str, keys: Sequence[str]) -> None:
        with told_unavailable(NotesUnavailable):
            await self._notes.delete_many({"_id": {"$in": [_id(space, key) for key in keys[:PAGE_MAX]]}})

    async def close(self) -> None:
        await self._mongo.close()

    async def _inserted(self, space: str, key: str, text: str, until: float) -> bool:
        try:
            await self._notes.insert_one({"_id": _id(space, key), "text": text, "until": until})
        except DuplicateKeyError:
            return False
        return True

    async def _purge(self) -> None:
        if self._clock.monotonic() >= self._purge_at:
            self._purge_at = self._clock.monotonic() + PURGE_SECONDS
            await self._notes.delete_many({"until": {"$lte": self._clock.now()}})


def _id(space: str, key: str) -> str:
    return f"{space} {key}"
