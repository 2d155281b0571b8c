"""Operations: each happens once. The outcome is kept with the change, and a repeat of the id gets it back.

Of one that is not repeated nothing is kept: that is two pages less of each commit.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from typing import Any

from storage.adapters.sqlite import bulk
from storage.limits import OPERATION_AGE
from storage.model import Operation, Unrepeated

_JSON = json.JSONEncoder(separators=(",", ":"))
Outcome = Any
"""Plain JSON: what is needed to tell the outcome again."""


def find(conn: sqlite3.Connection, op: Operation, now: float) -> Outcome | None:
    """The outcome of an operation that was done within the hour; None when it was not."""
    if isinstance(op, Unrepeated):
        return None
    row = conn.execute("SELECT created, outcome FROM operation WHERE id = ?", (op.id,)).fetchone()
    return None if row is None or row[0] < now - OPERATION_AGE else json.loads(row[1])


def known(conn: sqlite3.Connection, ids: Collection[str], now: float) -> set[str]:
    """Those of the operations that were done within the hour."""
    rows = conn.execute(
        "SELECT id FROM operation WHERE id IN (SELECT value FROM json_each(?)) AND created >= ?",
        (json.dumps(list(ids)), now - OPERATION_AGE),
    )
    return {id for (id,) in rows}


def keep_all(conn: sqlite3.Connection, ids: Collection[str], outcome: Outcome, now: float) -> None:
    """``keep`` for operations that came to the same."""
    told = _JSON.encode(outcome)
    bulk.insert(conn, "REPLACE INTO operation (id, created, outcome)", [(id, now, told) for id in ids])


def keep(conn: sqlite3.Connection, op: Operation, outcome: Outcome, now: float) -> None:
    """Keep the outcome (anything but None) in the same commit as the change."""
    if isinstance(op, Unrepeated):
        return
    # One of this id that is there was over the hour, and the sweep has not come to it yet.
    conn.execute(
        "REPLACE INTO operation (id, created, outcome) VALUES (?, ?, ?)",
        (op.id, now, _JSON.encode(outcome)),
    )


def expire(conn: sqlite3.Connection, now: float, limit: int) -> int:
    """Forget up to ``limit`` operations that are over an hour old."""
    # Numbers rise with time: the oldest are the lowest.
    rows = conn.execute("SELECT number, created FROM operation ORDER BY number LIMIT ?", (limit,)).fetchall()
    old = [number for number, created in rows if created < now - OPERATION_AGE]
    if old:
        conn.execute("DELETE FROM operation WHERE number <= ?", (old[-1],))
    return len(old)
