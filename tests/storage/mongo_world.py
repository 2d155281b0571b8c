"""Several processes on one database of the MongoDB adapter: as many stores, each stopped or killed as a test likes."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from runtime.clock import ManualClock
from runtime.mongo import Mongo, open_mongo
from storage.adapters.mongo.adapter import MongoStorage
from storage.model import ALL_UIDS, SYSTEM, Delivery, LocalRecipient, Operation, RemoteRecipient
from tests.mongo import dropped, mongo_url, skip
from tests.mongomock_async import open_mock
from tests.reading import entries_of
from tests.storage.mongo_documents import problems

PATIENCE = 0.02
KINDS = ("mongomock", "mongodb")


class Killed(Exception):
    """What a process that is killed at a step would have said."""


class Steps:
    """Counts the steps of one store, and does something at one of them."""

    def __init__(self, at: int = 0) -> None:
        self.count = 0
        self.at = at
        self.on = True

    def __call__(self, step: str) -> Awaitable[None] | None:
        if not self.on:
            return None
        self.count += 1
        return self.act(step)

    def act(self, step: str) -> Awaitable[None] | None:
        return None


class Kill(Steps):
    """From step ``at`` on every command fails: the process is dead, and knows nothing of the last one's answer."""

    def act(self, step: str) -> None:
        if self.at and self.count >= self.at:
            raise Killed


class Stop(Steps):
    """Waits at step ``at`` until it is told to go on."""

    def __init__(self, at: int = 0) -> None:
        super().__init__(at)
        self.stopped = asyncio.Event()
        self.go_on = asyncio.Event()

    def act(self, step: str) -> Awaitable[None] | None:
        return self._wait() if self.count == self.at else None

    async def _wait(self) -> None:
        self.stopped.set()
        await self.go_on.wait()


class World:
    """One database. url: None for mongomock."""

    def __init__(self, url: str | None) -> None:
        self.url = url
        self.clock = ManualClock()
        self._mock = open_mock() if url is None else None
        self._stores: list[MongoStorage] = []
        self.mongo: Mongo

    async def store(self, on_step: Callable[[str], Awaitable[None] | None] | None = None) -> MongoStorage:
        """Another process."""
        mongo = self._mock if self._mock is not None else await open_mongo(str(self.url), app="homing-tests")
        self.mongo = mongo
        found = MongoStorage(mongo, clock=self.clock, on_step=on_step, patience=PATIENCE)
        if not self._stores:
            await found.open()
        self._stores.append(found)
        return found

    async def problems(self, *, swept: bool = False) -> list[str]:
        """What is wrong, once all journals are carried out."""
        store = await self.store()
        for doc in await self.mongo.database["account"].find({}).to_list():
            await store.accounts.find(doc["_id"])
        return await problems(self.mongo, swept=swept)

    async def swept(self) -> list[str]:
        """What is wrong after the grace, when all that nobody needs must be gone."""
        store = await self.store()
        self.clock.advance(7300)
        for _ in range(100):
            if not (await store.sweep()).more:
                break
        # What was looked at only now has its grace from here.
        self.clock.advance(7300)
        for _ in range(100):
            if not (await store.sweep()).more:
                break
        return await self.problems(swept=True)

    async def close(self) -> None:
        for store in self._stores:
            await store.close()


@asynccontextmanager
async def world(kind: str) -> AsyncIterator[World]:
    if kind == "mongodb" and (why := skip("mongodb")):
        pytest.skip(why)
    url = mongo_url("mongodb") if kind == "mongodb" else None
    found = World(url)
    try:
        yield found
    finally:
        await found.close()
        if url is not None:
            await dropped(url)


def operation(actor: str = SYSTEM, id: str | None = None) -> Operation:
    return Operation(id or uuid.uuid4().hex, actor)


def delivery(
    text: str, *accounts: str, op: Operation | None = None, remote: tuple[str, ...] = (), **recipient: Any
) -> Delivery:
    content = f"From: Eve <eve@example.net>\r\nSubject: {text}\r\n\r\n{text}\r\n".encode()
    return Delivery(
        op or operation(),
        content,
        "eve@example.net",
        1.0,
        "trace",
        tuple(LocalRecipient(account, f"{account}@example.org", **recipient) for account in accounts),
        tuple(RemoteRecipient(address) for address in remote),
    )


async def seen(store: MongoStorage, account: str) -> Any:
    """All that is to be seen of an account, without the ids that differ from one run to the next."""
    boxes = []
    for box in (await store.list_mailboxes(account)).mailboxes:
        messages = [
            (entry.uid, entry.modseq, entry.flags, entry.keywords)
            for entry in await entries_of(store, box.ref, ALL_UIDS, 16_384)
        ]
        changes = await store.changes(box.ref, 0, 16_384)
        told = {entry.uid: entry.modseq for entry in changes.entries}
        assert told == {uid: modseq for uid, modseq, *_ in messages}
        counters = (box.uidnext, box.messages, box.unseen, box.deleted, box.recent, box.size, box.special_use)
        boxes.append((box.name, counters, tuple(messages), changes.vanished))
    listed = await store.list_mailboxes(account)
    refs = [box.ref for box in listed.mailboxes]
    annotated = [(one.entry, one.modseq, one.value) for one in await store.annotations(refs)]
    return tuple(boxes), sorted(listed.subscriptions), await store.usage(account), annotated
