"""Fixtures that several rooms share."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests import forking, redisserver
from tests.hurry import hurry, in_memory
from tests.live import Live, mode, running
from tests.mongo import REQUIRED, VARIABLES, skip

# The crash tests of .ci/run, and who doubts it, start every process as a user does.
forking.FORKS = sys.platform == "linux" and not os.environ.get("HOMING_TEST_EXEC")
hurry()
in_memory()


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
    "performance": "how many messages a second are sent: pytest -m performance",
    "desktop": "Thunderbird in a window under Xvfb: pytest -m desktop",
}
ASKED_FOR = ("performance", "desktop")
"""What runs where its marker is asked for alone."""


SERVERS = {
    "HOMING_TEST_REDIS": "Redis (redis-server on PATH is started)",
    "HOMING_TEST_MONGODB": "MongoDB (a real one, or mongo-java-server in its place)",
    "HOMING_TEST_FERRETDB": "FerretDB, a second dialect of MongoDB",
}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fold what is skipped for want of a server into one line each, or fail it where REQUIRED is set."""
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple):
        why = report.longrepr[2]
        if any(name in why for name in (*VARIABLES.values(), redisserver.VARIABLE)):
            report.longrepr = ("tests/mongo.py", 1, why)
            if os.environ.get(REQUIRED):
                report.outcome, report.longrepr = "failed", f"{REQUIRED} is set, so this must run. {why}"
    return report


LONG = ("tests/homing/", "tests/integration/", "tests/smtp/outbound/test_runner", "tests/crash/", "tests/interop/")
"""What waits long, and so begins early: else a parallel run ends with one worker at work. (Makefile: in this order.)"""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what proves nothing more here, and begin with what takes long."""
    asked = [name for name in ASKED_FOR if name in config.option.markexpr]
    waits = [name for name in ASKED_FOR if name not in asked]
    left = [item for item in items if _is_repeated(item) or any(item.get_closest_marker(name) for name in waits)]
    if left:
        items[:] = [item for item in items if item not in set(left)]
        config.hook.pytest_deselected(items=left)
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


def _is_repeated(item: pytest.Item) -> bool:
    """Is its like run here anyway?"""
    if mode() != "embedded" and item.get_closest_marker("own_start"):
        return True
    # With a server at hand, mongomock shows nothing of a contract that the server does not show.
    adapter = getattr(item, "callspec", None)
    return (
        item.nodeid.startswith("tests/contract/")
        and adapter is not None
        and "mongomock" in adapter.params.values()
        and skip("mongodb") is None
    )


def pytest_collection_finish(session: pytest.Session) -> None:
    """What has been collected stays: no test need look through it for garbage."""
    gc.collect()
    gc.freeze()


def _left_out(name: str, chosen: str) -> bool:
    return f"not {name}" in chosen or (name in ASKED_FOR and name not in chosen)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what this run has left out."""
    left = [f"  {name}: {what}" for name, what in LEFT_OUT.items() if _left_out(name, config.option.markexpr)]
    skipped = [report.longrepr[2] for report in terminalreporter.stats.get("skipped", []) if report.longrepr]
    for name, what in SERVERS.items():
        if count := sum(name in why for why in skipped):
            left.append(f"  {count} tests against {what}: make test-servers, or set {name}")
    if left:
        terminalreporter.write_line("\n".join(["not run here:", *left]))
