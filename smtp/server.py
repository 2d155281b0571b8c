"""aiosmtpd's SMTP protocol, extended: the one file that knows its inside.

What is other than in aiosmtpd 1.4.6, and why:

- Input is kept in a buffer of ours and DATA is read in blocks as the socket gives them, for aiosmtpd's line after line
  costs 60 ms of the event loop per MiB. Replies to pipelined commands leave in one write (RFC 2920 §3.2).
- What aiosmtpd finds out anew for each connection (hooks, commands, their limits) is a table made once.
- Line limits are fixed; aiosmtpd's grow with each EHLO.
- STARTTLS uses the event loop's own upgrade, and drops what was sent before it.
- The end of the client's input lets commands in hand finish; aiosmtpd cancels them.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import cast

import aiosmtpd.smtp
import structlog

from runtime.limits import plain_address
from smtp.errors import reply_to
from smtp.handler import Handler
from smtp.intake import Intake
from smtp.policy.connections import Connections
from smtp.session import Rules, Session, TlsFacts, Transaction
from smtp.stream import Gone, Overlong, Stream
from smtp.wire import ehlo, params, replies
from smtp.wire.dotstuff import Fault, TextReader
from smtp.wire.replies import Reply

PROGRESS = 16 * 1024
"""Octets of text that renew the time of a client in DATA."""
TURN = 64
"""Commands that one connection may have run before others get a turn of the loop."""

_FAULTS: dict[Fault, Reply] = {
    Fault.NUL: replies.NUL_IN_MESSAGE,
    Fault.BARE_LINE_END: replies.BARE_LINE_END,
    Fault.LINE_TOO_LONG: replies.TEXT_LINE_TOO_LONG,
}

log = structlog.get_logger("smtp")


@dataclass(slots=True)
class Door:
    """What all connections share. tls: None where there is no certificate. open: every connection that lives; empty:
    set while there is none."""

    handler: Handler
    connections: Connections
    tls: ssl.SSLContext | None
    greeting: Reply
    open: set[SMTP] = field(default_factory=set)
    empty: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.empty.set()

    def enter(self, connection: SMTP) -> None:
        self.open.add(connection)
        self.empty.clear()

    def leave(self, connection: SMTP) -> None:
        self.open.discard(connection)
        if not self.open:
            self.empty.set()


class _Answer(Exception):
    """Ends a command with a reply from inside of it."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


