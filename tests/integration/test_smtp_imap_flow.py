"""The four points that the SMTP service has always had to prove, against a server started as a user starts it.

Local domain check; send with authentication; SMTP → storage → IMAP; a domain that is not ours.
"""

from __future__ import annotations

import imaplib
import smtplib
import ssl
from email.message import EmailMessage
from uuid import uuid4

import pytest

from tests.live import DOMAIN, PASSWORD, Live, until


def message(subject: str, to: str, sender: str = f"alice@{DOMAIN}") -> EmailMessage:
    m = EmailMessage()
    m["From"], m["To"], m["Subject"] = sender, to, subject
    m["Message-ID"] = f"<{uuid4().hex}@{DOMAIN}>"
    m.set_content("The text of the message.\r\n")
    return m


def no_check() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def found(live: Live, user: str, subject: str) -> list[bytes]:
    with imaplib.IMAP4_SSL(live.host, live.ports["IMAPS"], ssl_context=no_check()) as imap:
        imap.login(user, PASSWORD)
        imap.select("INBOX", readonly=True)
        _, data = imap.search(None, "SUBJECT", f'"{subject}"')
        uids: list[bytes] = data[0].split()
    return uids


def test_local_domain_check(live: Live) -> None:
    token = live.token("alice", PASSWORD)
    assert live.rest("GET", f"/api/domains/{DOMAIN}/exists", token=token) == (
        200,
        {"exists": True, "domain": DOMAIN},
    )
    assert live.rest("GET", "/api/domains/elsewhere.example/exists", token=token)[1]["exists"] is False
    assert live.rest("GET", f"/api/domains/{DOMAIN}/exists")[0] == 401


def test_send_with_authentication_is_stored_and_read_over_imap(live: Live) -> None:
    subject = f"flow {uuid4().hex}"
    with smtplib.SMTP(live.host, live.ports["SUBMISSION"]) as smtp:
        smtp.starttls(context=no_check())
        smtp.login("alice", PASSWORD)
        smtp.send_message(message(subject, f"bob@{DOMAIN}"))
    # the 250 came after the commit, so it is there at once, without waiting
    assert len(found(live, "bob", subject)) == 1

    with imaplib.IMAP4(live.host, live.ports["IMAP"]) as imap:
        imap.starttls(ssl_context=no_check())
        imap.login(f"bob@{DOMAIN}", PASSWORD)
        imap.select("INBOX")
        _, data = imap.search(None, "SUBJECT", f'"{subject}"')
        _, fetched = imap.fetch(data[0].split()[0].decode(), "(FLAGS BODY[])")
        raw = fetched[0][1]
    assert b"Return-Path: <alice@" in raw
    assert b"Subject: " + subject.encode() in raw
    assert raw.endswith(b"The text of the message.\r\n")


def test_wrong_password_is_refused(live: Live) -> None:
    with smtplib.SMTP(live.host, live.ports["SUBMISSION"]) as smtp:
        smtp.starttls(context=no_check())
        with pytest.raises(smtplib.SMTPAuthenticationError) as error:
            smtp.login("carol", "not her password")
    assert error.value.smtp_code == 535


def test_mail_from_outside_is_accepted_for_our_users_alone(live: Live) -> None:
    subject = f"outside {uuid4().hex}"
    with smtplib.SMTP(live.host, live.ports["SMTP"]) as smtp:
        smtp.send_message(message(subject, f"carol@{DOMAIN}", sender="someone@elsewhere.example"))
        with pytest.raises(smtplib.SMTPRecipientsRefused) as error:
            smtp.send_message(message(subject, f"nobody@{DOMAIN}", sender="someone@elsewhere.example"))
        assert error.value.recipients[f"nobody@{DOMAIN}"][0] == 550
        assert b"5.1.1" in error.value.recipients[f"nobody@{DOMAIN}"][1]
    assert len(found(live, "carol", subject)) == 1


