"""A connection's octets: input in one buffer, replies gathered into few writes, and the time that the client has.

Not asyncio's StreamReader: that copies, and has a limit for a line where SMTP needs one for commands and none for
blocks of text.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from smtp.wire.dotstuff import BLOCK_MAX
from smtp.wire.ehlo import AUTH_LINE_MAX

INPUT_MAX = 128 * 1024
"""Octets of input that wait in the buffer before the socket is left alone (one more read of it may follow)."""
CLOSE_SECONDS = 5.0
"""How long a client may take to read its last reply, or go on sending after it."""


class Gone(Exception):
    """The client's input has ended, or the connection is lost."""


class Overlong(Exception):
    """A line was longer than any may be; it has been dropped to its end."""


class Stream(asyncio.Protocol):
    """The side of the transport. A subclass opens it with ``_attach``, runs a task that reads with ``_line``,
    ``_block`` and ``_more``, writes with ``_output.append`` and ``_flush``, and says in ``_late`` what happens to a
    client that lets its time pass."""

    def __init__(self, write_seconds: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self._write_seconds = write_seconds
        self._input = bytearray()
        self._overlong = False
        self._ended = False
        self._closing = False
        # The client is in the middle of a text: it sends whether it is answered or not.
        self._mid_text = False
        self._reading_paused = False
        self._wake: asyncio.Future[None] | None = None
        self._output: list[bytes] = []
        self._drained: asyncio.Future[None] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def _late(self) -> None:
        """The deadline has passed while the client was waited for."""
        self.abort()

    # -- the transport's side

    def _attach(self, transport: asyncio.Transport) -> None:
        """Read from and write to this transport from now on; input that is not read yet is dropped."""
        self.transport = transport
        self._input.clear()
        self._overlong = False
        self._reading_paused = False

    def data_received(self, data: bytes) -> None:
        if self._closing:
            # The last reply is on its way: what still comes is nothing that anybody answers.
            return
        self._input += data
        if len(self._input) > INPUT_MAX and not self._reading_paused and self.transport is not None:
            self._reading_paused = True
            self.transport.pause_reading()
        self._awake()

    def eof_received(self) -> bool:
        self._ended = True
        self._awake()
        # Tolerance: a client that closes its half at once still gets its replies.
        # What lingered for its last octets is done.
        return not self._closing

    def pause_writing(self) -> None:
        self._drained = self.loop.create_future()

    def resume_writing(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    def connection_lost(self, error: Exception | None) -> None:
        self._ended = True
        self.resume_writing()
        self.transport = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def abort(self) -> None:
        """Cut the connection."""
        if self.transport is not None:
            self.transport.abort()

    def _close(self) -> None:
        """Send what waits and close."""
        if self.transport is None or self._closing:
            self._output.clear()
            return
        self._send()
        self._closing = True
        if not self._ended and (self._mid_text or self._reading_paused):
            # Closing with octets unread resets the connection, and the last reply would be lost with it (RFC 1122
            # §4.2.2.13): what still comes is read and dropped, for a while.
            self._input.clear()
            self._ended = True
            self._awake()
            if self.transport.can_write_eof():
                self.transport.write_eof()
            if self._reading_paused:
                self._reading_paused = False
                self.transport.resume_reading()
        else:
            self.transport.close()
        # A client that does not read would keep the last reply, and with it the connection, for ever.
        self._set_timer(CLOSE_SECONDS, self.abort)

    # -- input

    @property
    def _waiting(self) -> bool:
        """Is the client's input being waited for?"""
        return self._wake is not None

    def _awake(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _more(self) -> None:
        """Send the replies and wait for input. Raises Gone at its end."""
        had = len(self._input)
        await self._flush()
        if len(self._input) != had:
            # It came while the replies were leaving.
            return
        if self._ended:
            raise Gone
        if self._reading_paused and self.transport is not None:
            self._reading_paused = False
            self.transport.resume_reading()
        self._wake = self.loop.create_future()
        try:
            await self._wake
        finally:
            self._wake = None

    def _line(self) -> bytes | None:
        """The next whole line without its end, or None when there is none yet. Raises Overlong once the end of a line
        over AUTH_LINE_MAX octets has come; what is longer is not kept."""
        end = self._input.find(b"\n")
        if end < 0:
            if len(self._input) > AUTH_LINE_MAX:
                self._overlong = True
                self._input.clear()
            return None
        # Tolerance: a command may end with a bare LF. (In DATA nothing but CRLF.CRLF ends the text.)
        line = bytes(self._input[: end - 1 if end and self._input[end - 1] == 13 else end])
        del self._input[: end + 1]
        if self._overlong or len(line) > AUTH_LINE_MAX:
            self._overlong = False
            raise Overlong
        return line

    def _block(self, most: int = BLOCK_MAX) -> bytes:
        """What there is, at most so many octets and BLOCK_MAX; b"" where there is nothing."""
        end = min(most, BLOCK_MAX)
        block = bytes(self._input[:end])
        del self._input[:end]
        return block

    def _put_back(self, octets: bytes) -> None:
        """The end of a block was not for who read it."""
        self._input[:0] = octets

    # -- output

    def _write(self, octets: bytes) -> None:
        if self.transport is not None and not self._closing and not self.transport.is_closing():
            self.transport.write(octets)

    def _send(self) -> None:
        if self._output:
            self._write(b"".join(self._output))
            self._output.clear()

    async def _flush(self) -> None:
        """Send the replies that were gathered; a client that reads nothing is waited for so long and then cut."""
        self._send()
        if self._drained is not None:
            self._set_deadline(self._write_seconds)
            await self._drained

    # -- time

    def _set_deadline(self, seconds: float) -> None:
        """Until when the client must have done its part. The timer is only touched when it would come too late."""
        self._deadline = self.loop.time() + seconds
        if self._timer is None or self._timer.when() > self._deadline + 1:
            self._set_timer(seconds, self._timer_fired)

    def _set_timer(self, seconds: float, callback: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, callback)

    def _timer_fired(self) -> None:
        self._timer = None
        left = self._deadline - self.loop.time()
        if left > 0.001:
            self._set_timer(left, self._timer_fired)
        elif self._drained is not None:
            # It does not read, so there is no way to tell it.
            self.abort()
        elif self._waiting:
            self._late()
        else:
            # We are at work; it is not the client that is late.
            self._set_timer(1.0, self._timer_fired)
