"""A finished message over a signed-in connection, its octets as they are: what the server said to each recipient.

Nothing is written into the message or converted; what a server cannot take is told instead.
"""

from __future__ import annotations

import contextlib
import re
import smtplib
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from connectors import failures
from mail.address import AddressError, domain_key
from mail.dotstuff import DotStuffer

RECIPIENTS_MAX = 50
"""Recipients of one transaction: of the well-known providers the strictest takes so many. More are several."""
SLACK = 5.0
"""Seconds beyond a step's own after which it is overdue, whatever still trickles in."""
EARLY_SECONDS = 2.0
"""How long a server that broke off within the text is listened to, for what it said before."""
HEADER_MAX = 256 * 1024
"""Octets at the beginning of a message in which its header is looked for."""
TEXT_MAX = 1000
"""Characters of a reply that are kept."""
QUIT_SECONDS = 5.0
NO_ANSWER = "did not answer in time"
"""In the text of a ``Said`` of ours, of a server that fell silent."""

_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_ENHANCED = re.compile(r"([245])\.\d{1,3}\.\d{1,3}(?=\s|$)")
_RCPTMAX = re.compile(r"\bRCPTMAX=(\d{1,6})\b", re.IGNORECASE)
_HEADER_END = b"\r\n\r\n"


class Stage(Enum):
    """How far a transaction had come. TEXT: the message itself and the reply after it."""

    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Said:
    """What a recipient was told. code: of the server's reply, whose words the text then is; None for a sentence of
    ours. enhanced: RFC 3463, "" where the server gave none. never: of a sentence of ours, that trying again is of no
    use. doubtful: the whole message was handed over, and no reply to it was seen."""

    stage: Stage
    code: int | None
    text: str
    enhanced: str = ""
    never: bool = False
    doubtful: bool = False

    @property
    def taken(self) -> bool:
        """Whether the server has the message for this recipient."""
        return self.stage is Stage.TEXT and self.code is not None and self.code < 300


class Broken(Exception):
    """The connection is of no use any more. said: for those recipients about whom nothing was said."""

    def __init__(self, said: Said) -> None:
        super().__init__(said.text)
        self.said = said


@dataclass(frozen=True, slots=True)
class Parcel:
    """One message and its envelope. sender: "" for the null one. recipients: their parameters (NOTIFY, ORCPT) by
    address. params: those of MAIL (BODY, SMTPUTF8, RET, ENVID, REQUIRETLS). blocks: its ``size`` octets from the
    beginning, at each call; what it raises passes through."""

    sender: str
    recipients: Mapping[str, Mapping[str, str]]
    size: int
    blocks: Callable[[], Iterator[bytes]]
    params: Mapping[str, str] = field(default_factory=dict)

    def seven_bit(self) -> bool:
        """Whether there are ASCII octets alone."""
        return all(block.isascii() for block in self.blocks())

    def plain_header(self) -> bool:
        """Whether the header has ASCII octets alone."""
        head = b""
        for block in self.blocks():
            head += block
            if (end := head.find(_HEADER_END)) >= 0:
                return head[:end].isascii()
            if len(head) >= HEADER_MAX:
                break
        return head.isascii()


@dataclass(frozen=True, slots=True)
class _Reply:
    code: int
    text: str

    @property
    def enhanced(self) -> str:
        found = _ENHANCED.match(self.text)
        return found[0] if found is not None and int(found[1]) == self.code // 100 else ""


