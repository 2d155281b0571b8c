"""The MongoDB server of a benchmark: the one that is named by the environment, or else the stand-in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from runtime.mongo import open_mongo
from tests.mongo import VARIABLES, configured, dropped, mongo_url
from tests.servers.build import JAVA
from tests.servers.run import started


@dataclass(frozen=True, slots=True)
class Database:
    """A fresh database. short, words: what the server is, for a table's head and below it. pid: of a stand-in."""

    url: str
    short: str
    words: str
    pid: int | None


@contextmanager
def database() -> Iterator[Database]:
    """On HOMING_TEST_MONGODB, dropped at the end, or on a stand-in of its own."""
    if configured(VARIABLES["mongodb"]):
        url = mongo_url("mongodb")
        try:
            yield _described(url, None)
        finally:
            asyncio.run(dropped(url))
    else:
        with started(JAVA) as server:
            yield _described(f"{server.url}/homing", server.pid)


def _described(url: str, pid: int | None) -> Database:
    replica_set, version = asyncio.run(_asked(url))
    if replica_set:
        return Database(url, f"MongoDB {version}", f"The database is MongoDB {version}, a replica set.", pid)
    words = (
        "mongo-java-server is not MongoDB: it keeps all in memory and nothing on disk, writes no journal and has no"
        " other members to wait for. Its figures show what the processes and their protocol cost, not MongoDB's speed."
    )
    return Database(url, "mongo-java-server (not MongoDB)", words, pid)


async def _asked(url: str) -> tuple[bool, str]:
    mongo = await open_mongo(url, app="homing-bench")
    try:
        return mongo.replica_set, (await mongo.database.client.server_info())["version"]
    finally:
        await mongo.close()
