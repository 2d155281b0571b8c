"""The hub: one watch for all, news that nobody misses, storage that goes away and comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import imap.hub
from imap.hub import Hub
from storage.model import Operation
from tests.imap.fakes import FakeStorage, until

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"


@pytest.fixture
async def hub(storage: FakeStorage) -> AsyncIterator[Hub]:
    for account in ("a", "b"):
        await storage.open_account(Operation("1", account), account)
    hub = Hub(storage)  # type: ignore[arg-type]  # the fake has what the hub asks
    await hub.start()
    yield hub
    await hub.stop()


async def test_those_who_joined_are_told_and_no_others(hub: Hub, storage: FakeStorage) -> None:
    heard: list[str] = []
    first, second, other = (lambda: heard.append("1")), (lambda: heard.append("2")), (lambda: heard.append("b"))
    hub.join("a", storage.modseqs["a"], first)
    hub.join("a", storage.modseqs["a"], second)
    hub.join("b", storage.modseqs["b"], other)
    storage.deliver("a", MESSAGE)
    await until(lambda: len(heard) == 2)
    assert sorted(heard) == ["1", "2"]
    assert hub.modseq("a") == storage.modseqs["a"]
    hub.leave("a", first)
    storage.deliver("a", MESSAGE)
    await until(lambda: len(heard) == 3)
    assert heard[-1] == "2"
    hub.leave("a", second)
    hub.leave("b", other)
    assert hub.modseq("a") == 0


async def test_what_happened_between_select_and_join_is_told(hub: Hub, storage: FakeStorage) -> None:
    heard: list[int] = []
    before = storage.modseqs["a"]
    storage.deliver("a", MESSAGE)
    hub.join("a", before, lambda: heard.append(1))
    await until(lambda: heard)


async def test_own_changes_are_told_at_once_and_only_once(hub: Hub, storage: FakeStorage) -> None:
    heard: list[int] = []
    hub.join("a", 5, lambda: heard.append(1))
    hub.note("a", 9)
    hub.note("a", 9)
    hub.note("a", 7)
    hub.note("unknown", 7)
    assert heard == [1]


async def test_storage_that_was_away(hub: Hub, storage: FakeStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imap.hub, "RETRY_SECONDS", 0.01)
    heard: list[int] = []
    storage.down = True
    hub.join("a", storage.modseqs["a"], lambda: heard.append(1))
    storage.deliver("a", MESSAGE)
    await until(lambda: storage.calls.count("watch") > 2)
    assert not heard
    storage.down = False
    await until(lambda: heard)


async def test_accounts_that_keep_joining_keep_no_news_from_others(hub: Hub, storage: FakeStorage) -> None:
    heard: list[int] = []
    hub.join("a", storage.modseqs["a"], lambda: heard.append(1))
    storage.deliver("a", MESSAGE)
    joined = 0

    def one_more() -> bool:
        nonlocal joined
        joined += 1
        hub.join(f"x{joined}", 1, lambda: None)
        return bool(heard)

    await until(one_more)
