"""What the server knows of a connection and of the mail transaction in it (RFC 5321 §3.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from identity.model import Principal, Target
from runtime.ids import new_id
from runtime.limits import is_loopback
from smtp.wire.ehlo import Kind
from smtp.wire.params import MailArgument
from storage.model import Event, LocalRecipient, RemoteRecipient

EVENTS_MAX = 200
"""Trace events that one transaction keeps; what a hostile client does beyond is not written down line by line."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What kind of listener a connection came to.

    name: for logs, settings and the trace. tls: encrypted from the start; starttls: may become so. auth: sign-in is
    not offered, is offered, or comes before mail (RFC 6409 §4.3). size_max (octets of a message), recipients_max (of
    one message): None for what the settings say of all listeners.
    """

    name: str
    kind: Kind = "smtp"
    tls: bool = False
    starttls: bool = True
    auth: Literal["off", "offered", "required"] = "offered"
    size_max: int | None = None
    recipients_max: int | None = None


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """version: "TLSv1.3". cipher: OpenSSL's name. binding: tls-unique, b"" where that is not right."""

    version: str
    cipher: str
    binding: bytes = field(default=b"", repr=False)


@dataclass(slots=True)
class Session:
    """One connection. peer: IP address, "" for a Unix socket. helo: what the client calls itself, "" before HELO.
    extended: EHLO or LHLO and not HELO. scram: SCRAM was offered in the answer to EHLO. connected_at: Unix seconds.
    mails: transactions that were begun. proxied: the listener is behind a proxy, and an address of loopback is not
    to be taken for this machine's."""

    peer: str
    port: int
    rules: Rules
    connected_at: float
    helo: str = ""
    extended: bool = False
    scram: bool = False
    tls: TlsFacts | None = None
    principal: Principal | None = None
    auth_failures: int = 0
    errors: int = 0
    mails: int = 0
    proxied: bool = False

    @property
    def near(self) -> bool:
        """Is the client on this machine, so that nobody listens in between? What a proxy says of that is its own
        machine, or another proxy before it."""
        return not self.proxied and is_loopback(self.peer)

    def forget(self) -> None:
        """RFC 3207 §4.2: after STARTTLS nothing is known that was said before."""
        self.helo = ""
        self.extended = self.scram = False
        self.principal = None


@dataclass(frozen=True, slots=True)
class Recipient:
    """One RCPT that was answered with 250. targets: accounts of ours that it leads to; remote: keys in
    ``Transaction.remote``. notify, orcpt: as in ``RcptArgument``."""

    address: str
    targets: tuple[Target, ...] = ()
    remote: tuple[str, ...] = ()
    notify: str | None = None
    orcpt: str | None = None


@dataclass(slots=True)
class Transaction:
    """One mail transaction; ``mail`` is None until MAIL was accepted.

    local by account id and remote by address: each stands once, whatever aliases led there. recipients: one for each
    RCPT command that was answered with 250, in order. hold_until: Unix time before which the message is not to be
    delivered (RFC 4865), or None; held: accounts, and keys as in ``remote``, that it is then to come to.
    """

    mail: MailArgument | None = None
    trace: str = ""
    local: dict[str, LocalRecipient] = field(default_factory=dict)
    remote: dict[str, RemoteRecipient] = field(default_factory=dict)
    recipients: list[Recipient] = field(default_factory=list)
    hold_until: int | None = None
    held: frozenset[str] = frozenset()
    events: list[Event] = field(default_factory=list)

    @property
    def accepted(self) -> int:
        """RCPT commands answered with 250."""
        return len(self.recipients)

    def begin(self, mail: MailArgument) -> None:
        self.mail = mail
        self.trace = new_id()

    def way_on(self) -> Mapping[str, str]:
        """MAIL parameters that concern the next server, as ``Delivery.params`` has them."""
        mail = self.mail
        params: dict[str, str] = {}
        if mail is None:
            return params
        if mail.body is not None:
            params["BODY"] = mail.body
        if mail.smtputf8:
            params["SMTPUTF8"] = ""
        if mail.requiretls:
            params["REQUIRETLS"] = ""
        if mail.ret is not None:
            params["RET"] = mail.ret
        if mail.envid is not None:
            params["ENVID"] = mail.envid
        if self.hold_until is not None:
            params["HOLDUNTIL"] = str(self.hold_until)
        return params

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
