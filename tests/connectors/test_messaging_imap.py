"""Messaging connectors that read, against a small IMAP server: every method, and what servers lack or do wrong."""

from __future__ import annotations

import logging
import traceback
from datetime import date
from email.message import EmailMessage
from typing import Any

import pytest

from connectors import create_connector
from connectors.exceptions import AuthenticationError, ConfigurationError, ConnectionError, MessageError
from connectors.messaging.imap import GmailIMAPConnector
from connectors.reading import SEARCH_AT_ONCE
from tests.connectors.certs import Certs
from tests.connectors.conftest import account
from tests.connectors.imapserver import ImapServer
from tests.connectors.servers import TokenServer
from tests.live import free_ports
from tests.patience import attempts

Config = dict[str, Any]

PLAIN = (
    b'From: =?utf-8?q?J=C3=BCrgen?= <j@elsewhere.example>\r\nTo: alice@test.example, "B, C" <b@test.example>\r\n'
    b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nDate: Wed, 1 May 2024 12:00:00 +0200\r\n"
    b"Message-ID: <1@elsewhere.example>\r\n"
    b"Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    b"sch=F6n\r\n"
)


def letter(files: list[tuple[str, bytes]] | None = None, html: str = "") -> bytes:
    message = EmailMessage()
    message["From"], message["Subject"] = "j@elsewhere.example", "with files"
    message.set_content("the text\n")
    if html:
        message.add_alternative(html, subtype="html")
        related = message.get_payload()[1]
        related.add_related(b"picture", "image", "png", cid="<p1>")
    for name, data in files or []:
        message.add_attachment(data, maintype="application", subtype="pdf", filename=name)
    return message.as_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def test_receives_structured_messages(receiving: Config, imap: ImapServer) -> None:
    uid = imap.add(PLAIN, "\\Flagged")
    with create_connector("imap", receiving).connection() as connector:
        (message,) = connector.receive_messages()
    assert message["id"] == uid
    assert message["message_id"] == "1@elsewhere.example"
    assert message["subject"] == "Grüße"
    assert message["from"] == "Jürgen <j@elsewhere.example>"
    assert message["to"] == ["alice@test.example", "B, C <b@test.example>"]
    assert message["date"].isoformat() == "2024-05-01T12:00:00+02:00"
    assert message["received"].isoformat() == "2024-05-01T12:30:15+02:00"
    assert message["body"] == "schön\n"
    assert message["html_body"] is None
    assert message["flags"] == ["\\Flagged"]
    assert message["unread"]
    assert message["size"] == len(PLAIN)
    assert not message["has_attachments"]
    assert not message["truncated"]
    assert "\\Seen" not in imap.mailboxes["INBOX"][0].flags


def test_order_limit_and_unread(receiving: Config, imap: ImapServer) -> None:
    uids = [imap.add(b"Subject: %d\r\n\r\nx\r\n" % n, *(["\\Seen"] if n % 2 else [])) for n in range(12)]
    connector = create_connector("imap", receiving)
    assert connector.select_mailbox("INBOX") == 12
    got = [one["id"] for one in connector.receive_messages()]
    assert got == uids[:1:-1]
    assert [one["id"] for one in connector.receive_messages(limit=3)] == uids[:-4:-1]
    assert [one["id"] for one in connector.receive_messages(limit=3, newest_first=False)] == uids[:3]
    unread = connector.receive_messages(unread_only=True, limit=4)
    assert [one["subject"] for one in unread] == ["10", "8", "6", "4"]
    assert connector.receive_messages("Archive") == []
    for wrong in (0, -1, 10**6, "3", True):
        with pytest.raises(MessageError, match="'limit'"):
            connector.receive_messages(limit=wrong)


