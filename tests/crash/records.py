"""What clients have asked of a cluster, what was acknowledged, and what they have seen: the ledger of a long run.

An operation is *acknowledged* once the 250 or OK was read, else it stays *in flight*: it happened once or not at all.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import uuid4

KINDS = ("deliver", "append", "copy", "move", "store", "expunge")


@dataclass(frozen=True, slots=True)
class Place:
    """A message's place, which no other message ever has."""

    user: str
    mailbox: str
    uidvalidity: int
    uid: int


@dataclass(slots=True)
class Records:
    """Filled by many threads. op: the X-Op header of a message, its name here.

    operations: kind → what was asked → was it acknowledged (for a copy the key is made up, ``copied`` has its op).
    wrong: what must not be, in words. answers: how often doors said no, and connections broke.
    """

    operations: dict[str, dict[str, bool]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    recipients: dict[str, tuple[str, ...]] = field(default_factory=dict)
    copied: dict[str, str] = field(default_factory=dict)
    places: dict[Place, str] = field(default_factory=dict)
    bodies: dict[str, bytes] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    moments: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def message(self, rng: random.Random) -> tuple[str, bytes]:
        """A message of some length that nobody has sent before."""
        op = uuid4().hex
        body = op.encode() + b"\r\n" + (b"x" * 70 + b"\r\n") * rng.choice((1, 20, 300, 5000))
        with self._lock:
            self.bodies[op] = hashlib.sha256(body).digest()
        return op, b"From: x@elsewhere.example\r\nX-Op: %s\r\nSubject: load\r\n\r\n" % op.encode() + body

    @contextmanager
    def asked(self, kind: str, key: str) -> Iterator[Answer]:
        """Around one operation: acknowledged when the block ends without an error and the answer was not `nothing`."""
        began = time.monotonic()
        with self._lock:
            self.operations[kind].setdefault(key, False)
        answer = Answer()
        yield answer
        if answer.nothing:
            return
        now = time.monotonic()
        with self._lock:
            self.operations[kind][key] = True
            self.seconds[kind].append(now - began)
            self.moments[kind].append(now)

    def sighted(self, place: Place, op: str) -> None:
        """This message stands there."""
        with self._lock:
            before = self.places.setdefault(place, op)
            if before != op:
                self.wrong.append(f"{place} was {before} and is {op}: a uid was used again")

    def whole(self, op: str, content: bytes) -> None:
        """This was read as the message's octets."""
        body = content.partition(b"\r\n\r\n")[2]
        if hashlib.sha256(body).digest() != self.bodies[op]:
            self.accuse(f"{op} is read as {len(content)} octets that were never sent")

    def accuse(self, what: str) -> None:
        with self._lock:
            self.wrong.append(what)

    def heard(self, answer: str) -> None:
        with self._lock:
            self.answers[answer] += 1

    def acknowledged(self, kind: str) -> set[str]:
        with self._lock:
            return {key for key, done in self.operations[kind].items() if done}

    def asked_for(self, kind: str) -> set[str]:
        with self._lock:
            return set(self.operations[kind])

    def counts(self) -> dict[str, tuple[int, int]]:
        """kind → (acknowledged, asked)"""
        with self._lock:
            return {kind: (sum(done.values()), len(done)) for kind, done in self.operations.items()}

    def last(self, kind: str) -> float:
        """When one was acknowledged last (time.monotonic), or 0."""
        with self._lock:
            return self.moments[kind][-1] if self.moments[kind] else 0.0


@dataclass(slots=True)
class Answer:
    """nothing: OK, but there was no such message any more."""

    nothing: bool = False
