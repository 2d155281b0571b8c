"""One message over a session: MAIL, RCPT and DATA in one group where the server allows it, then the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mail.address import AddressError, domain_key
from mail.dotstuff import DotStuffer
from smtp.outbound.connection import Broken, sendable
from smtp.outbound.replies import Reply, Trouble, clean, trouble_of
from smtp.outbound.session import Session, Times
from smtp.outbound.transport import TLS_OPTIONAL, Letter, Outcome, Phase, Status
from storage.model import INLINE_MAX, RemoteRecipient
from storage.port import Unavailable

BLOCK = 128 * 1024
"""Octets of a long message that are read and sent at a time."""
HEADER_MAX = INLINE_MAX
"""Octets at the beginning of a long message in which its header is looked for."""
_HEADER_END = b"\r\n\r\n"


@dataclass(slots=True)
class Parcel:
    """A letter with what is known of it. text: head and message, where it is short; None for one that is read in
    blocks. outcomes: of the recipients that are decided."""

    letter: Letter
    text: bytes | None
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    _seven_bit: bool | None = None
    _plain_header: bool | None = None
    _stuffed: bytes | None = None

    @property
    def size(self) -> int:
        return len(self.letter.head) + self.letter.size

    @property
    def requiretls(self) -> bool:
        return "REQUIRETLS" in self.letter.params

    @property
    def tls_optional(self) -> bool:
        return TLS_OPTIONAL in self.letter.params and not self.requiretls

    @property
    def undecided(self) -> list[RemoteRecipient]:
        return [one for one in self.letter.recipients if one.address not in self.outcomes]

    def stuffed(self) -> bytes:
        """A short text as it goes over the wire, its end included."""
        if self._stuffed is None:
            assert self.text is not None
            stuffer = DotStuffer()
            self._stuffed = stuffer.feed(self.text) + stuffer.end()
        return self._stuffed

    async def seven_bit(self) -> bool:
        """Whether the message has ASCII octets alone. Raises storage's errors."""
        if self._seven_bit is None:
            if self.text is not None:
                self._seven_bit = self.text.isascii()
            else:
                self._seven_bit = True
                for start in range(0, self.letter.size, BLOCK):
                    if not (await self.letter.read(start, min(start + BLOCK, self.letter.size))).isascii():
                        self._seven_bit = False
                        break
        return self._seven_bit

    async def plain_header(self) -> bool:
        """Whether the message's header has ASCII octets alone. Raises storage's errors."""
        if self._plain_header is None:
            text = self.text
            if text is None:
                text = self.letter.head + await self.letter.read(0, min(HEADER_MAX, self.letter.size))
            end = text.find(_HEADER_END)
            self._plain_header = (text if end < 0 else text[:end]).isascii()
        return self._plain_header


async def parcel_of(letter: Letter) -> Parcel:
    """Reads a short message whole, before any server is spoken to. Raises storage's errors."""
    if letter.size > INLINE_MAX:
        return Parcel(letter, None)
    text = await letter.read(0, letter.size)
    if len(text) != letter.size:
        raise Unavailable(f"the message {letter.item} was cut short while it was read")
    return Parcel(letter, letter.head + text)


@dataclass(frozen=True, slots=True)
class _Envelope:
    """utf8: SMTPUTF8 is said. options: what follows the reverse-path."""

    sender: str
    options: str
    utf8: bool


async def transact(session: Session, parcel: Parcel, times: Times) -> Trouble | None:
    """Send it to all undecided recipients, in as many transactions as the server's limits ask for. Where there is no
    verdict on some of them, says why; the others have theirs in ``parcel.outcomes``. Raises storage's errors: the
    connection is closed then, the message not complete."""
    try:
        envelope = await _envelope(session, parcel)
        if isinstance(envelope, Outcome):
            parcel.outcomes.update((one.address, envelope) for one in parcel.undecided)
            return None
        first = True
        while waiting := parcel.undecided:
            if not first and not session.reusable:
                return Trouble(Phase.MAIL, "4.5.3", "The server takes no more in this session", remote=session.remote)
            first = False
            batch = waiting[: session.recipients_max]
            if (trouble := await _Transaction(session, parcel, envelope, batch, times).run()) is not None:
                return trouble
        return None
    except BaseException:
        session.connection.abort()
        raise