def test_html_and_attachments(receiving: Config, imap: ImapServer) -> None:
    files = [("Bericht Größe.pdf", b"%PDF" + bytes(range(256)) * 9), ("../../etc/passwd", b"root")]
    uid = imap.add(letter(files, html="<p>the <b>HTML</b> &amp; more</p>"))
    connector = create_connector("imap", receiving)
    (message,) = connector.receive_messages()
    assert message["body"] == "the text\n"
    assert message["html_body"].strip() == "<p>the <b>HTML</b> &amp; more</p>"
    assert message["has_attachments"]
    assert [one["filename"] for one in message["attachments"]] == ["Bericht Größe.pdf", "passwd"]
    attachments = connector.get_attachments(message["id"])
    assert [(one["filename"], one["data"]) for one in attachments if not one["inline"]] == [
        ("Bericht Größe.pdf", files[0][1]),
        ("passwd", b"root"),
    ]
    assert [(one["content_id"], one["data"]) for one in attachments if one["inline"]] == [("p1", b"picture")]
    assert attachments == connector.get_attachments(str(uid))
    with pytest.raises(MessageError, match="at most 100 are fetched"):
        connector.get_attachments(uid, max_bytes=100)
    with pytest.raises(MessageError, match="no message 4711 in 'INBOX'"):
        connector.get_attachments(4711)


def test_html_alone_has_a_body_too(receiving: Config, imap: ImapServer) -> None:
    imap.add(b"Content-Type: text/html; charset=utf-8\r\n\r\n<p>one</p><p>t\xc3\xbcwo &lt;3</p>\r\n")
    (message,) = create_connector("imap", receiving).receive_messages()
    assert message["body"] == "one\ntüwo <3"


@pytest.mark.parametrize(
    ("criteria", "wire"),
    [
        (["UNSEEN"], b"UNSEEN"),
        (["FROM", "boss@example.com", "UNSEEN"], b'FROM "boss@example.com" UNSEEN'),
        (['FROM "boss@example.com"', "SINCE 01-Jan-2024"], b'FROM "boss@example.com" SINCE 01-Jan-2024'),
        ('OR SUBJECT "a \\"b\\"" (TEXT x SEEN)', b'OR SUBJECT "a \\"b\\"" (TEXT "x" SEEN)'),
        (["SUBJECT", 'hello "there" (you)'], b'SUBJECT "hello \\"there\\" (you)"'),
        (["SUBJECT", '"in quotes"'], b'SUBJECT "in quotes"'),
        (["NOT", ["SUBJECT", "a b", "FLAGGED"]], b'NOT (SUBJECT "a b" FLAGGED)'),
        (["SINCE", date(2024, 5, 1), "LARGER", 5000], b"SINCE 1-May-2024 LARGER 5000"),
        (["HEADER", "X-Id", "1 2", "KEYWORD", "$Forwarded"], b'HEADER "X-Id" "1 2" KEYWORD $Forwarded'),
        (["SUBJECT", ""], b'SUBJECT ""'),
    ],
)
def test_search_words_on_the_wire(receiving: Config, imap: ImapServer, criteria: Any, wire: bytes) -> None:
    uid = imap.add(PLAIN)
    (message,) = create_connector("imap", receiving).search_messages(criteria=criteria, limit=5)
    assert message["id"] == uid
    assert imap.searches == [wire]


def test_search_words_that_are_not_ascii(receiving: Config, imap: ImapServer) -> None:
    imap.add(PLAIN)
    connector = create_connector("imap", receiving)
    connector.search_messages(["SUBJECT", "Grüße aus", "NOT", ["TEXT", "Öl"]])
    connector.search_messages('SUBJECT "ü" SEEN')
    assert imap.searches == [
        "CHARSET UTF-8 SUBJECT {Grüße aus} NOT (TEXT {Öl} ALL)".encode(),
        "CHARSET UTF-8 SUBJECT {ü} SEEN".encode(),
    ]


@pytest.mark.parametrize(
    "criteria",
    [[], "", ["ALL\r\na LOGOUT"], ['SUBJECT "open'], ["(ALL"], ["ALL)"], [None], [b"ALL"], 5, ["NOT", []], ["()"]],
)
def test_search_words_that_are_none(receiving: Config, imap: ImapServer, criteria: Any) -> None:
    with pytest.raises(MessageError):
        create_connector("imap", receiving).search_messages(criteria)
    assert imap.searches == []


def test_search_of_a_large_mailbox_is_done_in_stretches(receiving: Config, imap: ImapServer) -> None:
    for n in range(3):
        imap.add(b"Subject: %d\r\n\r\n" % n)
    first = imap.mailboxes["INBOX"][0].uid
    connector = create_connector("imap", receiving)
    exists = SEARCH_AT_ONCE * 2 + 3
    connector.connect()
    box = connector._mailbox
    box.select("INBOX")
    box._exists = exists
    assert box.search(["ALL"], 10, newest_first=False) == [first, first + 1, first + 2]
    assert imap.searches == [b"50004:100003 ALL", b"4:50003 ALL", b"1:3 ALL"]