class Line:
    """A signed-in connection, for one thread at a time; ``cut`` and ``overdue`` may be used by any.

    timeout, dot_timeout: seconds for each reply and each block, and for the reply to the whole message.
    """

    def __init__(self, smtp: smtplib.SMTP, host: str, port: int, *, timeout: float, dot_timeout: float) -> None:
        assert smtp.sock is not None
        self.smtp = smtp
        self.host = host
        self.dot_timeout = dot_timeout
        self.timeout = timeout
        self.dirty = False
        """A transaction was begun and not ended."""
        self.ended = False
        """The server has said that it closes, or the connection is closed."""
        self.cause: BaseException | None = None
        """The error of the socket or of smtplib that it was lost by."""
        self._deadline = time.monotonic() + timeout + SLACK
        self._socket = smtp.sock
        try:
            address = str(smtp.sock.getpeername()[0])
        except OSError:
            address = ""
        self.remote = f"{host}:{port}" if address in ("", host) else f"{host} [{address}]:{port}"
        version = getattr(smtp.sock, "version", None)
        self.tls: str | None = None if version is None else version()

    def offers(self, keyword: str) -> bool:
        """Whether the server's EHLO reply has the keyword (lower case)."""
        return keyword in self.smtp.esmtp_features

    @property
    def overdue(self) -> float:
        """When what is being done has lasted too long (monotonic seconds)."""
        return self._deadline

    def cut(self) -> None:
        """End the connection at once; whoever waits on it is told that it was lost."""
        self.ended = True
        with contextlib.suppress(OSError):
            # Of the socket below TLS: that of TLS may not be touched while another thread is in it.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self, *, quietly: bool = False) -> None:
        """QUIT, and close. quietly: without QUIT, so that a message which was begun is not complete."""
        if not (quietly or self.ended):
            with contextlib.suppress(OSError, smtplib.SMTPException):
                self._step(min(self.timeout, QUIT_SECONDS))
                self.smtp.quit()
        self.ended = True
        self.smtp.close()

    def ask(self, command: str, stage: Stage) -> _Reply:
        """The reply to a command. Raises Broken, for 421 too."""
        try:
            self._step(self.timeout)
            self.smtp.putcmd(command)
            reply = self._reply()
        except (smtplib.SMTPException, OSError) as error:
            raise Broken(self._lost(error, stage)) from error
        if reply.code == 421:
            # RFC 5321 §3.8: at any time, and the server closes then.
            self.ended = True
            raise Broken(_said(reply, stage))
        return reply

    def reset(self) -> None:
        """Forget a transaction that was begun. Raises Broken."""
        if self.dirty:
            reply = self.ask("RSET", Stage.MAIL)
            if reply.code != 250:
                raise Broken(self._ours(Stage.MAIL, f"The server refused RSET: {reply.code} {reply.text}", "4.5.0"))
            self.dirty = False

    def text(self, blocks: Iterator[bytes]) -> Said:
        """Hand over the text behind a 354, and what was said to it. Where that is not a reply of the server the
        connection has ended. What blocks raises passes; then the connection is to be closed quietly."""
        stuffer = DotStuffer()
        held = b""
        for block in blocks:
            if held and (early := self._send(held)) is not None:
                return early
            held = stuffer.feed(block)
        if (early := self._send(held + stuffer.end())) is not None:
            return early
        try:
            self._step(self.dot_timeout)
            reply = self._reply()
        except (smtplib.SMTPException, OSError) as error:
            # RFC 1047: the server may have taken it and be gone since.
            said = self._lost(error, Stage.TEXT)
            return Said(Stage.TEXT, None, f"{said.text} The whole message had been handed over", "4.4.2", doubtful=True)
        if not (200 <= reply.code < 300 or 400 <= reply.code < 600):
            nonsense = self._ours(Stage.TEXT, f"The answer to the message makes no sense: {reply.code} {reply.text}")
            return Said(Stage.TEXT, None, nonsense.text, "4.5.0", doubtful=True)
        self.dirty = False
        self.ended |= reply.code == 421
        return _said(reply, Stage.TEXT)

    def _send(self, data: bytes) -> Said | None:
        """Why these octets, and the end with them, did not go out."""
        try:
            self._step(self.timeout)
            self._socket.sendall(data)
        except OSError as error:
            lost = self._lost(error, Stage.TEXT)
            with contextlib.suppress(OSError, smtplib.SMTPException):
                self._step(EARLY_SECONDS)
                reply = self._reply()
                if 400 <= reply.code < 600:
                    # What it said before it closed says more than that it closed.
                    return _said(reply, Stage.TEXT)
            return lost
        return None

    def _reply(self) -> _Reply:
        code, words = self.smtp.getreply()
        lines = [failures.said(line, most=TEXT_MAX) for line in words.split(b"\n")]
        if len(lines) > 1 and (found := _ENHANCED.match(lines[0])) is not None:
            lines[1:] = [line.removeprefix(found[0]).strip() for line in lines[1:]]
        return _Reply(code, failures.said(" ".join(line for line in lines if line), most=TEXT_MAX))

    def _step(self, seconds: float) -> None:
        self._socket.settimeout(seconds)
        self._deadline = time.monotonic() + seconds + SLACK

    def _lost(self, error: BaseException, stage: Stage) -> Said:
        below = error.__context__
        if isinstance(error, smtplib.SMTPServerDisconnected) and isinstance(below, OSError):
            error = below
        self.cause = error
        if isinstance(error, TimeoutError):
            text = f"{self.host} {NO_ANSWER}."
        elif isinstance(error, OSError):
            text = f"The connection with {self.host} was lost: {failures.said(str(error)) or type(error).__name__}."
        elif isinstance(error, smtplib.SMTPResponseException):
            text = f"What {self.host} answered is no reply: {failures.said(error.smtp_error)}."
        else:
            text = f"{self.host} closed the connection."
        return self._ours(stage, text, "4.4.2")

    def _ours(self, stage: Stage, text: str, enhanced: str = "") -> Said:
        self.ended = True
        return Said(stage, None, failures.said(text, most=TEXT_MAX), enhanced)


