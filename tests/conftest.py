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


LEFT_OUT = {
    "interop": "real clients and peers (swaks, curl, mbsync, Dovecot): make interop",
    "crash": "kill -9 of the running server: make test-all",
    "slow": "what takes more than ten seconds: make test-all",
}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what this run has left out."""
    left = [f"  {name}: {what}" for name, what in LEFT_OUT.items() if f"not {name}" in config.option.markexpr]
    if left:
        terminalreporter.write_line("\n".join(["not run here:", *left]))
