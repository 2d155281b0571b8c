"""What accounts use, and totals, from counters that are kept anyway."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from storage.adapters.sqlite import accounts, spool
from storage.adapters.sqlite.commits import Commits
from storage.adapters.sqlite.schema import ACCOUNT_OPEN
from storage.limits import USAGES_AT_ONCE
from storage.model import IndexHealth, StorageStats, Usage
from storage.port import Reason, Refused


class Usages:
    """The calls of the port, for the adapter."""

    _commits: Commits

    async def usage(self, account: str) -> Usage:
        (used,) = await self.usages((account,))
        return used

    async def usages(self, accounts: Sequence[str]) -> tuple[Usage, ...]:
        if len(accounts) > USAGES_AT_ONCE:
            raise Refused(Reason.LIMIT, f"What is used is told of {USAGES_AT_ONCE} accounts at once.")

        def read(conn: sqlite3.Connection) -> dict[str, Usage]:
            marks = ", ".join("?" * len(accounts))
            rows = conn.execute(f"SELECT id, size, messages FROM account WHERE id IN ({marks})", tuple(accounts))
            return {id: Usage(size, messages) for id, size, messages in rows}

        found = await self._commits.read(read)
        return tuple(found.get(account, Usage(0, 0)) for account in accounts)


class Totals(NamedTuple):
    accounts: int
    emails: int
    size: int
    emails_today: int
    spool: spool.Totals


def totals(conn: sqlite3.Connection, now: float) -> Totals:
    accounts_, emails, size, today = conn.execute(
        "SELECT count(*), coalesce(sum(messages), 0), coalesce(sum(size), 0), "
        "coalesce(sum(iif(saved_day = ?, saved, 0)), 0) FROM account WHERE state = ?",
        (int(now // accounts.DAY), ACCOUNT_OPEN),
    ).fetchone()
    return Totals(accounts_, emails, size, today, spool.totals(conn))


def told(totals: Totals, index: IndexHealth) -> StorageStats:
    """The same in the port's words."""
    waiting = totals.spool
    return StorageStats(*totals[:4], waiting.items, index, waiting.held, waiting.oldest)
