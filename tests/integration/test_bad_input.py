"""Bad input, each with a clear reply, while a bystander on another connection is not disturbed."""

from __future__ import annotations

import base64
import imaplib
import smtplib
import socket
import time
from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.live import DOMAIN, PASSWORD, Live, until


class Wire:
    """A bare socket with lines."""

    def __init__(self, live: Live, port: str, greet: bool = True) -> None:
        self.socket = socket.create_connection((live.host, live.ports[port]), timeout=60)
        self.file = self.socket.makefile("rb")
        if greet:
            self.line()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def line(self) -> bytes:
        return self.file.readline()

    def reply(self) -> bytes:
        """One SMTP reply, its last line."""
        while (line := self.line())[3:4] == b"-":
            pass
        return line

    def ask(self, command: bytes) -> bytes:
        self.send(command + b"\r\n")
        return self.reply()

    def tagged(self, tag: bytes) -> bytes:
        """Lines up to the tagged one, which is returned."""
        while line := self.line():
            if line.startswith((tag + b" ", b"* BYE")):
                return line
        return b""

    def close(self) -> None:
        self.file.close()
        self.socket.close()


@pytest.fixture
def smtp(live: Live) -> Iterator[Wire]:
    wire = Wire(live, "SMTP")
    wire.ask(b"EHLO client.example")
    yield wire
    wire.close()


@pytest.fixture
def imap(live: Live) -> Iterator[Wire]:
    wire = Wire(live, "IMAP")
    wire.send(b'a LOGIN carol "%s"\r\n' % PASSWORD.encode())
    assert wire.tagged(b"a").startswith(b"a OK")
    yield wire
    wire.close()


@pytest.fixture(autouse=True)
def bystander(live: Live) -> Iterator[None]:
    """Connections opened before the bad input still answer after it."""
    smtp = smtplib.SMTP(live.host, live.ports["SMTP"])
    imap = imaplib.IMAP4(live.host, live.ports["IMAP"])
    imap.login("bob", PASSWORD)
    imap.select("INBOX")
    yield
    assert smtp.noop()[0] == 250
    assert imap.noop()[0] == "OK"
    smtp.quit()
    imap.logout()


def begin(wire: Wire, to: str = "carol") -> None:
    assert wire.ask(b"MAIL FROM:<x@elsewhere.example>").startswith(b"250")
    assert wire.ask(b"RCPT TO:<%s@%s>" % (to.encode(), DOMAIN.encode())).startswith(b"250")
    assert wire.ask(b"DATA").startswith(b"354")


def inbox(live: Live, user: str = "carol") -> int:
    with imaplib.IMAP4(live.host, live.ports["IMAP"]) as imap:
        imap.login(user, PASSWORD)
        return int(imap.select("INBOX", readonly=True)[1][0])


# -- SMTP


def test_over_long_command_line(smtp: Wire) -> None:
    assert smtp.ask(b"NOOP " + b"x" * 100_000).startswith(b"500")
    assert smtp.ask(b"NOOP").startswith(b"250")


def test_nul_in_a_command(smtp: Wire) -> None:
    assert smtp.ask(b"MAIL FROM:<x\0@elsewhere.example>")[:1] == b"5"
    assert smtp.ask(b"NOOP").startswith(b"250")


def test_nul_in_the_message(live: Live, smtp: Wire) -> None:
    before = inbox(live)
    begin(smtp)
    assert smtp.ask(b"Subject: nul\r\n\r\na\0b\r\n.")[:1] == b"5"
    assert smtp.ask(b"NOOP").startswith(b"250")
    assert inbox(live) == before


ENDS = [b"\n.\n", b"\r\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\r\n\0.\r\n", b"\n.\r", b"\r\r\n.\r\r\n"]


@pytest.mark.parametrize("end", ENDS)
def test_end_of_data_smuggling_never_splits_a_message(live: Live, smtp: Wire, end: bytes) -> None:
    """Only CRLF . CRLF ends the data: what follows any other form is text, never a second transaction."""
    word = uuid4().hex
    begin(smtp, "alice")
    inner = b"MAIL FROM:<evil@elsewhere.example>\r\nRCPT TO:<bob@%s>\r\nDATA\r\n" % DOMAIN.encode()
    smtp.send(b"Subject: outer %s\r\n\r\ntext" % word.encode() + end + inner)
    smtp.send(b"Subject: smuggled %s\r\n\r\nevil\r\n.\r\n" % word.encode())
    replies = [smtp.reply()]
    smtp.send(b"QUIT\r\n")
    while (line := smtp.reply()) and not line.startswith(b"221"):
        replies.append(line)
    with imaplib.IMAP4(live.host, live.ports["IMAP"]) as imap:
        imap.login("bob", PASSWORD)
        imap.select("INBOX", readonly=True)
        assert imap.search(None, "SUBJECT", f'"smuggled {word}"')[1] == [b""]
    assert len(replies) == 1, replies


