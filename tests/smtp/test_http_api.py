"""The REST face, on a running service."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import pytest

from identity.model import Principal, Role
from runtime.clock import SystemClock
from runtime.listener import BindError
from runtime.rest import Guard, RequestCounters, make_app
from smtp.http_api import router
from smtp.policy.limits import Limited
from smtp.sending import NotSent, Sender
from storage.port import Unavailable
from tests.smtp.conftest import Running, Start

BODY = {"sender": "alice@example.org", "recipient": "bob@example.org", "subject": "Grüße", "body": "hello\n.\nend"}


@dataclass
class Rest:
    http: httpx.AsyncClient
    running: Running
    saved: dict[str, str] = field(default_factory=dict)
    bugs: list[Exception] = field(default_factory=list)
    healthy: bool = True

    async def call(self, method: str, path: str, token: str | None = "alice", **given: object) -> httpx.Response:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return await self.http.request(method, path, headers=headers, **given)  # type: ignore[arg-type]  # json and the like


@asynccontextmanager
async def serving(running: Running) -> AsyncIterator[Rest]:
    async def verify(token: str) -> Principal | None:
        return running.identity.principal(f"{token}@example.org", "token:1") if token in ("alice", "root") else None

    counters = RequestCounters()
    one = Rest(httpx.AsyncClient(timeout=60), running)
    guard: Guard[Principal] = Guard(verify, is_admin=lambda caller: caller.role is Role.ADMIN)

    async def save(overrides: Mapping[str, str]) -> None:
        one.saved.update(overrides)

    app = make_app(title="t", version="0", counters=counters, problems={}, on_bug=one.bugs.append)
    service = running.service
    app.include_router(
        router(
            service,
            Sender(service.handler, service.figures, "mx.example.org", "example.org"),
            guard,
            counters=counters,
            clock=SystemClock(),
            save=save,
            healthy=lambda: one.healthy,
        )
    )
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 40000))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as one.http:
        yield one


@pytest.fixture
async def rest(running: Running) -> AsyncIterator[Rest]:
    async with serving(running) as one:
        yield one


async def test_send(rest: Rest) -> None:
    answer = await rest.call("POST", "/send", json=BODY)
    assert answer.status_code == 200
    told = answer.json()
    assert set(told) == {"status", "message", "email_id"}
    assert told["status"] == "queued"
    delivery, blob = rest.running.storage.delivered[0]
    assert delivery.trace == told["email_id"].replace("-", "")
    assert delivery.op.actor == "Aalice"
    assert [one.account for one in delivery.local] == ["Abob"]
    assert blob.startswith(b"Received: from unknown ([127.0.0.1])\r\n\tby mx.example.org with HTTP")
    assert f"Message-ID: <{told['email_id']}@example.org>".encode() in blob
    assert b"\r\n\r\nhello\r\n.\r\nend\r\n" in blob


async def test_send_elsewhere_waits_in_the_spool(rest: Rest) -> None:
    answer = await rest.call("POST", "/send", json={**BODY, "recipient": "x@elsewhere.example"})
    assert answer.status_code == 200
    assert [one.address for one in rest.running.storage.delivered[0][0].remote] == ["x@elsewhere.example"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"sender": "bob@example.org"}, 403),
        ({"recipient": "nobody@example.org"}, 404),
        ({"recipient": "not an address"}, 422),
        ({"sender": "alice@example.org>\r\nBcc: x"}, 422),
        ({"recipient": ""}, 422),
        ({"subject": "x" * 5000}, 422),
    ],
)
async def test_send_refused(rest: Rest, change: dict[str, str], status: int) -> None:
    answer = await rest.call("POST", "/send", json={**BODY, **change})
    assert answer.status_code == status
    assert answer.json()["detail"]
    assert rest.running.storage.delivered == []


async def test_an_account_that_sends_too_much_is_told_when(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    async def send(*_: object, **__: object) -> str:
        raise NotSent(Limited(451, "4.7.1", "Too many messages of your account", wait=4809.2))

    monkeypatch.setattr(Sender, "send", send)
    answer = await rest.call("POST", "/send", json=BODY)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "4810")


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\0", "\x85", "\u2028"])
async def test_nothing_adds_a_header(rest: Rest, end: str) -> None:
    answer = await rest.call("POST", "/send", json={**BODY, "subject": f"x{end}Bcc: evil@example.org"})
    assert answer.status_code == 422
    assert "perhaps a line end" in answer.json()["detail"]
    assert rest.running.storage.delivered == []


async def test_an_administrator_sends_as_anybody(rest: Rest) -> None:
    assert (await rest.call("POST", "/send", "root", json=BODY)).status_code == 200


async def test_big_body(rest: Rest) -> None:
    assert (await rest.call("POST", "/send", json={**BODY, "body": "line of text\n" * 100_000})).status_code == 200
    assert rest.running.storage.delivered[0][1].count(b"line of text\r\n") == 100_000


async def test_storage_away(rest: Rest) -> None:
    rest.running.storage.trouble = Unavailable("away")
    answer = await rest.call("POST", "/send", json=BODY)
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]


async def test_health(rest: Rest) -> None:
    answer = await rest.call("GET", "/api/health", None)
    assert answer.status_code == 200
    told = answer.json()
    assert {"status", "controller_running", "uptime_seconds", "emails_in_queue"} <= set(told)
    assert (told["status"], told["controller_running"], told["emails_in_queue"]) == ("healthy", True, 0)
    rest.healthy = False
    assert (await rest.call("GET", "/api/health", None)).status_code == 503


async def test_health_with_every_port_off_on_purpose(start: Start) -> None:
    async with start(port=None, submission_port=None, submissions_port=None) as none, serving(none) as rest:
        answer = await rest.call("GET", "/api/health", None)
    assert (answer.status_code, answer.json()["controller_running"]) == (200, False)


async def test_health_without_a_listener_that_was_asked_for(rest: Rest) -> None:
    service = rest.running.service
    await service._listening.pop().close()
    assert (await rest.call("GET", "/api/health", None)).status_code == 503


async def test_stats(rest: Rest) -> None:
    assert (await rest.call("GET", "/api/stats", None)).status_code == 401
    await rest.call("POST", "/send", json=BODY)
    client = await rest.running.connect()
    await client.hello()
    await client.envelope()
    await client.data(b".\r\n")
    told = (await rest.call("GET", "/api/stats")).json()
    assert told["emails_sent"] == 1
    assert told["emails_received"] == 1
    assert told["requests_total"] == 2
    assert told["requests_successful"] == 1
    assert told["requests_failed"] == 1
    assert told["last_request_time"] > 1_700_000_000
    assert told["emails_in_queue"] == 0
    assert told["uptime_seconds"] >= 0


async def test_config(rest: Rest) -> None:
    assert (await rest.call("GET", "/api/config")).status_code == 403
    told = (await rest.call("GET", "/api/config", "root")).json()
    assert told == {"max_workers": 4, "pool_size": 10, "timeout": 30.0, "enabled": True}
    assert (await rest.call("PUT", "/api/config", json={"enabled": False})).status_code == 403
    told = (await rest.call("PUT", "/api/config", "root", json={"enabled": False, "max_workers": 2})).json()
    assert told == {"max_workers": 2, "pool_size": 10, "timeout": 30.0, "enabled": False}
    assert rest.saved == {"smtp.enabled": "false", "smtp.max_workers": "2"}
    client = await rest.running.connect()
    assert (await client.reply()).startswith("421 4.3.2")
    # Health speaks of what was asked for, and says which that is.
    health = await rest.call("GET", "/api/health", None)
    assert (health.status_code, health.json()["controller_running"]) == (200, False)


@pytest.mark.parametrize(
    "change",
    [{"max_workers": 0}, {"max_workers": 1000}, {"timeout": 0}, {"pool_size": "many"}, {"unknown": 1}]
    + [{name: value} for name in ("max_workers", "pool_size", "timeout") for value in (True, False)],
)
async def test_config_refused(rest: Rest, change: dict[str, object]) -> None:
    assert (await rest.call("PUT", "/api/config", "root", json=change)).status_code == 422
    assert rest.saved == {}


async def test_restart(rest: Rest) -> None:
    assert (await rest.call("POST", "/api/restart")).status_code == 403
    answer = await rest.call("POST", "/api/restart", "root")
    assert answer.json()["status"] == "restarted"
    client = await rest.running.connect()
    assert (await client.reply()).startswith("220")


async def test_restart_on_a_port_that_another_has_taken(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(_host: str, port: int, *, what: str) -> list[socket.socket]:
        raise BindError(f"{what}: port {port} is in use by another program.")

    with monkeypatch.context() as patched:
        patched.setattr("smtp.service.bind", taken)
        answer = await rest.call("POST", "/api/restart", "root")
        assert answer.status_code == 503
        assert "in use by another program" in answer.json()["detail"]
        assert (await rest.call("GET", "/api/health", None)).status_code == 503
    # The next try serves again, on the same ports.
    assert (await rest.call("POST", "/api/restart", "root")).status_code == 200
    assert (await rest.call("GET", "/api/health", None)).status_code == 200
    assert rest.bugs == []
