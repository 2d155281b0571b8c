"""imaplib and IMAPClient: the two libraries that most scripts are written with."""

from __future__ import annotations

import imaplib
import smtplib
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from imapclient import SEEN, IMAPClient
from imapclient.exceptions import LoginError

from tests.live import DOMAIN, PASSWORD, Live

pytestmark = pytest.mark.interop

MAIL = b"From: x@elsewhere.example\r\nTo: bob@test.example\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\ntext\r\n"


def no_check() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.fixture
def client(live: Live) -> Iterator[IMAPClient]:
    with IMAPClient(live.host, live.ports["IMAPS"], ssl_context=no_check(), use_uid=True) as imap:
        imap.login(f"bob@{DOMAIN}", PASSWORD)
        yield imap


def test_imapclient_daily_work(client: IMAPClient) -> None:
    assert client.has_capability("UIDPLUS")
    assert client.has_capability("MOVE")
    folders = {name: flags for flags, _, name in client.list_folders()}
    assert b"\\Sent" in folders["Sent"]
    client.create_folder("Projekte/Größe & Maß")
    assert client.folder_exists("Projekte/Größe & Maß")
    client.subscribe_folder("Projekte/Größe & Maß")
    assert "Projekte/Größe & Maß" in [name for _, _, name in client.list_sub_folders()]

    when = datetime(2024, 5, 1, 12, 30, 15, tzinfo=UTC)
    client.append("Projekte/Größe & Maß", MAIL, [SEEN, "$Forwarded"], when)
    client.select_folder("Projekte/Größe & Maß")
    (uid,) = client.search(["SUBJECT", "grüSSe"], charset="UTF-8")
    row = client.fetch([uid], ["FLAGS", "INTERNALDATE", "ENVELOPE", "BODYSTRUCTURE", "BODY[]", "RFC822.SIZE"])[uid]
    assert row[b"BODY[]"] == MAIL
    assert row[b"RFC822.SIZE"] == len(MAIL)
    assert SEEN in row[b"FLAGS"]
    assert b"$Forwarded" in row[b"FLAGS"]
    assert row[b"INTERNALDATE"].astimezone(UTC) == when
    assert row[b"ENVELOPE"].from_[0].mailbox == b"x"
    assert row[b"BODYSTRUCTURE"][0] == b"text"

    client.move([uid], "INBOX")
    assert client.search("ALL") == []
    client.select_folder("INBOX")
    (uid,) = client.search(["SUBJECT", "Grüße"], charset="UTF-8")
    client.delete_messages([uid])
    client.uid_expunge([uid])
    assert uid not in client.search("ALL")
    client.unselect_folder()
    client.rename_folder("Projekte/Größe & Maß", "Projekte/Alt")
    client.delete_folder("Projekte/Alt")
    assert client.folder_status("INBOX", ["MESSAGES", "UIDNEXT", "UIDVALIDITY", "UNSEEN"])[b"UIDNEXT"] > uid


def test_imapclient_idle_hears_of_a_delivery(client: IMAPClient, live: Live) -> None:
    client.select_folder("INBOX")
    client.idle()
    client.idle_check(timeout=0.05)

    def deliver() -> None:
        with smtplib.SMTP(live.host, live.ports["SMTP"]) as smtp:
            smtp.sendmail("x@elsewhere.example", [f"bob@{DOMAIN}"], MAIL)

    sender = threading.Thread(target=deliver)
    sender.start()
    told = client.idle_check(timeout=60)
    sender.join()
    client.idle_done()
    assert any(item[1] == b"EXISTS" for item in told if len(item) > 1)


def test_imapclient_wrong_password(live: Live) -> None:
    with IMAPClient(live.host, live.ports["IMAPS"], ssl_context=no_check()) as imap, pytest.raises(LoginError):
        imap.login("carol", "wrong")


def test_imaplib_two_sessions_see_each_other(live: Live) -> None:
    def session() -> imaplib.IMAP4_SSL:
        imap = imaplib.IMAP4_SSL(live.host, live.ports["IMAPS"], ssl_context=no_check())
        imap.login("carol", PASSWORD)
        return imap

    with session() as one, session() as two:
        one.create("Both")
        one.append("Both", "", None, MAIL)
        two.select("Both")
        one.select("Both")
        one.store("1", "+FLAGS", "(\\Answered)")
        two.noop()
        assert b"\\Answered" in two.response("FETCH")[1][0]
        one.append("Both", "", None, MAIL)
        two.noop()
        assert two.response("EXISTS")[1][-1] == b"2"
        one.store("1", "+FLAGS", "(\\Deleted)")
        one.expunge()
        two.noop()
        assert two.response("EXPUNGE")[1] == [b"1"]


def test_imaplib_with_utf8(live: Live) -> None:
    mail = "Subject: Grüße\r\n\r\ntext\r\n".encode()
    with imaplib.IMAP4_SSL(live.host, live.ports["IMAPS"], ssl_context=no_check()) as imap:
        imap.login("carol", PASSWORD)
        imap.enable("UTF8=ACCEPT")
        assert imap.create('"Größe & Maß"')[0] == "OK"
        assert '(\\HasNoChildren) "/" "Größe & Maß"'.encode() in imap.list('""', '"Größe*"')[1]
        assert imap.append('"Größe & Maß"', "", None, mail)[0] == "OK"
        assert imap.select('"Größe & Maß"')[1] == [b"1"]
        assert imap.search(None, "SUBJECT", '"GRÜSSE"')[1] == [b"1"]
        assert imap.fetch("1", "(BODY[])")[1][0][1] == mail


def test_imaplib_with_imap4rev2(live: Live) -> None:
    with imaplib.IMAP4_SSL(live.host, live.ports["IMAPS"], ssl_context=no_check()) as imap:
        imap.login("carol", PASSWORD)
        imap.enable("IMAP4rev2")
        imap.create("Second")
        imap.append("Second", "", None, MAIL)
        assert imap.select("Second")[1] == [b"1"]
        assert imap.response("RECENT")[1] == [None]
        assert imap.response("LIST")[1] == [b'(\\HasNoChildren) "/" Second']
        imap.search(None, "ALL")
        assert imap.response("ESEARCH")[1][0].endswith(b" ALL 1")
        # RFC 9051 §6.4.5
        assert imap.fetch("1", "(BINARY.PEEK[1] BINARY.SIZE[1])")[1][0][1] == b"text\r\n"


def test_imapclient_with_a_bearer_token(live: Live) -> None:
    token = live.token(f"bob@{DOMAIN}", PASSWORD)
    for way in ("oauth2_login", "oauthbearer_login"):
        with IMAPClient(live.host, live.ports["IMAPS"], ssl_context=no_check()) as imap:
            # It answers the error's challenge by saying the same again.
            with pytest.raises(LoginError):
                getattr(imap, way)(f"bob@{DOMAIN}", "homing_at_bad")
            getattr(imap, way)(f"bob@{DOMAIN}", token)
            assert imap.select_folder("INBOX")[b"UIDVALIDITY"]
    with IMAPClient(live.host, live.ports["IMAPS"], ssl_context=no_check()) as imap:
        imap.oauthbearer_login("", token)
        assert imap.folder_exists("INBOX")
