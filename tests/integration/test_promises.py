"""What only the whole server can keep: connections that end with their credentials, settings and mail that outlive a
process, certificates, imported passwords, quotas, where mail goes and what we write on it."""

from __future__ import annotations

import base64
import csv
import email
import email.policy
import imaplib
import json
import re
import signal
import smtplib
import socket
import ssl
import stat
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from runtime.tls import make_self_signed
from tests.live import DOMAIN, PASSWORD, Live, embedded_only, running, until

NOTICED = 60.0
"""Seconds after which no connection lives on with credentials that no longer hold: five, on a machine that is not busy
with other tests."""
# The hashes of PASSWORD, as other servers have made them.
BCRYPT = "$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e"
SHA512 = (
    "$6$rounds=5000$saltsalt$hRM5XZ86KXEw9UOmjigeVqFgULtFB2sgpC9lXQDfMib3Zgw7mEiUvBJI2EplzfAqxL5Vvwp2scFtv/uamSo5z0"
)


class Line:
    """A client of lines that shows what comes unasked. source: the loopback address to come from."""

    def __init__(self, live: Live, port: str, *, tls: bool = False, source: str = "127.0.0.1") -> None:
        opened = socket.create_connection((live.host, live.ports[port]), timeout=60, source_address=(source, 0))
        self.socket = no_check().wrap_socket(opened) if tls else opened
        self.file = self.socket.makefile("rb")

    def reply(self) -> str:
        """The next line, of an SMTP reply the last one; "" at the end."""
        while (line := self.file.readline())[3:4] == b"-":
            pass
        return line.decode().rstrip("\r\n")

    def ask(self, command: str) -> str:
        self.socket.sendall(command.encode() + b"\r\n")
        return self.reply()

    def tagged(self, command: str) -> str:
        self.socket.sendall(b"t " + command.encode() + b"\r\n")
        while (line := self.reply()) and not line.startswith("t "):
            pass
        return line

    def ended(self, seconds: float) -> str:
        """The line that the server says of itself, after which it closes."""
        self.socket.settimeout(seconds)
        line = self.reply()
        assert self.file.readline() == b""
        return line

    def close(self) -> None:
        self.file.close()
        self.socket.close()


