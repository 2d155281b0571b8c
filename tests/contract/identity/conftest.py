"""One world for each adapter of identity: the same tests for all of them."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from identity.model import Account, NewAccount, Origin, Principal, Role
from identity.passwords import LibpassHasher
from identity.port import Identity, Reason, Refused, Unavailable
from identity.settings import IdentitySettings, PasswordSettings
from runtime.clock import ManualClock
from runtime.mongo import Mongo, open_mongo
from runtime.portcall import PortCodec
from tests.mongo import dropped, mongo_url
from tests.mongomock_async import open_mock
from tests.served import identity_behind_http

DOMAIN = "test.example"
CHEAP = PasswordSettings(memory_kib=64, iterations=1, lanes=1, threads=2)
SETTINGS = IdentitySettings(default_domain=DOMAIN, trusted_networks=("198.51.100.0/24",), passwords=CHEAP)
HOME = Origin("127.0.0.1", "imap")


class CountingHasher:
    """A real but cheap hasher that counts what it is asked, and works only while `gate` is open."""

    def __init__(self) -> None:
        self._real = LibpassHasher(CHEAP)
        self.hashed = 0
        self.verified: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def hash(self, password: str) -> str:
        self.hashed += 1
        return self._real.hash(password)

    def verify(self, password: str, hash: str) -> bool:
        self.verified.append(hash)
        assert self.gate.wait(60)
        return self._real.verify(password, hash)

    def needs_update(self, hash: str) -> bool:
        return self._real.needs_update(hash)


@dataclass
class World:
    """An identity with one domain, and what a test needs beside it."""

    make: Callable[[World], Awaitable[Identity]]
    folder: Path
    clock: ManualClock = field(default_factory=ManualClock)
    hasher: CountingHasher = field(default_factory=CountingHasher)
    settings: IdentitySettings = SETTINGS
    home: Origin = HOME
    mongo_url: str | None = None
    mock: Mongo | None = None
    port: Identity = None  # type: ignore[assignment]  # set by `open`

    async def open(self) -> None:
        self.port = await self.make(self)

    async def reopen(self) -> None:
        await self.port.close()
        await self.open()

    async def add(self, local: str, password: str = "secret", **more: object) -> Account:
        address = local if "@" in local else f"{local}@{DOMAIN}"
        return await self.port.add_account(NewAccount(address, password, **more))  # type: ignore[arg-type]  # passed on

    async def admin(self) -> Account:
        return await self.add("admin", role=Role.ADMIN)

    async def sign_in(self, name: str, password: str = "secret", origin: Origin | str | None = None) -> Principal:
        if isinstance(origin, str):
            origin = Origin(origin, "imap")
        return await self.port.authenticate(name, password, origin or self.home)

    async def refusal(self, call: Awaitable[object]) -> Refused:
        with pytest.raises(Refused) as caught:
            await call
        return caught.value

    async def reason(self, call: Awaitable[object]) -> Reason:
        return (await self.refusal(call)).reason


async def sqlite(world: World) -> Identity:
    from identity.adapters.sqlite.adapter import open_sqlite

    return await open_sqlite(world.folder / "identity.db", world.settings, world.clock, world.hasher)


async def called(world: World) -> Identity:
    """SQLite behind calls as JSON, as the control socket carries them."""
    behind = await sqlite(world)
    codec = PortCodec(Identity, [Refused, Unavailable])

    async def send(call: object) -> object:
        return json.loads(json.dumps(await codec.serve(behind, json.loads(json.dumps(call)))))

    return codec.client(send)


async def http(world: World) -> Identity:
    """SQLite behind a real socket, as another process calls it."""
    return cast(Identity, await identity_behind_http(await sqlite(world)))


async def over_mongo(world: World, mongo: Mongo) -> Identity:
    from identity.adapters.mongo.adapter import open_mongo_identity

    return await open_mongo_identity(mongo, world.settings, world.clock, world.hasher)


async def mongo(world: World) -> Identity:
    """A database of mongo-java-server, or of a real MongoDB."""
    world.mongo_url = world.mongo_url or mongo_url("mongodb")
    return await over_mongo(world, await open_mongo(world.mongo_url))


async def ferretdb(world: World) -> Identity:
    """A second dialect of MongoDB's protocol, which has one writer at a time."""
    world.mongo_url = world.mongo_url or mongo_url("ferretdb")
    return await over_mongo(world, await open_mongo(world.mongo_url))


async def mongomock(world: World) -> Identity:
    """No server: what an adapter can be tried on everywhere, one operation after the other."""
    world.mock = world.mock or open_mock()
    return await over_mongo(world, world.mock)


ADAPTERS = {
    "sqlite": sqlite,
    "called": called,
    "http": http,
    "mongodb": mongo,
    "ferretdb": ferretdb,
    "mongomock": mongomock,
}

_LARGE = "test_import_of_five_thousand_and_the_bad_rows_among_them"
# What a stand-in cannot do, and no MongoDB lacks.
NOT_ON = {
    "mongomock": {_LARGE: "a minute: to keep a name unique it looks at all of them"},
    "ferretdb": {
        _LARGE: "more than ten seconds an operation: to keep a name unique it looks at all of them",
        "test_two_refreshes_at_once_give_one_pair_or_end_the_family": "its update reads and writes without a lock",
        "test_of_changes_at_once_one_comes_first": "its update reads and writes without a lock",
    },
}


@pytest.fixture(params=sorted(ADAPTERS))
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    if (why := NOT_ON.get(request.param, {}).get(request.node.originalname)) is not None:
        pytest.skip(f"{request.param}: {why}")
    world = World(ADAPTERS[request.param], tmp_path)
    await world.open()
    await world.port.add_domain(DOMAIN)
    yield world
    await world.port.close()
    if world.mongo_url is not None:
        await dropped(world.mongo_url)
