"""Entries made of rows, and ranges of a body's octets."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from storage.adapters.sqlite import blobs, ids
from storage.adapters.sqlite.keywords import Names
from storage.model import INLINE_MAX, Entry
from storage.port import Reason, Refused

ENTRY = "e.uid, e.modseq, e.flags, e.keywords, e.email, e.internaldate, e.savedate"
EntryRow = tuple[int, int, int, str, int, int, int]


def made(rows: Iterable[EntryRow], names: Names) -> tuple[Entry, ...]:
    """Entries as the port shows them."""
    make, no_keywords = tuple.__new__, ()
    return tuple(
        [
            make(
                Entry,
                (uid, modseq, flags, names.of(keywords) if keywords else no_keywords, f"E{email:x}", internal, saved),
            )
            for uid, modseq, flags, keywords, email, internal, saved in rows
        ]
    )


def octets(conn: sqlite3.Connection, account: str, email: str, start: int, end: int) -> bytes:
    """Octets [start, end) of the email's blob, at most INLINE_MAX. NO_SUCH_MESSAGE."""
    row = conn.execute(
        "SELECT m.blob, b.size, b.codec FROM email AS m JOIN account AS a ON a.number = m.account "
        "JOIN blob AS b ON b.number = m.blob WHERE m.number = ? AND a.id = ?",
        (ids.number(email, "E"), account),
    ).fetchone()
    if row is None:
        raise Refused(Reason.NO_SUCH_MESSAGE)
    blob, size, codec = row
    start = max(0, start)
    return blobs.read(conn, blob, codec, start, min(end, size, start + INLINE_MAX))
