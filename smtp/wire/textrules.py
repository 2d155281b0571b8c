"""What the text of a message may not hold, looked for in blocks while they pass.

A text that holds a CR or LF outside of a CRLF is read to its true end and then refused as a whole
(``Fault.BARE_LINE_END``), from everybody: bytes are kept as they came, so a bare line end could be neither mended
nor handed on without danger to the next server (end-of-data smuggling).
"""

from __future__ import annotations

from enum import Enum


class Fault(Enum):
    """Why a text cannot be taken; the first one found counts."""

    NUL = "nul"
    BARE_LINE_END = "bare line end"
    LINE_TOO_LONG = "line too long"


class TextRules:
    """Looks at a text block after block; ``fault`` is set once. line_max: octets of a line of text with its CRLF.
    No block but the last ends between a CR and its LF."""

    __slots__ = ("_line", "_line_max", "fault")

    def __init__(self, line_max: int) -> None:
        self._line = 0
        self._line_max = line_max
        self.fault: Fault | None = None

    def look(self, text: bytes) -> None:
        """The next block of the text. Not asked again once there is a fault."""
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
