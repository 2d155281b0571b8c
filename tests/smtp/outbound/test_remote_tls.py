"""TLS with remote servers: taken where it is offered, insisted on where a policy says so."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from runtime.dns import MX, Answer, DnsTemporary
from smtp.outbound.remote import SmtpTransport
from smtp.outbound.tlspolicy import DomainPolicy, HostPolicy, TlsPolicies, TlsProblem, TlsResult
from smtp.outbound.transport import Phase, Status
from tests.dnsserver import DnsServer
from tests.patience import attempts
from tests.smtp.outbound.letters import letter, only
from tests.smtp.outbound.peers import EXTENSIONS, Peer

Make = Callable[..., SmtpTransport]


@dataclass
class Fixed(TlsPolicies):
    """One answer to everything. noted: (host, result, address)."""

    policy: HostPolicy
    problem: TlsProblem | None = None
    temporary: str = ""
    noted: list[tuple[str, TlsResult, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        TlsPolicies.__init__(self)

    async def for_domain(self, domain: str, mx: Answer[MX]) -> DomainPolicy:
        if self.temporary == "domain":
            raise DnsTemporary("no answer")
        return DomainPolicy(domain)

    async def for_host(
        self, domain: DomainPolicy, host: str, addresses: Answer[str], *, port: int = 25, requiretls: bool = False
    ) -> HostPolicy:
        if self.temporary == "host":
            raise DnsTemporary("no answer")
        return self.policy

    def check(self, policy: HostPolicy, tls: ssl.SSLObject | ssl.SSLSocket) -> TlsProblem | None:
        return self.problem

    def note(
        self,
        domain: DomainPolicy,
        host: str,
        policy: HostPolicy,
        result: TlsResult,
        *,
        address: str = "",
        detail: str = "",
    ) -> None:
        self.noted.append((host, result, address))


MAY = HostPolicy(False, "none", ("mx.d.example",))
MUST = HostPolicy(True, "none", ("mx.d.example",), kind="mta-sts")


async def test_tls_is_taken_where_it_is_offered(peer: Peer, make: Make, server_tls: ssl.SSLContext) -> None:
    peer.tls = server_tls
    policies = Fixed(MAY)
    result = await make(peer.port, policies).send(letter())
    assert only(result).status is Status.SENT
    assert peer.taken[0].tls
    assert result.tls == "TLSv1.3"
    assert result.verified == ""
    assert policies.noted == [("mx.d.example", TlsResult.SUCCESS, "127.0.0.1")]
    assert len(peer.said("EHLO")) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"broken_tls": True},
        {"close": {"HANDSHAKE"}},
        {"silent": {"HANDSHAKE"}},
        {"replies": {"STARTTLS": b"220 a\r\n250 b\r\n"}},
    ],
    ids=str,
)
async def test_broken_tls_goes_in_plain_text_on_a_new_connection(
    peer: Peer, make: Make, server_tls: ssl.SSLContext, wrong: dict[str, object]
) -> None:
    peer.tls = server_tls
    for name, value in wrong.items():
        setattr(peer, name, value)
    for attempt in attempts():
        with attempt as seconds:
            peer.connections = 0
            result = await make(peer.port, Fixed(MAY), timeout=seconds if "silent" in wrong else 30.0).send(letter())
            assert only(result).status is Status.SENT
            assert (result.tls, peer.connections, peer.taken[-1].tls) == (None, 2, False)


@pytest.mark.parametrize("reply", ["454 4.7.0 Not now", "500 What?"])
async def test_starttls_refused_goes_in_plain_text_on_the_same(
    peer: Peer, make: Make, server_tls: ssl.SSLContext, reply: str
) -> None:
    peer.tls = server_tls
    peer.replies["STARTTLS"] = reply
    result = await make(peer.port, Fixed(MAY)).send(letter())
    assert (only(result).status, result.tls, peer.connections) == (Status.SENT, None, 1)


@pytest.mark.parametrize(
    ("wrong", "enhanced", "noted"),
    [
        ({}, "4.7.4", TlsResult.STARTTLS_NOT_SUPPORTED),
        ({"broken_tls": True}, "4.7.5", TlsResult.VALIDATION_FAILURE),
        ({"tls": True, "replies": {"STARTTLS": "454 No"}}, "4.7.4", TlsResult.STARTTLS_NOT_SUPPORTED),
    ],
    ids=str,
)
async def test_where_tls_is_required_nothing_goes_without(
    peer: Peer, make: Make, server_tls: ssl.SSLContext, wrong: dict[str, object], enhanced: str, noted: TlsResult
) -> None:
    for name, value in wrong.items():
        setattr(peer, name, server_tls if name == "tls" else value)
    policies = Fixed(MUST)
    result = await make(peer.port, policies).send(letter())
    outcome = only(result)
    assert (outcome.status, outcome.phase, outcome.enhanced) == (Status.DEFERRED, Phase.TLS, enhanced)
    assert (peer.taken, peer.connections) == ([], 1)
    assert result.destination_down
    assert [result for _, result, _ in policies.noted] == [noted]


async def test_a_check_that_fails_stops_it_and_one_being_tried_out_does_not(
    peer: Peer, make: Make, server_tls: ssl.SSLContext
) -> None:
    peer.tls = server_tls
    policy = HostPolicy(True, "none", ("mx.d.example",), kind="mta-sts")
    fatal = Fixed(policy, TlsProblem(TlsResult.HOST_MISMATCH, "The certificate is another's"))
    outcome = only(await make(peer.port, fatal).send(letter()))
    assert (outcome.status, outcome.enhanced, outcome.text) == (
        Status.DEFERRED, "4.7.5", "The certificate is another's",
    )  # fmt: skip
    trial = Fixed(policy, TlsProblem(TlsResult.HOST_MISMATCH, "The certificate is another's", fatal=False))
    assert only(await make(peer.port, trial).send(letter())).status is Status.SENT
    assert trial.noted == [("mx.d.example", TlsResult.HOST_MISMATCH, "127.0.0.1")]


async def test_a_certificate_that_is_proved(
    peer: Peer, make: Make, server_tls: ssl.SSLContext, trusting: TlsPolicies, dns: DnsServer
) -> None:
    peer.tls = server_tls
    dns.add("localhost A 127.0.0.1")
    transport = make(peer.port, trusting, routes=(f"*=smtp+tls://localhost:{peer.port}",))
    result = await transport.send(letter())
    assert (only(result).status, result.verified) == (Status.SENT, "web-pki")


async def test_a_relay_with_a_certificate_of_nobody(
    peer: Peer, make: Make, server_tls: ssl.SSLContext, dns: DnsServer
) -> None:
    peer.tls = server_tls
    dns.add("localhost A 127.0.0.1")
    outcome = only(await make(peer.port, routes=(f"*=smtp+tls://localhost:{peer.port}",)).send(letter()))
    assert (outcome.status, outcome.phase, outcome.enhanced) == (Status.DEFERRED, Phase.TLS, "4.7.5")
    assert peer.taken == []


@pytest.mark.parametrize("mechanisms", ["PLAIN LOGIN", "LOGIN"])
async def test_a_relay_with_tls_from_the_start_and_a_password(
    make: Make, server_tls: ssl.SSLContext, trusting: TlsPolicies, dns: DnsServer, mechanisms: str
) -> None:
    dns.add("localhost A 127.0.0.1")
    async with Peer(implicit=server_tls, extensions=(*EXTENSIONS, f"AUTH {mechanisms}")) as relay:
        if mechanisms == "LOGIN":
            relay.replies["AUTH"] = "334 VXNlcm5hbWU6"
            relay.replies["dQ=="] = relay.replies["DQ=="] = "334 UGFzc3dvcmQ6"
            relay.replies["CDP3"] = "235 2.7.0 Signed in"
        transport = make(policies=trusting, routes=(f"*=smtps://u:p:w@localhost:{relay.port}",))
        result = await transport.send(letter())
        assert (only(result).status, result.tls, result.verified) == (Status.SENT, "TLSv1.3", "web-pki")
        assert relay.said("AUTH") == (["AUTH PLAIN AHUAcDp3"] if mechanisms != "LOGIN" else ["AUTH LOGIN"])


async def test_a_wrong_password_keeps_mail_waiting(peer: Peer, make: Make) -> None:
    peer.extensions = (*EXTENSIONS, "AUTH PLAIN")
    peer.replies["AUTH"] = "535 5.7.8 Wrong"
    outcome = only(await make(routes=(f"*=smtp://u:p@127.0.0.1:{peer.port}",)).send(letter()))
    assert (outcome.status, outcome.phase, outcome.code, outcome.enhanced) == (
        Status.DEFERRED, Phase.AUTH, 535, "4.7.8",
    )  # fmt: skip


@pytest.mark.parametrize("offered", [True, False])
async def test_requiretls(peer: Peer, make: Make, server_tls: ssl.SSLContext, offered: bool) -> None:
    peer.tls = server_tls
    peer.extensions = (*EXTENSIONS, "REQUIRETLS") if offered else EXTENSIONS
    policies = Fixed(HostPolicy(True, "web-pki", ("mx.d.example",), kind="requiretls"))
    policies.context = lambda policy: TlsPolicies().context(MAY)  # type: ignore[method-assign]
    outcome = only(await make(peer.port, policies).send(letter(REQUIRETLS="")))
    if offered:
        assert outcome.status is Status.SENT
        assert " REQUIRETLS" in peer.taken[0].mail
    else:
        assert (outcome.status, outcome.enhanced) == (Status.FAILED, "5.7.30")
        assert peer.taken == []


async def test_a_host_that_the_policy_rules_out_is_not_spoken_to(peer: Peer, make: Make) -> None:
    policies = Fixed(HostPolicy(True, "web-pki", ("mx.d.example",), kind="mta-sts", usable=False, reason="Not in it"))
    outcome = only(await make(peer.port, policies).send(letter()))
    assert (outcome.status, outcome.phase, outcome.text) == (Status.DEFERRED, Phase.TLS, "Not in it")
    assert peer.connections == 0
    assert [host for host, _, _ in policies.noted] == ["mx.d.example"]


@pytest.mark.parametrize("what", ["domain", "host"])
async def test_a_policy_that_cannot_be_had_keeps_mail_waiting(peer: Peer, make: Make, what: str) -> None:
    outcome = only(await make(peer.port, Fixed(MAY, temporary=what)).send(letter()))
    assert (outcome.status, outcome.phase) == (Status.DEFERRED, Phase.ROUTE)
    assert peer.connections == 0


async def test_sessions_are_shared_by_domains_of_one_host_and_policy(peer: Peer, make: Make, dns: DnsServer) -> None:
    dns.add("e.example MX 10 mx.d.example.", "f.example MX 10 other.example.", "other.example A 127.0.0.1")
    transport = make(peer.port)
    await transport.send(letter())
    assert (await transport.send(letter(domain="e.example"))).reused
    assert not (await transport.send(letter(domain="f.example"))).reused
    assert peer.connections == 2


async def test_requiretls_shares_no_session_with_others(peer: Peer, make: Make, server_tls: ssl.SSLContext) -> None:
    peer.extensions = (*EXTENSIONS, "REQUIRETLS")
    transport = make(peer.port)
    assert only(await transport.send(letter())).status is Status.SENT
    outcome = only(await transport.send(letter(REQUIRETLS="")))
    assert (outcome.status, outcome.enhanced) == (Status.FAILED, "5.7.30")
    assert len(peer.taken) == 1


async def test_requiretls_asks_for_a_session_of_its_own_where_the_policy_is_the_same(
    peer: Peer, make: Make, server_tls: ssl.SSLContext
) -> None:
    # Under DANE, and under MTA-STS, a host has to offer the same to every message.
    peer.tls = server_tls
    transport = make(peer.port, Fixed(MUST))
    assert only(await transport.send(letter())).status is Status.SENT
    outcome = only(await transport.send(letter(REQUIRETLS="")))
    assert (outcome.status, outcome.enhanced) == (Status.FAILED, "5.7.30")
    assert (peer.connections, len(peer.said("MAIL"))) == (2, 1)


async def test_the_route_of_a_connector(make: Make, dns: DnsServer) -> None:
    outcome = only(await make().send(letter(route="connector:work")))
    assert (outcome.status, outcome.enhanced) == (Status.DEFERRED, "4.3.5")
