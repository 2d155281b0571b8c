"""The contract suite of the task queue: each test runs once for every adapter in ADAPTERS."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
import redis.asyncio as redis

from connectors.tasks.adapters.redis import RedisTasks
from connectors.tasks.adapters.spool import SpoolTasks
from connectors.tasks.model import Claimed, NewTask
from connectors.tasks.port import TaskQueue
from runtime.clock import ManualClock
from runtime.mongo import Mongo, open_mongo
from storage.adapters.mongo.adapter import MongoStorage
from storage.adapters.sqlite.adapter import SqliteStorage
from storage.model import SYSTEM, Operation
from storage.port import Storage
from tests.mongo import mongo_url
from tests.mongomock_async import open_mock
from tests.redisserver import redis_url
from tests.served import storage_behind_http

MOST = 5
"""Tasks without an end that an account may have here."""
BEGIN = 1_700_000_000.0


class World:
    """A queue, and the time that it sees."""

    def __init__(self, queue: TaskQueue, clock: ManualClock, close: Callable[[], Awaitable[None]]) -> None:
        self.queue = queue
        self.clock = clock
        self.close = close

    def later(self, seconds: float) -> None:
        self.clock.advance(seconds)

    async def put(self, to: str = "x@far.example", account: str = "ann", key: str = "", **how: Any) -> str:
        return await self.queue.put(new_task(to, account, **how), key or uuid.uuid4().hex)

    async def claim(self, limit: int = 10, lease: float = 60.0) -> tuple[Claimed, ...]:
        return await self.queue.claim(limit, lease)

    async def claimed(self) -> Claimed:
        (one,) = await self.claim()
        return one


def new_task(
    to: str = "x@far.example", account: str = "ann", content: bytes = b"Subject: x\r\n\r\nHello\r\n"
) -> NewTask:
    return NewTask(account, "ann@example.org", to, content, "trace-1", "digest-1")


async def _spool(store: Storage, clock: ManualClock) -> World:
    for account in ("ann", "bob"):
        await store.open_account(Operation(uuid.uuid4().hex, SYSTEM), account)
    queue = SpoolTasks(store, waiting_max=MOST, clock=clock)

    async def close() -> None:
        await queue.close()
        await store.close()

    return World(queue, clock, close)


async def _sqlite_store(folder: Path, clock: ManualClock) -> SqliteStorage:
    store = SqliteStorage(folder, clock=clock)
    await store.open(index=False)
    return store


async def _sqlite(folder: Path) -> World:
    clock = ManualClock(BEGIN)
    return await _spool(await _sqlite_store(folder, clock), clock)


async def _http(folder: Path) -> World:
    clock = ManualClock(BEGIN)
    return await _spool(cast(Storage, await storage_behind_http(await _sqlite_store(folder, clock))), clock)


async def _on_mongo(mongo: Mongo) -> World:
    clock = ManualClock(BEGIN)
    store = MongoStorage(mongo, clock=clock)
    await store.open()
    world = await _spool(cast(Storage, store), clock)
    close = world.close

    async def dropped() -> None:
        await store._commits.finish()
        await mongo.database.client.drop_database(mongo.database.name)
        await close()

    world.close = dropped
    return world


async def _mongodb(folder: Path) -> World:
    return await _on_mongo(await open_mongo(mongo_url("mongodb"), app="homing-tests"))


async def _ferretdb(folder: Path) -> World:
    return await _on_mongo(await open_mongo(mongo_url("ferretdb"), app="homing-tests"))


async def _mongomock(folder: Path) -> World:
    return await _on_mongo(open_mock())


async def _redis(folder: Path) -> World:
    clock = ManualClock()
    prefix = f"{{{uuid.uuid4().hex}}}:"
    client = redis.Redis.from_url(redis_url())
    queue = RedisTasks(client, prefix=prefix, waiting_max=MOST, ahead=clock.monotonic)
    await queue.prepare()

    async def close() -> None:
        async for name in client.scan_iter(f"{prefix}*", count=1000):
            await client.delete(name)
        await queue.close()

    return World(queue, clock, close)


# One line for each adapter.
ADAPTERS: dict[str, Callable[[Path], Awaitable[World]]] = {
    "ferretdb": _ferretdb,
    "http": _http,
    "mongodb": _mongodb,
    "mongomock": _mongomock,
    "redis": _redis,
    "sqlite": _sqlite,
}


LEFT_OUT = {
    ("ferretdb", "test_many_claimants_share_and_none_twice"),
    ("ferretdb", "test_many_puts_of_one_key_are_one_task"),
}
"""FerretDB takes one writer at a time: its updates read, compute and write back without a lock."""


@pytest.fixture(params=sorted(ADAPTERS))
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    if (request.param, request.node.originalname) in LEFT_OUT:
        pytest.skip("FerretDB takes one writer at a time")
    found = await ADAPTERS[request.param](tmp_path)
    try:
        yield found
    finally:
        await found.close()
