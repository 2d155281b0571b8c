"""mongomock behind the names of pymongo's asyncio API: what an adapter can be tried on where no server is.

It offers the portable subset (docs/mongodb.md) and no more: what is not here raises AttributeError. `open_mock()` gives
a `runtime.mongo.Mongo` with a database of its own, `replica_set` False.

Faithful, since made so here and not left to mongomock: documents, filters and updates go through BSON (tuples come
back as lists, what BSON cannot hold is refused, nothing is shared with the caller); each operation gives the event loop
a turn first, so that tasks interleave between operations and never within one; `insert_many` and `bulk_write` tell
which operations failed and go on, or stop, as `ordered` says.

Not faithful:

- Nothing is concurrent, so no race shows: one operation after the other, in one process.
- Nothing is durable, nothing times out, no server goes away, no limit of size holds (16 MiB a document, 48 MB a batch).
- Indexes guard uniqueness and nothing else; there are no plans, hints or shard keys, and `explain` is not here.
- A sparse index of several fields leaves out other documents than MongoDB's does.
- A find is a snapshot of the moment of its first document; MongoDB's cursor may see later writes.
- Sorting of mixed types, and comparison of a missing field with null in $gt and $lt, differ in corners.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import UTC
from typing import Any, Self, cast

import bson
import mongomock
from bson.codec_options import CodecOptions
from pymongo import DeleteMany, DeleteOne, InsertOne, ReturnDocument, UpdateMany, UpdateOne
from pymongo.errors import BulkWriteError, OperationFailure, WriteError
from pymongo.results import BulkWriteResult, DeleteResult, InsertManyResult, InsertOneResult, UpdateResult

from runtime.ids import new_id
from runtime.mongo import Mongo

Document = dict[str, Any]
Operation = InsertOne[Document] | UpdateOne | UpdateMany | DeleteOne | DeleteMany
OPTIONS: CodecOptions[Document] = CodecOptions(tz_aware=True, tzinfo=UTC)


def open_mock(name: str | None = None) -> Mongo:
    """A database in memory; it goes with the last reference to it."""
    return Mongo(cast(Any, MockClient().database(name or f"mock_{new_id()}")), replica_set=False)


def _through_bson(document: Mapping[str, Any]) -> Document:
    return bson.decode(bson.encode(document), OPTIONS)


class MockClient:
    def __init__(self) -> None:
        self.inner: Any = mongomock.MongoClient(tz_aware=True, tzinfo=UTC)

    def database(self, name: str) -> MockDatabase:
        return MockDatabase(self, name)

    async def drop_database(self, name: str) -> None:
        await asyncio.sleep(0)
        self.inner.drop_database(name)

    async def close(self) -> None:
        await asyncio.sleep(0)


class MockDatabase:
    def __init__(self, client: MockClient, name: str) -> None:
        self.client, self.name = client, name
        self._collections: dict[str, MockCollection] = {}

    def __getitem__(self, name: str) -> MockCollection:
        if name not in self._collections:
            self._collections[name] = MockCollection(self, name)
        return self._collections[name]

    def __getattr__(self, name: str) -> MockCollection:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def get_collection(self, name: str) -> MockCollection:
        return self[name]

    async def command(self, command: str) -> Document:
        await asyncio.sleep(0)
        if command != "ping":
            raise OperationFailure(f"no such command: '{command}'", 59)
        return {"ok": 1.0}

    async def list_collection_names(self) -> list[str]:
        await asyncio.sleep(0)
        return list(self.client.inner[self.name].list_collection_names())

    async def drop_collection(self, name: str) -> None:
        await self[name].drop()


class MockCursor:
    """What `find` returns: configured first, then read once."""

    def __init__(self, make: Callable[[], Iterable[Document]]) -> None:
        self._make = make
        self._steps: list[tuple[str, tuple[Any, ...]]] = []
        self._left: list[Document] | None = None

    def _step(self, name: str, *arguments: Any) -> Self:
        assert self._left is None, "a cursor is configured before it is read"
        self._steps.append((name, arguments))
        return self

    def sort(self, keys: str | Sequence[tuple[str, int]], direction: int = 1) -> Self:
        return self._step("sort", [(keys, direction)] if isinstance(keys, str) else list(keys))

    def limit(self, count: int) -> Self:
        return self._step("limit", count)

    def skip(self, count: int) -> Self:
        return self._step("skip", count)

    def batch_size(self, count: int) -> Self:
        assert count >= 0
        return self

    async def _read(self) -> list[Document]:
        await asyncio.sleep(0)
        if self._left is None:
            cursor: Any = self._make()
            for name, arguments in self._steps:
                cursor = getattr(cursor, name)(*arguments)
            self._left = [_through_bson(document) for document in cursor]
        return self._left

    async def to_list(self, length: int | None = None) -> list[Document]:
        left = await self._read()
        taken = left[:length]
        del left[:length]
        return taken

    def __aiter__(self) -> AsyncIterator[Document]:
        return self

    async def __anext__(self) -> Document:
        left = await self._read()
        if not left:
            raise StopAsyncIteration
        return left.pop(0)

    async def close(self) -> None:
        self._left = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()


class MockCollection:
    def __init__(self, database: MockDatabase, name: str) -> None:
        self.database, self.name = database, name

    @property
    def _inner(self) -> Any:
        return self.database.client.inner[self.database.name][self.name]

    # reading

    def find(
        self,
        filter: Mapping[str, Any] | None = None,
        projection: Mapping[str, Any] | Sequence[str] | None = None,
        *,
        sort: Sequence[tuple[str, int]] | None = None,
        limit: int = 0,
        skip: int = 0,
        batch_size: int = 0,
    ) -> MockCursor:
        wanted = _through_bson(filter or {})
        cursor = MockCursor(lambda: cast("Iterable[Document]", self._inner.find(wanted, projection)))
        cursor = cursor.sort(sort) if sort else cursor
        return cursor.skip(skip).limit(limit).batch_size(batch_size)

    async def find_one(
        self,
        filter: Mapping[str, Any] | None = None,
        projection: Mapping[str, Any] | Sequence[str] | None = None,
        *,
        sort: Sequence[tuple[str, int]] | None = None,
    ) -> Document | None:
        found = await self.find(filter, projection, sort=sort, limit=1).to_list()
        return found[0] if found else None

    async def count_documents(self, filter: Mapping[str, Any], *, limit: int = 0) -> int:
        await asyncio.sleep(0)
        count: int = self._inner.count_documents(_through_bson(filter))
        return min(count, limit) if limit else count

    async def estimated_document_count(self) -> int:
        return await self.count_documents({})

    # writing

    async def insert_one(self, document: Document) -> InsertOneResult:
        await asyncio.sleep(0)
        document.setdefault("_id", bson.ObjectId())
        self._inner.insert_one(_through_bson(document))
        return InsertOneResult(document["_id"], acknowledged=True)

    async def insert_many(self, documents: Iterable[Document], ordered: bool = True) -> InsertManyResult:
        every = list(documents)
        await self.bulk_write([InsertOne(document) for document in every], ordered=ordered)
        return InsertManyResult([document["_id"] for document in every], acknowledged=True)

    async def update_one(
        self, filter: Mapping[str, Any], update: Mapping[str, Any], upsert: bool = False
    ) -> UpdateResult:
        await asyncio.sleep(0)
        return self._update("update_one", filter, update, upsert)

    async def update_many(
        self, filter: Mapping[str, Any], update: Mapping[str, Any], upsert: bool = False
    ) -> UpdateResult:
        await asyncio.sleep(0)
        return self._update("update_many", filter, update, upsert)

    def _update(self, name: str, filter: Mapping[str, Any], update: Mapping[str, Any], upsert: bool) -> UpdateResult:
        done = getattr(self._inner, name)(_through_bson(filter), _through_bson(update), upsert=upsert)
        return UpdateResult(done.raw_result, acknowledged=True)

    async def replace_one(
        self, filter: Mapping[str, Any], replacement: Mapping[str, Any], upsert: bool = False
    ) -> UpdateResult:
        await asyncio.sleep(0)
        return self._update("replace_one", filter, replacement, upsert)

    async def delete_one(self, filter: Mapping[str, Any]) -> DeleteResult:
        await asyncio.sleep(0)
        return DeleteResult(self._inner.delete_one(_through_bson(filter)).raw_result, acknowledged=True)

    async def delete_many(self, filter: Mapping[str, Any]) -> DeleteResult:
        await asyncio.sleep(0)
        return DeleteResult(self._inner.delete_many(_through_bson(filter)).raw_result, acknowledged=True)

    async def find_one_and_update(
        self,
        filter: Mapping[str, Any],
        update: Mapping[str, Any],
        *,
        sort: Sequence[tuple[str, int]] | None = None,
        upsert: bool = False,
        return_document: bool = ReturnDocument.BEFORE,
    ) -> Document | None:
        """The document before the change, None when none was found. What it was after is outside the subset."""
        if return_document is not ReturnDocument.BEFORE:
            raise ValueError("ask for the document before the change")
        await asyncio.sleep(0)
        found = self._inner.find_one_and_update(
            _through_bson(filter), _through_bson(update), sort=list(sort) if sort else None, upsert=upsert
        )
        return _through_bson(found) if found is not None else None

    async def find_one_and_delete(
        self, filter: Mapping[str, Any], *, sort: Sequence[tuple[str, int]] | None = None
    ) -> Document | None:
        await asyncio.sleep(0)
        found = self._inner.find_one_and_delete(_through_bson(filter), sort=list(sort) if sort else None)
        return _through_bson(found) if found is not None else None

    async def bulk_write(self, requests: Sequence[Operation], ordered: bool = True) -> BulkWriteResult:
        """One operation after the other. mongomock's own does not know today's operations of pymongo."""
        if not requests:
            raise ValueError("No operations to execute")
        counts = {"nInserted": 0, "nMatched": 0, "nModified": 0, "nRemoved": 0, "nUpserted": 0}
        told: Document = {**counts, "upserted": [], "writeErrors": [], "writeConcernErrors": []}
        for index, request in enumerate(requests):
            await asyncio.sleep(0)  # a bulk is no transaction: others come in between
            try:
                self._bulk_one(index, request, told)
            except WriteError as error:
                told["writeErrors"].append({"index": index, "code": error.code, "errmsg": str(error), "op": request})
                if ordered:
                    break
        if told["writeErrors"]:
            raise BulkWriteError(told)
        return BulkWriteResult(told, acknowledged=True)

    def _bulk_one(self, index: int, request: Operation, told: Document) -> None:
        match request:
            case InsertOne():
                request._doc.setdefault("_id", bson.ObjectId())  # as pymongo does: callers read it
                self._inner.insert_one(_through_bson(request._doc))
                told["nInserted"] += 1
            case UpdateOne() | UpdateMany():
                name = "update_one" if isinstance(request, UpdateOne) else "update_many"
                done = self._update(name, request._filter, cast(Document, request._doc), bool(request._upsert))
                told["nMatched"] += done.matched_count
                told["nModified"] += done.modified_count or 0
                if done.upserted_id is not None:
                    told["nUpserted"] += 1
                    told["upserted"].append({"index": index, "_id": done.upserted_id})
            case DeleteOne() | DeleteMany():
                name = "delete_one" if isinstance(request, DeleteOne) else "delete_many"
                told["nRemoved"] += getattr(self._inner, name)(_through_bson(request._filter)).deleted_count

    # indexes

    async def create_index(
        self, keys: Sequence[tuple[str, int]], *, name: str, unique: bool = False, sparse: bool = False
    ) -> str:
        await asyncio.sleep(0)
        told = self._inner.index_information().get(name)
        if told and [tuple(key) for key in told["key"]] != [tuple(key) for key in keys]:
            raise OperationFailure(f"An existing index has the same name as the requested index: {name}", 86)
        self._inner.create_index(list(keys), name=name, unique=unique, sparse=sparse)
        return name

    async def index_information(self) -> Document:
        await asyncio.sleep(0)
        return dict(self._inner.index_information())

    async def drop(self) -> None:
        await asyncio.sleep(0)
        self._inner.drop()
