"""Accounts elsewhere through which accounts of ours send."""

from __future__ import annotations

import sqlite3
from typing import Any, Final

from identity import integrations
from identity.adapters.sqlite.base import Base
from identity.adapters.sqlite.rows import find
from identity.integrations import COLUMNS, Held
from identity.model import Integration, IntegrationSettings
from identity.tokens import new_id

_ROW: Final = ", ".join(COLUMNS)


class Integrations(Base):
    """integrations, add_integration, change_integration, set_default_integration, remove_integration, sealed_with."""

    async def integrations(self, account: str) -> tuple[Integration, ...]:
        def read(connection: sqlite3.Connection) -> Held:
            find(connection, account)
            return held(connection, account)

        return await self._read(read)

    async def add_integration(self, account: str, settings: IntegrationSettings) -> Integration:
        integrations.check(settings)
        now = self._clock.now()
        made = Integration(new_id(), account, settings, False, 1, now, now)

        def add(connection: sqlite3.Connection) -> Integration:
            find(connection, account)
            after = integrations.added(held(connection, account), made)
            put(connection, account, after)
            return after[-1]

        return await self._write(add)

    async def change_integration(
        self, account: str, id: str, revision: int, settings: IntegrationSettings
    ) -> Integration:
        integrations.check(settings)
        now = self._clock.now()

        def change(connection: sqlite3.Connection) -> Integration:
            find(connection, account)
            after = integrations.changed(held(connection, account), id, revision, settings, now)
            put(connection, account, after)
            return integrations.found(after, id)

        return await self._write(change)

    async def set_default_integration(self, account: str, id: str) -> Integration:
        def choose(connection: sqlite3.Connection) -> Integration:
            find(connection, account)
            after = integrations.made_default(held(connection, account), id)
            put(connection, account, after)
            return integrations.found(after, id)

        return await self._write(choose)

    async def remove_integration(self, account: str, id: str) -> None:
        def remove(connection: sqlite3.Connection) -> None:
            find(connection, account)
            put(connection, account, integrations.without(held(connection, account), id))

        await self._write(remove)

    async def sealed_with(self) -> tuple[tuple[str, int], ...]:
        def read(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
            return connection.execute("SELECT key, count(*) FROM integration GROUP BY key ORDER BY key").fetchall()

        return tuple((str(key), int(count)) for key, count in await self._read(read))


def held(connection: sqlite3.Connection, account: str) -> Held:
    """All of the account, in the order of their making."""
    rows = connection.execute(f"SELECT {_ROW} FROM integration WHERE account = ? ORDER BY place", (account,))
    return tuple(integrations.integration_of(account, row) for row in rows)


def put(connection: sqlite3.Connection, account: str, after: Held) -> None:
    """Keep these, and no others, for the account."""
    connection.execute("DELETE FROM integration WHERE account = ?", (account,))
    marks = ", ".join("?" * (len(COLUMNS) + 2))
    connection.executemany(
        f"INSERT INTO integration (account, place, {_ROW}) VALUES ({marks})",
        [(account, place, *integrations.plain(one)) for place, one in enumerate(after)],
    )
