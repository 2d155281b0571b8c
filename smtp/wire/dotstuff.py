"""Where the text of a DATA command ends, and the text itself, from blocks cut anywhere.

Only CRLF "." CRLF ends the text. Everything that resembles it (LF.LF, LF.CRLF, CRLF.LF, CR.CRLF, CRLF.CR ...) is
text; and a text that holds a CR or LF outside of a CRLF is read to its true end and then refused as a whole
(``Fault.BARE_LINE_END``), from everybody: bytes are kept as they came, so a bare line end could be neither mended
nor handed on without danger to the next server (end-of-data smuggling).
"""

from __future__ import annotations

from enum import Enum

BLOCK_MAX = 256 * 1024 - 4
"""Octets of one block; each is looked at with a fixed number of passes. With the octets held back from the block
before, the text that comes of it has at most 256 KiB."""

_END = b"\r\n.\r\n"
_STUFFED = b"\r\n."


class Fault(Enum):
    """Why a text cannot be taken; the first one found counts."""

    NUL = "nul"
    BARE_LINE_END = "bare line end"
    LINE_TOO_LONG = "line too long"


class TextReader:
    """Takes blocks with ``feed`` until ``ended``; then ``rest`` is what came after the end.

    line_max: octets of a line of text with its CRLF, after unstuffing. fault: set once, and the text goes on being
    read. size: octets of text so far. How the octets are cut into blocks changes nothing of the joined result.
    """

    __slots__ = ("_held", "_line", "_line_max", "_skip", "ended", "fault", "rest", "size")

    def __init__(self, line_max: int) -> None:
        # The text begins after the CRLF of the DATA command: "." CRLF alone is an empty text.
        self._held = b"\r\n"
        self._skip = 2
        self._line = 0
        self._line_max = line_max
        self.ended = False
        self.rest = b""
        self.fault: Fault | None = None
        self.size = 0

    def feed(self, block: bytes) -> bytes:
        """The text that is now certain, without stuffed dots (may be empty). block: at most BLOCK_MAX octets.
        ValueError after the end or for a longer block."""
        if self.ended or len(block) > BLOCK_MAX:
            raise ValueError("a block after the end of the text" if self.ended else "block too long")
        data = self._held + block
        # Few texts have a line that begins with a dot, and an attachment in base64 has no dot at all, which is found
        # out in no time.
        dotted = b"." in data and _STUFFED in data
        # RFC 5321 §4.1.1.4: only <CRLF>.<CRLF> ends the text.
        end = data.find(_END) if dotted else -1
        if end >= 0:
            self.ended = True
            self.rest = data[end + len(_END) :]
            self._held = b""
            data = data[: end + 2]
        else:
            keep = _held_back(data)
            self._held = data[len(data) - keep :]
            data = data[: len(data) - keep]
        # RFC 5321 §4.5.2: the first character of a line is deleted when it is a dot.
        if dotted:
            data = data.replace(_STUFFED, b"\r\n")
        if self._skip and data:
            data = data[self._skip :]
            self._skip = 0
        if data:
            self.size += len(data)
            if self.fault is None:
                self._look(data)
        return data

    def _look(self, text: bytes) -> None:
        if b"\0" in text:
            self.fault = Fault.NUL
        elif not _even(text) and _bare(text):
            self.fault = Fault.BARE_LINE_END
        elif self._line + len(text) > self._line_max and self._too_long(text):
            self.fault = Fault.LINE_TOO_LONG
        elif (newline := text.rfind(b"\n")) >= 0:
            self._line = len(text) - newline - 1
        else:
            self._line += len(text)

    def _too_long(self, text: bytes) -> bool:
        """Is there a line over the limit? Looks only near each limit's end, so a long text costs few steps."""
        start = -self._line
        while start + self._line_max < len(text):
            newline = text.rfind(b"\n", max(start, 0), start + self._line_max)
            if newline < 0:
                return True
            start = newline + 1
        return False


def _bare(text: bytes) -> bool:
    """Is there a CR or LF outside of a CRLF? A CR at the end was held back, so no CRLF is ever cut."""
    ends = text.count(b"\r\n")
    return text.count(b"\n") != ends or text.count(b"\r") != ends


def _even(text: bytes) -> bool:
    """Are these lines of one length, each ended by CRLF, as base64 has them? Said at a step a line instead of one an
    octet, which is an eighth of what looking for bare line ends costs otherwise."""
    first = text.find(b"\n")
    width = text.find(b"\n", first + 1) - first
    if first < 1 or width < 2:
        return False
    lines = len(range(first, len(text), width))
    if text[first::width] != b"\n" * lines or text[first - 1 :: width][:lines] != b"\r" * lines:
        return False
    inner = bytearray(text)
    del inner[first::width]
    # With the LFs gone the CRs are one octet nearer to each other. Only those that were looked at go.
    del inner[first - 1 : first + (lines - 1) * (width - 1) : width - 1]
    return b"\r" not in inner and b"\n" not in inner


def _held_back(data: bytes) -> int:
    """How many octets at the end may be the beginning of the end."""
    for length in (4, 3, 2, 1):
        if data.endswith(_END[:length]):
            return length
    return 0
