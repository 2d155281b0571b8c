"""The client: how it is opened, what it asks of the server, which errors mean "try later"."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import Any

import pytest
from pymongo import AsyncMongoClient, timeout
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConnectionFailure,
    CursorNotFound,
    DuplicateKeyError,
    ExecutionTimeout,
    InvalidOperation,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WriteConcernError,
    WriteError,
    WTimeoutError,
)
from pymongo.event_loggers import ConnectionPoolLogger
from pymongo.monitoring import ConnectionCheckOutStartedEvent, PoolClearedEvent

from runtime.mongo import (
    OPERATION_SECONDS,
    TEXT_LIMIT,
    Index,
    Mongo,
    MongoUnavailable,
    _client,
    ensure_indexes,
    open_mongo,
    told_unavailable,
)
from tests.mongo import KINDS, VARIABLES, Kind, mongo, skip
from tests.runtime.fakemongo import FakeMongo, fake_mongo
from tests.servers.build import JAVA, ServerMissing, built
from tests.servers.run import Running, paused, started

DUPLICATE = {"index": 0, "code": 11000, "errmsg": "E11000 duplicate key"}


def bulk(*errors: dict[str, object], concerns: tuple[dict[str, object], ...] = ()) -> BulkWriteError:
    return BulkWriteError({"writeErrors": list(errors), "writeConcernErrors": list(concerns)})


UNAVAILABLE: list[PyMongoError] = [
    ConnectionFailure("no"),
    AutoReconnect("connection closed"),
    NetworkTimeout("timed out"),
    NotPrimaryError("not primary"),
    ServerSelectionTimeoutError("No servers found yet, Timeout: 5.0s, Topology Description: <…>"),
    WaitQueueTimeoutError("Timed out while checking out a connection"),
    ExecutionTimeout("operation exceeded time limit", 50),
    WriteConcernError("waiting for replication timed out", 64),
    WTimeoutError("waiting for replication timed out", 64),
    CursorNotFound("cursor id 5 not found", 43),
    OperationFailure("interrupted at shutdown", 11600),
    OperationFailure("primary stepped down", 189),
    OperationFailure("shutdown in progress", 91),
    OperationFailure("authentication failed", 18),
    OperationFailure("a code of tomorrow", 99_999, {"errorLabels": ["RetryableWriteError"]}),
    WriteError("out of disk space", 14031),
    bulk({"index": 0, "code": 189, "errmsg": "stepped down"}),
    bulk(DUPLICATE, {"index": 1, "code": 11602, "errmsg": "interrupted"}),
    bulk(DUPLICATE, concerns=({"code": 64, "errmsg": "waiting for replication timed out"},)),
]
PASSED: list[Exception] = [
    DuplicateKeyError("E11000", 11000),
    WriteError("unknown operator", 9),
    OperationFailure("no such command", 59),
    bulk(DUPLICATE),
    InvalidOperation("Cannot use AsyncMongoClient after close"),
    KeyError("a mistake"),
]


class Later(Exception):
    pass


@pytest.mark.parametrize("error", UNAVAILABLE, ids=lambda e: f"{type(e).__name__}-{getattr(e, 'code', None)}")
def test_what_cannot_be_had_now_is_told_as_the_kind_asked_for(error: PyMongoError) -> None:
    with pytest.raises(Later) as told, told_unavailable(Later):
        raise error
    assert told.value.__cause__ is error
    assert type(error).__name__ in str(told.value)
    assert "Topology" not in str(told.value)
    # There are documents of ours in it: mail, hashes.
    assert "full error" not in str(told.value)
    assert len(str(told.value)) < TEXT_LIMIT + 60


@pytest.mark.parametrize("error", PASSED, ids=lambda e: f"{type(e).__name__}-{getattr(e, 'code', None)}")
def test_what_is_wrong_for_good_passes_as_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as told, told_unavailable(Later):
        raise error
    assert told.value is error


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:27017",
        "http://localhost/homing",
        "mongodb://",
        "mongodb://localhost:99999999/homing",
        "mongodb://us:er@x@localhost/homing",
        "mongodb://user:pass/hunter2@localhost/homing",
    ],
)
async def test_a_url_that_is_none_is_a_value_error(url: str) -> None:
    with pytest.raises(ValueError, match="MongoDB") as told:
        await open_mongo(url)
    assert "hunter2" not in str(told.value)


async def test_no_server_is_told_within_the_time_of_choosing_one() -> None:
    # Else it would be told within the half minute that is pymongo's own.
    async with asyncio.timeout(20):
        with pytest.raises(MongoUnavailable):
            await open_mongo("mongodb://127.0.0.1:1/homing?serverSelectionTimeoutMS=200")


async def test_a_server_too_old_for_the_driver_is_a_value_error() -> None:
    async with fake_mongo(maxWireVersion=6) as fake:
        with pytest.raises(ValueError, match="wire version"):
            await open_mongo(fake.url)


@pytest.mark.parametrize("told", [{"setName": "rs0"}, {"msg": "isdbgrid"}], ids=["replica set", "sharded"])
async def test_where_there_is_a_majority_it_is_asked_for(told: dict[str, str]) -> None:
    async with fake_mongo(**told) as fake:
        client = await open_mongo(fake.url)
        assert client.replica_set
        assert await touch(client, fake) == ({"w": "majority", "j": True}, {"level": "majority"})


async def test_a_lone_server_is_asked_for_its_journal() -> None:
    async with fake_mongo() as fake:
        client = await open_mongo(fake.url + "?w=0&readConcernLevel=linearizable")
        assert not client.replica_set
        assert await touch(client, fake) == ({"w": 1, "j": True}, None)


async def touch(client: Mongo, fake: FakeMongo) -> tuple[object, object]:
    """The concerns with which a write and a read came; closes the client."""
    fake.answers["find"] = {"ok": 1, "cursor": {"id": 0, "ns": "fake.c", "firstBatch": [{"_id": 1}]}}
    await client.database.c.insert_one({"_id": 1})
    assert await client.database.c.find_one({}) == {"_id": 1}
    assert client.database.name == "fake"
    await client.close()
    await client.close()
    return fake.sent("insert").get("writeConcern"), fake.sent("find").get("readConcern")


async def test_every_operation_carries_its_time_and_the_url_may_change_it() -> None:
    async with fake_mongo() as fake:
        client = await open_mongo(fake.url)
        await client.ping()
        assert 0 < fake.sent("ping")["maxTimeMS"] <= OPERATION_SECONDS * 1000
        await client.close()
        client = await open_mongo(fake.url + "?timeoutMS=500")
        await client.ping()
        assert 0 < fake.sent("ping")["maxTimeMS"] <= 500
        await client.close()


async def test_errors_over_the_wire() -> None:
    async with fake_mongo(setName="rs0") as fake:
        client = await open_mongo(fake.url)
        done = {"ok": 1, "n": 1}
        concern = {"code": 64, "errmsg": "waiting for replication timed out", "errInfo": {"wtimeout": True}}
        for answer in (
            {"ok": 0, "code": 10107, "errmsg": "not primary"},
            {"ok": 0, "code": 11600, "errmsg": "interrupted at shutdown"},
            {"ok": 0, "code": 50, "errmsg": "operation exceeded time limit"},
            done | {"writeConcernError": concern},
        ):
            fake.answers["insert"] = answer
            with pytest.raises(Later), told_unavailable(Later):
                await client.database.c.insert_one({"_id": 1})
            with pytest.raises(Later), told_unavailable(Later):
                await client.database.c.insert_many([{"_id": 1}], ordered=False)
        fake.answers["insert"] = done | {"writeErrors": [DUPLICATE]}
        with pytest.raises(DuplicateKeyError), told_unavailable(Later):
            await client.database.c.insert_one({"_id": 1})
        await client.close()


class Pool(ConnectionPoolLogger):
    """Counts how often the client has given up all its connections; told when so many more are asked for."""

    def __init__(self) -> None:
        self.cleared = self.awaited = 0
        self.asked = asyncio.Event()

    def connection_check_out_started(self, event: ConnectionCheckOutStartedEvent) -> None:
        self.awaited -= 1
        if not self.awaited:
            self.asked.set()

    def pool_cleared(self, event: PoolClearedEvent) -> None:
        self.cleared += 1


@pytest.mark.parametrize("replica_set", [True, False], ids=["replica set", "lone server"])
async def test_of_one_broken_connection_the_others_suffer_once(
    replica_set: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for a connection when one breaks is told so; that must not count as another one that breaks."""
    pool = Pool()
    monkeypatch.setattr("runtime.mongo.AsyncMongoClient", partial(AsyncMongoClient, event_listeners=[pool]))
    inserts: list[dict[str, Any]] = []

    def break_the_first(command: dict[str, Any]) -> dict[str, Any]:
        inserts.append(command)
        if len(inserts) == 1:
            raise ConnectionResetError
        return {"ok": 1, "n": 1}

    async with fake_mongo(**{"setName": "rs0"} if replica_set else {}) as fake:
        fake.answers["insert"] = break_the_first
        client = await open_mongo(fake.url + "?maxPoolSize=1&retryWrites=true")
        await client.ping()
        fake.awake.clear()
        pool.awaited = 2
        both = [asyncio.create_task(insert(client, number)) for number in (1, 2)]
        await pool.asked.wait()
        fake.awake.set()
        told = await asyncio.gather(*both)
        await client.database.c.insert_one({"_id": 3})
        if replica_set:
            assert told == ["done", "done"]
            assert [one["txnNumber"] for one in inserts[:2]] == [1, 1]
        else:
            assert told == ["unavailable", "unavailable"]
            assert len(inserts) == 2
        assert pool.cleared == 1
        await client.close()


