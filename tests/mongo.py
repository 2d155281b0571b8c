"""The MongoDB servers that tests run against: found by environment variables, a fresh database for each use.

HOMING_TEST_MONGODB (or else MONGODB_URL) names mongo-java-server or a real MongoDB, HOMING_TEST_FERRETDB FerretDB. A
database in these URLs is left alone. `python -m tests.servers.run -- pytest …` builds and starts the two stand-ins and
sets the variables.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

import pytest

from runtime.ids import new_id
from runtime.mongo import Mongo, open_mongo

Kind = Literal["mongodb", "ferretdb"]
KINDS: tuple[Kind, ...] = ("mongodb", "ferretdb")
VARIABLES: dict[Kind, str] = {"mongodb": "HOMING_TEST_MONGODB", "ferretdb": "HOMING_TEST_FERRETDB"}
REQUIRED = "HOMING_TEST_SERVERS_REQUIRED"
"""With this set, as .ci/run has it, what would be skipped for want of a server fails (tests/conftest.py)."""
PATIENT = "&".join(f"{name}=60000" for name in ("timeoutMS", "serverSelectionTimeoutMS", "connectTimeoutMS"))
"""Options of the URLs, which a URL of the environment that has any comes without: a stand-in on a busy machine is slow,
and not away. Milliseconds."""
HOW = "python -m tests.servers.run -- … starts a stand-in and sets it"


def configured(variable: str) -> str | None:
    """The URL that the environment has for this one of VARIABLES."""
    instead = os.environ.get("MONGODB_URL") if variable == VARIABLES["mongodb"] else None
    return os.environ.get(variable) or instead or None


def skip(kind: Kind) -> str | None:
    """Why tests against this server cannot run here, or None when they can."""
    return None if configured(VARIABLES[kind]) else f"{VARIABLES[kind]} is not set: {HOW}"


def mongo_url(kind: Kind) -> str:
    """A URL of the server with the name of a database that nobody else uses; skips the test where there is none.

    Who asks for a URL drops the database: `dropped(url)`, or use `mongo(kind)`.
    """
    url = configured(VARIABLES[kind])
    if not url:
        pytest.skip(str(skip(kind)))
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"/homing_test_{new_id()}", query=parts.query or PATIENT))


async def dropped(url: str) -> None:
    """Drop the URL's database."""
    mongo = await open_mongo(url, app="homing-tests")
    try:
        await mongo.database.client.drop_database(mongo.database.name)
    finally:
        await mongo.close()


@asynccontextmanager
async def mongo(kind: Kind) -> AsyncIterator[Mongo]:
    """A client with a fresh database, which is dropped at the end."""
    url = mongo_url(kind)
    client = await open_mongo(url, app="homing-tests")
    try:
        yield client
    finally:
        await client.database.client.drop_database(client.database.name)
        await client.close()
