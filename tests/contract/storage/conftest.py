"""The contract suite's fixtures: each test runs once for every adapter in ADAPTERS."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.clock import ManualClock
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

Factory = Callable[[Path, ManualClock, Callable[[str], None] | None], Awaitable[Storage]]


async def _sqlite(folder: Path, clock: ManualClock, on_step: Callable[[str], None] | None) -> Storage:
    store = SqliteStorage(folder, clock=clock, on_step=on_step)
    await store.open(index=False)
    return store


# One line for each adapter.
ADAPTERS: dict[str, Factory] = {
    "sqlite": _sqlite,
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
        return [entry.uid for entry in await self.store.entries(ref, ALL_UIDS)]

    async def modseq(self, account: str = "ann") -> int:
        return dict(await self.store.watch({account: 0}, 0)).get(account, 0)

    @staticmethod
    async def chunks(content: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
        for start in range(0, len(content), size):
            yield content[start : start + size]


@pytest.fixture(params=sorted(ADAPTERS))
def factory(request: pytest.FixtureRequest) -> Factory:
    return ADAPTERS[request.param]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


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
