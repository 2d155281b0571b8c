"""What the adapters ask of MongoDB, asked of each server there is, and of mongomock behind its wrapper.

What holds only under concurrency is asked of the server that HOMING_TEST_MONGODB names: FerretDB's findAndModify and
update read, compute and write back without a lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any, Literal, cast

import pytest
from pymongo import DeleteMany, DeleteOne, InsertOne, ReturnDocument, UpdateMany, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure

from runtime.mongo import Index, Mongo, MongoUnavailable, ensure_indexes, told_unavailable
from tests.mongo import KINDS, Kind, mongo
from tests.mongomock_async import open_mock

# No document here has arrays in arrays: FerretDB refuses them.
ROUNDS, WRITERS = 100, 8
COUNTS = 1000
FIELDS = 200
SECONDS = 60.0
Which = Literal["mock"] | Kind
ALL: tuple[Which, ...] = ("mock", *KINDS)
INDEXES = {
    "entry": [
        Index((("account", 1), ("mailbox", 1), ("uid", 1)), unique=True, name="place", sparse=False),
        Index((("pending", 1),), unique=False, name="pending", sparse=True),
    ]
}


@asynccontextmanager
async def opened(which: Which) -> AsyncIterator[Mongo]:
    if which == "mock":
        yield open_mock()
    else:
        async with mongo(which) as server:
            yield server


@pytest.fixture(params=ALL)
async def any_server(request: pytest.FixtureRequest) -> AsyncIterator[Mongo]:
    async with opened(request.param) as server:
        await ensure_indexes(server.database, INDEXES)
        yield server


def entry(id: int, uid: int, account: str = "a", mailbox: str = "m") -> dict[str, Any]:
    return {"_id": id, "account": account, "mailbox": mailbox, "uid": uid}


async def ids(server: Mongo, query: dict[str, Any], **more: Any) -> list[int]:
    return [d["_id"] for d in await server.database.entry.find(query, {"_id": 1}, **more).sort("_id", 1).to_list()]


async def test_a_unique_index_refuses_the_same_place_twice(any_server: Mongo) -> None:
    entries = any_server.database.entry
    await entries.insert_one(entry(1, 1))
    await entries.insert_one(entry(2, 1, mailbox="other"))
    for wrong in (entry(1, 2), entry(3, 1)):
        with pytest.raises(DuplicateKeyError), told_unavailable(MongoUnavailable):
            await entries.insert_one(wrong)
    assert await ids(any_server, {}) == [1, 2]


async def test_of_many_inserted_unordered_the_duplicates_alone_are_refused(any_server: Mongo) -> None:
    with pytest.raises(BulkWriteError) as told, told_unavailable(MongoUnavailable):
        await any_server.database.entry.insert_many([entry(n, n % 3) for n in range(6)], ordered=False)
    errors = told.value.details["writeErrors"]
    assert [(e["index"], e["code"]) for e in errors] == [(3, 11000), (4, 11000), (5, 11000)]
    assert await ids(any_server, {}) == [0, 1, 2]


async def test_of_many_inserted_in_order_what_follows_a_duplicate_is_not_done(any_server: Mongo) -> None:
    with pytest.raises(BulkWriteError) as told:
        await any_server.database.entry.insert_many([entry(1, 1), entry(2, 1), entry(3, 3)], ordered=True)
    assert [e["index"] for e in told.value.details["writeErrors"]] == [1]
    assert await ids(any_server, {}) == [1]


async def test_a_bulk_of_all_kinds_is_done_in_order(any_server: Mongo) -> None:
    entries = any_server.database.entry
    await entries.insert_many([entry(n, n) for n in range(6)])
    done = await entries.bulk_write(
        [
            InsertOne(entry(6, 6)),
            UpdateOne({"_id": 0}, {"$set": {"flags": 1}}),
            UpdateMany({"uid": {"$gte": 4}}, {"$set": {"flags": 2}, "$inc": {"n": 5}, "$max": {"top": 9}}),
            DeleteOne({"_id": 1}),
            DeleteMany({"uid": {"$in": [2, 3]}}),
        ]
    )
    assert (done.inserted_count, done.matched_count, done.deleted_count) == (1, 4, 3)
    assert await ids(any_server, {}) == [0, 4, 5, 6]
    assert await ids(any_server, {"flags": 2, "n": 5, "top": 9}) == [4, 5, 6]


async def test_a_bulk_tells_which_inserts_were_refused_and_does_the_rest(any_server: Mongo) -> None:
    entries = any_server.database.entry
    await entries.insert_one(entry(1, 1))
    with pytest.raises(BulkWriteError) as told, told_unavailable(MongoUnavailable):
        await entries.bulk_write(
            [
                UpdateOne({"_id": 1}, {"$set": {"seen": True}}),
                InsertOne(entry(2, 1)),
                InsertOne(entry(3, 3)),
                DeleteOne({"_id": 9}),
            ],
            ordered=False,
        )
    assert [e["index"] for e in told.value.details["writeErrors"]] == [1]
    assert await ids(any_server, {}) == [1, 3]
    assert await ids(any_server, {"seen": True}) == [1]


@pytest.mark.parametrize("which", ALL)
async def test_an_update_onto_a_taken_place_is_refused(which: Which) -> None:
    async with opened(which) as server:
        await ensure_indexes(server.database, INDEXES)
        await server.database.entry.insert_many([entry(1, 1), entry(2, -2)])
        # FerretDB refuses it too, yet as an internal error
        kind = OperationFailure if which == "ferretdb" else DuplicateKeyError
        with pytest.raises(kind), told_unavailable(MongoUnavailable):
            await server.database.entry.update_one({"_id": 2}, {"$set": {"uid": 1}})
        assert (await server.database.entry.find_one({"_id": 2}))["uid"] == -2


async def test_queries_of_the_subset(any_server: Mongo) -> None:
    entries = any_server.database.entry
    await entries.insert_many([entry(n, n) | ({"pending": n} if n % 2 else {}) for n in range(10)])
    assert await ids(any_server, {"uid": {"$gt": 2, "$lte": 5}}) == [3, 4, 5]
    assert await ids(any_server, {"uid": {"$gte": 2, "$lt": 4}}) == [2, 3]
    assert await ids(any_server, {"uid": {"$in": [1, 7, 99]}, "pending": {"$ne": 7}}) == [1]
    assert await ids(any_server, {"pending": {"$exists": False}, "uid": {"$lt": 5}}) == [0, 2, 4]
    assert await ids(any_server, {"pending": {"$lt": 4}}) == [1, 3]
    both = {"account": "a", "$or": [{"uid": {"$gte": 0, "$lte": 1}}, {"uid": {"$gte": 8, "$lte": 9}}]}
    assert await ids(any_server, both) == [0, 1, 8, 9]
    assert await entries.count_documents({"pending": {"$exists": True}}) == 5
    assert await entries.find_one({"_id": 99}) is None


async def test_sort_limit_skip_and_batches(any_server: Mongo) -> None:
    entries = any_server.database.entry
    await entries.insert_many([entry(n, n, mailbox=f"m{n % 3}") | {"seen": {"at": -n}} for n in range(9)])
    falling = entries.find({}, {"_id": 1}).sort([("mailbox", -1), ("uid", 1)]).skip(1).limit(4)
    assert [d["_id"] async for d in falling] == [5, 8, 1, 4]
    by_path = entries.find({"seen.at": {"$lte": -6}}).sort("seen.at", 1).batch_size(2)
    assert [d["_id"] for d in await by_path.to_list()] == [8, 7, 6]
    assert (await entries.find_one({}, sort=[("uid", -1)]))["_id"] == 8


async def test_projections_on_paths(any_server: Mongo) -> None:
    accounts = any_server.database.account
    boxes = {"one": {"uidnext": 1, "name": "INBOX"}, "two": {"uidnext": 5, "name": "Sent"}}
    await accounts.insert_one({"_id": "a", "rev": 1, "mailboxes": boxes, "journal": []})
    assert await accounts.find_one({"_id": "a"}, {"mailboxes.two.uidnext": 1, "rev": 1}) == {
        "_id": "a",
        "rev": 1,
        "mailboxes": {"two": {"uidnext": 5}},
    }
    assert await accounts.find_one({"_id": "a"}, {"_id": 0, "rev": 1}) == {"rev": 1}
    assert await accounts.find_one({"_id": "a"}, {"mailboxes": 0}) == {"_id": "a", "rev": 1, "journal": []}


async def test_set_unset_and_push_on_paths(any_server: Mongo) -> None:
    accounts = any_server.database.account
    await accounts.insert_one({"_id": "a", "rev": 1, "mailboxes": {"one": {"uidnext": 1}}, "journal": []})
    before = await accounts.find_one_and_update(
        {"_id": "a", "rev": 1},
        {
            "$set": {"rev": 2, "mailboxes.one.uidnext": 4, "mailboxes.two": {"uidnext": 1}},
            "$push": {"journal": {"op": "x", "uids": [1, 3]}},
        },
    )
    assert before == {"_id": "a", "rev": 1, "mailboxes": {"one": {"uidnext": 1}}, "journal": []}
    changed = await accounts.update_one({"_id": "a"}, {"$inc": {"mailboxes.two.uidnext": 6}, "$min": {"low": 3}})
    assert changed.matched_count == 1
    assert await accounts.find_one({"_id": "a"}) == {
        "_id": "a",
        "rev": 2,
        "low": 3,
        "mailboxes": {"one": {"uidnext": 4}, "two": {"uidnext": 7}},
        "journal": [{"op": "x", "uids": [1, 3]}],
    }
    assert [d["_id"] for d in await accounts.find({"journal.op": "x"}).to_list()] == ["a"]
    await accounts.update_one({"_id": "a"}, {"$unset": {"mailboxes.two": "", "low": ""}, "$set": {"journal": []}})
    assert await accounts.find_one({"_id": "a"}) == {
        "_id": "a",
        "rev": 2,
        "mailboxes": {"one": {"uidnext": 4}},
        "journal": [],
    }
    assert await accounts.find_one_and_update({"_id": "a", "rev": 1}, {"$set": {"rev": 9}}) is None
    missed = await accounts.update_one({"_id": "b"}, {"$set": {"rev": 9}})
    assert missed.matched_count == 0


async def test_an_upsert_makes_what_is_not_there(any_server: Mongo) -> None:
    locks = any_server.database.lock
    assert await locks.find_one_and_update({"_id": "x"}, {"$set": {"by": 1}}, upsert=True) is None
    done = await locks.update_one({"_id": "y"}, {"$set": {"by": 2}}, upsert=True)
    assert done.upserted_id == "y"
    assert await locks.find({}).sort("_id", 1).to_list() == [{"_id": "x", "by": 1}, {"_id": "y", "by": 2}]


async def test_what_was_read_is_not_what_is_kept(any_server: Mongo) -> None:
    accounts = any_server.database.account
    given = {"_id": "a", "list": [1], "pair": (1, 2)}
    await accounts.insert_one(given)
    given["list"].append(2)
    read = await accounts.find_one({"_id": "a"})
    assert read == {"_id": "a", "list": [1], "pair": [1, 2]}
    read["list"].append(3)
    assert (await accounts.find_one({"_id": "a"}))["list"] == [1]


async def test_bytes_of_many_chunks_come_back(any_server: Mongo) -> None:
    chunks = [{"_id": f"b:{n}", "data": bytes([n]) * 262_144} for n in range(24)]
    await any_server.database.chunk.insert_many(chunks)
    wanted = [chunk["_id"] for chunk in chunks]
    found = await any_server.database.chunk.find({"_id": {"$in": wanted}}).to_list()
    assert sorted(found, key=lambda d: wanted.index(d["_id"])) == chunks


# what an index orders, and what it cannot
VALUES: list[Any] = [0, 1, 2, 3, 2.0, 2.5, -1, 1 << 40, "a", "b", "", True, None, [1, 2], ["a", 3], {"x": 1}]


def some_condition(random: Random) -> Any:
    value = random.choice(VALUES)
    if random.random() < 0.5:
        return value
    several = random.sample(VALUES[:11], 3)
    made = {"$in": several, "$ne": value, "$exists": random.random() < 0.5}
    made |= {name: random.choice(VALUES[:11]) for name in ("$gt", "$gte", "$lt", "$lte")}
    return {name: made[name] for name in random.sample(sorted(made), random.choice([1, 1, 2]))}


@pytest.mark.parametrize("seed", range(8))
async def test_an_index_changes_no_answer(any_server: Mongo, seed: int) -> None:
    random = Random(seed)
    fields = ("a", "b", "c", "d.x")
    keys = [("a", "b"), ("b", "c", "a"), ("d.x",), ("c",)]
    made = [Index(tuple((k, 1) for k in key), False, f"i{n}", len(key) == 1) for n, key in enumerate(keys)]
    with_indexes, without = any_server.database.indexed, any_server.database.scanned
    await ensure_indexes(any_server.database, {"indexed": made})
    for n in range(60):
        document: dict[str, Any] = {f: random.choice(VALUES) for f in "abc" if random.random() < 0.8}
        document |= {"d": random.choice([{"x": random.choice(VALUES)}, [{"x": 1}, {"x": 2}], 5])}
        query = {field: some_condition(random) for field in random.sample(fields, random.choice([1, 2, 2, 3]))}
        change = {"$set": {"a": random.choice(VALUES), "n": n}, "$unset": {random.choice("bc"): ""}}
        for collection in (with_indexes, without):
            await collection.insert_one({"_id": n} | document)
            if n % 3 == 0:
                await collection.update_many(query, change)
            if n % 7 == 0:
                await collection.delete_one({"_id": n // 2})
        assert await told(with_indexes, query) == await told(without, query), query
    assert await told(with_indexes, {}) == await told(without, {})


async def told(collection: Any, query: dict[str, Any]) -> list[Any]:
    return cast("list[Any]", await collection.find(query).sort("_id", 1).to_list())


async def test_compare_and_set_has_one_winner() -> None:
    async with asyncio.timeout(SECONDS), mongo("mongodb") as server:
        accounts = server.database.account
        await accounts.insert_one({"_id": "a", "rev": 0, "by": None})

        async def attempt(rev: int, writer: int) -> bool:
            change = {"$set": {"rev": rev + 1, "by": writer}, "$push": {"won": [rev, writer]}}
            return await accounts.find_one_and_update({"_id": "a", "rev": rev}, change) is not None

        winners = []
        for rev in range(ROUNDS):
            won = await asyncio.gather(*(attempt(rev, writer) for writer in range(WRITERS)))
            assert sum(won) == 1
            winners.append([rev, won.index(True)])
        assert (await accounts.find_one({"_id": "a"}))["won"] == winners


@pytest.mark.parametrize("which", [ReturnDocument.BEFORE, ReturnDocument.AFTER], ids=["before", "after"])
async def test_find_and_modify_gives_no_number_twice(which: bool) -> None:
    async with asyncio.timeout(SECONDS), mongo("mongodb") as server:
        counters = server.database.counter
        await counters.insert_one({"_id": "x", "n": 0})

        async def take() -> list[int]:
            change = {"$inc": {"n": 1}}
            found = [
                await counters.find_one_and_update({"_id": "x"}, change, return_document=which) for _ in range(COUNTS)
            ]
            return [document["n"] for document in found if document]

        taken = [n for several in await asyncio.gather(*(take() for _ in range(WRITERS))) for n in several]
        first = 0 if which is ReturnDocument.BEFORE else 1
        assert sorted(taken) == list(range(first, first + WRITERS * COUNTS))


async def test_a_place_has_one_winner_among_inserts_at_once() -> None:
    async with asyncio.timeout(SECONDS), mongo("mongodb") as server:
        await ensure_indexes(server.database, INDEXES)
        entries = server.database.entry

        async def attempt(uid: int, writer: int) -> bool:
            try:
                await entries.insert_one(entry(uid * WRITERS + writer, uid))
            except DuplicateKeyError:
                return False
            return True

        for uid in range(ROUNDS):
            assert sum(await asyncio.gather(*(attempt(uid, writer) for writer in range(WRITERS)))) == 1
        assert await entries.count_documents({}) == ROUNDS


async def test_a_reader_sees_a_document_before_or_after_a_change_never_between() -> None:
    async with asyncio.timeout(SECONDS), mongo("mongodb") as server:
        accounts = server.database.account
        fields = [f"f{n}" for n in range(FIELDS)]
        await accounts.insert_one({"_id": "a"} | dict.fromkeys(fields, 0))
        writing = True

        async def write() -> None:
            nonlocal writing
            for n in range(COUNTS):
                await accounts.update_one({"_id": "a"}, {"$set": dict.fromkeys(fields, n)})
            writing = False

        async def read() -> None:
            while writing:
                found = await accounts.find_one({"_id": "a"}, {"_id": 0})
                assert found
                assert set(found) == set(fields)
                assert len(set(found.values())) == 1

        await asyncio.gather(write(), *(read() for _ in range(WRITERS - 1)))


@pytest.mark.parametrize("kind", KINDS)
async def test_change_streams_are_where_a_replica_set_is(kind: Kind) -> None:
    async with mongo(kind) as server:
        if server.replica_set:
            async with await server.database.account.watch() as changes:
                await server.database.account.insert_one({"_id": "a"})
                assert (await changes.next())["documentKey"] == {"_id": "a"}
        else:
            with pytest.raises(OperationFailure):
                async with await server.database.account.watch():
                    pass