async def _envelope(session: Session, parcel: Parcel) -> _Envelope | Outcome:
    """The MAIL command's parameters, or why this server cannot be given the message at all. Nothing was sent."""
    letter, params = parcel.letter, parcel.letter.params

    def refuse(enhanced: str, text: str, phase: Phase = Phase.EHLO) -> Outcome:
        return Outcome(Status.FAILED, phase, enhanced, text, remote=session.remote)

    utf8 = "SMTPUTF8" in params
    if utf8 and not session.utf8:
        # RFC 6531 §3.2: nobody may rewrite the message, but one that needs no SMTPUTF8 may go without.
        addresses = (letter.sender, *(one.address for one in letter.recipients))
        if not all(address.rpartition("@")[0].isascii() for address in addresses) or not await parcel.plain_header():
            return refuse("5.6.7", "The message has internationalised addresses, and the server does not take them")
        utf8 = False
    sender = letter.sender if utf8 else _ascii(letter.sender)
    if sender is None or not sendable(sender):
        return refuse("5.1.7", "The sender's address cannot be sent", Phase.MAIL)
    words = []
    if "size" in session.extensions:
        if session.size_max is not None and parcel.size > session.size_max:
            # RFC 1870 §6.1 lets the client find out for itself.
            text = f"The message has {parcel.size} octets, and the server takes {session.size_max}"
            return refuse("5.3.4", text, Phase.MAIL)
        words.append(f"SIZE={parcel.size}")
    if session.eight_bit:
        if params.get("BODY", "").upper() == "8BITMIME" or (parcel.text is not None and not await parcel.seven_bit()):
            words.append("BODY=8BITMIME")
    elif not await parcel.seven_bit():
        # RFC 6152 §3 lets it be converted or sent back. Converting breaks every signature in and on the message.
        return refuse("5.6.3", "The message has 8-bit text, and the server does not take it (8BITMIME)")
    if utf8:
        words.append("SMTPUTF8")
    if parcel.requiretls:
        words.append("REQUIRETLS")
    if session.dsn:
        # RFC 3461 §5.2.1: passed on as they came.
        words += [f"{name}={params[name]}" for name in ("RET", "ENVID") if params.get(name) and sendable(params[name])]
    return _Envelope(sender, "".join(f" {word}" for word in words), utf8)


def _ascii(address: str) -> str | None:
    """The address with its domain in A-labels; None where that does not make it ASCII."""
    if address.isascii():
        return address
    local, _, domain = address.rpartition("@")
    try:
        address = f"{local}@{domain_key(domain)}"
    except AddressError:
        return None
    return address if address.isascii() else None


