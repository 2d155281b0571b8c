"""Fixtures that several rooms share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import Live, running


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """One running server for a module's tests, with the users alice, bob and carol."""
    data: Path = tmp_path_factory.mktemp("live") / "data"
    with running(data, "alice", "bob", "carol") as server:
        yield server