async def insert(client: Mongo, number: int) -> str:
    try:
        with told_unavailable(MongoUnavailable):
            await client.database.c.insert_one({"_id": number})
    except MongoUnavailable:
        return "unavailable"
    return "done"


async def test_a_server_that_hangs_is_told_in_time_and_used_again_when_it_wakes() -> None:
    async with fake_mongo() as fake:
        client = await open_mongo(fake.url + "?timeoutMS=300")
        await client.ping()
        fake.awake.clear()
        async with asyncio.timeout(20):
            with pytest.raises(MongoUnavailable):
                await client.ping()
        fake.awake.set()
        await answers_again(client)
        await client.close()


async def answers_again(client: Mongo, seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while True:
            try:
                return await client.ping()
            except MongoUnavailable:
                await asyncio.sleep(0.02)


async def test_whoever_is_cancelled_as_a_wait_ends_leaves_the_drivers_lock_to_its_holder() -> None:
    """The driver waits half a second at a time for a server, and a look with a time of its own ends between."""
    client = _client("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=20000", "homing-tests")
    topology = client._topology
    look = asyncio.create_task(client.admin.command("ping"))
    async with asyncio.timeout(60):
        while not topology._condition._waiters:  # noqa: ASYNC110  # the driver has nothing else to wait for
            await asyncio.sleep(0)
        async with topology._lock:
            # its time is over, and it waits for the lock
            while topology._condition._waiters:  # noqa: ASYNC110  # as above
                await asyncio.sleep(0)
            look.cancel()
            for _ in range(10):
                await asyncio.sleep(0)
            assert topology._lock.locked()
            assert not look.done()
        with pytest.raises(asyncio.CancelledError):
            await look
        with pytest.raises(MongoUnavailable), told_unavailable(MongoUnavailable), timeout(0.2):
            await client.admin.command("ping")
        await client.close()


@pytest.fixture(params=KINDS)
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Mongo]:
    kind: Kind = request.param
    async with mongo(kind) as client:
        yield client


