"""Mail submitted in advance (RFC 4865) comes to nobody before its time, and then to a mailbox here as ever."""

from __future__ import annotations

import smtplib
import time
from collections.abc import Iterator

import pytest

from tests.live import DOMAIN, PASSWORD, Live, running, until

HELD = 3


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    # No name is asked for: what is held here is for our own domain.
    on = {"HOMING_OUTBOUND_ENABLED": "true", "HOMING_DNS_SERVERS": "127.0.0.1:9"}
    with running(tmp_path_factory.mktemp("held") / "data", "alice", "bob", **on) as server:
        yield server


def stats(live: Live) -> tuple[int, int]:
    """(messages in mailboxes, messages in the spool)."""
    status, body = live.rest("GET", "/api/stats", token=live.admin_token())
    assert status == 200
    return int(body["total_emails"]), int(body["spool"])


def test_it_waits_and_comes(live: Live) -> None:
    with smtplib.SMTP(live.host, live.ports["SUBMISSION"], timeout=60) as client:
        client.ehlo("client.example")
        assert client.has_extn("futurerelease")
        client.login(f"alice@{DOMAIN}", PASSWORD)
        begun = time.time()
        assert client.docmd(f"MAIL FROM:<alice@{DOMAIN}> HOLDFOR={HELD}")[0] == 250
        assert client.docmd(f"RCPT TO:<bob@{DOMAIN}>")[0] == 250
        code, _ = client.data(b"Subject: later\r\n\r\nbody\r\n")
        assert code == 250
    assert stats(live) == (0, 1)
    until(lambda: stats(live) == (1, 0), seconds=HELD + 20, what="bob has it", pause=0.1)
    assert time.time() >= int(begun) + HELD
