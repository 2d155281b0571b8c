"""The log of trace events stays within its bounds, and its keys go with it."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.clock import ManualClock
from storage import tracekeys
from storage.adapters.mongo import events as mongo_events
from storage.adapters.mongo.adapter import MongoStorage
from storage.adapters.sqlite import events
from storage.adapters.sqlite.adapter import SqliteStorage
from storage.adapters.sqlite.schema import MIGRATIONS
from storage.limits import TraceLimits
from storage.model import Event
from storage.port import Storage
from tests.mongomock_async import open_mock

SMALL = TraceLimits(age=1000.0, size=20_000)
ABOUT = 400
"""Octets of one event below."""


async def _sqlite(folder: Path, clock: ManualClock) -> Storage:
    store = SqliteStorage(folder, clock=clock, trace=SMALL)
    await store.open(index=False)
    return store


async def _mongomock(folder: Path, clock: ManualClock) -> Storage:
    store = MongoStorage(open_mock(), clock=clock, trace=SMALL)
    await store.open()
    found: Storage = store
    return found


@pytest.fixture(params=[_sqlite, _mongomock])
async def store(request: Any, tmp_path: Path) -> Any:
    opened: Callable[[Path, ManualClock], Awaitable[Storage]] = request.param
    made = await opened(tmp_path, ManualClock())
    yield made
    await made.close()


def event(trace: str, at: float, text: str = "x" * ABOUT) -> Event:
    return Event(trace, at, "attempt", "ann", {"address": f"{trace}@example.org", "text": text})


async def _swept(store: Any) -> int:
    forgotten = 0
    while gone := (await store.sweep()).events:
        forgotten += gone
    return forgotten


async def test_the_age_is_as_it_was_set(store: Any) -> None:
    clock = store._clock
    await store.record([event("old", clock.now())])
    clock.advance(1001)
    await store.record([event("new", clock.now())])
    assert await _swept(store) == 1
    assert [found.trace for found in await store.find_traces("", None)] == ["new"]


async def test_the_oldest_go_when_there_are_too_many_octets(store: Any) -> None:
    clock = store._clock
    for n in range(100):
        await store.record([event(f"t{n}", clock.now())])
        clock.advance(1)
    assert 50 < await _swept(store) < 80
    left = [found.trace for found in await store.find_traces("", None)]
    assert left == [f"t{n}" for n in range(99, 99 - len(left), -1)]
    assert 20 < len(left) < 50
    for n in range(100):
        assert (await store.find_traces(f"t{n}@example.org", None) != ()) == (f"t{n}" in left)
    # What is within the bounds stays.
    assert await _swept(store) == 0


def _keys(folder: Path) -> list[tuple[int, int]]:
    with sqlite3.connect(folder / "storage.db") as conn:
        return conn.execute("SELECT key, event FROM event_key ORDER BY event").fetchall()


async def test_keys_go_with_their_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Segments of two rows, so that a step ends within one.
    monkeypatch.setattr(events, "SEGMENT_BITS", 1)
    monkeypatch.setattr("storage.adapters.sqlite.upkeep.SWEEP_ENTRIES", 3)
    clock = ManualClock()
    store = SqliteStorage(tmp_path, clock=clock, trace=SMALL)
    await store.open(index=False)
    try:
        for n in range(10):
            await store.record([event(f"t{n}", clock.now(), "")])
        assert len(_keys(tmp_path)) == 20
        for n in range(10):
            (found,) = await store.find_traces(f"t{n}@example.org", "ann")
            assert found.trace == f"t{n}"
        clock.advance(1001)
        await store.record([event("new", clock.now(), "")])
        assert await _swept(store) == 10
        assert [number for _, number in _keys(tmp_path)] == [11, 11]
        (found,) = await store.find_traces("", "ann")
        assert found.trace == "new"
    finally:
        await store.close()


async def test_a_store_from_before_keys_is_found_by_trace_and_goes_on(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "storage.db", isolation_level=None) as conn:
        conn.execute("PRAGMA page_size = 8192")
        conn.executescript(str(MIGRATIONS[0].apply))
        conn.execute("PRAGMA user_version = 1")
        conn.execute(
            "INSERT INTO event (trace, kept, data) VALUES ('t1', ?, ?)",
            (ManualClock().now(), '[[1.0,"rcpt",null,{"address":"ann@example.org"}]]'),
        )
    store = SqliteStorage(tmp_path, clock=ManualClock())
    await store.open(index=False)
    try:
        await store.record([Event("t2", 2.0, "rcpt", None, {"address": "ann@example.org"})])
        assert [found.trace for found in await store.find_traces("ann@example.org", None)] == ["t2"]
        assert [found.trace for found in await store.find_traces("t1", None)] == ["t1"]
        assert [found.trace for found in await store.find_traces("", None)] == ["t2", "t1"]
    finally:
        await store.close()


async def test_texts_of_one_key_are_told_apart(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracekeys, "_hashed", lambda octets: 7)
    tracekeys.key.cache_clear()
    tracekeys.account_key.cache_clear()
    try:
        await store.record([event("a", 1.0), event("b", 2.0)])
        assert [found.trace for found in await store.find_traces("a@example.org", None)] == ["a"]
        assert [found.trace for found in await store.find_traces("b@example.org", "ann")] == ["b"]
        assert await store.find_traces("b@example.org", "bob") == ()
    finally:
        tracekeys.key.cache_clear()
        tracekeys.account_key.cache_clear()


async def test_a_search_looks_at_so_many_rows_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "FIND_STEPS", 10)
    store = SqliteStorage(tmp_path, clock=ManualClock())
    await store.open(index=False)
    try:
        await store.record([event(f"t{n}", float(n)) for n in range(50)])
        assert len(await store.find_traces("", None)) <= 11
        assert len(await store.find_traces("", "ann")) <= 11
    finally:
        await store.close()


async def test_a_search_of_mongodb_looks_at_so_many_documents_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mongo_events, "FIND_DOCUMENTS", 10)
    store = MongoStorage(open_mock(), clock=ManualClock())
    await store.open()
    try:
        await store.record([event(f"t{n}", float(n)) for n in range(50)])
        assert len(await store.find_traces("", "ann")) == 10
    finally:
        await store.close()
