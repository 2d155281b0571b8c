"""A connection to a submission server (RFC 6409), and messages of ours over it; ``handover`` speaks, here it is told
what came of it."""

from __future__ import annotations

import contextlib
import logging
import smtplib
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from connectors import failures
from connectors.exceptions import ConfigurationError, ConnectionError, MessageError
from connectors.handover import Broken, Line, Parcel, Said, Stage, hand_over
from connectors.letter import Letter
from connectors.recipients import Person
from runtime.limits import Networks, parse_address

log = logging.getLogger("connectors")

IMPLICIT_TLS_PORT = 465
"""RFC 8314 §7.3: TLS from the first byte."""

LOOPBACK_ADDRESSES = ("127.0.0.1", "::1")

BLOCK = 64 * 1024
"""Octets of a message that are handed over at once."""
LISTED_MAX = 2000
"""Characters of what the recipients were told that go into one text."""

_ENDED, _NEVER = 421, 553
"""The codes (RFC 5321 §4.2.3) in the place of a reply that there is none of: where the connection ended before, and of
an address that the server cannot be told."""
_LATER = "Try again later."
_REFUSED = {
    Stage.MAIL: ("the sender {sender}, nothing was sent", "Check that the account may send as this address."),
    Stage.DATA: ("the message, nothing was sent", "Change the message, or ask who runs the server."),
    Stage.TEXT: ("the message, it was not sent", "Change the message, or ask who runs the server."),
}
"""What a server refused, by stage, and what to do about it."""
_CANNOT = {
    "5.3.4": "Attachments are counted encoded; send fewer or smaller files.",
    "5.6.7": "It does not offer SMTPUTF8: use addresses that are ASCII before the @, or a server that offers it.",
}
"""What to do about a message that a server cannot be given, by enhanced code."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where and how to connect. tls: STARTTLS is asked for and required, or TLS from the first byte where implicit.
    refused: networks in which the server may not be, whatever its name leads to."""

    host: str
    port: int
    timeout: float
    tls: bool = True
    implicit: bool = False
    verify: bool = True
    ca_file: str | None = None
    refused: Networks | None = None

    def context(self) -> ssl.SSLContext:
        if not self.verify:
            failures.not_verified(self.host)
        return failures.context(self.host, verify=self.verify, ca_file=self.ca_file)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one recipient was refused: the server's reply code and its words."""

    code: int
    text: str


@dataclass(frozen=True, slots=True)
class SendResult:
    """What became of a message that the server took: who gets it, who does not, its Message-ID, the (first) reply.

    refused: beside those that the server refused, those who had their turn in a later transaction of the message
    (``handover.RECIPIENTS_MAX``) that it did not take, for whatever reason.
    """

    message_id: str
    accepted: tuple[str, ...]
    refused: dict[str, Refusal] = field(default_factory=dict)
    reply: str = ""

    @property
    def complete(self) -> bool:
        """Whether it was taken for every recipient."""
        return not self.refused


class Lost(Exception):
    """The connection was lost before any of the message was handed over; the cause tells how."""


def open_server(server: Server) -> smtplib.SMTP:
    """A connection that has been greeted, in TLS where it is asked for, not signed in. ConnectionError."""
    with failures.smtp_failures(server.host, server.port):
        # A name of ours is not looked up: that can take long, and nobody asks for it (RFC 5321 §4.1.3).
        options: dict[str, Any] = {"local_hostname": "[127.0.0.1]", "timeout": server.timeout}
        if server.tls and server.implicit:
            smtp: smtplib.SMTP = _kinds(server)[1](server.host, server.port, context=server.context(), **options)
        else:
            smtp = _kinds(server)[0](server.host, server.port, **options)
        try:
            smtp.local_hostname = _literal(smtp)
            _greet(smtp)
            if server.tls and not server.implicit:
                if not smtp.has_extn("starttls"):
                    raise ConnectionError(
                        f"{server.host}:{server.port} does not offer STARTTLS. Check 'port' (587, or 465 for TLS from "
                        "the first byte); 'use_tls': False sends everything in clear, for servers on this machine."
                    )
                smtp.starttls(context=server.context())
                _greet(smtp)
        except BaseException:
            smtp.close()
            raise
        return smtp


def _kinds(server: Server) -> tuple[type[smtplib.SMTP], type[smtplib.SMTP_SSL]]:
    """smtplib's classes, or ones that connect to no address in the refused networks."""
    if server.refused is None:
        return smtplib.SMTP, smtplib.SMTP_SSL
    refused: Networks = server.refused

    class Narrowed(smtplib.SMTP):
        def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
            # Looked up once: what is compared is what is connected to.
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            addresses = dict.fromkeys(str(address[0]) for *_, address in found)
            allowed = [one for one in addresses if not _is_in(refused, one)]
            if not allowed:
                raise ConfigurationError(
                    f"{host} is in a network that nothing is sent to from here ('refused_networks')."
                )
            for one in allowed[:-1]:
                with contextlib.suppress(OSError):
                    return socket.create_connection((one, port), timeout)
            return socket.create_connection((allowed[-1], port), timeout)

    class NarrowedSsl(smtplib.SMTP_SSL, Narrowed):
        """Its own `_get_socket` wraps what the other one gives."""

    return Narrowed, NarrowedSsl


def _is_in(networks: Networks, address: str) -> bool:
    parsed = parse_address(address)
    if parsed is not None and parsed.is_unspecified:
        # 0.0.0.0 and :: connect to this machine.
        return any(own in networks for own in LOOPBACK_ADDRESSES)
    return address in networks


