"""The PROXY protocol's header: what it says, and that nothing else is taken for one."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.proxyheader import (
    FIRST,
    SIGNATURE,
    V1_MAX,
    V2_MAX,
    BadHeader,
    Client,
    is_v2,
    read_v1,
    read_v2,
    v2_length,
)

PORTS = st.integers(0, 65535)


def v2(command: int, kind: int, rest: bytes, version: int = 2) -> tuple[bytes, bytes]:
    return SIGNATURE + bytes([version << 4 | command, kind]) + len(rest).to_bytes(2, "big"), rest


@given(st.ip_addresses(), st.ip_addresses(), PORTS, PORTS)
def test_version_1(source, target, port: int, other: int) -> None:
    family = "TCP4" if source.version == 4 else "TCP6"
    line = f"PROXY {family} {source} {target} {port} {other}\r\n".encode()
    assert not is_v2(line[:FIRST])
    if source.version != target.version:
        with pytest.raises(BadHeader):
            read_v1(line)
    else:
        assert read_v1(line) == Client(str(source), port)
        assert len(line) <= V1_MAX


@given(st.ip_addresses(), PORTS, PORTS, st.binary(max_size=100))
def test_version_2(source, port: int, other: int, more: bytes) -> None:
    place = source.packed * 2 + port.to_bytes(2, "big") + other.to_bytes(2, "big")
    head, rest = v2(1, 0x11 if source.version == 4 else 0x21, place + more)
    assert is_v2(head[:FIRST])
    assert v2_length(head) == len(rest)
    assert read_v2(head, rest) == Client(str(ipaddress.ip_address(source.packed)), port)


def test_a_proxy_that_does_not_tell() -> None:
    assert read_v1(b"PROXY UNKNOWN\r\n") is None
    assert read_v1(b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n") is None
    # A health check, whatever addresses it has; a Unix socket; datagrams; nothing said.
    for command, kind, size in ((0, 0x00, 0), (0, 0x11, 12), (1, 0x31, 216), (1, 0x12, 12), (1, 0x00, 0)):
        assert read_v2(*v2(command, kind, bytes(size))) is None


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"PROXY\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        b"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
        b"PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n",
        b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
        b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nEHLO x\r\n",
        b"PROXY UNKNOWN" + b" " * 100 + b"\r\n",
    ],
)
def test_no_version_1(line: bytes) -> None:
    with pytest.raises(BadHeader):
        read_v1(line)


@pytest.mark.parametrize(
    ("head", "rest"),
    [
        v2(1, 0x11, bytes(11)),
        v2(1, 0x21, bytes(35)),
        v2(2, 0x11, bytes(12)),
        v2(1, 0x41, bytes(12)),
        v2(1, 0x13, bytes(12)),
        v2(1, 0x11, bytes(12), version=1),
        v2(1, 0x11, bytes(12), version=3),
        (v2(1, 0x11, bytes(12))[0], bytes(11)),
        (v2(1, 0x11, bytes(12))[0][:15], bytes(12)),
        v2(1, 0x11, bytes(V2_MAX + 1)),
        (b"\0" + SIGNATURE[1:] + b"\x21\x11\0\x0c", bytes(12)),
    ],
)
def test_no_version_2(head: bytes, rest: bytes) -> None:
    with pytest.raises(BadHeader):
        read_v2(head, rest)


@given(st.binary(max_size=200))
def test_any_octets_are_a_header_or_refused(octets: bytes) -> None:
    for read in (
        lambda: is_v2(octets[:FIRST]),
        lambda: read_v1(octets),
        lambda: read_v1(b"PROXY " + octets + b"\r\n"),
        lambda: read_v2(octets[:16], octets[16:]),
        lambda: read_v2(SIGNATURE + octets[:4], octets[4:]),
    ):
        try:
            read()
        except BadHeader:
            continue
