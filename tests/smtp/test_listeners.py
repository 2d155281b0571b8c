"""Listeners as configuration: what each allows, and the PROXY protocol before them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runtime.proxyheader import SIGNATURE
from smtp.listeners import listeners
from smtp.session import Rules
from smtp.settings import SmtpSettings
from tests.smtp.conftest import Client

V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\r\n"
V2 = SIGNATURE + b"\x21\x11\0\x0c" + bytes([192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x67, 0, 25])
PROXIED: dict[str, Any] = {"proxy_networks": ("127.0.0.1/32",), "proxy_listeners": ("smtp", "submissions", "lmtp")}


def table(**fields: Any) -> dict[str, Any]:
    return {"name": "extra", "kind": "smtp", "host": "127.0.0.1", "port": 0, **fields}


def test_the_simple_form() -> None:
    found = listeners(SmtpSettings(port=25, lmtp_port=24, lmtp_socket="/run/lmtp"), tls=True)
    assert [one.name for one in found] == ["smtp", "submission", "submissions", "lmtp", "lmtp-socket"]
    assert [one.security for one in found] == [
        "STARTTLS",
        "STARTTLS, sign-in required",
        "TLS, sign-in required",
        "STARTTLS, from 127.0.0.0/8, ::1/128",
        "no TLS",
    ]
    without = listeners(SmtpSettings(submission_port=""), tls=False)
    assert [one.name for one in without] == ["smtp"]


def test_tables() -> None:
    made = SmtpSettings(
        submission_port=None,
        listeners=[
            table(name="smtp", port=26, sign_in="off", proxy=True),
            table(name="old", kind="submission", tls="tls", recipients_max=3),
            table(name="new", kind="submissions"),
            table(name="near", kind="lmtp", tls="none", networks="10.0.0.0/8"),
        ],
    )
    smtp, submissions, old, new, near = listeners(made, tls=True)
    assert (smtp.port, smtp.rules, smtp.security) == (
        26,
        Rules("smtp", auth="off"),
        "STARTTLS, no sign-in, PROXY protocol",
    )
    assert submissions.name == "submissions"
    assert old.rules == Rules("old", "submission", tls=True, starttls=False, auth="required", recipients_max=3)
    assert new.rules == Rules("new", "submission", tls=True, starttls=False, auth="required")
    assert near.rules == Rules("near", "lmtp", starttls=False, auth="off")
    assert near.security == "no TLS, from 10.0.0.0/8"


async def test_what_a_listener_allows(start, until) -> None:
    extra = table(tls="none", sign_in="off", size_max=1000, recipients_max=2, connections=2)
    async with start(listeners=[extra]) as running:
        client = await running.connect("extra")
        answer = await client.hello()
        assert "250-SIZE 1000" in answer
        assert "RCPTMAX=2" in answer
        assert "STARTTLS" not in answer
        assert "AUTH" not in answer
        assert (await client.say("STARTTLS")).startswith("454 4.7.0")
        assert (await client.sign_in()).startswith("502 5.5.1")
        assert (await client.say("MAIL FROM:<> SIZE=1001")).startswith("552 5.3.4")
        await client.envelope("", "alice@example.org", "bob@example.org")
        assert (await client.say("RCPT TO:<root@example.org>")).startswith("452 4.5.3")
        assert (await client.data(b"x" * 999 + b"\r\n.\r\n")).startswith("552 5.3.4")
        second = await running.connect("extra")
        assert (await second.reply()).startswith("220")
        third = await running.connect("extra")
        assert (await third.reply()).startswith("421 4.3.2")
        # The others have their own bounds.
        assert "250-SIZE 52428800" in await (await running.connect()).hello()
        client.writer.close()
        entrance = next(one for one in running.service.entrances if one.rules.name == "extra")
        await until(lambda: entrance._open < 2)
        assert (await (await running.connect("extra")).reply()).startswith("220")


async def test_bounds_of_one_address_and_networks(start) -> None:
    extra = table(per_address=1, networks="127.0.0.1/32, 127.0.0.3/32")
    async with start(listeners=[extra], exempt_networks=()) as running:
        assert (await (await running.connect("extra")).reply()).startswith("220")
        assert (await (await running.connect("extra")).reply()).startswith("421 4.7.0")
        assert (await (await running.connect("extra", source="127.0.0.3")).reply()).startswith("220")
        other = await running.connect("extra", source="127.0.0.2")
        assert (await other.reply()).startswith("554 5.7.1")
        assert await other.closed() == b""


async def test_sign_in_may_be_required_on_smtp(start) -> None:
    async with start(listeners=[table(sign_in="required")]) as running:
        client = await running.connect("extra")
        await client.hello()
        assert (await client.say("MAIL FROM:<alice@example.org>")).startswith("530 5.7.0")
        assert (await client.sign_in()).startswith("235")
        assert (await client.say("MAIL FROM:<alice@example.org>")).startswith("250")


async def through_proxy(
    running, header: bytes, listener: str = "smtp", source: str = "127.0.0.1", cut: int = 0
) -> Client:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.service.ports[listener], local_addr=(source, 0))
    for at in range(0, len(header), cut or len(header)):
        writer.write(header[at : at + (cut or len(header))])
        await writer.drain()
        if cut:
            await asyncio.sleep(0)
    return Client(reader, writer)


@pytest.mark.parametrize("cut", [0, 1])
@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
async def test_the_client_behind_the_proxy_is_the_peer(start, header: bytes, cut: int) -> None:
    async with start(**PROXIED) as running:
        client = await through_proxy(running, header, cut=cut)
        # Sign-in in clear is for loopback alone, and this client is not.
        assert "AUTH" not in await client.hello()
        await client.envelope()
        assert (await client.data(b"A: b\r\n\r\n.\r\n")).startswith("250")
        delivery, blob = running.storage.delivered[0]
        assert delivery.op.events[0].detail["peer"] == "192.0.2.7"
        assert blob.startswith(b"Received: from client.example ([192.0.2.7])")
        # STARTTLS comes after the header as ever.
        assert (await client.say("STARTTLS")).startswith("220")
        await client.writer.start_tls(running.client_tls, server_hostname="localhost")
        assert "AUTH PLAIN" in await client.say("EHLO client.example")


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
async def test_the_header_comes_before_tls(start, header: bytes) -> None:
    async with start(**PROXIED) as running:
        client = await through_proxy(running, header, "submissions")
        await client.writer.start_tls(running.client_tls, server_hostname="localhost")
        await client.hello()
        assert (await client.sign_in()).startswith("235")
        await client.envelope("alice@example.org")
        assert (await client.data(b"A: b\r\n\r\n.\r\n")).startswith("250")
        detail = running.storage.delivered[0][0].op.events[0].detail
        assert (detail["peer"], detail["tls"]) == ("192.0.2.7", "TLSv1.3")


async def test_a_health_check_is_the_proxys_own(start) -> None:
    async with start(**PROXIED) as running:
        for header in (b"PROXY UNKNOWN\r\n", SIGNATURE + b"\x20\0\0\0"):
            client = await through_proxy(running, header)
            answer = await client.hello()
            assert answer.startswith("250")
            # Whom an unknown connection is for is not known either: nothing in clear for this machine's sake.
            assert "AUTH" not in answer


@pytest.mark.parametrize("address", [b"127.0.0.1", b"127.9.9.9"])
async def test_loopback_that_a_proxy_tells_is_not_this_machine(start, address: bytes) -> None:
    header = b"PROXY TCP4 " + address + b" 198.51.100.1 4711 25\r\n"
    async with start(**PROXIED, lmtp_port=0) as running:
        client = await through_proxy(running, header)
        assert "AUTH" not in await client.hello()
        assert (await client.say("AUTH PLAIN AGFsaWNlAHNlY3JldA==")).startswith("538 5.7.11")
        client = await through_proxy(running, header, "lmtp")
        assert (await client.reply()).startswith("554 5.7.1")


@pytest.mark.parametrize(
    ("header", "source"),
    [
        (V1, "127.0.0.2"),
        (V2, "127.0.0.2"),
        (b"EHLO client.example\r\n", "127.0.0.1"),
        (b"PROXY TCP4 nonsense\r\n", "127.0.0.1"),
        (b"PROXY TCP4 " + b"1" * 200, "127.0.0.1"),
        (V2[:13] + b"\x51" + V2[14:], "127.0.0.1"),
        (SIGNATURE + b"\x21\x11\xff\xff", "127.0.0.1"),
    ],
)
async def test_what_is_not_from_a_proxy_is_closed_without_a_word(start, header: bytes, source: str) -> None:
    async with start(**PROXIED) as running:
        client = await through_proxy(running, header, source=source)
        assert await client.closed() == b""
        assert running.service.figures.connections == 0


async def test_limits_count_clients_and_not_the_proxy(start) -> None:
    async with start(**PROXIED, connections_per_address=1, exempt_networks=()) as running:
        one = await through_proxy(running, V1)
        assert (await one.reply()).startswith("220")
        again = await through_proxy(running, V1)
        assert (await again.reply()).startswith("421 4.7.0")
        other = await through_proxy(running, V1.replace(b"192.0.2.7", b"192.0.2.8"))
        assert (await other.reply()).startswith("220")


async def test_lmtp_networks_see_the_client(start) -> None:
    async with start(**PROXIED, lmtp_port=0) as running:
        client = await through_proxy(running, V1, "lmtp")
        assert (await client.reply()).startswith("554 5.7.1")