def _greet(smtp: smtplib.SMTP) -> None:
    code, words = smtp.ehlo()
    if code == 250:
        return
    if code in (500, 502, 504):
        # Tolerance: a server without EHLO (RFC 5321 §3.2)
        code, words = smtp.helo()
    if code != 250:
        raise smtplib.SMTPHeloError(code, words)


def _literal(smtp: smtplib.SMTP) -> str:
    assert smtp.sock is not None
    name = str(smtp.sock.getsockname()[0]).partition("%")[0]
    return f"[IPv6:{name}]" if ":" in name else f"[{name}]"


def close(smtp: smtplib.SMTP) -> None:
    """QUIT, and close; nothing is raised when the server is gone already."""
    with contextlib.suppress(OSError, smtplib.SMTPException):
        smtp.quit()
    smtp.close()


def alive(smtp: smtplib.SMTP) -> bool:
    """Whether the server still answers on this connection."""
    try:
        return smtp.sock is not None and smtp.noop()[0] == 250
    except (OSError, smtplib.SMTPException):
        return False


def transmit(smtp: smtplib.SMTP, server: Server, sender: Person, to: Sequence[Person], letter: Letter) -> SendResult:
    """Send a message on a connection that is signed in; it can be used for the next one then, or is closed.

    Lost when the connection ended before the message was begun: then it can be sent again. ConnectionError when it
    ended later; its may_have_been_sent is true when only the server's last answer was not seen. MessageError when the
    server refused the sender, all recipients or the message. Refused recipients beside accepted ones are in the result.
    """
    line = Line(smtp, server.host, server.port, timeout=server.timeout, dot_timeout=server.timeout)
    outcomes: dict[str, Said] = {}
    broken: Broken | None = None
    try:
        hand_over(line, _parcel(sender, to, letter), outcomes)
        if not line.ended:
            line.reset()
    except Broken as error:
        broken = error
    except BaseException:
        # Where it stopped is not known: what is written next would be taken for a piece of this message.
        line.close(quietly=True)
        raise
    if line.ended:
        line.close()
    told = [one.wire in outcomes for one in to]
    if broken is not None:
        outcomes |= {one.wire: broken.said for one, known in zip(to, told, strict=True) if not known}
    said = {str(one.mailbox): outcomes[one.wire] for one in to}
    if any(one.doubtful for one in said.values()):
        raise _doubtful(letter, said) from line.cause
    accepted = tuple(name for name, one in said.items() if one.taken)
    if accepted:
        return _result(server, letter, accepted, said)
    if any(one.stage is Stage.TEXT and one.code is None for one in said.values()):
        raise ConnectionError(
            f"{server.host}:{server.port} ended the connection in the middle of the message. It was not sent: its end "
            "was never handed over. Send it again."
        ) from line.cause
    if broken is not None and not all(told):
        code = broken.said.code
        raise Lost from line.cause or (smtplib.SMTPResponseException(code, broken.said.text) if code else broken)
    raise _message_error(server, sender, said)


def _parcel(sender: Person, to: Sequence[Person], letter: Letter) -> Parcel:
    def blocks() -> Iterator[bytes]:
        return (letter.raw[at : at + BLOCK] for at in range(0, len(letter.raw), BLOCK))

    params = {"SMTPUTF8": ""} if letter.needs_utf8 else {}
    return Parcel(sender.wire, {one.wire: {} for one in to}, len(letter.raw), blocks, params)


def _doubtful(letter: Letter, said: Mapping[str, Said]) -> ConnectionError:
    text = next(one.text for one in said.values() if one.doubtful).removesuffix(".")
    taken = sum(one.taken for one in said.values())
    if taken:
        text += f". It was taken for {taken} of {len(said)} recipients before"
    return ConnectionError(
        f"{text}. The message {letter.message_id} may have been sent. Look whether it arrived before you send it "
        "again.",
        may_have_been_sent=True,
    )


def _result(server: Server, letter: Letter, accepted: tuple[str, ...], said: Mapping[str, Said]) -> SendResult:
    refused = {name: _refusal(one) for name, one in said.items() if not one.taken}
    if refused:
        log.warning(
            "%s took the message %s but refused %d of %d recipients.",
            server.host,
            letter.message_id,
            len(refused),
            len(said),
        )
    return SendResult(letter.message_id, accepted, refused, said[accepted[0]].text)


def _refusal(said: Said) -> Refusal:
    return Refusal(said.code or (_NEVER if said.never else _ENDED), said.text)


def _message_error(server: Server, sender: Person, said: Mapping[str, Said]) -> MessageError:
    """Of a message that nobody gets, where everybody was told why."""
    by_stage = {one.stage: one for one in said.values()}
    # How far it came, of several transactions that which came furthest
    one = next(by_stage[stage] for stage in (Stage.TEXT, Stage.DATA, Stage.RCPT, Stage.MAIL) if stage in by_stage)
    if one.stage is Stage.RCPT:
        refused = {name: _refusal(each) for name, each in said.items()}
        listed = "; ".join(f"{name}: {why.code} {why.text}" for name, why in refused.items())
        return MessageError(
            f"{server.host} refused every recipient, nothing was sent. {listed[:LISTED_MAX]}",
            refused={name: (why.code, why.text) for name, why in refused.items()},
        )
    if one.code is None:
        advice = _CANNOT.get(one.enhanced, "Nothing was sent.")
        return MessageError(f"{one.text}. {advice}")
    what, advice = _REFUSED[one.stage]
    what = what.format(sender=sender.wire)
    return MessageError(f"{server.host} refused {what}: {one.code} {one.text}. {_LATER if one.code < 500 else advice}")
