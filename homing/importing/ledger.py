"""What an import has brought: a file for each account and source, in the data folder of the machine that runs it.

A batch is noted before it is handed to the store, with the lowest uid that it can get there, and again when the store
has it. An import that was killed between the two finds the batch noted, and looks whether the store has it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from runtime.admin import FolderLock
from runtime.sqlite import Connection, Database, Migration

FOLDER: Final = "import"
"""Where the files are, in the data folder."""

MIGRATIONS: Final = (
    Migration(
        "what was brought",
        """
        CREATE TABLE folder (
            id INTEGER PRIMARY KEY, place TEXT NOT NULL, validity TEXT NOT NULL, mailbox TEXT NOT NULL,
            UNIQUE (place, validity)
        );
        CREATE TABLE message (
            folder INTEGER NOT NULL REFERENCES folder ON DELETE CASCADE, key TEXT NOT NULL, uid INTEGER,
            announced INTEGER NOT NULL, size INTEGER NOT NULL, flags INTEGER NOT NULL, keywords TEXT NOT NULL,
            problem TEXT, PRIMARY KEY (folder, key)
        ) WITHOUT ROWID;
        CREATE TABLE pending (
            folder INTEGER PRIMARY KEY REFERENCES folder ON DELETE CASCADE, op TEXT NOT NULL, above INTEGER NOT NULL,
            batch TEXT NOT NULL
        );
        """,
    ),
)


class Known(NamedTuple):
    """A message that was brought. uid: of the mailbox here; None where it was refused, for the reason in problem.
    announced: octets, as the source said; size: those that it had. flags and keywords: as the source last had them."""

    key: str
    uid: int | None
    announced: int
    size: int
    flags: int
    keywords: tuple[str, ...]
    problem: str | None = None


class Sent(NamedTuple):
    """A message of a batch on its way to the store."""

    key: str
    announced: int
    size: int
    sha256: str
    flags: int
    keywords: tuple[str, ...]
    internaldate: int | None

    def known(self, uid: int | None, problem: str | None = None) -> Known:
        return Known(self.key, uid, self.announced, self.size, self.flags, self.keywords, problem)


@dataclass(frozen=True, slots=True)
class Pending:
    """A batch that the store may have or not. op: the operation's id. above: the lowest uid that it can have."""

    op: str
    above: int
    batch: tuple[Sent, ...]


@dataclass(frozen=True, slots=True)
class Noted:
    """A folder of the source, and the id of the mailbox that it goes to."""

    id: int
    mailbox: str


class Ledger:
    """Made by `open_ledger`. Errors: `runtime.sqlite.DatabaseUnavailable`."""

    def __init__(self, database: Database, lock: FolderLock) -> None:
        self._database = database
        self._lock = lock

    async def folder(self, place: str, validity: str) -> Noted | None:
        """The folder, if something of it was brought."""

        def read(connection: Connection) -> Noted | None:
            row = connection.execute(
                "SELECT id, mailbox FROM folder WHERE place = ? AND validity = ?", (place, validity)
            ).fetchone()
            return None if row is None else Noted(*row)

        return await self._database.read(read)

    async def note(self, place: str, validity: str, mailbox: str) -> Noted:
        """From now on the folder goes to this mailbox; what went to another is forgotten."""

        def write(connection: Connection) -> Noted:
            connection.execute(
                "DELETE FROM folder WHERE place = ? AND validity = ? AND mailbox <> ?", (place, validity, mailbox)
            )
            connection.execute(
                "INSERT OR IGNORE INTO folder (place, validity, mailbox) VALUES (?, ?, ?)", (place, validity, mailbox)
            )
            return Noted(
                *connection.execute(
                    "SELECT id, mailbox FROM folder WHERE place = ? AND validity = ?", (place, validity)
                ).fetchone()
            )

        return await self._database.write(write)

    async def known(self, folder: int, keys: Sequence[str]) -> dict[str, Known]:
        """Those of the keys that were brought or refused."""

        def read(connection: Connection) -> dict[str, Known]:
            rows = connection.execute(
                "SELECT key, uid, announced, size, flags, keywords, problem FROM message"
                " WHERE folder = ? AND key IN (SELECT value FROM json_each(?))",
                (folder, json.dumps(list(keys))),
            )
            return {
                key: Known(key, uid, announced, size, flags, tuple(words.split()), problem)
                for key, uid, announced, size, flags, words, problem in rows
            }

        return await self._database.read(read)

    async def pending(self, folder: int) -> Pending | None:
        """The batch of which it is not known whether the store has it."""

        def read(connection: Connection) -> Pending | None:
            row = connection.execute("SELECT op, above, batch FROM pending WHERE folder = ?", (folder,)).fetchone()
            if row is None:
                return None
            op, above, batch = row
            return Pending(
                op, above, tuple(Sent._make(one)._replace(keywords=tuple(one[5])) for one in json.loads(batch))
            )

        return await self._database.read(read)

    async def begin(self, folder: int, pending: Pending) -> None:
        """A batch is about to be handed to the store."""
        row = folder, pending.op, pending.above, json.dumps(pending.batch)
        await self._database.write(
            lambda connection: _nothing(connection.execute("INSERT OR REPLACE INTO pending VALUES (?, ?, ?, ?)", row))
        )

    async def finish(self, folder: int, brought: Sequence[Known]) -> None:
        """These are brought, or refused; no batch is on its way."""
        await self._database.write(lambda connection: _finish(connection, folder, brought))

    async def changed(self, folder: int, flags: Mapping[str, tuple[int, tuple[str, ...]]]) -> None:
        """The source's flags and keywords of messages that were brought, by key, as they are here too now."""
        rows = [(bits, " ".join(words), folder, key) for key, (bits, words) in flags.items()]
        await self._database.write(
            lambda connection: _nothing(
                connection.executemany("UPDATE message SET flags = ?, keywords = ? WHERE folder = ? AND key = ?", rows)
            )
        )

    async def close(self) -> None:
        await self._database.close()
        self._lock.release()


async def open_ledger(data: Path, account: str, source: str) -> Ledger:
    """Open (or make) the file of this account and source. FolderLocked where another import has it; else what
    `Database.open` raises."""
    folder, name = _place(data, account, source)
    lock = FolderLock(folder, name)
    lock.acquire()
    database = Database(folder / f"{name}.db", migrations=MIGRATIONS, readers=1)
    try:
        await database.open()
    except BaseException:
        lock.release()
        raise
    return Ledger(database, lock)


def there_is(data: Path, account: str, source: str) -> bool:
    """Has anything been brought from there to this account?"""
    folder, name = _place(data, account, source)
    return (folder / f"{name}.db").exists()


def _place(data: Path, account: str, source: str) -> tuple[Path, str]:
    return data / FOLDER, hashlib.sha256(f"{account}\0{source}".encode()).hexdigest()[:32]


def _finish(connection: Connection, folder: int, brought: Sequence[Known]) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO message (folder, key, uid, announced, size, flags, keywords, problem)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (folder, one.key, one.uid, one.announced, one.size, one.flags, " ".join(one.keywords), one.problem)
            for one in brought
        ],
    )
    connection.execute("DELETE FROM pending WHERE folder = ?", (folder,))


def _nothing(_cursor: object) -> None:
    """A job returns plain values."""
