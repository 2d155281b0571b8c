"""Header fields with their offsets, from any bytes (RFC 5322 §2.2).

A header block runs from its first byte to the end of its blank line, if it has one. Lines may end with CRLF or a bare
LF; a line without a colon is junk: it is kept verbatim wherever bytes are copied and names no field.
Names are compared as upper-case bytes; callers pass them so.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

MAX_BYTES = 256 * 1024
"""How far into a header block `parse` looks for fields."""

MAX_FIELDS = 2_000
"""How many fields `parse` keeps of one block."""

USUAL_MAX = 16 * 1024
"""The most bytes that `usual` returns."""

USUAL: tuple[bytes, ...] = (
    b"BCC",
    b"CC",
    b"CONTENT-TRANSFER-ENCODING",
    b"CONTENT-TYPE",
    b"DATE",
    b"DELIVERED-TO",
    b"FROM",
    b"IMPORTANCE",
    b"IN-REPLY-TO",
    b"MESSAGE-ID",
    b"MIME-VERSION",
    b"PRIORITY",
    b"REFERENCES",
    b"REPLY-TO",
    b"RETURN-PATH",
    b"SENDER",
    b"SUBJECT",
    b"TO",
    b"USER-AGENT",
    b"X-MAILER",
    b"X-PRIORITY",
)
"""The fields that `usual` keeps, beside every one whose name begins with USUAL_PREFIX."""

USUAL_PREFIX = b"LIST-"

_USUAL_SET = frozenset(USUAL)
# Possessive throughout: each byte is looked at once, whatever the bytes are.
_FIELD = re.compile(rb"([^:\n]*+)(:?)[ \t]*+()[^\n]*+\n?(?:[ \t][^\n]*+\n?)*+")


class Field(NamedTuple):
    """One field: raw[start:end] is its lines verbatim, raw[value:end] its value with the folding still in it."""

    name: bytes
    start: int
    value: int
    end: int


class Headers:
    """The fields of one header block, in order; offsets count from the start of `raw`."""

    __slots__ = ("_by_name", "fields", "raw")

    def __init__(self, raw: bytes, fields: list[Field]) -> None:
        self.raw = raw
        self.fields = fields
        by_name: dict[bytes, list[Field]] = {}
        for field in fields:
            named = by_name.get(field[0])
            if named is None:
                by_name[field[0]] = [field]
            else:
                named.append(field)
        self._by_name = by_name

    def __contains__(self, name: bytes) -> bool:
        return name in self._by_name

    def value(self, field: Field) -> bytes:
        """A field's value unfolded: every CR and LF taken out, nothing decoded (RFC 5322 §2.2.3)."""
        return unfold(self.raw[field.value : field.end])

    def first(self, name: bytes) -> bytes | None:
        """The unfolded value of the first field of this name, None when there is none."""
        named = self._by_name.get(name)
        return None if named is None else self.value(named[0])

    def last(self, name: bytes) -> bytes | None:
        """The unfolded value of the last field of this name, None when there is none."""
        named = self._by_name.get(name)
        return None if named is None else self.value(named[-1])

    def all(self, name: bytes) -> list[bytes]:
        """The unfolded values of all fields of this name, in order."""
        return [self.value(field) for field in self._by_name.get(name, ())]


def unfold(value: bytes) -> bytes:
    """A value without its line ends (RFC 5322 §2.2.3); a stray CR or LF goes with them."""
    return value.translate(None, b"\r\n")


def parse(
    raw: bytes, start: int = 0, end: int | None = None, max_bytes: int = MAX_BYTES, max_fields: int = MAX_FIELDS
) -> Headers:
    """The fields of the block raw[start:end], in time linear in its size.

    Beyond max_bytes and max_fields the rest of the block names no field; a field that crosses max_bytes is cut there.
    """
    stop = len(raw) if end is None else end
    stop = min(stop, start + max_bytes)
    fields: list[Field] = []
    make = tuple.__new__
    for match in _FIELD.finditer(raw, start, stop):
        if match[2]:
            begin, finish = match.span()
            # A tuple made as a tuple: a message has a dozen fields, and the call by name costs as much as the match.
            fields.append(make(Field, (match[1].upper().rstrip(b" \t"), begin, match.start(3), finish)))
            if len(fields) == max_fields:
                break
    return Headers(raw, fields)


def lines(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each (upper-case name, field verbatim) of a whole block up to its blank line; junk has the empty name.

    Walks line by line, so a block of any size never holds the interpreter for long.
    """
    start, size = 0, len(block)
    while start < size:
        end = block.find(b"\n", start) + 1 or size
        if end - start <= 2 and block[start:end] in (b"\r\n", b"\n"):
            return
        while end < size and block[end] in b" \t":
            end = block.find(b"\n", end) + 1 or size
        colon = block.find(b":", start, end)
        name = b"" if colon < 0 else block[start:colon].rstrip().upper()
        yield name, block[start:end]
        start = end


def is_usual(name: bytes) -> bool:
    """Whether a field of this name, in any case, is answered from the bytes that `usual` kept."""
    upper = name.upper()
    return upper in _USUAL_SET or upper.startswith(USUAL_PREFIX)


def usual(block: bytes) -> bytes | None:
    """The lines that clients ask for daily, verbatim and in order, without the blank line.

    None when they are more than USUAL_MAX bytes together, or the block is more than MAX_BYTES: then the caller reads
    the block itself.
    """
    if len(block) > MAX_BYTES:
        return None
    kept: list[bytes] = []
    total = 0
    for name, text in lines(block):
        if name in _USUAL_SET or name.startswith(USUAL_PREFIX):
            kept.append(text)
            total += len(text)
            if total > USUAL_MAX:
                return None
    if kept and not kept[-1].endswith(b"\n"):
        kept.append(b"\r\n")
    return b"".join(kept)


def select(block: bytes, names: Collection[bytes], invert: bool = False) -> bytes:
    """HEADER.FIELDS or, with invert, HEADER.FIELDS.NOT: the matching lines verbatim and a blank line (RFC 3501 §6.4.5).

    names are upper-case. The answer always ends with CRLF CRLF or, when nothing matched, is CRLF alone.
    """
    kept = [text for name, text in lines(block) if (name in names) is not invert]
    if kept and not kept[-1].endswith(b"\n"):
        kept.append(b"\r\n")
    # RFC 3501 §6.4.5: the delimiting blank line is always there
    kept.append(b"\r\n")
    return b"".join(kept)
