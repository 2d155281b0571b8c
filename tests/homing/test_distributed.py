"""The four services as processes of their own, the keepers on SQLite: what each serves, to whom, and commands."""

from __future__ import annotations

import imaplib
import json
import re
import signal
import smtplib
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live import DOMAIN, PASSWORD, Cluster, until

REACH_SECONDS = 20.0
"""Within which a saved setting is in force in every process of the service."""
REST = {"identity": "IDENTITY", "storage": "STORAGE", "smtp": "REST", "imap": "IMAP_REST"}
OPEN = {"/api/health", "/token", "/api/login", "/api/refresh", "/.well-known/mta-sts.txt"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One process of each service, and a second one of both doors."""
    made = Cluster(tmp_path_factory.mktemp("cluster") / "data", None, {"smtp": 2, "imap": 2})
    try:
        made.start()
        made.add_users("alice", "bob")
        yield made
    finally:
        if made.running:
            assert made.stop() == 0, "".join(made.output[-60:])


def ask(
    cluster: Cluster, port: int, method: str, path: str, body: Any = None, token: str = "", **headers: str
) -> tuple[int, Any]:
    """(status, body: decoded where it is JSON) of one process's answer."""
    data = None if body is None else json.dumps(body).encode()
    given = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {}), **headers}
    request = urllib.request.Request(f"http://{cluster.host}:{port}{path}", data, given, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            text, status, kind = answer.read(), answer.status, answer.headers["content-type"]
    except urllib.error.HTTPError as error:
        text, status, kind = error.read(), error.code, error.headers["content-type"]
    return status, json.loads(text) if (kind or "").startswith("application/json") else text


@pytest.fixture(scope="module")
def admin(cluster: Cluster) -> str:
    return cluster.admin_token()


def subjects(cluster: Cluster, user: str, port: int) -> list[bytes]:
    with imaplib.IMAP4(cluster.host, port) as client:
        client.login(user, PASSWORD)
        if client.select()[1] == [b"0"]:
            return []
        found = client.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
        return [part[1].strip() for part in found if isinstance(part, tuple)]


def send(cluster: Cluster, port: int, subject: str, to: str = "bob") -> None:
    with smtplib.SMTP(cluster.host, port) as client:
        client.login("alice", PASSWORD)
        client.sendmail(f"alice@{DOMAIN}", [f"{to}@{DOMAIN}"], f"Subject: {subject}\r\n\r\nx\r\n".encode())


def answers(cluster: Cluster, port: int) -> bool:
    try:
        socket.create_connection((cluster.host, port), 5).close()
    except ConnectionRefusedError:
        return False
    return True


def test_mail_goes_in_at_any_door_and_out_at_any_other(cluster: Cluster) -> None:
    for number, door in enumerate(cluster.of("smtp")):
        send(cluster, door.ports["SUBMISSION"], f"by {number}")
    for door in cluster.of("imap"):
        assert subjects(cluster, "bob", door.ports["IMAP"]) == [b"Subject: by 0", b"Subject: by 1"]


@pytest.mark.parametrize(
    ("service", "needs"),
    [
        ("smtp", {"identity", "storage"}),
        ("imap", {"identity", "storage"}),
        ("identity", {"database", "storage"}),
        ("storage", {"database", "identity"}),
    ],
)
def test_health(cluster: Cluster, service: str, needs: set[str]) -> None:
    port = cluster.ports[REST[service]]
    health = until(lambda: found[1] if (found := cluster.health(port))[0] == 200 else None)
    assert (health["status"], health["live"], health["ready"]) == ("healthy", True, True)
    until(lambda: (cluster.health(port)[1] or {}).get("depends_on") == dict.fromkeys(needs, "ok"))
    assert health["uptime_seconds"] > 0
    if service == "smtp":
        assert health["controller_running"] is True
        assert health["emails_in_queue"] == 0


@pytest.mark.parametrize("service", REST)
def test_no_endpoint_answers_without_a_token_but_those_that_are_open(cluster: Cluster, service: str) -> None:
    port = cluster.ports[REST[service]]
    paths = ask(cluster, port, "GET", "/openapi.json")[1]["paths"]
    assert {"/api/health", "/api/stats", "/api/config", "/api/restart", "/metrics", "/token"} <= set(paths)
    for path, methods in paths.items():
        if path in OPEN:
            continue
        for method in methods:
            for token in ("", "x" * 40, cluster.env["HOMING_SERVICE_TOKEN"]):
                status, body = ask(cluster, port, method.upper(), path, {} if method != "get" else None, token)
                assert status == 401, (method, path, body)
                assert set(body) == {"detail"}
    assert ask(cluster, port, "GET", "/docs")[0] == 200


@pytest.mark.parametrize("service", ["identity", "storage"])
@pytest.mark.parametrize("name", ["identity/1", "storage/1", "settings/1", ""])
def test_a_port_wants_the_service_token(cluster: Cluster, admin: str, service: str, name: str) -> None:
    port = cluster.ports[REST[service]]
    tellings = set()
    for token in ("", admin, "x" * 40, cluster.env["HOMING_SERVICE_TOKEN"] + "x"):
        for path in ("/port/accounts", "/port/read", "/port/replace", "/port/nothing", "/port"):
            status, body = ask(cluster, port, "POST", path, {}, token, **{"Homing-Port": name})
            assert status == 401
            tellings.add(json.dumps(body))
    # Nothing is told of what is there, not even by telling two things apart.
    assert len(tellings) == 1


@pytest.mark.parametrize("service", ["smtp", "imap"])
def test_doors_have_no_port(cluster: Cluster, service: str) -> None:
    token = cluster.env["HOMING_SERVICE_TOKEN"]
    assert ask(cluster, cluster.ports[REST[service]], "POST", "/port/read", {}, token)[0] == 404


@pytest.mark.parametrize("service", REST)
def test_figures_say_of_which_service_they_are(cluster: Cluster, admin: str, service: str) -> None:
    text = ask(cluster, cluster.ports[REST[service]], "GET", "/metrics", token=admin)[1].decode()
    samples = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert samples
    assert all(f'service="{service}"' in line for line in samples)
    printed = [line for line in cluster.of(service)[0].output if line.startswith("{")]
    assert printed
    assert all(json.loads(line)["service"] == service for line in printed)


def test_stats(cluster: Cluster, admin: str) -> None:
    cluster.cli("send", f"alice@{DOMAIN}")
    kept = {"accounts", "total_emails", "total_size_bytes", "emails_today", "spool"}
    figures = {
        service: ask(cluster, cluster.ports[port], "GET", "/api/stats", token=admin)[1]
        for service, port in REST.items()
    }
    assert kept <= set(figures["smtp"])
    assert kept | {"requests_total", "port"} <= set(figures["storage"])
    assert figures["storage"]["port"]["calls"] > 0
    assert figures["identity"]["port"]["bugs"] == 0
    assert {"total_emails", "active_connections", "active_sessions"} <= set(figures["imap"])
    assert figures["imap"]["total_emails"] >= 1


@pytest.mark.slow
def test_a_setting_reaches_every_process_of_the_service(cluster: Cluster, admin: str) -> None:
    first, second = (member.ports["REST"] for member in cluster.of("smtp"))

    def workers(port: int) -> int:
        found = ask(cluster, port, "GET", "/api/config", token=admin)[1]["max_workers"]
        assert isinstance(found, int)
        return found

    assert ask(cluster, first, "PUT", "/api/config", {"max_workers": 7}, admin)[1]["max_workers"] == 7
    until(lambda: workers(second) == 7, REACH_SECONDS)
    assert "within 5 seconds" in cluster.cli("config", "set", "smtp.max_workers", "9").stdout
    until(lambda: workers(first) == workers(second) == 9, REACH_SECONDS)
    rows = {row["key"]: row for row in json.loads(cluster.cli("config", "--json").stdout)}
    assert (rows["smtp.max_workers"]["value"], rows["smtp.max_workers"]["origin"]) == ("9", "override")
    cluster.cli("config", "clear", "smtp.max_workers")
    until(lambda: workers(first) == workers(second) == 4, REACH_SECONDS)


@pytest.mark.parametrize(
    ("service", "key"), [("imap", "imap.message_max"), ("identity", "signin.plaintext"), ("storage", "log.level")]
)
def test_settings_of_a_service(cluster: Cluster, admin: str, service: str, key: str) -> None:
    port = cluster.ports[REST[service]]
    value = {"imap.message_max": "1048576", "signin.plaintext": "never", "log.level": "debug"}[key]
    status, body = ask(cluster, port, "PUT", "/api/config", {key: value}, admin)
    assert (status, body["waiting"]) == (200, [key])
    assert ask(cluster, port, "GET", "/api/config", token=admin)[1]["settings"][key] != value
    assert json.loads(cluster.cli("config", "--json", "--changed").stdout)
    assert ask(cluster, port, "PUT", "/api/config", {key: None}, admin)[0] == 200
    for wrong in ({"nonsense": 1}, {"smtp.max_workers": 3}, {key: "nonsense"}, {key: None}):
        assert ask(cluster, port, "PUT", "/api/config", wrong, admin)[0] == 422, wrong


def test_secrets_are_no_overrides(cluster: Cluster) -> None:
    told = cluster.cli("config", "set", "service.token", "y" * 20, check=False)
    assert told.returncode == 1
    assert "file or environment only" in told.stderr
    assert cluster.env["HOMING_SERVICE_TOKEN"] not in cluster.cli("config").stdout


@pytest.mark.slow
def test_a_restart_over_rest_begins_the_process_again(cluster: Cluster, admin: str) -> None:
    member = cluster.of("imap")[1]
    pid, port = member.pid, member.ports["IMAP_REST"]
    send(cluster, cluster.ports["SUBMISSION"], "before", "alice")
    client = imaplib.IMAP4(cluster.host, member.ports["IMAP"])
    client.login("alice", PASSWORD)
    assert ask(cluster, port, "POST", "/api/restart", token=cluster.token("alice", PASSWORD))[0] == 403
    assert ask(cluster, port, "POST", "/api/restart", token=admin)[1]["status"] == "restarting"
    assert b"BYE" in client.readline()
    client.shutdown()
    until(lambda: member.output.count("ready\n") == 2, 60.0, "the second life")
    assert (member.running, member.pid) == (True, pid)
    assert b"Subject: before" in subjects(cluster, "alice", member.ports["IMAP"])


def used(cluster: Cluster) -> dict[str, int | None]:
    return {user["address"]: user["used"] for user in json.loads(cluster.cli("user", "list", "--json").stdout)}


@pytest.mark.slow
def test_commands_while_it_runs(cluster: Cluster) -> None:
    cluster.cli("domain", "add", "example.org")
    cluster.cli("user", "add", "ann@example.org", "--password-stdin", stdin="a good secret\n")
    cluster.cli("alias", "add", "sales@example.org", "ann@example.org")
    assert used(cluster)["ann@example.org"] == 0
    assert "Delivered" in cluster.cli("send", "sales@example.org").stdout
    assert "already exists" in cluster.cli("domain", "add", "example.org", check=False).stderr
    client = imaplib.IMAP4(cluster.host, cluster.ports["IMAP"])
    client.login("ann@example.org", "a good secret")
    assert client.select()[1] == [b"1"]
    # A change made by a command ends the sessions of every door.
    cluster.cli("user", "passwd", "ann@example.org", "--password-stdin", stdin="another secret\n")
    client.sock.settimeout(60)
    assert b"BYE" in client.readline()
    client.shutdown()
    token = cluster.admin_token()
    octets = cluster.rest("GET", "/api/users/ann@example.org", token=token)[1]["used"]
    assert octets
    assert used(cluster)["ann@example.org"] == octets
    listed = cluster.rest("GET", "/api/users", token=token)[1]["users"]
    assert {user["email"]: user["used"] for user in listed} == used(cluster)
    kept = cluster.rest("GET", "/api/stats", token=cluster.admin_token())[1]["accounts"]
    cluster.cli("user", "remove", "ann@example.org", "--yes")
    until(
        lambda: cluster.rest("GET", "/api/stats", token=cluster.admin_token())[1]["accounts"] == kept - 1, what="purge"
    )
    assert "in use by process" in cluster.cli("check").stdout


@pytest.mark.slow
def test_commands_over_http(cluster: Cluster, tmp_path: Path) -> None:
    """From a machine that has neither the data folder nor the database."""
    before = cluster.cli_env
    cluster.cli_env = {
        **before,
        "HOMING_DATA": str(tmp_path / "elsewhere"),
        "IDENTITY_URL": f"http://{cluster.host}:{cluster.ports['IDENTITY']}",
    }
    try:
        cluster.cli("user", "add", f"far@{DOMAIN}", "--generate")
        told = cluster.cli("user", "list")
        assert "far@" in told.stdout
        assert "STORAGE_URL says where the storage service is" in told.stderr
        assert used(cluster)[f"far@{DOMAIN}"] is None
        cluster.cli_env["STORAGE_URL"] = f"http://{cluster.host}:{cluster.ports['STORAGE']}"
        assert used(cluster)[f"far@{DOMAIN}"] == 0
        cluster.cli("config", "set", "smtp.timeout", "12")
        assert json.loads(cluster.cli("config", "--json", "--changed").stdout)
        cluster.cli("config", "clear", "smtp.timeout")
        cluster.cli("user", "remove", f"far@{DOMAIN}", "--yes")
        assert re.search(r"ok +identity service", cluster.cli("check", check=False).stdout)
        cluster.cli_env["HOMING_SERVICE_TOKEN"] = "not the right secret".replace(" ", "-")
        assert cluster.cli("user", "list", check=False).returncode == 69
        assert re.search(r"wrong +identity service", cluster.cli("check", check=False).stdout)
        del cluster.cli_env["HOMING_SERVICE_TOKEN"]
        assert "HOMING_SERVICE_TOKEN" in cluster.cli("user", "list", check=False).stderr
    finally:
        cluster.cli_env = before


def test_logs_of_all_services(cluster: Cluster) -> None:
    services = {json.loads(line)["service"] for line in cluster.cli("logs").stdout.splitlines()}
    assert services == set(REST)
    assert {json.loads(line)["service"] for line in cluster.cli("logs", "imap").stdout.splitlines()} == {"imap"}


@pytest.mark.slow
def test_one_service_begins_again(cluster: Cluster) -> None:
    send(cluster, cluster.ports["SUBMISSION"], "kept", "alice")
    pids = [member.pid for member in cluster.members]
    begun = [member.output.count("ready\n") for member in cluster.members]
    assert "Restarted" in cluster.cli("restart", "storage").stdout
    assert [member.pid for member in cluster.members] == pids

    def again() -> list[str]:
        return [member.service for member, old in zip(cluster.members, begun, strict=True)
                if member.output.count("ready\n") > old]  # fmt: skip

    until(again, what="one has said so")
    assert again() == ["storage"]
    until(lambda: b"Subject: kept" in subjects(cluster, "alice", cluster.ports["IMAP"]), 60.0, "mail after the restart")


def test_the_first_administrator_is_one(cluster: Cluster) -> None:
    found = json.loads(cluster.cli("user", "list", "--json").stdout)
    assert [one["address"] for one in found if one["role"] == "admin"] == [f"admin@{DOMAIN}"]
    assert re.search(r"user@\S+\nPassword: +\S{16,}", (cluster.data / "first-run.txt").read_text())


def test_the_end(cluster: Cluster) -> None:
    """Doors finish what they have begun, with the keepers behind them; idle readers are told."""
    busy = smtplib.SMTP(cluster.host, cluster.ports["SMTP"])
    busy.ehlo()
    busy.mail("x@elsewhere.example")
    busy.rcpt(f"alice@{DOMAIN}")
    assert busy.docmd("DATA")[0] == 354
    busy.send(b"Subject: half\r\n\r\nthe first half\r\n")
    reader, door = cluster.of("imap")[1], cluster.of("smtp")[0]
    idle = imaplib.IMAP4(cluster.host, reader.ports["IMAP"])
    reader.signal(signal.SIGTERM)
    assert b"BYE" in idle.readline()
    idle.shutdown()
    door.signal(signal.SIGTERM)
    until(lambda: not answers(cluster, door.ports["SMTP"]), what="the listener is closed")
    assert door.running
    busy.send(b"the second half\r\n.\r\n")
    assert busy.getreply()[0] == 250
    busy.close()
    begun = time.monotonic()
    assert [member.ended() for member in (reader, door)] == [0, 0]
    assert cluster.stop() == 0
    # Else the drain would have ended it, after thirty seconds.
    assert time.monotonic() - begun < 25
    assert not list((cluster.data / "run").iterdir())
    # On SQLite the commands work on the folder of the stopped server too.
    assert "alice@" in cluster.cli("user", "list").stdout
    assert "no server runs" in cluster.cli("down", check=False).stderr
