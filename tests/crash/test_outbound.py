"""Mail for other domains under load: its processes killed with -9 at random moments, and ended as they should be."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.crash.leaving import DRAIN_SECONDS, Kind, under_kills, under_stops, world
from tests.crash.left import finish
from tests.mongo import dropped, mongo_url, skip

pytestmark = pytest.mark.crash

KILLS = 5
MESSAGES = 20
"""How many are acknowledged for each kill, at least."""
STOPS = 2
SEED = int(os.environ.get("HOMING_TEST_SEED", "20"))
PAUSE = (0.4, 2.0)
"""Seconds between two kills."""
KINDS = [
    "embedded",
    "sqlite",
    pytest.param("mongo", marks=pytest.mark.skipif(bool(skip("mongodb")), reason=str(skip("mongodb")))),
]


@pytest.mark.parametrize("kind", KINDS)
def test_mail_that_leaves_survives_kills(tmp_path: Path, kind: Kind) -> None:
    mongodb = mongo_url("mongodb") if kind == "mongo" else None
    try:
        with world(tmp_path / "data", kind, mongodb, SEED) as this:
            under_kills(this, KILLS, SEED, PAUSE, lambda _: None, MESSAGES)
            finish(this)
    finally:
        if mongodb is not None:
            asyncio.run(dropped(mongodb))
    figures = this.figures
    handed = figures.handed
    print(
        f"\n{kind}: {len(handed.acknowledged)} of {len(handed.messages)} acknowledged, {figures.taken} taken,"
        f" {figures.notices} notices, killed {dict(figures.killed())}, twice {dict(figures.doubled)}"
        f" (ms to the kill: {[round(1000 * gap) for gap in sorted(figures.gaps)]}),"
        f" empty after {figures.empty_seconds:.1f} s, answers {dict(handed.answers)}"
    )
    assert sum(figures.killed().values()) == KILLS
    assert figures.doubled["no reply was written"], "the sink left no message unanswered"
    assert figures.notices, "nobody was refused"


@pytest.mark.parametrize("kind", KINDS)
def test_an_orderly_end_under_load_is_quick_and_sends_nothing_twice(tmp_path: Path, kind: Kind) -> None:
    mongodb = mongo_url("mongodb") if kind == "mongo" else None
    try:
        with world(tmp_path / "data", kind, mongodb, SEED) as this:
            under_stops(this, STOPS, SEED, 2.0)
            finish(this)
    finally:
        if mongodb is not None:
            asyncio.run(dropped(mongodb))
    figures = this.figures
    print(f"\n{kind}: drained in {figures.drains} s, {figures.taken} taken, answers {dict(figures.handed.answers)}")
    assert not figures.doubled
    assert max(figures.drains) < DRAIN_SECONDS
    assert figures.taken
