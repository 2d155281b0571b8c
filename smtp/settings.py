"""The settings of the SMTP service; each field's description is its manual."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from runtime.config import Group, OptionalText, Port, Size, Tables, Words, setting
from runtime.limits import LOOPBACK, Networks


class ListenerSettings(Group):
    """One listener, as a table of ``[[smtp.listeners]]``."""

    name: str = Field(
        description="In logs, in the trace and in `homing config`. The name of a listener of the simple form (smtp, "
        "submission, submissions, lmtp) takes that one's place.",
        pattern=r"^[a-z0-9][a-z0-9._\-]{0,31}$",
    )
    kind: Literal["smtp", "submission", "submissions", "lmtp"] = Field(
        description="smtp: mail from other servers. submission: from the accounts' own programs, with STARTTLS. "
        "submissions: the same with TLS from the first octet. lmtp: delivery by another server of yours (RFC 2033)."
    )
    host: OptionalText = Field(default=None, description="Its address. Empty: the one of all listeners, `host`.")
    port: Port = Field(default=None, description="Its port; 0 lets the system choose. Either this or `socket`.")
    socket: OptionalText = Field(default=None, description="Path of a Unix socket instead of a port.")
    tls: Literal["none", "starttls", "tls"] | None = Field(
        default=None, description="Empty: tls for submissions, else starttls."
    )
    sign_in: Literal["off", "offered", "required"] | None = Field(
        default=None, description="Empty: offered for smtp, required for submission and submissions, off for lmtp."
    )
    networks: Words | None = Field(
        default=None, description="Who may connect. Empty: `lmtp.networks` for lmtp, everybody for the others."
    )
    proxy: bool = Field(
        default=False,
        description="Every connection begins with a header of the PROXY protocol, which tells the client's address, "
        "and comes from `proxy.networks`.",
    )
    connections: int | None = Field(
        default=None, description="Connections at the same time. Empty: bounded with all others together.", ge=1
    )
    per_address: int | None = Field(
        default=None, description="Connections of one address. Empty: bounded with all others together.", ge=1
    )
    size_max: Size | None = Field(default=None, description="Octets of the largest message. Empty: `smtp.size_max`.")
    recipients_max: int | None = Field(
        default=None, description="Recipients of one message. Empty: `smtp.recipients_max`.", ge=1
    )

    @model_validator(mode="after")
    def _can_be(self) -> ListenerSettings:
        if (self.port is None) == (self.socket is None):
            raise ValueError(f"the listener {self.name!r} needs either a port or a socket")
        if self.socket is not None and (self.proxy or self.host is not None):
            raise ValueError(f"the listener {self.name!r} is a Unix socket: host and proxy do not go with it")
        if self.kind == "submissions" and self.tls not in (None, "tls"):
            raise ValueError(f"the listener {self.name!r} is of kind submissions: its tls is tls")
        # RFC 2033 §5
        if self.kind == "lmtp" and self.port == 25:
            raise ValueError(f"the listener {self.name!r} is LMTP, which must not be served on port 25")
        if self.kind == "lmtp" and self.sign_in not in (None, "off"):
            raise ValueError(f"the listener {self.name!r} is of kind lmtp, where nobody signs in")
        # RFC 6409 §4.3
        if self.kind in ("submission", "submissions") and self.sign_in not in (None, "required"):
            raise ValueError(f"the listener {self.name!r} is for submission: its sign_in is required")
        if self.networks is not None:
            Networks(self.networks)
        return self


class SmtpSettings(Group):
    """The group ``smtp``. Ports: an empty value is off, 0 lets the system choose."""

    port: Port = setting(
        2525, "Port of the SMTP listener (mail from other servers, STARTTLS).", env=["SMTP_SERVER_PORT"]
    )
    submission_port: Port = setting(
        2587, "Port for submission with STARTTLS, sign-in required (RFC 6409).", env=["HOMING_SUBMISSION_PORT"]
    )
    submissions_port: Port = setting(
        2465, "Port for submission over TLS, sign-in required (RFC 8314).", env=["HOMING_SUBMISSIONS_PORT"]
    )
    lmtp_port: Port = setting(None, "Port of the LMTP listener (RFC 2033).")
    lmtp_socket: OptionalText = setting(None, "Path of its Unix socket.")
    lmtp_networks: Words = setting(LOOPBACK, "Who may deliver over LMTP.")
    proxy_networks: Words = setting((), "Where proxies are.")
    proxy_listeners: Words = setting((), "Names of listeners of the simple form that are behind them.")
    listeners: Tables[ListenerSettings] = setting(
        (), "Further listeners, each a table; the ports of the simple form make listeners besides."
    )
    plain_auth: Literal["loopback", "never", "always"] = setting(
        "loopback", "Where sign-in without TLS is offered: from loopback addresses only, never, or always."
    )
    scram: bool = setting(False, "Whether SCRAM-SHA-256 is offered where every account has keys for it.")
    max_workers: int = setting(
        4,
        "How many batches of messages are stored at the same time.",
        env=["SMTP_MAX_WORKERS"],
        live=True,
        ge=1,
        le=256,
    )
    pool_size: int = setting(
        10,
        "How many messages over 256 KiB may stream to storage at the same time; further ones wait. For a service of its"
        " own also, from its start on, how many connections it has to identity and to storage each.",
        env=["SMTP_POOL_SIZE"],
        live=True,
        ge=1,
        le=1024,
    )
    timeout: float = setting(
        30.0,
        "Seconds that a received message may wait for its turn to be stored; then the client is told to try later. For"
        " a service of its own also, from its start on, how long a call to identity or storage may take.",
        env=["SMTP_TIMEOUT"],
        live=True,
        gt=0,
        le=600,
    )
    enabled: bool = setting(True, "Whether new connections are served; they get 421 where not.", live=True)
    size_max: Size = setting(50 * 1024 * 1024, "Octets of the largest message.")
    memory_max: Size = setting(128 * 1024 * 1024, "Octets of all messages being received that memory may hold.")
    queue_max: int = setting(2000, "Messages that may wait to be stored; more are told to try later.", ge=1)
    recipients_max: int = setting(
        1000, "Recipients of one message (RFC 5321 §4.5.3.1.8 asks for at least 100).", ge=100
    )
    mails_max: int = setting(
        10_000, "Messages of one connection; then it has to be made anew (RFC 9422 tells clients of it).", ge=1
    )
    hold_max: float = setting(
        7 * 86400.0,
        "Seconds for which a message may be submitted in advance, to be delivered later (RFC 4865); 0: not offered.",
        ge=0,
        le=999_999_999,
    )
    line_max: int = setting(
        64 * 1024,
        "Octets of one line of a message. RFC 5321 §4.5.3.1.6 promises 1000 only; longer lines are kept as they are.",
        ge=1000,
        le=256 * 1024,
    )
    errors_max: int = setting(100, "Refused commands after which a connection is ended.", ge=1)
    auth_failures_max: int = setting(5, "Failed sign-ins after which a connection is ended.", ge=1)
    connections_max: int = setting(5000, "Connections at the same time, all addresses together.", ge=1)
    connections_per_address: int = setting(50, "Connections of one address (IPv6: one /64) at the same time.", ge=1)
    exempt_networks: Words = setting(
        ("127.0.0.0/8", "::1/128"), "Networks without a limit on connections per address; guessing is limited anyway."
    )
    command_timeout: float = setting(
        300.0, "Seconds to wait for a whole command line (RFC 5321 §4.5.3.2.7 asks for at least 300).", gt=0
    )
    data_timeout: float = setting(
        180.0, "Seconds in which a client in DATA has to send the next 16 KiB, or the end (RFC 5321 §4.5.3.2.5).", gt=0
    )

    @field_validator("exempt_networks", "lmtp_networks", "proxy_networks")
    @classmethod
    def _are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        Networks(networks)
        return networks

    @model_validator(mode="after")
    def _names_are_unique(self) -> SmtpSettings:
        names = [one.name for one in self.listeners]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two listeners have the name {twice!r}")
        return self


class LiveSettings(Group):
    """What ``PUT /api/config`` changes; what is left out stays."""

    max_workers: int | None = Field(None, ge=1, le=256)
    pool_size: int | None = Field(None, ge=1, le=1024)
    timeout: float | None = Field(None, gt=0, le=600)
    enabled: bool | None = None

    @field_validator("max_workers", "pool_size", "timeout", mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        # True would pass for 1.
        if isinstance(value, bool):
            raise ValueError("a number is wanted")
        return value
