"""`homing up` as a process of its own, and commands while it runs."""

from __future__ import annotations

import imaplib
import json
import signal
import smtplib
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import httpx
import pytest
from click.testing import Result

from tests import forking

Homing = Callable[..., Result]


class Up(Protocol):
    """The fixture's; see conftest.py."""

    process: subprocess.Popen[str]
    folder: Path
    printed: list[str]

    def port(self, service: str) -> int: ...


Start = Callable[..., Up]


def logins(up: Up) -> dict[str, str]:
    """Address to password, from the first run's file."""
    words = [
        line.split(":", 1)[1].strip() for line in (up.folder / "first-run.txt").read_text().splitlines() if ": " in line
    ]
    return {words[0]: words[1], words[2]: words[3]}


def ended(up: Up, number: int = signal.SIGTERM) -> int:
    up.process.send_signal(number)
    return up.process.wait(timeout=30)


def eventually(holds: Callable[[], object]) -> None:
    until = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


def rest(up: Up, address: str, password: str) -> httpx.Client:
    base = f"http://127.0.0.1:{up.port('REST')}"
    asked = httpx.post(f"{base}/token", data={"username": address, "password": password}, timeout=60)
    token = asked.json()["access_token"]
    return httpx.Client(base_url=base, headers={"Authorization": f"Bearer {token}"}, timeout=60)


def test_a_first_run_and_a_later_one(start: Start) -> None:
    up = start(HOMING_DOMAIN="example.org")
    assert set(logins(up)) == {"admin@example.org", "user@example.org"}
    assert stat.S_IMODE((up.folder / "first-run.txt").stat().st_mode) == 0o600
    assert str(up.folder / "first-run.txt") in "\n".join(up.printed)
    for service in ("SMTP", "submission", "submissions", "IMAP", "IMAPS", "REST"):
        assert up.port(service) > 0
    health = httpx.get(f"http://127.0.0.1:{up.port('REST')}/api/health", timeout=60)
    assert (health.status_code, health.json()["status"]) == (200, "healthy")
    assert ended(up) == 0
    assert not (up.folder / "control.sock").exists()

    before = (up.folder / "first-run.txt").read_text()
    later = start(HOMING_DOMAIN="example.org")
    assert (up.folder / "first-run.txt").read_text() == before
    assert ended(later, signal.SIGINT) == 0


def test_every_listener_answers_and_mail_arrives(start: Start) -> None:
    up = start(HOMING_ADMIN_PASSWORD="the chosen one")
    found = logins(up)
    assert "the chosen one" not in found.values()
    trust = ssl.create_default_context(cafile=str(up.folder / "tls" / "cert.pem"))
    user = "user@localhost"
    with smtplib.SMTP("localhost", up.port("submission")) as client:
        client.starttls(context=trust)
        client.login(user, found[user])
        client.sendmail(user, [user], b"Subject: one\r\n\r\nbody\r\n")
    with smtplib.SMTP_SSL("localhost", up.port("submissions"), context=trust) as client:
        client.login("admin@localhost", "the chosen one")
        client.sendmail("admin@localhost", [user], b"Subject: two\r\n\r\nbody\r\n")
    with smtplib.SMTP("localhost", up.port("SMTP")) as client:
        client.sendmail("afar@example.com", [user], b"Subject: three\r\n\r\nbody\r\n")
    with imaplib.IMAP4("localhost", up.port("IMAP")) as plain:
        plain.starttls(trust)
        plain.login("user", found[user])
        assert plain.select()[1] == [b"3"]
    with imaplib.IMAP4_SSL("localhost", up.port("IMAPS"), ssl_context=trust) as safe:
        safe.login(user, found[user])
        safe.select()
        assert b"Subject: three" in safe.fetch("3", "(BODY[HEADER])")[1][0][1]
    assert ended(up) == 0


def used(homing: Homing) -> dict[str, int]:
    """Of those accounts that keep something."""
    return {one["address"]: one["used"] for one in json.loads(homing("user", "list", "--json").stdout) if one["used"]}


