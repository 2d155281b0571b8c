"""What a server has seen of the TLS of a destination in a day, over a restart, becomes one report to it (RFC 8460)."""

from __future__ import annotations

import email
import email.policy
import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from homing.adapters.notes import open_sqlite_notes
from identity.model import Resolution, Verdict
from runtime.clock import ManualClock, SystemClock
from runtime.dns import Resolver
from smtp.outbound.tlsrpt import DELAY_SECONDS, SPREAD_SECONDS, Reporter, TlsReports
from smtp.outbound.tlstally import DAY
from storage.model import Accepted, Delivery
from tests.live import mode
from tests.smtp.outbound.pki import Made, server
from tests.town import Desk, Town, letter, submit

HERE = "here.example"
ANN = f"ann@{HERE}"


class Outbox:
    """As much of storage and identity as a report needs."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []

    async def resolve(self, address: str) -> Resolution:
        return Resolution(Verdict.NOT_OURS)

    async def accept(self, deliveries: list[Delivery]) -> list[Accepted]:
        self.deliveries += deliveries
        return [Accepted((), ("s",)) for _ in deliveries]


async def report_of(data: Path, where: str) -> Delivery:
    """What the day after would bring."""
    clock = ManualClock(SystemClock().now() + DAY + DELAY_SECONDS + SPREAD_SECONDS)
    notes, outbox = await open_sqlite_notes(data, clock), Outbox()

    async def post(url: str, body: bytes, kind: str) -> None:
        raise AssertionError(url)

    try:
        reports = TlsReports(
            Reporter("Here", f"postmaster@{HERE}", HERE),
            resolver=Resolver([where], timeout=30.0),
            notes=notes,
            storage=outbox,  # type: ignore[arg-type]  # one call of the port
            identity=outbox,  # type: ignore[arg-type]  # one call of the port
            post=post,
            clock=clock,
        )
        assert await reports.send_due() == 1
        assert await reports.send_due() == 0
    finally:
        await notes.close()
    (delivery,) = outbox.deliveries
    return delivery


@pytest.mark.skipif(mode() == "mongo", reason="reads the notes of one data folder")
async def test_a_day_is_reported(tmp_path: Path) -> None:
    right, wrong = server("mx.there.example"), server("mx.there.example")
    with Town(ad=True) as town:
        peer = town.peer("there.example", tls=wrong.server(tmp_path))
        town.dns.add(
            f"_{town.port}._tcp.mx.there.example TLSA 3 1 1 {digest(right)}",
            '_smtp._tls.there.example TXT "v=TLSRPTv1; rua=mailto:tls@there.example"',
        )
        here = town.homing(HERE, tmp_path / "data", "ann")

        def attempt(number: int) -> dict[str, Any]:
            return Desk(here).attempts(trace, number)[-1]

        trace = submit(here, ANN, ["zoe@there.example"], letter(ANN, "zoe@there.example")).trace
        assert attempt(1)["status"] == "deferred"
        # Counts outlast the process.
        assert here.stop() == 0
        here.start()
        peer.tls = right.server(tmp_path)
        Desk(here).post("/api/queue/change", {"action": "retry", "domain": "there.example"})
        assert (attempt(2)["status"], attempt(2)["verified"]) == ("sent", "dane")
        assert here.stop() == 0
        delivery = await report_of(tmp_path / "data", town.dns.where)
    assert [one.address for one in delivery.remote] == ["tls@there.example"]
    assert isinstance(delivery.content, bytes)
    message = email.message_from_bytes(delivery.content, policy=email.policy.default)
    _, part = message.iter_parts()
    report = json.loads(gzip.decompress(part.get_content()))
    (policy,) = report["policies"]
    assert policy["policy"]["policy-type"] == "tlsa"
    assert policy["policy"]["policy-domain"] == "there.example"
    assert policy["summary"] == {"total-successful-session-count": 1, "total-failure-session-count": 1}
    (failure,) = policy["failure-details"]
    assert failure["receiving-mx-hostname"] == "mx.there.example"
    assert failure["receiving-ip"] == peer.address
    assert failure["result-type"] == "validation-failure"


def digest(made: Made) -> str:
    """# RFC 6698 §2.1: SHA-256 of its key"""
    return hashlib.sha256(made.spki).hexdigest()
