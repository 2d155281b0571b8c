"""What `homing.overrides.Overrides` promises, kept by each of its adapters."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from homing.connect import connect_overrides
from homing.overrides import (
    OverrideRefused,
    Overrides,
    OverridesUnavailable,
    Saved,
    SettingsKeeper,
    forget,
)
from homing.settings import Settings

Another = Callable[[], Awaitable[Overrides]]


async def test_nothing_is_kept_at_first(store: Overrides) -> None:
    assert await store.read() == Saved(0, {})


async def test_what_is_kept_replaces_what_was(store: Overrides) -> None:
    assert await store.replace(0, {"smtp.timeout": "5", "imap.message_max": "1 MiB"})
    assert await store.read() == Saved(1, {"smtp.timeout": "5", "imap.message_max": "1 MiB"})
    assert await store.replace(1, {"smtp.timeout": 'ä, "quoted" and $dollared'})
    assert await store.read() == Saved(2, {"smtp.timeout": 'ä, "quoted" and $dollared'})
    assert await store.replace(2, {})
    assert await store.read() == Saved(3, {})


async def test_a_change_of_what_is_no_longer_there_changes_nothing(store: Overrides) -> None:
    assert await store.replace(0, {"a.b": "1"})
    for revision in (0, 2, 17):
        assert not await store.replace(revision, {"a.b": "2"})
    assert await store.read() == Saved(1, {"a.b": "1"})


async def test_another_process_sees_it(another: Another) -> None:
    first, second = await another(), await another()
    assert await first.replace(0, {"a.b": "1"})
    assert await second.read() == Saved(1, {"a.b": "1"})
    assert await second.replace(1, {"a.b": "2"})
    assert not await first.replace(1, {"a.b": "3"})


async def test_of_those_who_change_at_once_each_is_kept(another: Another, request: pytest.FixtureRequest) -> None:
    if "ferretdb" in request.node.name:
        pytest.skip("FerretDB 1 has one writer: its updates read and write without a lock")
    keepers = [SettingsKeeper(await another(), {}) for _ in range(4)]
    for keeper in keepers:
        await keeper.open()
    keys = ("smtp.max_workers", "smtp.pool_size", "smtp.queue_max", "smtp.errors_max")
    await asyncio.gather(*(keeper.change({key: "33"}) for keeper, key in zip(keepers, keys, strict=True)))
    assert await (await another()).read() == Saved(4, dict.fromkeys(keys, "33"))


async def test_a_change_reaches_the_settings_of_others(another: Another) -> None:
    mine, theirs = SettingsKeeper(await another(), {}, shared=True), SettingsKeeper(await another(), {}, shared=True)
    told: list[Settings] = []
    theirs.on_change.append(told.append)
    await mine.open()
    await theirs.open()
    assert await mine.change({"smtp.max_workers": "9"})
    assert not await mine.change({"smtp.queue_max": "17"})
    await theirs.refresh()
    assert ([one.smtp.max_workers for one in told], theirs.current.smtp.queue_max) == ([9], 2000)
    rows = {row.key: row for row in await theirs.settings()}
    assert rows["smtp.max_workers"].origin == "override"
    assert await theirs.clear_override("smtp.max_workers")
    await mine.refresh()
    assert mine.current.smtp.max_workers == 4
    with pytest.raises(OverrideRefused, match="No override"):
        await mine.clear_override("smtp.max_workers")


async def test_a_value_that_this_process_cannot_use_leaves_what_was(another: Another) -> None:
    keeper = SettingsKeeper(await another(), {}, shared=True)
    await keeper.open()
    await keeper.change({"smtp.max_workers": "9"})
    store = await another()
    assert await store.replace(1, {"smtp.of_a_later_release": "1", "smtp.max_workers": "8"})
    await keeper.refresh()
    assert keeper.current.smtp.max_workers == 9
    assert await forget(store, "smtp.of_a_later_release")
    assert not await forget(store, "smtp.of_a_later_release")
    await keeper.refresh()
    assert keeper.current.smtp.max_workers == 8


async def test_an_identity_service_that_is_away() -> None:
    store = await connect_overrides("http://127.0.0.1:1", token="x" * 16, seconds=0.2)
    keeper = SettingsKeeper(store, {}, shared=True)
    try:
        with pytest.raises(OverridesUnavailable):
            await keeper.open()
        assert (await keeper.open(0.1)).smtp.max_workers == 4
        with pytest.raises(OverridesUnavailable):
            await keeper.change({"smtp.max_workers": "5"})
    finally:
        await store.close()
