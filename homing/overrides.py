"""Settings changed while running, or for good from the command line: kept in a store that all processes share.

The store is `config.db` in the data folder where one process (or one identity process) owns it, a collection of MongoDB
where the keepers are there, and for all others the identity service, over HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import structlog

from homing.settings import PREFIX, Settings, load_settings
from runtime.config import ConfigError, Loaded, Row, entries, near

NEVER = frozenset({"data", "service.token", "mongodb.url", "identity.url", "storage.url"})
"""What says where overrides are kept, or opens the way there, cannot be one."""
SECRET = frozenset({"secrets.key", "secrets.old"})
"""What opens the secrets in the very store that overrides are kept in: neither."""
REFRESH_SECONDS = 2.0
"""How often a process looks for changes that others made: all have them within 5 seconds."""
PATIENCE_SECONDS = 5.0
"""How long a process that can begin without them waits for the overrides at its start."""
RETRY_SECONDS = 0.2
ATTEMPTS = 20
"""How often a change is tried when others change something at the same time."""

log = structlog.get_logger("settings")


class OverrideRefused(Exception):
    """The setting is not there, cannot be overridden, or the value does not fit. The text is one sentence."""


class OverridesUnavailable(Exception):
    """The store of the overrides cannot answer now: nothing was changed, try later."""


@dataclass(frozen=True, slots=True)
class Saved:
    """All overrides, as text by key. `revision` is 0 before the first change and rises with each."""

    revision: int
    values: Mapping[str, str]


class Overrides(Protocol):
    """A store of overrides. What they mean is not known here. Errors: OverridesUnavailable."""

    async def read(self) -> Saved:
        """What is kept now."""

    async def replace(self, revision: int, values: Mapping[str, str]) -> bool:
        """Keep these and no others, durably, if what is kept is still of that revision; else False, and no change."""

    async def close(self) -> None:
        """Let go of the store."""


class SettingsKeeper:
    """The settings of this process and the overrides among them.

    Each of `on_change` is called, on the event loop, with the new settings whenever a live one has changed. `current`
    is what is in force: settings that are not live stay as they were at the start. As a service it looks for changes
    made by other processes; with `shared` false there are none, and it does nothing. `on_late` is called when a process
    that began without the overrides learns of some that it should have begun with.
    """

    def __init__(self, overrides: Overrides, environ: Mapping[str, str] | None = None, *, shared: bool = False) -> None:
        self._overrides = overrides
        self._environ = environ
        self._shared = shared
        self._turn = asyncio.Lock()
        self._loaded: Loaded[Settings] | None = None
        self._seen: int | None = None
        self._taken: Mapping[str, str] = {}
        self._task: asyncio.Task[None] | None = None
        self.on_change: list[Callable[[Settings], None]] = []
        self.on_late: Callable[[], None] | None = None

    async def open(self, patience: float | None = None) -> Settings:
        """Read the overrides and load everything. Raises ConfigError, and OverridesUnavailable where `patience` is
        None; else the settings are without overrides when they cannot be had within so many seconds."""
        reason = f"no answer within {patience:g} s" if patience is not None else ""
        try:
            # A read may have a patience of its own, which is longer.
            async with asyncio.timeout(patience):
                while self._seen is None:
                    try:
                        saved = await self._overrides.read()
                        self._seen, self._taken = saved.revision, saved.values
                    except OverridesUnavailable as error:
                        if patience is None:
                            raise
                        reason = str(error)
                        await asyncio.sleep(RETRY_SECONDS)
        except TimeoutError:
            log.warning("beginning without the saved settings: they are taken up when they can be had", reason=reason)
        self._loaded = load_settings(self._environ, self._taken)
        return self._loaded.settings

    async def start(self) -> None:
        if self._shared:
            self._task = asyncio.create_task(self._refresh_forever(), name="saved settings")

    async def drain(self) -> None:
        return None

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def current(self) -> Settings:
        """The settings in force."""
        return self._in_force().settings

    async def settings(self) -> tuple[Row, ...]:
        return tuple(self._in_force().rows(PREFIX))

    async def set_override(self, key: str, value: str) -> bool:
        return await self.change({key: value})

    async def clear_override(self, key: str) -> bool:
        return await self.change({key: None})

    async def change(self, values: Mapping[str, str | None]) -> bool:
        """Keep several at once (None: clear it): all or none. True where all are in force now, False where some wait
        for the next start. Raises OverrideRefused, OverridesUnavailable."""
        async with self._turn:
            for key, value in values.items():
                _check_key(key, value)
            for _ in range(ATTEMPTS):
                saved = await self._overrides.read()
                new = dict(saved.values)
                for key, value in values.items():
                    if value is not None:
                        new[key] = value
                    elif new.pop(key, None) is None:
                        raise OverrideRefused(f"No override of {key} is kept.")
                loaded = self._check(new)
                if await self._overrides.replace(saved.revision, new):
                    self._take(loaded, Saved(saved.revision + 1, new))
                    return all(key in _live() for key in values)
            raise OverridesUnavailable("others change the settings at the same time; try again")

    async def refresh(self) -> None:
        """Take up what other processes have changed. Raises OverridesUnavailable."""
        async with self._turn:
            saved = await self._overrides.read()
            if saved.revision == self._seen:
                return
            late, self._seen = self._seen is None, saved.revision
            try:
                loaded = self._check(saved.values)
            except OverrideRefused as error:
                log.warning("a saved setting cannot be used here: those from before stay in force", reason=str(error))
                return
            waiting = self._take(loaded, saved)
            if late and waiting and self.on_late is not None:
                log.info("beginning again: there are saved settings to begin with", settings=sorted(waiting))
                self.on_late()

    async def _refresh_forever(self) -> None:
        away = False
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            try:
                await self.refresh()
                away = False
            except OverridesUnavailable as error:
                if not away:
                    log.warning("saved settings cannot be read now", reason=str(error))
                away = True
            except Exception:
                log.exception("looking for saved settings failed")

    def _check(self, overrides: Mapping[str, str]) -> Loaded[Settings]:
        try:
            return load_settings(self._environ, overrides)
        except ConfigError as error:
            raise OverrideRefused(str(error)) from None

    def _take(self, loaded: Loaded[Settings], saved: Saved) -> set[str]:
        """Put the live ones among the changed in force. Those that are not, and so wait for the next start."""
        before, after = self._taken, saved.values
        self._seen, self._taken = saved.revision, after
        changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        live = _live() & changed
        if live:
            present = self._in_force()
            groups = {key.partition(".")[0] for key in live}
            settings = present.settings.model_copy(
                update={
                    group: getattr(present.settings, group).model_copy(
                        update={
                            name: getattr(getattr(loaded.settings, group), name)
                            for name in (key.partition(".")[2] for key in live if key.startswith(f"{group}."))
                        }
                    )
                    for group in groups
                }
            )
            origins = {key: origin for key, origin in present.origins.items() if key not in live}
            origins.update({key: loaded.origins[key] for key in live if key in loaded.origins})
            self._loaded = Loaded(settings, origins)
            for tell in self.on_change:
                tell(settings)
        return changed - live

    def _in_force(self) -> Loaded[Settings]:
        assert self._loaded is not None, "the settings are read by open()"
        return self._loaded


def _live() -> set[str]:
    return {entry.key for entry in entries(Settings, PREFIX) if entry.live}


def _check_key(key: str, value: str | None) -> None:
    known = {entry.key for entry in entries(Settings, PREFIX)}
    if value is not None and key not in known:
        raise OverrideRefused(f"There is no setting {key}.{near(key, known)}")
    if value is not None and key in NEVER:
        raise OverrideRefused(f"{key} is set by file or environment only: it says where overrides are kept.")
    if value is not None and key in SECRET:
        raise OverrideRefused(f"{key} is set by file or environment only: it opens what is kept beside the overrides.")


async def forget(overrides: Overrides, key: str) -> bool:
    """Remove an override without looking at the settings, which it may keep from loading. True when it was there."""
    for _ in range(ATTEMPTS):
        saved = await overrides.read()
        if key not in saved.values:
            return False
        if await overrides.replace(saved.revision, {k: v for k, v in saved.values.items() if k != key}):
            return True
    raise OverridesUnavailable("others change the settings at the same time; try again")
