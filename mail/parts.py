"""The part table: a message's structure as few bytes, enough to find every body section (RFC 3501 §6.4.5).

Stored form: one version byte (1: 32-bit offsets, 2: 64-bit), then one fixed row a part in the order of the raw bytes,
little-endian: parent's row (16 bits), kind (8), encoding (8), header_start, body_start, body_end.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from mail.structure import Part

LEAF = 0
MULTIPART = 1
MESSAGE = 2

SEVENBIT = 0
EIGHTBIT = 1
BINARY = 2
QUOTED_PRINTABLE = 3
BASE64 = 4
OTHER = 5

MAX_ROWS = 0xFFFF

_ENCODINGS = {
    b"": SEVENBIT,
    b"7bit": SEVENBIT,
    b"8bit": EIGHTBIT,
    b"binary": BINARY,
    b"quoted-printable": QUOTED_PRINTABLE,
    b"base64": BASE64,
}
_SMALL = struct.Struct("<HBBIII")
_LARGE = struct.Struct("<HBBQQQ")


class Row(NamedTuple):
    """One part: its parent's row (the root is its own), its kind and transfer encoding, its byte ranges in raw."""

    parent: int
    kind: int
    encoding: int
    header_start: int
    body_start: int
    body_end: int


PartTable = tuple[Row, ...]


def encoding_of(part: Part) -> int:
    """The transfer encoding of a part as one of this module's numbers; OTHER when it is none that is known."""
    return SEVENBIT if part.encoding is None else _ENCODINGS.get(part.encoding.lower(), OTHER)


def table(part: Part) -> PartTable:
    """The rows of a part tree, each part before its children.

    ValueError when the tree has more than MAX_ROWS parts: parse with Limits.max_parts below that.
    """
    return tuple(map(Row._make, _rows(part)))


def _rows(part: Part) -> list[tuple[int, int, int, int, int, int]]:
    rows: list[tuple[int, int, int, int, int, int]] = []
    todo = [(part, 0)]
    while todo:
        node, parent = todo.pop()
        kind = MULTIPART if node.is_multipart else MESSAGE if node.is_message else LEAF
        index = len(rows)
        rows.append((parent, kind, encoding_of(node), node.header_start, node.body_start, node.body_end))
        if node.children:
            todo.extend((child, index) for child in reversed(node.children))
    if len(rows) > MAX_ROWS:
        raise ValueError(f"more than {MAX_ROWS} parts")
    return rows


def encode(part: Part) -> bytes:
    """The stored form of a part tree; errors as `table`."""
    rows = _rows(part)
    large = part.body_end > 0xFFFFFFFF
    pack = (_LARGE if large else _SMALL).pack
    return (b"\x02" if large else b"\x01") + b"".join([pack(*row) for row in rows])


def decode(data: bytes) -> PartTable:
    """The table from its stored form; ValueError when it is none."""
    layout = {b"\x01": _SMALL, b"\x02": _LARGE}.get(data[:1])
    if layout is None or len(data) == 1 or (len(data) - 1) % layout.size:
        raise ValueError("not a part table")
    return tuple([Row(*values) for values in layout.iter_unpack(memoryview(data)[1:])])


def _children(rows: PartTable, index: int) -> list[int]:
    return [at for at in range(index + 1, len(rows)) if rows[at].parent == index]


def find(rows: PartTable, path: tuple[int, ...]) -> int | None:
    """The row of the part that a section's numbers name (RFC 3501 §6.4.5); None when there is no such part.

    Part 1 of a message that is no multipart is the message's own row.
    """
    at = 0
    inside = False
    for number in path:
        row = rows[at]
        if inside and row.kind == MESSAGE:
            # RFC 3501 §6.4.5: the parts of a message/rfc822 are those of the message in it
            at += 1
            row = rows[at]
            inside = False
        if row.kind == MULTIPART:
            children = _children(rows, at)
            if not 1 <= number <= len(children):
                return None
            at = children[number - 1]
        elif inside or number != 1:
            return None
        inside = True
    return at


def locate(rows: PartTable, path: tuple[int, ...], what: str = "") -> tuple[int, int] | None:
    """The byte range in raw of BODY[path.what]; what is "", "HEADER", "TEXT" or "MIME" (RFC 3501 §6.4.5).

    None when there is no such section, which IMAP answers with NIL. HEADER.FIELDS choose from the HEADER range.
    """
    index = find(rows, path)
    if index is None:
        return None
    row = rows[index]
    if not path:
        if what == "MIME":
            return None
        if what == "":
            return row.header_start, row.body_end
    elif what == "MIME":
        return row.header_start, row.body_start
    elif what == "":
        return row.body_start, row.body_end
    elif row.kind == MESSAGE:
        row = rows[index + 1]
    else:
        # RFC 3501 §6.4.5: behind a part number HEADER and TEXT are for message/rfc822 alone
        return None
    return (row.header_start, row.body_start) if what == "HEADER" else (row.body_start, row.body_end)
