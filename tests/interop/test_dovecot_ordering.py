"""SORT and THREAD beside Dovecot's, over a mailbox of made threads with well-formed headers."""

from __future__ import annotations

import imaplib
import random
import re
import socket
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.interop.dovecot import dovecot
from tests.live import PASSWORD, Live

pytestmark = pytest.mark.interop

NAME = "Made"
MADE = 400
KEYS = ("ARRIVAL", "CC", "DATE", "FROM", "SIZE", "SUBJECT", "TO", "DISPLAYFROM", "DISPLAYTO")


def made(seed: int) -> list[bytes]:
    """Messages that answer each other, with ids that are missing, repeated, quoted or in a loop."""
    rnd = random.Random(seed)
    found: list[bytes] = []
    for number in range(MADE):
        own = rnd.choice([number, number, number, rnd.randrange(MADE)])
        known = [rnd.randrange(max(1, number - 30), number + 6) for _ in range(rnd.choice([0, 0, 1, 1, 2, 4]))]
        subject = rnd.choice(["lunch", "Grüße", "[list] plan", f"topic {rnd.randrange(120)}", ""])
        subject = (
            rnd.choice(["", "", "Re: ", "re[2]: ", "FWD: ", "Re: Fw: "]) + subject + rnd.choice(["", "", " (fwd)"])
        )
        lines = [
            f"From: {rnd.choice(['Ann', 'bob', 'Çelik', ''])} <{rnd.choice('abAB')}{rnd.randrange(9)}@x.example>",
            f"To: {rnd.choice(['', 'Zed '])}<{rnd.choice('cdCD')}@y.example>, other@y.example",
            f"Subject: {subject}",
            f"Date: {rnd.randrange(1, 29):02d} Jul 2001 {rnd.randrange(24):02d}:00:00 {rnd.choice(['+0000', '-0700'])}",
        ]
        if rnd.random() < 0.9:
            lines.append(f"Message-ID: <{own}@x>" if rnd.random() < 0.5 else f'Message-ID: <"{own}"@x>')
        if known:
            lines.append("References: " + rnd.choice([" ", "\r\n\t"]).join(f"<{at}@x>" for at in known))
        elif number and rnd.random() < 0.5:
            lines.append(f"In-Reply-To: your mail <{rnd.randrange(number)}@x> of today")
        found.append("\r\n".join((*lines, "", "x" * rnd.randrange(9), "")).encode())
    return found


def answers(imap: imaplib.IMAP4, user: str, password: str, mails: list[bytes], name: str) -> dict[str, str]:
    """What the server says to each question."""
    imap.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    imap.login(user, password)
    imap.create(name)
    for number, raw in enumerate(mails):
        date = f'"{1 + number * 7 % 28:2d}-Jan-2002 00:00:00 +0000"'
        word, told = imap.append(name, "", date, raw)
        assert word == "OK", told
    imap.select(name, readonly=True)
    found: dict[str, str] = {}
    for key in KEYS:
        for criteria in (key, f"REVERSE {key}"):
            found[f"SORT {criteria}"] = imap.sort(f"({criteria})", "UTF-8", "ALL")[1][0].decode()
    for algorithm in ("REFERENCES", "ORDEREDSUBJECT"):
        told = imap.thread(algorithm, "UTF-8", "ALL")[1]
        found[f"THREAD {algorithm}"] = told[0].decode()
    imap.logout()
    return found


def pieces(answer: str) -> list[str]:
    """Numbers, or whole threads."""
    return answer.split() if "(" not in answer else re.sub(r"\)\(", ")\n(", answer).split("\n")


def test_order_equals_dovecots(program: Callable[[str], str], live: Live) -> None:
    mails = made(1)
    ours = answers(imaplib.IMAP4(live.host, live.ports["IMAP"]), "alice", PASSWORD, mails, NAME)
    with TemporaryDirectory() as folder, dovecot(program("dovecot"), program("doveadm"), Path(folder) / "d") as port:
        theirs = answers(imaplib.IMAP4("127.0.0.1", port), "alice", PASSWORD.replace(" ", "_"), mails, NAME)
    for question, answer in ours.items():
        assert pieces(answer) == pieces(theirs[question]), question
