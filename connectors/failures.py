"""The one table from what sockets, TLS, smtplib and imaplib raise to our exceptions; no secret gets into a text."""

from __future__ import annotations

import base64
import imaplib
import logging
import re
import smtplib
import socket
import ssl
import urllib.error
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum

from connectors.exceptions import (
    AuthenticationError,
    ConfigurationError,
    ConnectionError,
    MessageError,
)

log = logging.getLogger("connectors")

SAID_MAX = 300
"""How many characters of what a server said go into a text of ours."""
CHAIN_MAX = 10
"""How many errors below an error are looked at."""

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def said(words: bytes | str, secrets: Collection[str] = (), *, most: int = SAID_MAX) -> str:
    """What a server said, on one line, cut to so many characters, without our secrets, which some servers repeat."""
    text = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    for form in _forms(secrets):
        text = text.replace(form, "***")
    text = _CONTROLS.sub(" ", text).strip()
    return text if len(text) <= most else text[: most - 1] + "…"


def spelt(text: str, names: Mapping[str, str]) -> str:
    """A text of ours for who has no configuration with our keys, which texts have in quotes: by phrase, what stands for
    it there."""
    for phrase, other in names.items():
        text = text.replace(phrase, other)
    return text


def _forms(secrets: Collection[str]) -> list[str]:
    forms: list[str] = []
    for secret in secrets:
        if secret:
            forms += [secret, base64.b64encode(secret.encode("utf-8", "replace")).decode()]
    return sorted(forms, key=len, reverse=True)


def context(where: str, *, verify: bool = True, ca_file: str | None = None, and_system: bool = False) -> ssl.SSLContext:
    """The client's side of TLS: 1.2 or later, the server's certificate and name verified unless verify is false.

    ca_file has certificates to trust in place of the system's (or beside them); ConfigurationError when it has none.
    """
    try:
        made = ssl.create_default_context(cafile=ca_file)
        if ca_file and and_system:
            made.load_default_certs()
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"{where}: 'ca_file' {ca_file} has no certificates that can be read: {error}."
        ) from error
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made


def not_verified(host: str) -> None:
    """Say in the log that a server's certificate is not verified, because the configuration asks for that."""
    log.warning(
        "The certificate of %s is not verified ('verify_ssl' is false): anyone on the way may read along.", host
    )


def connection_error(error: BaseException, host: str, port: int, more: str = "") -> ConnectionError:
    """The ConnectionError that an error of a socket or of TLS means, with what to do about it; more ends its text."""
    return ConnectionError(_advice(error, host, f"{host}:{port}") + more)


def _advice(error: BaseException, host: str, where: str) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"The certificate of {where} was not accepted: {said(error.verify_message or str(error))}. Check the host "
            "name; for a private authority name its certificate in 'ca_file'; 'verify_ssl': False turns the check off "
            "and lets anyone on the way read along."
        )
    if isinstance(error, ssl.SSLError):
        return (
            f"TLS with {where} failed: {said(str(error.reason or error))}. Check that the port is the right one for "
            "TLS from the first byte (465, 993) or for STARTTLS (587, 143)."
        )
    if isinstance(error, socket.gaierror):
        return f"The name {host} was not found: {said(str(error.strerror or error))}. Check 'host'."
    if isinstance(error, TimeoutError):
        return f"{where} did not answer in time. Check 'host', 'port' and the firewall, or set a longer 'timeout'."
    if isinstance(error, ConnectionRefusedError):
        return f"Nothing listens on {where}. Check 'host' and 'port', and that the server runs."
    if isinstance(error, UnicodeError):
        return f"{host!r} is no name of a host. Check 'host'."
    return f"The connection with {where} failed: {said(str(error)) or type(error).__name__}. Try again."


class Trouble(Enum):
    """What was below a ConnectionError. LATER: the server said so itself, with a 4xx reply."""

    TLS = "tls"
    SILENCE = "silence"
    LATER = "later"
    OTHER = "other"


