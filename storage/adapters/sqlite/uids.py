"""Sets of uids in SQL."""

from __future__ import annotations

import json
import sqlite3
from typing import Literal

from storage.model import Ranges

Table = Literal["entry", "lost"]


def source(table: Table, mailbox: int, uids: Ranges) -> tuple[str, tuple[int | str, ...]]:
    """``FROM … WHERE …`` over the rows ``e`` of the mailbox that are in the set, and its parameters.

    Without ORDER BY the rows come in uid order: the ranges are the outer loop and rise, and the table is clustered
    by uid. (Asking for the order would make SQLite sort all before the first row.)
    """
    if len(uids) <= 1:
        first, last = uids[0] if uids else (1, 0)
        return f"FROM {table} AS e WHERE e.mailbox = ? AND e.uid BETWEEN ? AND ?", (mailbox, first, last)
    return (
        f"FROM json_each(?) AS r CROSS JOIN {table} AS e ON e.mailbox = ? "
        "AND e.uid BETWEEN r.value ->> 0 AND r.value ->> 1 WHERE true",
        (json.dumps(uids), mailbox),
    )


def within(mailbox: int, uids: Ranges) -> tuple[str, tuple[int | str, ...]]:
    """A condition on rows of ``entry``, for UPDATE and DELETE, and its parameters."""
    if len(uids) <= 1:
        first, last = uids[0] if uids else (1, 0)
        return "mailbox = ? AND uid BETWEEN ? AND ?", (mailbox, first, last)
    rows, parameters = source("entry", mailbox, uids)
    return f"mailbox = ? AND uid IN (SELECT e.uid {rows})", (mailbox, *parameters)


def all_uids(conn: sqlite3.Connection, mailbox: int, messages: int) -> Ranges:
    """The uids of all messages of the mailbox, which has that many."""
    if not messages:
        return ()
    ends = conn.execute(
        "SELECT (SELECT min(uid) FROM entry WHERE mailbox = ?1), (SELECT max(uid) FROM entry WHERE mailbox = ?1)",
        (mailbox,),
    ).fetchone()
    if ends[1] - ends[0] + 1 == messages:
        return (ends,)
    # Within a run of uids, uid minus its rank stays the same.
    rows = conn.execute(
        "SELECT min(uid), max(uid) FROM "
        "(SELECT uid, uid - row_number() OVER (ORDER BY uid) AS run FROM entry WHERE mailbox = ?) "
        "GROUP BY run ORDER BY 1",
        (mailbox,),
    ).fetchall()
    return tuple(rows)
