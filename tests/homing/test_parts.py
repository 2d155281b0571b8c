"""Small parts of the composition root, by themselves."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest
from rich.console import Console

from homing import control, first_run, sockets
from homing.adapters.sqlite import open_sqlite
from homing.keepers import check_urls
from homing.overrides import OverrideRefused, Saved, SettingsKeeper
from homing.purge import Purge
from homing.scrub import Scrub
from homing.settings import Settings, load_settings
from identity.port import Unavailable as IdentityUnavailable
from identity.service import FirstRun
from runtime.lifecycle import StartError
from storage.model import Operation
from storage.port import Storage
from storage.port import Unavailable as StorageUnavailable
from tests.live import ROOT

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
    keeper.on_change.append(told.append)
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


class Hanging:
    """A store of overrides that does not answer."""

    async def read(self) -> Saved:
        await asyncio.Event().wait()
        raise AssertionError

    async def replace(self, revision: int, values: Mapping[str, str]) -> bool:
        return False

    async def close(self) -> None:
        return None


async def test_a_start_waits_for_saved_settings_as_long_as_it_was_told() -> None:
    async with asyncio.timeout(60):
        assert (await SettingsKeeper(Hanging(), {}).open(0.05)).smtp.max_workers == 4


class Away:
    """A storage that cannot answer."""

    async def purge_account(self, op: Operation, account: str) -> bool:
        raise StorageUnavailable("away")


async def test_a_purge_without_storage_is_no_bug() -> None:
    with pytest.raises(IdentityUnavailable):
        await Purge(cast(Storage, Away()))("a")


@pytest.mark.parametrize(
    "values",
    [
        {"IDENTITY_URL": "http://[::1"},
        {"STORAGE_URL": "nonsense"},
        {"STORAGE_URL": "sqlite:///"},
        {"MONGODB_URL": "mongodb[://"},
    ],
)
def test_a_url_that_is_none_is_a_wrong_setting(values: dict[str, str]) -> None:
    with pytest.raises(StartError) as told:
        check_urls(load_settings({"HOMING_CONFIG": "", **values}).settings)
    assert told.value.exit_code == 78


OPENS = """
import asyncio, importlib, sys
url, *parts = sys.argv[1:]
for name in parts:
    importlib.import_module(f"homing.{name}")
from homing.connect import connect_overrides, connect_turns
from homing.keepers import open_identity, open_storage
from homing.settings import load_settings

async def go():
    settings = load_settings({}).settings
    opened = [await open_identity(settings, url), await open_storage(settings, url),
              await connect_overrides(url), await connect_turns(url)]
    for one in opened:
        await one.close()

asyncio.run(go())
print(*sorted({"pymongo", "bson", "aiohttp", "runtime.portclient", "sqlite3"} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("parts", "imported"),
    [
        # What sends mail on fetches policies by aiohttp; it calls no other process.
        (("embedded", "services.smtp"), "aiohttp sqlite3"),
        (("services.imap", "services.storage", "services.identity"), "sqlite3"),
    ],
)
def test_no_driver_is_imported_but_that_of_what_is_opened(
    tmp_path: Path, parts: tuple[str, ...], imported: str
) -> None:
    told = subprocess.run(
        [sys.executable, "-c", OPENS, f"sqlite://{tmp_path}", *parts],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert told.stdout.strip() == imported


async def test_a_process_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "load_settings", lambda: load_settings({"HOMING_DATA": str(tmp_path)}))
    monkeypatch.setattr(control, "ANSWER_SECONDS", 0.05)
    place = sockets.prepare(tmp_path, "smtp", 1)
    talks: list[asyncio.StreamWriter] = []
    server = await asyncio.start_unix_server(lambda _, writer: talks.append(writer), place.folder / place.name)
    try:
        for ask in (control.end(), control.restart(["smtp"])):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ask, 10)
    finally:
        server.close()
        for talk in talks:
            talk.close()


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
