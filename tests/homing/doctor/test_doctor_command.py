"""`homing doctor` and `homing domain records`, as they are typed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result

from tests.dnsserver import DnsServer
from tests.homing.doctor.made import HOST, LIST, V4
from tests.smtp.outbound import pki

Homing = Callable[..., Result]
DOMAIN = "ours.example"
RECORDS = ("mx", "spf", "dkim", "dmarc", "mta-sts", "tls-rpt", "hostname", "address", "ptr", "helo", "dnsbl", "tlsa")
ONLY = ",".join(RECORDS)


@pytest.fixture
def dns() -> Iterator[DnsServer]:
    with DnsServer(ad=True) as server:
        server.add(f"2.0.0.127.{LIST} A 127.0.0.2", "org NS a.nic.example")
        yield server


@pytest.fixture
def ours(homing: Homing, dns: DnsServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Homing:
    """A server with a name, a certificate, and the domain that is kept there."""
    chain, secret = pki.server(HOST, days=300).files(tmp_path)
    for name, value in {
        "HOSTNAME": HOST,
        "DOMAIN": DOMAIN,
        "DNS_SERVERS": dns.where,
        "DOCTOR_LISTS": LIST,
        "DOCTOR_ADDRESSES": V4,
        "OUTBOUND_PORT": "1",
        "TLS_CERT": str(chain),
        "TLS_KEY": str(secret),
    }.items():
        monkeypatch.setenv(f"HOMING_{name}", value)
    homing("domain", "add", DOMAIN)
    return homing


def publish(dns: DnsServer, zone: str) -> None:
    dns.add(*(line for line in zone.splitlines() if line and not line.startswith(";")))


def test_what_is_printed_makes_the_doctor_content(ours: Homing, dns: DnsServer) -> None:
    told = ours("doctor", "--only", ONLY, status=2).stdout
    assert "Nobody can write to it." in told
    zone = ours("domain", "records", DOMAIN, "--zone").stdout
    for line in (one for one in zone.splitlines() if " IN MX " in one or " IN A " in one):
        # The doctor and `records` ask for the very same lines.
        assert f"    {line}\n" in told
    publish(dns, zone)
    good = ours("doctor", "--only", ONLY).stdout
    assert "0 to look at, 0 bad" in good
    assert "1 check was skipped" in good
    assert "nothing: sts.mode is off" in ours("doctor", "--only", "mta-sts", "--all").stdout


def test_exit_statuses(ours: Homing, dns: DnsServer) -> None:
    publish(dns, ours("domain", "records", DOMAIN, "--zone").stdout)
    ours("doctor", "--only", ONLY, status=0)
    dns.zone.remove(f"_smtp._tls.{DOMAIN}")
    ours("doctor", "--only", ONLY, status=1)
    dns.zone.remove(DOMAIN, "MX")
    ours("doctor", "--only", ONLY, status=2)
    assert "there is no check 'mxx'" in ours("doctor", "--only", "mxx", status=2).stderr
    assert "no such domain" in ours("doctor", "--domain", "none.example", status=1).stderr
    ours("doctor", "--timeout", "0", status=2)


def test_json(ours: Homing, dns: DnsServer) -> None:
    report = json.loads(ours("doctor", "--json", "--only", "mx dkim", "--domain", "Ours.Example", status=2).stdout)
    assert report["state"] == "bad"
    assert report["counts"]["bad"] == 3
    first = report["findings"][0]
    assert first["found"] == "the domain is not in the DNS"
    assert first["paste"] == [f"{DOMAIN}. 3600 IN MX 10 {HOST}."]
    assert set(first) == {"check", "subject", "state", "found", "wanted", "paste", "why"}


def test_only_the_domain_that_is_asked_for(ours: Homing) -> None:
    ours("domain", "add", "second.example")
    report = json.loads(ours("doctor", "--json", "--only", "mx", "--domain", "second.example", status=2).stdout)
    assert [one["subject"] for one in report["findings"]] == ["second.example"]
    report = json.loads(ours("doctor", "--json", "--only", "mx", status=2).stdout)
    assert [one["subject"] for one in report["findings"]] == [DOMAIN, "second.example"]


def test_everything_with_the_server_stopped(ours: Homing) -> None:
    report = json.loads(ours("doctor", "--json", "--timeout", "10", status=2).stdout)
    by = {one["check"]: one for one in report["findings"]}
    assert by["disk"]["state"] != "skipped"
    (stopped,) = [one for one in report["findings"] if one["subject"] == "listeners"]
    assert "is stopped" in stopped["found"]
    names = [one for one in report["findings"] if one["check"] == "certificate"]
    assert {one["subject"].split()[0] for one in names} == {"dates", "names", "issuer"}


def test_the_records_of_a_domain(ours: Homing) -> None:
    added = ours("domain", "add", "second.example").stdout
    assert "second.example. 3600 IN MX 10 mx.ours.example." in added
    assert "\n_25._tcp.mx.ours.example. 3600 IN TLSA 3 1 1 " in added
    assert added.split("\n", 1)[1] == ours("domain", "records", "second.example", "--zone").stdout
    shown = ours("domain", "records", "second.example").stdout
    assert "  name   second.example\n  type   MX\n  value  10 mx.ours.example.\n" in shown
    records = json.loads(ours("domain", "records", "second.example", "--json").stdout)
    kinds = [one["type"] for one in records["records"]]
    assert kinds == ["MX", "TXT", "TXT", "TXT", "TXT", "TXT", "A", "PTR", "TXT", "TLSA"]
    assert records["missing"] == ["MTA-STS: no policy is served (sts.mode is off)"]
    assert "no such domain" in ours("domain", "records", "none.example", status=1).stderr
    ours("domain", "records", "second.example", "--zone", "--json", status=2)


def test_help_has_examples(homing: Homing) -> None:
    told = homing("doctor", "--help").stdout
    assert "Examples:" in told
    assert "--only" in told
    assert "Exit status" in told
