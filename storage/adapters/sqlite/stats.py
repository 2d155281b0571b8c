"""Totals, from counters that are kept anyway."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from storage.adapters.sqlite import spool
from storage.adapters.sqlite.schema import ACCOUNT_OPEN
from storage.model import IndexHealth, StorageStats


class Totals(NamedTuple):
    accounts: int
    emails: int
    size: int
    emails_today: int
    spool: spool.Totals


def totals(conn: sqlite3.Connection, now: float) -> Totals:
    accounts, emails, size = conn.execute(
        "SELECT count(*), coalesce(sum(messages), 0), coalesce(sum(size), 0) FROM account WHERE state = ?",
        (ACCOUNT_OPEN,),
    ).fetchone()
    today = conn.execute("SELECT messages FROM saved WHERE day = ?", (int(now // 86400),)).fetchone()
    return Totals(accounts, emails, size, today[0] if today is not None else 0, spool.totals(conn))


def told(totals: Totals, index: IndexHealth) -> StorageStats:
    """The same in the port's words."""
    waiting = totals.spool
    return StorageStats(*totals[:4], waiting.items, index, waiting.held, waiting.oldest)
