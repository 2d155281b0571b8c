"""Blobs: the bytes of messages in chunks, and what ingest read out of them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from storage.adapters.sqlite import bulk, ids
from storage.adapters.sqlite.schema import CHUNK_BITS
from storage.ingest import Forms
from storage.limits import CHUNK
from storage.model import StagedBlob
from storage.port import Reason, Refused

RAW = 0
"""The codec of bytes as they are: the one there is."""
PARTIAL = -1
"""``size`` of a staged body that is still being written."""
LEAVING = -2
"""``size`` of a blob of which some chunks are swept already."""


class Kept(NamedTuple):
    """A whole blob, without its bytes."""

    number: int
    codec: int
    size: int
    sha256: bytes
    version: int


_INSERT = (
    "INSERT INTO blob (size, refs, freed, version, sent, sent_day, sha256, envelope, body, bodystructure, parts, "
    "preview, keys)"
)


# headers: what a release of before ``usual`` has left there takes room, and is read by nobody.
_DESCRIBE = (
    "UPDATE blob SET version = ?, sent = ?, sent_day = ?, sha256 = ?, envelope = ?, body = ?, bodystructure = ?, "
    "parts = ?, headers = NULL, preview = ?, keys = ?"
)


def add(conn: sqlite3.Connection, bodies: Sequence[tuple[bytes, bytes, Forms]], refs: int) -> range:
    """Keep bodies that fit in one chunk each, (content, sha256, forms), named by ``refs`` emails and spool items each;
    their numbers."""
    rows = [(len(content), refs, None, *_columns(sha256, forms)) for content, sha256, forms in bodies]
    numbers = bulk.numbered(conn, _INSERT, rows)
    chunks = [(n << CHUNK_BITS, content) for n, (content, _, _) in zip(numbers, bodies, strict=True) if content]
    bulk.insert(conn, "INSERT INTO chunk (key, data)", chunks)
    usual = [(n, forms.headers) for n, (_, _, forms) in zip(numbers, bodies, strict=True) if forms.headers is not None]
    bulk.insert(conn, "INSERT INTO usual (blob, lines)", usual)
    return numbers


def refer(conn: sqlite3.Connection, staged: StagedBlob, refs: int) -> int:
    """Name a staged body; its number. NO_SUCH_BLOB when it was swept or is not whole."""
    number = ids.number(staged.id, "B")
    row = conn.execute(
        "UPDATE blob SET refs = refs + ?, freed = NULL WHERE number = ? AND size = ? AND sha256 = ? RETURNING number",
        (refs, number, staged.size, staged.sha256),
    ).fetchone()
    if row is None:
        raise Refused(Reason.NO_SUCH_BLOB)
    return number


def begin(conn: sqlite3.Connection, now: float) -> int:
    """A body to be staged: its number. From now on the sweep forgets it when nothing names it."""
    number = conn.execute("INSERT INTO blob (size, refs, freed, version) VALUES (?, 0, ?, 0)", (PARTIAL, now)).lastrowid
    if number is None:
        raise RuntimeError("no row was made")
    return number


def write(conn: sqlite3.Connection, number: int, first: int, chunks: Sequence[bytes], now: float) -> None:
    """Keep chunks from number ``first`` on, each of CHUNK octets (the last may be shorter)."""
    # A slow sender's body is not a forgotten one.
    if conn.execute("UPDATE blob SET freed = ? WHERE number = ? AND size = ?", (now, number, PARTIAL)).rowcount == 0:
        raise Refused(Reason.NO_SUCH_BLOB)
    # One statement for all of them: each one more is one more wait for the interpreter's lock.
    rows = [value for n, chunk in enumerate(chunks, first) for value in (number << CHUNK_BITS | n, chunk)]
    conn.execute(f"INSERT INTO chunk (key, data) VALUES {', '.join(['(?, ?)'] * len(chunks))}", rows)


def finish(conn: sqlite3.Connection, number: int, size: int, sha256: bytes, forms: Forms, now: float) -> None:
    """The staged body is whole and described."""
    # The sweep may have begun on a body that waited too long.
    changed = conn.execute(
        f"{_DESCRIBE}, size = ?, freed = ? WHERE number = ? AND size = ?",
        (*_columns(sha256, forms), size, now, number, PARTIAL),
    )
    if changed.rowcount == 0:
        raise Refused(Reason.NO_SUCH_BLOB)
    _set_usual(conn, number, forms.headers)


def describe(conn: sqlite3.Connection, number: int, sha256: bytes, forms: Forms) -> None:
    """Keep what ingest read out of the body, if it is still there."""
    if conn.execute(f"{_DESCRIBE} WHERE number = ?", (*_columns(sha256, forms), number)).rowcount:
        _set_usual(conn, number, forms.headers)


def forget(conn: sqlite3.Connection, number: int) -> None:
    """Remove what is kept of the blob beside its chunks."""
    conn.execute("DELETE FROM blob WHERE number = ?", (number,))
    _set_usual(conn, number, None)


def read(conn: sqlite3.Connection, number: int, codec: int, start: int, end: int) -> bytes:
    """Octets [start, end) of the blob, which is at least ``end`` long."""
    if codec != RAW:
        raise ValueError(f"blob {number} has the unknown codec {codec}")
    pieces: list[bytes] = []
    while start < end:
        n, offset = divmod(start, CHUNK)
        wanted = min(end - start, CHUNK - offset)
        row = conn.execute(
            "SELECT substr(data, ?, ?) FROM chunk WHERE key = ?", (offset + 1, wanted, number << CHUNK_BITS | n)
        ).fetchone()
        if row is None or len(row[0]) != wanted:
            raise ValueError(f"chunk {n} of blob {number} is not whole")
        pieces.append(row[0])
        start += wanted
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def drop(conn: sqlite3.Connection, number: int) -> None:
    """One email or spool item less names it; the sweep takes one that nothing names any more."""
    conn.execute("UPDATE blob SET refs = refs - 1, freed = CASE WHEN refs = 1 THEN 0 END WHERE number = ?", (number,))


def drop_all(conn: sqlite3.Connection, numbers: Sequence[int]) -> None:
    """``drop`` for each of these; one that stands there twice is named by two less."""
    conn.execute(
        "UPDATE blob SET refs = refs - dropped.times, freed = CASE WHEN refs = dropped.times THEN 0 END "
        "FROM (SELECT value AS number, count(*) AS times FROM json_each(?) GROUP BY value) AS dropped "
        "WHERE blob.number = dropped.number",
        (json.dumps(numbers),),
    )


def listed(conn: sqlite3.Connection, after: int, limit: int) -> list[Kept]:
    """The next whole blobs in order."""
    rows = conn.execute(
        "SELECT number, codec, size, sha256, version FROM blob WHERE number > ? AND size >= 0 ORDER BY number LIMIT ?",
        (after, max(1, limit)),
    ).fetchall()
    return [Kept(*row) for row in rows]


def described(conn: sqlite3.Connection, version: int) -> int:
    """The blobs up to this one have been described by this version."""
    (number,) = conn.execute(
        "SELECT coalesce((SELECT blob FROM described WHERE version = ?), 0)", (version,)
    ).fetchone()
    return int(number)


def set_described(conn: sqlite3.Connection, version: int, number: int) -> None:
    """What ``described`` answers from now on."""
    conn.execute("UPDATE described SET version = ?, blob = ?", (version, number))


def _set_usual(conn: sqlite3.Connection, number: int, lines: bytes | None) -> None:
    if lines is None:
        conn.execute("DELETE FROM usual WHERE blob = ?", (number,))
    else:
        conn.execute("INSERT OR REPLACE INTO usual (blob, lines) VALUES (?, ?)", (number, lines))


def _columns(sha256: bytes, forms: Forms) -> tuple[object, ...]:
    return (
        forms.version,
        forms.sent,
        forms.sent_day,
        sha256,
        forms.envelope,
        forms.body,
        forms.bodystructure,
        forms.parts,
        forms.preview,
        forms.keys,
    )