def test_gmail_words_and_labels(certs: Certs) -> None:
    with ImapServer(certs.context()) as server:
        server.capabilities.append("X-GM-EXT-1")
        server.mailboxes |= {"[Gmail]/Trash": [], "Kunden": []}
        server.attributes["[Gmail]/Trash"] = "\\HasNoChildren \\Trash"
        uid = server.add(PLAIN, labels='"\\\\Important" "K&APY-ln" work')
        connector = create_connector("gmail_imap", account(server.port, certs))
        assert isinstance(connector, GmailIMAPConnector)
        (message,) = connector.search_messages(criteria=["X-GM-RAW", "has:attachment larger:5M"])
        assert server.searches == [b'X-GM-RAW "has:attachment larger:5M"']
        assert message["labels"] == ["\\Important", "Köln", "work"]
        assert message["thread_id"] == 1278455344230334865
        assert connector.get_all_labels() == ["INBOX", "Archive", "[Gmail]/Trash", "Kunden"]
        assert connector.delete_messages(uid) == [uid]
        assert [len(server.mailboxes[box]) for box in ("INBOX", "[Gmail]/Trash")] == [0, 1]
        (gone,) = connector.receive_messages("[Gmail]/Trash")
        assert connector.delete_messages([gone["id"]]) == [gone["id"]]
        assert server.mailboxes["[Gmail]/Trash"] == []


def test_gmail_words_elsewhere(receiving: Config, imap: ImapServer) -> None:
    with pytest.raises(MessageError, match="is not Gmail"):
        create_connector("imap", receiving).search_messages(["X-GM-RAW", "x"])
    assert create_connector("gmail_imap", username="a@gmail.com", password="p").host == "imap.gmail.com"


def test_list_and_select(receiving: Config, imap: ImapServer) -> None:
    connector = create_connector("imap", receiving)
    assert connector.list_mailboxes() == ["INBOX", "Archive"]
    assert connector.select_mailbox("Archive") == 0
    with pytest.raises(MessageError, match="refused to select the mailbox 'None'"):
        connector.select_mailbox("None")
    with pytest.raises(MessageError, match="No mailbox is selected"):
        connector.mark_as_read(1)
    for wrong in ("", "a\r\nb LOGOUT", None, "\ud800"):
        with pytest.raises(MessageError):
            connector.select_mailbox(wrong)


def test_mark_as_read(receiving: Config, imap: ImapServer) -> None:
    uids = [imap.add(PLAIN) for _ in range(3)]
    connector = create_connector("imap", receiving)
    connector.select_mailbox("INBOX")
    assert connector.mark_as_read(uids[0]) == [uids[0]]
    assert connector.mark_as_read([str(uids[1]), 9999]) == [uids[1]]
    assert connector.mark_as_read([]) == []
    assert ["\\Seen" in one.flags for one in imap.mailboxes["INBOX"]] == [True, True, False]
    for wrong in ("x", 0, -1, 2**32, None, [1.5], b"1", "1:*", [True]):
        with pytest.raises(MessageError):
            connector.mark_as_read(wrong)


@pytest.mark.parametrize("lacks", [(), ("MOVE",), ("MOVE", "UIDPLUS")])
def test_move_and_delete(receiving: Config, imap: ImapServer, lacks: tuple[str, ...]) -> None:
    imap.capabilities = [one for one in imap.capabilities if one not in lacks]
    other = imap.add(b"Subject: other\r\n\r\n", "\\Deleted")
    moved, deleted, kept = (imap.add(b"Subject: %d\r\n\r\n" % n) for n in range(3))
    connector = create_connector("imap", receiving)
    connector.select_mailbox("INBOX")
    assert connector.move_messages([moved, 9999], "Archive") == [moved]
    assert connector.delete_messages(deleted) == [deleted]
    left = {one.uid: one.flags for one in imap.mailboxes["INBOX"]}
    assert left == {other: {"\\Deleted"}, kept: set()}, "no other message is touched"
    assert [one.raw for one in imap.mailboxes["Archive"]] == [b"Subject: 0\r\n\r\n"]
    assert ("EXPUNGE" in imap.expunges) is ("UIDPLUS" in lacks)
    with pytest.raises(MessageError, match=r"refused to move.*'None'|refused to copy.*'None'"):
        connector.move_messages(kept, "None")
    with pytest.raises(MessageError, match="already"):
        connector.move_messages(kept, "INBOX")
    assert {one.uid for one in imap.mailboxes["INBOX"]} == {other, kept}


