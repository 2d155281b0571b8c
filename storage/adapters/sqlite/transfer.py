"""``storage.transfer.Transfer`` over SQLite."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

from runtime.clock import Clock, SystemClock
from runtime.sqlite import Database, DatabaseUnavailable
from storage.adapters.sqlite import transfer_in, transfer_out, transfer_tables
from storage.adapters.sqlite.commits import told
from storage.adapters.sqlite.schema import MIGRATIONS, PAGE_SIZE
from storage.adapters.sqlite.transfer_tables import Ids
from storage.limits import CHUNK, STAGED_AT_ONCE
from storage.transfer import (
    AccountRecord,
    AnnotationsRecord,
    Batch,
    BlobRecord,
    EmailRecord,
    EntryRecord,
    EventsRecord,
    InMailbox,
    Marker,
    SpoolRecord,
    TransferRefused,
    VanishedRecord,
)

T = TypeVar("T")
FILE: Final = "storage.db"
_SEARCH: Final = "search.db"


class SqliteTransfer:
    """folder: of storage.db, which the caller has locked."""

    def __init__(self, folder: str | os.PathLike[str], clock: Clock | None = None) -> None:
        self._folder = Path(folder)
        self._clock = clock or SystemClock()
        self._database = self._fresh()

    async def open(self) -> None:
        """Open the database, or make it; one of an earlier release is brought up to date. Unavailable."""
        try:
            await self._database.open()
        except DatabaseUnavailable as error:
            raise told(error) from error

    async def close(self) -> None:
        await self._database.close()

    # -- giving

    async def highest(self) -> Mapping[str, int]:
        return await self._read(transfer_tables.highest)

    async def accounts(self, after: str, limit: int) -> tuple[AccountRecord, ...]:
        return await self._read(lambda conn: transfer_out.accounts(conn, after, limit))

    async def annotations(self, account: str, after: tuple[str, str], limit: int) -> tuple[AnnotationsRecord, ...]:
        return await self._read(lambda conn: transfer_out.annotation_sets(conn, account, after, limit))

    async def entries(self, at: InMailbox, after: int, limit: int, *, lost: bool) -> tuple[EntryRecord, ...]:
        return await self._read(lambda conn: transfer_out.entries(conn, at, after, limit, lost))

    async def vanished(self, at: InMailbox, after: int, limit: int) -> tuple[VanishedRecord, ...]:
        return await self._read(lambda conn: transfer_out.vanished(conn, at, after, limit))

    async def emails(self, account: str, ids: Collection[str]) -> tuple[EmailRecord, ...]:
        return await self._read(lambda conn: transfer_out.emails(conn, account, ids))

    async def blobs(self, ids: Sequence[str], octets: int) -> tuple[BlobRecord, ...]:
        return await self._read(lambda conn: transfer_out.bodies(conn, ids, octets))

    async def octets(self, id: str, start: int, end: int) -> bytes:
        return await self._read(lambda conn: transfer_out.octets_of(conn, Ids(conn).number("B", id), start, end))

    async def bodies(self, after: str, limit: int) -> tuple[str, ...]:
        return await self._read(lambda conn: transfer_out.listed(conn, after, limit))

    async def spool(self, after: str, limit: int) -> tuple[SpoolRecord, ...]:
        return await self._read(lambda conn: transfer_out.spool(conn, after, limit))

    async def events(self, after: str, limit: int) -> tuple[EventsRecord, ...]:
        return await self._read(lambda conn: transfer_out.kept_events(conn, after, limit))

    # -- taking

    async def marker(self) -> Marker | None:
        return await self._read(transfer_tables.marker)

    async def begin(self, source: str, highest: Mapping[str, int]) -> None:
        def job(conn: sqlite3.Connection) -> None:
            # Of a server that ran here and refused mail for accounts that it never had.
            conn.execute("DELETE FROM event")
            transfer_tables.make(conn, source, highest)

        if not await self._read(lambda conn: not transfer_tables.is_marked(conn) and transfer_in.is_empty(conn)):
            raise TransferRefused(f"The store in {self._folder} is not empty.")
        # The index of a store that was here before would be taken for this one's.
        await asyncio.to_thread(_unlink, self._folder, _SEARCH)
        await self._write(job)

    async def lacking_emails(self, account: str, ids: Collection[str]) -> set[str]:
        return await self._lacking("E", "email", ids)

    async def lacking_blobs(self, ids: Collection[str]) -> set[str]:
        return await self._lacking("B", "blob WHERE size >= 0 AND", ids)

    async def _lacking(self, letter: str, table: str, ids: Collection[str]) -> set[str]:
        condition = table if " " in table else f"{table} WHERE"

        def job(conn: sqlite3.Connection) -> set[str]:
            found = Ids(conn).numbers(letter, ids)
            return {
                id
                for id in ids
                if id not in found
                or conn.execute(f"SELECT 1 FROM {condition} number = ?", (found[id],)).fetchone() is None
            }

        return await self._read(job)

    async def put_body(self, blob: BlobRecord, chunks: AsyncIterable[bytes]) -> None:
        now = self._clock.now()
        await self._write(lambda conn: transfer_in.begin_body(conn, Ids(conn), blob.id, now), lasting=False)
        buffer = bytearray()
        written = 0

        async def flush(octets: int) -> None:
            nonlocal written
            pieces = [bytes(buffer[start : min(start + CHUNK, octets)]) for start in range(0, octets, CHUNK)]
            del buffer[:octets]
            first, written = written, written + len(pieces)
            await self._write(
                lambda conn: transfer_in.write_body(conn, blob.id, first, pieces, self._clock.now()), lasting=False
            )

        async for piece in chunks:
            buffer += piece
            while len(buffer) >= STAGED_AT_ONCE * CHUNK:
                await flush(STAGED_AT_ONCE * CHUNK)
        if buffer:
            await flush(len(buffer))
        await self._write(lambda conn: transfer_in.finish_body(conn, blob, self._clock.now()))

    async def put(self, batch: Batch, place: str) -> None:
        now = self._clock.now()
        await self._write(lambda conn: transfer_in.put(conn, batch, place, now))

    async def renamed(self) -> Mapping[str, int]:
        return await self._read(transfer_tables.renamed)

    async def finish(self) -> None:
        await self._write(transfer_tables.drop)

    async def erase(self) -> None:
        if await self.marker() is None:
            raise TransferRefused(f"The store in {self._folder} holds no unfinished migration.")
        await self._database.close()
        await asyncio.to_thread(_unlink, self._folder, FILE)
        self._database = self._fresh()
        await self.open()

    # -- the database

    def _fresh(self) -> Database:
        return Database(self._folder / FILE, migrations=MIGRATIONS, page_size=PAGE_SIZE, readers=2)

    async def _read(self, job: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._database.read(job)
        except DatabaseUnavailable as error:
            raise told(error) from error

    async def _write(self, job: Callable[[sqlite3.Connection], T], *, lasting: bool = True) -> T:
        try:
            return await self._database.write(job, lasting=lasting)
        except DatabaseUnavailable as error:
            raise told(error) from error


async def open_transfer(folder: str | os.PathLike[str], clock: Clock | None = None) -> SqliteTransfer:
    """The store in a folder, which the caller has locked, to be moved from or to. Unavailable."""
    transfer = SqliteTransfer(folder, clock)
    await transfer.open()
    return transfer


def _unlink(folder: Path, name: str) -> None:
    # The file itself goes last: a log without its file would be taken for that of the next one.
    for one in (f"{name}-wal", f"{name}-shm", name):
        (folder / one).unlink(missing_ok=True)
