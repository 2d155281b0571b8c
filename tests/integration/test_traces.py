"""What became of a message: asked on the command line and over REST of a running server, by who may see it."""

from __future__ import annotations

import imaplib
import json
import smtplib
import ssl
from base64 import b64encode
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from tests.live import DOMAIN, PASSWORD, Live, running, until

ALICE, BOB = f"alice@{DOMAIN}", f"bob@{DOMAIN}"


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with running(tmp_path_factory.mktemp("traced") / "data", "alice", "bob", HOMING_TRACE_READS="true") as live:
        yield live


def send(live: Live, *to: str, sender: str = "eve@example.net") -> str:
    """Its Message-ID."""
    name = f"{uuid4().hex}@example.net"
    text = f"From: {sender}\r\nTo: {', '.join(to)}\r\nMessage-ID: <{name}>\r\nSubject: traced\r\n\r\nHello.\r\n"
    with smtplib.SMTP(live.host, live.ports["SMTP"], timeout=60) as smtp:
        smtp.sendmail(sender, to, text.encode())
    return name


def told(live: Live, text: str, *more: str) -> list[dict[str, Any]]:
    """What `homing trace --json` says."""
    done = live.cli("trace", text, "--json", *more, check=False)
    assert done.returncode in (0, 1), done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout) if done.returncode == 0 else []
    return found


def test_a_delivered_message_tells_where_it_is(traced: Live) -> None:
    name = send(traced, ALICE)
    (story,) = told(traced, f"<{name}>")
    assert story["sender"] == "eve@example.net"
    assert story["recipients"][0]["state"] == "delivered"
    assert story["sentence"].startswith(f"Delivered: the message is in INBOX of {ALICE} (uid ")
    assert {"connect", "rcpt", "data", "stored"} <= {event["kind"] for event in story["events"]}
    shown = traced.cli("trace", story["trace"]).stdout
    assert story["sentence"] in shown.replace("\n", " ")
    assert f"Trace {story['trace']}" in shown


def test_several_are_a_list_to_choose_from(traced: Live) -> None:
    names = [send(traced, BOB, sender="often@example.net") for _ in range(2)]
    done = traced.cli("trace", "often@example.net").stdout
    assert "Several were found: `homing trace TRACE-ID`" in done
    for name in names:
        (story,) = told(traced, name)
        assert story["trace"] in done
    assert len(told(traced, "often@example.net", "--limit", "1")) == 1
    assert len(told(traced, "often@example.net", "--account", BOB)) == 2
    assert told(traced, "often@example.net", "--account", ALICE) == []


def test_what_is_not_recorded_is_an_exit_status(traced: Live) -> None:
    done = traced.cli("trace", "nobody@nowhere.example", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "nothing is recorded of that" in done.stderr
    assert traced.cli("trace", "x", "--account", f"nobody@{DOMAIN}", check=False).returncode == 1
    assert traced.cli("trace", "x", "--limit", "0", check=False).returncode == 2


def test_a_refused_attempt_is_told(traced: Live) -> None:
    unknown = f"{uuid4().hex}@{DOMAIN}"
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        send(traced, unknown)
    (story,) = until(lambda: told(traced, unknown))
    assert story["sentence"].startswith(
        f"Refused: this server did not take the message for {unknown} before it was sent"
    )
    assert "homing user add" in story["sentence"]
    assert story["recipients"][0]["state"] == "refused"


def test_a_wrong_password_is_told(traced: Live) -> None:
    name = f"{uuid4().hex}@{DOMAIN}"
    context = ssl._create_unverified_context()
    with smtplib.SMTP_SSL(traced.host, traced.ports["SUBMISSIONS"], timeout=60, context=context) as smtp:
        smtp.ehlo()
        assert smtp.docmd("AUTH", "PLAIN " + b64encode(f"\0{name}\0wrong".encode()).decode())[0] == 535
    (story,) = until(lambda: told(traced, name))
    assert story["sentence"].startswith(f"Sign-in refused: somebody at 127.0.0.1 tried to sign in as {name}")


def test_accounts_see_their_own_over_rest_and_administrators_all(traced: Live) -> None:
    name = send(traced, ALICE, BOB)
    alice, admin = traced.token(ALICE, PASSWORD), traced.admin_token()
    status, body = traced.rest("GET", f"/api/trace?q={quote(name)}", token=alice)
    assert status == 200, body
    (mine,) = body["traces"]
    assert mine["recipients"] == [ALICE]
    (whole,) = traced.rest("GET", f"/api/trace?q={quote(name)}", token=admin)[1]["traces"]
    assert sorted(whole["recipients"]) == [ALICE, BOB]
    assert traced.rest("GET", f"/api/trace?q={quote(BOB)}", token=alice)[1] == {"traces": []}
    status, one = traced.rest("GET", f"/api/trace/{mine['trace']}", token=alice)
    assert status == 200
    assert one["fates"][0]["state"] == "delivered"
    assert {event["kind"] for event in one["table"]} == {"rcpt", "stored"}
    everything = traced.rest("GET", f"/api/trace/{mine['trace']}", token=admin)[1]
    assert everything["table"][0]["kind"] == "connect"
    assert everything["message_id"] == name


def test_rest_refuses_who_may_not_ask(traced: Live) -> None:
    token = traced.token(ALICE, PASSWORD)
    assert traced.rest("GET", "/api/trace?q=x")[0] == 401
    assert traced.rest("GET", f"/api/trace/{'0' * 32}", token=token)[0] == 404
    assert traced.rest("GET", "/api/trace?limit=1000", token=token)[0] == 422
    other = send(traced, BOB)
    (story,) = told(traced, other)
    assert traced.rest("GET", f"/api/trace/{story['trace']}", token=token)[0] == 404


def test_a_message_that_was_read_says_so_once_for_each_connection(traced: Live) -> None:
    name = send(traced, ALICE)
    context = ssl._create_unverified_context()
    with imaplib.IMAP4_SSL(traced.host, traced.ports["IMAPS"], ssl_context=context) as imap:
        imap.login(ALICE, PASSWORD)
        imap.select("INBOX")
        _, data = imap.search(None, "HEADER", "Message-ID", name)
        uid = data[0].split()[-1].decode()
        imap.fetch(uid, "(FLAGS BODY.PEEK[HEADER])")
        for _ in range(2):
            assert imap.fetch(uid, "(BODY.PEEK[])")[0] == "OK"
        imap.fetch(uid, "(BODY[TEXT])")

    def reads() -> list[dict[str, Any]]:
        (story,) = told(traced, name)
        return [event for event in story["events"] if event["kind"] == "read"]

    assert len(until(reads)) == 1
    (story,) = told(traced, name, "--account", ALICE)
    assert "A mail program fetched it on" in story["sentence"]
