"""COMPRESS=DEFLATE (RFC 4978): what the client sends inflated bit by bit, what it is sent deflated."""

from __future__ import annotations

import zlib

from imap.wire.framer import Event, Fatal, Framer
from imap.wire.limits import WireLimits

PIECE = 64 * 1024
"""The most octets that are inflated in one go."""

_WINDOW = -15
_LEVEL = 3


_AHEAD = 128 * 1024
"""Inflated octets that may wait for their reader."""
_TURN = 8
"""Pieces that are looked at before other connections get their turn."""


class Inflater:
    """The client's octets. What it sent stays compressed until it is asked for, so that no stream, however well it was
    compressed, takes more memory than its reader wants.

    An idle one holds zlib's window: 32 KiB and some.
    """

    __slots__ = ("_held", "_more", "_stream")

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_WINDOW)
        self._held = b""
        self._more = False

    @property
    def pending(self) -> bool:
        """Whether `take` may have something."""
        return self._more

    def feed(self, octets: bytes) -> None:
        """Take what arrived."""
        self._held = self._held + octets if self._held else octets
        self._more = True

    def take(self) -> bytes:
        """At most PIECE octets. Raises ValueError for what is no deflate stream, and behind the last octets of one that
        ends: there is no way back to plain octets (RFC 4978 §3)."""
        if self._stream.eof:
            raise ValueError("The deflate stream has ended")
        try:
            octets = self._stream.decompress(self._held, PIECE)
        except zlib.error as error:
            raise ValueError("Not a deflate stream") from error
        if self._stream.eof:
            self._held = b""
            return octets
        self._held = self._stream.unconsumed_tail
        # with all of the input taken, the window may still hold output that had no room
        self._more = bool(self._held) or len(octets) == PIECE
        return octets


class Intake(Framer):
    """A framer whose octets come deflated from `inflate` on."""

    __slots__ = ("_inflater",)

    def __init__(self, limits: WireLimits) -> None:
        super().__init__(limits)
        self._inflater: Inflater | None = None

    @property
    def inflating(self) -> bool:
        """Whether `inflate` was called."""
        return self._inflater is not None

    @property
    def pending(self) -> bool:
        """Whether there may be events before anything more is fed."""
        return self._inflater is not None and self._inflater.pending

    def inflate(self) -> None:
        """All that is fed from here on is deflated. Tolerance: and what is here already, sent by a client that did not
        wait for the answer."""
        octets = bytes(self._buffer)
        self.forget()
        self._inflater = Inflater()
        self._inflater.feed(octets)

    def feed(self, octets: bytes) -> None:
        """Take what arrived."""
        if self._inflater is None:
            super().feed(octets)
        else:
            self._inflater.feed(octets)

    def next_event(self) -> Event | None:
        """As a framer's; None also where the others are to have their turn first: then it is `pending`."""
        event = super().next_event()
        inflater = self._inflater
        if inflater is None:
            return event
        for _ in range(_TURN):
            if event is not None or not inflater.pending or len(self) > _AHEAD:
                break
            try:
                super().feed(inflater.take())
            except ValueError as error:
                return Fatal(str(error), None)
            event = super().next_event()
        return event


class Deflater:
    """What the client is sent. Every piece is flushed, so that nothing waits here.

    `rest` gives its memory back (256 KiB): what is sent next begins anew in the same stream, without a look back.
    """

    __slots__ = ("_stream",)

    def __init__(self) -> None:
        self._stream: zlib._Compress | None = None

    def deflate(self, octets: bytes) -> bytes:
        """The octets as they go on the wire."""
        if not octets:
            return b""
        if self._stream is None:
            self._stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW)
        # RFC 1951 §3.2: blocks follow each other, and after a flush they begin at an octet
        return self._stream.compress(octets) + self._stream.flush(zlib.Z_SYNC_FLUSH)

    def rest(self) -> None:
        """Nothing is sent for a while."""
        self._stream = None
