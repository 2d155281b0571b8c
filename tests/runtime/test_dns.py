"""Questions to the domain name system, against a server of our own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from runtime.clock import ManualClock
from runtime.dns import CAA, MX, TLSA, DnsTemporary, NoSuchName, Resolver, read_server, wire_name
from tests.dnsserver import DnsServer
from tests.patience import attempts

OTHERS = ("192.0.2.1",)


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with DnsServer(ad=True) as server:
        yield server


def resolver(*servers: DnsServer, timeout: float = 30.0, trusted: tuple[str, ...] = ("127.0.0.0/8",)) -> Resolver:
    return Resolver([server.where for server in servers], trusted, timeout)


async def test_each_kind_of_record_is_read(server: DnsServer) -> None:
    server.add(
        "example.org MX 20 B.example.org.",
        "example.org MX 10 a.example.org.",
        "a.example.org A 192.0.2.1",
        "a.example.org AAAA 2001:db8::1",
        f"_25._tcp.a.example.org TLSA 3 1 1 {'ab' * 32}",
        'example.org TXT "v=spf1" " -all"',
        'example.org CAA 0 issue "ca.example"',
        "1.2.0.192.in-addr.arpa PTR a.example.org.",
    )
    asks = resolver(server)
    assert (await asks.mx("example.org")).values == (MX(10, "a.example.org"), MX(20, "b.example.org"))
    assert (await asks.addresses("a.example.org")).values == ("2001:db8::1", "192.0.2.1")
    assert (await asks.addresses("a.example.org", v6=False)).values == ("192.0.2.1",)
    assert (await asks.tlsa(25, "a.example.org")).values == (TLSA(3, 1, 1, b"\xab" * 32),)
    assert (await asks.txt("example.org")).values == ("v=spf1 -all",)
    assert (await asks.caa("example.org")).values == (CAA(0, "issue", "ca.example"),)
    assert (await asks.ptr("192.0.2.1")).values == ("a.example.org",)


async def test_null_mx_is_a_dot(server: DnsServer) -> None:
    server.add("nothing.example MX 0 .")
    assert (await resolver(server).mx("nothing.example")).values == (MX(0, "."),)


async def test_no_such_name_and_no_such_records_are_told_apart(server: DnsServer) -> None:
    server.add("example.org A 192.0.2.1")
    asks = resolver(server)
    assert (await asks.mx("example.org")).values == ()
    with pytest.raises(NoSuchName) as missing:
        await asks.mx("missing.example")
    assert missing.value.authenticated


@pytest.mark.parametrize("text", ["", "a..b", "x" * 64 + ".org", "a b.org", "a\nb", ".".join(["x" * 60] * 5)])
async def test_what_is_no_name_is_not_asked(server: DnsServer, text: str) -> None:
    with pytest.raises(NoSuchName):
        await resolver(server).a(text)
    assert server.asked == []


async def test_names_are_asked_as_a_labels(server: DnsServer) -> None:
    server.add("xn--bcher-kva.example A 192.0.2.7")
    assert (await resolver(server).a("Bücher.Example.")).values == ("192.0.2.7",)
    assert wire_name("_dmarc.Example.ORG.") == "_dmarc.example.org"


async def test_aliases_are_followed_and_the_end_is_told(server: DnsServer) -> None:
    server.add("one.example CNAME two.example.", "two.example CNAME three.example.", "three.example A 192.0.2.3")
    answer = await resolver(server).a("one.example")
    assert (answer.values, answer.canonical) == (("192.0.2.3",), "three.example")


async def test_a_large_answer_comes_over_tcp(server: DnsServer) -> None:
    server.add(*(f"many.example A 10.0.{n // 250}.{n % 250 + 1}" for n in range(600)))
    assert len((await resolver(server).a("many.example")).values) == 600
    assert [over for *_, over in server.asked] == ["udp", "tcp"]


async def test_the_bit_is_believed_of_trusted_servers_alone(server: DnsServer) -> None:
    server.add("signed.example A 192.0.2.1", "unsigned.example A 192.0.2.2")
    server.zone.insecure.add("unsigned.example")
    assert (await resolver(server).a("signed.example")).authenticated
    assert not (await resolver(server).a("unsigned.example")).authenticated
    assert not (await resolver(server, trusted=OTHERS).a("signed.example")).authenticated


async def test_an_alias_out_of_signed_zones_is_not_authenticated(server: DnsServer) -> None:
    server.add("signed.example CNAME host.unsigned.example.", "host.unsigned.example A 192.0.2.2")
    server.zone.insecure.add("unsigned.example")
    assert not (await resolver(server).a("signed.example")).authenticated


@pytest.mark.parametrize("what", ["servfail", "refused", "drop", "garbage"])
async def test_the_next_server_is_asked_where_one_fails(
    server: DnsServer, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DnsServer() as bad:
        bad.fault("example.org", what)  # type: ignore[arg-type]
        server.add("example.org A 192.0.2.1")
        for attempt in attempts():
            with attempt as seconds:
                monkeypatch.setattr("runtime.dns.TRY_MIN", seconds)
                asks = resolver(bad, server, timeout=4 * seconds)
                assert (await asks.a("example.org")).values == ("192.0.2.1",)


async def test_a_server_that_is_down_costs_nothing_and_is_then_asked_last(server: DnsServer) -> None:
    down = DnsServer().start()
    down.stop()
    server.add("example.org A 192.0.2.1", "example.net A 192.0.2.2")
    # Waiting for the one that is down would take a quarter of that.
    asks = resolver(down, server, timeout=120.0)
    async with asyncio.timeout(20.0):
        await asks.a("example.org")
        await asks.a("example.net")


async def test_no_answer_at_all_is_temporary_within_the_time(server: DnsServer) -> None:
    server.fault("slow.example", "drop")
    server.fault("broken.example", "servfail")
    async with asyncio.timeout(20.0):
        with pytest.raises(DnsTemporary, match="no answer in time"):
            await resolver(server, timeout=1.0).a("slow.example")
        with pytest.raises(DnsTemporary, match="SERVFAIL"):
            await resolver(server).a("broken.example")


async def test_a_server_without_edns_is_asked_without(server: DnsServer) -> None:
    server.add("old.example A 192.0.2.9")
    server.fault("old.example", "formerr")
    assert (await resolver(server).a("old.example")).values == ("192.0.2.9",)


async def test_one_family_out_of_order_leaves_the_other(server: DnsServer) -> None:
    server.add("half.example A 192.0.2.1")
    server.fault("half.example", "servfail", "AAAA")
    answer = await resolver(server).addresses("half.example")
    assert (answer.values, answer.authenticated) == (("192.0.2.1",), True)


async def test_none_in_one_family_and_no_answer_in_the_other_is_temporary(server: DnsServer) -> None:
    server.add("half.example MX 0 .")
    server.fault("half.example", "servfail", "A")
    with pytest.raises(DnsTemporary):
        await resolver(server).addresses("half.example")


async def test_answers_are_kept_for_their_time(server: DnsServer) -> None:
    server.add("kept.example 100 A 192.0.2.1")
    clock = ManualClock()
    asks = Resolver([server.where], timeout=30.0, clock=clock)
    assert (await asks.a("kept.example")).ttl == 100
    clock.advance(60)
    assert (await asks.a("KEPT.example")).ttl == 40
    assert server.count("kept.example", "A") == 1
    clock.advance(41)
    await asks.a("kept.example")
    assert server.count("kept.example", "A") == 2


async def test_that_there_is_none_is_kept_for_the_time_of_the_soa(server: DnsServer) -> None:
    clock = ManualClock()
    asks = Resolver([server.where], timeout=30.0, clock=clock)
    for _ in range(2):
        with pytest.raises(NoSuchName):
            await asks.a("missing.example")
    assert server.count("missing.example", "A") == 1
    clock.advance(61)
    with pytest.raises(NoSuchName):
        await asks.a("missing.example")
    assert server.count("missing.example", "A") == 2


async def test_the_same_question_is_asked_once_at_a_time(server: DnsServer) -> None:
    server.add("one.example A 192.0.2.1")
    server.fault("one.example", delay=0.2)
    asks = resolver(server)
    first = asyncio.create_task(asks.a("one.example"))
    others = [asyncio.create_task(asks.a("one.example")) for _ in range(20)]
    await asyncio.sleep(0)
    first.cancel()
    assert {(await other).values for other in others} == {("192.0.2.1",)}
    assert server.count("one.example", "A") == 1


async def test_the_cache_has_a_bound(server: DnsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.dns.CACHE_MAX", 3)
    server.add(*(f"h{n}.example A 192.0.2.{n}" for n in range(1, 6)))
    asks = resolver(server)
    for n in range(1, 6):
        await asks.a(f"h{n}.example")
    await asks.a("h5.example")
    await asks.a("h1.example")
    assert (server.count("h5.example", "A"), server.count("h1.example", "A")) == (1, 2)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("192.0.2.1", ("192.0.2.1", 53)),
        ("192.0.2.1:5353", ("192.0.2.1", 5353)),
        ("2001:db8::1", ("2001:db8::1", 53)),
        ("[2001:db8::1]", ("2001:db8::1", 53)),
        ("[2001:db8::1]:54", ("2001:db8::1", 54)),
    ],
)
def test_servers_are_read(text: str, read: tuple[str, int]) -> None:
    assert read_server(text) == read


@pytest.mark.parametrize("text", ["", "dns.example", "192.0.2.1:0", "192.0.2.1:70000", "[::1", "::1:x"])
def test_what_is_no_server_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        read_server(text)
