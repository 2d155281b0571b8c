"""One connection to a remote server: octets out, replies in, deadlines, and an end that is always noticed.

Built on aiosmtplib's protocol, which owns the transport and the flow control. Its own reader knows one command at a
time; this one keeps replies apart, so that commands can be sent in groups (RFC 2920).
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import deque
from collections.abc import Callable
from typing import cast

from aiosmtplib.errors import SMTPServerDisconnected
from aiosmtplib.protocol import SMTPProtocol

from smtp.outbound.replies import BadReply, Reply, ReplyReader

AHEAD_MAX = 1200
"""Replies that may wait to be read. More than commands were sent in a group is no server's answer to anything."""
QUIT_SECONDS = 5.0
"""How long a server has to answer QUIT before the connection is closed without."""
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


class Broken(Exception):
    """The connection cannot be used any more; the text says why. late: the server did not answer in time."""

    def __init__(self, text: str, *, late: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.late = late


class Connection(SMTPProtocol):
    """A connected socket. idle: called once when the server closes or says something while nothing was asked."""

    transport: asyncio.Transport | None

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.opened = loop.time()
        self._reader = ReplyReader()
        self._replies: deque[Reply] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._broken: Broken | None = None
        self._parting = False
        self._timer: asyncio.TimerHandle | None = None
        self.idle: Callable[[], None] | None = None
        self.gone: asyncio.Future[None] = loop.create_future()

    # -- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._broken is not None:
            return
        if self._parting:
            self._close()
            return
        try:
            self._replies.extend(self._reader.feed(data))
        except BadReply as error:
            self._break(Broken(f"The server's answer cannot be understood: {error}"))
            return
        if len(self._replies) > AHEAD_MAX:
            self._break(Broken("The server answers what was not asked"))
        elif self._replies:
            self._wake()
        if self.idle is not None:
            self._leave_idle()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        # Not SMTPProtocol's: it would fail a reply that is waited for by no one here.
        super(SMTPProtocol, self).connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()
        self.transport = None
        if self._broken is None:
            why = f": {exc}" if exc is not None and str(exc) else ""
            self._broken = Broken(f"The server closed the connection{why}")
        self._wake()
        if self.idle is not None:
            self._leave_idle()
        if not self.gone.done():
            self.gone.set_result(None)

    # -- what a session calls

    @property
    def usable(self) -> bool:
        """Open, and nothing has come that was not asked for."""
        return self._broken is None and not self._replies and not self._reader and self.is_connected

    @property
    def heard(self) -> bool:
        """A reply is there that nobody has read yet."""
        return bool(self._replies)

    def say(self, lines: str) -> None:
        """Write command lines, CRLF between and after them. Raises Broken."""
        self.send((lines + "\r\n").encode())

    def send(self, octets: bytes) -> None:
        """Write octets. Raises Broken."""
        if self._broken is not None:
            raise self._broken
        try:
            self.write(octets)
        except SMTPServerDisconnected:
            raise Broken("The server closed the connection") from None

    async def flushed(self, seconds: float) -> None:
        """Wait until the transport takes more; Broken when it does not for so long."""
        if not self._paused:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._drain_helper()
        except TimeoutError:
            raise self._break(Broken("The server does not take the message", late=True)) from None
        except OSError as error:
            raise self._broken or Broken(f"The connection was lost: {error}") from None

    async def reply(self, seconds: float) -> Reply:
        """The next reply. Broken where none comes, or what comes is none; the connection is closed then."""
        if not self._replies:
            if self._broken is not None:
                raise self._broken
            waiter = self._waiter = self._loop.create_future()
            # The whole reply has this time, so that one without an end does not take for ever.
            timer = self._loop.call_later(seconds, self._late, seconds)
            try:
                await waiter
            finally:
                timer.cancel()
                self._waiter = None
            if not self._replies:
                raise self._broken or Broken("The server closed the connection")
        return self._replies.popleft()

    async def ask(self, line: str, seconds: float) -> Reply:
        """One command and its reply. Raises Broken."""
        self.say(line)
        return await self.reply(seconds)

    async def encrypt(self, context: ssl.SSLContext, server_name: str, seconds: float) -> ssl.SSLObject:
        """TLS from here on, after the server's 220. Raises OSError (ssl.SSLError included) or Broken."""
        if self._replies or self._reader:
            # RFC 3207 §6: what came in plain text before the handshake could be anybody's.
            raise self._break(Broken("The server sent something between its 220 and the TLS handshake"))
        if self.transport is None:
            raise self._broken or Broken("The server closed the connection")
        async with asyncio.timeout(seconds):
            secured = await self._loop.start_tls(
                self.transport, self, context, server_hostname=server_name, ssl_handshake_timeout=seconds
            )
        if secured is None:
            raise self._broken or Broken("The server closed the connection during the TLS handshake")
        self.transport = secured
        return cast(ssl.SSLObject, secured.get_extra_info("ssl_object"))

    def abort(self) -> None:
        """Close at once; what has not gone out never will."""
        self._break(Broken("The connection was given up"))

    def part(self) -> None:
        """QUIT, and close when it was answered."""
        self.idle = None
        if self._broken is not None or self.transport is None or self.transport.is_closing():
            self.abort()
            return
        # RFC 5321 §4.1.1.10: a client waits for the answer to QUIT.
        self._parting = True
        self._timer = self._loop.call_later(QUIT_SECONDS, self.abort)
        self.send(b"QUIT\r\n")

    def _close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def _late(self, seconds: float) -> None:
        self._break(Broken(f"The server did not answer within {seconds:g} s", late=True))

    def _break(self, why: Broken) -> Broken:
        if self._broken is None:
            self._broken = why
        if self.transport is not None:
            self.transport.abort()
        self._wake()
        return self._broken

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _leave_idle(self) -> None:
        if (idle := self.idle) is not None:
            self.idle = None
            idle()


def sendable(text: str) -> bool:
    """Whether it may stand in a command: no control characters, no lone surrogates."""
    try:
        text.encode()
    except UnicodeError:
        return False
    return _CONTROLS.search(text) is None