class _Transaction:
    """One MAIL, its RCPTs and its text."""

    def __init__(
        self, session: Session, parcel: Parcel, envelope: _Envelope, recipients: Sequence[RemoteRecipient], times: Times
    ) -> None:
        self._session = session
        self._connection = session.connection
        self._parcel = parcel
        self._envelope = envelope
        self._times = times
        self._phase = Phase.MAIL
        self._recipients: list[tuple[RemoteRecipient, str]] = []
        for recipient in recipients:
            if (line := self._rcpt(recipient)) is not None:
                self._recipients.append((recipient, line))
        self._accepted: list[RemoteRecipient] = []
        self._too_many: list[tuple[RemoteRecipient, Reply]] = []
        self._closing: Trouble | None = None

    async def run(self) -> Trouble | None:
        """Why some of the recipients have no outcome; None also where the server asks for those in another
        transaction."""
        if not self._recipients:
            return None
        self._session.messages += 1
        try:
            if self._session.pipelining:
                reply = await self._grouped()
            else:
                reply = await self._singly()
            if reply is None:
                return self._closing
            return await self._data(reply)
        except Broken as error:
            return self._closing or self._session.trouble(self._phase, error)

    # -- commands

    def _rcpt(self, recipient: RemoteRecipient) -> str | None:
        """The command, without its CRLF; None for an address that this server cannot be told."""
        address = recipient.address if self._envelope.utf8 else _ascii(recipient.address)
        if address is None or not sendable(address):
            text = "The address cannot be sent to this server"
            self._parcel.outcomes[recipient.address] = Outcome(
                Status.FAILED, Phase.RCPT, "5.1.3", text, remote=self._session.remote
            )
            return None
        if not self._session.dsn or not recipient.params:
            return f"RCPT TO:<{address}>"
        words = [f"RCPT TO:<{address}>"]
        for name in ("NOTIFY", "ORCPT"):
            value = recipient.params.get(name)
            if value and not (value.isascii() or self._envelope.utf8):
                # RFC 6533 §3: utf-8-addr-xtext, for a server without SMTPUTF8
                value = "".join(char if char.isascii() else f"\\x{{{ord(char):X}}}" for char in value)
            if value and sendable(value):
                words.append(f"{name}={value}")
        return " ".join(words)

    async def _grouped(self) -> Reply | None:
        """The reply to DATA where a recipient was accepted. # RFC 2920 §3.1: all but DATA anywhere in a group"""
        session, connection, seconds = self._session, self._connection, self._times.command
        mail = f"MAIL FROM:<{self._envelope.sender}>{self._envelope.options}"
        reset = session.dirty
        connection.say(
            "\r\n".join([*(["RSET"] if reset else []), mail, *(line for _, line in self._recipients), "DATA"])
        )
        session.dirty = True
        if reset:
            await self._reset_reply()
        taken = self._mail_reply(await connection.reply(seconds))
        self._phase = Phase.RCPT
        try:
            for recipient, _ in self._recipients:
                reply = await connection.reply(seconds)
                if taken:
                    self._rcpt_reply(recipient, reply)
            self._phase = Phase.DATA
            reply = await connection.reply(self._times.data)
        except Broken:
            if taken:
                raise
            # It has refused the sender, and that is what counts.
            return None
        if taken and self._accepted:
            return reply
        if taken:
            self._none_accepted()
        if reply.code == 354:
            # RFC 2920 §3.1: the server takes DATA although it took no recipient: an empty text, for nobody.
            connection.send(b".\r\n")
            await connection.reply(self._times.dot)
            session.dirty = False
        return None

    async def _singly(self) -> Reply | None:
        """The reply to DATA where a recipient was accepted."""
        session, connection, seconds = self._session, self._connection, self._times.command
        if session.dirty:
            connection.say("RSET")
            await self._reset_reply()
        mail = f"MAIL FROM:<{self._envelope.sender}>{self._envelope.options}"
        if not self._mail_reply(await connection.ask(mail, seconds)):
            return None
        session.dirty = True
        self._phase = Phase.RCPT
        for recipient, line in self._recipients:
            self._rcpt_reply(recipient, await connection.ask(line, seconds))
            if session.ending:
                return None
        if not self._accepted:
            self._none_accepted()
            return None
        self._phase = Phase.DATA
        return await connection.ask("DATA", self._times.data)

    # -- replies

    async def _reset_reply(self) -> None:
        reply = await self._connection.reply(self._times.command)
        if reply.code != 250:
            self._note_closing(reply)
            self._connection.abort()
            raise Broken(clean(f"The server refused RSET: {reply.code} {reply.text}"))
        self._session.dirty = False

    def _mail_reply(self, reply: Reply) -> bool:
        if reply.code == 250:
            return True
        self._note_closing(reply)
        if 400 <= reply.code < 500:
            # Not a word about the recipients: another host may take it.
            self._closing = trouble_of(reply, Phase.MAIL, self._session.remote)
        else:
            self._decide([recipient for recipient, _ in self._recipients], reply, Phase.MAIL)
        return False

    def _rcpt_reply(self, recipient: RemoteRecipient, reply: Reply) -> None:
        # RFC 5321 §3.3: 251 and 252 are acceptance too.
        if reply.code in (250, 251, 252):
            self._accepted.append(recipient)
        elif reply.code == 421:
            self._note_closing(reply)
        elif reply.code == 452 or (reply.code == 552 and reply.given in ("", "5.5.3")):
            # RFC 5321 §4.5.3.1.10: too many recipients, or the old code for that: the rest goes in a transaction of
            # its own, unless not even one was taken.
            self._too_many.append((recipient, reply))
        else:
            self._decide([recipient], reply, Phase.RCPT)

    def _none_accepted(self) -> None:
        for recipient, reply in self._too_many:
            enhanced = reply.enhanced if reply.code < 500 else "4.5.3"
            self._parcel.outcomes[recipient.address] = Outcome(
                Status.DEFERRED, Phase.RCPT, enhanced, reply.text, reply.code, self._session.remote
            )

    async def _data(self, reply: Reply) -> Trouble | None:
        if reply.code != 354:
            self._note_closing(reply)
            if self._closing is None:
                self._decide(self._accepted, reply, Phase.DATA)
            return self._closing
        self._phase = Phase.TEXT
        if self._parcel.text is not None:
            self._connection.send(self._parcel.stuffed())
        elif (early := await self._stream()) is not None:
            self._connection.abort()
            if early.code < 400:
                text = clean(f"The server answered before the message was complete: {early.code} {early.text}")
                return Trouble(Phase.TEXT, "4.5.0", text, remote=self._session.remote)
            self._decide(self._accepted, early, Phase.TEXT)
            return None
        try:
            last = await self._connection.reply(self._times.dot)
        except Broken as error:
            # RFC 1047: the server may have taken it and be gone since.
            trouble = self._session.trouble(Phase.TEXT, error)
            outcome = Outcome(
                Status.DEFERRED, Phase.TEXT, trouble.enhanced, trouble.text, remote=self._session.remote, doubtful=True
            )
            self._give(self._accepted, outcome)
            return None
        self._session.dirty = False
        self._session.ending |= last.code == 421
        self._decide(self._accepted, last, Phase.TEXT)
        return None

    async def _stream(self) -> Reply | None:
        """Send a long message in blocks, as fast as the server takes them. What the server said before the end, if it
        did: then the end was not sent."""
        connection, letter = self._connection, self._parcel.letter
        stuffer = DotStuffer()
        try:
            if letter.head:
                connection.send(stuffer.feed(letter.head))
            for start in range(0, letter.size, BLOCK):
                end = min(start + BLOCK, letter.size)
                block = await letter.read(start, end)
                if len(block) != end - start:
                    raise Unavailable(f"the message {letter.item} was cut short while it was read")
                if connection.heard:
                    return await connection.reply(self._times.command)
                connection.send(stuffer.feed(block))
                await connection.flushed(self._times.block)
            connection.send(stuffer.end())
        except Broken:
            if connection.heard:
                # What it said before it closed says more than that it closed.
                return await connection.reply(self._times.command)
            raise
        return None

    def _note_closing(self, reply: Reply) -> None:
        if reply.code == 421:
            # RFC 5321 §3.8: at any time, and the server closes then.
            self._session.ending = True
            self._closing = trouble_of(reply, self._phase, self._session.remote)

    def _decide(self, recipients: Sequence[RemoteRecipient], reply: Reply, phase: Phase) -> None:
        status = reply.status
        if reply.code < 400 and not (status is Status.SENT and phase is Phase.TEXT):
            # A positive reply where none is possible, or none where one is due.
            text = clean(f"The server's answer makes no sense here: {reply.code} {reply.text}")
            outcome = Outcome(
                Status.DEFERRED, phase, "4.5.0", text, reply.code, self._session.remote, doubtful=phase is Phase.TEXT
            )
            self._connection.abort()
        else:
            outcome = Outcome(status, phase, reply.enhanced, reply.text, reply.code, self._session.remote)
        self._give(recipients, outcome)

    def _give(self, recipients: Sequence[RemoteRecipient], outcome: Outcome) -> None:
        for recipient in recipients:
            self._parcel.outcomes[recipient.address] = outcome