def hand_over(line: Line, parcel: Parcel, outcomes: dict[str, Said]) -> None:
    """Send it to all recipients without an outcome, in as many transactions as the server asks for; what each was told
    is put into ``outcomes``. Raises Broken where the connection ends before everybody has an outcome, and what
    ``parcel.blocks`` raises: then the message is not complete, and the connection is to be closed quietly."""
    options = _options(line, parcel)
    if isinstance(options, Said):
        outcomes.update((one, options) for one in parcel.recipients if one not in outcomes)
        return
    while waiting := [one for one in parcel.recipients if one not in outcomes]:
        if line.ended:
            raise Broken(Said(Stage.MAIL, None, f"{line.host} takes no more in this session.", "4.5.3"))
        _transaction(line, parcel, options, waiting[: _recipients_max(line)], outcomes)


@dataclass(frozen=True, slots=True)
class _Options:
    """utf8: SMTPUTF8 is said. mail: the MAIL command."""

    mail: str
    utf8: bool


def _options(line: Line, parcel: Parcel) -> _Options | Said:
    """How the transaction begins, or why this server cannot be given the message at all."""
    params = parcel.params
    utf8 = "SMTPUTF8" in params
    if utf8 and not line.offers("smtputf8"):
        # RFC 6531 §3.2: one that needs no SMTPUTF8 may go without.
        plain = all(one.rpartition("@")[0].isascii() for one in (parcel.sender, *parcel.recipients))
        if not plain or not parcel.plain_header():
            return _never("5.6.7", f"The message has internationalised addresses, and {line.host} does not take them")
        utf8 = False
    sender = parcel.sender if utf8 else _ascii(parcel.sender)
    if sender is None or not _sendable(sender):
        return _never("5.1.7", "The sender's address cannot be sent")
    words = [f"MAIL FROM:<{sender}>"]
    if line.offers("size"):
        limit = line.smtp.esmtp_features["size"].strip()
        # RFC 1870 §4: no number, or 0, is no limit that is told
        if limit.isascii() and limit.isdigit() and 0 < int(limit) < parcel.size:
            return _never("5.3.4", f"The message has {parcel.size} octets, and {line.host} takes {int(limit)}")
        words.append(f"SIZE={parcel.size}")
    declared = params.get("BODY", "").upper() == "8BITMIME"
    if line.offers("8bitmime"):
        if declared or (parcel.size <= HEADER_MAX and not parcel.seven_bit()):
            words.append("BODY=8BITMIME")
    elif not parcel.seven_bit():
        # RFC 6152 §3 lets it be converted or sent back. Converting breaks every signature in and on the message.
        return _never("5.6.3", f"The message has 8-bit text, and {line.host} does not take it (8BITMIME)")
    if utf8:
        words.append("SMTPUTF8")
    if "REQUIRETLS" in params:
        # RFC 8689 §4.2.1
        if not line.offers("requiretls"):
            return _never("5.7.30", f"REQUIRETLS is asked for, and {line.host} does not offer it")
        words.append("REQUIRETLS")
    if line.offers("dsn"):
        # RFC 3461 §5.2.1: passed on as they came.
        words += [f"{name}={value}" for name in ("RET", "ENVID") if (value := params.get(name)) and _sendable(value)]
    return _Options(" ".join(words), utf8)


