"""What the server knows of a connection and of the mail transaction in it (RFC 5321 §3.3)."""

from __future__ import annotations

from dataclasses import dataclass, field

from identity.model import Principal
from runtime.ids import new_id
from smtp.wire.params import MailArgument
from storage.model import Event, LocalRecipient, RemoteRecipient

EVENTS_MAX = 200
"""Trace events that one transaction keeps; what a hostile client does beyond is not written down line by line."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What kind of listener a connection came to. name: for logs and settings. tls: encrypted from the start.
    auth_required: mail only after signing in (RFC 6409 §4.3)."""

    name: str
    tls: bool = False
    auth_required: bool = False


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """version: "TLSv1.3". cipher: OpenSSL's name."""

    version: str
    cipher: str


@dataclass(slots=True)
class Session:
    """One connection. peer: IP address, "" for a Unix socket. helo: what the client calls itself, "" before HELO.
    extended: EHLO and not HELO. connected_at: Unix seconds."""

    peer: str
    port: int
    rules: Rules
    connected_at: float
    helo: str = ""
    extended: bool = False
    tls: TlsFacts | None = None
    principal: Principal | None = None
    auth_failures: int = 0
    errors: int = 0

    def forget(self) -> None:
        """RFC 3207 §4.2: after STARTTLS nothing is known that was said before."""
        self.helo = ""
        self.extended = False
        self.principal = None


@dataclass(slots=True)
class Transaction:
    """One mail transaction; ``mail`` is None until MAIL was accepted.

    local by account id and remote by address: each stands once, whatever aliases led there. accepted: RCPT commands
    answered with 250.
    """

    mail: MailArgument | None = None
    trace: str = ""
    local: dict[str, LocalRecipient] = field(default_factory=dict)
    remote: dict[str, RemoteRecipient] = field(default_factory=dict)
    accepted: int = 0
    events: list[Event] = field(default_factory=list)

    def begin(self, mail: MailArgument) -> None:
        self.mail = mail
        self.trace = new_id()

    def note(self, event: Event) -> None:
        """Keep a trace event, up to EVENTS_MAX."""
        if len(self.events) < EVENTS_MAX:
            self.events.append(event)


def connect_event(session: Session, trace: str) -> Event:
    """How the message's connection was: peer, HELO name, TLS and sign-in, in one event."""
    return Event(
        trace,
        session.connected_at,
        "connect",
        session.principal.account if session.principal is not None else None,
        {
            "peer": session.peer,
            "listener": session.rules.name,
            "helo": session.helo,
            "tls": session.tls.version if session.tls is not None else None,
            "cipher": session.tls.cipher if session.tls is not None else None,
            "auth": session.principal.address if session.principal is not None else None,
        },
    )
