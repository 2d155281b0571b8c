"""Every message of the corpus in by SMTP or APPEND, out by IMAP: bytes equal but for our own trace headers."""

from __future__ import annotations

import imaplib
import re
import smtplib
import socket

import pytest

from tests.corpus.make import messages
from tests.live import DOMAIN, PASSWORD, Live

CORPUS = messages()
TRACE = re.compile(
    rb"\AReturn-Path: [^\r\n]*\r\nDelivered-To: [^\r\n]*\r\nReceived: (?:[^\r\n]|\r\n[ \t])*?;[^;]*? [+-]\d{4}\r\n"
)
"""Our own trace headers, up to the date that ends Received: a message may begin with a folded line."""


def by_smtp(raw: bytes) -> bool:
    """What RFC 5321 lets through DATA: lines of at most 998 octets ended by CRLF, no NUL, no bare CR or LF."""
    lines = raw.split(b"\r\n")
    return lines[-1] == b"" and all(len(x) <= 998 and not re.search(rb"[\r\n\0]", x) for x in lines)


def fetch_all(imap: imaplib.IMAP4) -> list[bytes]:
    _, rows = imap.fetch("1:*", "(BODY.PEEK[])")
    return [row[1] for row in rows if isinstance(row, tuple)]


def test_corpus_is_as_large_as_promised() -> None:
    assert len(CORPUS) >= 300
    assert len({name for name, _ in CORPUS}) == len(CORPUS)


def test_by_smtp(live: Live) -> None:
    sent = [(name, raw) for name, raw in CORPUS if by_smtp(raw)]
    assert len(sent) >= 200
    with smtplib.SMTP(live.host, live.ports["SMTP"]) as smtp:
        smtp.ehlo()
        for name, raw in sent:
            smtp.mail("x@elsewhere.example", ["BODY=8BITMIME"])
            smtp.rcpt(f"alice@{DOMAIN}")
            # smtplib's own data() would mend line ends: the octets go out as they are, dots doubled
            assert smtp.docmd("DATA")[0] == 354
            smtp.send(re.sub(rb"(?m)^\.", b"..", raw) + b".\r\n")
            code, text = smtp.getreply()
            assert code == 250, (name, text)
    with imaplib.IMAP4(live.host, live.ports["IMAP"]) as imap:
        imap.login("alice", PASSWORD)
        imap.select("INBOX", readonly=True)
        there = fetch_all(imap)
    assert len(there) == len(sent)
    for (name, raw), got in zip(sent, there, strict=True):
        trace = TRACE.match(got)
        assert trace, (name, got[:300])
        assert got[trace.end() :] == raw, name


@pytest.mark.parametrize("mailbox", ["Round"])
def test_by_append(live: Live, mailbox: str) -> None:
    with imaplib.IMAP4(live.host, live.ports["IMAP"]) as imap:
        # imaplib sends a literal and its end apart, and would wait 40 ms for each acknowledgement in between
        imap.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        imap.login("bob", PASSWORD)
        imap.create(mailbox)
        for name, raw in CORPUS:
            # imaplib's append() would mend line ends
            imap.literal = raw
            status, text = imap._simple_command("APPEND", mailbox)
            assert status == "OK", (name, text)
        imap.select(mailbox, readonly=True)
        there = fetch_all(imap)
        assert len(there) == len(CORPUS)
        for (name, raw), got in zip(CORPUS, there, strict=True):
            assert got == raw, name
        _, sizes = imap.fetch("1:*", "(RFC822.SIZE)")
        assert [int(re.search(rb"SIZE (\d+)", row)[1]) for row in sizes] == [len(raw) for _, raw in CORPUS]
        for section in ("HEADER", "TEXT"):
            _, rows = imap.fetch("1:*", f"(BODY.PEEK[{section}])")
            parts = [row[1] for row in rows if isinstance(row, tuple)]
            if section == "HEADER":
                heads = parts
        assert [h + t for h, t in zip(heads, parts, strict=True)] == [raw for _, raw in CORPUS]
