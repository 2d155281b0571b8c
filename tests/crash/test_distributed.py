"""Eight processes on one database under load: killed with -9 one after the other, and with the database stopped.

What runs in place of MongoDB here keeps nothing over an end of its own, so that the database is stopped and goes on; it
is never killed.
"""

from __future__ import annotations

import asyncio
import imaplib
import random
import smtplib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.crash.checking import prepare, verify, verify_documents
from tests.crash.clients import BROKEN, RECIPIENTS, WORKER, Load, ok, said, send
from tests.crash.following import Follower
from tests.crash.kills import account_ids, run
from tests.crash.records import KINDS, Records
from tests.idling import Idle
from tests.live import DOMAIN, PASSWORD, Cluster, until
from tests.mongo import dropped, mongo_url, skip
from tests.servers.build import JAVA
from tests.servers.run import paused, started

pytestmark = [pytest.mark.crash, pytest.mark.skipif(bool(skip("mongodb")), reason=str(skip("mongodb")))]

KILL_SECONDS = 20.0
STOPPED_SECONDS = 20.0
AGAIN_SECONDS = 60.0
"""Within these all works again after the database is back."""
AWAY = {"SMTP 421", "SMTP 451", "SMTP 454", "IMAP [UNAVAILABLE]", "connection lost"}
"""What clients may hear while processes die (RFC 5321 §4.2.3, RFC 4954 §6, RFC 5530 §3)."""
UNAVAILABLE = {
    "SMTP": {"SMTP 451"},
    "submission": {"SMTP 451", "SMTP 454"},
    "IMAP": {"IMAP [UNAVAILABLE]"},
    "IMAP sign-in": {"IMAP [UNAVAILABLE]"},
}
"""What each probe may hear while the database is stopped."""


def test_what_was_acknowledged_survives_kills_of_any_process(tmp_path: Path) -> None:
    url = mongo_url("mongodb")
    try:
        figures = run(tmp_path / "data", url, KILL_SECONDS, 20, lambda text: print(f"\n{text}", end=""))
    finally:
        asyncio.run(dropped(url))
    records = figures.records
    print("\nkills:", dict(figures.kills), "answers:", dict(records.answers))
    assert sum(figures.kills.values()) >= KILL_SECONDS // 5
    assert all(acknowledged for acknowledged, _ in records.counts().values()), records.counts()
    assert {one for one in records.answers if not one.startswith("port: ")} <= AWAY


def test_a_database_that_stops_for_a_while_costs_nothing_but_time(tmp_path: Path) -> None:
    records, rng = Records(), random.Random(1)
    with started(JAVA) as database:
        url = f"{database.url}/homing"
        cluster = Cluster(tmp_path / "data", url)
        try:
            cluster.start()
            prepare(cluster)
            follower = Follower(
                cluster.env["HOMING_STORAGE_URL"], cluster.env["HOMING_SERVICE_TOKEN"], account_ids(cluster), records
            )
            follower.start()
            pids = [member.pid for member in cluster.members]
            load = Load(cluster, records, 1)
            with Idle(cluster.host, cluster.ports["IMAP"], RECIPIENTS[0]) as idle, signed_in(cluster) as imap:
                load.start()
                until(lambda: all(records.last(kind) for kind in KINDS), 60, "every kind of work is done")
                with paused(database.pid):
                    probes = [
                        Probe("SMTP", lambda: accepted(cluster, records, rng)),
                        Probe("submission", lambda: submitted(cluster, records, rng)),
                        Probe("IMAP", lambda: imap.select("INBOX")),
                        Probe("IMAP sign-in", lambda: signed_in(cluster).logout()),
                    ]
                    time.sleep(STOPPED_SECONDS)
                    going_on = time.monotonic()
                back = time.monotonic()
                again(cluster, records, back)
                load.pause()
                assert [member.pid for member in cluster.members if member.running] == pids
                for probe in probes:
                    probe.finish(going_on)
                signed_in(cluster).logout()
                # What the load has delivered is told before what comes now.
                idle.wait(messages(cluster, RECIPIENTS[0]), AGAIN_SECONDS)
                before = idle.latest
                submitted(cluster, records, rng)
                idle.wait(before + 1, AGAIN_SECONDS)
                load.end()
                verify(cluster, records)
            follower.end()
            print(
                "\nanswers:",
                dict(records.answers),
                {probe.name: f"{probe.told} after {probe.after:.1f} s" for probe in probes},
            )
            assert records.answers["SMTP 451"], "SMTP said nothing while the database was away"
            heard = {one for one in records.answers if not one.startswith("port: ")}
            assert heard <= AWAY - {"connection lost"}, errors(cluster)
            assert not records.wrong, "\n".join(records.wrong)
            assert cluster.stop() == 0
            asyncio.run(verify_documents(url))
        finally:
            cluster.kill()