def test_ids_of_a_mailbox_made_anew(receiving: Config, imap: ImapServer) -> None:
    uid = imap.add(PLAIN)
    connector = create_connector("imap", receiving)
    connector.select_mailbox("INBOX")
    connector.disconnect()
    imap.validity += 1
    with pytest.raises(MessageError, match="made anew"):
        connector.delete_messages(uid, mailbox="INBOX")
    assert len(imap.mailboxes["INBOX"]) == 1
    assert connector.select_mailbox("INBOX") == 1


def test_a_read_only_mailbox_can_be_read(receiving: Config, imap: ImapServer) -> None:
    imap.add(PLAIN)
    imap.read_only = True
    assert len(create_connector("imap", receiving).receive_messages()) == 1


def test_life_of_the_connection(receiving: Config, imap: ImapServer) -> None:
    connector = create_connector("imap", receiving)
    assert not connector.is_connected()
    with connector.connection():
        assert connector.is_connected()
        imap.at["noop"] = ["close"]
        assert not connector.is_connected()
    connector.disconnect()
    assert not connector.is_connected()
    assert connector.receive_messages() == []
    assert imap.connections == 2


def test_a_connection_that_was_ended_while_idle(receiving: Config, imap: ImapServer) -> None:
    imap.add(PLAIN)
    connector = create_connector("imap", receiving)
    assert len(connector.receive_messages()) == 1
    imap.at["select"] = ["close"]
    assert len(connector.receive_messages()) == 1
    assert imap.connections == 2


@pytest.mark.parametrize("mechanism", ["AUTH=PLAIN", ""])
def test_sign_in_by_password(receiving: Config, imap: ImapServer, mechanism: str) -> None:
    imap.capabilities = ["IMAP4rev1", *([mechanism] if mechanism else [])]
    imap.users["alice@test.example"] = 'a "b\\ c'
    create_connector("imap", receiving | {"password": 'a "b\\ c'}).connect()
    with pytest.raises(AuthenticationError, match=r"refused the sign-in of alice@test.example.*no such luck"):
        create_connector("imap", receiving | {"password": "wrong"}).connect()
    imap.users["alice@test.example"] = "pässwörd"
    connector = create_connector("imap", receiving | {"password": "pässwörd"})
    if mechanism:
        connector.connect()
        assert imap.signed_in == ["alice@test.example"] * 2
    else:
        with pytest.raises(AuthenticationError, match="ASCII alone"):
            connector.connect()


def test_logindisabled(receiving: Config, imap: ImapServer) -> None:
    imap.capabilities = ["IMAP4rev1", "LOGINDISABLED"]
    with pytest.raises(AuthenticationError, match="LOGINDISABLED"):
        create_connector("imap", receiving).connect()
    assert not [command for command in imap.commands if command.startswith("LOGIN ")]


def oauth(receiving: Config, tokens: TokenServer) -> GmailIMAPConnector:
    where = {key: receiving[key] for key in ("host", "port", "ca_file", "timeout")}
    return GmailIMAPConnector.create_with_oauth(
        "alice@test.example", "client-1", "client-secret-1", "refresh-1", token_url=tokens.token_url, **where
    )


def test_sign_in_by_token(receiving: Config, imap: ImapServer, tokens: TokenServer) -> None:
    tokens.state.on_token = imap.tokens.add
    oauth(receiving, tokens).connect()
    oauth(receiving, tokens).connect()
    assert tokens.state.given == ["access-1"]
    imap.tokens.clear()
    oauth(receiving, tokens).connect()
    assert tokens.state.given == ["access-1", "access-2"], "a refused AUTHENTICATE fetches anew, once"
    imap.tokens.clear()
    tokens.state.on_token = lambda _token: None
    with pytest.raises(AuthenticationError, match=r"refused the access token of alice@test.example.*\(400\)"):
        oauth(receiving, tokens).connect()
    assert tokens.state.given == ["access-1", "access-2", "access-3"]
    imap.capabilities.remove("AUTH=XOAUTH2")
    with pytest.raises(AuthenticationError, match="does not offer XOAUTH2"):
        oauth(receiving, tokens).connect()


