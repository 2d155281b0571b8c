"""The doctor against zones of a real DNS server: all right, and each thing wrong by itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from homing.doctor.examine import CHECKS, examine
from homing.doctor.finding import Finding, Report, State
from homing.doctor.setup import OurDomain, Setup
from homing.ports import Listening
from homing.settings import Settings, load_settings
from homing.sts import own_policy, policy_record, policy_text
from runtime.dns import Resolver
from tests.dnsserver import DnsServer
from tests.homing.doctor.made import DOMAIN, HOST, LIST, V4, V6, certified, key, publish, setup
from tests.smtp.outbound import pki

MACHINE = ("clock", "disk")
"""What is as this machine is."""
NAMES = tuple(one for one in CHECKS if one not in (*MACHINE, "port", "way-out"))
MADE = pki.server(HOST, "mta-sts.ours.example", days=300)


def settings(dns: DnsServer, **more: str) -> Settings:
    return load_settings(
        {
            "HOMING_DOMAIN": DOMAIN,
            "HOMING_HOSTNAME": HOST,
            "HOMING_DNS_SERVERS": dns.where,
            "HOMING_DOCTOR_LISTS": LIST,
            **more,
        }
    ).settings


@pytest.fixture
def dns() -> Iterator[DnsServer]:
    with DnsServer(ad=True) as server:
        publish(server, wanted())
        yield server


def wanted(**more: object) -> Setup:
    return setup(**{"certificate": certified(MADE), **more})


async def look(
    dns: DnsServer, ours: Setup | None = None, *, seconds: float = 60.0, trusted: bool = True, **more: str
) -> Report:
    resolver = Resolver([dns.where], ("127.0.0.1",) if trusted else ("192.0.2.53",), timeout=30.0)
    return await examine(settings(dns, **more), ours or wanted(), resolver, None, only=NAMES, seconds=seconds)


def told(report: Report, check: str, subject: str = "") -> Finding:
    return next(one for one in report.findings if one.check == check and subject in one.subject)


def wrong(report: Report) -> set[str]:
    return {one.check for one in report.findings if one.state in (State.BAD, State.WARN)}


async def test_all_is_right(dns: DnsServer) -> None:
    report = await look(dns)
    assert wrong(report) == set()
    good = {one.check for one in report.findings if one.state is State.OK}
    assert good == set(NAMES) - {"mta-sts"}
    assert [one.subject for one in report.findings if one.check == "ptr"] == [V4, V6]
    assert [one.subject for one in report.findings if one.check == "dnsbl"] == [f"{V4} at {LIST}", f"{V6} at {LIST}"]
    order = [CHECKS.index(one.check) for one in report.findings]
    assert order == sorted(order)


def drop(name: str, kind: str = "", *instead: str) -> Callable[[DnsServer], None]:
    def change(dns: DnsServer) -> None:
        dns.zone.remove(name, kind)
        dns.add(*instead)

    return change


V4_NAME = "25.2.0.192.in-addr.arpa"


@pytest.mark.parametrize(
    ("change", "check", "state", "text"),
    [
        (drop(DOMAIN, "MX", f"{DOMAIN} MX 10 elsewhere.example."), "mx", State.BAD, "10 elsewhere.example"),
        (drop(DOMAIN, "MX"), "mx", State.BAD, "no MX record"),
        (drop(DOMAIN, "TXT", f'{DOMAIN} TXT "v=spf1 ip4:{V4} -all"'), "spf", State.BAD, f"v=spf1 ip4:{V4} -all"),
        (drop(DOMAIN, "TXT", f'{DOMAIN} TXT "v=spf1 a:{HOST} -all"'), "spf", State.OK, f"v=spf1 a:{HOST} -all"),
        (drop(DOMAIN, "TXT"), "spf", State.BAD, "no SPF record"),
        (drop(f"s1._domainkey.{DOMAIN}"), "dkim", State.BAD, "no record"),
        (drop(f"s1._domainkey.{DOMAIN}", "", f's1._domainkey.{DOMAIN} TXT "v=DKIM1; p=BBBB"'), "dkim", State.BAD,
         "another key"),
        (drop(f"_dmarc.{DOMAIN}"), "dmarc", State.WARN, "no DMARC record"),
        (drop(f"_smtp._tls.{DOMAIN}"), "tls-rpt", State.WARN, "no TLS-RPT record"),
        (drop(HOST, "A"), "address", State.WARN, V6),
        (drop(HOST, "A", f"{HOST} A 198.51.100.1"), "address", State.WARN, "198.51.100.1"),
        (drop(HOST, "TXT"), "helo", State.WARN, "no SPF record"),
        (drop(V4_NAME), "ptr", State.BAD, "no name"),
        (drop(V4_NAME, "", f"{V4_NAME} PTR host.provider.example."), "ptr", State.BAD, "host.provider.example"),
        (drop(V4_NAME, "", f"{V4_NAME} PTR b.example.", f"b.example A {V4}"), "ptr", State.WARN, "b.example"),
        (drop(f"_25._tcp.{HOST}"), "tlsa", State.WARN, "no TLSA record"),
        (drop(f"_25._tcp.{HOST}", "", f"_25._tcp.{HOST} TLSA 3 1 1 {'ab' * 32}"), "tlsa", State.BAD, "abab"),
        (drop("none", "", f"25.2.0.192.{LIST} A 127.0.0.4", f'25.2.0.192.{LIST} TXT "seen"'), "dnsbl", State.BAD,
         "listed (127.0.0.4): seen"),
        (drop("none", "", f"25.2.0.192.{LIST} A 127.255.255.254"), "dnsbl", State.SKIPPED, "refuses"),
        (drop(f"2.0.0.127.{LIST}"), "dnsbl", State.SKIPPED, "test entry"),
        (drop("none", "", 'ours.example CAA 0 issue ";"'), "caa", State.WARN, "at ours.example"),
    ],
)  # fmt: skip
async def test_one_thing_is_wrong(
    dns: DnsServer, change: Callable[[DnsServer], None], check: str, state: State, text: str
) -> None:
    change(dns)
    found = told(await look(dns), check)
    assert found.state is state
    assert text in found.found


async def test_the_name_is_an_alias_or_missing(dns: DnsServer) -> None:
    dns.zone.remove(HOST)
    dns.add(f"{HOST} CNAME host.provider.example.", f"host.provider.example A {V4}")
    assert "an alias (CNAME) of host.provider.example" in told(await look(dns), "hostname").found
    dns.zone.records = {key: value for key, value in dns.zone.records.items() if not key[0].endswith(HOST)}
    report = await look(dns)
    assert told(report, "hostname").found == "the name is not in the DNS"
    assert f"{HOST}. 3600 IN A {V4}" in told(report, "address").paste


async def test_without_dnssec(dns: DnsServer) -> None:
    dns.zone.ad = False
    report = await look(dns)
    assert told(report, "dane").found == "inactive: 127.0.0.1 does not set the AD bit"
    assert told(report, "tlsa").why == "Without DNSSEC nobody believes the record."
    report = await look(dns, trusted=False)
    assert told(report, "dane").found == "inactive: none of the resolvers (127.0.0.1) is trusted"


async def test_it_ends_in_time_when_nobody_answers(dns: DnsServer) -> None:
    for name, _ in list(dns.zone.records):
        dns.fault(name, "drop")
    report = await look(dns, seconds=2.5)
    assert report.seconds < 20
    assert told(report, "mx").state is State.SKIPPED
    assert told(report, "hostname").state is State.SKIPPED
    assert told(report, "certificate", "dates").state is State.OK
    assert wrong(report) <= {"dane"}


async def test_names_that_only_this_machine_knows(dns: DnsServer) -> None:
    local = wanted(hostname="localhost", domains=(OurDomain("localhost"), OurDomain(DOMAIN, (key(),))), addresses=())
    asked = len(dns.asked)
    report = await look(dns, local)
    assert told(report, "hostname").state is State.BAD
    assert told(report, "mx", DOMAIN).state is State.SKIPPED
    assert {one.state for one in report.findings if one.subject == "localhost" and one.check in ("mx", "spf")} == {
        State.SKIPPED
    }
    # Nobody is told of a machine that has no name yet.
    assert not any("localhost" in name or LIST in name for name, _, _ in dns.asked[asked:])


async def test_mail_that_leaves_by_a_relay(dns: DnsServer) -> None:
    report = await look(dns, wanted(relay="relay.example"))
    assert {told(report, one).state for one in ("ptr", "dnsbl")} == {State.SKIPPED}
    assert told(report, "spf").state is State.OK


class Site(threading.Thread):
    """One HTTPS page, for whoever asks on the loopback."""

    def __init__(self, body: str, folder: Path) -> None:
        super().__init__(daemon=True)
        self.body, self.context = body.encode(), MADE.server(folder)
        self.loop = asyncio.new_event_loop()
        self.ready = threading.Event()
        self.port = 0

    def run(self) -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(self.body)}\r\n\r\n"
            writer.write(head.encode() + self.body)
            await writer.drain()
            writer.close()

        async def serve() -> None:
            server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=self.context)
            self.port = server.sockets[0].getsockname()[1]
            self.server = server
            self.ready.set()

        self.loop.run_until_complete(serve())
        self.loop.run_forever()

    def __enter__(self) -> Site:
        self.start()
        assert self.ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.server.close)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.join(10)


async def test_the_policy_of_mta_sts(dns: DnsServer, tmp_path: Path) -> None:
    served = own_policy(settings(dns, HOMING_STS_MODE="enforce"))
    assert served is not None
    ours = wanted(policy=served, policy_record=policy_record(served))
    publish(dns, ours)
    dns.zone.remove("mta-sts.ours.example")
    dns.add("mta-sts.ours.example A 127.0.0.1")
    roots = tmp_path / "roots.pem"
    roots.write_bytes(MADE.pem)
    with Site(policy_text(served), tmp_path) as site:
        more = {"HOMING_OUTBOUND_HTTPS_PORT": str(site.port), "HOMING_OUTBOUND_ROOTS": str(roots)}
        assert told(await look(dns, ours, **more), "mta-sts").state is State.OK
        dns.add(f"{DOMAIN} MX 20 backup.example.")
        assert "does not name: backup.example" in told(await look(dns, ours, **more), "mta-sts").found
        site.body = policy_text(served).replace("enforce", "testing").encode()
        assert "mode testing" in told(await look(dns, ours, **more), "mta-sts").found
        site.body = b"nothing"
        assert "no policy: a line is no field" in told(await look(dns, ours, **more), "mta-sts").found
    assert "and no policy" in told(await look(dns, ours, **more), "mta-sts").found


async def test_ports(dns: DnsServer) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"220 {HOST} ESMTP\r\n".encode())
        await reader.readline()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        listeners = [Listening("SMTP", "", port, "STARTTLS"), Listening("IMAP", "127.0.0.1", 1, "STARTTLS")]
        here = wanted(addresses=("127.0.0.1",))
        publish(dns, here)
        dns.add("b.example MX 10 probe.example.", "probe.example A 127.0.0.1")
        asked = settings(dns, HOMING_OUTBOUND_PORT=str(port), HOMING_DOCTOR_PROBE="b.example")
        report = await examine(asked, here, Resolver([dns.where], timeout=30.0), listeners, only=("port", "way-out"))
    assert told(report, "port", "SMTP").state is State.OK
    assert told(report, "port", "IMAP").found == "127.0.0.1:1: refused: nothing listens there"
    assert told(report, "port", HOST).found == f"127.0.0.1:{port}: 220 {HOST} ESMTP"
    assert told(report, "way-out", "b.example").state is State.OK