def again(cluster: Cluster, records: Records, back: float) -> None:
    """Returns when every kind of work is acknowledged again; says which is not."""
    deadline = time.monotonic() + AGAIN_SECONDS
    while missing := [kind for kind in KINDS if records.last(kind) <= back]:
        ended = {str(member): member.output[-20:] for member in cluster.members if not member.running}
        assert not ended, f"processes have ended: {ended}"
        heard = dict(records.answers)
        late = f"{missing} not acknowledged within {AGAIN_SECONDS} s again: {heard}"
        assert time.monotonic() < deadline, f"{late}\n{errors(cluster)}"
        time.sleep(0.05)


def errors(cluster: Cluster) -> str:
    """What the processes have logged that is more than news."""
    grave = ('"level": "warning"', '"level": "error"')
    said = [f"{member}: {line}" for member in cluster.members for line in member.output]
    return "".join(line for line in said if any(level in line for level in grave))


class Probe:
    """One thing tried while the database is away: it hears so, or it waits until the database is back."""

    def __init__(self, name: str, ask: Callable[[], Any]) -> None:
        self.name = name
        self.told, self.after, self.at = "", 0.0, 0.0
        self._ask = ask
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        began = time.monotonic()
        try:
            answer = self._ask()
        except BROKEN as error:
            self.told = said(error)
        else:
            no = isinstance(answer, tuple) and answer[0] == "NO"
            self.told = said(imaplib.IMAP4.error(str(answer[1]))) if no else "OK"
        self.at = time.monotonic()
        self.after = self.at - began

    def finish(self, going_on: float) -> None:
        """Was it answered as it must be? going_on: when the database was let go on (time.monotonic)."""
        self._thread.join(60)
        refused = self.told in UNAVAILABLE[self.name]
        # smtplib tries to sign in a second time by itself, which may wait until the database is back.
        waited = self.told == "OK" and self.at >= going_on and self.name != "SMTP"
        assert refused or waited, f"{self.name}: {self.told} after {self.after:.1f} s"


def signed_in(cluster: Cluster) -> imaplib.IMAP4:
    imap = imaplib.IMAP4(cluster.host, cluster.ports["IMAP"], timeout=60)
    imap.login(WORKER, PASSWORD)
    return imap


def messages(cluster: Cluster, user: str) -> int:
    """In the user's INBOX now."""
    with imaplib.IMAP4(cluster.host, cluster.ports["IMAP"], timeout=60) as imap:
        imap.login(user, PASSWORD)
        return int(ok(imap.select("INBOX", readonly=True))[0])


def accepted(cluster: Cluster, records: Records, rng: random.Random) -> None:
    with smtplib.SMTP(cluster.host, cluster.ports["SMTP"], timeout=60) as smtp:
        smtp.ehlo()
        send(records, rng, smtp, "x@elsewhere.example", RECIPIENTS)


def submitted(cluster: Cluster, records: Records, rng: random.Random) -> None:
    with smtplib.SMTP(cluster.host, cluster.ports["SUBMISSION"], timeout=60) as smtp:
        smtp.login(WORKER, PASSWORD)
        send(records, rng, smtp, f"{WORKER}@{DOMAIN}", RECIPIENTS)
