"""BDAT (RFC 3030 §2): its argument, and a text that comes in counted chunks instead of up to a dot."""

from __future__ import annotations

import re
from dataclasses import dataclass

from smtp.wire import replies
from smtp.wire.params import BadArgument
from smtp.wire.textrules import Fault, TextRules

DIGITS_MAX = 20
"""Digits of a chunk's size, as many as SIZE has (RFC 1870 §3)."""

_ARGUMENT = re.compile(rf"([0-9]{{1,{DIGITS_MAX}}})(?:[ \t]+(LAST))?", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Chunk:
    """What BDAT said. size: octets that follow its line. last: the text ends with them."""

    size: int
    last: bool


def argument(text: str) -> Chunk:
    """Read the argument of BDAT. Raises BadArgument."""
    found = _ARGUMENT.fullmatch(text)
    if found is None:
        raise BadArgument(replies.BDAT_SYNTAX)
    return Chunk(int(found[1]), found[2] is not None)


class ChunkReader:
    """Takes the octets of all chunks with ``feed``, cut anywhere, and ``end`` after the last.

    line_max: octets of a line of text with its CRLF. fault: set once, and the text goes on being read; the rules are
    those of a text after DATA. size: octets of text so far. Nothing is changed: the joined result is what came.
    """

    __slots__ = ("_held", "_rules", "size")

    def __init__(self, line_max: int) -> None:
        self._held = b""
        self._rules = TextRules(line_max)
        self.size = 0

    @property
    def fault(self) -> Fault | None:
        """What speaks against the text so far."""
        return self._rules.fault

    def feed(self, block: bytes) -> bytes:
        """The text that is now certain: all but a CR at the end, whose LF may come with the next block."""
        data = self._held + block if self._held else block
        self._held = b""
        if data.endswith(b"\r"):
            self._held = b"\r"
            data = data[:-1]
        return self._seen(data)

    def end(self) -> bytes:
        """What was held back."""
        data, self._held = self._held, b""
        return self._seen(data)

    def _seen(self, text: bytes) -> bytes:
        self.size += len(text)
        if text and self._rules.fault is None:
            self._rules.look(text)
        return text
