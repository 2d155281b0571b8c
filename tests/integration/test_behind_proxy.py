"""SMTP, LMTP and IMAP behind a proxy that speaks the PROXY protocol, as `homing up` serves them."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import pytest

from tests.live import DOMAIN, Live, free_ports, running

HEADER = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\r\n"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    (port,) = free_ports(1)
    further = {
        "HOMING_LMTP_PORT": str(port),
        "HOMING_PROXY_NETWORKS": "127.0.0.1",
        "HOMING_PROXY_LISTENERS": "smtp, lmtp, imap, imaps",
    }
    with running(tmp_path_factory.mktemp("proxied") / "data", "alice", **further) as server:
        server.ports["LMTP"] = port
        yield server


def said(
    live: Live, port: str, *lines: bytes, header: bytes = HEADER, tls: bool = False, source: str = "127.0.0.1"
) -> str:
    """All that the server says, to its end."""
    connection = socket.create_connection((live.host, live.ports[port]), timeout=60, source_address=(source, 0))
    connection.sendall(header)
    if tls:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = context.wrap_socket(connection)
    with connection, connection.makefile("rb") as file:
        try:
            connection.sendall(b"".join(line + b"\r\n" for line in lines))
            return file.read().decode()
        except ConnectionError:
            return ""


def test_the_client_is_who_the_header_names(live: Live) -> None:
    # To loopback sign-in is offered without TLS; the proxy is there, and the client is not.
    answer = said(live, "SMTP", b"EHLO client.example", b"QUIT")
    assert "250-DSN" in answer
    assert "AUTH" not in answer
    assert "LOGINDISABLED" in said(live, "IMAP", b"1 CAPABILITY", b"2 LOGOUT")
    assert "2 OK" in said(live, "IMAPS", b"1 CAPABILITY", b"2 LOGOUT", tls=True)
    assert said(live, "LMTP").startswith("554 5.7.1")


def test_the_proxys_own_health_checks(live: Live) -> None:
    own = b"PROXY UNKNOWN\r\n"
    # Who is behind them is not known, so nobody signs in without TLS.
    answer = said(live, "SMTP", b"EHLO client.example", b"QUIT", header=own)
    assert "250-DSN" in answer
    assert "AUTH" not in answer
    assert "LOGINDISABLED" in said(live, "IMAP", b"1 CAPABILITY", b"2 LOGOUT", header=own)
    assert "250-CHUNKING" in said(live, "LMTP", b"LHLO client.example", b"QUIT", header=own)


def test_loopback_that_the_proxy_tells_is_not_this_machine(live: Live) -> None:
    header = b"PROXY TCP4 127.0.0.1 198.51.100.1 4711 25\r\n"
    assert "AUTH" not in said(live, "SMTP", b"EHLO client.example", b"QUIT", header=header)
    assert "LOGINDISABLED" in said(live, "IMAP", b"1 CAPABILITY", b"2 LOGOUT", header=header)
    assert said(live, "LMTP", header=header).startswith("554 5.7.1")


@pytest.mark.parametrize("port", ["SMTP", "LMTP", "IMAP", "IMAPS"])
def test_nobody_else_gets_a_word(live: Live, port: str) -> None:
    assert said(live, port, b"NOOP", source="127.0.0.2") == ""
    assert said(live, port, b"EHLO client.example", b"1 LOGOUT", b"QUIT", header=b"") == ""


def test_the_trace_has_the_client(live: Live) -> None:
    text = b"\r\n".join([b"DATA", b"Subject: x", b"", b"."])
    lines = (b"EHLO client.example", b"MAIL FROM:<>", f"RCPT TO:<alice@{DOMAIN}>".encode())
    assert "250 2.0.0" in said(live, "SMTP", *lines, text, b"QUIT")
    found = live.cli("trace", f"alice@{DOMAIN}", check=False).stdout
    assert "192.0.2.7" in found


def test_the_table_says_so(live: Live) -> None:
    shown = "".join(live.output)
    # Two words, which a narrow table parts.
    assert shown.count("PROXY") == 4