@pytest.mark.parametrize("repeats", [True, False])
@pytest.mark.parametrize("way", ["token", "PLAIN", "LOGIN"])
def test_no_secret_in_texts_and_logs(
    receiving: Config, imap: ImapServer, tokens: TokenServer, way: str, repeats: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    # IMAPClient's log of what a server says is the server's; ours is looked at when the server repeats secrets.
    caplog.set_level(logging.INFO if repeats else logging.DEBUG, "imapclient")
    imap.repeats_secrets = repeats
    imap.users.clear()
    if way == "LOGIN":
        imap.capabilities.remove("AUTH=PLAIN")
    connector: Any = oauth(receiving, tokens) if way == "token" else create_connector("imap", receiving)
    with pytest.raises(AuthenticationError) as caught:
        connector.connect()
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(connector) + repr(connector.config)
    assert not repeats or "***" in shown
    for secret in ("correct horse", "access-1", "access-2", "refresh-1", "client-secret-1"):
        assert secret not in shown


def test_starttls(receiving: Config, certs: Certs) -> None:
    with ImapServer(certs.context(), implicit=False) as server:
        config = receiving | {"port": server.port, "use_ssl": False}
        create_connector("imap", config).connect()
        assert server.commands.index("STARTTLS") < len(server.commands) - 1
        assert server.signed_in == ["alice@test.example"]
        del config["ca_file"]
        with pytest.raises(ConnectionError, match="certificate"):
            create_connector("imap", config).connect()
    with ImapServer(implicit=False) as server:
        config = receiving | {"port": server.port, "use_ssl": False}
        with pytest.raises(ConnectionError, match="does not offer STARTTLS"):
            create_connector("imap", config | {"use_tls": True}).connect()
        create_connector("imap", config).connect()
        create_connector("imap", config | {"use_tls": False}).connect()
        assert len(server.signed_in) == 2, "in clear on a loopback address"


def test_cannot_connect(receiving: Config, certs: Certs) -> None:
    with pytest.raises(ConnectionError, match="was not found"):
        create_connector("imap", receiving | {"host": "no-such-host.invalid"}).connect()
    with pytest.raises(ConnectionError, match="Nothing listens"):
        create_connector("imap", receiving | {"port": free_ports(1)[0]}).connect()
    del receiving["ca_file"]
    with pytest.raises(ConnectionError, match="certificate"):
        create_connector("imap", receiving).connect()
    create_connector("imap", receiving | {"verify_ssl": False}).connect()
    with pytest.raises(ConfigurationError, match="'port'"):
        create_connector("imap", receiving | {"port": 0})


@pytest.mark.parametrize("stage", ["connect", "authenticate", "select", "uid_search", "uid_fetch"])
@pytest.mark.parametrize("what", ["close", "silent", "HTTP/1.1 400 Bad Request", "* BYE going down"])
def test_failures_on_the_way(receiving: Config, imap: ImapServer, stage: str, what: str) -> None:
    imap.add(PLAIN)
    for attempt in attempts():
        with attempt as seconds:
            imap.at[stage] = [what]
            connector = create_connector("imap", receiving | {"timeout": seconds})
            with pytest.raises(ConnectionError) as caught:
                connector.receive_messages(unread_only=True)
            assert caught.value.__cause__ is not None
            assert str(caught.value).endswith(".") or "again" in str(caught.value)
            assert len(connector.receive_messages(unread_only=True)) == 1, "the next call connects again"


def test_a_server_that_says_no(receiving: Config, imap: ImapServer) -> None:
    imap.add(PLAIN)
    connector = create_connector("imap", receiving)
    connector.connect()
    tag = connector._mailbox._client._imap.tagpre.decode()
    connector.select_mailbox("INBOX")
    number = connector._mailbox._client._imap.tagnum
    imap.at["uid_search"] = [f"{tag}{number + 1} NO [LIMIT] too much"]
    with pytest.raises(MessageError, match=r"refused to search.*too much"):
        connector.search_messages(["TEXT", "x"])
    assert connector.is_connected()
