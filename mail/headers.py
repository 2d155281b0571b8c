"""Header fields from any bytes (RFC 5322 §2.2).

A header block runs from its first byte to the end of its blank line, if it has one. Lines may end with CRLF or a bare
LF; a line without a colon is junk: it is kept verbatim wherever bytes are copied and names no field.
Names are compared as upper-case bytes; callers pass them so.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice

from mail import addresslist
from mail.addresslist import Entry

MAX_BYTES = 256 * 1024
"""How far into a header block `parse` looks for fields."""

MAX_FIELDS = 2_000
"""How many fields `parse` looks at in one block, junk among them."""

MAX_LINES = 4_000
"""Lines of a block that are taken apart in one call, which nothing else runs beside: a millisecond at most. A block of
MAX_BYTES may have thirty times as many."""

USUAL_MAX = 16 * 1024
"""The most bytes that `usual` returns."""

USUAL: tuple[bytes, ...] = (
    b"BCC",
    b"CC",
    b"CHAT-VERSION",
    b"CONTENT-DESCRIPTION",
    b"CONTENT-TYPE",
    b"DATE",
    b"DELIVERED-TO",
    b"DISPOSITION-NOTIFICATION-TO",
    b"FROM",
    b"IMPORTANCE",
    b"IN-REPLY-TO",
    b"LINES",
    b"MESSAGE-ID",
    b"NEWSGROUPS",
    b"PRIORITY",
    b"REFERENCES",
    b"REPLY-TO",
    b"SENDER",
    b"SUBJECT",
    b"TO",
    b"X-DRAFT-INFO",
    b"X-K9MAIL-IDENTITY",
    b"X-LABEL",
    b"X-ORIGINAL-TO",
    b"X-PRIORITY",
    b"X-UNIFORM-TYPE-IDENTIFIER",
    b"X-UNIVERSALLY-UNIQUE-IDENTIFIER",
)
"""The fields that `usual` keeps, beside every one whose name begins with USUAL_PREFIX: what widely used clients ask for
in their lists of messages (docs/imap-clients.md). A field that one of them asks for costs all of them room, so that one
that is long, or in nearly every message, is not among these for a single client. Whoever changes them raises
`ingestform.USUAL_SINCE`.
"""

USUAL_PREFIX = b"LIST-"

_USUAL_SET = frozenset(USUAL)
# Possessive throughout: each byte is looked at once, whatever the bytes are.
_REST = rb"[^\n]*+\n?(?:[ \t][^\n]*+\n?)*+"
# Name, colon (none in junk) and value with its folding.
_FIELD = re.compile(rb"([^:\n]*+)(:?)[ \t]*+(" + _REST + rb")")


def _any_case(name: bytes) -> bytes:
    # Classes, not IGNORECASE: a name that begins otherwise is told by one look.
    return b"".join(b"[%c%c]" % (char, char + 32) if 65 <= char <= 90 else re.escape(b"%c" % char) for char in name)


# The usual fields, as `lines` has them, are the group; another field matches without it, and so does all that follows
# the blank line.
_USUAL = re.compile(
    rb"((?:(?:%b)[ \t\r\f\v]*+(?:\n[ \t][ \t\r\f\v]*+)*+|%b[^:\n]*+(?:\n[ \t][^:\n]*+)*+):%b)|\r?\n(?s:.*+)|%b"
    % (b"|".join(map(_any_case, USUAL)), _any_case(USUAL_PREFIX), _REST, _REST)
)


class Headers:
    """The fields of one header block, by their names."""

    __slots__ = ("_addresses", "_by_name")

    def __init__(self, by_name: dict[bytes, list[bytes]]) -> None:
        """by_name: the values of each, in order, with their folding."""
        self._by_name = by_name
        self._addresses: dict[bytes, list[list[Entry]]] = {}

    def __eq__(self, other: object) -> bool:
        return self._by_name == other._by_name if isinstance(other, Headers) else NotImplemented

    def __contains__(self, name: bytes) -> bool:
        return name in self._by_name

    def has_none(self, names: frozenset[bytes]) -> bool:
        """Whether no field is of one of these names."""
        return names.isdisjoint(self._by_name)

    def first(self, name: bytes) -> bytes | None:
        """The unfolded value of the first field of this name, None when there is none."""
        named = self._by_name.get(name)
        return None if named is None else named[0].translate(None, b"\r\n")

    def last(self, name: bytes) -> bytes | None:
        """The unfolded value of the last field of this name, None when there is none."""
        named = self._by_name.get(name)
        return None if named is None else named[-1].translate(None, b"\r\n")

    def all(self, name: bytes) -> list[bytes]:
        """The unfolded values of all fields of this name, in order."""
        return [unfold(value) for value in self._by_name.get(name, ())]

    def addresses(self, name: bytes) -> Sequence[Sequence[Entry]]:
        """The entries of each field of this name, in order (`mail.addresslist`); read once, whoever asks."""
        if name not in self._by_name:
            return ()
        found = self._addresses.get(name)
        if found is None:
            found = self._addresses[name] = list(map(addresslist.parse, self.all(name)))
        return found


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
    by_name: dict[bytes, list[bytes]] = {}
    for name, colon, value in islice(_fields(raw, start, stop), max_fields):
        if not colon:
            continue
        name = name.upper().rstrip(b" \t")
        if name in by_name:
            by_name[name].append(value)
        else:
            by_name[name] = [value]
    return Headers(by_name)


def _fields(raw: bytes, start: int, stop: int) -> Iterable[tuple[bytes, bytes, bytes]]:
    if raw.count(b"\n", start, stop) <= MAX_LINES:
        return _FIELD.findall(raw, start, stop)
    return ((found[1], found[2], found[3]) for found in _FIELD.finditer(raw, start, stop))


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

    None when they are more than USUAL_MAX bytes together, or the block is more than MAX_BYTES or MAX_LINES: then the
    caller reads the block itself.
    """
    if len(block) > MAX_BYTES or block.count(b"\n") > MAX_LINES:
        return None
    kept = b"".join(_USUAL.findall(block))
    if len(kept) > USUAL_MAX:
        return None
    return kept if not kept or kept.endswith(b"\n") else kept + b"\r\n"


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
