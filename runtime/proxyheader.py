"""The PROXY protocol, versions 1 and 2: the header by which a proxy tells whose connection it hands on.

Source: haproxy's doc/proxy-protocol.txt, §2.1 and §2.2. Pure: octets in, addresses out. A header is read whole or not
at all, and what cannot be read ends the connection (§2: the receiver must not guess).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
"""How a header of version 2 begins."""
V1_MAX = 107
"""Octets of a header of version 1 with its CRLF (§2.1)."""
V2_MAX = 4096
"""Octets that may follow the first 16 of version 2: addresses and what more a proxy tells. Its field could say 65535;
what proxies send is some hundreds, a client certificate's name and the like included."""
FIRST = 12
"""Octets that every header has at least, and that tell its version."""
V2_HEAD = 16

_V1 = re.compile(rb"PROXY (TCP4|TCP6) ([0-9A-Fa-f.:]{2,45}) ([0-9A-Fa-f.:]{2,45}) ([0-9]{1,5}) ([0-9]{1,5})\r\n")
_V1_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n")


class BadHeader(ValueError):
    """These octets are no header of the PROXY protocol."""


@dataclass(frozen=True, slots=True)
class Client:
    """The client that a proxy speaks for: IP address and port."""

    address: str
    port: int


def is_v2(first: bytes) -> bool:
    """Do these first 12 octets begin a header of version 2? Raises BadHeader when they begin none at all."""
    if first == SIGNATURE:
        return True
    if not first.startswith(b"PROXY "):
        raise BadHeader("not a header of the PROXY protocol")
    return False


def read_v1(line: bytes) -> Client | None:
    """The client of a whole line with its CRLF; None where the proxy does not tell (UNKNOWN). Raises BadHeader."""
    if len(line) > V1_MAX:
        raise BadHeader("longer than a header may be")
    if _V1_UNKNOWN.fullmatch(line):
        return None
    found = _V1.fullmatch(line)
    if found is None:
        raise BadHeader("not a header of version 1")
    version = 4 if found[1] == b"TCP4" else 6
    source, _ = (_address(octets, version) for octets in (found[2], found[3]))
    port, _ = (_port(digits) for digits in (found[4], found[5]))
    return Client(source, port)


def v2_length(head: bytes) -> int:
    """Octets that follow these first 16. Raises BadHeader."""
    if len(head) != V2_HEAD or head[:12] != SIGNATURE or head[12] >> 4 != 2:
        raise BadHeader("not a header of version 2")
    length = int.from_bytes(head[14:16], "big")
    if length > V2_MAX:
        raise BadHeader("longer than any proxy's header is")
    return length


def read_v2(head: bytes, rest: bytes) -> Client | None:
    """The client of a whole header of version 2; None where the connection is the proxy's own (LOCAL), or is of a kind
    that has no address (UNSPEC, Unix sockets, datagrams). Raises BadHeader."""
    if len(rest) != v2_length(head):
        raise BadHeader("not as long as it says")
    command = head[12] & 0x0F
    if command == 0:
        # §2.2: LOCAL, a health check; whatever else is said is ignored.
        return None
    if command != 1:
        raise BadHeader("an unknown command")
    family, transport = head[13] >> 4, head[13] & 0x0F
    if family > 3 or transport > 2:
        raise BadHeader("an unknown family or transport")
    size = {1: 4, 2: 16}.get(family)
    if size is None or transport != 1:
        return None
    if len(rest) < 2 * size + 4:
        raise BadHeader("too short for its addresses")
    source = ipaddress.ip_address(rest[:size])
    return Client(str(source), int.from_bytes(rest[2 * size : 2 * size + 2], "big"))


def _address(octets: bytes, version: int) -> str:
    try:
        found = ipaddress.ip_address(octets.decode("ascii"))
    except ValueError:
        raise BadHeader("not an IP address") from None
    if found.version != version:
        raise BadHeader("an address of the other family")
    return str(found)


def _port(digits: bytes) -> int:
    number = int(digits)
    # §2.1: no leading zeroes.
    if number > 65535 or (len(digits) > 1 and digits.startswith(b"0")):
        raise BadHeader("not a port")
    return number
