"""Workers killed with -9 under load: each task ends once, and what was sent twice says so."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import redisserver
from tests.crash.tasking import under_kills, working

pytestmark = pytest.mark.crash

KILLS = 5
SEED = int(os.environ.get("HOMING_TEST_SEED", "20"))
PAUSE = (0.2, 1.0)


@pytest.fixture
def redis() -> Iterator[redisserver.Server]:
    server = redisserver.Server(*redisserver.DURABLE)
    yield server
    server.close()


@pytest.mark.parametrize("queue", ["spool", "redis"])
def test_tasks_survive_their_workers(tmp_path: Path, queue: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("redis").url if queue == "redis" else None
    with working(tmp_path / "data", url) as work:
        figures = under_kills(work, KILLS, SEED, PAUSE)
    print(
        f"\n{queue}: {dict(figures.statuses)}, taken {sum(figures.taken.values())}, twice {figures.twice}, in doubt"
        f" {figures.doubtful}, {figures.seconds:.1f} s"
    )
    assert figures.statuses["success"] >= 10 * KILLS
    assert figures.doubtful, "no kill found a task on its way"
