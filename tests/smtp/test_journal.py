"""Events of refused attempts: batched, bounded, and kept while storage is away."""

from __future__ import annotations

import pytest

from smtp import journal
from smtp.journal import Journal
from storage.model import Event
from storage.port import Unavailable
from tests.smtp.fakes import FakeStorage


def events(start: int, end: int) -> list[Event]:
    return [Event(f"t{n}", 0.0, "refused") for n in range(start, end)]


async def test_kept_in_order_and_in_batches(until, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "PAUSE_SECONDS", 0.01)
    storage = FakeStorage()
    one = Journal(storage)  # type: ignore[arg-type]  # the fake has what is used
    await one.start()
    one.add(events(0, journal.BATCH_MAX + 10))
    await until(lambda: len(storage.recorded) == journal.BATCH_MAX + 10)
    assert storage.recorded == events(0, journal.BATCH_MAX + 10)
    await one.stop()


async def test_bounded_and_patient(until, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(journal, "BUFFER_MAX", 5)
    tries = 0
    storage = FakeStorage()
    record = storage.record

    async def away(batch: list[Event]) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise Unavailable("away")
        await record(batch)

    monkeypatch.setattr(storage, "record", away)
    one = Journal(storage)  # type: ignore[arg-type]  # the fake has what is used
    one.add(events(0, 7))
    assert one.dropped == 2
    await one.start()
    await until(lambda: len(storage.recorded) == 5)
    assert storage.recorded == events(0, 5)
    assert tries == 3
    await one.stop()


async def test_stop_records_what_is_left() -> None:
    storage = FakeStorage()
    one = Journal(storage)  # type: ignore[arg-type]  # the fake has what is used
    await one.start()
    one.add(events(0, 3))
    await one.stop()
    assert storage.recorded == events(0, 3)