def no_check() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def sign_in(line: Line, user: str, password: str) -> str:
    return line.ask("AUTH PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()).decode())


def submission(live: Live, user: str, password: str = PASSWORD, **more: Any) -> Line:
    line = Line(live, "SUBMISSION", **more)
    line.reply()
    line.ask("EHLO client.example")
    assert sign_in(line, user, password).startswith("235"), user
    return line


def reader(live: Live, user: str, password: str = PASSWORD) -> Line:
    line = Line(live, "IMAP")
    line.reply()
    assert line.tagged(f'LOGIN {user} "{password}"').startswith("t OK"), user
    return line


def outside(live: Live) -> Line:
    """An SMTP connection of another server."""
    line = Line(live, "SMTP")
    line.reply()
    line.ask("EHLO mx.elsewhere.example")
    return line


def begin_data(line: Line, recipient: str, subject: str, sender: str = "a@elsewhere.example") -> None:
    """In the middle of DATA."""
    assert line.ask(f"MAIL FROM:<{sender}>").startswith("250")
    assert line.ask(f"RCPT TO:<{recipient}>").startswith("250"), recipient
    assert line.ask("DATA").startswith("354")
    line.socket.sendall(f"Subject: {subject}\r\n\r\nthe first half\r\n".encode())


def deliver(live: Live, recipient: str, subject: str) -> None:
    with closing(outside(live)) as line:
        begin_data(line, recipient, subject)
        assert line.ask(".").startswith("250")


def kept(live: Live, user: str, subject: str, password: str = PASSWORD) -> list[bytes]:
    """The messages of that subject in the user's INBOX, whole."""
    with imaplib.IMAP4(live.host, live.ports["IMAP"]) as imap:
        imap.login(user, password)
        imap.select("INBOX", readonly=True)
        numbers = imap.search(None, "SUBJECT", f'"{subject}"')[1][0].split()
        fetched: list[Any] = [imap.fetch(number.decode(), "(BODY.PEEK[])")[1][0] for number in numbers]
        return [octets for _, octets in fetched]


def account_id(live: Live, name: str, token: str) -> str:
    return str(live.rest("GET", f"/api/users/{name}@{DOMAIN}", token=token)[1]["id"])


# -- credentials that no longer hold


@pytest.fixture
def two(live: Live) -> Iterator[tuple[str, Line, Line]]:
    """A user of its own with an IMAP and an SMTP connection, beside those of carol, which live on."""
    user = f"u{uuid4().hex[:12]}"
    live.add_users(user)
    others = reader(live, "carol"), submission(live, "carol")
    own = reader(live, user), submission(live, user)
    yield user, *own
    assert others[0].tagged("NOOP").startswith("t OK")
    assert others[1].ask("NOOP").startswith("250")
    for line in (*others, *own):
        line.close()


def assert_signed_out(imap: Line, smtp: Line) -> None:
    deadline = time.monotonic() + NOTICED
    assert imap.ended(NOTICED).startswith("* BYE")
    assert smtp.ended(max(0.1, deadline - time.monotonic())).startswith("421 4.7.0")


def test_a_new_password_ends_the_connections_of_the_old_one(live: Live, two: tuple[str, Line, Line]) -> None:
    user, imap, smtp = two
    live.cli("user", "passwd", f"{user}@{DOMAIN}", "--password-stdin", stdin="another one\n")
    assert_signed_out(imap, smtp)
    with closing(Line(live, "SUBMISSION")) as again:
        again.reply()
        again.ask("EHLO client.example")
        assert sign_in(again, user, PASSWORD).startswith("535 5.7.8")
        assert sign_in(again, user, "another one").startswith("235")


def test_a_disabled_account_has_no_connections(live: Live, two: tuple[str, Line, Line]) -> None:
    user, imap, smtp = two
    live.cli("user", "disable", f"{user}@{DOMAIN}")
    assert_signed_out(imap, smtp)
    with closing(outside(live)) as line:
        assert sign_in(line, user, PASSWORD).startswith("535 5.7.13")
    # Mail for it is still kept.
    deliver(live, f"{user}@{DOMAIN}", "meanwhile")
    live.cli("user", "enable", f"{user}@{DOMAIN}")
    assert len(kept(live, user, "meanwhile")) == 1


def test_a_revoked_app_password_ends_its_own_connections_alone(live: Live, two: tuple[str, Line, Line]) -> None:
    user, imap, smtp = two
    token = live.token(user, PASSWORD)
    path = f"/api/users/{account_id(live, user, token)}/app-passwords"
    status, made = live.rest("POST", path, {"name": "phone"}, token=token)
    assert status == 201
    phone = reader(live, user, made["password"]), submission(live, user, made["password"])
    of_phone = live.token(user, made["password"])
    assert live.rest("DELETE", f"{path}/{made['id']}", token=token)[0] == 200
    assert_signed_out(*phone)
    # The account's own password is another credential, and what came of the app password ends with it.
    assert imap.tagged("NOOP").startswith("t OK")
    assert smtp.ask("NOOP").startswith("250")
    assert live.rest("GET", "/api/verify", token=of_phone)[0] == 401
    assert live.rest("GET", "/api/verify", token=token)[0] == 200
    for line in phone:
        line.close()


def test_a_demoted_administrator_keeps_no_rights(live: Live, two: tuple[str, Line, Line]) -> None:
    user, imap, smtp = two
    admin = live.admin_token()
    path = f"/api/users/{account_id(live, user, admin)}"
    token = live.token(user, PASSWORD)
    assert live.rest("GET", "/api/users", token=token)[0] == 403
    assert live.rest("PUT", path, {"role": "admin"}, token=admin)[0] == 200
    # A token stands for the account as it is now.
    assert live.rest("GET", "/api/users", token=token)[0] == 200
    of_admin = reader(live, user), submission(live, user)
    assert live.rest("PUT", path, {"role": "user"}, token=admin)[0] == 200
    assert live.rest("GET", "/api/users", token=token)[0] == 403
    assert_signed_out(*of_admin)
    for line in (*of_admin, imap, smtp):
        line.close()


# -- guesses


def test_guesses_are_slowed_and_the_usual_device_gets_in(live: Live) -> None:
    user = f"u{uuid4().hex[:12]}"
    live.add_users(user)
    submission(live, user).close()
    replies: list[str] = []
    for number in range(8):
        with closing(Line(live, "SUBMISSION", source="127.0.0.2")) as line:
            line.reply()
            line.ask("EHLO guesser.example")
            replies.append(sign_in(line, user, f"guess {number}"))
    assert replies[0].startswith("535 5.7.8")
    assert replies[-1].startswith("454 4.7.0")
    with closing(Line(live, "SUBMISSION", source="127.0.0.2")) as line:
        line.reply()
        line.ask("EHLO guesser.example")
        # Also the right one: who guesses learns nothing.
        assert sign_in(line, user, PASSWORD).startswith("454 4.7.0")
    submission(live, user).close()
    reader(live, user).close()


# -- imported passwords


def test_imported_hashes_become_argon2id_at_the_first_sign_in(live: Live) -> None:
    hashes = {"of-bcrypt": BCRYPT, "of-sha512": SHA512}
    rows = live.data.parent / "hashes.csv"
    rows.write_text("".join(f"{name}@{DOMAIN},{hash}\n" for name, hash in hashes.items()))
    live.cli("user", "import", str(rows))

    def exported() -> dict[str, str]:
        return {row[0]: row[1] for row in csv.reader(live.cli("user", "export").stdout.splitlines())}

    assert {exported()[f"{name}@{DOMAIN}"] for name in hashes} == set(hashes.values())
    for name in hashes:
        line = submission(live, name)
        now = exported()[f"{name}@{DOMAIN}"]
        assert now.startswith("$argon2id$"), name
        # The same password, and nothing ends.
        assert line.ask("NOOP").startswith("250")
        line.close()
        reader(live, name).close()


# -- quota


def test_over_quota(live: Live) -> None:
    user = f"full{uuid4().hex[:8]}"
    live.cli("user", "add", f"{user}@{DOMAIN}", "--password-stdin", "--quota", "4 KiB", stdin=f"{PASSWORD}\n")
    with closing(outside(live)) as line:
        line.ask("MAIL FROM:<a@elsewhere.example> SIZE=5000")
        assert line.ask(f"RCPT TO:<{user}@{DOMAIN}>").startswith("452 4.2.2")
        line.ask("RSET")
        # Without SIZE the message is taken whole: over quota is never decided after DATA.
        begin_data(line, f"{user}@{DOMAIN}", "fills it")
        line.socket.sendall(b"x" * 70 + b"\r\n")
        for _ in range(70):
            line.socket.sendall(b"y" * 70 + b"\r\n")
        assert line.ask(".").startswith("250")
        line.ask("MAIL FROM:<a@elsewhere.example>")
        assert line.ask(f"RCPT TO:<{user}@{DOMAIN}>").startswith("452 4.2.2")
        # A full mailbox is nobody else's trouble.
        assert line.ask(f"RCPT TO:<alice@{DOMAIN}>").startswith("250")
    with imaplib.IMAP4(live.host, live.ports["IMAP"]) as imap:
        imap.login(user, PASSWORD)
        status, text = imap.append("INBOX", None, None, b"Subject: more\r\n\r\nbody\r\n")
        assert (status, text[0][:11]) == ("NO", b"[OVERQUOTA]")
        # Room that was made is room at once, or as soon as what is remembered of it has run out.
        imap.select("INBOX")
        imap.store("1", "+FLAGS", "\\Deleted")
        imap.expunge()
        assert imap.append("INBOX", None, None, b"Subject: more\r\n\r\nbody\r\n")[0] == "OK"


# -- where mail goes


def test_aliases_catch_all_and_details(live: Live) -> None:
    subject = f"to {uuid4().hex}"
    away = f"friend{uuid4().hex[:6]}@elsewhere.example"
    live.cli("alias", "add", f"team@{DOMAIN}", f"alice@{DOMAIN}", f"bob@{DOMAIN}", away)
    live.cli("domain", "add", "caught.example")
    admin = live.admin_token()
    assert live.rest("PUT", "/api/domains/caught.example", {"catch_all": f"carol@{DOMAIN}"}, token=admin)[0] == 200
    spool = live.rest("GET", "/api/stats", token=admin)[1]["spool"]
    addresses = {
        f"team@{DOMAIN}": ("alice", "bob"),
        f"TEAM+x@{DOMAIN.upper()}": ("alice", "bob"),
        "anyone@caught.example": ("carol",),
        f"alice+list@{DOMAIN}": ("alice",),
        f'"alice"@{DOMAIN}': ("alice",),
        f"postmaster@{DOMAIN}": (),
        "Postmaster": (),
    }
    for number, address in enumerate(addresses):
        deliver(live, address, f"{subject} {number}")
    for number, (address, users) in enumerate(addresses.items()):
        for user in ("alice", "bob", "carol"):
            assert len(kept(live, user, f"{subject} {number}")) == (user in users), (address, user)
        if not users:
            found = kept(live, f"admin@{DOMAIN}", f"{subject} {number}", live.admin_password)
            assert len(found) == 1, address
    # An alias of ours may lead elsewhere, whoever writes to it.
    assert live.rest("GET", "/api/stats", token=admin)[1]["spool"] == spool + 2
    # Two ways to one mailbox are one message.
    with closing(outside(live)) as line:
        line.ask("MAIL FROM:<a@elsewhere.example>")
        for address in (f"team@{DOMAIN}", f"alice@{DOMAIN}", f"alice+z@{DOMAIN}"):
            assert line.ask(f"RCPT TO:<{address}>").startswith("250")
        line.ask("DATA")
        assert line.ask(f"Subject: {subject} once\r\n\r\n.").startswith("250")
    assert len(kept(live, "alice", f"{subject} once")) == 1


@pytest.mark.parametrize(
    "address",
    [
        "user@elsewhere.example",
        f"user%elsewhere.example@{DOMAIN}",
        f'"user@elsewhere.example"@{DOMAIN}',
        f"user@elsewhere.example@{DOMAIN}",
        f"@{DOMAIN}:user@elsewhere.example",
        f"elsewhere.example!user@{DOMAIN}",
        f"user@{DOMAIN}.elsewhere.example",
        f"user@[{DOMAIN}]",
        "user@[127.0.0.1]",
        f"user@elsewhere.example(@{DOMAIN})",
        f"user@{DOMAIN.replace('e', chr(0x0435))}",
    ],
)
def test_nobody_relays(live: Live, address: str) -> None:
    with closing(outside(live)) as line:
        assert line.ask("MAIL FROM:<a@elsewhere.example> SMTPUTF8").startswith("250")
        reply = line.ask(f"RCPT TO:<{address}>")
        assert re.match(r"(550 5\.[17]\.1|501 5\.1\.3) ", reply), reply
        assert line.ask("DATA").startswith("554 5.5.1")


# -- what we write on it


def test_trace_headers(live: Live) -> None:
    subject = f"trace {uuid4().hex}"
    with smtplib.SMTP_SSL(live.host, live.ports["SUBMISSIONS"], context=no_check()) as smtp:
        smtp.login("alice", PASSWORD)
        text = f"From: alice@{DOMAIN}\r\nSubject: {subject}\r\n\r\nbody\r\n"
        smtp.sendmail(f"alice@{DOMAIN}", [f"bob+note@{DOMAIN}", f"carol@{DOMAIN}"], text)
    raw = {user: kept(live, user, subject)[0] for user in ("bob", "carol")}
    for user, address in (("bob", f"bob+note@{DOMAIN}"), ("carol", f"carol@{DOMAIN}")):
        prefix = f"Return-Path: <alice@{DOMAIN}>\r\nDelivered-To: {address}\r\nReceived: from "
        assert raw[user].startswith(prefix.encode()), raw[user][:300]
        assert raw[user].endswith(text.encode())
        received = email.message_from_bytes(raw[user], policy=email.policy.default)["Received"]
        assert re.search(r"with ESMTPSA \(TLSv1\.[23] [A-Z0-9_-]+\)", received), received
        assert "[127.0.0.1]" in received
        assert " for " not in received
    # What is each recipient's own is before the octets that all share.
    shared = [octets[octets.index(b"Received:") :] for octets in raw.values()]
    assert shared[0] == shared[1]

    deliver(live, f"bob@{DOMAIN}", f"{subject} plain")
    plain = kept(live, "bob", f"{subject} plain")[0]
    assert plain.startswith(f"Return-Path: <a@elsewhere.example>\r\nDelivered-To: bob@{DOMAIN}\r\n".encode())
    assert b" with ESMTP\r\n" in plain


@pytest.mark.parametrize(("fields", "reply"), [(99, "250"), (100, "554 5.4.6")])
def test_loops_are_cut(live: Live, fields: int, reply: str) -> None:
    with closing(outside(live)) as line:
        begin = "MAIL FROM:<a@elsewhere.example>", f"RCPT TO:<bob@{DOMAIN}>", "DATA"
        for command in begin:
            line.ask(command)
        loop = "Received: from a by b; Sat, 1 Jan 2000 00:00:00 +0000\r\n" * fields
        assert line.ask(f"{loop}Subject: loop\r\n\r\nbody\r\n.").startswith(reply)


# -- the life of the process


def test_a_restart_of_smtp_in_the_middle_of_data(live: Live) -> None:
    subject = f"restart {uuid4().hex}"
    admin = live.admin_token()
    with closing(outside(live)) as busy:
        begin_data(busy, f"bob@{DOMAIN}", subject)
        assert live.rest("POST", "/api/restart", token=admin)[0] == 200
        deliver(live, f"bob@{DOMAIN}", f"{subject} meanwhile")
        busy.socket.sendall(b"the second half\r\n")
        assert busy.ask(".").startswith("250")
    found = kept(live, "bob", subject)
    assert len(found) == 2
    assert sum(octets.endswith(b"the first half\r\nthe second half\r\n") for octets in found) == 1


@embedded_only("its drain, its end and the next start on the same folder")
def test_a_process_and_its_successor(tmp_path: Path) -> None:
    """SIGTERM in the middle of DATA, and what the next start knows."""
    data = tmp_path / "data"
    with running(data, "bob") as live:
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
        assert stat.S_IMODE((data / "first-run.txt").stat().st_mode) == 0o600
        admin = live.admin_token()
        assert live.rest("GET", "/api/config", token=admin)[1]["max_workers"] == 4
        assert live.rest("PUT", "/api/config", {"max_workers": 7, "timeout": 11.5}, token=admin)[0] == 200

        busy, idle, imap = outside(live), outside(live), reader(live, "bob")
        begin_data(busy, f"bob@{DOMAIN}", "half")
        assert live.process is not None
        live.process.send_signal(signal.SIGTERM)
        assert idle.ended(60).startswith("421 4.3.2")
        assert imap.ended(60).startswith("* BYE")

        for port in ("SMTP", "SUBMISSION", "IMAP"):
            with pytest.raises(ConnectionRefusedError):
                Line(live, port)
        assert live.process.poll() is None
        busy.socket.sendall(b"the second half\r\n")
        assert busy.ask(".").startswith("250")
        assert busy.ended(60).startswith("421")
        assert live.process.wait(60) == 0
        for line in (busy, idle, imap):
            line.close()

        # The command line works on the folder of a stopped server too.
        rows = {row["key"]: row for row in json.loads(live.cli("config", "--json").stdout)}
        assert (rows["smtp.max_workers"]["value"], rows["smtp.max_workers"]["origin"]) == ("7", "override")
        live.add_users("later")
        live.cli("alias", "add", f"both@{DOMAIN}", f"bob@{DOMAIN}", f"later@{DOMAIN}")

        begun = time.monotonic()
        live.start()
        print(f"a later start took {time.monotonic() - begun:.2f} s")
        assert len(kept(live, "bob", "half")) == 1
        admin = live.admin_token()
        config = live.rest("GET", "/api/config", token=admin)[1]
        assert (config["max_workers"], config["timeout"]) == (7, 11.5)
        live.cli("config", "clear", "smtp.max_workers")
        assert live.rest("GET", "/api/config", token=admin)[1]["max_workers"] == 4
        rows = {row["key"]: row for row in json.loads(live.cli("config", "--json").stdout)}
        assert (rows["smtp.max_workers"]["origin"], rows["smtp.timeout"]["origin"]) == ("default", "override")
        assert "later@" in live.cli("user", "list").stdout
        assert "both@" in live.cli("alias", "list").stdout
        live.cli("domain", "add", "more.example")
        assert "more.example" in live.cli("domain", "list").stdout
        live.cli("domain", "remove", "more.example")
        assert "more.example" not in live.cli("domain", "list").stdout
        deliver(live, f"both@{DOMAIN}", "both")
        assert len(kept(live, "later", "both")) == 1


def test_a_changed_certificate_is_taken_up(tmp_path: Path) -> None:
    cert, key = make_self_signed(tmp_path / "one", ["one.example"])
    env = {"HOMING_TLS_CERT": str(cert), "HOMING_TLS_KEY": str(key)}
    with running(tmp_path / "data", "bob", **env) as live:

        def presented(port: str) -> bytes | None:
            with closing(Line(live, port, tls=True)) as line:
                assert isinstance(line.socket, ssl.SSLSocket)
                return line.socket.getpeercert(binary_form=True)

        def upgraded() -> bytes | None:
            with smtplib.SMTP(live.host, live.ports["SUBMISSION"]) as smtp:
                smtp.starttls(context=no_check())
                assert isinstance(smtp.sock, ssl.SSLSocket)
                return smtp.sock.getpeercert(binary_form=True)

        def der(path: Path) -> bytes:
            return ssl.PEM_cert_to_DER_cert(path.read_text())

        assert {presented("SUBMISSIONS"), presented("IMAPS"), upgraded()} == {der(cert)}
        stays = Line(live, "IMAPS", tls=True)
        stays.reply()
        new_cert, new_key = make_self_signed(tmp_path / "two", ["two.example"])
        new = der(new_cert)
        new_key.replace(key)
        new_cert.replace(cert)
        # Each process looks for it by itself.
        for shown in (lambda: presented("IMAPS"), lambda: presented("SUBMISSIONS"), upgraded):
            until(lambda shown=shown: shown() == new, what="the new certificate")
        # Who is in stays in.
        assert stays.tagged(f'LOGIN bob "{PASSWORD}"').startswith("t OK")
        stays.close()


def test_health_when_smtp_is_off_on_purpose(tmp_path: Path) -> None:
    off = {"HOMING_SMTP_PORT": "", "HOMING_SUBMISSION_PORT": "", "HOMING_SUBMISSIONS_PORT": ""}
    with running(tmp_path / "data", **off) as live:
        status, health = live.rest("GET", "/api/health")
        assert (status, health["status"], health["controller_running"]) == (200, "healthy", False)
