"""Settings changed while running, or for good from the command line: kept in `config.db` in the data folder."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from homing.settings import PREFIX, Settings, load_settings
from runtime.config import ConfigError, Loaded, Row, entries, near
from runtime.log import LogLine
from runtime.sqlite import Connection, Database, Migration

FILE_NAME = "config.db"
MIGRATIONS = (
    Migration("overrides", "CREATE TABLE override (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"),
)
NEVER = frozenset({"data"})


class OverrideRefused(Exception):
    """The setting is not there, cannot be overridden, or the value does not fit. The text is one sentence."""


@dataclass(frozen=True, slots=True)
class Listening:
    """One listener of a running server: what is served, where, and how it is secured."""

    name: str
    host: str
    port: int
    security: str


class Server(Protocol):
    """What a command may ask of the process that holds the data folder, besides identity."""

    async def listeners(self) -> tuple[Listening, ...]:
        """What it serves; () when the server is stopped and the command itself holds the folder."""

    async def started_at(self) -> float:
        """When it began, in Unix seconds; 0.0 when the server is stopped."""

    async def end(self, restart: bool) -> None:
        """Drain and end; with `restart` begin again as the same process, with the settings as they are then."""

    async def logs(self, after: int, wait: float) -> tuple[LogLine, ...]:
        """Lines of the log after that number, as far as they are held; see `runtime.log.RecentLines.after`."""

    async def settings(self) -> tuple[Row, ...]:
        """All settings in force there, secrets masked."""

    async def set_override(self, key: str, value: str) -> bool:
        """Keep a value over file and environment. True: in force now; False: at the next start. OverrideRefused."""

    async def clear_override(self, key: str) -> bool:
        """Back to file, environment or default; the same answer. OverrideRefused where none was kept."""


class SettingsKeeper:
    """The settings of this process and the overrides among them.

    `on_change` is called, on the event loop, with the new settings whenever a live one has changed. `current` is what
    is in force: settings that are not live stay as they were at the start.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        self._database = Database(folder / FILE_NAME, migrations=MIGRATIONS, readers=1)
        self._environ = environ
        self._turn = asyncio.Lock()
        self._loaded: Loaded[Settings] | None = None
        self.on_change: Callable[[Settings], None] | None = None

    async def open(self) -> Settings:
        """Read the overrides and load everything. Raises ConfigError, DatabaseUnavailable."""
        await self._database.open()
        try:
            self._loaded = load_settings(self._environ, await self._overrides())
        except BaseException:
            await self._database.close()
            raise
        return self._loaded.settings

    async def close(self) -> None:
        await self._database.close()

    @property
    def current(self) -> Settings:
        """The settings in force."""
        return self._in_force().settings

    async def settings(self) -> tuple[Row, ...]:
        return tuple(self._in_force().rows(PREFIX))

    async def set_override(self, key: str, value: str) -> bool:
        return await self.change({key: value})

    async def clear_override(self, key: str) -> bool:
        async with self._turn:
            kept = await self._overrides()
            if kept.pop(key, None) is None:
                raise OverrideRefused(f"No override of {key} is kept.")
            loaded = self._check(kept)
            await self._database.write(lambda c: c.execute("DELETE FROM override WHERE key = ?", (key,)).rowcount)
            return self._take(loaded, {key})

    async def change(self, values: Mapping[str, str]) -> bool:
        """Keep several at once: all or none. As `set_override`."""
        async with self._turn:
            known = {entry.key for entry in entries(Settings, PREFIX)}
            for key in values:
                if key not in known:
                    raise OverrideRefused(f"There is no setting {key}.{near(key, known)}")
                if key in NEVER:
                    raise OverrideRefused(f"{key} is set by file or environment only: overrides are kept inside it.")
            loaded = self._check({**await self._overrides(), **values})
            await self._database.write(lambda connection: _put(connection, values))
            return self._take(loaded, set(values))

    def _check(self, overrides: Mapping[str, str]) -> Loaded[Settings]:
        try:
            return load_settings(self._environ, overrides)
        except ConfigError as error:
            raise OverrideRefused(str(error)) from None

    def _take(self, loaded: Loaded[Settings], changed: set[str]) -> bool:
        """Put the live ones among the changed in force; True when that was all of them."""
        live = {entry.key for entry in entries(Settings, PREFIX) if entry.live} & changed
        if live:
            before = self._in_force()
            groups = {key.partition(".")[0] for key in live}
            settings = before.settings.model_copy(
                update={
                    group: getattr(before.settings, group).model_copy(
                        update={
                            name: getattr(getattr(loaded.settings, group), name)
                            for name in (key.partition(".")[2] for key in live if key.startswith(f"{group}."))
                        }
                    )
                    for group in groups
                }
            )
            origins = {key: origin for key, origin in before.origins.items() if key not in live}
            origins.update({key: loaded.origins[key] for key in live if key in loaded.origins})
            self._loaded = Loaded(settings, origins)
            if self.on_change is not None:
                self.on_change(settings)
        return live == changed

    def _in_force(self) -> Loaded[Settings]:
        assert self._loaded is not None, "the settings are read by open()"
        return self._loaded

    async def _overrides(self) -> dict[str, str]:
        return await self._database.read(lambda c: dict(c.execute("SELECT key, value FROM override").fetchall()))


def _put(connection: Connection, values: Mapping[str, str]) -> None:
    connection.executemany(
        "INSERT INTO override (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        list(values.items()),
    )


async def forget(folder: Path, key: str) -> bool:
    """Remove an override without looking at the settings, which it may keep from loading. True when it was there."""
    database = Database(folder / FILE_NAME, migrations=MIGRATIONS, readers=0)
    await database.open()
    try:
        return await database.write(lambda c: c.execute("DELETE FROM override WHERE key = ?", (key,)).rowcount > 0)
    finally:
        await database.close()
