"""Which ban covers an address."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from identity.limiting import bans
from identity.limiting.bans import BanTable
from identity.model import Ban, BannedBy

NOW = 1_700_000_000.0


def ban(target: str, until: float | None = None) -> Ban:
    return Ban(target, target, "", 0.0, until, BannedBy.ADMINISTRATOR)


def is_taken(target: str) -> bool:
    """IPv4 in IPv6 is the IPv4 network, which may be too wide."""
    try:
        bans.target_network(target)
    except ValueError:
        return False
    return True


ADDRESS = st.ip_addresses().map(str) | st.integers(0, 1023).map(lambda n: f"192.0.{n // 256}.{n % 256}")
TARGET = st.builds(
    lambda address, prefix: str(
        ipaddress.ip_network(
            (address, min(prefix, 32) if ipaddress.ip_address(address).version == 4 else prefix), strict=False
        )
    ),
    ADDRESS,
    st.integers(16, 128),
).filter(is_taken)


@given(targets=st.lists(TARGET, max_size=20), addresses=st.lists(ADDRESS, min_size=1, max_size=20))
def test_an_address_is_found_as_looking_at_all_of_them_would(targets: list[str], addresses: list[str]) -> None:
    table = BanTable(ban(target) for target in targets)
    for address in addresses:
        parsed = ipaddress.ip_address(address)
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        covered = any(
            parsed.version == network.version and parsed in network for network in map(bans.target_network, targets)
        )
        assert (table.find(address, NOW) is not None) == covered


def test_the_one_that_lasts_longest() -> None:
    table = BanTable([ban("192.0.2.7", NOW + 10), ban("192.0.2.0/24", NOW + 100), ban("192.0.0.0/16", NOW - 1)])
    assert len(table) == 3

    def found(address: str, at: float) -> str | None:
        one = table.find(address, at)
        return None if one is None else one.target

    assert found("192.0.2.7", NOW) == "192.0.2.0/24"
    assert found("::ffff:192.0.2.7", NOW) == "192.0.2.0/24"
    assert found("192.0.2.7", NOW + 100) is None
    assert found("192.0.3.7", NOW) is None
    table.add(ban("192.0.2.7"))
    assert len(table) == 3
    assert found("192.0.2.7", NOW + 1e9) == "192.0.2.7"
    assert found("", NOW) is None
    assert found("fe80::1%eth0", NOW) is None
