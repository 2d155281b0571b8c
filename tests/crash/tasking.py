"""Tasks of the sending API under load while their workers are killed: what was asked, what the remote server took, and
what the results say of it."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope, Session

from tests import forking
from tests.live import DOMAIN, PASSWORD, Cluster, Process, free_ports, until

RECEIVED = "/api/v1/email/received"
RESULT = "/api/v1/email/result?task_id="
WORKERS = 2
CONCURRENCY = 10
"""How many tasks one worker sends at a time."""
LEASE = 5.0
"""Seconds: the shortest that there is."""
END_SECONDS = 120.0
BUSY_SECONDS = 0.03
"""How long the remote server takes for a message, so that a kill finds some on their way."""


class Remote:
    """Takes mail, slowly; refuses no… at once, and busy… at the first try of each."""

    def __init__(self) -> None:
        self.taken: Counter[str] = Counter()
        self._tried: Counter[str] = Counter()
        self._here = 0
        self._keeps = False

    async def handle_RCPT(
        self, _server: Any, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        self._tried[address] += 1
        if address.startswith("no"):
            return "550 5.1.1 no such user"
        if address.startswith("busy") and self._tried[address] == 1:
            return "451 4.7.1 come again"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 ok"

    async def handle_DATA(self, _server: Any, _session: Session, envelope: Envelope) -> str:
        await asyncio.sleep(BUSY_SECONDS / 2)
        self.taken.update(envelope.rcpt_tos)
        self._here += 1
        # Taken, and the reply is on its way: here a kill leaves doubt.
        await asyncio.sleep(BUSY_SECONDS / 2)
        while self._keeps:  # noqa: ASYNC110  # it is told by another thread
            await asyncio.sleep(BUSY_SECONDS / 2)
        self._here -= 1
        return "250 2.0.0 taken"

    @contextmanager
    def keeping(self, messages: int) -> Iterator[None]:
        """In this block so many messages at least are taken of which nobody has heard so."""
        self._keeps = True
        try:
            until(lambda: self._here >= messages, END_SECONDS, f"{messages} messages at once are taken")
            yield
        finally:
            self._keeps = False


@dataclass
class Figures:
    """By address. kills: of workers. twice: taken more than once."""

    results: dict[str, Any] = field(default_factory=dict)
    taken: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    seconds: float = 0.0

    @property
    def twice(self) -> int:
        return sum(count > 1 for count in self.taken.values())

    @property
    def doubtful(self) -> int:
        return sum(bool(one.get("doubtful")) for one in self.results.values())

    @property
    def statuses(self) -> Counter[str]:
        return Counter(one["status"] for one in self.results.values())


class Work:
    """A server of four services on SQLite, workers of their own, and a remote server."""

    def __init__(self, cluster: Cluster, workers: list[Process], remote: Remote) -> None:
        self.cluster = cluster
        self.workers = workers
        self.remote = remote
        self.token = cluster.token(f"alice@{DOMAIN}", PASSWORD)
        self.ids: dict[str, str] = {}
        self._stop = threading.Event()

    def put(self, number: int) -> None:
        kind = "no" if number % 10 == 3 else "busy" if number % 10 == 7 else "to"
        address = f"{kind}{number}@far.example"
        body = {"to": address, "subject": str(number), "body": "Hello {username}", "username": "you"}
        status, answer = self.cluster.rest("POST", RECEIVED, body, self.token)
        assert status == 200, answer
        self.ids[address] = answer["task_id"]

    def load(self, least: int) -> None:
        """Tasks one after the other, at least so many, until ``stop``."""
        number = 0
        while number < least or not self._stop.is_set():
            self.put(number)
            number += 1
            time.sleep(0.005)

    def stop(self) -> None:
        self._stop.set()

    def ends(self) -> dict[str, Any]:
        """The result of each, once all have ended."""
        found: dict[str, Any] = {}

        def all_ended() -> bool:
            for address, id in self.ids.items():
                if address not in found:
                    status, answer = self.cluster.rest("GET", f"{RESULT}{id}", token=self.token)
                    assert status == 200, answer
                    if answer["status"] == "pending":
                        return False
                    found[address] = answer
            return True

        until(all_ended, END_SECONDS, "all tasks have ended", pause=0.2)
        return found


@contextmanager
def working(folder: Path, queue_url: str | None = None) -> Iterator[Work]:
    """queue_url: of a Redis; None: tasks wait in the spool of storage."""
    smtp, *rest = free_ports(1 + WORKERS)
    remote = Remote()
    controller = Controller(remote, hostname="127.0.0.1", port=smtp, server_hostname="mx.far.example")
    controller.start()
    env = {
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(smtp),
        "HOMING_QUEUE_SMTP_TLS": "may",
        "HOMING_QUEUE_CONCURRENCY": "0",
        "HOMING_QUEUE_LEASE": str(LEASE),
        "HOMING_QUEUE_RETRY": "0.2s",
        "HOMING_QUEUE_WAITING_MAX": "1000000",
        "HOMING_RATES_ACCOUNT": "",
        "HOMING_RATES_ACCOUNT_RECIPIENTS": "",
        **({} if queue_url is None else {"QUEUE_URL": queue_url}),
    }
    cluster = Cluster(folder, **env)
    workers = [
        Process(
            (*forking.HOMING, "worker"),
            {**cluster.env, "HOMING_WORKER_PORT": str(port), "HOMING_QUEUE_CONCURRENCY": str(CONCURRENCY)},
        )
        for port in rest
    ]
    try:
        cluster.start()
        cluster.add_users("alice")
        for one in workers:
            one.begin()
        for one, port in zip(workers, rest, strict=True):
            one.wait()
            until(lambda port=port: cluster.health(port)[0] == 200, 30.0, "the worker sees its keepers")  # type: ignore[misc]
        yield Work(cluster, workers, remote)
        for one in workers:
            assert one.stop() == 0, "".join(one.output[-40:])
        assert cluster.stop() == 0, "".join(cluster.output[-40:])
    finally:
        for one in workers:
            if one.running:
                one.kill()
        if cluster.running:
            cluster.kill()
        with suppress(Exception):
            controller.stop()


def under_kills(
    work: Work, kills: int, seed: int, pause: tuple[float, float], tell: Callable[[int], None] = lambda _: None
) -> Figures:
    """Kill the workers in turn under load, then let all come to an end; raises AssertionError for what is not as it
    should be."""
    rng = random.Random(seed)
    began = time.monotonic()
    loading = threading.Thread(target=work.load, args=(20 * kills,))
    loading.start()
    try:
        for number in range(kills):
            time.sleep(rng.uniform(*pause))
            victim = work.workers[number % len(work.workers)]
            # The first kill finds tasks on their way: more than the other worker has in hand by itself.
            with work.remote.keeping(CONCURRENCY + 1) if number == 0 else nullcontext():
                victim.kill()
            victim.begin()
            victim.wait()
            tell(number + 1)
    finally:
        work.stop()
        loading.join()
    figures = Figures(work.ends(), work.remote.taken, kills, time.monotonic() - began)
    check(figures)
    return figures


def check(figures: Figures) -> None:
    """Each task ended once, and twice only where that is told."""
    for address, result in figures.results.items():
        taken = figures.taken[address]
        told = (address, result, taken)
        if address.startswith("no"):
            assert result["status"] == "failed", told
            assert "550 5.1.1 no such user" in result["reason"], told
            assert taken == 0, told
            continue
        assert result["status"] == "success", told
        assert 1 <= result["attempts"] <= 3, told
        assert taken >= 1, told
        if taken > 1:
            assert result.get("doubtful") is True, told
            assert result["note"], told
    assert set(figures.taken) <= set(figures.results)
