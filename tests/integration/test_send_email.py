"""POST /smtp/send-email of a running server, through integrations that lead to the server itself."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from connectors import create_connector
from tests.live import DOMAIN, PASSWORD, Live, free_ports, mode, running, until

KEY = base64.urlsafe_b64encode(os.urandom(32)).decode()
WITH_KEY = {} if mode() == "embedded" else {"HOMING_SECRETS_KEY": KEY}


@pytest.fixture(scope="module")
def homing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with running(tmp_path_factory.mktemp("sending") / "data", "alice", "bob", **WITH_KEY) as server:
        yield server


def integration(homing: Live, **values: Any) -> dict[str, Any]:
    return {
        "name": uuid4().hex,
        "from_email": f"alice@{DOMAIN}",
        "user": f"alice@{DOMAIN}",
        "secret": PASSWORD,
        "host": homing.host,
        "port": homing.ports["SUBMISSION"],
        # The server has made its certificate itself.
        "verify": False,
    } | values


def test_the_whole_way(homing: Live) -> None:
    token, word = homing.token("alice", PASSWORD), uuid4().hex
    email = {"to": f"bob@{DOMAIN}, nobody@{DOMAIN}", "subject": f"Grüße {word}", "message": "Hallo\n"}
    status, body = homing.rest("POST", "/smtp/send-email", email, token)
    assert (status, body["cause"]) == (409, "no_integration")
    status, made = homing.rest("POST", "/smtp/integrations", integration(homing), token)
    assert status == 201, made
    status, body = homing.rest("POST", f"/smtp/integrations/{made['id']}/test", None, token)
    assert (status, body["status"]) == (200, "ok")
    status, sent = homing.rest("POST", "/smtp/send-email", email, token)
    assert status == 200, sent
    assert sent["accepted"] == [f"bob@{DOMAIN}"]
    assert [(one["to"], one["cause"]) for one in sent["refused"]] == [(f"nobody@{DOMAIN}", "recipient_refused")]
    reader = {"host": homing.host, "port": homing.ports["IMAPS"], "username": "bob", "password": PASSWORD}
    with create_connector("imap", reader | {"verify_ssl": False}).connection() as imap:
        (message,) = until(lambda: imap.search_messages(["SUBJECT", word], mailbox="INBOX"), 60, "the message")
    assert message["from"] == f"alice@{DOMAIN}"
    assert message["message_id"] == sent["message_id"]
    assert message["body"].strip() == "Hallo"
    status, story = homing.rest("GET", f"/api/trace/{sent['trace']}", None, token)
    assert status == 200, story
    assert f"bob@{DOMAIN}" in str(story)
    assert homing.rest("POST", "/smtp/send-email", email, "nonsense")[0] == 401
    assert homing.rest("POST", "/smtp/send-email", email, homing.token("bob", PASSWORD))[0] == 409


def test_each_failure_of_a_running_server(homing: Live) -> None:
    token = homing.token("alice", PASSWORD)
    (port,) = free_ports(1)
    email = {"to": f"bob@{DOMAIN}", "subject": "s", "message": "m"}
    for values, to, told in (
        ({"port": port}, email["to"], (502, "unreachable")),
        ({"host": "no-such-host.invalid"}, email["to"], (502, "unreachable")),
        ({"verify": True}, email["to"], (502, "bad_certificate")),
        ({"secret": "wrong"}, email["to"], (424, "sign_in_refused")),
        ({"from_email": f"bob@{DOMAIN}"}, email["to"], (422, "sender_refused")),
        ({}, f"nobody@{DOMAIN}", (422, "recipient_refused")),
        ({}, f"bob@{DOMAIN}\r\nBcc: eve@e.example", (422, "not_acceptable")),
    ):
        status, made = homing.rest("POST", "/smtp/integrations", integration(homing, **values), token)
        assert status == 201, made
        status, body = homing.rest("POST", "/smtp/send-email", email | {"to": to, "integration": made["id"]}, token)
        assert (status, body["cause"], body["sent"]) == (*told, "no"), body
        assert PASSWORD not in str(body)
        homing.rest("DELETE", f"/smtp/integrations/{made['id']}", None, token)
    assert PASSWORD not in "".join(homing.output)


@pytest.mark.skipif(mode() == "embedded", reason="one process makes its key itself")
def test_without_a_key_nothing_is_stored(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running(tmp_path_factory.mktemp("keyless") / "data", "alice") as homing:
        status, body = homing.rest("POST", "/smtp/integrations", integration(homing), homing.token("alice", PASSWORD))
        assert status == 503
        assert "HOMING_SECRETS_KEY" in body["detail"]


@pytest.mark.skipif(mode() != "embedded", reason="services are given their key")
def test_the_key_is_made_in_the_data_folder(homing: Live) -> None:
    assert (homing.data / "secrets.key").stat().st_mode & 0o777 == 0o600
