"""What is wanted: this server as its settings, its domains and its machine say. Values alone."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from identity.model import DkimKey
from smtp.outbound.mtasts import Policy

LOCAL_NETWORKS = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16",
        "224.0.0.0/3", "::/127", "::ffff:0:0/96", "fc00::/7", "fe80::/10", "ff00::/8",
    )
)  # fmt: skip
"""Addresses that nobody on the internet reaches. # RFC 6890 §2.2, RFC 4193, RFC 6598 §7"""


@dataclass(frozen=True, slots=True)
class OurDomain:
    """name: A-labels in lower case. keys: its DKIM keys."""

    name: str
    keys: tuple[DkimKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is served by TLS. chain: DER, its own certificate first. own: it was made by this server on its first run.
    untrusted: why who asks the usual authorities does not believe it, "" where they do."""

    chain: tuple[bytes, ...]
    own: bool = False
    untrusted: str = ""


@dataclass(frozen=True, slots=True)
class Setup:
    """hostname: the server's name, A-labels. addresses: those by which the internet knows this server, as far as that
    is known. configured: they are set, not guessed. policy: our MTA-STS policy. certificate: None where there is none
    on this machine, no_certificate says why. relay: the smarthost that takes all mail on its way out, "" for none."""

    hostname: str
    domains: tuple[OurDomain, ...]
    addresses: tuple[str, ...] = ()
    configured: bool = False
    policy: Policy | None = None
    policy_record: str = ""
    certificate: Certificate | None = None
    no_certificate: str = ""
    relay: str = ""


def is_public(address: str) -> bool:
    """Could the internet reach this address?"""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not any(parsed.version == one.version and parsed in one for one in LOCAL_NETWORKS)


def is_named(name: str) -> bool:
    """Is it a name that the internet could know: of two labels or more, and no address?"""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        labels = name.rstrip(".").lower().split(".")
        return len(labels) > 1 and labels[-1] not in ("localhost", "local", "internal", "localdomain")
    return False


def same_addresses(found: Sequence[str], wanted: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is wanted and not found, and what is found and not wanted."""
    have = [ipaddress.ip_address(one) for one in found]
    want = [ipaddress.ip_address(one) for one in wanted]
    return (
        tuple(str(one) for one in want if one not in have),
        tuple(str(one) for one in have if one not in want),
    )