def trouble(error: ConnectionError) -> Trouble:
    """What kind of trouble it was, by the errors that are chained to it."""
    below = tuple(_chain(error))
    if any(isinstance(one, ssl.SSLError) for one in below):
        return Trouble.TLS
    if any(isinstance(one, TimeoutError) for one in below):
        return Trouble.SILENCE
    if any(isinstance(one, smtplib.SMTPResponseException) and 400 <= one.smtp_code < 500 for one in below):
        return Trouble.LATER
    return Trouble.OTHER


def _chain(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    for _ in range(CHAIN_MAX):
        if found is None:
            return
        yield found
        if isinstance(found, urllib.error.URLError) and isinstance(found.reason, BaseException):
            yield found.reason
        found = found.__cause__ or found.__context__


@contextmanager
def smtp_failures(host: str, port: int) -> Iterator[None]:
    """Turns what smtplib and its socket raise into our exceptions; ours pass."""
    try:
        yield
    except smtplib.SMTPServerDisconnected as error:
        below = error.__context__
        if isinstance(below, OSError):
            raise connection_error(below, host, port) from error
        raise ConnectionError(f"{host}:{port} closed the connection. Try again.") from error
    except smtplib.SMTPAuthenticationError as error:
        raise AuthenticationError(
            f"{host} refused the sign-in: {error.smtp_code} {said(error.smtp_error)}. Check user name and secret."
        ) from error
    except smtplib.SMTPResponseException as error:
        raise ConnectionError(
            f"{host}:{port} answered {error.smtp_code} {said(error.smtp_error)}. Check that it is a submission server "
            "that may be used from here, or try again later."
        ) from error
    except smtplib.SMTPNotSupportedError as error:
        raise ConnectionError(f"{host}:{port} does not offer what is needed: {said(str(error))}") from error
    except smtplib.SMTPException as error:
        raise ConnectionError(f"{host}:{port} does not speak SMTP as expected: {said(str(error))}") from error
    except (OSError, UnicodeError) as error:
        raise connection_error(error, host, port) from error


_ADVICE = {
    "select": "Check the name; list_mailboxes() gives all.",
    "move": "Check the target's name; list_mailboxes() gives all.",
    "copy": "Check the target's name; list_mailboxes() gives all.",
    "search": "Check the search words.",
    "change": "Check that the mailbox may be changed.",
    "delete": "Check that the mailbox may be changed.",
}


@contextmanager
def imap_failures(host: str, port: int, doing: str, *, opening: bool = False) -> Iterator[None]:
    """Turns what IMAPClient, imaplib and their socket raise into our exceptions; ours pass.

    doing ends the sentence "The server refused to …". While the connection is opened a refusal is a ConnectionError.
    """
    try:
        yield
    except imaplib.IMAP4.readonly as error:
        raise MessageError(f"The mailbox may not be changed: {host} has opened it read-only.") from error
    except imaplib.IMAP4.abort as error:
        below = error.__context__
        if isinstance(below, OSError):
            raise connection_error(below, host, port) from error
        raise ConnectionError(f"{host}:{port} ended the connection: {said(str(error))}. Connect again.") from error
    except imaplib.IMAP4.error as error:
        if opening:
            raise ConnectionError(f"{host}:{port} refused to {doing}: {said(str(error))}. Try again later.") from error
        advice = next((words for start, words in _ADVICE.items() if doing.startswith(start)), "Try again later.")
        raise MessageError(f"{host} refused to {doing}: {said(str(error))}. {advice}") from error
    except OSError as error:
        raise connection_error(error, host, port) from error
    except (UnicodeError, ValueError, IndexError) as error:
        # IMAPClient's parser, at an answer that is not IMAP
        raise ConnectionError(
            f"The answer of {host}:{port} cannot be read: {said(str(error))}. Check that it is an IMAP server."
        ) from error
