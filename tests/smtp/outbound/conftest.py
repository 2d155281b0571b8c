"""A transport, a DNS server and remote servers of our own."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from runtime.dns import Resolver
from runtime.tls import make_self_signed
from smtp.outbound.remote import SmtpTransport, smtp_transport
from smtp.outbound.settings import OutboundSettings
from smtp.outbound.tlspolicy import TlsPolicies
from tests.dnsserver import DnsServer
from tests.hurry import POLL
from tests.smtp.outbound.peers import Peer


@pytest.fixture(autouse=True)
def _short_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner that ends waits for its last claim."""
    monkeypatch.setattr("smtp.outbound.runner.POLL_SECONDS", POLL)


@pytest.fixture
def dns() -> Iterator[DnsServer]:
    with DnsServer() as server:
        yield server


@pytest.fixture
async def peer(dns: DnsServer) -> AsyncIterator[Peer]:
    """The one mail host of d.example."""
    dns.add("d.example MX 10 mx.d.example.", "mx.d.example A 127.0.0.1")
    async with Peer() as peer:
        yield peer


Make = Callable[..., SmtpTransport]


@pytest.fixture
async def make(dns: DnsServer) -> AsyncIterator[Make]:
    """Makes transports. port: of MX hosts; policies; hostname; other fields of the settings."""
    made: list[SmtpTransport] = []

    def make(
        port: int = 25,
        policies: TlsPolicies | None = None,
        hostname: str = "here.example",
        timeout: float = 30.0,
        **settings: object,
    ) -> SmtpTransport:
        given = {"command_timeout": timeout, "data_timeout": timeout, "connect_timeout": timeout, **settings}
        transport = smtp_transport(
            OutboundSettings.model_validate({"port": port, **given}),
            Resolver([dns.where], timeout=30.0),
            policies or TlsPolicies(),
            hostname,
        )
        made.append(transport)
        return transport

    yield make
    for transport in made:
        await transport.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_self_signed(tmp_path_factory.mktemp("tls"), ["mx.d.example", "localhost", "127.0.0.1"])


@pytest.fixture
def server_tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


@pytest.fixture
def trusting(certificate: tuple[Path, Path]) -> TlsPolicies:
    """Policies that know the certificate of ``server_tls``."""
    return TlsPolicies(roots=certificate[0])
