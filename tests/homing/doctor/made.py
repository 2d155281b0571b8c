"""A server whose every record is right, and what it publishes."""

from __future__ import annotations

from homing.doctor.records import needed
from homing.doctor.setup import Certificate, OurDomain, Setup
from identity.model import DkimAlgorithm, DkimKey, DkimState
from tests.dnsserver import DnsServer

DOMAIN = "ours.example"
HOST = "mx.ours.example"
V4 = "192.0.2.25"
V6 = "2001:db8:25::25"
LIST = "list.example"
NOW = 1_800_000_000.0


def key(selector: str = "s1", state: DkimState = DkimState.ACTIVE, public: str = "A" * 300) -> DkimKey:
    return DkimKey(DOMAIN, selector, DkimAlgorithm.RSA, "", public, state, NOW, NOW)


def setup(**more: object) -> Setup:
    values: dict[str, object] = {
        "hostname": HOST,
        "domains": (OurDomain(DOMAIN, (key(),)),),
        "addresses": (V4, V6),
        "configured": True,
        "no_certificate": "there is none in this test",
        **more,
    }
    return Setup(**values)  # type: ignore[arg-type]  # each test gives what the fields want


def publish(dns: DnsServer, wanted: Setup) -> None:
    """All that the setup needs, and lists that have none of its addresses on them."""
    dns.zone.records.clear()
    for domain in wanted.domains:
        for record in needed(wanted, domain).records:
            dns.add(record.line())
    dns.add(f"2.0.0.127.{LIST} A 127.0.0.2", "org NS a.nic.example")


def certified(made: object, *, own: bool = False) -> Certificate:
    return Certificate((made.der,), own=own)  # type: ignore[attr-defined]  # tests.smtp.outbound.pki.Made
