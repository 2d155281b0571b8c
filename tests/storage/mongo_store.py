"""The storage adapter for MongoDB with its inside at hand: for tests of what the port does not show."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from runtime.clock import ManualClock
from runtime.ids import new_id
from runtime.mongo import Mongo, open_mongo
from storage.adapters.mongo.adapter import MongoStorage
from storage.model import SYSTEM, Delivery, LocalRecipient, MailboxRef, Operation, RemoteRecipient, StagedBlob
from tests.mongo import dropped, mongo_url

Document = dict[str, Any]
OnStep = Callable[[str], Awaitable[None] | None]
COLLECTIONS = ("entry", "email", "blob", "chunk", "text", "vanished", "spool", "removed")
"""What belongs to messages; none of it may be left over."""


class Store:
    """A database, and as many processes' stores on it as a test opens."""

    def __init__(self, url: str, mongo: Mongo) -> None:
        self.url = url
        self.mongo = mongo
        self.clock = ManualClock()
        self.opened: list[MongoStorage] = []

    async def open(self, on_step: OnStep | None = None) -> MongoStorage:
        """Another process's store."""
        storage = MongoStorage(
            await open_mongo(self.url, app="homing-tests"), clock=self.clock, on_step=on_step, patience=0.05
        )
        await storage.open()
        self.opened.append(storage)
        return storage

    async def all(self, collection: str) -> list[Document]:
        """Every document, by id."""
        return await self.mongo.database[collection].find(sort=[("_id", 1)]).to_list()

    async def counts(self) -> dict[str, int]:
        """How many documents there are of each kind, where there are any."""
        found = {name: await self.mongo.database[name].count_documents({}) for name in COLLECTIONS}
        return {name: count for name, count in found.items() if count}

    async def empty(self) -> None:
        """Begin anew: close all stores and delete all documents."""
        for storage in self.opened:
            await storage.close()
        self.opened.clear()
        for name in await self.mongo.database.list_collection_names():
            await self.mongo.database[name].delete_many({})

    async def ref(self, storage: MongoStorage, account: str = "ann", name: str = "INBOX") -> MailboxRef:
        return (await storage.mailbox(account, name)).ref

    def delivery(
        self, *accounts: str, content: bytes | StagedBlob, id: str | None = None, remote: tuple[str, ...] = ()
    ) -> Delivery:
        return Delivery(
            op(SYSTEM, id),
            content,
            "eve@example.net",
            self.clock.now(),
            "trace",
            tuple(LocalRecipient(account, f"{account}@example.org", flags=8) for account in accounts),
            tuple(RemoteRecipient(address) for address in remote),
        )


def op(actor: str = SYSTEM, id: str | None = None) -> Operation:
    return Operation(id or new_id(), actor)


def message(text: str, size: int = 0) -> bytes:
    head = f"From: Eve <eve@example.net>\r\nSubject: {text}\r\n\r\n{text}\r\n".encode()
    return head + b"x" * max(0, size - len(head))


async def pieces(content: bytes, size: int = 200_000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def sweep_all(storage: MongoStorage, grace: float = 3600.0) -> list[Any]:
    """Rounds of the sweep until one finds nothing more to do."""
    reports = [await storage.sweep(grace)]
    while reports[-1].more:
        reports.append(await storage.sweep(grace))
        assert len(reports) < 100
    return reports


@asynccontextmanager
async def mongo_store() -> AsyncIterator[Store]:
    """A fresh database, dropped at the end; skips where there is no server."""
    url = mongo_url("mongodb")
    mongo = await open_mongo(url, app="homing-tests")
    store = Store(url, mongo)
    try:
        yield store
    finally:
        for storage in store.opened:
            await storage.close()
        await mongo.close()
        await dropped(url)
