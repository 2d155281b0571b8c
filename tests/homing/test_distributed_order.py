"""Services come up in any order and outlive each other; what is in one folder has one owner."""

from __future__ import annotations

import imaplib
import json
import smtplib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import DOMAIN, PASSWORD, Cluster, Live, Member, Process, until

pytestmark = pytest.mark.slow

BACK_SECONDS = 60.0
"""After a keeper is back the doors work again within this, without a restart."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Nothing of it runs yet."""
    made = Cluster(tmp_path / "data", SMTP_TIMEOUT="3")
    yield made
    made.kill()


def one(cluster: Cluster, service: str) -> Member:
    return cluster.of(service)[0]


def deliver(cluster: Cluster) -> int:
    """The code of the reply that a delivery meets, the first that is not good."""
    with smtplib.SMTP(cluster.host, cluster.ports["SMTP"], timeout=30) as client:
        client.ehlo()
        client.mail("x@elsewhere.example")
        code = client.rcpt(f"user@{DOMAIN}")[0]
        return code if code != 250 else client.data(b"Subject: x\r\n\r\nx\r\n")[0]


def login(cluster: Cluster) -> tuple[str, str]:
    """How IMAP answers a sign-in: its word, and the rest."""
    client = imaplib.IMAP4(cluster.host, cluster.ports["IMAP"], timeout=30)
    try:
        typ, data = client._simple_command("LOGIN", f"admin@{DOMAIN}", client._quote(cluster.admin_password))
        return typ, data[0].decode()
    finally:
        client.shutdown()


def test_doors_before_keepers(cluster: Cluster) -> None:
    doors = [one(cluster, "smtp"), one(cluster, "imap")]
    for door in doors:
        door.begin()
    for door in doors:
        door.wait()
    for name in ("REST", "IMAP_REST"):
        status, health = cluster.health(cluster.ports[name])
        assert (status, health["live"], health["ready"]) == (503, True, False)
        assert all(state != "ok" for state in health["depends_on"].values())
    assert deliver(cluster) == 451
    word, text = login(cluster)
    assert (word, "[UNAVAILABLE]" in text) == ("NO", True)
    # With one keeper of the two it is still too early.
    one(cluster, "storage").start()
    assert deliver(cluster) == 451
    one(cluster, "identity").start()
    until(lambda: login(cluster)[0] == "OK", BACK_SECONDS)
    until(lambda: deliver(cluster) == 250, BACK_SECONDS)
    until(cluster.ready, BACK_SECONDS)
    assert all(door.output.count("ready\n") == 1 for door in doors)


@pytest.mark.parametrize("service", ["identity", "storage"])
def test_a_keeper_that_is_killed_and_comes_back(cluster: Cluster, service: str) -> None:
    cluster.start()
    until(lambda: deliver(cluster) == 250, BACK_SECONDS)
    one(cluster, service).kill()
    for name in ("REST", "IMAP_REST"):
        health = until(lambda name=name: found[1] if (found := cluster.health(cluster.ports[name]))[0] == 503 else None)
        assert health["depends_on"][service] != "ok"
        assert health["live"] is True
    if service == "storage":
        assert deliver(cluster) == 451
    one(cluster, service).start()
    until(lambda: deliver(cluster) == 250, BACK_SECONDS)
    until(lambda: login(cluster)[0] == "OK", BACK_SECONDS)
    until(cluster.ready, BACK_SECONDS)


def test_a_door_that_began_without_the_saved_settings_takes_them_up(cluster: Cluster) -> None:
    cluster.cli("config", "set", "smtp.size_max", "1 MiB")
    cluster.cli("config", "set", "smtp.max_workers", "7")
    door = one(cluster, "smtp").start()
    pid = door.pid
    one(cluster, "storage").begin()
    one(cluster, "identity").start()
    # One that is not live is in force from a start on, so there is a second one.
    until(lambda: door.output.count("ready\n") == 2, 60.0, "the second life")
    assert (door.running, door.pid) == (True, pid)
    with smtplib.SMTP(cluster.host, cluster.ports["SMTP"]) as client:
        client.ehlo()
        assert client.esmtp_features["size"] == str(1024 * 1024)
    until(lambda: cluster.health(cluster.ports["REST"])[0] == 200)
    config = cluster.rest("GET", "/api/config", token=cluster.admin_token())[1]
    assert config["max_workers"] == 7


