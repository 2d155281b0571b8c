"""Counted things: connections per address, bytes in flight. Asked before anything is taken; never waited for."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
LOOPBACK = ("127.0.0.0/8", "::1/128")


@lru_cache(maxsize=4096)
def plain_address(address: str) -> str:
    """The address without a zone, and an IPv4-mapped one as IPv4; what is not an address is returned as it is."""
    parsed = parse_address(address)
    return address if parsed is None else str(parsed)


@lru_cache(maxsize=4096)
def parse_address(address: str) -> IPAddress | None:
    """Read an IP address as sockets tell it ("::ffff:192.0.2.1", "fe80::1%eth0"); None when it is not one."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped
    return parsed


def is_loopback(address: str) -> bool:
    """True for 127.0.0.0/8 and ::1, and for the empty name that a Unix socket's peer has."""
    parsed = parse_address(address)
    return parsed.is_loopback if parsed is not None else address == ""


class Networks:
    """A set of networks, written as "192.0.2.0/24", "2001:db8::/32" or a single address.

    Raises ValueError, with the text that was wrong, when one cannot be read.
    """

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = tuple(ipaddress.ip_network(network, strict=False) for network in networks)
        # The same client is asked about at each step of each of its messages.
        self._asked = lru_cache(maxsize=4096)(self._has)

    def __contains__(self, address: str) -> bool:
        return self._asked(address)

    def _has(self, address: str) -> bool:
        parsed = parse_address(address)
        return parsed is not None and any(
            parsed.version == network.version and parsed in network for network in self._networks
        )


class ConnectionLimit:
    """How many connections one address may hold at once. IPv6 counts per /64, since one host has all of it.

    `limit` may be changed while running; those who are in stay. Addresses in `exempt` are never refused, nor is the
    empty one that all peers of a Unix socket have.
    """

    def __init__(self, limit: int, *, exempt: Iterable[str] = LOOPBACK) -> None:
        self.limit = limit
        self._exempt = Networks(exempt)
        self._held: Counter[str] = Counter()

    def try_enter(self, address: str) -> bool:
        """Count one more connection; False, and nothing counted, when the address has too many. Pair with `leave`."""
        place = _place(address)
        if self._held[place] >= self.limit and address and address not in self._exempt:
            if self._held[place] == 0:
                del self._held[place]
            return False
        self._held[place] += 1
        return True

    def leave(self, address: str) -> None:
        """One connection that `try_enter` let in has ended."""
        place = _place(address)
        self._held[place] -= 1
        if self._held[place] <= 0:
            del self._held[place]

    @property
    def total(self) -> int:
        """Connections held by all addresses together."""
        return self._held.total()


class Budget:
    """A quantity that many share, such as the bytes of all messages in flight. For one event loop."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def try_take(self, amount: int) -> bool:
        """Take `amount`, or take nothing and say False."""
        if amount < 0:
            raise ValueError("an amount is not negative")
        if self.used + amount > self.limit:
            return False
        self.used += amount
        return True

    def give(self, amount: int) -> None:
        """Give back what was taken. Raises ValueError when more is given than was taken: that is a bug."""
        if not 0 <= amount <= self.used:
            raise ValueError(f"gives {amount} of {self.used}")
        self.used -= amount


def _place(address: str) -> str:
    parsed = parse_address(address)
    if isinstance(parsed, ipaddress.IPv6Address) and not parsed.is_loopback:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address if parsed is None else str(parsed)