def test_a_thousand_commands_at_once(smtp: Wire) -> None:
    smtp.send(b"NOOP\r\n" * 1000)
    assert all(smtp.reply().startswith(b"250") for _ in range(1000))


def test_twelve_thousand_recipients(live: Live, smtp: Wire) -> None:
    assert smtp.ask(b"MAIL FROM:<x@elsewhere.example>").startswith(b"250")
    count, step, verdicts = 12_000, 500, set()
    for _ in range(count // step):
        smtp.send(b"RCPT TO:<alice@%s>\r\n" % DOMAIN.encode() * step)
        verdicts |= {smtp.reply()[:9] for _ in range(step)}
    assert verdicts == {b"250 2.1.5", b"452 4.5.3"}
    before = inbox(live, "alice")
    assert smtp.ask(b"DATA").startswith(b"354")
    assert smtp.ask(b"Subject: many\r\n\r\n.").startswith(b"250")
    assert inbox(live, "alice") == before + 1


def test_client_gone_in_the_middle_of_data(live: Live) -> None:
    before = inbox(live)
    wire = Wire(live, "SMTP")
    wire.ask(b"EHLO client.example")
    begin(wire)
    wire.send(b"Subject: half\r\n\r\nhalf of the te")
    wire.close()
    assert inbox(live) == before


def test_garbage_base64_in_auth(smtp: Wire) -> None:
    assert smtp.ask(b"AUTH PLAIN !!!!").startswith(b"501 5.5.2")
    assert smtp.ask(b"AUTH LOGIN").startswith(b"334")
    assert smtp.ask(b"\xff\xfe===").startswith(b"501 5.5.2")
    assert smtp.ask(b"NOOP").startswith(b"250")


def test_a_byte_at_a_time_is_served_and_disturbs_nobody(smtp: Wire) -> None:
    for byte in b"NOOP\r\n":
        smtp.send(bytes([byte]))
        time.sleep(0.01)  # slowness is the input under test
    assert smtp.reply().startswith(b"250")


def test_a_hundred_connections_from_one_address(live: Live) -> None:
    wires = [Wire(live, "SMTP") for _ in range(100)]
    assert all(wire.ask(b"EHLO client.example").startswith(b"250") for wire in wires)
    for wire in wires:
        wire.close()


def test_commands_behind_starttls_are_discarded(smtp: Wire) -> None:
    smtp.send(b"STARTTLS\r\nMAIL FROM:<injected@elsewhere.example>\r\nRCPT TO:<bob@test.example>\r\n")
    assert smtp.reply().startswith(b"220")
    smtp.socket.settimeout(0.3)
    with pytest.raises(TimeoutError):
        smtp.socket.recv(1)


def test_ten_thousand_nested_parts(live: Live, smtp: Wire) -> None:
    begin(smtp)
    text = b"MIME-Version: 1.0\r\nSubject: nested\r\n"
    for i in range(10_000):
        text += b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (i, i)
    assert smtp.ask(text + b"\r\ncore\r\n.").startswith(b"250")
    with imaplib.IMAP4(live.host, live.ports["IMAP"]) as imap:
        imap.login("carol", PASSWORD)
        imap.select("INBOX")
        numbers = imap.search(None, "SUBJECT", "nested")[1][0].split()
        status, rows = imap.fetch(numbers[-1].decode(), "(BODYSTRUCTURE BODY.PEEK[])")
        assert status == "OK"
        assert rows[0][1].endswith(b"\r\ncore\r\n")


# -- IMAP


@pytest.mark.parametrize(
    "line",
    [
        b"b FETCH 1 (FLAGS",
        b"b SEARCH ((((((ALL)",
        b"b FETCH 1 )(",
        b"b STORE 1 FLAGS ((",
        b'b LIST "" ("',
        b'b SELECT "unfinished',
        b"b FETCH 0 FLAGS",
        b"b FETCH 99999999999999 FLAGS",
        b"b",
        b"b ",
        b"\xff\xfe\xfd",
        b"b SELECT \0",
        b"b NOSUCHCOMMAND",
        b"b SEARCH " + b"(" * 5000 + b"ALL" + b")" * 5000,
        b"b SEARCH " + b"NOT " * 10_000 + b"ALL",
        b"b CREATE &notutf7",
    ],
)
def test_a_bad_command_gets_bad_or_no(imap: Wire, line: bytes) -> None:
    imap.send(line + b"\r\n")
    answer = imap.line()
    assert answer.split(b" ")[1:2] in ([b"BAD"], [b"NO"]), answer
    imap.send(b"c NOOP\r\n")
    assert imap.tagged(b"c").startswith(b"c OK")


def test_over_long_imap_line(imap: Wire) -> None:
    imap.send(b"b NOOP " + b"x" * 1_000_000 + b"\r\n")
    answer = imap.line()
    assert b"BAD" in answer or answer.startswith(b"* BYE")


def test_synchronizing_literal_over_the_limit_is_refused_without_continuation(imap: Wire) -> None:
    imap.send(b"b APPEND INBOX {4000000000}\r\n")
    assert imap.line().startswith(b"b NO [TOOBIG]")
    imap.send(b"c NOOP\r\n")
    assert imap.tagged(b"c").startswith(b"c OK")


def test_huge_non_synchronizing_literal_says_bye(imap: Wire) -> None:
    imap.send(b"b APPEND INBOX {4000000000+}\r\n")
    assert imap.line().startswith(b"* BYE [TOOBIG]")


def test_literals_before_sign_in_are_small(live: Live) -> None:
    wire = Wire(live, "IMAP")
    wire.send(b"b LOGIN {8193}\r\n")
    assert wire.line().startswith(b"b NO [TOOBIG]")
    wire.close()


def test_unfinished_literal_and_client_gone_in_the_middle_of_append(live: Live, imap: Wire) -> None:
    before = inbox(live)
    imap.send(b"b APPEND INBOX {1000000}\r\n")
    assert imap.line().startswith(b"+")
    imap.send(b"Subject: half\r\n\r\n" + b"x" * 300_000)
    imap.close()
    assert inbox(live) == before


def test_a_mailbox_called_like_a_path_is_only_a_name(live: Live, imap: Wire) -> None:
    before = sorted(p.name for p in live.data.iterdir())
    imap.send(b'b CREATE "../../etc"\r\n')
    answer = imap.tagged(b"b")
    assert answer.startswith((b"b OK", b"b NO"))
    imap.send(b'c SELECT "../../etc/passwd"\r\n')
    assert imap.tagged(b"c").startswith(b"c NO")
    assert sorted(p.name for p in live.data.iterdir()) == before


def test_a_thousand_imap_commands_at_once(imap: Wire) -> None:
    imap.send(b"".join(b"n%d NOOP\r\n" % i for i in range(1000)))
    assert all(imap.tagged(b"n%d" % i).startswith(b"n%d OK" % i) for i in range(1000))


def test_garbage_base64_in_authenticate(live: Live) -> None:
    wire = Wire(live, "IMAP")
    wire.send(b"b AUTHENTICATE PLAIN ====\r\n")
    assert wire.line()[:5] in (b"b BAD", b"b NO ")
    wire.send(b"c AUTHENTICATE PLAIN\r\n")
    assert wire.line().startswith(b"+")
    wire.send(base64.b64encode(b"\0\0\0\0") + b"\r\n")
    assert wire.line()[:5] in (b"c BAD", b"c NO ")
    wire.close()


def test_imap_commands_behind_starttls_are_discarded(live: Live) -> None:
    wire = Wire(live, "IMAP")
    wire.send(b"a STARTTLS\r\nb LOGIN carol x\r\n")
    assert wire.line().startswith(b"a OK")
    wire.socket.settimeout(0.3)
    with pytest.raises(TimeoutError):
        wire.socket.recv(1)
    wire.close()


def test_forty_idle_sessions_and_one_busy(live: Live) -> None:
    idle = []
    for _ in range(15):
        wire = Wire(live, "IMAP")
        wire.send(b'a LOGIN bob "%s"\r\nb SELECT INBOX\r\nc IDLE\r\n' % PASSWORD.encode())
        idle.append(wire)
    for wire in idle:
        until(lambda wire=wire: wire.line().startswith(b"+"), what="IDLE")
    with smtplib.SMTP(live.host, live.ports["SMTP"]) as smtp:
        smtp.sendmail("x@elsewhere.example", [f"bob@{DOMAIN}"], b"Subject: news\r\n\r\n")
    for wire in idle:
        assert b"EXISTS" in wire.line()
        wire.close()
