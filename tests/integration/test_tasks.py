"""The asynchronous sending API of a running server: accepted, sent, asked about, cancelled; and who may see what."""

from __future__ import annotations

import imaplib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import forking
from tests.live import DOMAIN, PASSWORD, Live, Process, mode, running, until

RECEIVED = "/api/v1/email/received"
RESULT = "/api/v1/email/result"
SECONDS = 60.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    data: Path = tmp_path_factory.mktemp("tasks") / "data"
    with running(data, "alice", "bob", HOMING_QUEUE_WAITING_MAX="40", HOMING_QUEUE_RETRY="0.05s") as live:
        yield live


def message(**how: Any) -> dict[str, Any]:
    return {"to": f"bob@{DOMAIN}", "subject": "Hi", "body": "Hello {username}", "username": "Bob", **how}


def ask(server: Live, token: str, body: Any, key: str = "") -> tuple[int, Any, Any]:
    """(status, answer, headers) of a POST with a key."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    if key:
        headers["Idempotency-Key"] = key
    url = f"http://{server.host}:{server.rest_port(RECEIVED)}{RECEIVED}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read()), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read()), error.headers


def put(server: Live, token: str, **how: Any) -> str:
    status, answer = server.rest("POST", RECEIVED, message(**how), token)
    assert (status, answer["status"], set(answer)) == (200, "queued", {"task_id", "status"}), answer
    return str(answer["task_id"])


def result(server: Live, token: str, id: str) -> tuple[int, Any]:
    return server.rest("GET", f"{RESULT}?task_id={id}", token=token)


def ended(server: Live, token: str, id: str) -> Any:
    def over() -> Any:
        status, answer = result(server, token, id)
        assert status == 200, answer
        if answer["status"] == "pending":
            assert set(answer) == {"status", "to"}
            return None
        return answer

    return until(over, SECONDS)


def found(server: Live, name: str, subject: str) -> list[bytes]:
    """The messages with this subject in an INBOX."""
    with imaplib.IMAP4(server.host, server.ports["IMAP"]) as imap:
        imap.login(name, PASSWORD)
        imap.select("INBOX", readonly=True)
        _, (numbers,) = imap.search(None, "SUBJECT", f'"{subject}"')
        return [imap.fetch(number.decode(), "(BODY.PEEK[])")[1][0][1] for number in numbers.split()]  # type: ignore[index]


def test_a_task_becomes_mail(server: Live) -> None:
    alice = server.token(f"alice@{DOMAIN}", PASSWORD)
    id = put(server, alice, subject="task one: ü", body="Hello {username}, {x} {{username}} {username}!\n.\n")
    assert ended(server, alice, id) == {"status": "success", "to": f"bob@{DOMAIN}", "attempts": 1}
    (text,) = until(lambda: found(server, "bob", "task one"), SECONDS)
    assert b"Hello Bob, {x} {Bob} Bob!\r\n.\r\n" in text
    assert f"From: alice@{DOMAIN}\r\n".encode() in text
    assert b"\r\nReceived: from unknown" in text
    assert text.count(b"\r\nMessage-ID:") == 1
    assert f"Return-Path: <alice@{DOMAIN}>".encode() in text


def test_for_other_domains_it_becomes_mail_of_the_account(server: Live) -> None:
    alice = server.token(f"alice@{DOMAIN}", PASSWORD)
    id = put(server, alice, to="x@far.example", subject="abroad")
    assert ended(server, alice, id) == {"status": "success", "to": "x@far.example", "attempts": 1}
    status, waiting = server.rest("GET", "/api/queue", token=server.admin_token())
    assert status == 200, waiting
    (item,) = [one for one in waiting["items"] if "x@far.example" in str(one)]
    assert item["sender"] == f"alice@{DOMAIN}"
    assert "far.example" in server.cli("queue", "list").stdout


def test_nobody_here_is_a_failure_at_once(server: Live) -> None:
    alice = server.token(f"alice@{DOMAIN}", PASSWORD)
    answer = ended(server, alice, put(server, alice, to=f"nobody@{DOMAIN}"))
    assert answer.pop("reason")
    assert answer == {"status": "failed", "to": f"nobody@{DOMAIN}", "attempts": 1}
    told = server.cli("trace", f"nobody@{DOMAIN}").stdout
    assert f"Not delivered: the message did not get to nobody@{DOMAIN}." in told
    assert "Waiting" not in told


def test_each_account_sees_its_own(server: Live) -> None:
    alice, bob = (server.token(f"{name}@{DOMAIN}", PASSWORD) for name in ("alice", "bob"))
    id = put(server, alice)
    for method, path in (("GET", RESULT), ("DELETE", RECEIVED)):
        status, answer = server.rest(method, f"{path}?task_id={id}", token=bob)
        assert (status, set(answer)) == (404, {"detail"})
    assert result(server, server.admin_token(), id)[0] == 200
    assert result(server, alice, "nothing")[0] == 404
    assert server.rest("GET", RESULT, token=alice)[0] == 422
    assert server.rest("GET", f"{RESULT}?task_id={id}")[0] == 401
    assert server.rest("POST", RECEIVED, message())[0] == 401
    assert server.rest("POST", RECEIVED, message(), "wrong")[0] == 401
    ended(server, alice, id)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"to": "bob@x.example\r\nBcc: eve@x.example"}, 422),
        ({"to": "bob@x.example, eve@x.example"}, 422),
        ({"to": ""}, 422),
        ({"to": "bob"}, 422),
        ({"to": None}, 422),
        ({"subject": "x\r\nBcc: eve@x.example"}, 422),
        ({"subject": "x\u2028y"}, 422),
        ({"subject": "x" * 999}, 422),
        ({"username": "x\nBcc: eve@x.example"}, 422),
        ({"username": "x" * 257}, 422),
        ({"body": "x\0y"}, 422),
        ({"body": "x" * (128 * 1024 + 1)}, 422),
        ({"body": "{username}" * 12_000, "username": "x" * 256}, 413),
        ({"body": "\u00e4" * 128 * 1024}, 413),
    ],
)  # fmt: skip
def test_what_is_refused(server: Live, change: dict[str, Any], status: int) -> None:
    alice = server.token(f"alice@{DOMAIN}", PASSWORD)
    told, answer = server.rest("POST", RECEIVED, message(**change), alice)
    assert (told, set(answer)) == (status, {"detail"}), answer
    assert "eve@x.example" not in str(answer)


def test_a_key_names_one_task(server: Live) -> None:
    alice, bob = (server.token(f"{name}@{DOMAIN}", PASSWORD) for name in ("alice", "bob"))
    first = ask(server, alice, message(subject="keyed"), "order-1")
    assert first[0] == 200
    assert ask(server, alice, message(subject="keyed"), "order-1")[:2] == first[:2]
    assert ask(server, bob, message(subject="keyed"), "order-1")[1] != first[1]
    status, answer, _ = ask(server, alice, message(subject="another"), "order-1")
    assert (status, "Idempotency-Key" in answer["detail"]) == (422, True)
    ended(server, alice, first[1]["task_id"])
    assert ask(server, alice, message(subject="keyed"), "order-1")[:2] == first[:2]
    assert ask(server, alice, message(), "k" * 256)[0] == 422
    # A script whose variable is not set: all its messages would be one.
    assert ask(server, alice, message(), " ")[0] == 422
    until(lambda: len(found(server, "bob", "keyed")) == 2, SECONDS)


def test_it_is_documented(server: Live) -> None:
    status, api = server.rest("GET", "/openapi.json")
    assert status == 200
    assert {"post", "delete"} <= set(api["paths"][RECEIVED])
    assert "get" in api["paths"][RESULT]
    for name in ("Received", "Result"):
        assert api["components"]["schemas"][name]["examples"]
    assert {"401", "413", "422", "429", "503"} <= set(api["paths"][RECEIVED]["post"]["responses"])


def test_all_that_needs_a_token_says_how_it_answers(server: Live) -> None:
    _, api = server.rest("GET", "/openapi.json")
    guarded = {
        f"{method.upper()} {path}": route
        for path, methods in api["paths"].items()
        for method, route in methods.items()
        if "security" in route
    }
    assert {"POST /send", "PUT /api/config", "GET /api/queue/{id}"} <= guarded.keys()
    for name, route in guarded.items():
        assert {"401", "403", "503"} <= route["responses"].keys(), name
        assert "404" in route["responses"] or "{id}" not in name, name
        # not the function's name, which the framework takes where there is none
        assert route["summary"].lower() not in ("send", "config", "change", "one", "queue", "look", "found"), name


def test_figures(server: Live) -> None:
    admin = server.admin_token()
    alice = server.token(f"alice@{DOMAIN}", PASSWORD)
    ended(server, alice, put(server, alice))
    status, stats = server.rest("GET", "/api/stats", token=admin)
    assert status == 200
    assert stats["tasks"]["succeeded"] >= 1
    assert set(stats["tasks"]) == {"waiting", "running", "succeeded", "failed", "retried", "recovered"}
    url = f"http://{server.host}:{server.rest_port('/metrics')}/metrics"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {admin}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        text = answer.read().decode()
    for name in ("homing_tasks_attempts_total", "homing_tasks_waiting", "homing_tasks_running"):
        assert f"\n{name}" in text


def test_without_workers_tasks_wait_and_can_be_cancelled(tmp_path: Path) -> None:
    data = tmp_path / "data"
    env = {"HOMING_QUEUE_CONCURRENCY": "0", "HOMING_QUEUE_WAITING_MAX": "3", "HOMING_RATES_ACCOUNT": "5/1h"}
    with running(data, "alice", **env) as live:
        alice = live.token(f"alice@{DOMAIN}", PASSWORD)
        ids = [put(live, alice) for _ in range(3)]
        status, answer, headers = ask(live, alice, message())
        assert (status, "3 tasks" in answer["detail"]) == (429, True)
        assert int(headers["Retry-After"]) > 0
        assert result(live, alice, ids[0]) == (200, {"status": "pending", "to": f"bob@{DOMAIN}"})
        for _ in range(2):
            status, answer = live.rest("DELETE", f"{RECEIVED}?task_id={ids[0]}", token=alice)
            assert (status, answer) == (200, {"status": "cancelled", "to": f"bob@{DOMAIN}", "attempts": 0})
        assert result(live, alice, ids[0])[1]["status"] == "cancelled"
        put(live, alice)
        status, answer, headers = ask(live, alice, message())
        assert status == 429
        assert int(headers["Retry-After"]) > 0
        assert live.rest("GET", "/api/queue", token=live.admin_token())[1]["items"] == []


def test_a_worker_beside_the_server(tmp_path: Path) -> None:
    """`homing worker` over the data folder of `homing up`: it does the work, drains at SIGTERM, and ends by
    `homing down` before the server does."""
    if mode() != "embedded":
        pytest.skip("one process alone: the others have workers of their own")
    with running(tmp_path / "data", "alice", "bob", "carol", HOMING_QUEUE_CONCURRENCY="0") as live:
        alice, carol, admin = live.token("alice", PASSWORD), live.token("carol", PASSWORD), live.admin_token()
        ids = [put(live, alice, subject="beside"), put(live, alice, to="x@far.example")]
        last = put(live, carol, subject="of a disabled account")
        (user,) = [one for one in live.rest("GET", "/api/users", token=admin)[1]["users"] if "carol" in one["email"]]
        assert live.rest("PUT", f"/api/users/{user['id']}", {"enabled": False}, admin)[0] == 200
        assert ask(live, carol, message())[0] == 401
        worker = Process((*forking.HOMING, "worker"), live.env)
        worker.begin()
        worker.wait()
        for id in ids:
            answer = ended(live, alice, id)
            assert (answer["status"], answer["attempts"]) == ("success", 1), answer
        assert len(found(live, "bob", "beside")) == 1
        answer = ended(live, admin, last)
        assert (answer["status"], answer["attempts"], "disabled" in answer["reason"]) == ("failed", 1, True)
        assert found(live, "bob", "of a disabled account") == []
        assert live.rest("GET", "/api/queue", token=live.admin_token())[1]["items"]
        assert worker.stop() == 0
        worker.begin()
        worker.wait()
        live.cli("down")
        assert worker.ended() == 0
        until(lambda: not live.running, SECONDS)
