"""Where mail for a domain goes."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from runtime.dns import DnsTemporary, Resolver
from runtime.limits import Networks
from smtp.outbound.letters import destination_of
from smtp.outbound.remote import smtp_transport
from smtp.outbound.routes import HOSTS_MAX, NoRoute, Router, literal_address
from smtp.outbound.routetext import MX_ROUTE, Route, read_route
from smtp.outbound.settings import OutboundSettings
from smtp.outbound.tlspolicy import TlsPolicies
from smtp.outbound.transport import Letter, Result, Status
from storage.model import SpoolItem
from tests.dnsserver import DnsServer
from tests.smtp.outbound.letters import letter as mail


@pytest.fixture
def dns() -> Iterator[DnsServer]:
    with DnsServer() as server:
        yield server


def router(dns: DnsServer, table: dict[str, str] | None = None, seed: int = 0) -> Router:
    resolver = Resolver([dns.where], timeout=30.0)
    refused = Networks(("169.254.0.0/16", "fe80::/10"))
    return Router(resolver, table or {}, {"here.example", "also.here.example"}, random.Random(seed), refused)


async def test_by_preference(dns: DnsServer) -> None:
    dns.add("d.example MX 20 c.", "d.example MX 5 a.", "d.example MX 10 b.")
    assert (await router(dns).hosts("d.example")).hosts == ("a", "b", "c")


async def test_the_same_preference_at_random(dns: DnsServer) -> None:
    dns.add("d.example MX 5 z.", *(f"d.example MX 10 h{n}." for n in range(4)))
    orders = {(await router(dns, seed=seed).hosts("d.example")).hosts for seed in range(20)}
    assert len(orders) > 5
    assert {order[0] for order in orders} == {"z"}
    assert {frozenset(order) for order in orders} == {frozenset({"z", "h0", "h1", "h2", "h3"})}


async def test_there_is_a_bound(dns: DnsServer) -> None:
    dns.add(*(f"d.example MX {n} h{n}.example." for n in range(30)))
    dns.add(
        *(f"h.example A 192.0.2.{n}" for n in range(1, 20)), *(f"h.example AAAA 2001:db8::{n}" for n in range(1, 9))
    )
    assert len((await router(dns).hosts("d.example")).hosts) == HOSTS_MAX
    addresses = (await router(dns).addresses("h.example")).values
    assert len(addresses) == 4
    assert [":" in address for address in addresses] == [True, False, True, False]


@pytest.mark.parametrize("address", ["0.0.0.0", "255.255.255.255", "224.0.0.5", "::", "ff02::1", "::ffff:0.0.0.0"])
async def test_addresses_that_are_nobodys_are_not_tried(dns: DnsServer, address: str) -> None:
    dns.add(f"h.example {'AAAA' if ':' in address else 'A'} {address}", "h.example A 192.0.2.1")
    assert (await router(dns).addresses("h.example")).values == ("192.0.2.1",)
    literal = f"[IPv6:{address}]" if ":" in address else f"[{address}]"
    assert (await router(dns).addresses(literal)).values == ()


async def test_without_mx_the_domain_is_its_host(dns: DnsServer) -> None:
    dns.add("d.example A 192.0.2.1")
    way = await router(dns).hosts("d.example")
    assert (way.hosts, way.mx.values) == (("d.example",), ())


@pytest.mark.parametrize(
    ("domain", "status", "enhanced"),
    [
        ("missing.example", Status.FAILED, "5.1.2"),
        ("null.example", Status.FAILED, "5.1.10"),
        ("broken.example", Status.DEFERRED, "4.4.3"),
        ("ours.example", Status.FAILED, "5.4.6"),
        ("here.example", Status.FAILED, "5.4.6"),
        ("[300.1.1.1]", Status.FAILED, "5.1.2"),
        ("[0.0.0.0]", Status.FAILED, "5.1.2"),
        ("[127.0.0.1]", Status.FAILED, "5.4.6"),
        ("[127.8.8.8]", Status.FAILED, "5.4.6"),
        ("[IPv6:::1]", Status.FAILED, "5.4.6"),
        ("[IPv6:::ffff:127.0.0.1]", Status.FAILED, "5.4.6"),
        ("[169.254.169.254]", Status.FAILED, "5.1.2"),
        ("[IPv6:fe80::1]", Status.FAILED, "5.1.2"),
        ("[x400:a]", Status.FAILED, "5.1.2"),
    ],
)
async def test_no_route(dns: DnsServer, domain: str, status: Status, enhanced: str) -> None:
    dns.add(
        "null.example MX 0 .",
        "ours.example MX 10 here.example.",
        "ours.example MX 20 backup.example.",
        "here.example A 192.0.2.1",
    )
    dns.fault("broken.example", "servfail")
    with pytest.raises(NoRoute) as no_route:
        await router(dns).hosts(domain)
    assert (no_route.value.status, no_route.value.enhanced) == (status, enhanced)


async def test_mail_hosts_are_not_in_refused_networks(dns: DnsServer) -> None:
    dns.add("d.example MX 10 a.example.", "a.example A 169.254.1.1", "a.example AAAA fe80::1", "b.example A 192.0.2.1")
    dns.add("b.example A 169.254.1.1")
    asked = router(dns)
    assert (await asked.addresses("a.example")).values == ()
    assert (await asked.addresses("b.example")).values == ("192.0.2.1",)
    assert (await asked.hosts("[192.0.2.1]")).hosts == ("[192.0.2.1]",)
    # a relay of the settings may be anywhere
    assert set((await asked.addresses("a.example", named=True)).values) == {"169.254.1.1", "fe80::1"}
    assert (await asked.addresses("[169.254.1.1]", named=True)).values == ("169.254.1.1",)


async def test_hosts_no_better_than_ourselves_are_left_out(dns: DnsServer) -> None:
    dns.add(
        "d.example MX 5 best.", "d.example MX 10 also.here.example.", "d.example MX 10 equal.",
        "d.example MX 20 worse.",
    )  # fmt: skip
    assert (await router(dns).hosts("d.example")).hosts == ("best",)


async def test_a_null_mx_among_others_is_passed_over(dns: DnsServer) -> None:
    dns.add("d.example MX 0 .", "d.example MX 10 a.")
    assert (await router(dns).hosts("d.example")).hosts == ("a",)


async def test_an_alias_as_a_mail_host_is_taken(dns: DnsServer) -> None:
    dns.add("alias.example CNAME real.example.", "real.example A 192.0.2.1")
    answer = await router(dns).addresses("alias.example")
    assert (answer.values, answer.canonical) == (("192.0.2.1",), "real.example")


async def test_a_host_without_an_address(dns: DnsServer) -> None:
    assert (await router(dns).addresses("missing.example")).values == ()
    dns.fault("broken.example", "servfail")
    with pytest.raises(DnsTemporary):
        await router(dns).addresses("broken.example")


async def test_the_message_s_route_before_the_domain_s_before_that_of_all(dns: DnsServer) -> None:
    routes = router(dns, {"d.example": "smtp://one", "*": "smtp+tls://u:p@two"})
    assert routes.route("d.example", "smtp://three").host == "three"
    assert routes.route("d.example", None).host == "one"
    assert routes.route("other.example", None).password == "p"
    assert routes.route("d.example", "mx") is MX_ROUTE
    assert router(dns).route("other.example", None) is MX_ROUTE


async def test_an_account_sends_through_its_connector(dns: DnsServer) -> None:
    went: list[str] = []

    class Through:
        def __init__(self, name: str) -> None:
            self._name = name

        async def send(self, letter: Letter) -> Result:
            went.append(self._name)
            return Result({}, 0.0)

        async def close(self) -> None:
            return None

    settings = OutboundSettings(routes=("alice@example.org=connector:gmail", "*=connector:all"))
    policies = TlsPolicies(None, None, roots=None)
    transport = smtp_transport(settings, Resolver([dns.where], timeout=30.0), policies, "here.example", Through)
    for sender in ("alice@example.org", "bob@example.org", ""):
        await transport.send(mail("x@d.example", sender=sender))
    await transport.close()
    assert went == ["gmail", "all", "all"]


def test_of_an_account_of_a_domain_and_of_all(dns: DnsServer) -> None:
    settings = OutboundSettings(
        routes=("Alice@Example.Org=connector:gmail", "d.example=smtp://one", "*=smtp://two", "bob@ü.example=mx")
    )
    routes = router(dns, settings.table)
    for sender, domain, override, found in (
        ("alice@example.org", "d.example", None, "gmail"),
        ("ALICE@EXAMPLE.ORG", "other.example", None, "gmail"),
        ("alice@example.org", "d.example", "smtp://three", "three"),
        ("eve@example.org", "d.example", None, "one"),
        ("eve@example.org", "other.example", None, "two"),
        ("bob@xn--tda.example", "d.example", None, ""),
        ("bob@ü.example", "d.example", None, ""),
        ("", "d.example", None, "one"),
    ):
        assert routes.route(domain, override, sender).host == found, sender
        item = SpoolItem("i", "t", None, sender, domain, (), 1, 0.0, 0.0, route=override)
        assert destination_of(item, settings.table).endswith(found or domain)
    for bad in ("@example.org=mx", "a@=mx", "a@b c=mx"):
        with pytest.raises(ValueError, match="is not a domain, nor an address"):
            OutboundSettings(routes=(bad,))


async def test_a_message_s_route_that_cannot_be_read_waits(dns: DnsServer) -> None:
    with pytest.raises(NoRoute) as no_route:
        router(dns).route("d.example", "smtp://user:secret@x")
    assert no_route.value.status is Status.DEFERRED
    assert "secret" not in no_route.value.text


@pytest.mark.parametrize(
    ("text", "route"),
    [
        ("mx", Route("mx")),
        ("smtp://Relay.Example", Route("host", "relay.example", 25, "may", key="smtp://@relay.example:25")),
        ("smtp+tls://r:26", Route("host", "r", 26, "must", key="smtp+tls://@r:26")),
        ("smtps://u%40x:p%3A@r", Route("host", "r", 465, "implicit", "u@x", "p:", "smtps://u@x@r:465")),
        ("smtp://[2001:db8::1]:25", Route("host", "2001:db8::1", 25, key="smtp://@2001:db8::1:25")),
        ("connector:work", Route("connector", "work", key="connector:work")),
    ],
)
def test_routes_are_read(text: str, route: Route) -> None:
    assert read_route(text, secret=True) == route


def test_the_password_is_not_shown() -> None:
    assert "geheim" not in repr(read_route("smtps://u:geheim@r", secret=True))


@pytest.mark.parametrize(
    "text",
    ["", "relay", "smtp:", "smtp://", "http://x", "smtp://x:99999", "smtp://x/path", "smtp://x?y", "connector:"],
)  # fmt: skip
def test_what_is_no_route(text: str) -> None:
    with pytest.raises(ValueError, match="route"):
        read_route(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [("[192.0.2.1]", "192.0.2.1"), ("[IPv6:2001:DB8::1]", "2001:db8::1"), ("::1", "::1"), ("d.x", None), ("[x]", None)],
)  # fmt: skip
def test_literals(text: str, address: str | None) -> None:
    assert literal_address(text) == address
