"""Every command to the server goes through here: told to whoever tests step by step, bounded, its errors in the port's
words."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from pymongo import UpdateMany, UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import BulkWriteError, DuplicateKeyError

from runtime.clock import Clock
from runtime.mongo import Document, Mongo, told_unavailable
from storage.adapters.mongo.queries import Shape
from storage.port import Unavailable

BULK_OCTETS: Final = 1024 * 1024
"""Octets of documents in one insert: they are encoded in one go, which nothing else of this process can interrupt."""
BULK_CHANGES: Final = 1000
"""Updates in one command."""
DUPLICATE: Final = 11000

OnStep = Callable[[str], Awaitable[None] | None]
"""Called with "<collection> <verb>" before every command and with "done" after it; what it returns is awaited."""


@dataclass(frozen=True, slots=True)
class Change:
    """One update: of the first document that the shape finds, or of all of them (``many``)."""

    shape: Shape
    update: Mapping[str, Any]
    many: bool = False


class Database:
    """One database. Every method raises Unavailable when the server cannot be had now."""

    def __init__(self, mongo: Mongo, clock: Clock, on_step: OnStep | None = None) -> None:
        self.mongo = mongo
        self._clock = clock
        self._on_step = on_step
        self._closed = False

    def now(self) -> float:
        """The time that is written into documents, Unix seconds."""
        return self._clock.now()

    def close(self) -> None:
        """Refuse every further command. The client is its owner's to close."""
        self._closed = True

    async def find(self, shape: Shape) -> list[Document]:
        """All documents of the shape, in its order, up to its limit."""
        async with self._step(shape.collection, "find"):
            cursor = self._collection(shape.collection).find(
                shape.filter, _projection(shape), limit=shape.limit, sort=list(shape.sort) or None
            )
            return await cursor.to_list()

    async def first(self, shape: Shape) -> Document | None:
        """The first document of the shape."""
        async with self._step(shape.collection, "find"):
            return await self._collection(shape.collection).find_one(
                shape.filter, _projection(shape), sort=list(shape.sort) or None
            )

    async def insert(self, collection: str, documents: Sequence[Document]) -> set[int]:
        """Insert all of them, in as many commands as their octets need: the places in the list of those whose
        ``_id`` (or unique key) was there already and that therefore were not inserted."""
        known: set[int] = set()
        first = 0
        for batch in _batches(documents):
            async with self._step(collection, "insert"):
                try:
                    if len(batch) == 1:
                        await self._collection(collection).insert_one(batch[0])
                    else:
                        await self._collection(collection).insert_many(batch, ordered=False)
                except DuplicateKeyError:
                    known.add(first)
                except BulkWriteError as error:
                    told = error.details["writeErrors"]
                    if error.details.get("writeConcernErrors") or any(one["code"] != DUPLICATE for one in told):
                        raise
                    known.update(first + one["index"] for one in told)
            first += len(batch)
        return known

    async def update(self, changes: Iterable[Change]) -> int:
        """Make the changes, all to the same collection, in no particular order: how many documents they found."""
        found = 0
        rest = iter(changes)
        while batch := list(islice(rest, BULK_CHANGES)):
            collection = batch[0].shape.collection
            async with self._step(collection, "update"):
                written = await self._collection(collection).bulk_write(
                    [
                        UpdateMany(one.shape.filter, one.update)
                        if one.many
                        else UpdateOne(one.shape.filter, one.update)
                        for one in batch
                    ],
                    ordered=False,
                )
                found += written.matched_count
        return found

    async def delete(self, shape: Shape) -> int:
        """Delete all documents of the shape: how many there were."""
        async with self._step(shape.collection, "delete"):
            return (await self._collection(shape.collection).delete_many(shape.filter)).deleted_count

    async def estimate(self, collection: str) -> int:
        """How many documents there are, about: from what the server counts anyway."""
        async with self._step(collection, "estimate"):
            return await self._collection(collection).estimated_document_count()

    async def swap(self, shape: Shape, update: Mapping[str, Any]) -> bool:
        """Change the one document of the shape: whether it was there, as the shape asks. Of several that try the same
        one succeeds."""
        async with self._step(shape.collection, "swap"):
            # The document itself is not wanted back: an account's may be large.
            return (await self._collection(shape.collection).update_one(shape.filter, update)).matched_count == 1

    def _collection(self, name: str) -> AsyncCollection[Document]:
        return self.mongo.database[name]

    @asynccontextmanager
    async def _step(self, collection: str, verb: str) -> AsyncIterator[None]:
        if self._closed:
            raise Unavailable("the store is closed")
        await self._tell(f"{collection} {verb}")
        with told_unavailable(Unavailable):
            yield
        await self._tell("done")

    async def _tell(self, step: str) -> None:
        if self._on_step is not None:
            waiting = self._on_step(step)
            if inspect.isawaitable(waiting):
                await waiting


def _projection(shape: Shape) -> dict[str, int] | None:
    return None if shape.fields is None else dict.fromkeys(shape.fields, 1)


def _batches(documents: Sequence[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    room = BULK_OCTETS
    for document in documents:
        weight = _weight(document)
        if batch and (weight > room or len(batch) >= BULK_CHANGES):
            yield batch
            batch, room = [], BULK_OCTETS
        batch.append(document)
        room -= weight
    if batch:
        yield batch


def _weight(document: Document) -> int:
    """About the octets of the document; what nests is small."""
    return 16 + sum([24 + (len(value) if isinstance(value, bytes | str | list) else 0) for value in document.values()])
