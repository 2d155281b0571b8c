"""Mail by DANE and MTA-STS over real sockets: a DNS server, a policy server and mail hosts of our own."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from runtime.clock import SystemClock
from runtime.dns import Resolver
from runtime.web import Fetched, Web
from smtp.outbound.mtasts import StsPolicies
from smtp.outbound.remote import SmtpTransport
from smtp.outbound.tlspolicy import Noted, TlsPolicies
from smtp.outbound.tlsresult import TlsResult
from smtp.outbound.transport import Phase, Result, Status
from tests.dnsserver import DnsServer

from .fakenotes import FakeNotes
from .letters import letter, only
from .peers import EXTENSIONS, Peer
from .pki import Made, authority, server

DOMAIN, HOST = "d.example", "mx.d.example"
CA = authority()
GOOD = server(HOST, by=CA)
OTHER = server("other.example", by=authority("another"))


class World:
    """A mail host, its DNS, and who sends to it."""

    def __init__(
        self, dns: DnsServer, peer: Peer, make: Callable[..., SmtpTransport], folder: Path, https: int
    ) -> None:
        self.dns, self.peer, self.folder = dns, peer, folder
        self.noted: list[Noted] = []
        roots = folder / "roots.pem"
        roots.write_bytes(CA.pem)
        self.resolver = Resolver([dns.where], timeout=30.0)

        async def addresses(host: str) -> tuple[str, ...]:
            return (await self.resolver.addresses(host)).values

        self.web = Web(addresses, roots=roots, port=https)

        async def get(url: str) -> Fetched:
            return await self.web.get(url, size_max=65536, seconds=5)

        clock = SystemClock()
        self.sts = StsPolicies(self.resolver, get, FakeNotes(clock), clock)
        policies = TlsPolicies(self.resolver, self.sts, report=self.noted.append, roots=roots)
        self.transport = make(peer.port, policies)

    def shows(self, made: Made) -> None:
        self.peer.tls = made.server(self.folder)

    def tlsa(self, usage: int, made: Made) -> None:
        digest = hashlib.sha256(made.spki).hexdigest()
        self.dns.add(*[f"_{port}._tcp.{HOST} TLSA {usage} 1 1 {digest}" for port in (25, self.peer.port)])

    def policy(self, mode: str, mx: str = HOST) -> None:
        self.text = f"version: STSv1\r\nmode: {mode}\r\nmx: {mx}\r\nmax_age: 86400\r\n"
        self.dns.add(f'_mta-sts.{DOMAIN} TXT "v=STSv1; id=1"', f"mta-sts.{DOMAIN} A 127.0.0.1")

    async def send(self, **params: str) -> Result:
        return await self.transport.send(letter(**params))

    def results(self) -> set[tuple[str, TlsResult]]:
        return {(one.policy_type, one.result) for one in self.noted}


@pytest.fixture
async def world(dns: DnsServer, peer: Peer, make: Callable[..., SmtpTransport], tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            body = world.text.encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            await writer.drain()
            writer.close()

        context = server(f"mta-sts.{DOMAIN}", by=CA).server(tmp_path)
        https = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        stack.callback(https.close)
        world = World(dns, peer, make, tmp_path, https.sockets[0].getsockname()[1])
        stack.push_async_callback(world.web.close)
        stack.push_async_callback(world.sts.close)
        dns.zone.ad = True
        yield world


async def test_dane(world: World) -> None:
    # No authority of ours knows it, and it is for another host: DANE-EE says that it is right.
    world.shows(OTHER)
    world.tlsa(3, OTHER)
    result = await world.send()
    assert (only(result).status, result.verified) == (Status.SENT, "dane")
    assert world.results() == {("tlsa", TlsResult.SUCCESS)}


async def test_dane_by_an_anchor(world: World) -> None:
    world.shows(GOOD)
    world.tlsa(2, CA)
    result = await world.send()
    assert (only(result).status, result.verified) == (Status.SENT, "dane")


async def test_dane_keeps_mail_from_who_is_not_the_host(world: World) -> None:
    world.shows(OTHER)
    world.tlsa(3, GOOD)
    outcome = only(await world.send())
    assert (outcome.status, outcome.phase) == (Status.DEFERRED, Phase.TLS)
    assert not world.peer.taken
    assert world.results() == {("tlsa", TlsResult.VALIDATION_FAILURE)}


async def test_dane_keeps_mail_from_a_host_whose_tls_was_taken_away(world: World) -> None:
    world.tlsa(3, GOOD)
    outcome = only(await world.send())
    assert outcome.status is Status.DEFERRED
    assert not world.peer.taken
    assert world.results() == {("tlsa", TlsResult.STARTTLS_NOT_SUPPORTED)}


async def test_a_resolver_that_proves_nothing_makes_dane_nothing(world: World) -> None:
    world.dns.zone.ad = False
    world.shows(OTHER)
    world.tlsa(3, GOOD)
    result = await world.send()
    assert (only(result).status, result.verified) == (Status.SENT, "")
    assert world.results() == {("no-policy-found", TlsResult.SUCCESS)}


async def test_a_host_whose_records_cannot_be_had_is_not_used(world: World) -> None:
    world.shows(GOOD)
    for port in (25, world.peer.port):
        world.dns.fault(f"_{port}._tcp.{HOST}", "servfail", "TLSA")
    assert only(await world.send()).status is Status.DEFERRED
    assert not world.peer.taken


async def test_mta_sts(world: World) -> None:
    world.dns.zone.ad = False
    world.policy("enforce")
    world.shows(GOOD)
    result = await world.send()
    assert (only(result).status, result.verified) == (Status.SENT, "mta-sts")
    assert world.results() == {("sts", TlsResult.SUCCESS)}


@pytest.mark.parametrize("made", [None, OTHER])
async def test_mta_sts_keeps_mail_from_who_is_not_the_host(world: World, made: Made | None) -> None:
    world.policy("enforce")
    if made is not None:
        world.shows(made)
    assert only(await world.send()).status is Status.DEFERRED
    assert not world.peer.taken
    expected = TlsResult.STARTTLS_NOT_SUPPORTED if made is None else TlsResult.NOT_TRUSTED
    assert world.results() == {("sts", expected)}


async def test_mta_sts_keeps_mail_from_a_host_that_it_does_not_name(world: World) -> None:
    world.policy("enforce", "other.example")
    world.shows(GOOD)
    assert only(await world.send()).status is Status.DEFERRED
    assert not world.peer.taken
    assert world.results() == {("sts", TlsResult.VALIDATION_FAILURE)}


async def test_a_policy_that_is_tested_stops_nothing_and_is_told(world: World) -> None:
    world.policy("testing")
    world.shows(OTHER)
    result = await world.send()
    assert (only(result).status, result.verified) == (Status.SENT, "")
    assert ("sts", TlsResult.NOT_TRUSTED) in world.results()


async def test_requiretls_by_dnssec(world: World) -> None:
    world.peer.extensions = (*EXTENSIONS, "REQUIRETLS")
    world.shows(GOOD)
    result = await world.send(REQUIRETLS="")
    assert (only(result).status, result.verified) == (Status.SENT, "web-pki")


async def test_requiretls_where_nothing_proves_the_host(world: World) -> None:
    world.dns.zone.ad = False
    world.peer.extensions = (*EXTENSIONS, "REQUIRETLS")
    world.shows(GOOD)
    assert only(await world.send(REQUIRETLS="")).status is not Status.SENT
    assert not world.peer.taken
