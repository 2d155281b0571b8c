"""The text of a message as it goes over the wire behind DATA (RFC 5321 §4.5.2)."""

from __future__ import annotations


class DotStuffer:
    """A dot before each line that begins with one, in blocks cut anywhere. Only CRLF ends a line."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b"\r\n"

    def feed(self, block: bytes) -> bytes:
        """What goes over the wire for this block."""
        tail = self._tail
        whole = tail + block
        self._tail = whole[-2:]
        return whole.replace(b"\r\n.", b"\r\n..")[len(tail) :]

    def end(self) -> bytes:
        """What ends the text; its last line gets a CRLF where it has none."""
        return b".\r\n" if self._tail == b"\r\n" else b"\r\n.\r\n"
