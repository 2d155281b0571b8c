"""The wrapper of mongomock: what it adds to mongomock (what the servers offer too is in test_subset.py)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from bson.errors import InvalidDocument
from pymongo import DeleteMany, InsertOne, ReturnDocument, UpdateMany, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure

from runtime.mongo import Index, ensure_indexes
from tests.mongomock_async import open_mock


async def test_each_opening_has_its_own_data_and_no_majority() -> None:
    first, second = open_mock("same"), open_mock("same")
    await first.database.c.insert_one({"_id": 1})
    assert await second.database.c.count_documents({}) == 0
    assert not first.replica_set
    await first.ping()
    await first.close()


async def test_other_tasks_run_between_operations() -> None:
    counters = open_mock().database.counter
    await counters.insert_one({"_id": "x", "n": 0})
    order: list[int] = []

    async def take(name: int) -> None:
        for _ in range(3):
            await counters.find_one_and_update({"_id": "x"}, {"$inc": {"n": 1}})
            order.append(name)

    await asyncio.gather(take(1), take(2))
    assert order == [1, 2, 1, 2, 1, 2]
    assert await counters.find_one({"_id": "x"}) == {"_id": "x", "n": 6}


async def test_a_read_then_write_race_shows() -> None:
    counters = open_mock().database.counter
    await counters.insert_one({"_id": "x", "n": 0})

    async def unsafe() -> None:
        found = await counters.find_one({"_id": "x"})
        assert found
        await counters.update_one({"_id": "x"}, {"$set": {"n": found["n"] + 1}})

    await asyncio.gather(*(unsafe() for _ in range(5)))
    assert await counters.find_one({"_id": "x"}) == {"_id": "x", "n": 1}


@pytest.mark.parametrize("value", [object(), {1, 2}, 1 << 64, {1: "a"}], ids=["object", "set", "int", "key"])
async def test_what_bson_cannot_hold_is_refused_as_by_the_driver(value: object) -> None:
    things = open_mock().database.c
    with pytest.raises((InvalidDocument, OverflowError)):
        await things.insert_one({"_id": 1, "value": value})
    await things.insert_one({"_id": 2})
    with pytest.raises((InvalidDocument, OverflowError)):
        await things.update_one({"_id": 2}, {"$set": {"value": value}})


async def test_times_come_back_with_their_zone() -> None:
    things = open_mock().database.c
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    await things.insert_one({"_id": 1, "at": at})
    assert (await things.find_one({"at": {"$gte": at}}))["at"] == at


async def test_a_bulk_in_order_stops_at_the_first_error_and_tells_what_was_done() -> None:
    things = open_mock().database.c
    with pytest.raises(BulkWriteError) as told:
        await things.bulk_write([InsertOne({"_id": 1}), InsertOne({"_id": 1}), InsertOne({"_id": 2})])
    assert told.value.details["nInserted"] == 1
    assert [(e["index"], e["code"]) for e in told.value.details["writeErrors"]] == [(1, 11000)]
    assert await things.count_documents({}) == 1


async def test_a_bulk_counts_as_the_driver_does() -> None:
    things = open_mock().database.c
    await things.insert_many([{"_id": n, "n": n} for n in range(5)])
    done = await things.bulk_write(
        [
            UpdateMany({"n": {"$lt": 2}}, {"$set": {"n": 1}}),
            UpdateOne({"_id": "new"}, {"$set": {"n": 9}}, upsert=True),
            DeleteMany({"n": {"$gt": 2}}),
        ],
        ordered=False,
    )
    assert (done.matched_count, done.modified_count) == (2, 1)
    assert (done.upserted_count, done.upserted_ids, done.deleted_count) == (1, {1: "new"}, 3)
    with pytest.raises(ValueError, match="No operations"):
        await things.bulk_write([])


async def test_inserted_documents_without_an_id_get_one() -> None:
    things = open_mock().database.c
    document: dict[str, object] = {"n": 1}
    done = await things.insert_one(document)
    assert document["_id"] == done.inserted_id
    several: list[dict[str, object]] = [{"n": 2}, {"n": 3}]
    assert (await things.insert_many(several)).inserted_ids == [d["_id"] for d in several]


async def test_a_cursor_is_read_in_parts() -> None:
    things = open_mock().database.c
    await things.insert_many([{"_id": n} for n in range(5)])
    cursor = things.find({}).sort("_id", -1)
    assert [d["_id"] for d in await cursor.to_list(2)] == [4, 3]
    assert [d["_id"] async for d in cursor] == [2, 1, 0]
    assert await cursor.to_list() == []
    async with things.find({}, sort=[("_id", 1)], skip=1, limit=2) as second:
        assert [d["_id"] async for d in second] == [1, 2]


async def test_what_is_outside_the_subset_is_not_there() -> None:
    database = open_mock().database
    with pytest.raises(ValueError, match="before"):
        await database.c.find_one_and_update({}, {"$set": {"a": 1}}, return_document=ReturnDocument.AFTER)
    with pytest.raises(OperationFailure):
        await database.command("explain")
    with pytest.raises(AttributeError):
        await database.c.aggregate([])
    with pytest.raises(AttributeError):
        await database.c.watch()


async def test_sparse_unique_indexes_and_dropping() -> None:
    mock = open_mock()
    key = Index((("key", 1),), unique=True, name="key", sparse=True)
    await ensure_indexes(mock.database, {"c": [key]})
    await mock.database.c.insert_many([{"_id": 1}, {"_id": 2}, {"_id": 3, "key": "x"}])
    with pytest.raises(DuplicateKeyError):
        await mock.database.c.update_one({"_id": 1}, {"$set": {"key": "x"}})
    assert (await mock.database.c.index_information())["key"]["unique"] is True
    assert await mock.database.list_collection_names() == ["c"]
    await mock.database.c.drop()
    assert await mock.database.list_collection_names() == []
    await mock.database.c.insert_one({"_id": 1})
    await mock.database.client.drop_database(mock.database.name)
    assert await mock.database.c.count_documents({}) == 0