def test_commands_while_it_runs(start: Start, homing: Homing, tmp_path: Path) -> None:
    up = start()
    homing("domain", "add", "example.org")
    homing("user", "add", "ann@example.org", "--password-stdin", stdin="a good secret\n")
    (tmp_path / "people.csv").write_text("".join(f"user{n}@example.org,$2b$04${'x' * 53}\n" for n in range(450)))
    assert "Added 450 of 450" in homing("user", "import", "people.csv").stdout
    assert len(json.loads(homing("user", "list", "--domain", "example.org", "--json").stdout)) == 451
    assert "already exists" in homing("domain", "add", "example.org", status=1).stderr
    homing("alias", "add", "sales@example.org", "ann@example.org")
    assert "Delivered to sales@example.org" in homing("send", "sales@example.org", "--subject", "Hello").stdout
    assert "was refused: 550" in homing("send", "nobody@example.org", status=1).stderr

    client = imaplib.IMAP4("127.0.0.1", up.port("IMAP"))
    client.login("ann@example.org", "a good secret")
    assert client.select()[1] == [b"1"]
    size = int(client.fetch("1", "(RFC822.SIZE)")[1][0].split()[-1].rstrip(b")"))
    homing("user", "quota", "ann@example.org", str(4 * size))
    assert used(homing) == {"ann@example.org": size}
    (line,) = [line for line in homing("user", "list").stdout.splitlines() if line.lstrip().startswith("ann@")]
    assert "(25 %)" in line
    homing("user", "passwd", "ann@example.org", "--password-stdin", stdin="another secret\n")
    client.sock.settimeout(30)
    assert b"BYE" in client.readline()
    client.shutdown()
    homing("user", "remove", "ann@example.org", "--yes")
    homing("send", "user7@example.org")
    assert "of the running server" in homing("config").stdout.lower()
    assert "in use by process" in homing("check").stdout
    assert "in use by process" in homing("up", status=69).stderr
    assert ended(up) == 0
    assert len(json.loads(homing("user", "list", "--domain", "example.org", "--json").stdout)) == 450
    assert list(used(homing)) == ["user7@example.org"]


def test_live_settings(start: Start, homing: Homing) -> None:
    up = start(HOMING_ADMIN_PASSWORD="the chosen one")
    with rest(up, "admin@localhost", "the chosen one") as client:
        assert client.get("/api/config").json()["max_workers"] == 4
        assert "in force now" in homing("config", "set", "smtp.max_workers", "7").stdout
        eventually(lambda: client.get("/api/config").json()["max_workers"] == 7)
        assert client.put("/api/config", json={"enabled": False}).json()["enabled"] is False
        with pytest.raises(smtplib.SMTPConnectError, match="421"):
            smtplib.SMTP("127.0.0.1", up.port("SMTP"))
        imaplib.IMAP4("127.0.0.1", up.port("IMAP")).logout()
        assert "restarted" in homing("config", "set", "smtp.size_max", "1 MiB").stdout
        rows = {one["key"]: one for one in json.loads(homing("config", "--json").stdout)}
        assert (rows["smtp.enabled"]["value"], rows["smtp.enabled"]["origin"]) == ("false", "override")
        assert rows["smtp.size_max"]["value"] != str(1024 * 1024)
        index = client.get("/api/stats").json()["index"]
        assert (index["lag"], index["error"]) == (0, None)
        assert client.get("/metrics").text.startswith("# HELP")
    assert ended(up) == 0

    again = start()
    with rest(again, "admin@localhost", "the chosen one") as client:
        found = client.get("/api/config").json()
        assert (found["max_workers"], found["enabled"]) == (7, False)
    homing("config", "clear", "smtp.enabled")
    with smtplib.SMTP("127.0.0.1", again.port("SMTP")) as smtp:
        assert smtp.ehlo()[0] == 250
        assert smtp.esmtp_features["size"] == str(1024 * 1024)


