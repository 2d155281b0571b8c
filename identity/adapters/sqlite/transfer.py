"""Accounts by the thousand: import and export."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from identity.adapters.sqlite.accounts import Accounts, check_free, insert
from identity.arguments import after_key, page
from identity.fresh import Fresh, Kept, all_kept, checked_rows
from identity.limits import ROWS_PER_COMMIT
from identity.model import ExportedAccount, ImportOutcome, NewAccount, Role
from identity.port import Refused


class Transfer(Accounts):
    """import_accounts, export_accounts."""

    async def import_accounts(self, rows: Sequence[NewAccount]) -> tuple[ImportOutcome, ...]:
        outcomes: list[ImportOutcome] = []
        for begin in range(0, len(rows), ROWS_PER_COMMIT):
            outcomes += await self._import_some(rows[begin : begin + ROWS_PER_COMMIT])
        return tuple(outcomes)

    async def _import_some(self, rows: Sequence[NewAccount]) -> list[ImportOutcome]:
        checked = await checked_rows(rows)
        # Bad rows are found before their passwords cost anything; the job that inserts looks again.
        found = await self._read(lambda c: [_free(c, row) for row in checked])
        made = await all_kept(self._passwords, self._scram, found)
        now = self._clock.now()

        def job(connection: sqlite3.Connection) -> list[ImportOutcome]:
            return [
                _inserted(connection, row.address, fresh, kept, now)
                for row, fresh, kept in zip(rows, found, made, strict=True)
            ]

        return await self._change(job)

    async def export_accounts(self, limit: int = 1000, after: str = "") -> tuple[ExportedAccount, ...]:
        begin, rows = after_key(after), page(limit)
        found = await self._read(
            lambda c: c.execute(
                "SELECT address, password_hash, quota, role, display_name, enabled, mask FROM account"
                " WHERE removed_at IS NULL AND key > ? ORDER BY key LIMIT ?",
                (begin, rows),
            ).fetchall()
        )
        return tuple(
            ExportedAccount(address, hash, quota, Role(role), display_name, bool(enabled), tuple(mask.split()))
            for address, hash, quota, role, display_name, enabled, mask in found
        )


def _free(connection: sqlite3.Connection, row: Fresh | str) -> Fresh | str:
    if isinstance(row, str):
        return row
    try:
        check_free(connection, row.name)
    except Refused as error:
        return error.text
    return row


def _inserted(
    connection: sqlite3.Connection, address: str, fresh: Fresh | str, kept: Kept, now: float
) -> ImportOutcome:
    if isinstance(fresh, str):
        return ImportOutcome(address, None, fresh)
    try:
        # It looks before it inserts, so a refused row leaves nothing to take back.
        return ImportOutcome(address, insert(connection, fresh, kept, now), None)
    except Refused as error:
        return ImportOutcome(address, None, error.text)
