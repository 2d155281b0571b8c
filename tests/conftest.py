"""Fixtures that several rooms share."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.live import Live, running
from tests.mongo import REQUIRED, VARIABLES


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


SERVERS = {
    "HOMING_TEST_MONGODB": "MongoDB (a real one, or mongo-java-server in its place)",
    "HOMING_TEST_FERRETDB": "FerretDB, a second dialect of MongoDB",
}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fold what is skipped for want of a server into one line each, or fail it where REQUIRED is set."""
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple):
        why = report.longrepr[2]
        if any(name in why for name in VARIABLES.values()):
            report.longrepr = ("tests/mongo.py", 1, why)
            if os.environ.get(REQUIRED):
                report.outcome, report.longrepr = "failed", f"{REQUIRED} is set, so this must run. {why}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what this run has left out."""
    left = [f"  {name}: {what}" for name, what in LEFT_OUT.items() if f"not {name}" in config.option.markexpr]
    skipped = [report.longrepr[2] for report in terminalreporter.stats.get("skipped", []) if report.longrepr]
    for name, what in SERVERS.items():
        if count := sum(name in why for why in skipped):
            left.append(f"  {count} tests against {what}: make test-servers, or set {name}")
    if left:
        terminalreporter.write_line("\n".join(["not run here:", *left]))
