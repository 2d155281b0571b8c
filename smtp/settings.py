"""The settings of the SMTP service; each field's description is its manual."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from runtime.config import Group, Port, Size, Words, setting
from runtime.limits import Networks


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
    plain_auth: Literal["loopback", "never", "always"] = setting(
        "loopback", "Where sign-in without TLS is offered: from loopback addresses only, never, or always."
    )
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

    @field_validator("exempt_networks")
    @classmethod
    def _are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        Networks(networks)
        return networks


class LiveSettings(Group):
    """What ``PUT /api/config`` changes; what is left out stays."""

    max_workers: int | None = Field(None, ge=1, le=256)
    pool_size: int | None = Field(None, ge=1, le=1024)
    timeout: float | None = Field(None, gt=0, le=600)
    enabled: bool | None = None
