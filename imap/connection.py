"""One IMAP connection: the only place that sees a socket.

It owns the client's octets (in a `Framer`), runs the dialogue's commands one after another in a task that lives only
while there is a command to run, and holds both sides back: it stops reading when the backlog behind the running
command is full, and `drain` waits while the client leaves answers unread.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from typing import cast

from imap.between import Between, News
from imap.deflate import Deflater, Intake
from imap.dialogue import Dialogue, DialogueFactory, Gone, Peer
from imap.limits import ConnectionLimits
from imap.peers import peer_of
from imap.wire.errors import BadSyntax
from imap.wire.forms import Command
from imap.wire.framer import (
    CommandEnd,
    CommandLine,
    Event,
    Fatal,
    Line,
    LiteralChunk,
    LiteralStart,
    NeedContinuation,
    Refusal,
)
from imap.wire.parser import parsed
from imap.wire.writer import continuation, untagged
from runtime.limits import ConnectionLimit
from runtime.proxyheader import Client

_GO_ON = continuation(b"OK")
_FAIRNESS = 32
"""Commands of one connection that may run before the others get their turn."""


class Connections:
    """All connections of one service: what they share, and how they end together.

    `protocol` is the factory for `loop.create_server`. `tls` is the context for STARTTLS (None: not offered).
    `admission` counts connections per address.
    """

    def __init__(
        self,
        make_dialogue: DialogueFactory,
        *,
        tls: ssl.SSLContext | None = None,
        limits: ConnectionLimits | None = None,
        admission: ConnectionLimit | None = None,
    ) -> None:
        self.make_dialogue = make_dialogue
        self.tls = tls
        self.limits = limits or ConnectionLimits()
        self.admission = admission
        self.open: set[ImapConnection] = set()
        self.ending = False
        self._all_closed: asyncio.Event | None = None

    def protocol(self) -> ImapConnection:
        """A connection that is to be."""
        return ImapConnection(self)

    def proxied(self, client: Client | None) -> ImapConnection:
        """One that comes from a proxy. client: whom it speaks for, None for itself."""
        return ImapConnection(self, client, proxied=True)

    async def end(self, within: float, text: str = "Server is shutting down") -> None:
        """Each connection finishes the command in hand and says BYE; those not closed after `within` seconds are cut.

        Call it after the listeners have closed; a connection that still comes is told BYE at once.
        """
        self.ending = True
        self._all_closed = asyncio.Event()
        for connection in tuple(self.open):
            connection.bye(text)
        if self.open:
            try:
                await asyncio.wait_for(self._all_closed.wait(), within)
            except TimeoutError:
                for connection in tuple(self.open):
                    connection.abort()

    def leave(self, connection: ImapConnection) -> None:
        """The connection has closed."""
        self.open.discard(connection)
        if self._all_closed is not None and not self.open:
            self._all_closed.set()


class ImapConnection(Between, asyncio.Protocol):
    """The one `imap.dialogue.Out`. Every method runs on the event loop's thread."""

    # fmt: off
    __slots__ = (
        "_active", "_behind", "_client", "_deflater", "_dialogue", "_drainer", "_ending", "_eof", "_farewell",
        "_flooded", "_framer", "_left", "_listens", "_literal", "_loop", "_lost", "_news", "_owner", "_peer",
        "_proxied", "_reading_paused", "_signed_in", "_task", "_timer", "_transport", "_waiter", "_waits_for_line",
        "_writing_paused",
    )
    # fmt: on

    def __init__(self, owner: Connections, client: Client | None = None, *, proxied: bool = False) -> None:
        self._owner = owner
        self._client = client
        self._proxied = proxied
        self._loop = asyncio.get_running_loop()
        self._framer = Intake(owner.limits.before)
        self._transport: asyncio.Transport | None = None
        self._dialogue: Dialogue | None = None
        self._peer = Peer("", 0, "", 0, None)
        self._task: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[None] | None = None  # the running command waits for the client's octets
        self._waits_for_line = False  # … for a line, so that BYE and news may come between
        self._drainer: asyncio.Future[None] | None = None  # … for the client to read
        self._timer: asyncio.TimerHandle | None = None
        self._active = 0.0
        self._literal: LiteralStart | None = None
        self._behind = b""
        self._deflater: Deflater | None = None  # after COMPRESS
        self._farewell = b""
        self._signed_in = self._ending = self._left = self._lost = self._eof = False
        self._flooded = False  # the client still sends what is not taken
        self._news = self._listens = self._reading_paused = self._writing_paused = False

    # --- what asyncio calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet, or say BYE where there is no room."""
        self._take_transport(cast(asyncio.Transport, transport))
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._owner.ending:
            self._turn_away("Server is shutting down")
            return
        admission = self._owner.admission
        if admission is not None and not admission.try_enter(self._peer.address):
            self._turn_away("Too many connections from your address")
            return
        try:
            self._dialogue = self._owner.make_dialogue(self)
        except Exception as error:
            self._report(error)
            if admission is not None:
                admission.leave(self._peer.address)
            self._turn_away("Internal error, sorry")
            return
        self._owner.open.add(self)
        self._active = self._loop.time()
        self._timer = self._loop.call_later(self._owner.limits.sign_in, self._time_is_up)
        self._task = self._loop.create_task(self._serve(self._dialogue, None))

    def data_received(self, data: bytes) -> None:
        """Octets from the client."""
        if self._ending and self._task is None:
            return
        self._framer.feed(data)
        if self._framer.pending:
            # what is still compressed is held once, and not added to
            self._pause_reading()
        self._go_on()

    def _go_on(self) -> None:
        """There may be octets for whoever waits for them."""
        if self._waiter is not None:
            self._wake()
        elif self._task is not None:
            if len(self._framer) > self._owner.limits.backlog:
                self._pause_reading()
        elif not self._ending:
            self._next_command()

    def eof_received(self) -> bool:
        """The client has said its last; what it asked for is still answered (TLS cannot be half closed)."""
        self._eof = True
        self._wake()
        return self._task is not None and self._peer.tls is None

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """It has caught up."""
        self._writing_paused = False
        self._active = self._loop.time()
        if self._drainer is not None and not self._drainer.done():
            self._drainer.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, whoever made it. A running command meets it as Gone where it next waits."""
        self._lost = self._ending = True
        if self._timer is not None:
            self._timer.cancel()
        self._wake()
        if self._drainer is not None and not self._drainer.done():
            self._drainer.set_result(None)
        if self._task is None:
            self._release()

    # --- Out ---

    @property
    def peer(self) -> Peer:
        """The other end, as it is now."""
        return self._peer

    @property
    def can_start_tls(self) -> bool:
        """Whether STARTTLS may be offered."""
        return self._owner.tls is not None and self._peer.tls is None

    def write(self, data: bytes) -> None:
        """Send; never waits."""
        if self._transport is not None and not self._left and not self._transport.is_closing():
            self._transport.write(data if self._deflater is None else self._deflater.deflate(data))

    async def drain(self) -> None:
        """Wait until the client has read enough, and let the other connections have their turn. Raises Gone."""
        await asyncio.sleep(0)
        while self._writing_paused and not self._lost:
            self._drainer = self._loop.create_future()
            try:
                await self._drainer
            finally:
                self._drainer = None
        if self._lost:
            raise Gone

    @property
    def waiting(self) -> bool:
        """Whether the running command waits for the client."""
        return self._waiter is not None or self._drainer is not None

    async def continuation(self, text: bytes = b"") -> bytes:
        """Send ``+ text`` and wait for one line. Raises Gone, BadSyntax."""
        self.write(continuation(text))
        while True:
            line = await self._line(wakeable=False)
            if line is not None:
                return line

    async def line_or_wake(self) -> bytes | None:
        """Wait for one line, or None for news. Raises Gone, BadSyntax."""
        return await self._line(wakeable=True)

    async def literal(self) -> AsyncIterator[bytes]:
        """The octets of the running APPEND's literal. Raises Gone, BadSyntax."""
        start = self._literal
        if start is None:
            raise RuntimeError("the running command has no literal to read")
        self._framer.accept()
        if start.synchronizing:
            self.write(_GO_ON)
        while True:
            event = await self._event()
            if isinstance(event, LiteralChunk):
                self._active = self._loop.time()
                yield event.data
                continue
            self._literal = None
            match event:
                case LiteralStart(prefix):
                    # RFC 3502 §6
                    self._literal, self._behind = event, prefix
                case CommandEnd(rest):
                    self._behind = rest
                case Refusal(error):
                    raise error
                case _:
                    raise AssertionError(f"the framer gave {event} behind a literal")
            return

    @property
    def behind_literal(self) -> bytes:
        """What stood behind the literal read last."""
        return self._behind

    async def start_tls(self, go_ahead: bytes) -> None:
        """Send the tagged OK and do the handshake. Raises Gone."""
        if self._owner.tls is None:
            raise RuntimeError("STARTTLS without a certificate")
        self._check()
        # RFC 3501 §6.2.1: nothing that came in plain text is read once TLS has begun
        self._framer.forget()
        self._resume_reading()
        self.write(go_ahead)
        plain, self._transport = self._transport, None
        tls = self._owner.tls
        assert plain is not None
        try:
            transport = await self._loop.start_tls(
                plain, self, tls, server_side=True, ssl_handshake_timeout=self._owner.limits.handshake
            )
        except OSError:
            transport = None
        if transport is None:
            # asyncio's own loop does not tell the protocol that its transport ended in the handshake; uvloop does
            self.connection_lost(None)
            plain.abort()
            raise Gone
        self._take_transport(transport)
        self._check()

    @property
    def compressed(self) -> bool:
        """Whether `compress` was called."""
        return self._framer.inflating

    def compress(self, go_ahead: bytes) -> None:
        """Send the tagged OK; all that comes and goes behind it is deflated."""
        self.write(go_ahead)
        self._framer.inflate()
        self._deflater = Deflater()

    def signed_in(self) -> None:
        """The larger limits and the longer idle time from here on."""
        if self._signed_in or self._ending:
            return
        self._signed_in = True
        self._framer.limits = self._owner.limits.after
        self._active = self._loop.time()
        self._arm(self._owner.limits.idle)

    def bye(self, text: str, code: str | None = None) -> None:
        """``* BYE`` and close: at once where the client is being waited for, else after the running command."""
        if not self._ending:
            self._farewell = untagged("BYE", text, code)
            self.close()

    def close(self) -> None:
        """End after the running command, or now where none runs."""
        if not self._ending:
            self._ending = True
            if self._task is None or self._waits_for_line:
                self._leave()
            else:
                self._arm(self._owner.limits.linger)

    def abort(self) -> None:
        """Cut the connection without another word."""
        self._ending = True
        if self._transport is not None:
            self._transport.abort()

    # --- one command after another ---

    def _next_command(self) -> None:
        """Begin with the next command, if the octets of one are here. No task runs."""
        while (event := self._take_event()) is not None:
            if isinstance(event, NeedContinuation):
                self.write(_GO_ON)
                continue
            if self._dialogue is not None:
                self._task = self._loop.create_task(self._serve(self._dialogue, event))
            return
        self._resume_reading()

    async def _serve(self, dialogue: Dialogue, event: Event | News | None) -> None:
        """The task: run commands while there are any (event None: greet first)."""
        try:
            if event is None:
                await dialogue.greet()
                event = None if self._ending else self._take_event()
            ran = 0
            while event is not None:
                await self._handle(dialogue, event)
                ran += 1
                if self._writing_paused or ran % _FAIRNESS == 0:
                    await self.drain()
                event = None if self._ending else await self._event_or_settled()
            await dialogue.settle()
        except Gone:
            self._ending = True
        except Exception as error:
            self._report(error)
            self._farewell = untagged("BYE", "Internal error, sorry", "SERVERBUG")
            self._ending = True
        except asyncio.CancelledError:
            self.abort()
            raise
        finally:
            self._task = None
            self._after_task()

    def _after_task(self) -> None:
        if self._lost:
            self._release()
        elif self._ending or self._eof:
            self._leave()
        else:
            if self._deflater is not None:
                self._deflater.rest()
            self._resume_reading()
            self._tell_between()

    async def _handle(self, dialogue: Dialogue, event: Event | News) -> None:
        match event:
            case News():
                await dialogue.news()
            case CommandLine(data):
                await self._run(dialogue, parsed(data, utf8=dialogue.utf8))
            case LiteralStart(prefix):
                command = parsed(prefix, utf8=dialogue.utf8)
                if isinstance(command, BadSyntax):
                    self._framer.refuse()
                else:
                    self._literal = event
                await self._run(dialogue, command)
            case Refusal(error):
                await self._run(dialogue, error)
            case NeedContinuation():
                self.write(_GO_ON)
            case Fatal():
                self._fatal(event)
            case Line() | LiteralChunk() | CommandEnd():
                raise AssertionError(f"the framer gave {event} between commands")

    async def _run(self, dialogue: Dialogue, command: Command | BadSyntax) -> None:
        self._active = self._loop.time()
        try:
            await dialogue.run(command)
        finally:
            self._active = self._loop.time()
            self._framer.expect_line(False)
            if self._literal is not None:
                self._literal = None
                self._framer.refuse()

    def _fatal(self, event: Fatal) -> None:
        if not self._ending:
            self._farewell = untagged("BYE", event.text, event.code)
            self._ending = self._flooded = True

    # --- waiting for the client ---

    def _take_event(self) -> Event | None:
        event = self._framer.next_event()
        if event is None and self._framer.pending:
            self._loop.call_soon(self._go_on)
        if self._reading_paused and len(self._framer) < self._owner.limits.backlog // 2:
            self._resume_reading()
        return event

    async def _event(self) -> Event:
        """The next event of the running command; its octets may be still to come."""
        while True:
            self._check()
            event = await self._event_or_settled()
            if isinstance(event, Fatal):
                self._fatal(event)
                raise Gone
            if event is not None:
                return event
            await self._more()

    async def _line(self, wakeable: bool) -> bytes | None:
        self._framer.expect_line()
        while True:
            if self._ending:
                raise Gone
            if wakeable and self._news:
                self._news = False
                return None
            event = self._take_event()
            match event:
                case Line(data):
                    self._active = self._loop.time()
                    return data
                case Refusal(error):
                    raise error
                case Fatal():
                    self._fatal(event)
                    raise Gone
            self._waits_for_line = True
            try:
                await self._more()
            finally:
                self._waits_for_line = False

    async def _more(self) -> None:
        """Wait for something to happen: octets, news, the end."""
        if self._eof and not self._framer.pending:
            raise Gone
        if self._deflater is not None:
            self._deflater.rest()
        self._resume_reading()
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _check(self) -> None:
        if self._lost:
            raise Gone

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _pause_reading(self) -> None:
        if self._transport is not None and not self._reading_paused and not self._transport.is_closing():
            self._reading_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if not self._reading_paused or (self._framer.pending and not self._left):
            return
        if self._transport is not None and not self._transport.is_closing():
            self._reading_paused = False
            self._transport.resume_reading()

    # --- time and the end ---

    def _arm(self, delay: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if self._lost else self._loop.call_later(delay, self._time_is_up)

    def _time_is_up(self) -> None:
        limits = self._owner.limits
        left = self._active + limits.idle - self._loop.time()
        stuck = self._drainer is not None or (self._waiter is not None and not self._waits_for_line)
        at_work = self._task is not None and self._waiter is None and self._drainer is None
        if self._ending:
            # What was said or asked last stays unread, or the command in hand waits for its client.
            if at_work:
                self._arm(limits.linger)
            else:
                self.abort()
        elif not self._signed_in:
            self.bye("Sign in sooner next time")
        elif left > 0 or at_work:
            self._arm(left if left > 0 else limits.idle)
        elif stuck:
            self.abort()
        else:
            # RFC 3501 §5.4
            self.bye("Idle for too long")

    def _leave(self) -> None:
        """Say what is left to say and close; what was written is still sent while the client reads it."""
        if self._transport is None or self._left or self._transport.is_closing():
            return
        limits, silent = self._owner.limits, self._loop.time() - self._active
        read = silent > limits.drop and not self._transport.get_write_buffer_size()
        if self._farewell:
            self.write(self._farewell)
        self._left = True
        if self._flooded and not self._eof:
            # Closing with octets unread resets the connection, and the BYE would be lost: drop them for a while.
            if self._transport.can_write_eof():
                self._transport.write_eof()
            self._resume_reading()
            self._arm(limits.drop)
        else:
            self._transport.close()
            # TLS waits for the client's own goodbye: one that sleeps must not hold up the end of the server.
            self._arm(limits.drop if read else limits.linger)
        self._wake()

    def _turn_away(self, text: str) -> None:
        self._ending = True
        self._farewell = untagged("BYE", text, "UNAVAILABLE")
        self._leave()

    def _release(self) -> None:
        """Once, when the connection is lost and no task runs."""
        dialogue, self._dialogue = self._dialogue, None
        if dialogue is None:
            return
        self._owner.leave(self)
        if self._owner.admission is not None:
            self._owner.admission.leave(self._peer.address)
        self._framer.forget()
        try:
            dialogue.closed()
        except Exception as error:
            self._report(error)

    def _report(self, error: Exception) -> None:
        self._loop.call_exception_handler({"message": "IMAP dialogue failed", "exception": error, "protocol": self})

    # --- the transport ---

    def _take_transport(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        unread = self._owner.limits.unread
        transport.set_write_buffer_limits(high=unread, low=unread // 4)
        self._peer = peer_of(transport, self._client, proxied=self._proxied)
