"""Both kinds of connector against Homing itself, over its own ports and certificate."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from connectors import create_connector
from connectors.exceptions import AuthenticationError, ConnectionError, MessageError
from connectors.smtp_connector import SMTPConnector
from tests.connectors.conftest import path_of
from tests.live import DOMAIN, PASSWORD, Live, running, until

Config = dict[str, Any]


@pytest.fixture(scope="module")
def homing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with running(tmp_path_factory.mktemp("homing") / "data", "alice", "bob", "jürgen@test.example") as server:
        certificate = ssl.get_server_certificate((server.host, server.ports["IMAPS"]))
        (server.data.parent / "seen.pem").write_text(certificate)
        yield server


def config(homing: Live, listener: str, name: str = "alice") -> Config:
    return {
        "host": homing.host,
        "port": homing.ports[listener],
        "username": f"{name}@{DOMAIN}",
        "password": PASSWORD,
        "ca_file": str(homing.data.parent / "seen.pem"),
        "timeout": 20,
    }


def arrived(connector: Any, word: str) -> dict[str, Any]:
    def look() -> Any:
        return connector.search_messages(["SUBJECT", word], mailbox="INBOX")

    (message,) = until(look, 60, f"the message {word}")
    return dict(message)


@pytest.mark.parametrize(("listener", "implicit"), [("SUBMISSION", False), ("SUBMISSIONS", True)])
def test_sends(homing: Live, listener: str, implicit: bool) -> None:
    word = uuid4().hex
    given = config(homing, listener)
    old = {key: given[key] for key in ("host", "port", "ca_file")} | {
        "from_email": f"alice@{DOMAIN}",
        "user": f"alice@{DOMAIN}",
        "secret": PASSWORD,
        "use_ssl": implicit,
    }
    with SMTPConnector(old) as smtp:
        result = smtp.send_email(f"bob@{DOMAIN}, nobody@{DOMAIN}", f"Grüße {word}", "<p>schön</p>")
        assert result.accepted == (f"bob@{DOMAIN}",)
        assert result.refused[f"nobody@{DOMAIN}"].code == 550
        with pytest.raises(MessageError):
            smtp.send_email(f"nobody@{DOMAIN}", "s", "x")
    with create_connector("imap", config(homing, "IMAPS", "bob")).connection() as imap:
        message = arrived(imap, word)
    assert message["message_id"] == result.message_id
    assert message["body"].strip() == "schön"
    with pytest.raises(AuthenticationError):
        SMTPConnector(old | {"secret": "wrong"}).connect()
    with pytest.raises(ConnectionError, match="certificate"):
        SMTPConnector({key: value for key, value in old.items() if key != "ca_file"}).connect()


def test_utf8_address(homing: Live) -> None:
    word = uuid4().hex
    create_connector("smtp", config(homing, "SUBMISSION")).send_email(word, f"Jürgen <jürgen@{DOMAIN}>", "text")
    with create_connector("imap", config(homing, "IMAPS", "jürgen")).connection() as imap:
        assert arrived(imap, word)["to"] == [f"Jürgen <jürgen@{DOMAIN}>"]


def test_every_method_that_reads(homing: Live, tmp_path: Path) -> None:
    word = uuid4().hex
    data = bytes(range(256)) * 100
    with create_connector("smtp", config(homing, "SUBMISSION")).connection() as smtp:
        for n in range(4):
            files = [path_of(tmp_path, "Größe.bin", data)] if n == 3 else None
            smtp.send_email(f"{word} {n}", f"alice@{DOMAIN}", f"text {n}", "<p>html</p>", files)
    with create_connector("imap", config(homing, "IMAP") | {"use_ssl": False}).connection() as imap:
        until(lambda: len(imap.search_messages(["SUBJECT", word], mailbox="INBOX")) == 4, 60, "four messages")
        assert imap.is_connected()
        assert {"INBOX", "Archive", "Trash"} <= set(imap.list_mailboxes())
        count = imap.select_mailbox("INBOX")
        newest = imap.receive_messages(limit=2)
        assert [one["subject"] for one in newest] == [f"{word} 3", f"{word} 2"]
        assert newest[0]["has_attachments"]
        (attachment,) = imap.get_attachments(newest[0]["id"])
        assert (attachment["filename"], attachment["data"]) == ("Größe.bin", data)
        assert imap.mark_as_read([one["id"] for one in newest]) == [one["id"] for one in newest]
        unread = imap.search_messages(["UNSEEN", f'SUBJECT "{word}"'])
        assert [one["subject"] for one in unread] == [f"{word} 1", f"{word} 0"]
        assert imap.search_messages(["SUBJECT", "gibt es nicht größer"]) == []
        assert imap.move_messages(newest[0]["id"], "Archive") == [newest[0]["id"]]
        assert imap.delete_messages([newest[1]["id"], 10**6]) == [newest[1]["id"]]
        assert imap.select_mailbox("INBOX") == count - 2
        (kept,) = imap.receive_messages("Archive", limit=1)
        assert kept["subject"] == f"{word} 3"
        assert kept["flags"]