class SMTP(Stream, aiosmtpd.smtp.SMTP):
    """One connection."""

    transport: asyncio.Transport | None

    def __init__(self, door: Door, rules: Rules) -> None:
        # Not aiosmtpd's own __init__: it inspects the handler and itself for each connection (0.5 ms), and builds
        # streams that are not used here. What its remaining methods ask for is set below.
        Stream.__init__(self, door.handler.settings.command_timeout)
        self._door = door
        self._rules = rules
        self._settings = door.handler.settings
        self._farewell: Reply | None = None
        self._at_once = False
        self._hurried = False
        self._in_text = False
        self._counted = False
        self.peer_session: Session | None = None
        self.transaction = Transaction()
        self._handler_coroutine = None

    # -- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._attach(cast(asyncio.Transport, transport))
        name = transport.get_extra_info("peername")
        if name is None:
            # It is gone already; without an address nobody is let in.
            self.abort()
            return
        # A Unix socket's peer has no address.
        peer, port = (plain_address(name[0]), name[1]) if isinstance(name, tuple) else ("", 0)
        if peer:
            # A reply of several packets would lose 40 ms; uvloop does this, asyncio for some sockets only.
            with contextlib.suppress(OSError):
                transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        refusal = self._door.connections.enter(peer)
        self._door.handler.connected(refusal)
        if refusal is not None:
            self._write(refusal.wire)
            self._close()
            return
        self._counted = True
        self.peer_session = Session(peer, port, self._rules, self._door.handler.now())
        if self._rules.tls:
            self.peer_session.tls = _tls_facts(transport)
        self._door.enter(self)
        self._set_deadline(self._settings.command_timeout)
        self._handler_coroutine = self.loop.create_task(self._handle_client())

    def eof_received(self) -> bool:
        Stream.eof_received(self)
        # TLS has no half that could stay open.
        return self.peer_session is not None and self.peer_session.tls is None

    def connection_lost(self, error: Exception | None) -> None:
        Stream.connection_lost(self, error)
        self._door.leave(self)
        if self._counted and self.peer_session is not None:
            self._counted = False
            self._door.connections.leave(self.peer_session.peer)
        if self._handler_coroutine is not None:
            self._handler_coroutine.cancel()

    # -- from outside: ending connections

    def retire(self, reply: Reply) -> None:
        """End the connection with this reply once no transaction is open: at once where none is."""
        self._farewell = self._farewell or reply
        if self._waiting and self.transaction.mail is None:
            self._say_farewell()

    def hurry(self) -> None:
        """Of a connection that retires: wait for its open transaction no longer, unless its text is coming in. Before
        the text nothing is lost that a client would not send again."""
        self._hurried = True
        if self._waiting and not self._in_text:
            self._say_farewell()

    def end(self, reply: Reply) -> None:
        """End the connection now; a message that is being committed is still answered first."""
        self._farewell = self._farewell or reply
        self._at_once = True
        if self._waiting:
            self._say_farewell()

    def _late(self) -> None:
        self._farewell = replies.TIMED_OUT
        self._say_farewell()

    def _say_farewell(self) -> None:
        if self._farewell is not None:
            self._output.append(self._farewell.wire)
        self._close()

    # -- input and output

    async def _more(self) -> None:
        if self._at_once and self._farewell is not None:
            self._output.append(self._farewell.wire)
            raise Gone
        await Stream._more(self)

    async def _ask(self, challenge: bytes) -> bytes:
        """Send a 334 and return the client's line (RFC 4954 §4)."""
        self._output.append(replies.challenge(challenge).wire)
        self._set_deadline(self._settings.command_timeout)
        while True:
            try:
                line = self._line()
            except Overlong:
                raise _Answer(replies.AUTH_LINE_TOO_LONG) from None
            if line is not None:
                return line
            await self._more()

    def _reply(self, reply: Reply) -> None:
        """Answer a command; the octets leave with ``_flush``. Too many refusals end the connection."""
        session = self._session
        if reply.code >= 500:
            session.errors += 1
            if session.errors > self._settings.errors_max:
                reply = replies.TOO_MANY_ERRORS
        self._output.append(reply.wire)
        if reply.closes:
            raise Gone

    @property
    def _session(self) -> Session:
        assert self.peer_session is not None
        return self.peer_session

    # -- commands

    async def _handle_client(self) -> None:
        self._output.append(self._door.greeting.wire)
        turn = 0
        try:
            while True:
                turn += 1
                if turn >= TURN:
                    turn = 0
                    await asyncio.sleep(0)
                if self._farewell is not None and (self._at_once or self._hurried or self.transaction.mail is None):
                    self._output.append(self._farewell.wire)
                    break
                try:
                    line = self._line()
                    if line is None:
                        await self._more()
                        continue
                    await self._command(line)
                except _Answer as answer:
                    self._reply(answer.reply)
                except Overlong:
                    self._reply(replies.LINE_TOO_LONG)
                self._set_deadline(self._settings.command_timeout)
        except Gone:
            # An unfinished line at the end of input is no command.
            pass
        except ConnectionError:
            return
        except Exception:
            log.exception("connection", peer=self._session.peer)
            self._output.append(replies.SHUTTING_DOWN.wire)
        finally:
            self._give_up(None)
            self._close()

    async def _command(self, line: bytes) -> None:
        verb, _, argument = line.partition(b" ")
        row = _COMMANDS.get(verb.upper())
        if row is None:
            # Tolerance: blanks around a command word without an argument.
            row = _COMMANDS.get(line.strip().upper())
            if row is None:
                raise _Answer(replies.UNKNOWN_COMMAND)
            argument = b""
        limit, run = row
        if len(line) + 2 > limit:
            raise _Answer(replies.LINE_TOO_LONG)
        if b"\0" in argument or b"\r" in argument:
            raise _Answer(replies.BAD_LINE)
        try:
            text = argument.decode("utf-8").strip(" \t")
        except UnicodeDecodeError:
            raise _Answer(replies.BAD_LINE) from None
        try:
            await run(self, text)
        except params.BadArgument as bad:
            self._reply(bad.reply)
        except (_Answer, Gone, ConnectionError):
            raise
        except Exception as error:
            reply = reply_to(error)
            if reply is None:
                log.exception("command", verb=verb.decode("ascii", "replace"), peer=self._session.peer)
                reply = replies.SERVER_BUG
            self._reply(reply)

    def _give_up(self, reply: Reply | None) -> None:
        """The open transaction, if any, ends without a message."""
        if self.transaction.mail is not None:
            self._door.handler.refused(self._session, self.transaction, reply, 0)
        self.transaction = Transaction()

    def _need_helo(self) -> None:
        # RFC 5321 §4.1.4
        if not self._session.helo:
            raise _Answer(replies.HELO_FIRST)

    def _need_right(self) -> None:
        """HELO said, and on a submission listener TLS (where sign-in needs it) and sign-in."""
        session = self._session
        if not session.helo:
            raise _Answer(replies.HELO_FIRST)
        if self._rules.auth_required and session.principal is None:
            # RFC 3207 §4, RFC 4954 §6
            raise _Answer(replies.AUTH_FIRST if self._door.handler.mechanisms(session) else replies.TLS_FIRST)

    async def smtp_HELO(self, hostname: str) -> None:
        self._hello(hostname, extended=False)
        self._reply(replies.helo(self._door.handler.hostname))

    async def smtp_EHLO(self, hostname: str) -> None:
        self._hello(hostname, extended=True)
        session = self._session
        facts = ehlo.Facts(
            size_max=self._settings.size_max,
            tls=session.tls is not None,
            starttls=self._door.tls is not None,
            mechanisms=self._door.handler.mechanisms(session),
        )
        self._reply(ehlo.answer(self._door.handler.hostname, facts))
        await self._flush()

    def _hello(self, name: str, *, extended: bool) -> None:
        if not params.is_host(name):
            raise _Answer(replies.HELO_SYNTAX)
        # RFC 5321 §4.1.4: as RSET does.
        self._give_up(None)
        self._session.helo = name
        self._session.extended = extended

    async def smtp_NOOP(self, _arg: str) -> None:
        self._reply(replies.OK)
        await self._flush()

    async def smtp_RSET(self, arg: str) -> None:
        if arg:
            raise _Answer(replies.NO_ARGUMENT)
        self._give_up(None)
        self._reply(replies.OK)

    async def smtp_QUIT(self, arg: str) -> None:
        if arg:
            raise _Answer(replies.NO_ARGUMENT)
        self._reply(replies.BYE)

    async def smtp_HELP(self, _arg: str) -> None:
        self._reply(_HELP)

    async def smtp_VRFY(self, arg: str) -> None:
        if not arg:
            raise _Answer(replies.VRFY_SYNTAX)
        # RFC 5321 §3.5.3, §7.3: who is here is told at RCPT alone.
        self._reply(replies.CANNOT_VRFY)
        await self._flush()

    async def smtp_EXPN(self, _arg: str) -> None:
        self._reply(replies.NOT_IMPLEMENTED)
        await self._flush()

    async def smtp_STARTTLS(self, arg: str) -> None:
        session = self._session
        if arg:
            raise _Answer(replies.NO_ARGUMENT)
        if session.tls is not None:
            raise _Answer(replies.TLS_ALREADY)
        if self._door.tls is None or self.transport is None:
            raise _Answer(replies.TLS_NOT_AVAILABLE)
        self._give_up(None)
        self._reply(replies.START_TLS)
        await self._flush()
        # RFC 3207 §4.2: what came in clear behind the command was not said under TLS. Nothing is awaited between
        # here and the moment at which the loop hands the socket's input to TLS.
        self._attach(self.transport)
        try:
            upgraded = await self.loop.start_tls(
                self.transport, self, self._door.tls, server_side=True, ssl_handshake_timeout=30.0
            )
        except (OSError, ssl.SSLError):
            raise Gone from None
        if upgraded is None or self._ended:
            raise Gone
        self.transport = upgraded
        session.forget()
        session.tls = _tls_facts(upgraded)

    async def smtp_AUTH(self, arg: str) -> None:
        session = self._session
        self._need_helo()
        # RFC 4954 §4
        if not session.extended:
            raise _Answer(replies.HELO_FIRST)
        if session.principal is not None:
            raise _Answer(replies.AUTH_ALREADY)
        if self.transaction.mail is not None:
            raise _Answer(replies.NOT_NOW)
        if not self._door.handler.mechanisms(session):
            raise _Answer(replies.AUTH_NEEDS_TLS)
        words = arg.split()
        if not 1 <= len(words) <= 2:
            raise _Answer(replies.AUTH_SYNTAX)
        initial = words[1].encode() if len(words) == 2 else None
        self._reply(await self._door.handler.handle_AUTH(session, words[0], initial, self._ask))

    async def smtp_MAIL(self, arg: str) -> None:
        self._need_right()
        if self.transaction.mail is not None:
            raise _Answer(replies.NESTED_MAIL)
        session = self._session
        mail = params.mail(arg, extended=session.extended)
        self._reply(await self._door.handler.handle_MAIL(session, self.transaction, mail))

    async def smtp_RCPT(self, arg: str) -> None:
        self._need_right()
        transaction = self.transaction
        if transaction.mail is None:
            raise _Answer(replies.MAIL_FIRST)
        session = self._session
        rcpt = params.rcpt(arg, extended=session.extended, smtputf8=transaction.mail.smtputf8)
        self._reply(await self._door.handler.handle_RCPT(session, transaction, rcpt))

    async def smtp_DATA(self, arg: str) -> None:
        self._need_right()
        transaction = self.transaction
        if arg:
            raise _Answer(replies.NO_ARGUMENT)
        if transaction.mail is None:
            raise _Answer(replies.MAIL_FIRST)
        if not transaction.accepted:
            raise _Answer(replies.NO_VALID_RECIPIENTS)
        intake = self._door.handler.open_intake(self._session, transaction)
        if isinstance(intake, Reply):
            raise _Answer(intake)
        self._reply(replies.START_MAIL_INPUT)
        self._in_text = True
        try:
            await self._receive(intake)
            # RFC 5321 §4.1.1.4: after DATA the buffers are empty, whatever becomes of the message.
            self.transaction = Transaction()
            self._reply(await self._door.handler.handle_DATA(self._session, transaction, intake))
        finally:
            self._in_text = False
            self._give_up(None)
            await intake.close()
        await self._flush()

    async def _receive(self, intake: Intake) -> None:
        """Read the text to its end. What speaks against it waits in ``intake.refusal``."""
        reader = TextReader(self._settings.line_max)
        self._set_deadline(self._settings.data_timeout)
        progress = 0
        while True:
            block = self._block()
            if block:
                text = reader.feed(block)
                if reader.fault is not None:
                    intake.refuse(_FAULTS[reader.fault])
                if text and intake.take(text):
                    try:
                        await intake.spill()
                    except Exception as error:
                        intake.refuse(self._reply_to(error))
                progress += len(block)
                if reader.ended:
                    self._put_back(reader.rest)
                    return
                if progress >= PROGRESS:
                    progress = 0
                    self._set_deadline(self._settings.data_timeout)
                if reader.size > 2 * self._settings.size_max:
                    # It was told the limit and goes on.
                    self._output.append(replies.MESSAGE_TOO_BIG.wire)
                    raise Gone
            else:
                await self._more()

    def _reply_to(self, error: Exception) -> Reply:
        reply = reply_to(error)
        if reply is None:
            log.exception("staging a message", peer=self._session.peer)
        return reply or replies.SERVER_BUG


