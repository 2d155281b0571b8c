"""Small parts of the composition root, by themselves."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import cast

import pytest
from rich.console import Console

from homing import first_run
from homing.adapters.sqlite import open_sqlite
from homing.overrides import OverrideRefused, SettingsKeeper
from homing.scrub import Scrub
from homing.settings import Settings
from identity.service import FirstRun
from storage.port import Storage

MADE = FirstRun("example.org", "admin@example.org", "admin-secret", "user@example.org", "user-secret")


def test_first_logins_are_shown_on_a_terminal(tmp_path: Path) -> None:
    out = io.StringIO()
    assert first_run.show(MADE, Console(file=out, force_terminal=True, width=100), tmp_path) is None
    assert "admin-secret" in out.getvalue()
    assert "user-secret" in out.getvalue()
    assert list(tmp_path.iterdir()) == []


def test_else_they_are_in_a_file(tmp_path: Path) -> None:
    out = io.StringIO()
    path = first_run.show(MADE, Console(file=out), tmp_path)
    assert path is not None
    assert "secret" not in out.getvalue()
    assert "user-secret" in path.read_text()


async def test_several_overrides_are_kept_together_or_not_at_all(tmp_path: Path) -> None:
    store = await open_sqlite(tmp_path)
    keeper = SettingsKeeper(store, {})
    await keeper.open()
    told: list[Settings] = []
    keeper.on_change = told.append
    with pytest.raises(OverrideRefused, match=r"smtp\.timeout"):
        await keeper.change({"smtp.max_workers": "9", "smtp.timeout": "never"})
    assert (keeper.current.smtp.max_workers, told) == (4, [])
    assert await keeper.change({"smtp.max_workers": "9", "smtp.timeout": "5"})
    assert (told[-1].smtp.max_workers, told[-1].smtp.timeout) == (9, 5.0)
    # Of two, the one that is not live waits for the next start.
    assert not await keeper.change({"smtp.max_workers": "8", "smtp.queue_max": "17"})
    assert (keeper.current.smtp.max_workers, keeper.current.smtp.queue_max) == (8, 2000)
    await store.close()
    store = await open_sqlite(tmp_path)
    assert (await SettingsKeeper(store, {}).open()).smtp.queue_max == 17
    await store.close()


class Blobs:
    """A store of three pages of blobs, one of them damaged."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.done = asyncio.Event()

    async def scrub(self, after: str = "", limit: int = 100) -> tuple[str, tuple[str, ...]]:
        self.asked.append(after)
        if len(self.asked) == 3:
            self.done.set()
        return {"": "a", "a": "b", "b": ""}[after], ("bad",) if after == "a" else ()


async def test_the_scrub_looks_at_every_blob() -> None:
    blobs = Blobs()
    scrub = Scrub(cast(Storage, blobs), every=0.001)
    await scrub.start()
    await asyncio.wait_for(blobs.done.wait(), 10)
    await asyncio.sleep(0)
    await scrub.stop()
    assert blobs.asked[:3] == ["", "a", "b"]
    assert scrub.damaged == 1
