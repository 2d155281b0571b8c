"""`homing serve` with several services: a child process each, one `ready`, one end."""

from __future__ import annotations

import asyncio
import contextlib
import imaplib
import os
import re
import signal
import smtplib
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from homing import supervisor as supervisor_module
from homing.settings import load_settings
from homing.supervisor import Supervisor
from tests.live import DOMAIN, SERVED, Live, Process, free_ports, until

pytestmark = pytest.mark.slow

ALL = tuple(SERVED)
Start = Callable[..., "Supervised"]


class Supervised(Process):
    """A supervisor and what its children have printed."""

    def __init__(self, services: tuple[str, ...], data: Path, env: dict[str, str]) -> None:
        names = [name for listeners in SERVED.values() for name in listeners]
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        whole = Live(data)
        ports = {f"HOMING_{name}_PORT": str(port) for name, port in self.ports.items()}
        super().__init__((sys.executable, "-m", "homing", "serve", *services), {**whole.env, **ports, **env})
        self.cli = whole.cli
        whole.cli_env = self.env
        self.admin_password = whole.admin_password

    def children(self) -> dict[str, int]:
        """Process ids by service, of those that run."""
        found: dict[str, int] = {}
        for pid in (int(entry) for entry in os.listdir("/proc") if entry.isdigit()):
            with contextlib.suppress(OSError):
                stat = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if int(stat[1]) == self.pid and stat[0] != "Z" and b"serve" in words:
                    found[words[words.index(b"serve") + 1].decode()] = pid
        return found

    def of(self, service: str) -> list[str]:
        """What a child has printed."""
        return [line.partition(" | ")[2] for line in self.output if line.startswith(f"{service:>8} | ")]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a supervisor of these services; what still runs is ended after the test."""
    made: list[Supervised] = []

    def go(*services: str, ready: bool = True, **env: str) -> Supervised:
        supervised = Supervised(services or ALL, tmp_path / "data", env)
        made.append(supervised)
        supervised.begin()
        if ready:
            supervised.wait()
        return supervised

    yield go
    for one in made:
        if one.running:
            one.stop(60.0)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[0] != "Z"
    except OSError:
        return False


def delivered(one: Supervised) -> bool:
    """Does a message get in and out?"""
    try:
        with smtplib.SMTP("127.0.0.1", one.ports["SMTP"], timeout=30) as client:
            client.sendmail("x@elsewhere.example", [f"admin@{DOMAIN}"], b"Subject: x\r\n\r\nx\r\n")
        with imaplib.IMAP4("127.0.0.1", one.ports["IMAP"], timeout=30) as reader:
            reader.login("admin", one.admin_password)
            return reader.select()[0] == "OK"
    except (smtplib.SMTPException, imaplib.IMAP4.error, OSError):
        return False


def test_a_life_of_four_children(start: Start) -> None:
    one = start()
    assert one.output.count("ready\n") == 1
    assert all(one.of(service).count("ready\n") == 1 for service in ALL)
    # No secret was given, and one was made: it is in no output and in no file.
    assert any("a secret was made" in line for line in one.output)
    until(lambda: delivered(one))
    before = one.children()
    assert set(before) == set(ALL)

    os.kill(before["imap"], signal.SIGKILL)
    until(lambda: any("ended with signal SIGKILL; it starts again in 0.5 s" in line for line in one.of("imap")))
    until(lambda: one.of("imap").count("ready\n") == 2, 60.0, "imap again")
    until(lambda: delivered(one))
    after = one.children()
    assert {name for name in ALL if after[name] != before[name]} == {"imap"}
    # One that ends of itself is wanted too.
    os.kill(after["smtp"], signal.SIGTERM)
    until(lambda: any("ended with status 0" in line for line in one.of("smtp")))
    until(lambda: one.of("smtp").count("ready\n") == 2, 60.0, "smtp again")
    assert one.output.count("ready\n") == 1

    assert "admin@" in one.cli("user", "list").stdout
    pids = one.children()
    # The keepers are there until the last door has ended.
    assert one.stop() == 0
    assert not any(alive(pid) for pid in pids.values())
    ends = [found[1] for line in one.output if (found := re.search(r'"event": "ended".*"service": "(\w+)"', line))]
    assert set(ends[-4:-2]) == {"smtp", "imap"}
    assert set(ends[-2:]) == {"identity", "storage"}


def test_down_and_restart(start: Start) -> None:
    one = start(HOMING_SERVICE_TOKEN="a-token-of-the-tests")
    pids = one.children()
    assert "Restarted" in one.cli("restart", "imap", "smtp").stdout
    assert one.children() == pids
    until(lambda: one.of("imap").count("ready\n") == 2, what="imap has said so")
    assert one.of("storage").count("ready\n") == 1
    assert "serving" in one.cli("logs", "imap").stdout
    assert "Ended" in one.cli("down").stdout
    assert one.process is not None
    assert one.ended() == 0
    assert not any(alive(pid) for pid in pids.values())


def test_children_end_with_a_supervisor_that_was_killed(start: Start) -> None:
    one = start("identity", "storage")
    pids = one.children()
    one.kill()
    until(lambda: not any(alive(pid) for pid in pids.values()), 60.0, "the children have ended")


def test_what_can_never_start_ends_all(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        one = start("identity", "storage", ready=False, HOMING_STORAGE_PORT=str(port))
        assert one.process is not None
        assert one.ended() == 1
    assert any(f"port {port} on 127.0.0.1 is in use" in line for line in one.output)
    assert any("ending all" in line for line in one.of("storage"))
    assert "ready\n" not in one.output
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", one.ports["IDENTITY"]), 5)


async def test_a_child_that_cannot_be_started_now_is_started_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    supervisor = Supervisor(load_settings({"HOMING_DATA": str(tmp_path)}).settings, ["imap"], {})
    tries = 0

    async def none(*_: object, **__: object) -> None:
        nonlocal tries
        tries += 1
        if tries == 3:
            await supervisor.end(restart=False)
        raise BlockingIOError(11, "no more processes")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", none)
    monkeypatch.setattr(supervisor_module, "FIRST_PAUSE", 0.01)
    assert await asyncio.wait_for(supervisor.run(), 10) == 0
    assert tries >= 3
    assert "imap | could not be started (no more processes); it starts again in 0.01 s" in capsys.readouterr().out


def test_doors_alone_want_a_secret(start: Start) -> None:
    one = start("smtp", "imap", ready=False)
    assert one.process is not None
    assert one.ended() == 78
    assert any("HOMING_SERVICE_TOKEN" in line for line in one.output)
