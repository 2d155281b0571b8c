"""Mail leaves through an account at another provider: the same octets; a refusal to sign in explains itself."""

from __future__ import annotations

import json
import smtplib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.connectors.certs import make
from tests.connectors.servers import SmtpServer, TokenServer
from tests.live import DOMAIN, PASSWORD, Live, running, until

SECONDS = 60.0
TEXT = (
    f"From: ann@{DOMAIN}\r\nTo: bob@far.example\r\nSubject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\n"
    "Message-ID: <relay-1@test.example>\r\nDate: Fri, 21 Nov 2025 10:00:00 +0000\r\n\r\n"
    ".a dot\r\n..two\r\n.\r\n\ttabs  and trailing blanks  \r\nGrüße\r\n"
).encode()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[Live, SmtpServer, TokenServer]]:
    certs = make(tmp_path / "certs", ["127.0.0.1"])
    with SmtpServer(certs.context()) as provider, TokenServer(certs.context()) as tokens:
        tokens.state.on_token = provider.tokens.add
        common = {"from_email": "alice@test.example", "host": "127.0.0.1", "port": provider.port}
        common |= {"ca_file": str(certs.ca), "timeout": 10}
        connectors: dict[str, dict[str, Any]] = {
            "home": common | {"user": "alice@test.example", "secret": "correct horse", "sender": "account"},
            "gmail": common
            | {"provider": "gmail", "user": "client-1", "secret": "client-secret-1", "credential": "refresh-1"}
            | {"token_url": tokens.token_url},
        }
        settings = {
            "HOMING_CONNECTORS": json.dumps(connectors),
            "HOMING_OUTBOUND_ROUTES": "*=connector:home,far.example=connector:gmail",
            # Nobody answers there: a relay needs no records of the destination.
            "HOMING_DNS_SERVERS": "127.0.0.1:9",
            "HOMING_OUTBOUND_RETRY": "1s",
            "HOMING_OUTBOUND_DOWN_PAUSE": "1s",
        }
        with running(tmp_path / "data", "ann", **settings) as live:
            yield live, provider, tokens


def submit(live: Live, *to: str, text: bytes = TEXT) -> None:
    with smtplib.SMTP(live.host, live.ports["SUBMISSION"], timeout=60) as client:
        client.login(f"ann@{DOMAIN}", PASSWORD)
        client.sendmail(f"ann@{DOMAIN}", to, text, ["BODY=8BITMIME"])


def queued(live: Live, token: str) -> list[dict[str, Any]]:
    status, told = live.rest("GET", "/api/queue", token=token)
    assert status == 200, told
    items: list[dict[str, Any]] = told["items"]
    return items


def test_the_same_octets_by_each_connector(world: tuple[Live, SmtpServer, TokenServer]) -> None:
    live, provider, tokens = world
    admin = live.admin_token()
    long = TEXT + b"0123456789abcdef" * 4 * 100 + b"\r\n" + b".line\r\n" * 100_000
    submit(live, "bob@far.example", "eve@far.example")
    submit(live, "carol@elsewhere.example", text=long)
    until(lambda: len(provider.mails) == 2 and not queued(live, admin), SECONDS, "both are sent")
    short, other = sorted(provider.mails, key=lambda mail: len(mail.raw))
    assert short.raw.endswith(b"\r\n" + TEXT)
    assert other.raw.endswith(b"\r\n" + long)
    assert short.raw.startswith(b"DKIM-Signature:") or short.raw.startswith(b"Received:")
    assert (short.sender, sorted(short.recipients)) == (
        f"ann@{DOMAIN}",
        ["bob@far.example", "eve@far.example"],
    )
    assert other.sender == "alice@test.example", "this provider takes its account alone as sender"
    assert len(tokens.state.given) == 1
    (story,) = json.loads(live.cli("trace", "carol@elsewhere.example", "--json").stdout)
    (attempt,) = (event for event in story["events"] if event["kind"] == "attempt")
    assert f"127.0.0.1:{provider.port}" in json.dumps(attempt)


def test_a_refused_sign_in_is_told_in_the_queue(world: tuple[Live, SmtpServer, TokenServer]) -> None:
    live, provider, tokens = world
    admin = live.admin_token()
    tokens.state.refresh_tokens.clear()
    provider.users = {}
    submit(live, "bob@far.example")
    submit(live, "carol@elsewhere.example")
    found = until(
        lambda: (items := queued(live, admin)) and all(one["last"] for one in items) and items, SECONDS, "tried"
    )
    last = {one["domain"]: one["last"] for one in found}
    assert "The connector gmail cannot sign in: Google gave no access token" in last["far.example"]
    assert "The connector home cannot sign in: 127.0.0.1 refused the sign-in" in last["elsewhere.example"]
    id = next(one["id"] for one in found if one["domain"] == "elsewhere.example")
    assert "cannot sign in" in " ".join(live.cli("queue", "show", id).stdout.split())
    wrong = live.cli("queue", "route", "connector:gmial", id, check=False)
    assert wrong.returncode != 0
    assert "there is no connector 'gmial': there are gmail, home" in wrong.stderr
    status, told = live.rest("POST", f"/api/queue/{id}/route", {"route": "connector:gmial"}, admin)
    assert (status, "there is no connector 'gmial'" in str(told)) == (422, True)
    live.cli("queue", "route", "connector:home", "--domain", "far.example")
    provider.users = {"alice@test.example": "correct horse"}
    until(lambda: len(provider.mails) == 2 and not queued(live, admin), SECONDS, "sent after all")
    shown = "".join(live.output) + live.cli("config").stdout
    assert not any(secret in shown for secret in ("correct horse", "client-secret-1", "refresh-1"))
