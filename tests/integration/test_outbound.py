"""Mail leaves: to a server that the DNS names, again after a refusal for now, back to its sender, and after a kill."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope, Session

from tests.dnsserver import DnsServer
from tests.live import DOMAIN, PASSWORD, Live, embedded_only, free_ports, running, until

SECONDS = 60.0


class Sink:
    """Takes mail: grey@ at the second try, nobody@ never."""

    def __init__(self) -> None:
        self.got: list[tuple[str, str, bytes]] = []
        self.tried: Counter[str] = Counter()

    async def handle_RCPT(
        self, _server: Any, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        self.tried[address] += 1
        name = address.partition("@")[0]
        if name == "nobody":
            return "550 5.1.1 no such user"
        if name == "grey" and self.tried[address] == 1:
            return "451 4.7.1 greylisted, come again"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 ok"

    async def handle_DATA(self, _server: Any, _session: Session, envelope: Envelope) -> str:
        content = envelope.content
        assert isinstance(content, bytes)
        self.got += [(envelope.mail_from or "", address, content) for address in envelope.rcpt_tos]
        return "250 2.0.0 taken"

    def count(self, address: str) -> int:
        return sum(1 for _, to, _ in self.got if to == address)


@contextmanager
def sink() -> Iterator[tuple[Sink, int]]:
    (port,) = free_ports(1)
    handler = Sink()
    controller = Controller(handler, hostname="127.0.0.2", port=port, server_hostname="mx.sink.example")
    controller.start()
    try:
        yield handler, port
    finally:
        controller.stop()


@pytest.fixture
def more() -> dict[str, str]:
    """Settings of one test alone."""
    return {}


@pytest.fixture
def world(tmp_path: Path, more: dict[str, str]) -> Iterator[tuple[Live, Sink]]:
    with DnsServer() as dns, sink() as (taken, port):
        dns.add("sink.example. MX 10 mx.sink.example.", "mx.sink.example. A 127.0.0.2")
        settings = {
            "HOMING_DNS_SERVERS": dns.where,
            "HOMING_OUTBOUND_PORT": str(port),
            "HOMING_OUTBOUND_RETRY": "1s",
            **more,
        }
        with running(tmp_path / "data", "ann", **settings) as live:
            yield live, taken


def send(live: Live, token: str, to: str) -> None:
    body = {"sender": f"ann@{DOMAIN}", "recipient": to, "subject": "hello", "body": "hi"}
    status, told = live.rest("POST", "/send", body, token)
    assert status == 200, told


def waiting(live: Live, admin: str) -> int:
    status, told = live.rest("GET", "/api/queue", token=admin)
    assert status == 200, told
    return len(told["items"])


def stories(live: Live, text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(live.cli("trace", text, "--json", "--limit", "500").stdout)
    return found


def kinds(story: dict[str, Any]) -> list[str]:
    return [event["kind"] for event in story["events"]]


def test_mail_leaves_and_comes_back(world: tuple[Live, Sink]) -> None:
    live, taken = world
    token, admin = live.token(f"ann@{DOMAIN}", PASSWORD), live.admin_token()
    for to in ("bob@sink.example", "grey@sink.example", "nobody@sink.example"):
        send(live, token, to)
    until(lambda: waiting(live, admin) == 0, SECONDS, "the queue is empty")
    assert taken.count("bob@sink.example") == taken.count("grey@sink.example") == 1
    assert taken.tried["grey@sink.example"] == 2
    (sender, _, content) = taken.got[0]
    assert sender == f"ann@{DOMAIN}"
    assert b"Received: " in content
    (grey,) = stories(live, "grey@sink.example")
    assert kinds(grey).count("attempt") == 2
    (failed,) = stories(live, "nobody@sink.example")
    assert "dsn" in kinds(failed)
    status, stats = live.rest("GET", "/api/stats", token=admin)
    assert status == 200
    assert (stats["outbound"]["sent"], stats["outbound"]["failed"], stats["outbound"]["notices"]) == (2, 1, 1)


@pytest.mark.crash
@embedded_only("kills the one process")
@pytest.mark.parametrize("more", [{"HOMING_OUTBOUND_LEASE": "5"}], ids=["short lease"])
def test_a_kill_loses_nothing_and_is_told(world: tuple[Live, Sink]) -> None:
    live, taken = world
    token = live.token(f"ann@{DOMAIN}", PASSWORD)
    number = 60
    begun = threading.Event()

    def kill() -> None:
        until(lambda: len(taken.got) >= number // 4, SECONDS, "mail leaves")
        begun.set()

    killer = threading.Thread(target=kill)
    killer.start()
    accepted = 0
    for each in range(number):
        send(live, token, f"u{each}@sink.example")
        accepted += 1
        if begun.is_set():
            break
    killer.join()
    live.kill()
    live.start()
    admin = live.admin_token()
    until(lambda: waiting(live, admin) == 0, SECONDS, "the queue is empty")
    counts = Counter(to for _, to, _ in taken.got)
    assert set(counts) == {f"u{each}@sink.example" for each in range(accepted)}
    for address, times in counts.items():
        if times > 1:
            assert any("unsettled" in kinds(story) for story in stories(live, address)), address
