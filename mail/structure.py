"""MIME structure in one pass, with offsets into the raw message (RFC 2045, RFC 2046).

Every byte string has a structure; it is found in time linear in its size, whatever its boundaries look like:
the parser only moves forward, and a boundary line is looked up in the set of open boundaries, not compared with each.
No call into C looks at more than SLICE bytes, so other threads run while a large message is parsed.

Broken MIME is read as Dovecot reads it: a part without an end boundary ends where its parent does or at the end of
the message, a boundary line needs only to begin with the boundary, headers may lack their blank line, lines may end
with a bare LF, and Content-* fields count when either MIME-Version or Content-Type is there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from mail import params
from mail.headers import MAX_BYTES, MAX_FIELDS, Headers
from mail.headers import parse as parse_headers
from mail.params import Pairs

SLICE = 256 * 1024
"""The most bytes that one call into C looks at."""

MAX_BOUNDARY = 80
"""How many bytes of a boundary are compared (RFC 2046 §5.1.1 allows 70)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a message is taken apart; what lies beyond is one opaque leaf, application/octet-stream."""

    max_parts: int = 10_000
    max_depth: int = 100
    max_header_bytes: int = MAX_BYTES
    max_fields: int = MAX_FIELDS


DEFAULT = Limits()


class Part(NamedTuple):
    """One part: raw[header_start:body_start] is its header with the blank line, raw[body_start:body_end] its body.

    type and subtype are lower-case, `media` has them as written. Parameters, encoding, id and so on are bytes as
    BODYSTRUCTURE shows them; `mail.params.decoded` makes text of parameters. lines counts the LFs of the body.
    A multipart has its parts as children (perhaps none), an enclosed message (message/rfc822, message/global) exactly
    one: the message in it. `fields` is the parsed header of a message (the root, or the child of an enclosed one), None
    for a MIME part.
    """

    header_start: int
    body_start: int
    body_end: int
    lines: int
    type: str
    subtype: str
    media: tuple[bytes, bytes]
    params: Pairs
    encoding: bytes | None
    content_id: bytes | None
    description: bytes | None
    md5: bytes | None
    disposition: bytes | None
    disposition_params: Pairs
    language: tuple[bytes, ...]
    location: bytes | None
    children: tuple[Part, ...]
    fields: Headers | None = None

    @property
    def is_multipart(self) -> bool:
        return self.type == "multipart"

    @property
    def is_message(self) -> bool:
        return self.type == "message" and (self.type, self.subtype) in _MESSAGES

    @property
    def size(self) -> int:
        """Bytes of the body as they are, before any transfer decoding."""
        return self.body_end - self.body_start


_TEXT = (b"text", b"plain")
_MESSAGE = (b"message", b"rfc822")
_OPAQUE = (b"application", b"octet-stream")
# RFC 9051 §9 (media-message), RFC 6532 §3.7
_MESSAGES = frozenset({("message", "rfc822"), ("message", "global")})
_EMPTY_LINE = re.compile(rb"\n\r?\n")


def parse(raw: bytes, limits: Limits = DEFAULT) -> Part:
    """The part tree of any bytes (RFC 2046 §5.1, RFC 2045 §5.2)."""
    return _Parser(raw, limits).run()


class _Open:
    """A part whose end is not yet known."""

    __slots__ = (
        "body_start",
        "boundary",
        "children",
        "digest",
        "fields",
        "header_start",
        "kind",
        "lines",
        "media",
        "values",
    )

    def __init__(self, header_start: int) -> None:
        self.header_start = header_start
        self.body_start = header_start
        self.boundary: bytes | None = None
        self.children: list[Part] = []
        self.digest = False
        self.fields: Headers | None = None
        self.kind: tuple[str, str] = ("text", "plain")
        self.lines = 0
        self.media = _TEXT
        self.values: _Values = _NO_VALUES


# params, encoding, id, description, md5, disposition, its params, language, location
_Values = tuple[
    Pairs, bytes | None, bytes | None, bytes | None, bytes | None, bytes | None, Pairs, tuple[bytes, ...], bytes | None
]
_NO_VALUES: _Values = ((), None, None, None, None, None, (), (), None)
_FURTHER = frozenset(
    (
        b"CONTENT-DESCRIPTION",
        b"CONTENT-DISPOSITION",
        b"CONTENT-ID",
        b"CONTENT-LANGUAGE",
        b"CONTENT-LOCATION",
        b"CONTENT-MD5",
        b"CONTENT-TRANSFER-ENCODING",
    )
)
"""The fields that `_values` looks at."""


class _Hit:
    """A boundary line: the part before it ends at `cut`, the line itself begins at `line`."""

    __slots__ = ("cut", "final", "line", "owner")

    def __init__(self, cut: int, line: int, owner: int, final: bool) -> None:
        self.cut = cut
        self.line = line
        self.owner = owner
        self.final = final


class _Boundaries:
    """The boundaries of all open multiparts, as a set that answers which of them begins a line."""

    __slots__ = ("_lengths", "_levels", "_needle", "_open")

    def __init__(self) -> None:
        self._open: list[tuple[bytes, int]] = []
        self._update()

    def push(self, boundary: bytes, level: int) -> None:
        self._open.append((boundary, level))
        self._update()

    def drop(self, level: int) -> None:
        """Forgets the boundaries of that level of the stack and of all above it."""
        if self._open and self._open[-1][1] >= level:
            while self._open and self._open[-1][1] >= level:
                self._open.pop()
            self._update()

    def _update(self) -> None:
        # the innermost multipart wins where the same boundary is open twice
        self._levels = dict(self._open)
        if self._open:
            self._lengths = sorted(set(map(len, self._levels)), reverse=True)
            low, high = min(self._levels), max(self._levels)
            same = len(low) if low == high else 0
            while same < len(low) and low[same] == high[same]:
                same += 1
            self._needle = b"\n--" + low[:same]

    def find(self, raw: bytes, start: int, end: int) -> _Hit | None:
        """The first boundary line that begins in raw[start:end]; start is the beginning of a line."""
        if not self._open:
            return None
        needle, size = self._needle, len(self._needle)
        pos = max(start - 1, 0)
        while pos < end:
            # a line that begins before end may reach beyond it
            stop = min(pos + SLICE, end + size)
            at = raw.find(needle, pos, stop)
            if at < 0:
                pos = stop - size + 1 if stop < end else end
                continue
            if at + 1 >= end:
                return None
            hit = self._at(raw, at, start)
            if hit is not None:
                return hit
            pos = at + 1
        return None

    def _at(self, raw: bytes, newline: int, start: int) -> _Hit | None:
        line = newline + 3
        head = raw[line : line + MAX_BOUNDARY + 4]
        text = head.partition(b"\n")[0].removesuffix(b"\r")
        level = self._levels.get(text[:-2]) if text.endswith(b"--") else None
        final = level is not None
        if level is None:
            # the boundary and nothing behind it, most often: no longer one can begin this line
            level = self._levels.get(text)
        if level is None:
            # RFC 2046 §5.1.1: what follows the boundary on its line is ignored; of several that fit, the longest
            matched = next((size for size in self._lengths if head[:size] in self._levels), 0)
            if not matched:
                return None
            level = self._levels[head[:matched]]
            final = head[matched : matched + 2] == b"--"
        cut = newline - 1 if newline and raw[newline - 1] == 0x0D else newline
        return _Hit(max(cut, start), line, level, final)


class _Parser:
    def __init__(self, raw: bytes, limits: Limits) -> None:
        self._raw = raw
        self._limits = limits
        self._stack: list[_Open] = []
        self._boundaries = _Boundaries()
        self._parts = 0
        self._counted_to = 0
        self._counted = 0
        self._empty_line = -1

    def run(self) -> Part:
        raw, size = self._raw, len(self._raw)
        hit = self._open(0)
        while True:
            node = self._stack[-1]
            if hit is None and node.kind in _MESSAGES and not node.children:
                hit = self._open(node.body_start)
                continue
            if hit is None:
                hit = self._boundaries.find(raw, node.body_start, size)
            while hit is not None and hit.final:
                hit = self._after_final(hit)
            if hit is None:
                return self._close_all(size)
            after = self._next_line(hit.line)
            self._close(hit.owner + 1, hit.cut)
            self._boundaries.drop(hit.owner + 1)
            if after < 0:
                return self._close_all(size)
            hit = self._open(after)

    def _after_final(self, hit: _Hit) -> _Hit | None:
        # RFC 2046 §5.1.1: what follows the closing boundary, up to a boundary of an outer multipart, is epilogue.
        # Tolerance: the line end of the closing boundary is part of it, even where an outer boundary comes next.
        self._close(hit.owner + 1, hit.cut)
        self._boundaries.drop(hit.owner)
        after = self._next_line(hit.line)
        return None if after < 0 else self._boundaries.find(self._raw, after, len(self._raw))

    def _open(self, start: int) -> _Hit | None:
        """Reads the header that begins at start and opens its part; returns the boundary line that cut it short."""
        node = _Open(start)
        self._parts += 1
        if self._parts >= self._limits.max_parts:
            self._boundaries.drop(0)
        end, complete = self._header_end(start)
        hit = self._boundaries.find(self._raw, start, end)
        if hit is not None:
            end, complete = hit.cut, False
        self._describe(node, self._stack[-1] if self._stack else None, end)
        node.body_start = end
        node.lines = self._count(end)
        self._stack.append(node)
        if node.boundary is not None:
            if complete:
                self._boundaries.push(node.boundary, len(self._stack) - 1)
        elif hit is not None and node.kind in _MESSAGES:
            self._append_empty(end)
        return hit

    def _append_empty(self, at: int) -> None:
        """Opens the message in an enclosed message whose own header was cut short: nothing is in it."""
        self._parts += 1
        node = _Open(at)
        node.fields = Headers({})
        node.lines = self._count(at)
        self._stack.append(node)

    def _header_end(self, start: int) -> tuple[int, bool]:
        """Where the body begins, and whether an empty line ended the header."""
        raw, size = self._raw, len(self._raw)
        if raw.startswith(b"\n", start):
            return start + 1, True
        if raw.startswith(b"\r\n", start):
            return start + 2, True
        if self._empty_line < start:
            self._empty_line = size
            pos = start
            while pos < size:
                stop = min(pos + SLICE, size)
                match = _EMPTY_LINE.search(raw, pos, stop)
                if match:
                    self._empty_line = match.start() + 1
                    break
                pos = stop if stop == size else stop - 2
        at = self._empty_line
        if at >= size:
            return size, False
        return at + (2 if raw[at] == 0x0D else 1), True

    def _describe(self, node: _Open, parent: _Open | None, end: int) -> None:
        limits = self._limits
        fields = parse_headers(self._raw, node.header_start, end, limits.max_header_bytes, limits.max_fields)
        in_multipart = parent is not None and parent.kind[0] == "multipart"
        if not in_multipart:
            node.fields = fields
        content_type = fields.first(b"CONTENT-TYPE")
        main, sub, pairs = (b"", b"", ()) if content_type is None else params.media_type(content_type)
        if content_type is None:
            # RFC 2046 §5.1.5: in a digest the default is a message
            main, sub = _MESSAGE if parent is not None and parent.digest else _TEXT
        elif not main or not sub:
            # RFC 2045 §5.2: a type that breaks the syntax is plain text; but no multipart without a subtype is text
            main, sub = _OPAQUE if main.lower() == b"multipart" else _TEXT
        kind = (main.decode("latin-1").lower(), sub.decode("latin-1").lower())
        if content_type is not None or in_multipart or b"MIME-VERSION" in fields:
            node.values = _values(fields, pairs)
        container = kind[0] == "multipart" or kind in _MESSAGES
        if container and (len(self._stack) + 1 >= limits.max_depth or self._parts >= limits.max_parts):
            main, sub = _OPAQUE
            kind, container = ("application", "octet-stream"), False
        node.media = (main, sub)
        node.kind = kind
        if container and kind[0] == "multipart":
            node.digest = kind[1] == "digest"
            node.boundary = (params.get(pairs, b"boundary") or b"")[:MAX_BOUNDARY] or None

    def _next_line(self, pos: int) -> int:
        """The position after the next LF, -1 when there is none."""
        raw, size = self._raw, len(self._raw)
        while pos < size:
            at = raw.find(b"\n", pos, pos + SLICE)
            if at >= 0:
                return at + 1
            pos += SLICE
        return -1

    def _count(self, end: int) -> int:
        """LFs before end; called with offsets that never go back."""
        while self._counted_to < end:
            stop = min(self._counted_to + SLICE, end)
            self._counted += self._raw.count(b"\n", self._counted_to, stop)
            self._counted_to = stop
        return self._counted

    def _close(self, level: int, end: int) -> None:
        """Ends the open parts from the innermost down to that level of the stack at the offset end."""
        stack = self._stack
        while len(stack) > level:
            part = self._part(stack.pop(), end)
            stack[-1].children.append(part)

    def _close_all(self, end: int) -> Part:
        self._close(1, end)
        return self._part(self._stack.pop(), end)

    def _part(self, node: _Open, end: int) -> Part:
        kind, sub = node.kind
        # Made as a tuple: that is a quarter of the time of the call by name.
        return tuple.__new__(
            Part,
            (
                node.header_start,
                node.body_start,
                end,
                self._count(end) - node.lines,
                kind,
                sub,
                node.media,
                *node.values,
                tuple(node.children),
                node.fields,
            ),
        )


def _values(fields: Headers, pairs: Pairs) -> _Values:
    if fields.has_none(_FURTHER):
        # most often the type is all that is said
        return (pairs, *_NO_VALUES[1:])
    kind = fields.first(b"CONTENT-DISPOSITION")
    disposition, disposition_params = (None, ()) if kind is None else params.disposition(kind)
    encoding = fields.first(b"CONTENT-TRANSFER-ENCODING")
    language = fields.first(b"CONTENT-LANGUAGE")
    return (
        pairs,
        None if encoding is None else params.token(encoding) or None,
        fields.first(b"CONTENT-ID"),
        fields.first(b"CONTENT-DESCRIPTION"),
        fields.first(b"CONTENT-MD5"),
        disposition,
        disposition_params,
        () if language is None else params.atoms(language),
        fields.first(b"CONTENT-LOCATION"),
    )
