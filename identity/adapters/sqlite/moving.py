"""``identity.transfer.Transfer`` over SQLite."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from identity.adapters.sqlite import integrations
from identity.adapters.sqlite.schema import MIGRATIONS
from identity.integrations import integration_of, plain
from identity.port import Unavailable
from identity.transfer import (
    AccountRecord,
    AliasRecord,
    AppPasswordRecord,
    DkimRecord,
    DomainRecord,
    IntegrationsRecord,
    Kind,
    Marker,
    Record,
    SecretRecord,
    TransferRefused,
)
from runtime.sqlite import Database, DatabaseUnavailable

T = TypeVar("T")

_ACCOUNT: Final = AccountRecord._fields[:-1]
_APP: Final = AppPasswordRecord._fields
_TABLES: Final = {
    Kind.DOMAINS: ("domain", DomainRecord._fields),
    Kind.ACCOUNTS: ("account", _ACCOUNT),
    Kind.ALIASES: ("alias", AliasRecord._fields),
    Kind.DKIM_KEYS: ("dkim_key", DkimRecord._fields),
    Kind.INTEGRATIONS: ("integration", ("DISTINCT account",)),
    Kind.SECRETS: ("secret", SecretRecord._fields),
}


class SqliteTransfer:
    """Over one file, which the caller's process alone owns."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self._database = Database(path, migrations=MIGRATIONS, readers=1)

    async def open(self) -> None:
        """Open or make the file; one of an earlier release is brought up to date. Unavailable."""
        try:
            await self._database.open()
        except DatabaseUnavailable as error:
            raise Unavailable(str(error)) from error

    async def close(self) -> None:
        await self._database.close()

    async def page(self, kind: Kind, after: str, limit: int) -> Sequence[Record]:
        table, fields = _TABLES[kind]
        first = fields[0].split()[-1]
        query = f"SELECT {', '.join(fields)} FROM {table} WHERE {first} > ? ORDER BY {first} LIMIT ?"
        return await self._read(
            lambda c: [_record(c, kind, row) for row in c.execute(query, (after, limit)).fetchall()]
        )

    async def marker(self) -> Marker | None:
        def read(connection: sqlite3.Connection) -> Marker | None:
            if not is_marked(connection):
                return None
            return Marker(*connection.execute("SELECT source, place FROM transfer").fetchone())

        return await self._read(read)

    async def begin(self, source: str) -> None:
        def job(connection: sqlite3.Connection) -> None:
            tables = [table for kind, (table, _) in _TABLES.items() if kind is not Kind.SECRETS]
            full = any(connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() for table in tables)
            if full or is_marked(connection):
                raise TransferRefused(f"{self._path} is not empty: it has domains or accounts.")
            connection.execute("CREATE TABLE transfer (source TEXT NOT NULL, place TEXT NOT NULL)")
            connection.execute("INSERT INTO transfer VALUES (?, '')", (source,))

        await self._write(job)

    async def put(self, records: Sequence[Record], place: str) -> None:
        def job(connection: sqlite3.Connection) -> None:
            for record in records:
                _put(connection, record)
            connection.execute("UPDATE transfer SET place = ?", (place,))

        await self._write(job)

    async def finish(self) -> None:
        await self._write(lambda connection: connection.execute("DROP TABLE transfer").rowcount)

    async def erase(self) -> None:
        def job(connection: sqlite3.Connection) -> None:
            if not is_marked(connection):
                raise TransferRefused(f"{self._path} holds no unfinished migration.")
            # App passwords go with their accounts.
            for table, _ in _TABLES.values():
                connection.execute(f"DELETE FROM {table}")
            connection.execute("DROP TABLE transfer")

        await self._write(job)

    async def _read(self, job: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._database.read(job)
        except DatabaseUnavailable as error:
            raise Unavailable(str(error)) from error

    async def _write(self, job: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._database.write(job)
        except DatabaseUnavailable as error:
            raise Unavailable(str(error)) from error


async def open_transfer(path: str | os.PathLike[str]) -> SqliteTransfer:
    """Open (or make) the file, which this process alone owns, to be moved from or to. Unavailable."""
    transfer = SqliteTransfer(path)
    await transfer.open()
    return transfer


def is_marked(connection: sqlite3.Connection) -> bool:
    """Is the database the target of a move that is not finished?"""
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'transfer'").fetchone() is not None


def _put(connection: sqlite3.Connection, record: Record) -> None:
    match record:
        case DomainRecord():
            _insert(connection, "domain", DomainRecord._fields, record)
        case AccountRecord():
            # Its name is free for others, but a row has one.
            key = record.key if record.removed_at is None else f"#{record.id}"
            _insert(connection, "account", _ACCOUNT, record._replace(key=key)[: len(_ACCOUNT)])
            for app in record.apps:
                _insert(connection, "app_password", (*_APP, "account"), (*app, record.id))
        case AliasRecord():
            targets = json.dumps(record.targets)
            _insert(connection, "alias", AliasRecord._fields, (record.key, record.domain, record.address, targets))
        case DkimRecord():
            _insert(connection, "dkim_key", DkimRecord._fields, record)
        case IntegrationsRecord():
            held = tuple(integration_of(record.account, item) for item in record.items)
            integrations.put(connection, record.account, held)
        case SecretRecord():
            connection.execute("INSERT OR REPLACE INTO secret (name, value) VALUES (?, ?)", record)


def _insert(connection: sqlite3.Connection, table: str, fields: Sequence[str], values: Sequence[Any]) -> None:
    connection.execute(
        f"INSERT INTO {table} ({', '.join(fields)}) VALUES ({', '.join('?' * len(fields))}) "
        f"ON CONFLICT ({fields[0]}) DO NOTHING",
        tuple(values),
    )


def _record(connection: sqlite3.Connection, kind: Kind, row: Sequence[Any]) -> Record:
    match kind:
        case Kind.DOMAINS:
            return DomainRecord(*row)
        case Kind.ACCOUNTS:
            found = AccountRecord(*row)
            apps = connection.execute(
                f"SELECT {', '.join(_APP)} FROM app_password WHERE account = ? ORDER BY id", (found.id,)
            )
            key = found.key if found.removed_at is None else ""
            return found._replace(
                key=key, enabled=bool(found.enabled), apps=tuple([AppPasswordRecord(*app) for app in apps])
            )
        case Kind.ALIASES:
            key, domain, address, targets = row
            return AliasRecord(key, domain, address, tuple(json.loads(targets)))
        case Kind.DKIM_KEYS:
            return DkimRecord(*row)
        case Kind.INTEGRATIONS:
            (account,) = row
            return IntegrationsRecord(account, tuple(plain(one) for one in integrations.held(connection, account)))
        case Kind.SECRETS:
            return SecretRecord(*row)
