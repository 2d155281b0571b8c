"""How a route is written: "mx", a relay's URL, or a connector's name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Literal, TypeVar
from urllib.parse import unquote, urlsplit

from mail.address import AddressError, domain_key

T = TypeVar("T")

ANY = "*"
"""Stands in the table of routes for all domains without a route of their own."""
PORTS: Final = {"smtp": 25, "smtp+tls": 587, "smtps": 465}


@dataclass(frozen=True, slots=True)
class Route:
    """kind "mx": by the domain's MX records; "host": all to this relay; "connector": by the connector of this name
    (``host``). tls: "may" takes STARTTLS where offered; "must" insists on it and on a certificate for the host;
    "implicit" the same, from the first octet on. key: tells routes apart, without the password."""

    kind: Literal["mx", "host", "connector"]
    host: str = ""
    port: int = 0
    tls: Literal["may", "must", "implicit"] = "may"
    user: str = ""
    password: str = field(default="", repr=False)
    key: str = "mx"


MX_ROUTE = Route("mx")


def route_key(text: str) -> str:
    """The key of a domain, of a sender's address, or of ANY in the table of routes. Raises AddressError."""
    if text == ANY:
        return ANY
    local, at, domain = text.rpartition("@")
    if at and not local:
        raise AddressError("there is nothing before the @")
    return f"{local.lower()}{at}{domain_key(domain)}"


def listed(table: Mapping[str, T], sender: str, domain: str) -> T | None:
    """What a table by ``route_key`` has for mail of the sender (the reverse-path) to the domain: first what is for that
    sender, then what is for the domain."""
    return table.get(_sender_key(sender)) or table.get(domain) or table.get(ANY)


@lru_cache(maxsize=4096)
def _sender_key(sender: str) -> str:
    try:
        return route_key(sender)
    except AddressError:
        return sender


def no_connector(name: str, known: Collection[str]) -> str:
    """A sentence, without its full stop, for a route to a connector that there is not."""
    there = f"there are {', '.join(sorted(known))}" if known else "the settings have none (`[connectors.NAME]`)"
    return f"there is no connector {name!r}: {there}"


@lru_cache(maxsize=1024)
def read_route(text: str, *, secret: bool = False) -> Route:
    """The route that a text means: "mx", "smtp://host:port", "smtp+tls://…", "smtps://…", "connector:NAME". secret: a
    name and a password may stand in it. Raises ValueError with a sentence that shows neither."""
    if text == MX_ROUTE.key:
        return MX_ROUTE
    scheme, colon, rest = text.partition(":")
    if scheme == "connector" and rest:
        return Route("connector", rest, key=text)
    if not colon or scheme not in PORTS:
        raise ValueError("a route is mx, smtp://host:port, smtp+tls://host:port, smtps://host:port or connector:name")
    try:
        parts = urlsplit(text)
        host, port = (parts.hostname or "").lower(), parts.port or PORTS[scheme]
    except ValueError:
        raise ValueError("the route has no host and port that can be read") from None
    if not host or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("a route is a host and a port, nothing behind them")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if (user or password) and not secret:
        raise ValueError("a name and a password may stand in the routes of the settings alone")
    tls: Literal["may", "must", "implicit"] = (
        "implicit" if scheme == "smtps" else "must" if scheme == "smtp+tls" else "may"
    )
    return Route("host", host, port, tls, user, password, f"{scheme}://{user}@{host}:{port}")
