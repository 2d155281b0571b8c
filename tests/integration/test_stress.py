"""Many sessions in one mailbox, each with a model of what it was told: no contradiction, and agreement at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import Live, running
from tests.stress.model import Contradiction, Model
from tests.stress.run import USER, imap_port, stress

pytestmark = pytest.mark.slow


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    with running(tmp_path / "data", USER) as server:
        yield server


def test_no_session_is_told_a_contradiction(live: Live) -> None:
    done = asyncio.run(stress(imap_port(live), USER, sessions=20, seconds=8, seed=3))
    assert sum(done.commands.values()) > 200
    assert done.elsewhere


@pytest.mark.parametrize(
    ("during", "lines"),
    [
        (b"FETCH", [b"* 2 EXISTS", b"* 1 EXPUNGE"]),
        (b"SEARCH", [b"* 2 EXISTS", b"* 1 FETCH (UID 4)", b"* VANISHED 4"]),
        (b"NOOP", [b"* 2 EXISTS", b"* 3 EXPUNGE"]),
        (b"NOOP", [b"* 2 EXISTS", b"* 1 EXISTS"]),
        (b"NOOP", [b"* 2 EXISTS", b"* 1 FETCH (UID 4)", b"* 1 FETCH (UID 5)"]),
        (b"NOOP", [b"* 2 EXISTS", b"* 1 FETCH (UID 4)", b"* 2 FETCH (UID 3)"]),
        (b"NOOP", [b"* 2 EXISTS", b"* 1 FETCH (UID 4)", b"* 1 EXPUNGE", b"* 1 FETCH (UID 4)"]),
        (b"NOOP", [b"* 1 EXISTS", b"* 1 FETCH (UID 4 MODSEQ (9))", b"* 1 FETCH (UID 4 MODSEQ (8))"]),
        (b"NOOP", [b"* 1 EXISTS", b"* 1 FETCH (UID 4 FLAGS (Mine))"]),
        (b"NOOP", [b"* 2 EXISTS", b"* 1 FETCH (UID 4)", b"* VANISHED 3"]),
    ],
)
def test_the_model_sees_what_is_wrong(during: bytes, lines: list[bytes]) -> None:
    model = Model("one", "Mine", running=frozenset((during,)))
    for line in lines[:-1]:
        model.hear(line)
    with pytest.raises(Contradiction):
        model.hear(lines[-1])


@pytest.mark.parametrize(
    "lines",
    [
        [b"* 1 EXISTS", b"* 1 FETCH (UID 4)"],
        [b"* 1 EXISTS", b"* 1 EXPUNGE"],
        [b"* 1 EXISTS", b"* 1 RECENT"],
        [b"* 1 EXISTS", b"* 4 UIDFETCH (FLAGS ())", b"* 5 UIDFETCH (FLAGS ())"],
        [b"* 1 EXISTS", b"* 4 UIDFETCH (FLAGS ())", b"* VANISHED 5"],
        [b"* 1 EXISTS", b"* VANISHED 4", b"* 4 UIDFETCH (FLAGS ())"],
    ],
)
def test_the_model_sees_what_is_wrong_without_numbers(lines: list[bytes]) -> None:
    model = Model("one", "Mine", by_uid=True, rev2=True)
    for line in lines[:-1]:
        model.hear(line)
    with pytest.raises(Contradiction):
        model.hear(lines[-1])
