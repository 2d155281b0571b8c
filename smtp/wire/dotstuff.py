"""Where the text of a DATA command ends, and the text itself, from blocks cut anywhere.

Only CRLF "." CRLF ends the text. Everything that resembles it (LF.LF, LF.CRLF, CRLF.LF, CR.CRLF, CRLF.CR ...) is
text, and what speaks against that text (``textrules``) is told after its true end.
"""

from __future__ import annotations

from smtp.wire.textrules import Fault, TextRules

__all__ = ["BLOCK_MAX", "Fault", "TextReader"]

BLOCK_MAX = 256 * 1024 - 4
"""Octets of one block; each is looked at with a fixed number of passes. With the octets held back from the block
before, the text that comes of it has at most 256 KiB."""

_END = b"\r\n.\r\n"
_STUFFED = b"\r\n."


class TextReader:
    """Takes blocks with ``feed`` until ``ended``; then ``rest`` is what came after the end.

    line_max: octets of a line of text with its CRLF, after unstuffing. fault: set once, and the text goes on being
    read. size: octets of text so far. How the octets are cut into blocks changes nothing of the joined result.
    """

    __slots__ = ("_held", "_rules", "_skip", "ended", "rest", "size")

    def __init__(self, line_max: int) -> None:
        # The text begins after the CRLF of the DATA command: "." CRLF alone is an empty text.
        self._held = b"\r\n"
        self._skip = 2
        self._rules = TextRules(line_max)
        self.ended = False
        self.rest = b""
        self.size = 0

    @property
    def fault(self) -> Fault | None:
        """What speaks against the text so far."""
        return self._rules.fault

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
            if self._rules.fault is None:
                self._rules.look(data)
        return data


def _held_back(data: bytes) -> int:
    """How many octets at the end may be the beginning of the end."""
    for length in (4, 3, 2, 1):
        if data.endswith(_END[:length]):
            return length
    return 0
