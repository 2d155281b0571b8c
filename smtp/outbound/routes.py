"""Where mail for a domain goes: its MX hosts in order, a relay that the settings name, or a connector."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import chain, zip_longest

from runtime.dns import MX, Answer, DnsTemporary, NoSuchName, Resolver
from runtime.limits import LOOPBACK, Networks, parse_address
from smtp.outbound.routetext import MX_ROUTE, Route, listed, read_route
from smtp.outbound.transport import Status

HOSTS_MAX = 10
"""Hosts of a domain that one attempt looks at. RFC 5321 §5.1 asks for at least two addresses."""
ADDRESSES_MAX = 4
"""Addresses of one host that one attempt looks at."""
NULL_MX = "."
BROADCAST = "255.255.255.255"
_LOOPBACK = Networks(LOOPBACK)


class NoRoute(Exception):
    """Mail for the domain goes nowhere: what its recipients are told. enhanced: RFC 3463."""

    def __init__(self, status: Status, enhanced: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.enhanced = enhanced
        self.text = text


@dataclass(frozen=True, slots=True)
class Way:
    """The hosts to try, in order. mx: the answer they come from, () where the domain's own addresses are its host."""

    mx: Answer[MX]
    hosts: tuple[str, ...]


class Router:
    """table: route texts by ``route_key``. own: this server's names, lower case. rng: puts hosts of
    the same preference in order. refused: networks in which the mail hosts of domains, and address literals, may not
    be. Raises ValueError for a route in the table that cannot be read."""

    def __init__(
        self,
        resolver: Resolver,
        table: Mapping[str, str],
        own: Collection[str],
        rng: random.Random | None = None,
        refused: Networks | None = None,
    ) -> None:
        self._resolver = resolver
        self._table = {domain: read_route(text, secret=True) for domain, text in table.items()}
        self._own = frozenset(own)
        self._refused = Networks(()) if refused is None else refused
        self._rng = rng or random.Random()

    def route(self, domain: str, override: str | None, sender: str = "") -> Route:
        """sender: the reverse-path. override: the route of the message itself. Raises NoRoute where that cannot be
        read."""
        if override is not None:
            try:
                return read_route(override)
            except ValueError as error:
                raise NoRoute(Status.DEFERRED, "4.3.5", f"The route of the message cannot be used: {error}") from None
        return listed(self._table, sender, domain) or MX_ROUTE

    async def hosts(self, domain: str) -> Way:
        """The hosts that take the domain's mail, the best first. Raises NoRoute."""
        none: Answer[MX] = Answer((), False, 0.0, domain)
        if domain.startswith("["):
            # RFC 5321 §4.1.3: an address literal is its own host.
            literal = literal_address(domain)
            if literal is None or not self._may_be_a_host(literal):
                raise NoRoute(Status.FAILED, "5.1.2", f"{domain} is not an address that mail can be sent to")
            if literal in _LOOPBACK:
                # It names whoever looks at it: nobody else's mail host.
                raise _loops(domain)
            return Way(none, (domain,))
        try:
            mx = await self._resolver.mx(domain)
        except NoSuchName:
            raise NoRoute(Status.FAILED, "5.1.2", f"The domain {domain} does not exist") from None
        except DnsTemporary as error:
            raise NoRoute(
                Status.DEFERRED, "4.4.3", f"The mail hosts of {domain} cannot be looked up now: {error}"
            ) from (error)
        if not mx.values:
            # RFC 5321 §5.1: without MX records the domain itself is the host, with preference 0.
            if domain in self._own:
                raise _loops(domain)
            return Way(mx, (domain,))
        named = [one for one in mx.values if one.host != NULL_MX]
        if not named:
            # RFC 7505 §4.1, §4.2: what a server that knows it would answer with 556 5.1.10.
            raise NoRoute(Status.FAILED, "5.1.10", f"The domain {domain} takes no mail (it publishes a null MX)")
        return Way(mx, self._in_order(domain, named))

    async def addresses(self, host: str, *, named: bool = False) -> Answer[str]:
        """The addresses to try of a host or a literal, both families in turn, IPv6 first; () where it has none that
        mail may be sent to. named: the settings name the host, which may be anywhere. Raises DnsTemporary."""
        may_be = _is_a_host if named else self._may_be_a_host
        if (literal := literal_address(host)) is not None:
            return Answer((literal,) if may_be(literal) else (), False, 0.0, host)
        try:
            answer = await self._resolver.addresses(host)
        except NoSuchName as error:
            return Answer((), error.authenticated, 0.0, host)
        # RFC 8305 §4: the families take turns, so that a limit cuts off neither.
        hosts = [address for address in answer.values if may_be(address)]
        six = [address for address in hosts if ":" in address]
        four = [address for address in hosts if ":" not in address]
        turns = [address for address in chain.from_iterable(zip_longest(six, four)) if address is not None]
        return Answer(tuple(turns[:ADDRESSES_MAX]), answer.authenticated, answer.ttl, answer.canonical)

    def _may_be_a_host(self, address: str) -> bool:
        return _is_a_host(address) and address not in self._refused

    def _in_order(self, domain: str, named: list[MX]) -> tuple[str, ...]:
        ours = min((one.preference for one in named if one.host in self._own), default=None)
        if ours is not None:
            # RFC 5321 §5.1: hosts that are no better than ourselves are left out, or mail would go in circles.
            named = [one for one in named if one.preference < ours]
            if not named:
                raise _loops(domain)
        # RFC 5321 §5.1: those of equal preference in random order. Tolerance: an alias as the name of an MX host.
        self._rng.shuffle(named)
        named.sort(key=lambda one: one.preference)
        return tuple(dict.fromkeys(one.host for one in named))[:HOSTS_MAX]


def literal_address(host: str) -> str | None:
    """The address in "[192.0.2.1]", "[IPv6:2001:db8::1]", or written plainly; None for a name."""
    inside = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        return str(ipaddress.ip_address(inside[5:] if inside[:5].lower() == "ipv6:" else inside))
    except ValueError:
        return None


def _is_a_host(address: str) -> bool:
    """Not one that leads to this machine whatever machine it is (0.0.0.0, ::), nor to many (RFC 1122 §3.2.1.3)."""
    read = parse_address(address)
    return read is not None and not read.is_unspecified and not read.is_multicast and str(read) != BROADCAST


def _loops(domain: str) -> NoRoute:
    # RFC 3463 §3.5: X.4.6
    return NoRoute(Status.FAILED, "5.4.6", f"Mail for {domain} loops back to myself: this server is its mail host")
