"""What the search index reads out of storage.db: whole messages, a bounded page at a time, on a reader's thread."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from typing import NamedTuple

from storage.adapters.sqlite.schema import CHUNK_BITS

PAGE_EMAILS = 128
"""Emails in one page: enough for the index to write its segments well, few enough for what FTS5 gathers to stay in the
processor's cache (varied mail costs 0.25 ms an email with 128, 0.33 with 256, 0.5 with 1,024)."""
SHORT_PAGE = 16
"""Emails in a page while storage.db is in use: 10 ms or less in which the index is in somebody's way."""
PAGE_OCTETS = 4 * 1024 * 1024
"""Octets after which a page of messages ends."""


class Source(NamedTuple):
    """One email as it is kept. raw: the blob, None where whoever reads the page said that it has it."""

    email: int
    account: int
    blob: int
    prefix: bytes
    raw: bytes | None


def above(conn: sqlite3.Connection, mark: int, most: int, known: Collection[int] = ()) -> tuple[list[Source], bool]:
    """The next page of emails with numbers above the mark, in order, so many at most, and whether it is full. known:
    blobs whose octets are not needed."""
    rows = conn.execute(
        "SELECT number, account, blob, prefix FROM email WHERE number > ? ORDER BY number LIMIT ?", (mark, most)
    ).fetchall()
    page = _with_octets(conn, rows, known)
    return page, len(page) < len(rows) or len(rows) == most


def of(conn: sqlite3.Connection, emails: Sequence[int], known: Collection[int] = ()) -> tuple[list[Source], int]:
    """A page of the first of these emails (ascending), without those that are gone, and how many of them it covers."""
    asked = emails[:PAGE_EMAILS]
    rows = conn.execute(
        "SELECT e.number, e.account, e.blob, e.prefix FROM json_each(?) j CROSS JOIN email e ON e.number = j.value",
        (json.dumps(asked),),
    ).fetchall()
    page = _with_octets(conn, rows, known)
    return page, len(asked) if len(page) == len(rows) else asked.index(page[-1].email) + 1


def _with_octets(
    conn: sqlite3.Connection, rows: Sequence[tuple[int, int, int, bytes]], known: Collection[int]
) -> list[Source]:
    """The page's rows with their blobs' octets, up to PAGE_OCTETS (a shared blob counts each time), at least one."""
    page: list[Source] = []
    total = 0
    sizes: dict[int, int] = {}
    read: dict[int, bytes] = {}
    for email, account, blob, prefix in rows:
        if blob not in sizes:
            (sizes[blob],) = conn.execute(
                "SELECT coalesce(max(size), 0) FROM blob WHERE number = ?", (blob,)
            ).fetchone()
        total += sizes[blob]
        if page and total > PAGE_OCTETS:
            break
        if blob not in known and blob not in read:
            first = blob << CHUNK_BITS
            chunks = conn.execute(
                "SELECT data FROM chunk WHERE key BETWEEN ? AND ? ORDER BY key", (first, first + (1 << CHUNK_BITS) - 1)
            )
            read[blob] = b"".join([chunk[0] for chunk in chunks])
        page.append(Source(email, account, blob, prefix, read.get(blob)))
    return page


def backlog(conn: sqlite3.Connection, mark: int, most: int = 100_000) -> tuple[int, float | None]:
    """How many emails have numbers above the mark (at most ``most`` are counted), and when the first was saved."""
    count, since = conn.execute(
        "SELECT count(*), min(saved) FROM (SELECT saved FROM email WHERE number > ? ORDER BY number LIMIT ?)",
        (mark, most),
    ).fetchone()
    return count, since


def last_number(conn: sqlite3.Connection) -> int:
    """The highest number that an email ever had."""
    row = conn.execute("SELECT seq FROM sqlite_sequence WHERE name = 'email'").fetchone()
    return row[0] if row is not None else 0


def gone(conn: sqlite3.Connection, emails: Sequence[int]) -> list[int]:
    """Those of the emails that are no more."""
    (found,) = conn.execute(
        "SELECT json_group_array(j.value) FROM json_each(?) j LEFT JOIN email e ON e.number = j.value "
        "WHERE e.number IS NULL",
        (json.dumps(emails),),
    ).fetchone()
    numbers: list[int] = json.loads(found)
    return numbers
