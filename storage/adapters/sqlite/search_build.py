"""What changes search.db, on its writer's thread. Each tells the CPU seconds that it took."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from time import thread_time
from typing import NamedTuple

from mail import structure
from storage.adapters.sqlite.search_schema import FIELDS, TEXT_MAX, add_fields, key
from storage.adapters.sqlite.search_source import Source
from storage.search.document import body_pieces, header_text

WHOLE_MAX = 256 * 1024
"""Octets of a body's text that are handed to SQLite at once; more go piece by piece, because each hand-over holds the
interpreter's lock."""
_BEGUN = 0
"""The key, which no email has, of a body that is written piece by piece: Python 3.11.2 opens no row above 2³¹."""


class Handed(NamedTuple):
    """A message taken apart already."""

    raw: bytes
    part: structure.Part


def taken_apart(source: Source, handed: Mapping[int, Handed]) -> Handed:
    """The message of a source: handed over by delivery, or parsed from the octets read."""
    if source.raw is None:
        return handed[source.blob]
    return Handed(source.raw, structure.parse(source.raw))


def header_of(source: Source, message: Handed) -> bytes:
    """The header text of an email: its own prefix before the blob's header."""
    return header_text(source.prefix, message.raw[message.part.header_start : message.part.body_start])


class Added(NamedTuple):
    """Of a page: up to which email all are indexed, how many of it are not, and the CPU seconds that it took."""

    mark: int
    left: int
    cpu: float


def add(
    conn: sqlite3.Connection,
    page: Sequence[Source],
    handed: Mapping[int, Handed],
    removed: Container[int],
    goes_on: Callable[[], bool],
) -> Added:
    """Index a page of emails, until it is done or ``goes_on``, asked after each, says no; and move the mark. removed:
    emails that left while the page was on its way.

    Those up to the mark are there already, from a page whose commit was not heard of; and above it there may be some of
    a page that ended before all of it was done.
    """
    begun = thread_time()
    (mark,) = conn.execute("SELECT email FROM mark").fetchone()
    there = _there(conn, page)
    new = [
        source
        for source in page
        if source.email > mark and source.email not in removed and key(source.account, source.email) not in there
    ]
    # FTS5 writes out all it has gathered whenever a key is lower than the one before: in order of keys that happens
    # once a page, which costs half as much.
    new.sort(key=lambda source: (source.account, source.email))
    copies = Counter(source.blob for source in new)
    shared: dict[int, tuple[Handed, list[bytes] | None]] = {}
    left: list[Source] = []
    for at, source in enumerate(new, 1):
        message, body = shared.pop(source.blob) if source.blob in shared else _read(source, handed)
        copies[source.blob] -= 1
        if copies[source.blob]:
            shared[source.blob] = message, body
        id = key(source.account, source.email)
        if body is None:
            conn.execute("INSERT OR REPLACE INTO large (id) VALUES (?)", (id,))
        else:
            _add_text(conn, id, header_of(source, message), body)
        if at < len(new) and not goes_on():
            left = new[at:]
            break
    mark = max(mark, min([source.email - 1 for source in left], default=page[-1].email))
    conn.execute("UPDATE mark SET email = ?", (mark,))
    return Added(mark, len(left), thread_time() - begun)


def _there(conn: sqlite3.Connection, page: Sequence[Source]) -> frozenset[int]:
    """The keys of the page's emails that are indexed already."""
    (found,) = conn.execute(
        "SELECT json_group_array(j.value) FROM json_each(?) j "
        "WHERE EXISTS (SELECT 1 FROM header WHERE id = j.value) OR EXISTS (SELECT 1 FROM large WHERE id = j.value)",
        (json.dumps([key(source.account, source.email) for source in page]),),
    ).fetchone()
    return frozenset(json.loads(found))


def _read(source: Source, handed: Mapping[int, Handed]) -> tuple[Handed, list[bytes] | None]:
    """The message taken apart, and its body's text, None when that is over TEXT_MAX."""
    message = taken_apart(source, handed)
    return message, _bounded_body(message)


def _bounded_body(message: Handed) -> list[bytes] | None:
    pieces: list[bytes] = []
    total = 0
    for piece in body_pieces(message.raw, message.part):
        total += len(piece)
        if total > TEXT_MAX:
            return None
        pieces.append(piece)
    return [b"".join(pieces)] if total <= WHOLE_MAX else pieces


def _add_text(conn: sqlite3.Connection, id: int, header: bytes, body: list[bytes]) -> None:
    conn.execute("INSERT INTO header (id, text) VALUES (?, ?)", (id, header))
    add_fields(conn, id, header)
    if len(body) == 1:
        conn.execute("INSERT INTO body (id, text) VALUES (?, ?)", (id, body[0]))
        conn.execute("INSERT INTO trigram (rowid, header, body) VALUES (?, ?, ?)", (id, header, body[0]))
        return
    conn.execute("INSERT INTO body (id, text) VALUES (?, zeroblob(?))", (_BEGUN, sum(map(len, body))))
    with conn.blobopen("body", "text", _BEGUN) as stored:
        for piece in body:
            stored.write(piece)
    conn.execute("UPDATE body SET id = ? WHERE id = ?", (id, _BEGUN))
    conn.execute(
        "INSERT INTO trigram (rowid, header, body) "
        "SELECT h.id, h.text, b.text FROM header h JOIN body b ON b.id = h.id WHERE h.id = ?",
        (id,),
    )


def remove(conn: sqlite3.Connection, emails: Sequence[tuple[int, int]]) -> float:
    """Take emails, (account number, email number) each, out of the index; those that are not in it do not matter."""
    begun = thread_time()
    for account, email in emails:
        id = (key(account, email),)
        # FTS5 without its own copy of the text must be told what it is to forget.
        conn.execute(
            "INSERT INTO trigram (trigram, rowid, header, body) "
            "SELECT 'delete', h.id, h.text, b.text FROM header h JOIN body b ON b.id = h.id WHERE h.id = ?",
            id,
        )
        conn.execute("DELETE FROM header WHERE id = ?", id)
        conn.executemany("DELETE FROM field WHERE name = ? AND id = ?", [(name, *id) for name in FIELDS.values()])
        conn.execute("DELETE FROM body WHERE id = ?", id)
        conn.execute("DELETE FROM large WHERE id = ?", id)
    return thread_time() - begun