def _transaction(
    line: Line, parcel: Parcel, options: _Options, recipients: Sequence[str], outcomes: dict[str, Said]
) -> None:
    """One of them. At least one recipient has an outcome then, or Broken is raised."""
    line.reset()
    line.smtp.command_encoding = "utf-8" if options.utf8 else "ascii"
    commands = {}
    for one in recipients:
        if (command := _rcpt(line, one, parcel.recipients[one], options.utf8)) is None:
            outcomes[one] = Said(Stage.RCPT, None, "The address cannot be sent to this server", "5.1.3", never=True)
        else:
            commands[one] = command
    if not commands:
        return
    reply = _sensible(line, line.ask(options.mail, Stage.MAIL), Stage.MAIL, 250)
    if reply.code != 250:
        outcomes.update(dict.fromkeys(commands, _said(reply, Stage.MAIL)))
        return
    line.dirty = True
    accepted: list[str] = []
    too_many: dict[str, Said] = {}
    for one, command in commands.items():
        reply = _sensible(line, line.ask(command, Stage.RCPT), Stage.RCPT, 250, 251, 252)
        if reply.code < 300:
            accepted.append(one)
        elif reply.code == 452 or (reply.code == 552 and reply.enhanced in ("", "5.5.3")):
            # RFC 5321 §4.5.3.1.10: too many recipients, or the old code for that: the rest goes in a transaction of
            # its own, unless not even one was taken.
            too_many[one] = Said(Stage.RCPT, 452, reply.text, reply.enhanced if reply.code == 452 else "4.5.3")
        else:
            outcomes[one] = _said(reply, Stage.RCPT)
    if not accepted:
        outcomes.update(too_many)
        return
    reply = _sensible(line, line.ask("DATA", Stage.DATA), Stage.DATA, 354)
    said = line.text(parcel.blocks()) if reply.code == 354 else _said(reply, Stage.DATA)
    outcomes.update(dict.fromkeys(accepted, said))


def _sensible(line: Line, reply: _Reply, stage: Stage, *good: int) -> _Reply:
    """The reply, where it is one of these or a refusal; else Broken."""
    if reply.code in good or 400 <= reply.code < 600:
        return reply
    line.ended = True
    text = f"The server's answer makes no sense here: {reply.code} {reply.text}"
    raise Broken(Said(stage, None, failures.said(text, most=TEXT_MAX), "4.5.0"))


def _rcpt(line: Line, address: str, params: Mapping[str, str], utf8: bool) -> str | None:
    """The command for a recipient; None for one that this server cannot be told."""
    written = address if utf8 else _ascii(address)
    if written is None or not _sendable(written):
        return None
    words = [f"RCPT TO:<{written}>"]
    for name in ("NOTIFY", "ORCPT") if line.offers("dsn") else ():
        value = params.get(name)
        if value and not (value.isascii() or utf8):
            # RFC 6533 §3: utf-8-addr-xtext, for a server without SMTPUTF8
            value = "".join(char if char.isascii() else f"\\x{{{ord(char):X}}}" for char in value)
        if value and _sendable(value):
            words.append(f"{name}={value}")
    return " ".join(words)


def _recipients_max(line: Line) -> int:
    # RFC 9422 §4
    found = _RCPTMAX.search(line.smtp.esmtp_features.get("limits", ""))
    return max(1, min(RECIPIENTS_MAX, int(found[1]))) if found else RECIPIENTS_MAX


def _said(reply: _Reply, stage: Stage) -> Said:
    return Said(stage, reply.code, reply.text, reply.enhanced)


def _never(enhanced: str, text: str) -> Said:
    return Said(Stage.MAIL, None, text, enhanced, never=True)


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


def _sendable(text: str) -> bool:
    """Whether it may stand in a command: no control characters, no lone surrogates."""
    try:
        text.encode()
    except UnicodeError:
        return False
    return _CONTROLS.search(text) is None
