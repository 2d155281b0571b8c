"""Many rows in few statements: each statement is one more wait for the interpreter's lock."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

ROWS_MAX: Final = 64
"""Rows of one statement. Numbers of rows are powers of two, so that there are few different statements."""


def insert(conn: sqlite3.Connection, head: str, rows: Sequence[Sequence[Any]]) -> None:
    """Run ``head`` (up to VALUES) for these rows, all of one width, in their order."""
    start, size = 0, ROWS_MAX
    while start < len(rows):
        while size > len(rows) - start:
            size //= 2
        some = rows[start : start + size]
        row = f"({', '.join('?' * len(some[0]))})"
        conn.execute(f"{head} VALUES {', '.join([row] * size)}", [value for one in some for value in one])
        start += size
