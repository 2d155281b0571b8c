"""Bans as values: what they cover, how long they last, and finding the one that covers an address."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping

from identity.guesspolicy import place
from identity.limiting.rates import AMOUNT_MAX
from identity.limits import CHARGES_AT_ONCE
from identity.model import Ban, BannedBy, NewBan
from identity.port import Reason, Refused
from runtime.ids import new_id
from runtime.limits import LOOPBACK, parse_address

FACTOR = 4.0
"""Each ban of one target that a rule makes lasts so many times as long as the one before."""
REMEMBERED_SECONDS = 30 * 86400.0
"""So long after its end a ban is remembered, for the length of the next."""
MAX_BANS = 10_000
MAX_REASON = 200
MAX_SECONDS = 100 * 366 * 86400.0
EVER = 1e18
"""The end of a ban that has none, where ends are compared."""
_WIDEST = {4: 8, 6: 16}

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def target_network(target: str) -> Network:
    """What a ban's target covers: an address, or a network such as 192.0.2.0/24. An IPv6 address stands for itself
    alone. ValueError with one sentence."""
    text = target.strip()
    parsed = parse_address(text)
    try:
        network = ipaddress.ip_network(text if parsed is None else str(parsed), strict=False)
    except ValueError:
        raise ValueError(f"{text[:80]!r} is no address and no network such as 192.0.2.0/24") from None
    if isinstance(network, ipaddress.IPv6Network) and (mapped := network.network_address.ipv4_mapped) is not None:
        if network.prefixlen < 96:
            raise ValueError(f"{text!r} mixes IPv4 and IPv6 addresses")
        network = ipaddress.ip_network((int(mapped), network.prefixlen - 96), strict=False)
    if network.prefixlen < _WIDEST[network.version]:
        raise ValueError(f"{network} is too wide: at least /{_WIDEST[network.version]}")
    return network


def target_text(network: Network) -> str:
    """The one way in which a target is written."""
    return str(network.network_address) if network.num_addresses == 1 else str(network)


def rule_target(address: str) -> str:
    """What a rule bans for what an address did: the address, of IPv6 its /64. "" where there is none."""
    return place(address) if parse_address(address) is not None else ""


def meets(network: Network, others: Iterable[str]) -> bool:
    """Does the network share an address with one of the others?"""
    return any(
        network.version == other.version and network.overlaps(other)
        for other in (ipaddress.ip_network(one, strict=False) for one in others)
    )


def length(seconds: float | None, longest: float | None, times: int) -> float | None:
    """Seconds that the ban lasts which is the target's `times`-th (from 1) in a row, None for ever. longest: the most
    that it may become; None: every one lasts the same."""
    if seconds is None or longest is None:
        return seconds
    return min(longest, seconds * FACTOR ** min(times - 1, 30))


def checked(new: NewBan, trusted: Iterable[str]) -> str:
    """The target of an acceptable ban, as it is kept. trusted: networks that no rule bans, besides loopback. Raises
    Refused BAD_ADDRESS, LIMIT."""
    try:
        network = target_network(new.target)
    except ValueError as error:
        raise Refused(Reason.BAD_ADDRESS, str(error)) from None
    if new.by is BannedBy.RULE and meets(network, (*LOOPBACK, *trusted)):
        raise Refused(Reason.BAD_ADDRESS, "no rule bans loopback or a trusted network")
    if len(new.reason) > MAX_REASON or not new.reason.isprintable():
        raise Refused(Reason.LIMIT, f"a reason is one line of at most {MAX_REASON} characters")
    for seconds in (new.seconds, new.longest):
        if seconds is not None and not 0 < seconds <= MAX_SECONDS:
            raise Refused(Reason.LIMIT, "a ban lasts more than no time, and at most a hundred years, or for ever")
    return target_text(network)


def made(new: NewBan, target: str, former: Ban | None, now: float) -> Ban:
    """The ban that follows. former: the last one of this target, if it is remembered; it is the answer where a rule
    bans what is banned."""
    by_rule = new.by is BannedBy.RULE
    if former is not None and by_rule and in_force(former, now):
        return former
    lately = former is not None and end(former) + REMEMBERED_SECONDS > now
    times = former.times + 1 if former is not None and lately and by_rule else 1
    seconds = length(new.seconds, new.longest, times)
    return Ban(new_id(), target, new.reason, now, None if seconds is None else now + seconds, new.by, times=times)


def check_hits(hits: Mapping[str, int]) -> None:
    """Raises Refused LIMIT."""
    if len(hits) > CHARGES_AT_ONCE or any(not 0 <= more <= AMOUNT_MAX for more in hits.values()):
        raise Refused(Reason.LIMIT, f"at most {CHARGES_AT_ONCE} bans at once, {AMOUNT_MAX} hits each")


def in_force(ban: Ban, now: float) -> bool:
    """Has the ban not ended?"""
    return ban.until is None or ban.until > now


class BanTable:
    """The bans that are in force, asked by address: a lookup for each length of prefix that there is."""

    def __init__(self, bans: Iterable[Ban] = ()) -> None:
        self._tables: dict[tuple[int, int], dict[int, Ban]] = {}
        self._count = 0
        for ban in bans:
            self.add(ban)

    def __len__(self) -> int:
        return self._count

    def add(self, ban: Ban) -> None:
        """One more, or another for the same target."""
        network = target_network(ban.target)
        table = self._tables.setdefault((network.version, network.prefixlen), {})
        start = int(network.network_address)
        self._count += start not in table
        table[start] = ban

    def find(self, address: str, now: float) -> Ban | None:
        """The ban that covers the address at that time (Unix seconds): of several the one that lasts longest."""
        if not self._tables:
            return None
        parsed = parse_address(address)
        if parsed is None:
            return None
        number = int(parsed)
        found: Ban | None = None
        for (version, prefix), table in self._tables.items():
            if version != parsed.version:
                continue
            rest = parsed.max_prefixlen - prefix
            ban = table.get(number >> rest << rest)
            if ban is not None and in_force(ban, now) and (found is None or end(ban) > end(found)):
                found = ban
        return found


def end(ban: Ban) -> float:
    """When it ends (Unix seconds), EVER for never."""
    return EVER if ban.until is None else ban.until
