"""Every command to the server goes through here: told to whoever tests step by step, its errors in the port's words."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from pymongo import UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import BulkWriteError, DuplicateKeyError, InvalidOperation

from identity.adapters.mongo.queries import Shape
from identity.port import Unavailable
from runtime.mongo import Document, Mongo, told_unavailable

DUPLICATE: Final = 11000
# How long a change is tried again that others' changes keep coming before.
RACE_SECONDS: Final = 10.0
_PAUSE = 0.002
_LONGEST_PAUSE = 0.1
BATCH: Final = 200
"""Documents of one answer, about 256 KiB: they are decoded in one go, which nothing else of this process interrupts."""
STREAM_MILLISECONDS: Final = 2000
"""How long one question to a change stream may wait at the server, under the client's limit for any operation."""

OnStep = Callable[[str], None]
"""Called with "<collection> <verb>" before every command and with "done" after it."""


class Race:
    """The pauses of one change that is tried until it wins: `await race.lost()` after each loss."""

    def __init__(self) -> None:
        self._deadline = time.monotonic() + RACE_SECONDS
        self._pause = _PAUSE

    async def lost(self) -> None:
        """Wait a moment. Raises Unavailable when that went on for too long."""
        if time.monotonic() >= self._deadline:
            raise Unavailable("too many changes at once")
        await asyncio.sleep(self._pause * random.random())
        self._pause = min(_LONGEST_PAUSE, self._pause * 2)


class Patience:
    """How long another process is given to finish what it began: seconds of this process's own clock."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._seen: dict[object, float] = {}

    def is_over(self, what: object) -> bool:
        """Has this been met for that long, first met now or before?"""
        now = time.monotonic()
        return now - self._seen.setdefault(what, now) >= self._seconds


class Database:
    """One database. Every method raises Unavailable when the server cannot be had now."""

    def __init__(self, mongo: Mongo, on_step: OnStep | None = None) -> None:
        self._mongo = mongo
        self.on_step = on_step
        self._closed = False

    @property
    def has_streams(self) -> bool:
        """Can the server tell of inserts by itself?"""
        return self._mongo.replica_set

    async def close(self) -> None:
        """Refuse every further command, and close the client."""
        self._closed = True
        await self._mongo.close()

    async def find(self, shape: Shape) -> list[Document]:
        """All documents of the shape, in its order, up to its limit."""
        with self._step(shape.collection, "find"):
            cursor = self._collection(shape.collection).find(
                shape.filter, limit=shape.limit, sort=list(shape.sort) or None, batch_size=BATCH
            )
            return await cursor.to_list()

    async def first(self, shape: Shape) -> Document | None:
        """The first document of the shape."""
        with self._step(shape.collection, "find"):
            return await self._collection(shape.collection).find_one(shape.filter, sort=list(shape.sort) or None)

    async def insert(self, collection: str, documents: Sequence[Document]) -> set[int]:
        """Insert all of them in one command: the places in the list of those that were not, since their ``_id`` or a
        unique key was there already."""
        with self._step(collection, "insert"):
            try:
                if len(documents) == 1:
                    await self._collection(collection).insert_one(documents[0])
                else:
                    await self._collection(collection).insert_many(documents, ordered=False)
            except DuplicateKeyError:
                return {0}
            except BulkWriteError as error:
                told = error.details["writeErrors"]
                if error.details.get("writeConcernErrors") or any(one["code"] != DUPLICATE for one in told):
                    raise
                return {one["index"] for one in told}
        return set()

    async def update(self, shape: Shape, update: Mapping[str, Any]) -> bool:
        """Change the one document of the shape: was there one?"""
        with self._step(shape.collection, "update"):
            return (await self._collection(shape.collection).update_one(shape.filter, update)).matched_count > 0

    async def update_each(self, changes: Sequence[tuple[Shape, Mapping[str, Any]]]) -> int:
        """Change the one document of each shape, all of one collection, in one command: how many there were."""
        collection = changes[0][0].collection
        with self._step(collection, "update"):
            written = await self._collection(collection).bulk_write(
                [UpdateOne(shape.filter, dict(update)) for shape, update in changes], ordered=False
            )
            return written.matched_count

    async def swap(self, shape: Shape, update: Mapping[str, Any]) -> Document | None:
        """Change the one document of the shape: that document as it was before, None where there was none."""
        with self._step(shape.collection, "swap"):
            # Asked for as it was before: a server may answer several racers with the same document after the change.
            found: Document | None = await self._collection(shape.collection).find_one_and_update(shape.filter, update)
            return found

    async def delete(self, shape: Shape) -> int:
        """Delete all documents of the shape: how many there were."""
        with self._step(shape.collection, "delete"):
            return (await self._collection(shape.collection).delete_many(shape.filter)).deleted_count

    async def count(self, collection: str) -> int:
        """About how many documents there are: from the collection's own figures."""
        with self._step(collection, "count"):
            return await self._collection(collection).estimated_document_count()

    @asynccontextmanager
    async def inserts(self, collection: str) -> AsyncIterator[Callable[[], Awaitable[bool]]]:
        """A change stream: what it gives is asked again and again, and answers after the next insert or a while."""
        with self._step(collection, "watch"):
            stream = await self._collection(collection).watch(
                [{"$match": {"operationType": "insert"}}], max_await_time_ms=STREAM_MILLISECONDS
            )
        async with stream:

            async def ask() -> bool:
                with told_unavailable(Unavailable):
                    return await stream.try_next() is not None

            yield ask

    def _collection(self, name: str) -> AsyncCollection[Document]:
        return self._mongo.database[name]

    @contextmanager
    def _step(self, collection: str, verb: str) -> Iterator[None]:
        if self._closed:
            raise Unavailable("identity is closed")
        self._tell(f"{collection} {verb}")
        try:
            with told_unavailable(Unavailable):
                yield
        except InvalidOperation as error:
            if self._closed:
                raise Unavailable("identity is closed") from error
            raise
        self._tell("done")

    def _tell(self, step: str) -> None:
        if self.on_step is not None:
            self.on_step(step)
