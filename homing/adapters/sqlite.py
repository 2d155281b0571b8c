"""Overrides in `config.db` in the data folder, which one process owns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from homing.overrides import OverridesUnavailable, Saved
from runtime.sqlite import Connection, Database, DatabaseUnavailable, Migration

FILE_NAME = "config.db"
MIGRATIONS = (
    Migration("overrides", "CREATE TABLE override (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"),
    Migration("revision", "CREATE TABLE revision (number INTEGER NOT NULL); INSERT INTO revision VALUES (0)"),
)


class SqliteOverrides:
    """`homing.overrides.Overrides`. Made by `open_sqlite`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self) -> Saved:
        try:
            return await self._database.read(_read)
        except DatabaseUnavailable as error:
            raise OverridesUnavailable(str(error)) from error

    async def replace(self, revision: int, values: Mapping[str, str]) -> bool:
        try:
            return await self._database.write(lambda connection: _replace(connection, revision, values))
        except DatabaseUnavailable as error:
            raise OverridesUnavailable(str(error)) from error

    async def close(self) -> None:
        await self._database.close()


async def open_sqlite(folder: Path) -> SqliteOverrides:
    """Open (or make) the file. Raises what `Database.open` raises."""
    database = Database(folder / FILE_NAME, migrations=MIGRATIONS, readers=1)
    await database.open()
    return SqliteOverrides(database)


def _read(connection: Connection) -> Saved:
    (revision,) = connection.execute("SELECT number FROM revision").fetchone()
    return Saved(revision, dict(connection.execute("SELECT key, value FROM override").fetchall()))


def _replace(connection: Connection, revision: int, values: Mapping[str, str]) -> bool:
    if connection.execute("UPDATE revision SET number = number + 1 WHERE number = ?", (revision,)).rowcount == 0:
        return False
    connection.execute("DELETE FROM override")
    connection.executemany("INSERT INTO override (key, value) VALUES (?, ?)", list(values.items()))
    return True
