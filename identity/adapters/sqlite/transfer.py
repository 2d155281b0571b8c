"""Accounts by the thousand: import and export."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence

from identity.adapters.sqlite.accounts import Accounts, Fresh, check_free, checked_row, insert
from identity.adapters.sqlite.base import page
from identity.adapters.sqlite.rows import address_name
from identity.model import ExportedAccount, ImportOutcome, NewAccount, Role
from identity.port import Refused

ROWS_PER_COMMIT = 250


class Transfer(Accounts):
    """import_accounts, export_accounts."""

    async def import_accounts(self, rows: Sequence[NewAccount]) -> tuple[ImportOutcome, ...]:
        outcomes: list[ImportOutcome] = []
        for begin in range(0, len(rows), ROWS_PER_COMMIT):
            outcomes += await self._import_some(rows[begin : begin + ROWS_PER_COMMIT])
        return tuple(outcomes)

    async def _import_some(self, rows: Sequence[NewAccount]) -> list[ImportOutcome]:
        checked = await asyncio.to_thread(lambda: [_checked(row) for row in rows])
        # Bad rows are found before their passwords cost anything; the job that inserts looks again.
        found = await self._read(lambda c: [_free(c, row) for row in checked])
        turn = asyncio.Semaphore(self._passwords.threads)

        async def hashed(row: Fresh | str) -> str:
            if isinstance(row, str):
                return ""
            # No more at once than there are threads, so that who signs in meanwhile waits for few.
            async with turn:
                return await self._hash_of(row)

        hashes = await asyncio.gather(*(hashed(row) for row in found))
        now = self._clock.now()

        def job(connection: sqlite3.Connection) -> list[ImportOutcome]:
            return [
                _inserted(connection, row.address, fresh, hash, now)
                for row, fresh, hash in zip(rows, found, hashes, strict=True)
            ]

        return await self._change(job)

    async def export_accounts(self, limit: int = 1000, after: str = "") -> tuple[ExportedAccount, ...]:
        begin, rows = address_name(after).key if after else "", page(limit)
        found = await self._read(
            lambda c: c.execute(
                "SELECT address, password_hash, quota, role, display_name, enabled FROM account"
                " WHERE removed_at IS NULL AND key > ? ORDER BY key LIMIT ?",
                (begin, rows),
            ).fetchall()
        )
        return tuple(
            ExportedAccount(address, hash, quota, Role(role), display_name, bool(enabled))
            for address, hash, quota, role, display_name, enabled in found
        )


def _checked(new: NewAccount) -> Fresh | str:
    try:
        return checked_row(new)
    except Refused as error:
        return error.text


def _free(connection: sqlite3.Connection, row: Fresh | str) -> Fresh | str:
    if isinstance(row, str):
        return row
    try:
        check_free(connection, row.name)
    except Refused as error:
        return error.text
    return row


def _inserted(connection: sqlite3.Connection, address: str, fresh: Fresh | str, hash: str, now: float) -> ImportOutcome:
    if isinstance(fresh, str):
        return ImportOutcome(address, None, fresh)
    try:
        # It looks before it inserts, so a refused row leaves nothing to take back.
        return ImportOutcome(address, insert(connection, fresh, hash, now), None)
    except Refused as error:
        return ImportOutcome(address, None, error.text)
