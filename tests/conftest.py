"""Fixtures that several rooms share."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests import forking, redisserver
from tests.hurry import examples, hurry, in_memory
from tests.live import Live, mode, running
from tests.mongo import KINDS, REQUIRED, VARIABLES, skip

# The crash tests of .ci/run, and who doubts it, start every process as a user does.
forking.FORKS = sys.platform == "linux" and not os.environ.get("HOMING_TEST_EXEC")
hurry()
in_memory()
# max_examples: of a property that names no number. No duration is asserted, and no machine is too slow.
settings.register_profile(
    "ours",
    max_examples=examples(settings.default.max_examples),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ours")


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


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is for a server that is not there, before anything is made for it."""
    params = getattr(item, "callspec", None)
    for kind in KINDS:
        if params is not None and kind in params.params.values() and (why := skip(kind)):
            pytest.skip(why)


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


LONG = (
    "tests/homing/",
    "tests/integration/",
    "tests/smtp/outbound/test_r",
    "tests/transcripts/",
    "tests/crash/",
    "tests/interop/",
)
"""What waits long, and so begins early: else a parallel run ends with one worker at work. (Makefile: in this order.)"""
SHORT = "tests/mail/"
"""Files that take no time, and so come at the end: with these the workers end together."""


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport]:
    """Have each worker begin a folder elsewhere: what one has compiled already, the others need not compile again.
    (The assertions of all files are rewritten by the first run in a fresh checkout, which takes 10 s of one core.)"""
    report = yield
    worker: dict[str, Any] | None = getattr(collector.config, "workerinput", None)
    if worker is not None and isinstance(collector, pytest.Dir) and report.result:
        first = len(report.result) * int(worker["workerid"].removeprefix("gw")) // worker["workercount"]
        report.result = [*report.result[first:], *report.result[:first]]
    return report


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what proves nothing more here, and begin with what takes long. The order is the same in each worker."""
    asked = [name for name in ASKED_FOR if name in config.option.markexpr]
    waits = [name for name in ASKED_FOR if name not in asked]
    left = {item for item in items if _is_repeated(item) or any(item.get_closest_marker(name) for name in waits)}
    if left:
        items[:] = [item for item in items if item not in left]
        config.hook.pytest_deselected(items=[*left])
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> tuple[int, str, str]:
    """When this is run: long files, others, short ones. What is in a file keeps its order. Files go by their own names:
    those of the folders that wait (runtime, smtp) and of those that work (contract, imap) run beside each other."""
    file = item.nodeid.partition("::")[0]
    return (0 if file.startswith(LONG) else 2 if file.startswith(SHORT) else 1), file.rpartition("/")[2], file


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


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage where there is none: what is imported and collected stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """No test need look through it for garbage either; and for its own, as often as the server does."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


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
