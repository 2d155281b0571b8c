"""The one place that sends: a connection to a submission server (RFC 6409), and messages over it."""

from __future__ import annotations

import contextlib
import logging
import re
import smtplib
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from connectors import failures
from connectors.exceptions import ConfigurationError, ConnectionError, MessageError
from connectors.letter import Letter
from connectors.recipients import Person
from runtime.limits import Networks, parse_address

log = logging.getLogger("connectors")

IMPLICIT_TLS_PORT = 465
"""RFC 8314 §7.3: TLS from the first byte."""

LOOPBACK_ADDRESSES = ("127.0.0.1", "::1")

_DOT = re.compile(rb"^\.", re.MULTILINE)


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
    """What became of a message that the server took: who gets it, who was refused, its Message-ID, the reply."""

    message_id: str
    accepted: tuple[str, ...]
    refused: dict[str, Refusal] = field(default_factory=dict)
    reply: str = ""

    @property
    def complete(self) -> bool:
        """Whether no recipient was refused."""
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
    """Send a message on a connection that is signed in.

    Lost when the connection ended before the message was begun: then it can be sent again. ConnectionError when it
    ended later; its may_have_been_sent is true when only the server's last answer was not seen. MessageError when the
    server refused the sender, all recipients or the message. Refused recipients beside accepted ones are in the result.
    """
    _check(smtp, server, letter)
    accepted: list[Person] = []
    refused: dict[str, Refusal] = {}
    try:
        smtp.command_encoding = "utf-8" if letter.needs_utf8 else "ascii"
        code, words = smtp.docmd("MAIL", _mail(smtp, sender, letter))
        if code != 250:
            _refused(smtp, server, code, f"the sender {sender.wire}", words)
        for person in to:
            code, words = smtp.docmd("RCPT", f"TO:<{person.wire}>")
            if code in (250, 251):
                accepted.append(person)
            elif code == 421:
                _refused(smtp, server, code, f"the recipient {person.wire}", words)
            else:
                refused[str(person.mailbox)] = Refusal(code, failures.said(words))
        if not accepted:
            smtp.rset()
            listed = "; ".join(f"{name}: {why.code} {why.text}" for name, why in refused.items())
            raise MessageError(
                f"{server.host} refused every recipient, nothing was sent. {listed[:2000]}",
                refused={name: (why.code, why.text) for name, why in refused.items()},
            )
        code, words = smtp.docmd("DATA")
        if code != 354:
            _refused(smtp, server, code, "the message", words)
    except (smtplib.SMTPServerDisconnected, OSError) as error:
        smtp.close()
        raise Lost from error
    reply = _data(smtp, server, letter)
    if refused:
        log.warning(
            "%s took the message %s but refused %d of %d recipients.",
            server.host,
            letter.message_id,
            len(refused),
            len(to),
        )
    return SendResult(letter.message_id, tuple(str(person.mailbox) for person in accepted), refused, reply)


def _check(smtp: smtplib.SMTP, server: Server, letter: Letter) -> None:
    if letter.needs_utf8 and not smtp.has_extn("smtputf8"):
        # RFC 6531 §3.1
        raise MessageError(
            f"An address of the message is not ASCII, and {server.host} does not offer SMTPUTF8. Use addresses "
            "that are ASCII before the @, or a server that offers it."
        )
    limit = smtp.esmtp_features.get("size", "")
    # RFC 1870 §4: no number, or 0, is no limit that is told
    if limit.isascii() and limit.isdigit() and 0 < int(limit) < len(letter.raw):
        raise MessageError(
            f"The message has {len(letter.raw)} bytes with its attachments encoded; {server.host} takes {int(limit)}. "
            "Send fewer or smaller files."
        )


def _mail(smtp: smtplib.SMTP, sender: Person, letter: Letter) -> str:
    options = [f"FROM:<{sender.wire}>"]
    if smtp.has_extn("size"):
        options.append(f"SIZE={len(letter.raw)}")
    if letter.needs_utf8:
        options += ["SMTPUTF8", "BODY=8BITMIME"] if smtp.has_extn("8bitmime") else ["SMTPUTF8"]
    return " ".join(options)


def _refused(smtp: smtplib.SMTP, server: Server, code: int, what: str, words: bytes) -> None:
    said = failures.said(words)
    if code == 421:
        smtp.close()
        raise Lost from smtplib.SMTPResponseException(code, said)
    with contextlib.suppress(smtplib.SMTPException, OSError):
        smtp.rset()
    advice = "Try again later." if 400 <= code < 500 else "Check that the account may send as this address."
    raise MessageError(f"{server.host} refused {what}, nothing was sent: {code} {said}. {advice}")


def _data(smtp: smtplib.SMTP, server: Server, letter: Letter) -> str:
    """Hand over the message behind a 354; the server's reply to it."""
    body = _DOT.sub(b"..", letter.raw)
    # RFC 5321 §4.1.1.4: the line end before the dot belongs to the message
    body += b".\r\n" if body.endswith(b"\r\n") else b"\r\n.\r\n"
    try:
        smtp.send(body)
    except (smtplib.SMTPServerDisconnected, OSError) as error:
        smtp.close()
        raise ConnectionError(
            f"{server.host}:{server.port} ended the connection in the middle of the message. It was not sent: its end "
            "was never handed over. Send it again."
        ) from error
    try:
        code, words = smtp.getreply()
    except (smtplib.SMTPException, OSError) as error:
        smtp.close()
        raise ConnectionError(
            f"{server.host}:{server.port} took the whole message, but its answer was not seen: the message "
            f"{letter.message_id} may have been sent. Look whether it arrived before you send it again.",
            may_have_been_sent=True,
        ) from error
    if code == 250:
        return failures.said(words)
    said = failures.said(words)
    if code == -1:
        smtp.close()
        raise ConnectionError(
            f"{server.host}:{server.port} answered the message with something that is no reply: {said}. The message "
            f"{letter.message_id} may have been sent. Look whether it arrived before you send it again.",
            may_have_been_sent=True,
        )
    if code == 421:
        smtp.close()
    advice = "Try again later." if 400 <= code < 500 else "Change the message, or ask who runs the server."
    raise MessageError(f"{server.host} refused the message, it was not sent: {code} {said}. {advice}")
