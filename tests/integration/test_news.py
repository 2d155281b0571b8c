"""News across processes: a session in IDLE at one door learns of what was done through another."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import pytest

from tests.idling import appended_elsewhere, delivered_elsewhere
from tests.live import DOMAIN, PASSWORD, Cluster
from tests.mongo import mongo_url

pytestmark = pytest.mark.own_start

COUNTS = {"smtp": 2, "imap": 2, "storage": 2}
TIMES = 30
"""How soon the news comes is measured by bench/distributed.py; that each comes is what is asserted here."""


@pytest.fixture(scope="module", params=["sqlite", "mongodb"])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two doors of each kind; on SQLite one keeper of each, on MongoDB two storages."""
    mongodb = mongo_url("mongodb") if request.param == "mongodb" else None
    counts = COUNTS if mongodb else {**COUNTS, "storage": 1}
    server = Cluster(tmp_path_factory.mktemp("news") / "data", mongodb, counts)
    try:
        server.start().add_users("alice", "bob")
        yield server
        assert server.stop() == 0, "".join(server.output[-40:])
    finally:
        server.kill()
        server.forget()


def test_an_idle_session_learns_of_deliveries_through_every_door(cluster: Cluster) -> None:
    doors = cluster.of("imap")
    waited = delivered_elsewhere(cluster.host, doors, cluster.of("smtp"), f"alice@{DOMAIN}", PASSWORD, TIMES)
    assert len(waited) == TIMES * len(doors)
    print(f"\nIDLE after a delivery elsewhere: median {1000 * statistics.median(waited):.0f} ms")


def test_an_idle_session_learns_of_an_append_at_the_other_door(cluster: Cluster) -> None:
    waited = appended_elsewhere(cluster.host, cluster.of("imap"), f"bob@{DOMAIN}", PASSWORD, TIMES)
    assert len(waited) == TIMES
    print(f"\nIDLE after an APPEND elsewhere: median {1000 * statistics.median(waited):.0f} ms")
