"""Every method of both kinds of connector against Postfix and Dovecot: STARTTLS, SASL, XOAUTH2 by Dovecot's oauth2."""

from __future__ import annotations

import imaplib
import os
import shutil
import ssl
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import pytest

from connectors import create_connector
from connectors.exceptions import AuthenticationError, ConnectionError, MessageError
from connectors.messaging.imap import GmailIMAPConnector
from connectors.messaging.smtp import GmailConnector
from connectors.relay import Relay
from connectors.smtp_connector import BaseSMTPConnector, BasicSMTPConnector
from smtp.outbound.transport import Status
from tests.connectors.certs import Certs, make
from tests.connectors.conftest import path_of
from tests.connectors.mailhost import PASSWORD, Host, dovecot, mailhost
from tests.connectors.servers import TokenServer
from tests.live import until
from tests.smtp.outbound.letters import letter as mail

pytestmark = pytest.mark.interop

Config = dict[str, Any]
ALICE, BOB, CAROL = (f"{name}@test.example" for name in ("alice", "bob", "carol"))


@pytest.fixture(scope="module")
def programs() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in ("dovecot", "doveadm", "postfix"):
        path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin")
        reason = f"{name} is not on PATH"
        if path is None and os.environ.get("CI"):
            pytest.fail(reason)
        if path is None or os.geteuid() != 0:
            pytest.skip(reason if path is None else f"{name} is started by root alone")
        found[name] = path
    return found


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Not below pytest's own, which the next pytest that begins closes to the servers' users. And short: paths of
    sockets have a hundred octets at most."""
    with TemporaryDirectory() as made:
        yield Path(made)


@pytest.fixture(scope="module")
def certs(folder: Path) -> Certs:
    (folder / "certs").mkdir()
    return make(folder / "certs", ["127.0.0.1", "localhost"])


@pytest.fixture(scope="module")
def endpoint(certs: Certs) -> Iterator[TokenServer]:
    with TokenServer(certs.context()) as server:
        yield server


@pytest.fixture(scope="module")
def host(programs: dict[str, str], folder: Path, certs: Certs, endpoint: TokenServer) -> Iterator[Host]:
    for path in (certs.ca, certs.cert, certs.key):
        path.chmod(0o644)
        for parent in path.parents:
            if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o011)
    with mailhost(programs, folder / "host", certs, endpoint.tokeninfo) as made:
        yield made


def common(port: int, certs: Certs) -> Config:
    return {"host": "127.0.0.1", "port": port, "ca_file": str(certs.ca), "timeout": 20}


def provider(host: Host, certs: Certs, endpoint: TokenServer, name: str) -> Config:
    config = common(host.submission, certs) | {"provider": name, "from_email": f"Alice Größe <{ALICE}>"}
    oauth = {"user": "client-1", "secret": "client-secret-1"}
    if name == "gmail":
        return config | oauth | {"credential": "refresh-1", "token_url": endpoint.token_url}
    if name == "microsoft":
        return config | oauth | {"credential": "tenant-1", "authority": endpoint.authority}
    return config | {"user": ALICE, "secret": PASSWORD}


def reader(host: Host, certs: Certs, name: str = BOB) -> Any:
    return create_connector("imap", common(host.imaps, certs) | {"username": name, "password": PASSWORD})


def arrived(connector: Any, word: str) -> dict[str, Any]:
    def look() -> Any:
        return connector.search_messages(["SUBJECT", word], mailbox="INBOX")

    (message,) = until(look, 60, f"the message {word}", pause=0.1)
    return dict(message)


@pytest.mark.parametrize("name", ["basic", "gmail", "microsoft"])
def test_each_provider_sends(host: Host, certs: Certs, endpoint: TokenServer, name: str) -> None:
    word = uuid4().hex
    config = provider(host, certs, endpoint, name)
    with BaseSMTPConnector.get_connector_by_provider(name)(config) as smtp:
        result = smtp.send_email(f"Bob <{BOB}>, {CAROL}, nobody@test.example", f"Grüße {word}", "<p>schön</p>")
    assert result.accepted == (BOB, CAROL)
    assert result.refused["nobody@test.example"].code == 550
    with reader(host, certs).connection() as imap:
        message = arrived(imap, word)
    assert message["subject"] == f"Grüße {word}"
    assert message["from"] == f"Alice Größe <{ALICE}>"
    assert message["to"] == [f"Bob <{BOB}>", CAROL, "nobody@test.example"]
    assert message["body"].strip() == "schön"
    assert message["html_body"].strip() == "<p>schön</p>"
    assert message["message_id"] == result.message_id


@pytest.mark.parametrize("name", ["basic", "gmail", "microsoft"])
async def test_each_provider_relays_octet_by_octet(host: Host, certs: Certs, endpoint: TokenServer, name: str) -> None:
    word = uuid4().hex
    # With all the fields that Postfix would add.
    head = f"From: <x@elsewhere.example>\r\nTo: {BOB}\r\nMessage-ID: <{word}@elsewhere.example>\r\n"
    head += "Date: Fri, 21 Nov 2025 10:00:00 +0000\r\n"
    text = f"{head}Subject: {word}\r\n\r\n.a\r\n..b\r\n.\r\n\tGrüße \r\n".encode()
    text += b".long\r\n" * 60_000
    relay = Relay(name, provider(host, certs, endpoint, name) | {"from_email": ALICE})
    for _ in range(2):
        result = await relay.send(mail(BOB, "nobody@test.example", text=text, sender="x@elsewhere.example"))
    await relay.close()
    assert result.reused
    assert result.outcomes[BOB].status is Status.SENT
    assert (result.outcomes["nobody@test.example"].status, result.outcomes["nobody@test.example"].code) == (
        Status.FAILED,
        550,
    )
    with reader(host, certs).connection() as imap:
        until(lambda: len(imap.search_messages(["SUBJECT", word], mailbox="INBOX")) == 2, 20, word, pause=0.1)
    with imaplib.IMAP4_SSL("127.0.0.1", host.imaps, ssl_context=ssl.create_default_context(cafile=certs.ca)) as raw:
        raw.login(BOB, PASSWORD)
        raw.select("INBOX", readonly=True)
        (found,) = raw.search(None, "SUBJECT", word)[1]
        for number in found.split():
            (part, _) = raw.fetch(number, "BODY.PEEK[]")[1]
            assert isinstance(part, tuple)
            assert part[1].endswith(b"\r\n" + text)


@pytest.mark.parametrize("name", ["gmail", "microsoft"])
def test_revoked_and_expired_tokens(host: Host, certs: Certs, endpoint: TokenServer, name: str) -> None:
    config = provider(host, certs, endpoint, name)
    made = BaseSMTPConnector.get_connector_by_provider(name)
    with made(config):
        before = list(endpoint.state.given)
    endpoint.state.revoked |= set(before)
    with made(config):
        assert len(endpoint.state.given) == len(before) + 1, "fetched anew, once"
    endpoint.state.account = CAROL
    endpoint.state.revoked |= set(endpoint.state.given)
    try:
        with pytest.raises(AuthenticationError, match="refused the access token"):
            made(config).connect()
    finally:
        endpoint.state.account = ALICE
    endpoint.state.refuse = "invalid_grant"
    try:
        with pytest.raises(AuthenticationError, match="invalid_grant"):
            made(config).connect()
    finally:
        endpoint.state.refuse = ""


def test_refusals(host: Host, certs: Certs, endpoint: TokenServer) -> None:
    config = provider(host, certs, endpoint, "basic")
    with pytest.raises(AuthenticationError, match="535"):
        BasicSMTPConnector(config | {"secret": "wrong"}).connect()
    with pytest.raises(MessageError, match="refused every recipient"):
        BasicSMTPConnector(config).send_email("nobody@test.example", "s", "x")
    with pytest.raises(MessageError, match="takes 20000000"):
        BasicSMTPConnector(config).send_email(BOB, "s", "€" * 6_000_000)
    with pytest.raises(ConnectionError, match="certificate"):
        BasicSMTPConnector({key: value for key, value in config.items() if key != "ca_file"}).connect()
    with pytest.raises(AuthenticationError, match="refused the sign-in of bob"):
        create_connector("imap", common(host.imaps, certs) | {"username": BOB, "password": "x"}).connect()


def test_messaging_both_ways_by_token(host: Host, certs: Certs, endpoint: TokenServer, tmp_path: Path) -> None:
    word = uuid4().hex
    oauth = ("client-1", "client-secret-1", "refresh-1")
    where = common(host.submission, certs) | {"token_url": endpoint.token_url}
    with GmailConnector.create_with_oauth(ALICE, *oauth, **where).connection() as smtp:
        assert smtp.is_connected()
        data = os.urandom(300_000)
        smtp.send_email(word, [ALICE], "text", "<p>html</p>", [path_of(tmp_path, "Zahlen und Größen – alle.bin", data)])
    where["port"] = host.imaps
    with GmailIMAPConnector.create_with_oauth(ALICE, *oauth, **where).connection() as imap:
        assert imap.is_connected()
        message = arrived(imap, word)
        assert message["has_attachments"]
        (attachment,) = imap.get_attachments(message["id"])
        assert attachment["filename"] == "Zahlen und Größen – alle.bin"
        assert attachment["data"] == data
        assert "INBOX" in imap.get_all_labels()
        assert imap.delete_messages(message["id"]) == [message["id"]]
        assert imap.search_messages(["SUBJECT", word]) == []


def test_utf8_address_is_refused_by_the_recipients_server_alone(
    host: Host, certs: Certs, endpoint: TokenServer
) -> None:
    with pytest.raises(MessageError, match=r"jürgen@test.example: 550"):
        BasicSMTPConnector(provider(host, certs, endpoint, "basic")).send_email("jürgen@test.example", "s", "x")


def fill(host: Host, certs: Certs, to: str, word: str, count: int) -> None:
    config = common(host.submission, certs) | {"username": ALICE, "password": PASSWORD}
    with create_connector("smtp", config).connection() as smtp:
        for n in range(count):
            smtp.send_email(f"{word} {n} größer", to, f"text {n}\n.\nend")


@pytest.mark.parametrize("port", ["imap", "imaps"])
def test_every_method_that_reads(host: Host, certs: Certs, port: str) -> None:
    word = uuid4().hex
    fill(host, certs, CAROL, word, 5)
    config = common(getattr(host, port), certs) | {"username": CAROL, "password": PASSWORD, "use_ssl": port == "imaps"}
    with create_connector("imap", config).connection() as imap:
        until(lambda: len(imap.search_messages(["SUBJECT", word], mailbox="INBOX")) == 5, 60, "five", pause=0.1)
        count = imap.select_mailbox("INBOX")
        assert count >= 5
        newest = imap.receive_messages(limit=3)
        assert len(newest) == 3
        assert [one["id"] for one in newest] == sorted((one["id"] for one in newest), reverse=True)
        assert newest[0]["unread"]
        found = imap.search_messages(["SUBJECT", f"{word} 2 größer"])
        assert [one["body"] for one in found] == ["text 2\n.\nend\n"]
        uid = found[0]["id"]
        assert imap.search_messages([f'SUBJECT "{word} 2"', "SINCE", date.today().replace(year=2020)])[0]["id"] == uid
        assert imap.search_messages(
            ["OR", ["SUBJECT", f"{word} 1"], ["SUBJECT", f"{word} 3 größer"], "UNSEEN"], limit=9
        )
        assert imap.mark_as_read([uid]) == [uid]
        assert not imap.search_messages(["UID", uid])[0]["unread"]
        assert uid not in [one["id"] for one in imap.receive_messages(unread_only=True, limit=100)]
        with pytest.raises(MessageError, match="refused to search"):
            imap.search_messages(["NONSENSE"])
        with pytest.raises(MessageError, match="refused to move"):
            imap.move_messages([uid], "Nowhere")
        imap._mailbox._client.create_folder("Größe & Co") if "Größe & Co" not in imap.list_mailboxes() else None
        assert "Größe & Co" in imap.list_mailboxes()
        assert imap.move_messages([uid], "Größe & Co") == [uid]
        (moved,) = imap.search_messages(["SUBJECT", word], mailbox="Größe & Co")
        assert moved["subject"] == f"{word} 2 größer"
        assert not moved["unread"]
        assert imap.delete_messages(moved["id"]) == [moved["id"]]
        assert imap.search_messages(["ALL"]) == []
        assert imap.select_mailbox("INBOX") == count - 1


def test_a_server_without_move_and_uidplus(programs: dict[str, str], host: Host, certs: Certs, folder: Path) -> None:
    offers = "IMAP4rev1 SASL-IR LITERAL+"
    with dovecot(programs["dovecot"], programs["doveadm"], folder / "plain", certs, capability=offers) as (_, port):
        config = common(port, certs) | {"username": BOB, "password": PASSWORD}
        with create_connector("imap", config).connection() as imap:
            client = imap._mailbox._client
            for n in range(4):
                client.append("INBOX", b"Subject: %d\r\n\r\nx\r\n" % n)
            client.create_folder("Archive")
            imap.select_mailbox("INBOX")
            assert not imap._mailbox.has("MOVE")
            assert not imap._mailbox.has("UIDPLUS")
            client.add_flags([4], [b"\\Deleted"])
            assert imap.move_messages([1, 2], "Archive") == [1, 2]
            assert imap.delete_messages([3]) == [3]
            left = imap.receive_messages()
            assert [(one["id"], one["flags"]) for one in left] == [(4, ["\\Recent", "\\Deleted"])] or (
                left[0]["id"] == 4 and "\\Deleted" in left[0]["flags"] and len(left) == 1
            )
            assert [one["subject"] for one in imap.receive_messages("Archive", newest_first=False)] == ["0", "1"]
