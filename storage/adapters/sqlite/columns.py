"""Messages as columns, of entries and of stored forms."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from storage import ranges
from storage.adapters.sqlite import mailboxes
from storage.adapters.sqlite.keywords import Names
from storage.adapters.sqlite.schema import CHUNK_BITS
from storage.adapters.sqlite.uids import Table, source
from storage.ingest import keys_of
from storage.limits import PAGE_ENTRIES, PAGE_OCTETS, PAGE_ROWS
from storage.model import INLINE_MAX, Columns, MailboxRef, Ranges, Want

_NUMBERS: Final = (
    (Want.FLAGS, "flags", "e.flags"),
    (Want.MODSEQ, "modseqs", "e.modseq"),
    (Want.EMAIL, "emails", "e.email"),
    (Want.INTERNALDATE, "internaldates", "e.internaldate"),
    (Want.SAVEDATE, "savedates", "e.savedate"),
    (Want.SIZE, "sizes", "e.size"),
)
_IS_SHORT: Final = f"e.size - length(m.prefix) <= {INLINE_MAX}"
"""Of the blob: to look into it as well would take a fifth longer."""
_FORMS: Final = (
    (Want.PREFIX, "prefixes", "m.prefix"),
    (Want.ENVELOPE, "envelopes", "b.envelope"),
    (Want.BODY, "bodies", "b.body"),
    (Want.BODYSTRUCTURE, "bodystructures", "b.bodystructure"),
    (Want.PARTS, "parts", "b.parts"),
    (Want.HEADERS, "headers", "u.lines"),
    (Want.PREVIEW, "previews", "b.preview"),
    (Want.CONTENT, "contents", f"CASE WHEN {_IS_SHORT} THEN coalesce(c.data, x'') END"),
    (Want.KEYS, "keys", "b.keys"),
)
_ANY_FORM: Final = ~(Want.ENTRY | Want.SIZE)
_AT_ONCE: Final = 64
"""Messages that are read between two looks at how many octets there are; with contents after each."""


def page(conn: sqlite3.Connection, table: Table, ref: MailboxRef, uids: Ranges, want: Want, limit: int) -> Columns:
    """Columns until ``limit``, and with stored forms PAGE_OCTETS; one message at least while there is one."""
    place = mailboxes.readable(conn, ref)
    most = min(limit, PAGE_ROWS if want & _ANY_FORM else PAGE_ENTRIES)
    uids, more = _first(conn, table, place.number, uids, max(1, most))
    if not want & _ANY_FORM:
        return Columns(more=more, through=place.modseq, **_numbers(conn, table, place, uids, want))
    count, beyond, found = _forms(conn, table, place.number, uids, want)
    if beyond:
        uids, left = _first(conn, table, place.number, uids, count)
        more = more or left
    if want & ~_ANY_FORM or ranges.count(uids) != count:
        found |= _numbers(conn, table, place, uids, want)
    else:
        # All of the set are there: to read their numbers too would take a tenth longer.
        found["uids"] = range(uids[0][0], uids[0][1] + 1) if len(uids) == 1 else list(ranges.each(uids))
    return Columns(more=more, through=place.modseq, **found)


def _first(conn: sqlite3.Connection, table: Table, mailbox: int, uids: Ranges, most: int) -> tuple[Ranges, bool]:
    """What of the set holds its first messages, so many at most, and whether there are more."""
    if ranges.count(uids) <= most:
        return uids, False
    rows, parameters = source(table, mailbox, uids)
    beyond = conn.execute(f"SELECT e.uid {rows} LIMIT 1 OFFSET ?", (*parameters, most)).fetchone()
    return (uids, False) if beyond is None else (ranges.intersect(uids, ((1, beyond[0] - 1),)), True)


def _numbers(
    conn: sqlite3.Connection, table: Table, place: mailboxes.Place, uids: Ranges, want: Want
) -> dict[str, Any]:
    """The columns of ``entry``: each as one text, which is a third of the time that their rows would take."""
    rows, parameters = source(table, place.number, uids)
    wanted = [("uids", "e.uid"), *((name, column) for part, name, column in _NUMBERS if want & part)]
    # With a subquery to limit them, it would take twice as long.
    texts = [f"group_concat({column})" for _, column in wanted]
    if want & Want.FLAGS:
        texts.append("group_concat(e.uid || ':' || e.keywords, ' ') FILTER (WHERE e.keywords <> '')")
    values = conn.execute(f"SELECT {', '.join(texts)} {rows}", parameters).fetchone()
    found: dict[str, Any] = {
        name: json.loads(f"[{text or ''}]") for (name, _), text in zip(wanted[1:], values[1:], strict=False)
    }
    found["uids"] = _uids(values[0] or "")
    if want & Want.EMAIL:
        found["emails"] = [f"E{email:x}" for email in found["emails"]]
    if want & Want.FLAGS and values[-1]:
        names = Names(conn, place.account)
        pairs = (one.split(":") for one in values[-1].split())
        found["keywords"] = [(int(uid), names.of(characters)) for uid, characters in pairs]
    return found


def _uids(text: str) -> Sequence[int]:
    """The numbers of a text, ascending; a range where they follow on each other."""
    if not text:
        return ()
    first, last = int(text.partition(",")[0]), int(text.rpartition(",")[2])
    if last - first == text.count(","):
        return range(first, last + 1)
    numbers: list[int] = json.loads(f"[{text}]")
    return numbers


def _forms(
    conn: sqlite3.Connection, table: Table, mailbox: int, uids: Ranges, want: Want
) -> tuple[int, bool, dict[str, Any]]:
    """The columns of stored forms: of how many messages, whether there may be more as PAGE_OCTETS was passed, and
    they."""
    rows, parameters = source(table, mailbox, uids)
    before, after = rows.split(" WHERE ")
    joins = " CROSS JOIN email AS m ON m.number = e.email"
    if want & Want.HEADERS:
        joins += " LEFT JOIN usual AS u ON u.blob = m.blob"
    if want & _ANY_FORM & ~(Want.PREFIX | Want.HEADERS | Want.CONTENT):
        joins += " CROSS JOIN blob AS b ON b.number = m.blob"
    if want & Want.CONTENT:
        # A body longer than INLINE_MAX is not fetched: its key is none.
        joins += f" LEFT JOIN chunk AS c ON c.key = CASE WHEN {_IS_SHORT} THEN m.blob << {CHUNK_BITS} END"
    wanted = [(name, column) for part, name, column in _FORMS if want & part]
    selected = [column for _, column in wanted]
    if want & Want.KEYS:
        selected.append("e.internaldate")
    if want & Want.CONTENT:
        lengths = ("c.data" if name == "contents" else column for name, column in wanted)
        selected.append(" + ".join(f"coalesce(length({column}), 0)" for column in lengths))
    cursor = conn.execute(f"SELECT {', '.join(selected)} {before}{joins} WHERE {after}", parameters)
    if want & Want.CONTENT:
        columns, beyond = _one_by_one(cursor, len(selected))
    else:
        columns, beyond = _together(cursor, len(selected), len(wanted))
    cursor.close()
    found: dict[str, Any] = dict(zip([name for name, _ in wanted], columns, strict=False))
    if want & Want.KEYS:
        found["keys"] = list(map(keys_of, found["keys"], columns[len(wanted)]))
    return len(columns[0]), beyond, found


def _one_by_one(cursor: sqlite3.Cursor, width: int) -> tuple[Sequence[Sequence[Any]], bool]:
    """Columns until the last, the octets of each message, is more than PAGE_OCTETS; whether there are more messages."""
    rows: list[tuple[Any, ...]] = []
    octets = 0
    beyond = False
    for row in cursor:
        if octets > PAGE_OCTETS:
            beyond = True
            break
        rows.append(row)
        octets += row[-1]
    return list(zip(*rows, strict=True)) or [()] * width, beyond


def _together(cursor: sqlite3.Cursor, width: int, forms: int) -> tuple[Sequence[Sequence[Any]], bool]:
    """Columns until those of the forms, the first ones, are more than PAGE_OCTETS; whether there may be more
    messages."""
    columns: list[list[Any]] = [[] for _ in range(width)]
    octets = 0
    while octets <= PAGE_OCTETS and (some := cursor.fetchmany(_AT_ONCE)):
        for at, values in enumerate(zip(*some, strict=True)):
            columns[at] += values
            if at < forms:
                octets += sum(map(len, filter(None, values)))
    return columns, octets > PAGE_OCTETS