INDEXES = {
    "entry": [
        Index((("account", 1), ("mailbox", 1), ("uid", 1)), unique=True, name="place", sparse=False),
        Index((("account", 1), ("modseq", -1)), unique=False, name="changed", sparse=False),
        Index((("pending", 1),), unique=False, name="pending", sparse=True),
    ],
    "event": [Index((("trace", 1), ("at", 1)), unique=False, name="trace", sparse=False)],
    "blob": [],
}


async def test_indexes_are_made_once_and_hold(server: Mongo) -> None:
    database = server.database
    await ensure_indexes(database, INDEXES)
    first = await database.entry.index_information()
    await ensure_indexes(database, INDEXES)
    assert await database.entry.index_information() == first
    assert first["place"]["key"] == [("account", 1), ("mailbox", 1), ("uid", 1)]
    assert first["place"]["unique"] is True
    assert first["changed"]["key"] == [("account", 1), ("modseq", -1)]
    assert set(first) == {"_id_", "place", "changed", "pending"}

    place = {"account": "a", "mailbox": "m", "uid": 1}
    await database.entry.insert_one({"_id": 1, **place})
    with pytest.raises(DuplicateKeyError), told_unavailable(Later):
        await database.entry.insert_one({"_id": 2, **place})


async def test_an_index_made_again_with_other_options_is_refused(server: Mongo) -> None:
    await ensure_indexes(server.database, INDEXES)
    other = {"entry": [Index((("size", 1),), unique=False, name="place", sparse=False)]}
    with pytest.raises(OperationFailure):
        await ensure_indexes(server.database, other)


async def test_what_is_written_is_read_with_its_types(server: Mongo) -> None:
    wanted = {"_id": "x", "data": b"\0\xff", "far": 1 << 62, "near": -5, "float": 1.5, "none": None, "no": False}
    await server.database.c.insert_one(dict(wanted))
    assert await server.database.c.find_one({"_id": "x"}) == wanted


@pytest.mark.slow
@pytest.mark.skipif(bool(skip("mongodb")), reason=str(skip("mongodb")))
async def test_a_server_stopped_and_continued_is_had_again() -> None:
    with java_server() as server:
        client = await open_mongo(server.url + "/stopped")
        await client.database.c.insert_one({"_id": 1})
        with paused(server.pid):
            for work in (client.database.c.insert_one, client.database.c.find_one):
                begun = monotonic()
                with pytest.raises(MongoUnavailable), told_unavailable(MongoUnavailable):
                    await work({"_id": 2})
                assert monotonic() - begun < OPERATION_SECONDS + 10
        await answers_again(client)
        assert await client.database.c.find_one({"_id": 1}) == {"_id": 1}
        await client.close()


@contextmanager
def java_server() -> Iterator[Running]:
    """A server that this test alone uses, and may stop."""
    try:
        built(JAVA)
    except ServerMissing as error:
        pytest.skip(f"{VARIABLES['mongodb']} names a server that must not be stopped, and {error}")
    with started(JAVA) as server:
        yield server
