"""Reading messages: entries, rows with stored forms, ranges of octets."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence

from storage.adapters.sqlite import blobs, ids, mailboxes
from storage.adapters.sqlite.keywords import Names
from storage.adapters.sqlite.schema import CHUNK_BITS
from storage.adapters.sqlite.uids import Table, source
from storage.ingest import keys_of
from storage.limits import PAGE_ENTRIES, PAGE_OCTETS, PAGE_ROWS
from storage.model import INLINE_MAX, Entry, FlagPage, MailboxRef, Ranges, Row, Want
from storage.port import Reason, Refused

ENTRY = "e.uid, e.modseq, e.flags, e.keywords, e.email, e.internaldate, e.savedate"
EntryRow = tuple[int, int, int, str, int, int, int]

_FORMS: tuple[tuple[Want, str], ...] = (
    (Want.SIZE, "e.size"),
    (Want.PREFIX, "m.prefix"),
    (Want.ENVELOPE, "b.envelope"),
    (Want.BODY, "b.body"),
    (Want.BODYSTRUCTURE, "b.bodystructure"),
    (Want.PARTS, "b.parts"),
    (Want.HEADERS, "b.headers"),
    (Want.PREVIEW, "b.preview"),
    (Want.KEYS, "b.keys"),
    (Want.CONTENT, f"CASE WHEN b.size <= {INLINE_MAX} THEN coalesce(c.data, x'') END"),
)


_KEYS = 6 + Row._fields.index("keys")


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


def page(conn: sqlite3.Connection, ref: MailboxRef, uids: Ranges, limit: int) -> tuple[Entry, ...]:
    place = mailboxes.readable(conn, ref)
    rows, parameters = source("entry", place.number, uids)
    found = conn.execute(f"SELECT {ENTRY} {rows} LIMIT ?", (*parameters, max(1, min(limit, PAGE_ENTRIES))))
    return made(found, Names(conn, place.account))


def page_of_flags(conn: sqlite3.Connection, ref: MailboxRef, uids: Ranges, limit: int) -> FlagPage:
    """The columns as texts in one row, which is a third of the time that their thousands of rows would take."""
    place = mailboxes.readable(conn, ref)
    rows, parameters = source("entry", place.number, uids)
    numbers = conn.execute(
        "SELECT group_concat(uid), group_concat(modseq), group_concat(flags), "
        "group_concat(CASE WHEN keywords <> '' THEN uid || ':' || keywords END, ' ') "
        f"FROM (SELECT e.uid, e.modseq, e.flags, e.keywords {rows} LIMIT ?)",
        (*parameters, max(1, min(limit, PAGE_ENTRIES))),
    ).fetchone()
    found, modseqs, flags = (tuple(json.loads(f"[{column or ''}]")) for column in numbers[:3])
    names = Names(conn, place.account)
    keywords = (one.split(":") for one in (numbers[3] or "").split())
    return FlagPage(found, modseqs, flags, tuple([(int(uid), names.of(characters)) for uid, characters in keywords]))


def page_of_rows(
    conn: sqlite3.Connection, table: Table, ref: MailboxRef, uids: Ranges, want: Want, limit: int
) -> tuple[Row, ...]:
    """Rows until ``limit`` or PAGE_OCTETS, at least one while there is one."""
    place = mailboxes.readable(conn, ref)
    names = Names(conn, place.account)
    rows, parameters = source(table, place.number, uids)
    before, after = rows.split(" WHERE ")
    columns = ", ".join(column if want & part else "NULL" for part, column in _FORMS)
    joins = ""
    if want & ~Want.SIZE:
        joins += " CROSS JOIN email AS m ON m.number = e.email"
    if want & ~(Want.SIZE | Want.PREFIX):
        joins += " CROSS JOIN blob AS b ON b.number = m.blob"
    if want & Want.CONTENT:
        # A body longer than INLINE_MAX is not fetched: its key is none.
        joins += f" LEFT JOIN chunk AS c ON c.key = CASE WHEN b.size <= {INLINE_MAX} THEN m.blob << {CHUNK_BITS} END"
    cursor = conn.execute(
        f"SELECT {ENTRY}, {columns} {before}{joins} WHERE {after} LIMIT ?",
        (*parameters, max(1, min(limit, PAGE_ROWS))),
    )
    # The columns whose octets count: all that were asked for but the size, which is a number.
    counted = [place for place, (part, _) in enumerate(_FORMS, 7) if want & part & ~Want.SIZE]
    return _rows(cursor, counted, bool(want & Want.KEYS), names)


def _rows(cursor: sqlite3.Cursor, counted: Sequence[int], with_keys: bool, names: Names) -> tuple[Row, ...]:
    """The cursor's rows, up to PAGE_OCTETS of the columns counted. Ten thousand rows a FETCH come through here, so
    tuples are made as tuples and not by calls with names."""
    found: list[Row] = []
    total = 0
    make = tuple.__new__
    for row in cursor:
        for place in counted:
            if row[place] is not None:
                total += len(row[place])
        if total > PAGE_OCTETS and found:
            break
        keywords = row[3]
        entry = make(
            Entry, (row[0], row[1], row[2], names.of(keywords) if keywords else (), f"E{row[4]:x}", row[5], row[6])
        )
        whole = make(Row, (entry, *row[7:]))
        if with_keys:
            whole = whole._replace(keys=keys_of(row[_KEYS], entry.internaldate))
        found.append(whole)
    cursor.close()
    return tuple(found)


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
