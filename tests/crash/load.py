"""A load whose every operation is remembered, so that after a kill -9 it can be asked what must be there.

Deliveries by SMTP, APPENDs, STOREs and MOVEs run on threads of their own. An operation is *acknowledged* once the
server's 250 or OK was read, *in flight* while it was asked and the answer was not seen.
"""

from __future__ import annotations

import imaplib
import random
import re
import smtplib
import threading
from collections import Counter
from dataclasses import dataclass, field
from uuid import uuid4

from tests.live import DOMAIN, PASSWORD, Live

BROKEN = (OSError, EOFError, smtplib.SMTPException, imaplib.IMAP4.error)
DELIVERED_TO = ("alice", "bob")
FROM_BOX, TO_BOX = "Move-from", "Move-to"
ROW = 6
"""Messages that one client appends without waiting between them."""


@dataclass
class Ledger:
    """What was asked and what was acknowledged; ids are the X-Op header of the messages."""

    delivered: dict[str, bool] = field(default_factory=dict)
    appended: dict[str, bool] = field(default_factory=dict)
    moved: dict[str, bool] = field(default_factory=dict)
    flagged: dict[str, bool] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, kind: dict[str, bool], op: str) -> None:
        with self.lock:
            kind[op] = False

    def acknowledge(self, kind: dict[str, bool], op: str) -> None:
        with self.lock:
            kind[op] = True

    def counts(self) -> dict[str, tuple[int, int]]:
        """operation → (acknowledged, asked)"""
        kinds = {"deliver": self.delivered, "append": self.appended, "move": self.moved, "store": self.flagged}
        with self.lock:
            return {name: (sum(kind.values()), len(kind)) for name, kind in kinds.items()}


def message(op: str, rng: random.Random) -> bytes:
    body = (b"x" * 70 + b"\r\n") * rng.choice((1, 20, 300, 5000))
    return b"From: x@elsewhere.example\r\nX-Op: %s\r\nSubject: load\r\n\r\n" % op.encode() + body


class Load:
    """Runs until ``stop`` or until the server goes away; then ``join``."""

    def __init__(self, live: Live, ledger: Ledger, seed: int) -> None:
        self.live, self.ledger = live, ledger
        self.stopped = threading.Event()
        self.threads = [
            threading.Thread(target=self._run, args=(work, random.Random(seed * 10 + i)), daemon=True)
            for i, work in enumerate(
                (self.deliver, self.deliver, self.append, self.append_in_a_row, self.move, self.store)
            )
        ]

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        self.stopped.set()

    def join(self) -> None:
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive(), "a client hangs after the server is gone"

    def _run(self, work, rng: random.Random) -> None:
        try:
            work(rng)
        except BROKEN:
            return

    def _imap(self) -> imaplib.IMAP4:
        imap = imaplib.IMAP4(self.live.host, self.live.ports["IMAP"], timeout=60)
        imap.login("carol", PASSWORD)
        return imap

    def deliver(self, rng: random.Random) -> None:
        while not self.stopped.is_set():
            with smtplib.SMTP(self.live.host, self.live.ports["SMTP"], timeout=60) as smtp:
                for _ in range(5):
                    op = uuid4().hex
                    self.ledger.ask(self.ledger.delivered, op)
                    smtp.sendmail("x@elsewhere.example", [f"{u}@{DOMAIN}" for u in DELIVERED_TO], message(op, rng))
                    self.ledger.acknowledge(self.ledger.delivered, op)

    def append(self, rng: random.Random) -> None:
        imap = self._imap()
        while not self.stopped.is_set():
            op = uuid4().hex
            self.ledger.ask(self.ledger.appended, op)
            status, _ = imap.append(FROM_BOX, "", None, message(op, rng))
            assert status == "OK"
            self.ledger.acknowledge(self.ledger.appended, op)

    def append_in_a_row(self, rng: random.Random) -> None:
        """One sent behind the other, before the first is answered."""
        imap = self._imap()
        while not self.stopped.is_set():
            ops = [uuid4().hex for _ in range(ROW)]
            for op in ops:
                self.ledger.ask(self.ledger.appended, op)
                content = message(op, rng)
                imap.send(f"{op} APPEND {FROM_BOX} {{{len(content)}+}}\r\n".encode() + content + b"\r\n")
            for op in ops:
                while (line := imap.readline()).startswith(b"*"):
                    continue
                if not line:
                    raise EOFError
                assert line.startswith(b"%b OK" % op.encode()), line
                self.ledger.acknowledge(self.ledger.appended, op)

    def _pick(self, imap: imaplib.IMAP4, rng: random.Random) -> tuple[str, str] | None:
        """(uid, op) of some message of the selected mailbox."""
        _, data = imap.uid("search", "ALL")
        uids = data[0].split() if data and data[0] else []
        if not uids:
            return None
        uid = rng.choice(uids).decode()
        _, rows = imap.uid("fetch", uid, "(BODY.PEEK[HEADER.FIELDS (X-OP)])")
        found = [re.search(rb"X-Op: (\w+)", row[1]) for row in rows if isinstance(row, tuple)]
        return (uid, found[0].group(1).decode()) if found and found[0] else None

    def move(self, rng: random.Random) -> None:
        imap = self._imap()
        while not self.stopped.is_set():
            imap.select(FROM_BOX)
            picked = self._pick(imap, rng)
            if picked is None:
                continue
            uid, op = picked
            self.ledger.ask(self.ledger.moved, op)
            status, _ = imap.uid("move", uid, TO_BOX)
            if status == "OK":
                self.ledger.acknowledge(self.ledger.moved, op)

    def store(self, rng: random.Random) -> None:
        imap = self._imap()
        while not self.stopped.is_set():
            imap.select(TO_BOX)
            picked = self._pick(imap, rng)
            if picked is None:
                continue
            uid, op = picked
            self.ledger.ask(self.ledger.flagged, op)
            status, _ = imap.uid("store", uid, "+FLAGS", "(\\Flagged $Kept)")
            assert status == "OK"
            self.ledger.acknowledge(self.ledger.flagged, op)