def ended(process: Process) -> tuple[int, str]:
    """The status and all output of a process that should not run."""
    process.begin()
    return process.ended(), "".join(process.output)


def again(member: Member) -> Member:
    """The same service over the same data, on ports of its own."""
    return Member(member.service, 1, {}, {**member.env, **{f"HOMING_{name}_PORT": "0" for name in member.ports}})


def test_each_database_has_one_owner(cluster: Cluster) -> None:
    one(cluster, "identity").start()
    one(cluster, "storage").start()
    for service in ("identity", "storage"):
        status, told = ended(again(one(cluster, service)))
        assert status == 69
        assert f"in use by process {one(cluster, service).pid}" in told
    whole = Live(cluster.data)
    status, told = ended(Process(whole.command, whole.env))
    assert status == 69
    assert "in use by process" in told
    # Doors own nothing: any number of them is welcome in the folder.
    doors = [one(cluster, "smtp"), again(one(cluster, "smtp"))]
    for door in doors:
        door.start()
    assert len({*(cluster.data / "tls").glob("*.pem")}) == 2
    for process in (*doors, one(cluster, "identity"), one(cluster, "storage")):
        assert process.stop() == 0


def test_a_database_outside_of_the_data_folder_has_one_owner_too(tmp_path: Path, cluster: Cluster) -> None:
    storage = one(cluster, "storage")
    storage.env["HOMING_STORAGE_URL"] = f"sqlite://{tmp_path}/elsewhere"
    storage.start()
    assert (tmp_path / "elsewhere" / "storage.db").exists()
    second = again(storage)
    second.env["HOMING_DATA"] = str(tmp_path / "another")
    whole = Live(tmp_path / "third", HOMING_STORAGE_URL=storage.env["HOMING_STORAGE_URL"])
    for process in (second, Process(whole.command, whole.env)):
        status, told = ended(process)
        assert (status, f"in use by process {storage.pid}" in told) == (69, True)
    moving = cluster.cli(
        "migrate", "--from", f"sqlite:{tmp_path}/elsewhere", "--to", f"sqlite:{tmp_path}/new", check=False
    )
    assert f"in use by process {storage.pid}" in moving.stderr
    assert storage.stop() == 0
    whole.start()
    assert storage.env["HOMING_STORAGE_URL"]
    status, told = ended(second)
    assert (status, f"in use by process {whole.pid}" in told) == (69, True)
    assert whole.stop() == 0


def test_no_keeper_beside_the_whole_server(tmp_path: Path, cluster: Cluster) -> None:
    whole = Live(cluster.data).start()
    try:
        for service in ("identity", "storage"):
            status, told = ended(again(one(cluster, service)))
            assert (status, f"in use by process {whole.pid}" in told) == (69, True)
    finally:
        assert whole.stop() == 0


def test_what_one_mode_has_made_the_other_has(cluster: Cluster) -> None:
    """The same folder, first with all in one process, then as services."""
    whole = Live(cluster.data).start()
    try:
        whole.add_users("alice")
        whole.cli("config", "set", "smtp.max_workers", "6")
        whole.cli("send", f"alice@{DOMAIN}")
    finally:
        assert whole.stop() == 0
    cluster.start()
    with imaplib.IMAP4(cluster.host, cluster.ports["IMAP"]) as client:
        client.login("alice", PASSWORD)
        assert client.select()[1] == [b"1"]
    assert cluster.rest("GET", "/api/config", token=cluster.admin_token())[1]["max_workers"] == 6


def test_a_keeper_waits_for_its_database(cluster: Cluster) -> None:
    """And says so; SIGTERM ends the waiting."""
    identity = one(cluster, "identity")
    identity.env["MONGODB_URL"] = "mongodb://127.0.0.1:1/homing?serverSelectionTimeoutMS=200"
    identity.begin()
    until(lambda: any("waiting at the start" in line for line in identity.output))
    line = next(line for line in identity.output if "waiting at the start" in line)
    assert json.loads(line)["service"] == "identity"
    begun = time.monotonic()
    assert identity.stop() == 0
    assert time.monotonic() - begun < 25