def test_what_the_rest_api_keeps_closed(start: Start) -> None:
    up = start()
    found = logins(up)
    base = f"http://127.0.0.1:{up.port('REST')}"
    for path in ("/api/stats", "/api/config", "/metrics", "/api/users"):
        assert httpx.get(base + path, timeout=60).status_code == 401
    for path in ("/docs", "/openapi.json", "/api/health"):
        assert httpx.get(base + path, timeout=60).status_code == 200
    with rest(up, "user@localhost", found["user@localhost"]) as client:
        own = client.get("/api/stats").json()
        assert own["requests_total"] > 0
        assert "total_emails" not in own
        assert client.post("/api/restart").status_code == 403
        sent = client.post(
            "/send",
            json={"sender": "user@localhost", "recipient": "admin@localhost", "subject": "s", "body": "b"},
        )
        assert (sent.status_code, sent.json()["status"]) == (200, "queued")
    with rest(up, "admin@localhost", found["admin@localhost"]) as client:
        assert client.post("/api/restart").json()["status"] == "restarted"
    with smtplib.SMTP("127.0.0.1", up.port("SMTP")) as smtp:
        assert smtp.noop()[0] == 250


def test_a_listener_that_is_off(start: Start) -> None:
    up = start(HOMING_IMAP_PORT="", HOMING_REST_PORT="", HOMING_SUBMISSION_PORT="")
    table = "\n".join(up.printed)
    assert "IMAPS" in table
    assert "REST" not in table
    assert "submission " not in table
    assert ended(up) == 0


def test_a_port_in_use_is_one_sentence(start: Start, tmp_path: Path) -> None:
    up = start()
    again = tmp_path / "again"
    again.mkdir()
    environ = {"HOMING_DATA": str(again), "HOMING_SMTP_PORT": str(up.port("SMTP")), "HOMING_HOST": "127.0.0.1"}
    outcome = forking.run(
        (*forking.HOMING, "up"),
        env={**environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        timeout=60,
        cwd=again,
    )
    assert outcome.returncode == 1
    assert f"port {up.port('SMTP')} on 127.0.0.1 is in use by another program" in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert (again / "first-run.txt").exists()


def test_imports_stay_lean(tmp_path: Path) -> None:
    """What every command pays before it begins."""
    code = "import sys, homing.cli; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    ).stdout.split()
    assert not {"fastapi", "pydantic", "uvicorn", "aiosmtpd", "sqlite3", "cryptography"} & set(loaded)


def test_restart_logs_and_down(start: Start, homing: Homing) -> None:
    up = start()
    before = up.process.pid
    homing("config", "set", "smtp.size_max", "1 MiB")
    assert "Restarted" in homing("restart").stdout
    assert up.process.poll() is None
    assert up.process.pid == before
    homing("send", "--to", "user@localhost")
    homing("send", "user@localhost")
    rows = {one["key"]: one["value"] for one in json.loads(homing("config", "--json").stdout)}
    assert rows["smtp.size_max"] == str(1024 * 1024)
    assert "serving" in homing("logs").stdout
    assert "Ended" in homing("down").stdout
    assert up.process.wait(timeout=30) == 0


def test_a_killed_server_leaves_nothing_in_the_way(start: Start, homing: Homing) -> None:
    up = start()
    homing("send", "user@localhost")
    up.process.kill()
    up.process.wait(timeout=60)
    assert "user@localhost" in homing("user", "list").stdout
    again = start()
    client = imaplib.IMAP4("127.0.0.1", again.port("IMAP"))
    client.login("user", logins(again)["user@localhost"])
    assert client.select()[1] == [b"1"]
    # An idle session is told, and does not hold the drain up, which may take thirty seconds.
    again.process.send_signal(signal.SIGTERM)
    assert b"BYE" in client.readline()
    assert again.process.wait(timeout=20) == 0
    client.shutdown()