def prepare(live: Live) -> None:
    imap = imaplib.IMAP4(live.host, live.ports["IMAP"])
    imap.login("carol", PASSWORD)
    for name in (FROM_BOX, TO_BOX):
        assert imap.create(name)[0] == "OK"
    imap.logout()


def contents(live: Live, user: str, mailbox: str) -> list[tuple[str, bytes]]:
    """(op, flags) of every message in the mailbox, whole bodies read too (each must end as it was sent)."""
    imap = imaplib.IMAP4(live.host, live.ports["IMAP"], timeout=60)
    imap.login(user, PASSWORD)
    status, count = imap.select(mailbox, readonly=True)
    assert status == "OK"
    out = []
    if int(count[0]):
        _, rows = imap.fetch("1:*", "(UID FLAGS BODY.PEEK[HEADER.FIELDS (X-OP)] BODY.PEEK[TEXT]<0.16>)")
        heads = [row for row in rows if isinstance(row, tuple)]
        uids = [int(m.group(1)) for row in heads if (m := re.search(rb"UID (\d+)", row[0]))]
        assert uids == sorted(set(uids)), "uids rise strictly"
        for row in heads:
            if found := re.search(rb"X-Op: (\w+)", row[1]):
                out.append((found.group(1).decode(), row[0]))
            else:
                assert row[1].startswith(b"x" * 16)
        assert len(out) == int(count[0])
    imap.logout()
    return out


def verify(live: Live, ledger: Ledger) -> None:
    """Every acknowledged operation is there exactly once; what was in flight happened once or not at all."""
    for user in DELIVERED_TO:
        there = Counter(op for op, _ in contents(live, user, "INBOX"))
        assert max(there.values(), default=1) == 1, "a delivery is there twice"
        lost = [op for op, done in ledger.delivered.items() if done and op not in there]
        assert not lost, f"{len(lost)} acknowledged deliveries are lost for {user}"
        assert set(there) <= set(ledger.delivered)
    per_user = [{op for op, _ in contents(live, user, "INBOX")} for user in DELIVERED_TO]
    assert per_user[0] == per_user[1], "a delivery reached one recipient and not the other"

    source, target = contents(live, "carol", FROM_BOX), contents(live, "carol", TO_BOX)
    there = Counter(op for op, _ in source + target)
    assert max(there.values(), default=1) == 1, "a message is in two mailboxes or twice in one"
    assert not [op for op, done in ledger.appended.items() if done and op not in there], "an APPEND is lost"
    moved = {op for op, _ in target}
    assert not [op for op, done in ledger.moved.items() if done and op not in moved], "a MOVE is lost"
    assert moved <= set(ledger.moved)
    flags = dict(target)
    for op, done in ledger.flagged.items():
        if done:
            assert b"\\Flagged" in flags[op], "a STORE is lost"
            assert b"$Kept" in flags[op]
