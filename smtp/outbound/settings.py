"""The settings of mail on its way out; each field's description is its manual."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from mail.address import AddressError
from runtime.config import Group, OptionalPath, OptionalText, Port, Size, Words, setting
from smtp.outbound.routetext import read_route, route_key

DURATION_MAX = 90 * 86400.0

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"\s*(\d{1,9}(?:\.\d{1,3})?)\s*([smhd]?)\s*")


def duration(text: str) -> float:
    """Seconds of a text such as "30", "5m", "2h" or "1.5d". Raises ValueError."""
    found = _DURATION.fullmatch(text.lower())
    if found is None or (seconds := float(found[1]) * _UNITS[found[2]]) > DURATION_MAX:
        raise ValueError(f"{text!r} is not a time such as 30s, 5m, 2h or 1d")
    return seconds


def _seconds(value: object) -> object:
    return duration(value) if isinstance(value, str) else value


def _durations(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise ValueError("has to name at least one time, such as 5m")
    for text in value:
        if duration(text) <= 0:
            raise ValueError(f"{text!r} is no pause: it has to be more than nothing")
    return value


def _pairs(value: object) -> object:
    """A TOML table of routes as the list that the environment has."""
    return [f"{domain}={route}" for domain, route in value.items()] if isinstance(value, Mapping) else value


def _routes(value: tuple[str, ...]) -> tuple[str, ...]:
    for pair in value:
        domain, equals, route = pair.partition("=")
        # A route may have a password in it: it is not shown, nor what may be a part of one.
        shown = "one of them" if not equals or ":" in domain or "/" in domain else repr(domain)
        if not equals or not route:
            raise ValueError(f'the route of {shown} is not written as "domain=route"')
        try:
            route_key(domain)
        except AddressError:
            raise ValueError(f"{shown} is not a domain, nor an address, nor * for all") from None
        try:
            read_route(route, secret=True)
        except ValueError as error:
            raise ValueError(f"the route of {domain!r} cannot be used: {error}") from None
    return value


Duration = Annotated[float, BeforeValidator(_seconds)]
"""Seconds: a number, or a text such as "5m"."""
Durations = Annotated[Words, AfterValidator(_durations)]
Routes = Annotated[Words, BeforeValidator(_pairs), AfterValidator(_routes)]


class OutboundSettings(Group):
    """Sending mail on to other servers: how much at once, how often it is tried, and by which way."""

    enabled: bool = setting(
        True, "Whether mail for other domains is sent. Where not it waits in the spool, and nothing is lost.", live=True
    )
    concurrency: int = setting(
        100,
        "Messages being sent at the same time. Those to destinations that are slow, or not yet known to answer, are"
        " counted apart, up to half as many; attempts that last for over 5 seconds are counted no more, up to three"
        " times as many in all.",
        live=True,
        ge=1,
        le=2000,
    )
    per_destination: int = setting(
        10,
        "Messages being sent to one destination at the same time: it begins with 1, has one more with each success, and"
        " one alone while the destination is down.",
        live=True,
        ge=1,
        le=1000,
    )
    rate: int = setting(0, "Messages a minute to one destination, by each process; 0: no limit.", live=True, ge=0)
    retry: Durations = setting(
        ("5m", "15m", "30m", "1h", "2h", "4h"),
        "Pauses before a message is tried again, the last of them from then on. Each is made longer or shorter by up"
        " to a fifth.",
        live=True,
    )
    lifetime: Duration = setting(
        5 * 86400.0,
        "How long a message is tried, such as 5d; then it goes back to its sender (RFC 5321 §4.5.4.1).",
        live=True,
        gt=0,
        le=DURATION_MAX,
    )
    delay_notice: Duration = setting(
        4 * 3600.0, "After how long the sender is told, once, that a message is late; 0: never.", live=True, ge=0
    )
    down_pause: Duration = setting(
        120.0, "How long mail for a destination that cannot be reached waits before one message tries it.", live=True,
        gt=0,
    )  # fmt: skip
    lease: float = setting(
        120.0,
        "Seconds for which a process has a message to itself; it asks for more while it needs them. So long after a"
        " process was killed another one sends what it had in hand.",
        ge=5,
        le=3600,
    )
    drain_seconds: float = setting(
        20.0, "How long messages being sent may take at the end; what has not begun goes back to the spool.", ge=0
    )
    memory_max: Size = setting(64 * 1024 * 1024, "Octets of all messages being sent that memory may hold.", ge=1 << 20)
    return_max: Size = setting(
        64 * 1024,
        "A message that cannot be delivered goes back whole up to so many octets, a longer one with its header alone.",
        le=192 * 1024,
    )
    routes: Routes = setting(
        (),
        "Ways other than MX records: pairs such as example.org=smtp+tls://relay.example.net:587 or *=mx, a table"
        " `[outbound.routes]` in the file. `smtp://host:port` takes TLS where it is offered, `smtp+tls://` requires it,"
        " `smtps://` begins with it; a name and a password may stand before the host (user:password@)."
        " `connector:NAME` sends through the account `[connectors.NAME]`. An address before the = means what is sent"
        " from it, wherever it goes.",
        secret=True,
    )
    dane: bool = setting(
        True,
        "Whether TLSA records are asked for and believed (DANE, RFC 7672). They count only where one of `dns.trusted`"
        " has validated the answers; else this has no effect.",
    )
    mta_sts: bool = setting(True, "Whether the MTA-STS policies of other domains are kept to (RFC 8461).")
    roots: OptionalPath = setting(
        None,
        "PEM file of the certification authorities by which servers are verified. Empty: those of the system.",
    )
    tls_reports: bool = setting(
        True, "Whether domains that ask for it get a daily report about TLS of our mail to them (RFC 8460)."
    )
    report_contact: OptionalText = setting(
        None, "The address of ours that TLS reports come from. Empty: postmaster of the default domain."
    )
    organization: OptionalText = setting(None, "The name in TLS reports. Empty: the default domain.")
    https_port: int = setting(443, "Where MTA-STS policies are fetched. Anything but 443 is for tests.", ge=1, le=65535)
    port: Port = setting(25, "The port of the servers that MX records name. Anything but 25 is for tests.")
    source: Words = setting(
        (), "Addresses of this machine from which connections go out, at most one IPv4 and one IPv6. Empty: any."
    )
    connect_timeout: float = setting(30.0, "Seconds to wait for a connection to one address.", gt=0)
    command_timeout: float = setting(300.0, "Seconds to wait for the reply to a command (RFC 5321 §4.5.3.2).", gt=0)
    data_timeout: float = setting(
        600.0, "Seconds to wait for the reply to a whole message (RFC 5321 §4.5.3.2.6).", gt=0
    )

    @property
    def delays(self) -> tuple[float, ...]:
        """``retry`` in seconds."""
        return tuple(duration(text) for text in self.retry)

    @property
    def table(self) -> dict[str, str]:
        """``routes`` by ``route_key``."""
        found: dict[str, str] = {}
        for pair in self.routes:
            domain, _, route = pair.partition("=")
            found[route_key(domain)] = route
        return found
