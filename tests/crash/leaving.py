"""A server whose mail leaves under load while its processes are killed with -9: how a run goes, and its figures."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.crash.sink import HOST, Sink
from tests.crash.submitting import DOMAINS, SENDERS, Handed, Senders
from tests.dnsserver import DnsServer
from tests.live import Cluster, Live, Member, until

Kind = Literal["embedded", "sqlite", "mongo"]
LEASE = {"embedded": 5.0, "sqlite": 15.0, "mongo": 15.0}
"""Seconds. A keeper that is killed is back before what the doors have in hand runs out."""
EMPTY_SECONDS = 120.0
"""Within these the spool is empty once nobody hands anything in."""
DRAIN_SECONDS = 10.0
"""Within these a process ends that was told to, under load."""
AIMED = 0.7
"""The share of the kills that come right after a 250 was written to the process."""
AIM_SECONDS = 5.0
LEAVES_SECONDS = 60.0
"""Within these of load some mail leaves."""
AIMED_LATER = (0.0, 0.0, 0.003, 0.01, 0.03)
"""Seconds from that 250 to the kill."""
STORAGE_SHARE = 0.3
"""Of the kills of a cluster, those of a storage keeper."""


@dataclass(frozen=True, slots=True)
class Kill:
    """service: "embedded" for the one process. peer: the address that it sends from, "" for a keeper. Times:
    time.monotonic; ready: when it was there again."""

    service: str
    peer: str
    at: float
    ready: float


@dataclass(slots=True)
class Figures:
    """What a run has shown.

    drains: seconds from SIGTERM to the end of the process. doubled: how often the sink took a message for a recipient
    again, by why. gaps: seconds from each 250 to the kill that explains why it was not seen, storage being there; below
    0 where the kill came first. notices: DSNs in the senders' mailboxes. empty_seconds: until the spool was empty after
    the end of the load. messages: in mailboxes at the end.
    """

    kind: Kind
    handed: Handed = field(default_factory=Handed)
    kills: list[Kill] = field(default_factory=list)
    drains: list[float] = field(default_factory=list)
    load_seconds: float = 0.0
    empty_seconds: float = 0.0
    taken: int = 0
    doubled: Counter[str] = field(default_factory=Counter)
    gaps: list[float] = field(default_factory=list)
    notices: int = 0
    messages: int = 0

    def killed(self) -> Counter[str]:
        return Counter(kill.service for kill in self.kills)


@dataclass(frozen=True, slots=True)
class World:
    """A started server, where its mail goes, and what is known of it."""

    live: Live
    sink: Sink
    figures: Figures
    mongodb: str | None

    def peer(self, member: Member) -> str:
        return member.env["HOMING_OUTBOUND_SOURCE"]


@contextmanager
def world(data: Path, kind: Kind, mongodb: str | None = None, seed: int = 0) -> Iterator[World]:
    """All of it, started; the caller stops the server, or it is killed."""
    with DnsServer() as dns, Sink(seed) as sink:
        dns.zone.add(f"mx.sink.example. A {HOST}", *(f"{domain}. MX 10 mx.sink.example." for domain in DOMAINS))
        settings = {
            "HOMING_DNS_SERVERS": dns.where,
            "HOMING_OUTBOUND_PORT": str(sink.port),
            "HOMING_OUTBOUND_RETRY": "1s",
            "HOMING_OUTBOUND_DOWN_PAUSE": "1s",
            "HOMING_OUTBOUND_LEASE": str(LEASE[kind]),
            "HOMING_OUTBOUND_TLS_REPORTS": "false",
            "HOMING_OUTBOUND_SOURCE": "127.0.1.1",
            **{f"HOMING_RATES_{name}": "off" for name in ("ACCOUNT", "ACCOUNT_RECIPIENTS", "SENDER", "CONNECTIONS")},
        }
        live = Live(data, **settings) if kind == "embedded" else _cluster(data, kind, mongodb, settings)
        try:
            live.start()
            live.add_users(*SENDERS)
            yield World(live, sink, Figures(kind), mongodb)
        finally:
            if live.running:
                live.kill()


def _cluster(data: Path, kind: Kind, mongodb: str | None, settings: dict[str, str]) -> Cluster:
    """Two processes that send, each from an address of its own."""
    cluster = Cluster(data, mongodb, {"smtp": 2, "storage": 2 if kind == "mongo" else 1}, **settings)
    for member in cluster.of("smtp"):
        member.env["HOMING_OUTBOUND_SOURCE"] = f"127.0.1.{member.number + 1}"
    return cluster


def under_kills(
    this: World, kills: int, seed: int, pause: tuple[float, float], told: Callable[[int], None], least: int = 0
) -> None:
    """Load, and so many kills; at the end the spool is empty. pause: seconds between two, from and to. least: as many
    messages are acknowledged for each kill, before it."""
    rng = random.Random(seed)
    senders = Senders(this.live, this.sink, this.figures.handed, seed)
    began = time.monotonic()
    senders.start()
    try:
        for number in range(kills):
            time.sleep(rng.uniform(*pause))
            until(
                lambda wanted=least * (number + 1): len(this.figures.handed.acknowledged) >= wanted,  # type: ignore[misc]  # B023 wants the default
                LEAVES_SECONDS,
                "mail is taken",
            )
            this.figures.kills.append(_kill(this, rng))
            assert not this.figures.handed.wrong, "\n".join(this.figures.handed.wrong)
            told(number + 1)
    finally:
        senders.end()
    this.figures.load_seconds = time.monotonic() - began
    empty(this)


def _kill(this: World, rng: random.Random) -> Kill:
    victim: Live | Member = this.live
    service, peer = "embedded", "127.0.1.1"
    if isinstance(this.live, Cluster):
        service = "storage" if rng.random() < STORAGE_SHARE else "smtp"
        victim = rng.choice(this.live.of(service))
        peer = this.peer(victim) if service == "smtp" else ""
    if peer and rng.random() < AIMED:
        this.sink.wait_for_reply(peer, AIM_SECONDS)
        time.sleep(rng.choice(AIMED_LATER))
    at = time.monotonic()
    victim.kill()
    victim.start()
    return Kill(service, peer, at, time.monotonic())


def under_stops(this: World, stops: int, seed: int, seconds: float) -> None:
    """Load, and SIGTERM to the processes that send, again and again; at the end the spool is empty."""
    senders = Senders(this.live, this.sink, this.figures.handed, seed, without=("mute",))
    began = time.monotonic()
    senders.start()
    try:
        for number in range(stops):
            time.sleep(seconds)
            assert this.sink.wait_for_reply(f"127.0.1.{_nth(this, number) + 1}", LEAVES_SECONDS), "no mail leaves"
            victim: Live | Member = this.live
            if isinstance(this.live, Cluster):
                victim = this.live.of("smtp")[_nth(this, number)]
            told = time.monotonic()
            assert victim.stop() == 0, "".join(victim.output[-40:])
            this.figures.drains.append(time.monotonic() - told)
            victim.start()
        time.sleep(seconds)
    finally:
        senders.end()
    this.figures.load_seconds = time.monotonic() - began
    empty(this)


def _nth(this: World, number: int) -> int:
    """Which of those that send is stopped."""
    return number % len(this.live.of("smtp")) if isinstance(this.live, Cluster) else 0


def empty(this: World) -> None:
    """Returns when nothing waits any more."""
    began = time.monotonic()
    if isinstance(this.live, Cluster):
        until(this.live.ready, 60.0, "the doors see their keepers")
        # What could not be read while the keeper was away waits for half a minute by itself.
        _queue(this, "POST", "/api/queue/change", {"action": "retry", "domain": "*"})
    try:
        until(lambda: not _queue(this, "GET", "/api/queue")["items"], EMPTY_SECONDS, "the spool is empty", 0.25)
    except AssertionError as error:
        raise AssertionError(f"{error}: {_queue(this, 'GET', '/api/queue')['items'][:3]}") from None
    this.figures.empty_seconds = time.monotonic() - began


def _queue(this: World, method: str, path: str, body: object = None) -> dict[str, list[object]]:
    status, told = this.live.rest(method, path, body, token=this.live.admin_token())
    assert status == 200, told
    found: dict[str, list[object]] = told
    return found
