"""aiosmtpd's SMTP protocol, extended: the one file that knows its inside.

What is other than in aiosmtpd 1.4.6, and why:

- Input is kept in a buffer of ours and a message's text is read in blocks as the socket gives them, for aiosmtpd's
  line after line costs 60 ms of the event loop per MiB. Replies to pipelined commands leave in one write
  (RFC 2920 §3.2).
- What aiosmtpd finds out anew for each connection (hooks, commands, their limits) is a table made once.
- Line limits are fixed; aiosmtpd's grow with each EHLO.
- STARTTLS uses the event loop's own upgrade, and drops what was sent before it.
- The end of the client's input lets commands in hand finish; aiosmtpd cancels them.
- LMTP (RFC 2033) is the same protocol with LHLO for EHLO, and a reply for each recipient after the text.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping

import aiosmtpd.smtp
import structlog

from runtime.proxyheader import Client
from smtp.connection import Answer, Connection, Door, tls_facts
from smtp.errors import reply_to
from smtp.listeners import Entrance
from smtp.session import Transaction
from smtp.stream import Gone, Overlong
from smtp.textstream import Chunks
from smtp.wire import chunks, ehlo, params, replies
from smtp.wire.replies import Reply

TURN = 64
"""Commands that one connection may have run before others get a turn of the loop."""

log = structlog.get_logger("smtp")


class SMTP(Connection, aiosmtpd.smtp.SMTP):
    """One connection and its commands."""

    transport: asyncio.Transport | None

    def __init__(self, door: Door, entrance: Entrance, client: Client | None = None) -> None:
        # Not aiosmtpd's own __init__: it inspects the handler and itself for each connection (0.5 ms), and builds
        # streams that are not used here. What its remaining methods ask for is set there.
        Connection.__init__(self, door, entrance, client)
        self._commands = _LMTP_COMMANDS if entrance.rules.kind == "lmtp" else _SMTP_COMMANDS
        # After a chunk that was refused, the reply to those behind it with how many the last one gets.
        self._spoilt: tuple[Reply, int] | None = None

    # -- commands

    async def _handle_client(self) -> None:
        turn = 0
        try:
            refusal = await self._door.handler.limits.admit(self._session)
            self._output.append((refusal or self._entrance.greeting).wire)
            while refusal is None:
                turn += 1
                if turn >= TURN:
                    turn = 0
                    await asyncio.sleep(0)
                if self._farewell is not None and self._may_go:
                    self._output.append(self._farewell.wire)
                    break
                try:
                    line = self._line()
                    if line is None:
                        await self._more()
                        continue
                    await self._command(line)
                except Answer as answer:
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
            await self._give_up(None)
            self._close()

    async def _command(self, line: bytes) -> None:
        verb, _, argument = line.partition(b" ")
        row = self._commands.get(verb.upper())
        if row is None:
            # Tolerance: blanks around a command word without an argument.
            row = self._commands.get(line.strip().upper())
            if row is None:
                raise Answer(replies.UNKNOWN_COMMAND)
            argument = b""
        limit, run = row
        if len(line) + 2 > limit:
            raise Answer(_unreadable(run, replies.LINE_TOO_LONG))
        if b"\0" in argument or b"\r" in argument:
            raise Answer(_unreadable(run, replies.BAD_LINE))
        try:
            text = argument.decode("utf-8").strip(" \t")
        except UnicodeDecodeError:
            raise Answer(_unreadable(run, replies.BAD_LINE)) from None
        try:
            await run(self, text)
        except params.BadArgument as bad:
            self._reply(bad.reply)
        except (Answer, Gone, ConnectionError):
            raise
        except Exception as error:
            reply = reply_to(error)
            if reply is None:
                log.exception(
                    "command",
                    verb=verb.decode("ascii", "replace"),
                    peer=self._session.peer,
                    trace=self.transaction.trace,
                )
                reply = replies.SERVER_BUG
            self._reply(reply)

    async def _give_up(self, reply: Reply | None) -> None:
        """The open transaction, if any, ends without a message."""
        if self.transaction.mail is not None:
            size = 0 if self._chunks is None else self._chunks.reader.size
            self._door.handler.refused(self._session, self.transaction, reply, size)
            self.transaction = Transaction()
        self._spoilt = None
        if self._chunks is not None:
            dropped, self._chunks = self._chunks, None
            await dropped.intake.close()

    def _need_helo(self) -> None:
        # RFC 5321 §4.1.4, RFC 2033 §4.1
        if not self._session.helo:
            raise Answer(replies.LHLO_FIRST if self._rules.kind == "lmtp" else replies.HELO_FIRST)

    def _need_right(self) -> None:
        """HELO said, and where sign-in comes before mail TLS (where sign-in needs it) and sign-in."""
        session = self._session
        if not session.helo:
            self._need_helo()
        if self._rules.auth == "required" and session.principal is None:
            # RFC 3207 §4, RFC 4954 §6
            raise Answer(replies.AUTH_FIRST if self._door.handler.mechanisms(session) else replies.TLS_FIRST)

    async def smtp_HELO(self, hostname: str) -> None:
        await self._hello(hostname, extended=False)
        self._reply(replies.helo(self._door.handler.hostname))

    async def smtp_EHLO(self, hostname: str) -> None:
        await self._hello(hostname, extended=True)
        self._session.scram = await self._door.handler.scram.now()
        facts = self._door.handler.offer(self._session, starttls=self._door.tls is not None)
        self._reply(ehlo.answer(self._door.handler.hostname, facts))
        await self._flush()

    async def _hello(self, name: str, *, extended: bool) -> None:
        if not params.is_host(name):
            raise Answer(replies.LHLO_SYNTAX if self._rules.kind == "lmtp" else replies.HELO_SYNTAX)
        # RFC 5321 §4.1.4: as RSET does.
        await self._give_up(None)
        self._session.helo = name
        self._session.extended = extended

    async def smtp_NOOP(self, _arg: str) -> None:
        self._reply(replies.OK)
        await self._flush()

    async def smtp_RSET(self, arg: str) -> None:
        if arg:
            raise Answer(replies.NO_ARGUMENT)
        await self._give_up(None)
        self._reply(replies.OK)

    async def smtp_QUIT(self, arg: str) -> None:
        if arg:
            raise Answer(replies.NO_ARGUMENT)
        self._reply(replies.BYE)

    async def smtp_HELP(self, _arg: str) -> None:
        self._reply(_LMTP_HELP if self._rules.kind == "lmtp" else _SMTP_HELP)

    async def smtp_VRFY(self, arg: str) -> None:
        if not arg:
            raise Answer(replies.VRFY_SYNTAX)
        # RFC 5321 §3.5.3, §7.3: who is here is told at RCPT alone.
        self._reply(replies.CANNOT_VRFY)
        await self._flush()

    async def smtp_EXPN(self, _arg: str) -> None:
        self._reply(replies.NOT_IMPLEMENTED)
        await self._flush()

    async def smtp_STARTTLS(self, arg: str) -> None:
        session = self._session
        if arg:
            raise Answer(replies.NO_ARGUMENT)
        if session.tls is not None:
            raise Answer(replies.TLS_ALREADY)
        if self._door.tls is None or not self._rules.starttls or self.transport is None:
            raise Answer(replies.TLS_NOT_AVAILABLE)
        await self._give_up(None)
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
        session.tls = tls_facts(upgraded)

    async def smtp_AUTH(self, arg: str) -> None:
        session = self._session
        self._need_helo()
        if self._rules.auth == "off":
            raise Answer(replies.NO_AUTH)
        # RFC 4954 §4
        if not session.extended:
            raise Answer(replies.HELO_FIRST)
        if session.principal is not None:
            raise Answer(replies.AUTH_ALREADY)
        if self.transaction.mail is not None:
            raise Answer(replies.NOT_NOW)
        if not self._door.handler.mechanisms(session):
            raise Answer(replies.AUTH_NEEDS_TLS)
        words = arg.split()
        if not 1 <= len(words) <= 2:
            raise Answer(replies.AUTH_SYNTAX)
        initial = words[1].encode() if len(words) == 2 else None
        self._reply(await self._door.handler.handle_AUTH(session, words[0], initial, self._ask))

    async def smtp_MAIL(self, arg: str) -> None:
        self._need_right()
        if self.transaction.mail is not None:
            raise Answer(replies.NESTED_MAIL)
        session = self._session
        mail = params.mail(arg, extended=session.extended, kind=self._rules.kind)
        self._spoilt = None
        self._reply(await self._door.handler.handle_MAIL(session, self.transaction, mail))

    async def smtp_RCPT(self, arg: str) -> None:
        self._need_right()
        transaction = self.transaction
        if transaction.mail is None:
            raise Answer(replies.MAIL_FIRST)
        if self._chunks is not None:
            raise Answer(replies.BDAT_HAS_BEGUN)
        session = self._session
        rcpt = params.rcpt(arg, extended=session.extended, smtputf8=transaction.mail.smtputf8, kind=self._rules.kind)
        self._reply(await self._door.handler.handle_RCPT(session, transaction, rcpt))

    async def smtp_DATA(self, arg: str) -> None:
        self._need_right()
        transaction = self.transaction
        if arg:
            raise Answer(replies.NO_ARGUMENT)
        # RFC 3030 §2
        if self._chunks is not None:
            raise Answer(replies.BDAT_HAS_BEGUN)
        self._need_recipients(transaction)
        handler = self._door.handler
        intake = handler.open_intake(self._session, transaction)
        if isinstance(intake, Reply):
            raise Answer(intake)
        self._reply(replies.START_MAIL_INPUT)
        self._in_text = True
        try:
            await self._receive(intake, handler.size_max(self._session))
            # RFC 5321 §4.1.1.4: after DATA the buffers are empty, whatever becomes of the message.
            self.transaction = Transaction()
            self._answer(await handler.handle_DATA(self._session, transaction, intake))
        finally:
            self._in_text = False
            await self._give_up(None)
            await intake.close()
        await self._flush()

    def _need_recipients(self, transaction: Transaction) -> None:
        if transaction.mail is None:
            raise Answer(replies.MAIL_FIRST)
        if not transaction.accepted:
            # RFC 2033 §4.2
            lmtp = self._rules.kind == "lmtp"
            raise Answer(replies.LMTP_NO_RECIPIENTS if lmtp else replies.NO_VALID_RECIPIENTS)

    async def smtp_BDAT(self, arg: str) -> None:
        """RFC 3030 §2: octets of the text follow the command at once, whatever the reply will be."""
        chunk = chunks.argument(arg)
        size_max = self._door.handler.size_max(self._session)
        try:
            self._need_right()
            coming = self._coming()
        except Answer as answer:
            await self._skip(chunk.size, size_max)
            self._refuse_chunk(answer.reply, last=chunk.last)
            return
        await self._receive_chunk(coming, chunk.size, chunk.last, size_max)
        if not chunk.last and coming.intake.refusal is None:
            self._reply(replies.chunk_taken(chunk.size))
            return
        transaction, self.transaction, self._chunks = self.transaction, Transaction(), None
        self._in_text = True
        try:
            outcomes = await self._door.handler.handle_DATA(self._session, transaction, coming.intake)
        finally:
            self._in_text = False
            await coming.intake.close()
        if not chunk.last:
            # The client may have sent more of them already: their octets are taken, and nothing comes of them.
            self._spoilt = outcomes[0], len(outcomes)
            outcomes = outcomes[:1]
        self._answer(outcomes)
        await self._flush()

    def _coming(self) -> Chunks:
        """The text that chunks make; begun with the first of them."""
        if self._spoilt is not None:
            raise Answer(self._spoilt[0])
        self._need_recipients(self.transaction)
        if self._chunks is None:
            intake = self._door.handler.open_intake(self._session, self.transaction)
            if isinstance(intake, Reply):
                raise Answer(intake)
            self._chunks = Chunks(intake, self._settings.line_max)
        return self._chunks

    def _refuse_chunk(self, reply: Reply, *, last: bool) -> None:
        times = 1
        if last and self._rules.kind == "lmtp" and (self._spoilt is not None or self.transaction.mail is not None):
            # RFC 2033 §4.3: a reply for each accepted recipient, none where there is none.
            times = self._spoilt[1] if self._spoilt is not None else self.transaction.accepted
        if last:
            self._spoilt = None
        self._answer((reply,) * times)

    def _answer(self, outcomes: tuple[Reply, ...]) -> None:
        for reply in outcomes:
            self._reply(reply)


_Run = Callable[[SMTP, str], Awaitable[None]]
_COMMANDS: dict[bytes, tuple[int, _Run]] = {
    b"MAIL": (ehlo.MAIL_LINE_MAX, SMTP.smtp_MAIL),
    b"RCPT": (ehlo.RCPT_LINE_MAX, SMTP.smtp_RCPT),
    b"DATA": (ehlo.COMMAND_LINE_MAX, SMTP.smtp_DATA),
    b"BDAT": (ehlo.COMMAND_LINE_MAX, SMTP.smtp_BDAT),
    b"RSET": (ehlo.COMMAND_LINE_MAX, SMTP.smtp_RSET),
    b"NOOP": (ehlo.COMMAND_LINE_MAX, SMTP.smtp_NOOP),
    b"QUIT": (ehlo.COMMAND_LINE_MAX, SMTP.smtp_QUIT),
    b"STARTTLS": (ehlo.COMMAND_LINE_MAX, SMTP.smtp_STARTTLS),
    b"AUTH": (ehlo.AUTH_LINE_MAX, SMTP.smtp_AUTH),
    b"VRFY": (ehlo.COMMAND_LINE_MAX, SMTP.smtp_VRFY),
    b"EXPN": (ehlo.COMMAND_LINE_MAX, SMTP.smtp_EXPN),
    b"HELP": (ehlo.COMMAND_LINE_MAX, SMTP.smtp_HELP),
}
"""Each command with the octets that its line may have."""
_SMTP_COMMANDS = {
    b"EHLO": (ehlo.COMMAND_LINE_MAX, SMTP.smtp_EHLO),
    b"HELO": (ehlo.COMMAND_LINE_MAX, SMTP.smtp_HELO),
    **_COMMANDS,
}
# RFC 2033 §4.1: LHLO is EHLO, and those two are not there.
_LMTP_COMMANDS = {b"LHLO": (ehlo.COMMAND_LINE_MAX, SMTP.smtp_EHLO), **_COMMANDS}


def _unreadable(run: _Run, reply: Reply) -> Reply:
    """The reply to a command line that cannot be read: behind that of BDAT comes text."""
    return replies.BDAT_SYNTAX if run is SMTP.smtp_BDAT else reply


def _help(commands: Mapping[bytes, tuple[int, _Run]]) -> Reply:
    """Those that are there; EXPN is known, to be answered with 502."""
    return replies.help_text(" ".join(sorted(verb.decode() for verb in commands.keys() - {b"EXPN"})))


_SMTP_HELP, _LMTP_HELP = _help(_SMTP_COMMANDS), _help(_LMTP_COMMANDS)
