"""Many rows in few statements: each statement is one more wait for the interpreter's lock."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

ROWS_MAX: Final = 64
"""Rows of one statement. Numbers of rows are powers of two, so that there are few different statements."""


def insert(conn: sqlite3.Connection, head: str, rows: Sequence[Sequence[Any]]) -> int:
    """Run ``head`` (up to VALUES) for these rows, all of one width, in their order. The last one's number, or 0."""
    start = last = 0
    while start < len(rows):
        size = min(ROWS_MAX, 1 << (len(rows) - start).bit_length() - 1)
        some = rows[start : start + size]
        values = some[0] if size == 1 else [value for one in some for value in one]
        last = conn.execute(_statement(head, len(some[0]), size), values).lastrowid or last
        start += size
    return last


@cache
def _statement(head: str, width: int, rows: int) -> str:
    row = f"({', '.join('?' * width)})"
    return f"{head} VALUES {', '.join([row] * rows)}"


def numbered(conn: sqlite3.Connection, head: str, rows: Sequence[Sequence[Any]]) -> range:
    """``insert`` into a table that numbers its rows (AUTOINCREMENT): their numbers, which follow one another."""
    last = insert(conn, head, rows)
    return range(last - len(rows) + 1, last + 1) if rows else range(0)
