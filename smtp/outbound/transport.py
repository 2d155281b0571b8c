"""What a transport is: it tries to hand one message over for some recipients, and tells what came of each.

The runner of the spool knows transports by this file alone; so do the connectors, whose relay is one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from storage.model import RemoteRecipient

TEXT_MAX = 1000
"""Characters of a remote server's reply that are kept."""
TLS_OPTIONAL = "X-HOMING-TLS-OPTIONAL"
"""A parameter of messages that go under TLS where they can, and without where they cannot, whatever policy their
destination has: reports about that very TLS (RFC 8460 §3). It goes to no other server."""


class Status(Enum):
    """SENT: the remote server has taken it. DEFERRED: not now, try again. FAILED: never."""

    SENT = "sent"
    DEFERRED = "deferred"
    FAILED = "failed"


class Phase(Enum):
    """How far an attempt came for a recipient. TEXT: the message itself and the reply after it."""

    ROUTE = "route"
    CONNECT = "connect"
    GREETING = "greeting"
    EHLO = "ehlo"
    TLS = "tls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one recipient.

    code: of the SMTP reply, None where there was none (no route, no connection). enhanced: RFC 3463 status, ours
    where the remote gave none. text: the remote's own words, or one sentence of ours; printable, without line ends, at
    most TEXT_MAX characters. remote: "mx.example.net [192.0.2.1]:25", "" where none was reached. doubtful: the whole
    text went out and no reply came: the remote may have taken it (RFC 1047).
    """

    status: Status
    phase: Phase
    enhanced: str
    text: str
    code: int | None = None
    remote: str = ""
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class Letter:
    """One message to one domain. head: fields of ours that go before the stored octets (DKIM-Signature, CRLF-ended).
    read: octets [start, end) of the stored message, which has ``size`` octets; raises storage's errors. params: MAIL
    parameters of the submission (BODY, SMTPUTF8, RET, ENVID, REQUIRETLS), and TLS_OPTIONAL. domain, route: as in
    ``SpoolItem``. account: of whom it is, where whoever sends it has to know."""

    item: str
    trace: str
    sender: str
    domain: str
    recipients: tuple[RemoteRecipient, ...]
    size: int
    read: Callable[[int, int], Awaitable[bytes]]
    head: bytes = b""
    route: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    account: str | None = None


@dataclass(frozen=True, slots=True)
class Unsigned:
    """A letter that may get a signature of ours. own: it was submitted by one of our accounts, or this server wrote it.
    account: the one that submitted it, for which nothing is signed but what is From an address of its own."""

    letter: Letter
    own: bool
    account: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """One attempt. outcomes: by address, one for each recipient. tls: "TLSv1.3" or None. verified: by what the
    server's name was proved ("dane", "mta-sts", "web-pki" or "" for not at all). relayed_dsn: the remote server offered
    DSN (RFC 3461) and so takes over telling of success. destination_down: no host of the destination could be reached
    or spoken to, so that its other mail need not be tried at once. reused: over a connection that was open."""

    outcomes: Mapping[str, Outcome]
    seconds: float
    tls: str | None = None
    verified: str = ""
    relayed_dsn: bool = False
    destination_down: bool = False
    reused: bool = False


class Transport(Protocol):
    """Sends; any number of calls at the same time."""

    async def send(self, letter: Letter) -> Result:
        """Try once (every host of the route, in order, until one takes or refuses it). Never raises for what a remote
        server or the network does; storage's Unavailable while the text is read escapes, and the connection is closed
        before the message is complete."""

    async def close(self) -> None:
        """End idle connections (QUIT); calls in hand go on."""
