"""A cluster under load, one random process of it killed with -9 and started again every few seconds."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from tests.crash.checking import prepare, verify, verify_documents
from tests.crash.clients import RECIPIENTS, WORKER, Load
from tests.crash.following import Follower
from tests.crash.records import KINDS, Records
from tests.live import DOMAIN, Cluster, Member, until

COUNTS = {"smtp": 2, "imap": 2, "storage": 2, "identity": 2}
EVERY = 5.0
"""Seconds between two kills."""
VERIFY_AFTER = 4
"""Kills after which all is at rest for a moment, and looked at."""


@dataclass(slots=True)
class Figures:
    """What a run has shown.

    starts: seconds from a kill to `ready`. rests: when the load paused (time.monotonic). load_seconds: under load and
    kills. busy_seconds: until the load paused, with the last starts. verified, rounds: how often all was looked at by
    IMAP, and by the follower. messages: at the end.
    """

    records: Records
    kills: Counter[str] = field(default_factory=Counter)
    starts: list[float] = field(default_factory=list)
    rests: list[float] = field(default_factory=list)
    load_seconds: float = 0.0
    busy_seconds: float = 0.0
    verified: int = 0
    rounds: int = 0
    messages: int = 0

    def gaps(self) -> dict[str, float]:
        """kind → the longest time under load with none acknowledged."""
        return {
            kind: max(
                (later - before for before, later in pairwise(moments) if not self._rested(before, later)), default=0.0
            )
            for kind in KINDS
            for moments in [sorted(self.records.moments[kind])]
        }

    def _rested(self, before: float, later: float) -> bool:
        return any(before <= rest <= later for rest in self.rests)


class Killer:
    """Kills members that are ready, and starts them again at once; several may be starting."""

    def __init__(self, cluster: Cluster, rng: random.Random, figures: Figures) -> None:
        self.cluster, self.rng, self.figures = cluster, rng, figures
        self._starting: dict[Member, threading.Thread] = {}
        self._failed: list[str] = []

    def kill(self) -> None:
        """One of those that are ready."""
        self._starting = {member: thread for member, thread in self._starting.items() if thread.is_alive()}
        member = self.rng.choice([one for one in self.cluster.members if one not in self._starting])
        member.kill()
        self.figures.kills[member.service] += 1
        thread = threading.Thread(target=self._start, args=(member, time.monotonic()), daemon=True)
        self._starting[member] = thread
        thread.start()

    def _start(self, member: Member, killed: float) -> None:
        try:
            member.start()
        except AssertionError as error:
            self._failed.append(f"{member}: {error}")
        else:
            self.figures.starts.append(time.monotonic() - killed)

    def all_ready(self) -> None:
        """Returns when every process is."""
        for thread in self._starting.values():
            thread.join()
        assert not self._failed, "\n".join(self._failed)
        until(self.cluster.ready, 60.0, "the doors see their keepers")


def account_ids(cluster: Cluster) -> dict[str, str]:
    """user → account id"""
    status, body = cluster.rest("GET", "/api/users", token=cluster.admin_token())
    assert status == 200, body
    ids = {user["email"]: user["id"] for user in body["users"]}
    return {name: ids[f"{name}@{DOMAIN}"] for name in (*RECIPIENTS, WORKER)}


def run(data: Path, mongodb: str, seconds: float, seed: int, said: Callable[[str], None] = lambda _: None) -> Figures:
    """Start it, let it work for so many seconds under load, and look at all that must hold: AssertionError when it
    does not."""
    cluster = Cluster(data, mongodb, COUNTS)
    figures = Figures(Records())
    try:
        cluster.start()
        said("started")
        prepare(cluster)
        follower = Follower(
            cluster.env["HOMING_STORAGE_URL"],
            cluster.env["HOMING_SERVICE_TOKEN"],
            account_ids(cluster),
            figures.records,
        )
        follower.start()
        _under_load(cluster, figures, seconds, seed, said)
        follower.end()
        figures.rounds = follower.rounds
        assert not figures.records.wrong, "\n".join(figures.records.wrong)
        _all_at_once(cluster, figures, seed)
        said("all killed at once")
        # The sweep, to which all is old here, finishes what was committed and collects the rest.
        figures.messages = asyncio.run(verify_documents(mongodb))
        said("all documents are as they must be")
        cluster.start()
        verify(cluster, figures.records)
        assert cluster.stop() == 0, "".join(cluster.output[-40:])
    finally:
        cluster.kill()
    return figures


def _under_load(cluster: Cluster, figures: Figures, seconds: float, seed: int, said: Callable[[str], None]) -> None:
    load = Load(cluster, figures.records, seed)
    killer = Killer(cluster, random.Random(seed), figures)
    load.start()
    try:
        until(lambda: all(figures.records.last(kind) for kind in KINDS), 60, "every kind of work is done")
        while figures.load_seconds < seconds and not figures.records.wrong:
            began = time.monotonic()
            while (spent := time.monotonic() - began) < min(VERIFY_AFTER * EVERY, seconds - figures.load_seconds):
                time.sleep(min(EVERY, seconds - figures.load_seconds - spent))
                killer.kill()
            figures.load_seconds += time.monotonic() - began
            killer.all_ready()
            load.pause()
            figures.rests.append(time.monotonic())
            figures.busy_seconds += figures.rests[-1] - began
            verify(cluster, figures.records)
            figures.verified += 1
            said(f"{figures.load_seconds:.0f} s, {sum(figures.kills.values())} kills: {figures.records.counts()}")
            load.go_on()
    finally:
        load.end()


def _all_at_once(cluster: Cluster, figures: Figures, seed: int) -> None:
    """Under load once more, until there is no process left that could finish what another has begun."""
    load = Load(cluster, figures.records, -seed)
    figures.rests.append(time.monotonic())
    load.start()
    time.sleep(EVERY)
    cluster.kill()
    load.end()