def _tls_facts(transport: asyncio.BaseTransport) -> TlsFacts:
    connection = transport.get_extra_info("ssl_object")
    return TlsFacts(connection.version() or "TLS", (connection.cipher() or ("unknown",))[0])


_Run = Callable[[SMTP, str], Awaitable[None]]
_COMMANDS: dict[bytes, tuple[int, _Run]] = {
    b"EHLO": (ehlo.COMMAND_LINE_MAX, SMTP.smtp_EHLO),
    b"HELO": (ehlo.COMMAND_LINE_MAX, SMTP.smtp_HELO),
    b"MAIL": (ehlo.MAIL_LINE_MAX, SMTP.smtp_MAIL),
    b"RCPT": (ehlo.RCPT_LINE_MAX, SMTP.smtp_RCPT),
    b"DATA": (ehlo.COMMAND_LINE_MAX, SMTP.smtp_DATA),
    b"RSET": (ehlo.COMMAND_LINE_MAX, SMTP.smtp_RSET),
    b"NOOP": (ehlo.COMMAND_LINE_MAX, SMTP.smtp_NOOP),
    b"QUIT": (ehlo.COMMAND_LINE_MAX, SMTP.smtp_QUIT),
    b"AUTH": (ehlo.AUTH_LINE_MAX, SMTP.smtp_AUTH),
    b"STARTTLS": (ehlo.COMMAND_LINE_MAX, SMTP.smtp_STARTTLS),
    b"VRFY": (ehlo.COMMAND_LINE_MAX, SMTP.smtp_VRFY),
    b"EXPN": (ehlo.COMMAND_LINE_MAX, SMTP.smtp_EXPN),
    b"HELP": (ehlo.COMMAND_LINE_MAX, SMTP.smtp_HELP),
}
"""Each command with the octets that its line may have."""
_HELP = replies.help_text(" ".join(sorted(verb.decode() for verb in _COMMANDS)))
