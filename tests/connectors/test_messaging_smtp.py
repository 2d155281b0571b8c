"""Messaging connectors that send: configuration, HTML, attachments, recipients, OAuth2, the connection's life."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from connectors import Attachment, create_connector
from connectors.exceptions import AuthenticationError, ConfigurationError, ConnectionError, MessageError
from connectors.messaging.smtp import GmailConnector, SMTPConnector
from connectors.oauth.microsoft import SCOPE
from tests.connectors.certs import Certs
from tests.connectors.conftest import path_of
from tests.connectors.servers import SmtpServer, TokenServer
from tests.live import free_ports

Config = dict[str, Any]
BOB = "bob@test.example"


def parsed(server: SmtpServer) -> EmailMessage:
    raw = server.mails[-1].raw
    assert b"\n" not in raw.replace(b"\r\n", b"")
    message = message_from_bytes(raw.replace(b"\r\n", b"\n"), policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def test_text_html_and_files(sending: Config, smtp: SmtpServer, tmp_path: Path) -> None:
    report = path_of(tmp_path, "Bericht Größe.pdf", bytes(range(256)) * 400)
    table = path_of(tmp_path, 'a "quoted" name.csv', b"a,b\n.\n")
    with create_connector("smtp", sending).connection() as connector:
        result = connector.send_email(
            subject="Bericht: größer und länger " * 6,
            recipients=['"Müller, Bob" <bob@test.example>', "carol@test.example"],
            body="Guten Tag\n.\nvon mir\n",
            html_body="<p>Guten <i>Tag</i></p>",
            attachments=[report, Path(table), Attachment("inhalt", "message/rfc822", b"Subject: x\r\n\r\ny\r\n")],
        )
    assert result.accepted == ("bob@test.example", "carol@test.example")
    message = parsed(smtp)
    assert message["subject"] == ("Bericht: größer und länger " * 6).strip()
    assert message["to"].addresses[0].display_name == "Müller, Bob"
    assert message.get_body(("plain",)).get_content() == "Guten Tag\n.\nvon mir\n"
    assert message.get_body(("html",)).get_content() == "<p>Guten <i>Tag</i></p>\n"
    files = list(message.iter_attachments())
    assert [(one.get_filename(), one.get_content_type()) for one in files] == [
        ("Bericht Größe.pdf", "application/pdf"),
        ('a "quoted" name.csv', "text/csv"),
        ("inhalt", "application/octet-stream"),
    ]
    assert files[0].get_payload(decode=True) == bytes(range(256)) * 400
    assert files[1].get_payload(decode=True) == b"a,b\n.\n"
    assert all(len(line) <= 998 for line in smtp.mails[0].raw.split(b"\r\n"))


def test_plain_text_alone(sending: Config, smtp: SmtpServer) -> None:
    create_connector("smtp", **sending).send_email("s", BOB, "only text")
    assert parsed(smtp).get_content_type() == "text/plain"
    assert parsed(smtp).get_content() == "only text\n"


def test_attachments_that_cannot_be(sending: Config, smtp: SmtpServer, tmp_path: Path) -> None:
    connector = create_connector("smtp", sending | {"max_attachment_bytes": 1000})
    small, large = path_of(tmp_path, "small", b"x" * 600), path_of(tmp_path, "large", b"x" * 1001)
    with pytest.raises(MessageError, match=r"larger than 1000 bytes together.*large.*1001"):
        connector.send_email("s", BOB, "t", attachments=[large])
    with pytest.raises(MessageError, match="larger than 1000 bytes together"):
        connector.send_email("s", BOB, "t", attachments=[small, small])
    with pytest.raises(MessageError, match="is no file, or not there"):
        connector.send_email("s", BOB, "t", attachments=[str(tmp_path / "none")])
    with pytest.raises(MessageError, match="is no file"):
        connector.send_email("s", BOB, "t", attachments=[str(tmp_path)])
    with pytest.raises(MessageError, match="put the one path in a list"):
        connector.send_email("s", BOB, "t", attachments=small)
    with pytest.raises(MessageError, match="no type of a file"):
        connector.send_email("s", BOB, "t", attachments=[Attachment("x", "a/b\r\nBcc: x", b"")])
    assert smtp.connections == 0, "nothing is connected for what cannot be sent"
    connector.send_email("s", BOB, "t", attachments=[small])
    assert len(smtp.mails) == 1


@pytest.mark.parametrize(
    ("subject", "recipients", "name"),
    [
        ("hello\r\nBcc: eve@test.example", BOB, "f"),
        ("hello", "bob@test.example\r\nBcc: eve@test.example", "f"),
        ("hello", "Bob\r\nBcc: eve@test.example <bob@test.example>", "f"),
        ("hello", ['"Bob\nBcc: eve@test.example" <bob@test.example>'], "f"),
        ("hello", BOB, "f\r\nBcc: eve@test.example"),
        ("hello\u2028Bcc: eve@test.example\x85Bcc: eve@test.example", BOB, "f"),
    ],
)
def test_nothing_adds_a_header_field(
    sending: Config, smtp: SmtpServer, subject: str, recipients: Any, name: str
) -> None:
    connector = create_connector("smtp", sending)
    files = [Attachment(name, "text/plain", b"x")]
    if recipients != BOB:
        with pytest.raises(MessageError, match="control character"):
            connector.send_email(subject, recipients, "t", attachments=files)
        return
    connector.send_email(subject, recipients, "t", attachments=files)
    message = parsed(smtp)
    assert all("bcc" not in part for part in message.walk())
    assert smtp.mails[0].recipients == [BOB]


def test_life_of_the_connection(sending: Config, smtp: SmtpServer) -> None:
    connector = create_connector("smtp", sending)
    assert not connector.is_connected()
    connector.connect()
    connector.connect()
    assert connector.is_connected()
    assert smtp.connections == 1
    connector.disconnect()
    connector.disconnect()
    assert not connector.is_connected()
    with connector.connection() as same:
        assert same is connector
        assert connector.is_connected()
    assert not connector.is_connected()
    with connector:
        smtp.at["noop"] = ["close"]
        assert not connector.is_connected()


def test_no_sign_in_where_no_name_is_given(sending: Config, smtp: SmtpServer) -> None:
    smtp.mechanisms = []
    for key in ("username", "password"):
        del sending[key]
    with pytest.raises(ConfigurationError, match="'from_email' is missing"):
        create_connector("smtp", sending)
    create_connector("smtp", sending | {"from_email": "Alice <alice@test.example>"}).send_email("s", BOB, "t")
    assert parsed(smtp)["from"] == "Alice <alice@test.example>"
    assert smtp.signed_in == []


@pytest.mark.parametrize(
    ("kind", "config", "text"),
    [
        ("pop", {}, "no kind 'pop'"),
        ("smtp", {}, "'host' is missing"),
        ("smtp", {"host": "h", "username": "a@b.example"}, "'password' is missing"),
        ("smtp", {"host": "h", "password": "p"}, "'username' is missing"),
        ("smtp", {"host": "h", "username": "alice", "password": "p"}, "'from_email'"),
        ("gmail", {}, "'username' is missing"),
        ("gmail", {"username": "a@b.example"}, "'password' is missing .or 'use_oauth'"),
        ("gmail", {"username": "a@b.example", "use_oauth": True}, "'oauth' is missing"),
        ("gmail", {"username": "a@b.example", "password": "p", "oauth": {}}, "'use_oauth' is not true"),
        ("gmail", {"username": "a@b.example", "use_oauth": True, "oauth": {"client_id": "c"}}, "'client_secret'"),
        (
            "gmail",
            {"username": "a@b.example", "use_oauth": True, "oauth": {"client_id": "c", "client_secret": "s"}},
            "'refresh_token' is missing",
        ),
        ("imap", {"host": "h", "username": "a"}, "'password' is missing"),
        ("gmail_imap", {"username": "a", "passwrd": "p"}, "did you mean 'password'"),
        ("smtp", {"host": "h", "from_email": "a@b.example", "max_attachment_bytes": "x"}, "'max_attachment_bytes'"),
    ],
)
def test_names_what_is_wrong(kind: str, config: Config, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        create_connector(kind, config)


def test_gmail_needs_name_and_password_alone() -> None:
    connector = create_connector("gmail", {"username": "a@gmail.com", "password": "app"})
    assert isinstance(connector, GmailConnector)
    assert (connector.host, connector.port) == ("smtp.gmail.com", 587)
    assert isinstance(connector, SMTPConnector)
    assert "app" not in repr(connector)
    assert "'app'" not in repr(connector.config)


def test_gmail_with_oauth(sending: Config, smtp: SmtpServer, tokens: TokenServer) -> None:
    tokens.state.on_token = smtp.tokens.add
    where = {key: sending[key] for key in ("host", "port", "ca_file", "timeout")}
    connector = GmailConnector.create_with_oauth(
        "alice@test.example", "client-1", "client-secret-1", "refresh-1", token_url=tokens.token_url, **where
    )
    connector.send_email("s", BOB, "t")
    oauth = {"client_id": "client-1", "client_secret": "client-secret-1", "refresh_token": "refresh-1"}
    config = {"username": "alice@test.example", "use_oauth": True, "oauth": oauth, **where}
    same = create_connector("gmail", config | {"oauth": oauth | {"token_url": tokens.token_url}})
    same.send_email("s", BOB, "t")
    assert smtp.signed_in == ["alice@test.example"] * 2
    assert tokens.state.given == ["access-1"]
    for secret in ("client-secret-1", "refresh-1"):
        assert secret not in repr(connector) + repr(same.config) + str(same.config)


def test_microsoft_with_oauth(sending: Config, smtp: SmtpServer, tokens: TokenServer) -> None:
    tokens.state.on_token = smtp.tokens.add
    where = {key: sending[key] for key in ("host", "port", "ca_file", "timeout")}
    oauth = {"client_id": "client-1", "client_secret": "client-secret-1", "tenant_id": "tenant-1"}
    config = {"username": "alice@test.example", "use_oauth": True, **where}
    connector = create_connector("smtp", config | {"oauth": oauth | {"authority": tokens.authority}})
    connector.send_email("s", BOB, "t")
    assert tokens.state.forms[0]["scope"] == SCOPE


def test_failures(sending: Config, smtp: SmtpServer, certs: Certs) -> None:
    with pytest.raises(AuthenticationError, match="535"):
        create_connector("smtp", sending | {"password": "wrong"}).connect()
    with pytest.raises(ConnectionError, match="Nothing listens"):
        create_connector("smtp", sending | {"port": free_ports(1)[0]}).connect()
    del sending["ca_file"]
    with pytest.raises(ConnectionError, match="certificate"):
        create_connector("smtp", sending).connect()
    with create_connector("smtp", sending | {"verify_ssl": False}).connection() as connector:
        assert connector.is_connected()
