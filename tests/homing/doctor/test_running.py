"""The doctor of a server that runs: by command, and over REST."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import forking
from tests.dnsserver import DnsServer
from tests.homing.doctor.made import DOMAIN, HOST, LIST, V4, publish, setup
from tests.live import Cluster

ROOT = Path(__file__).resolve().parents[3]
PASSWORD = "the chosen one"


@pytest.fixture
def dns() -> Iterator[DnsServer]:
    with DnsServer() as server:
        publish(server, setup(addresses=(V4,)))
        server.zone.remove(HOST, "A")
        server.add(f"{HOST} A 127.0.0.1")
        yield server


def test_by_command_and_over_rest(start: Callable[..., Any], dns: DnsServer, tmp_path: Path) -> None:
    more = {
        "HOMING_DOMAIN": DOMAIN,
        "HOMING_HOSTNAME": HOST,
        "HOMING_ADMIN_PASSWORD": PASSWORD,
        "HOMING_DNS_SERVERS": dns.where,
        "HOMING_DOCTOR_LISTS": LIST,
        "HOMING_OUTBOUND_PORT": "1",
    }
    up = start(**more)
    base = f"http://127.0.0.1:{up.port('REST')}"
    signed_in = httpx.post(
        f"{base}/token", data={"username": f"admin@{DOMAIN}", "password": PASSWORD}, timeout=60
    ).json()
    headers = {"Authorization": f"Bearer {signed_in['access_token']}"}
    assert httpx.get(f"{base}/api/doctor", headers=headers, timeout=60).status_code == 404
    looked = httpx.post(f"{base}/api/doctor", headers=headers, timeout=60).json()
    assert httpx.get(f"{base}/api/doctor", headers=headers, timeout=60).json() == looked
    ports = {one["subject"]: one["state"] for one in looked["findings"] if one["check"] == "port"}
    names = ("SMTP", "submission", "submissions", "IMAP", "IMAPS", "REST")
    assert [ports[name] for name in names] == ["ok"] * len(names)
    mx = next(one for one in looked["findings"] if one["check"] == "mx")
    assert (mx["state"], mx["found"]) == ("ok", f"10 {HOST}")
    # The keys of the first run are not those in the zone.
    assert {one["state"] for one in looked["findings"] if one["check"] == "dkim"} == {"bad"}
    assert f'homing_doctor_findings{{state="bad"}} {looked["counts"]["bad"]:.1f}' in (
        httpx.get(f"{base}/metrics", headers=headers, timeout=60).text
    )
    # What is saved in the server counts for the command too.
    environ = up_environment(up, more)
    ask(environ, tmp_path, "config", "set", "doctor.addresses", V4)
    done = ask(environ, tmp_path, "doctor", "--json", "--only", "port,certificate,ptr")
    found = json.loads(done.stdout)["findings"]
    # The name leads to this machine alone, so its address has no name that leads back.
    assert done.returncode == 2
    assert {one["subject"] for one in found if one["check"] == "port" and one["state"] == "ok"} >= {"SMTP", "IMAPS"}
    assert [one["subject"] for one in found if one["check"] == "ptr"] == [V4]
    assert any("self-signed" in one["found"] for one in found if one["check"] == "certificate")


def up_environment(up: Any, more: dict[str, str]) -> dict[str, str]:
    from tests.homing.conftest import environment

    return environment(up.folder, **more)


def ask(environ: dict[str, str], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return forking.run((*forking.HOMING, *arguments), env=environ, cwd=folder, timeout=60)


def test_processes_share_one_result(dns: DnsServer, tmp_path: Path) -> None:
    more = {"HOMING_HOSTNAME": HOST, "HOMING_DNS_SERVERS": dns.where, "HOMING_DOCTOR_LISTS": LIST}
    cluster = Cluster(tmp_path / "data", None, {"smtp": 2}, HOMING_OUTBOUND_PORT="1", **more)
    try:
        cluster.start()
        headers = {"Authorization": f"Bearer {cluster.admin_token()}"}
        one, other = (f"http://{cluster.host}:{member.ports['REST']}/api/doctor" for member in cluster.of("smtp"))
        looked = httpx.post(one, headers=headers, timeout=60).json()
        assert httpx.get(other, headers=headers, timeout=60).json() == looked
        assert {"SMTP", "submission"} <= {each["subject"] for each in looked["findings"] if each["check"] == "port"}
        # The command finds the listeners of all of them.
        done = ask(cluster.cli_env, tmp_path, "doctor", "--json", "--only", "port")
        shown = [each["subject"] for each in json.loads(done.stdout)["findings"] if each["state"] == "ok"]
        assert shown.count("SMTP") == 2
        assert shown.count("IMAP") == 1
    finally:
        cluster.stop()
