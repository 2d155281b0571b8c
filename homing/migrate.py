"""Moving house: all that identity and storage keep, and the saved settings, from one store into another.

The order: identity, storage, saved settings; each is copied, then compared with what it was copied from; and only when
all of it is the same are the marks of the unfinished migration taken away, without which no service starts on the
target. A run that ended on the way is followed by one that goes on where it stopped.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import identity.connect
import identity.migrate
import storage.connect
import storage.migrate
from homing.connect import connect_overrides, connect_turns
from homing.overrides import Overrides
from homing.turns import TurnsUnavailable
from identity.port import Unavailable as IdentityUnavailable
from identity.transfer import Transfer as IdentityTransfer
from identity.transfer import TransferRefused as IdentityRefused
from runtime.admin import FolderLock
from runtime.lifecycle import StartError
from storage.compare import compare as compare_storage
from storage.port import Unavailable as StorageUnavailable
from storage.transfer import Transfer as StorageTransfer
from storage.transfer import TransferRefused as StorageRefused

T = TypeVar("T")
MONGO = ("mongodb", "mongodb+srv")
SWEEP = "sweep"
"""The turn that one of the storage services over a MongoDB has at any time, and for minutes after it was killed."""
TURN_SECONDS = 0.1
PAUSES = (1.0, 2.0, 5.0, 10.0, 20.0)
"""Seconds for which a store that cannot answer now (an election, say) is left alone before it is tried again."""
USAGE = 2
UNAVAILABLE = 69


class Show(Protocol):
    """Who watches a migration."""

    def begin(self, what: str, items: str, count: int, octets: int) -> None:
        """Something long begins: so many items ("messages") and octets of them, 0 where none are counted."""

    def at(self, count: int, octets: int) -> None:
        """So many of them are done."""

    def end(self) -> None:
        """It is done."""

    def say(self, sentence: str) -> None:
        """Something to know."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a house is. url: of identity, storage and saved settings alike, without a password in ``name``."""

    url: str
    name: str
    folder: Path | None

    @classmethod
    def of(cls, text: str) -> Place:
        """``sqlite:FOLDER``, ``sqlite:///FOLDER`` or ``mongodb://host/name``; ``env:NAME`` is what the environment has
        under the name, which keeps a password off the command line. Raises StartError."""
        parts = urlsplit(text)
        if parts.scheme == "env":
            if parts.path not in os.environ:
                raise StartError(f"The environment has no {parts.path}.", exit_code=USAGE)
            parts = urlsplit(text := os.environ[parts.path])
        if parts.scheme in MONGO and parts.netloc and len(parts.path) > 1:
            host = parts.netloc.rpartition("@")[2]
            return cls(text, urlunsplit((parts.scheme, host, parts.path, "", "")), None)
        path = unquote(parts.netloc + parts.path)
        if parts.scheme == "sqlite" and path:
            folder = Path(path).absolute()
            return cls(f"sqlite://{quote(str(folder))}", str(folder), folder)
        raise StartError(
            f"{parts.scheme or text!r} is no place to move from or to: sqlite:FOLDER, mongodb://HOST/NAME or env:NAME.",
            exit_code=USAGE,
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the comparison."""

    what: str
    source: str
    target: str

    @property
    def same(self) -> bool:
        return self.source == self.target


@dataclass(slots=True)
class Outcome:
    """problems: what differs, a sentence each, the first of ``count``. damaged_before: bodies that are damaged in the
    source, and were copied as they are. bodies: of the target, each of which was hashed."""

    rows: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    count: int = 0
    damaged_before: list[str] = field(default_factory=list)
    bodies: int = 0


async def migrate(source: Place, target: Place, show: Show, *, nobody_runs: bool, begin_anew: bool) -> Outcome:
    """Move, or go on with it. nobody_runs: the caller has seen to it that no service runs over a MongoDB. begin_anew:
    what an unfinished migration has brought goes first.

    Raises StartError where the places cannot be used so, FolderLocked where a server has one, and the keepers' errors.
    """
    if source.url == target.url:
        raise StartError("From and to are the same place.", exit_code=USAGE)
    async with AsyncExitStack() as stack:
        for place in (source, target):
            await _held(place, stack, nobody_runs=nobody_runs)
        if source.folder is not None and not any(
            (source.folder / name).exists() for name in (storage.connect.FILE, identity.connect.FILE)
        ):
            raise StartError(f"There is nothing to move in {source.name}.")
        try:
            async with _opened(source, target) as houses:
                return await _move(houses, show, begin_anew)
        except (IdentityRefused, StorageRefused) as error:
            raise StartError(f"{error} {_advice(str(error))}".strip()) from error
        except ValueError as error:
            raise StartError(f"{error}.", exit_code=USAGE) from error


async def _held(place: Place, stack: AsyncExitStack, *, nobody_runs: bool) -> None:
    """See to it that no server uses the place, now and until the end."""
    if place.folder is not None:
        lock = FolderLock(place.folder)
        lock.acquire()
        stack.callback(lock.release)
        return
    if not nobody_runs:
        raise StartError(
            f"Nobody can lock {place.name}: stop every Homing service that uses it, then repeat with"
            " --yes-no-server-runs.",
        )
    try:
        turns = await connect_turns(place.url)
        stack.push_async_callback(turns.close)
        free = await turns.mine(SWEEP, TURN_SECONDS)
    except ValueError as error:
        raise StartError(f"{error}.", exit_code=USAGE) from error
    except TurnsUnavailable as error:
        raise StartError(f"{place.name} cannot be reached: {error}.", exit_code=UNAVAILABLE) from error
    if not free:
        raise StartError(
            f"A service still runs over {place.name}, or was killed within the last minutes: stop all of them, and"
            " wait three minutes."
        )


def _advice(sentence: str) -> str:
    if "unfinished migration" in sentence or "was used while" in sentence:
        return "Stop what uses it, and begin again with --begin-anew, which removes what was copied."
    if "not empty" in sentence:
        return "A migration needs an empty target."
    return ""


@dataclass(frozen=True, slots=True)
class _Houses:
    """Both ends, opened."""

    source_identity: IdentityTransfer
    target_identity: IdentityTransfer
    source_storage: StorageTransfer
    target_storage: StorageTransfer
    source_settings: Overrides
    target_settings: Overrides
    target: Place


@asynccontextmanager
async def _opened(source: Place, target: Place) -> AsyncIterator[_Houses]:
    async with AsyncExitStack() as stack:
        source_identity = await identity.connect.connect_transfer(source.url)
        stack.push_async_callback(source_identity.close)
        target_identity = await identity.connect.connect_transfer(target.url)
        stack.push_async_callback(target_identity.close)
        source_storage = await storage.connect.connect_transfer(source.url)
        stack.push_async_callback(source_storage.close)
        target_storage = await storage.connect.connect_transfer(target.url)
        stack.push_async_callback(target_storage.close)
        source_settings = await connect_overrides(source.url)
        stack.push_async_callback(source_settings.close)
        target_settings = await connect_overrides(target.url)
        stack.push_async_callback(target_settings.close)
        yield _Houses(
            source_identity,
            target_identity,
            source_storage,
            target_storage,
            source_settings,
            target_settings,
            target,
        )


async def _move(houses: _Houses, show: Show, begin_anew: bool) -> Outcome:
    outcome = Outcome()
    # A run that was killed at its very end has finished identity, and storage not yet.
    finished = await houses.target_storage.marker() is not None and await houses.target_identity.marker() is None
    finished = finished and (await identity.migrate.survey(houses.target_identity)).records > 0
    if begin_anew:
        await _erase(houses, show)
    if await houses.source_identity.marker() is not None or await houses.source_storage.marker() is not None:
        raise StartError("The source itself is the target of an unfinished migration: finish that first.")
    await _move_identity(houses, show, outcome, finished)
    await _move_storage(houses, show, outcome)
    await _move_settings(houses, show, outcome)
    if outcome.count:
        return outcome
    renamed = await houses.target_storage.renamed()
    # Identity first: storage's mark is what a run that is killed between the two goes by.
    if await houses.target_identity.marker() is not None:
        await houses.target_identity.finish()
    await houses.target_storage.finish()
    if renamed["M"] or renamed["E"]:
        show.say(
            f"{renamed['M']:,} mailboxes and {renamed['E']:,} messages have other ids there (MAILBOXID and EMAILID,"
            " RFC 8474): a client that keeps them takes those messages for new ones. Uids and modification sequences"
            " are as they were."
        )
    return outcome


async def _erase(houses: _Houses, show: Show) -> None:
    """Remove what an unfinished migration has brought."""
    erased = False
    for transfer in (houses.target_identity, houses.target_storage):
        if await transfer.marker() is not None:
            await transfer.erase()
            erased = True
    show.say("What was copied before is removed." if erased else "There was no unfinished migration to remove.")


async def _move_identity(houses: _Houses, show: Show, outcome: Outcome, finished: bool) -> None:
    source, target = houses.source_identity, houses.target_identity
    found = await identity.migrate.survey(source)
    if not finished:
        show.begin("Accounts", "records", found.records, 0)
        await _patiently(lambda: identity.migrate.copy(source, target, found, lambda count: show.at(count, 0)), show)
        show.end()
    report = await _patiently(lambda: identity.migrate.compare(source, target), show)
    outcome.rows += [Row(*row) for row in report.rows]
    outcome.problems += report.problems
    outcome.count += report.count


async def _move_storage(houses: _Houses, show: Show, outcome: Outcome) -> None:
    source, target = houses.source_storage, houses.target_storage
    found = await storage.migrate.survey(source)
    show.begin("Mail", "messages", found.messages, found.octets)
    await _patiently(lambda: storage.migrate.copy(source, target, found, show.at), show)
    show.end()
    show.begin("Comparing", "messages", found.messages, found.octets)
    report = await _patiently(lambda: compare_storage(source, target, show.at), show)
    show.end()
    outcome.rows += [Row(*row) for row in report.rows]
    outcome.problems += report.problems
    outcome.count += report.count
    outcome.damaged_before = report.damaged_before
    outcome.bodies = report.bodies


async def _patiently(work: Callable[[], Awaitable[T]], show: Show) -> T:
    """Do what can be done again, or gone on with, until the stores are there for it; Unavailable when they are not."""
    for pause in PAUSES:
        try:
            return await work()
        except (IdentityUnavailable, StorageUnavailable) as error:
            if getattr(error, "full", False):
                raise
            show.say(f"{error}: going on in {pause:.0f} s")
            await asyncio.sleep(pause)
    return await work()


async def _move_settings(houses: _Houses, show: Show, outcome: Outcome) -> None:
    """The settings that were changed while running. Those that the target has already stay."""
    old, new = await houses.source_settings.read(), await houses.target_settings.read()
    values = {**old.values, **new.values}
    if values != dict(new.values) and not await houses.target_settings.replace(new.revision, values):
        raise StartError("The target's saved settings were changed meanwhile: stop what uses it, and run again.")
    kept = {key for key, value in old.values.items() if new.values.get(key, value) != value}
    if kept:
        show.say(f"The target has values of its own for {', '.join(sorted(kept))}: they stay.")
    moved = await houses.target_settings.read()
    same = [key for key in old.values if key in moved.values]
    outcome.rows.append(Row("saved settings", f"{len(old.values):,}", f"{len(same):,}"))