def test_a_domain_that_is_not_ours(live: Live) -> None:
    away = "friend@elsewhere.example"
    with smtplib.SMTP(live.host, live.ports["SMTP"]) as smtp:
        with pytest.raises(smtplib.SMTPRecipientsRefused) as error:
            smtp.send_message(message("relay", away, sender="someone@third.example"))
        assert error.value.recipients[away][0] == 550
        assert b"5.7.1" in error.value.recipients[away][1]
    with smtplib.SMTP_SSL(live.host, live.ports["SUBMISSIONS"], context=no_check()) as smtp:
        smtp.login("alice", PASSWORD)
        assert smtp.send_message(message("away", away)) == {}
    stats = live.rest("GET", "/api/stats", token=live.admin_token())[1]
    assert stats["spool"] == 1


def test_a_sender_that_is_not_the_accounts_own_is_refused(live: Live) -> None:
    with smtplib.SMTP_SSL(live.host, live.ports["SUBMISSIONS"], context=no_check()) as smtp:
        smtp.login("alice", PASSWORD)
        with pytest.raises(smtplib.SMTPSenderRefused):
            smtp.send_message(message("not me", f"bob@{DOMAIN}", sender=f"carol@{DOMAIN}"))


def test_send_over_rest_and_the_shapes_of_the_service(live: Live) -> None:
    subject = f"rest {uuid4().hex}"
    body = {"sender": f"alice@{DOMAIN}", "recipient": f"bob@{DOMAIN}", "subject": subject, "body": "Grüße"}
    assert live.rest("POST", "/send", body)[0] == 401
    status, answer = live.rest("POST", "/send", body, token=live.token("alice", PASSWORD))
    assert status == 200
    assert answer["status"] == "queued"
    assert set(answer) >= {"status", "message", "email_id"}
    until(lambda: found(live, "bob", subject), what="the message over IMAP")
    status, health = live.rest("GET", "/api/health")
    assert status == 200
    assert health["status"] == "healthy"
    assert health["controller_running"] is True
    assert {"uptime_seconds", "emails_in_queue"} <= set(health)


def test_config_takes_effect_while_running_and_imap_stays_up(live: Live) -> None:
    admin = live.admin_token()
    assert live.rest("PUT", "/api/config", {"max_workers": 2}, token=live.token("alice", PASSWORD))[0] == 403
    assert live.rest("PUT", "/api/config", {"max_workers": 0}, token=admin)[0] == 422
    status, config = live.rest("PUT", "/api/config", {"max_workers": 2, "enabled": False}, token=admin)
    assert status == 200, config
    assert live.rest("GET", "/api/config", token=admin)[1]["max_workers"] == 2

    def refused() -> bool:
        try:
            with smtplib.SMTP(live.host, live.ports["SMTP"]):
                return False
        except smtplib.SMTPConnectError as error:
            return error.smtp_code == 421

    try:
        until(refused, what="421 for new connections")
        with imaplib.IMAP4(live.host, live.ports["IMAP"]) as imap:
            assert imap.login("bob", PASSWORD)[0] == "OK"
    finally:
        assert live.rest("PUT", "/api/config", {"enabled": True, "max_workers": 4}, token=admin)[0] == 200
    until(lambda: not refused(), what="connections again")


def test_restart_keeps_what_was_kept(live: Live) -> None:
    before = len(found(live, "bob", "flow"))
    status, answer = live.rest("POST", "/api/restart", token=live.admin_token())
    assert (status, answer["status"]) == (200, "restarted")
    assert live.rest("POST", "/api/restart", token=live.token("alice", PASSWORD))[0] == 403

    def accepts() -> bool:
        try:
            with smtplib.SMTP(live.host, live.ports["SMTP"]) as smtp:
                return smtp.noop()[0] == 250
        except OSError:
            return False

    until(accepts, what="SMTP after the restart")
    assert len(found(live, "bob", "flow")) == before
