"""Notes in `notes.db` in the data folder, which one process owns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from runtime.clock import Clock, SystemClock
from runtime.sqlite import Connection, Database, DatabaseUnavailable, Migration
from smtp.outbound.notes import PAGE_MAX, Note, NotesUnavailable, check

T = TypeVar("T")
FILE_NAME = "notes.db"
MIGRATIONS = (
    Migration(
        "notes",
        "CREATE TABLE note (space TEXT NOT NULL, key TEXT NOT NULL, text TEXT NOT NULL, until REAL NOT NULL,"
        " PRIMARY KEY (space, key)) STRICT, WITHOUT ROWID; CREATE INDEX note_until ON note (until)",
    ),
)
PURGED_AT_ONCE = 100
"""Notes whose time is over that one change takes away."""


class SqliteNotes:
    """`smtp.outbound.notes.Notes`. Made by `open_sqlite_notes`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def get(self, space: str, key: str) -> str | None:
        now = self._clock.now()
        return await self._read(lambda c: _get(c, space, key, now))

    async def put(self, space: str, key: str, text: str, until: float) -> None:
        check(space, key, text=text)
        now = self._clock.now()
        await self._write(lambda c: _put(c, space, key, text, until, now))

    async def first(self, space: str, key: str, text: str, until: float) -> str:
        check(space, key, text=text)
        now = self._clock.now()

        def job(connection: Connection) -> str:
            there = _get(connection, space, key, now)
            if there is None:
                _put(connection, space, key, text, until, now)
            return text if there is None else there

        return await self._write(job)

    async def page(self, space: str, after: str = "", limit: int = PAGE_MAX) -> tuple[Note, ...]:
        now = self._clock.now()
        rows = await self._read(
            lambda c: c.execute(
                "SELECT key, text FROM note WHERE space = ? AND key > ? AND until > ? ORDER BY key LIMIT ?",
                (space, after, now, min(limit, PAGE_MAX)),
            ).fetchall()
        )
        return tuple(Note(key, text) for key, text in rows)

    async def remove(self, space: str, keys: Sequence[str]) -> None:
        rows = [(space, key) for key in keys[:PAGE_MAX]]
        await self._write(lambda c: _remove(c, rows))

    async def close(self) -> None:
        await self._database.close()

    async def _read(self, job: Callable[[Connection], T]) -> T:
        try:
            return await self._database.read(job)
        except DatabaseUnavailable as error:
            raise NotesUnavailable(str(error)) from error

    async def _write(self, job: Callable[[Connection], T]) -> T:
        try:
            return await self._database.write(job)
        except DatabaseUnavailable as error:
            raise NotesUnavailable(str(error)) from error


async def open_sqlite_notes(folder: Path, clock: Clock | None = None) -> SqliteNotes:
    """Open (or make) the file. Raises what `Database.open` raises."""
    database = Database(folder / FILE_NAME, migrations=MIGRATIONS, readers=1)
    await database.open()
    return SqliteNotes(database, clock or SystemClock())


def _get(connection: Connection, space: str, key: str, now: float) -> str | None:
    row = connection.execute(
        "SELECT text FROM note WHERE space = ? AND key = ? AND until > ?", (space, key, now)
    ).fetchone()
    return None if row is None else str(row[0])


def _put(connection: Connection, space: str, key: str, text: str, until: float, now: float) -> None:
    connection.execute(
        "DELETE FROM note WHERE (space, key) IN (SELECT space, key FROM note WHERE until <= ? LIMIT ?)",
        (now, PURGED_AT_ONCE),
    )
    connection.execute(
        "INSERT INTO note (space, key, text, until) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (space, key) DO UPDATE SET text = excluded.text, until = excluded.until",
        (space, key, text, until),
    )


def _remove(connection: Connection, rows: Sequence[tuple[str, str]]) -> None:
    connection.executemany("DELETE FROM note WHERE space = ? AND key = ?", rows)
