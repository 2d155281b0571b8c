"""The contract suite's fixtures: each test runs once for every adapter in ADAPTERS."""

from __future__ import annotations

import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from runtime.clock import ManualClock
from runtime.mongo import Mongo, open_mongo
from storage.adapters.mongo.adapter import MongoStorage
from storage.adapters.sqlite.adapter import SqliteStorage
from storage.model import (
    ALL_UIDS,
    SYSTEM,
    Accepted,
    Delivery,
    Event,
    LocalRecipient,
    MailboxRef,
    NewMessage,
    Operation,
    RemoteRecipient,
    StagedBlob,
)
from storage.port import Storage
from tests.mongo import mongo_url
from tests.mongomock_async import open_mock
from tests.reading import entries_of
from tests.served import storage_behind_http

Factory = Callable[[Path, ManualClock, Callable[[str], None] | None], Awaitable[Storage]]


async def _sqlite(folder: Path, clock: ManualClock, on_step: Callable[[str], None] | None) -> Storage:
    store = SqliteStorage(folder, clock=clock, on_step=on_step)
    await store.open(index=False)
    return store


async def _http(folder: Path, clock: ManualClock, on_step: Callable[[str], None] | None) -> Storage:
    """SQLite behind a real socket: its clock and its steps are those of the test."""
    return cast(Storage, await storage_behind_http(await _sqlite(folder, clock, on_step)))


class _OfOneTest(MongoStorage):
    """A store that takes its database with it when it is closed."""

    async def close(self) -> None:
        if not self._closed:
            await self._commits.finish()
            await self._mongo.database.client.drop_database(self._mongo.database.name)
        await super().close()


async def _mongodb(folder: Path, clock: ManualClock, on_step: Callable[[str], None] | None) -> Storage:
    return await _opened(await open_mongo(mongo_url("mongodb"), app="homing-tests"), clock, on_step)


async def _ferretdb(folder: Path, clock: ManualClock, on_step: Callable[[str], None] | None) -> Storage:
    return await _opened(await open_mongo(mongo_url("ferretdb"), app="homing-tests"), clock, on_step)


async def _mongomock(folder: Path, clock: ManualClock, on_step: Callable[[str], None] | None) -> Storage:
    return await _opened(open_mock(), clock, on_step)


async def _opened(mongo: Mongo, clock: ManualClock, on_step: Callable[[str], None] | None) -> Storage:
    store = _OfOneTest(mongo, clock=clock, on_step=on_step)
    await store.open()
    return store


# One line for each adapter.
ADAPTERS: dict[str, Factory] = {
    "ferretdb": _ferretdb,
    "mongodb": _mongodb,
    "mongomock": _mongomock,
    "sqlite": _sqlite,
    "http": _http,
}


class Bench:
    """A store with an account "ann", and short words for what the tests do to it."""

    def __init__(self, store: Storage, clock: ManualClock) -> None:
        self.store = store
        self.clock = clock

    @staticmethod
    def op(actor: str = "ann", id: str | None = None, events: tuple[Event, ...] = ()) -> Operation:
        return Operation(id or uuid.uuid4().hex, actor, events)

    @staticmethod
    def message(text: str = "hello", size: int = 0) -> bytes:
        head = f"From: Eve <eve@example.net>\r\nTo: ann@example.org\r\nSubject: {text}\r\n\r\n{text}\r\n".encode()
        return head + b"x" * max(0, size - len(head))

    def delivery(
        self,
        *accounts: str,
        content: bytes | StagedBlob | None = None,
        id: str | None = None,
        remote: tuple[str, ...] = (),
        actor: str = SYSTEM,
        **recipient: Any,
    ) -> Delivery:
        return Delivery(
            self.op(actor, id),
            self.message() if content is None else content,
            "eve@example.net",
            self.clock.now(),
            "trace-1",
            tuple(LocalRecipient(account, f"{account}@example.org", **recipient) for account in accounts),
            tuple(RemoteRecipient(address, {"NOTIFY": "NEVER"}) for address in remote),
        )

    async def deliver(self, *accounts: str, **how: Any) -> Accepted:
        (outcome,) = await self.store.accept([self.delivery(*(accounts or ("ann",)), **how)])
        assert isinstance(outcome, Accepted), outcome
        return outcome

    async def ref(self, name: str = "INBOX", account: str = "ann") -> MailboxRef:
        return (await self.store.mailbox(account, name)).ref

    async def fill(self, count: int, name: str = "INBOX", **how: Any) -> MailboxRef:
        ref = await self.ref(name)
        messages = [NewMessage(self.message(str(n)), **how) for n in range(count)]
        await self.store.append(self.op(), ref, messages, None)
        return ref

    async def uids(self, ref: MailboxRef) -> list[int]:
        return [entry.uid for entry in await entries_of(self.store, ref, ALL_UIDS)]

    async def modseq(self, account: str = "ann") -> int:
        return dict(await self.store.watch({account: 0}, 0)).get(account, 0)

    @staticmethod
    async def chunks(content: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
        for start in range(0, len(content), size):
            yield content[start : start + size]


_QUADRATIC = "looks at every document for every change, so that much mail takes minutes"
_ONE_WRITER = "takes one writer at a time: its updates read, compute and write back without a lock"
_MUCH = (
    "test_a_purge_of_much_takes_several_bounded_calls",
    "test_the_sweep_of_much_is_many_small_rounds",
    "test_ten_thousand_messages_in_one_change",
)
# What is not run against stand-ins; "mongodb" runs it all.
LEFT_OUT: dict[str, dict[str, str]] = {
    "mongomock": dict.fromkeys(_MUCH, f"mongomock {_QUADRATIC}"),
    "ferretdb": dict.fromkeys((*_MUCH, "test_a_forgotten_staged_body_is_swept"), f"FerretDB {_QUADRATIC}")
    | dict.fromkeys(
        (
            "test_nothing_at_or_below_what_was_seen_appears_later",
            "test_a_delivery_happens_once",
            "test_many_claimants_share_and_none_twice",
        ),
        f"FerretDB {_ONE_WRITER}",
    ),
}


@pytest.fixture(params=sorted(ADAPTERS))
def factory(request: pytest.FixtureRequest) -> Factory:
    if why := LEFT_OUT.get(request.param, {}).get(request.node.originalname):
        pytest.skip(why)
    return ADAPTERS[request.param]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Set a bound of ``storage.limits`` to a value that a test can reach, wherever it is known by its name."""

    def set_(name: str, value: int) -> None:
        for module in [found for place, found in sys.modules.items() if place.partition(".")[0] == "storage"]:
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)

    return set_


@pytest.fixture
async def bench(factory: Factory, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Bench]:
    store = await factory(tmp_path, clock, None)
    try:
        found = Bench(store, clock)
        await store.open_account(found.op(SYSTEM), "ann")
        await store.open_account(found.op(SYSTEM), "bob")
        yield found
    finally:
        await store.close()


@pytest.fixture
def bench_of(clock: ManualClock) -> Callable[[Storage], Bench]:
    return lambda store: Bench(store, clock)


@pytest.fixture
def flat() -> Callable[[Iterable[tuple[int, int]]], list[int]]:
    def each(ranges: Iterable[tuple[int, int]]) -> Iterator[int]:
        for first, last in ranges:
            yield from range(first, last + 1)

    return lambda ranges: list(each(ranges))
