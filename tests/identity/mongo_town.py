"""Several identity processes over one MongoDB database, any of which can die between two of its steps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from identity.adapters.mongo.adapter import MongoIdentity, open_mongo_identity
from identity.guesspolicy import GuessRules
from identity.model import Account, NewAccount, Origin, Role
from identity.port import Unavailable
from identity.settings import IdentitySettings, PasswordSettings
from runtime.clock import ManualClock
from runtime.mongo import Mongo, open_mongo
from tests.mongo import dropped, mongo_url
from tests.mongomock_async import open_mock

D = "test.example"
HOME = Origin("127.0.0.1", "imap")
CHEAP = PasswordSettings(memory_kib=64, iterations=1, lanes=1, threads=2)
SETTINGS = IdentitySettings(default_domain=D, passwords=CHEAP, guesses=GuessRules())


class DeadError(Exception):
    """What a process meets that is dead."""


class Town:
    """Opens processes; closes them all in the end."""

    def __init__(self, url: str | None) -> None:
        self.clock = ManualClock()
        self._url = url
        self._mock = open_mock() if url is None else None
        self._open: list[MongoIdentity] = []

    async def client(self) -> Mongo:
        """A client of the database."""
        if self._url is None:
            assert self._mock is not None
            return self._mock
        return await open_mongo(self._url)

    async def process(self, settings: IdentitySettings = SETTINGS) -> MongoIdentity:
        identity = await open_mongo_identity(await self.client(), settings, self.clock)
        self._open.append(identity)
        return identity

    async def settled(self) -> MongoIdentity:
        """A process that does its upkeep only when told, with the domain and two administrators."""
        identity = await self.process()
        await identity.stop()
        await identity.add_domain(D)
        for name in ("admin", "second"):
            await self.add(identity, name, role=Role.ADMIN)
        return identity

    async def add(self, identity: MongoIdentity, local: str, password: str = "secret", **more: Any) -> Account:
        return await identity.add_account(NewAccount(f"{local}@{D}", password, **more))

    async def close(self) -> None:
        for identity in self._open:
            identity._database.on_step = None
            await identity.close()
        if self._url is not None:
            await dropped(self._url)


class Steps:
    """Counts the steps of a process (each command, and each answer), and lets it die at the one of number `last`."""

    def __init__(self, last: int | None = None) -> None:
        self.names: list[str] = []
        self._last = last

    def __call__(self, name: str) -> None:
        self.names.append(name)
        if self._last is not None and len(self.names) > self._last:
            raise DeadError(name)


class Stumble:
    """Lets the one step of number `at` fail, as a database that is away for a moment."""

    def __init__(self, at: int) -> None:
        self._left = at
        self.stumbled = False

    def __call__(self, name: str) -> None:
        self._left -= 1
        if self._left == -1:
            self.stumbled = True
            raise Unavailable(name)


async def killed(identity: MongoIdentity, call: Any, last: int) -> bool:
    """Let the process begin the call and die at a step of it. False when it came to its end before."""
    await identity.stop()
    identity._database.on_step = Steps(last)
    try:
        await call
    except DeadError:
        return True
    finally:
        # Whatever it would still do fails too, as for a process that is gone.
        identity._database.on_step = Steps(0)
        await asyncio.gather(identity._writes.close(), identity._guesses.close(), return_exceptions=True)
    return False


@asynccontextmanager
async def town_of(server: str) -> AsyncIterator[Town]:
    town = Town(mongo_url("mongodb") if server == "mongodb" else None)
    try:
        yield town
    finally:
        await town.close()
