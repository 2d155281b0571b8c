"""What is allowed, as the settings say: rates by whom they hold back, and which offences lead to a ban."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache

from identity.limiting.rates import Rate
from runtime.limits import parse_address


class Offence(Enum):
    """What a stranger can do too often. The value begins the reason of the ban."""

    SIGN_IN = "failed sign-ins"
    UNKNOWN_RECIPIENT = "unknown recipients"
    ABUSE = "connections ended for errors"


@dataclass(frozen=True, slots=True)
class RateRules:
    """None: no limit. connections: of one address to one door. address, network: messages of those who have not signed
    in; recipients: theirs, of one address. sender: messages in the name of one address. account, account_recipients:
    of who signed in, wherever. An address is an IPv6 /64; a network is an IPv4 /24, an IPv6 /48."""

    connections: Rate | None = None
    address: Rate | None = None
    network: Rate | None = None
    recipients: Rate | None = None
    sender: Rate | None = None
    account: Rate | None = None
    account_recipients: Rate | None = None


@dataclass(frozen=True, slots=True)
class BanRules:
    """offences: how many different ones of a kind, from one address (IPv6: one /64), do not lead to a ban yet; one more
    does. first: seconds of the first ban, of which each further one within 30 days is four times as long as the one
    before, up to `longest`."""

    offences: Mapping[Offence, Rate | None] = field(default_factory=dict)
    first: float = 600.0
    longest: float = 7 * 86400.0


@lru_cache(maxsize=4096)
def network_of(address: str) -> str:
    """The network that an address's rates count on, "" for what is no address."""
    parsed = parse_address(address)
    if parsed is None:
        return ""
    return str(ipaddress.ip_network((parsed, 24 if parsed.version == 4 else 48), strict=False))
