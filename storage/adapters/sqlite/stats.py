"""Totals, from counters that are kept anyway."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from storage.adapters.sqlite import accounts, spool
from storage.adapters.sqlite.schema import ACCOUNT_OPEN
from storage.model import IndexHealth, StorageStats


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
