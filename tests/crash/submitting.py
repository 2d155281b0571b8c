"""Signed-in senders who keep handing in mail for other domains, through every kill, and remember what was acknowledged.

A message is *acknowledged* once its 250 was read, else *in flight*: it was taken or not.
"""

from __future__ import annotations

import hashlib
import random
import smtplib
import threading
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import uuid4

from tests.crash.clients import BROKEN, PATIENCE, said
from tests.crash.sink import Sink
from tests.live import DOMAIN, PASSWORD, Cluster, Live

SENDERS = ("ann", "ben", "cleo", "dan")
DOMAINS = tuple(f"d{number}.example" for number in range(8))
SHARE = 25
"""Messages over one connection."""
BACKLOG = 150
"""Messages that the sink has not met yet; with more than that the senders wait."""
PAUSE_MAX = 0.06
"""Seconds between two messages of one sender, at most."""
LINES = (1, 20, 300, 8000)
LINES_WEIGHTS = (40, 40, 18, 2)
TEXT_WEIGHTS = {"take": 60, "slow": 20, "mute": 6, "late": 5, "spam": 4, "cut": 5}
RCPT_WEIGHTS = {"": 80, "grey": 10, "gone": 10}


@dataclass(frozen=True, slots=True)
class Message:
    """op: its name here, in its Message-ID and its recipients' addresses. digest: SHA-256 of its body."""

    op: str
    sender: str
    recipients: tuple[str, ...]
    digest: bytes

    @property
    def message_id(self) -> str:
        return f"{self.op}@load.example"


@dataclass(slots=True)
class Handed:
    """What was handed in. answers: how often doors said no, and connections broke."""

    messages: dict[str, Message] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def asked(self, message: Message) -> None:
        with self._lock:
            self.messages[message.op] = message

    def acknowledge(self, message: Message) -> None:
        with self._lock:
            self.acknowledged.add(message.op)

    def heard(self, answer: str) -> None:
        with self._lock:
            self.answers[answer] += 1

    def accuse(self, what: str) -> None:
        with self._lock:
            self.wrong.append(what)


class Senders:
    """Run from ``start`` to ``end``. without: kinds of the sink that are left out."""

    def __init__(self, live: Live, sink: Sink, handed: Handed, seed: int, without: Sequence[str] = ()) -> None:
        self._live, self._sink, self._handed = live, sink, handed
        self._without = frozenset(without)
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(name, random.Random(f"{seed} {name}")), name=name, daemon=True)
            for name in SENDERS
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(2 * PATIENCE)
            assert not thread.is_alive(), f"a sender hangs: {thread.name}"

    def _run(self, name: str, rng: random.Random) -> None:
        while not self._ended.is_set():
            try:
                self._session(name, rng)
            except BROKEN as error:
                self._handed.heard(said(error))
                time.sleep(rng.uniform(0.02, 0.2))
            except Exception:
                self._handed.accuse(f"{name}:\n{traceback.format_exc()}")
                return

    def _port(self, rng: random.Random) -> int:
        if isinstance(self._live, Cluster):
            return rng.choice(self._live.of("smtp")).ports["SUBMISSION"]
        return self._live.ports["SUBMISSION"]

    def _session(self, name: str, rng: random.Random) -> None:
        with smtplib.SMTP(self._live.host, self._port(rng), timeout=PATIENCE) as smtp:
            smtp.login(f"{name}@{DOMAIN}", PASSWORD)
            for _ in range(SHARE):
                while len(self._handed.messages) - len(self._sink.met) > BACKLOG and not self._ended.is_set():
                    time.sleep(0.02)
                if self._ended.is_set():
                    return
                self._hand_in(smtp, name, rng)
                time.sleep(rng.uniform(0, PAUSE_MAX))

    def _hand_in(self, smtp: smtplib.SMTP, name: str, rng: random.Random) -> None:
        message, content = self._message(f"{name}@{DOMAIN}", rng)
        # Step by step: with a recipient refused for now nothing is sent, so that a message is for all of them or none.
        _take(smtp, smtp.mail(message.sender))
        for address in message.recipients:
            _take(smtp, smtp.rcpt(address))
        self._handed.asked(message)
        _take(smtp, smtp.data(content))
        self._handed.acknowledge(message)

    def _message(self, sender: str, rng: random.Random) -> tuple[Message, bytes]:
        op = uuid4().hex
        body = b".%s\r\n" % op.encode() + (b".." + b"x" * 68 + b"\r\n") * rng.choices(LINES, LINES_WEIGHTS)[0]
        weights = {kind: weight for kind, weight in TEXT_WEIGHTS.items() if kind not in self._without}
        (conduct,) = rng.choices(list(weights), list(weights.values()))
        recipients = []
        for number in range(rng.choice((1, 1, 1, 2, 3))):
            (kind,) = rng.choices(list(RCPT_WEIGHTS), list(RCPT_WEIGHTS.values()))
            # One that is put off alone would be refused with the others, or taken, as it happens.
            kind = conduct if conduct == "spam" else kind or conduct
            recipients.append(f"{kind}-{number}-{op}@{rng.choice(DOMAINS)}")
        message = Message(op, sender, tuple(recipients), hashlib.sha256(body).digest())
        head = f"From: {sender}\r\nTo: {recipients[0]}\r\nSubject: load\r\nMessage-ID: <{message.message_id}>\r\n\r\n"
        return message, head.encode() + body


def _take(smtp: smtplib.SMTP, answer: tuple[int, bytes]) -> None:
    code, text = answer
    if code >= 400:
        smtp.rset()
        raise smtplib.SMTPResponseException(code, text)
