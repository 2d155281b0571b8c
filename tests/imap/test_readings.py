"""That a message was read is recorded apart from the FETCH, once, and in the right trace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from imap import readings
from imap.readings import Reading, Readings
from runtime.clock import ManualClock
from storage.adapters.sqlite.adapter import SqliteStorage
from storage.model import SYSTEM, Accepted, Delivery, Event, LocalRecipient, MailboxRef, Operation
from storage.port import Storage, Unavailable

LETTER = b"Message-ID: <m1@example.net>\r\nSubject: x\r\n\r\nx\r\n"


class Flaky:
    """Storage that is away for a while, and counts what is recorded."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.away = False
        self.records = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    async def record(self, events: list[Event]) -> None:
        if self.away:
            raise Unavailable("away")
        self.records += 1
        await self._storage.record(events)


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Flaky]:
    store = SqliteStorage(tmp_path, clock=ManualClock())
    await store.open(index=False)
    for account in ("ann", "bob"):
        await store.open_account(Operation(f"open-{account}", SYSTEM), account)
    yield Flaky(store)
    await store.close()


async def deliver(storage: Flaky, trace: str, *accounts: str, content: bytes = LETTER) -> list[Reading]:
    """One reading for each copy."""
    local = tuple(LocalRecipient(account, f"{account}@example.org") for account in accounts)
    delivery = Delivery(Operation(f"op-{trace}", SYSTEM), content, "eve@example.net", 1.0, trace, local)
    (outcome,) = await storage.accept([delivery])
    assert isinstance(outcome, Accepted)
    return [Reading(MailboxRef(at.account, at.mailbox), at.uid, at.email, 5.0, "") for at in outcome.stored]


async def recorded(storage: Flaky, *made: Reading) -> None:
    noting = Readings(cast(Storage, storage))
    await noting.start()
    noting.add(made)
    await noting.stop()


async def reads(storage: Flaky, trace: str) -> list[Event]:
    return [event for event in await storage.trace(trace, None) if event.kind == "read"]


async def test_the_reading_joins_the_trace_of_the_message(storage: Flaky) -> None:
    ann, bob = await deliver(storage, "t1", "ann", "bob")
    # The same Message-ID once more: it is the email that tells them apart.
    await deliver(storage, "t2", "ann")
    await recorded(storage, ann._replace(client="Mail"), bob)
    found = await reads(storage, "t1")
    assert {(event.account, event.at) for event in found} == {("ann", 5.0), ("bob", 5.0)}
    assert {event.detail.get("client") for event in found} == {"Mail", None}
    assert await reads(storage, "t2") == []
    assert storage.records == 1


async def test_what_has_no_trace_is_passed_over(storage: Flaky) -> None:
    (without_id,) = await deliver(storage, "t1", "ann", content=b"Subject: x\r\n\r\n")
    gone = without_id._replace(uid=99)
    elsewhere = without_id._replace(ref=replace(without_id.ref, mailbox="M999"))
    await recorded(storage, without_id, gone, elsewhere)
    assert await reads(storage, "t1") == []
    assert storage.records == 0


async def test_readings_wait_while_storage_is_away(storage: Flaky, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings, "PAUSE_SECONDS", 0.01)
    made = await deliver(storage, "t1", "ann")
    storage.away = True
    noting = Readings(cast(Storage, storage))
    await noting.start()
    noting.add(made)
    await asyncio.sleep(0.05)
    assert await reads(storage, "t1") == []
    storage.away = False
    for _ in range(1000):
        if await reads(storage, "t1"):
            break
        await asyncio.sleep(0.01)
    await noting.stop()
    assert len(await reads(storage, "t1")) == 1


async def test_the_buffer_is_bounded(storage: Flaky, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings, "BUFFER_MAX", 2)
    (one,) = await deliver(storage, "t1", "ann")
    noting = Readings(cast(Storage, storage))
    noting.add([one, one, one])
    assert noting.dropped == 1
