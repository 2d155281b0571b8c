"""The same load on one process, on four over SQLite keepers, and on four over a MongoDB server, in one run.

    python -m bench.distributed                print the tables
    python -m bench.distributed --write        and put them into bench/RESULTS.md

HOMING_TEST_MONGODB names the server; without it the stand-in mongo-java-server is started, and the tables say so.
Everything runs on this machine: what several machines would bring is not seen here, what the way between processes
costs is.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.compare import PASSWORD, Server, cpu_seconds, scenario
from bench.databases import Database, database
from tests.idling import appended_elsewhere, delivered_elsewhere
from tests.live import DOMAIN, Cluster, Live, until

USERS = 30
LIST_USER = 20
MESSAGES = 3000
"""In the mailbox that is fetched."""
ACCEPT = {
    "new connections": ["--size", "2k", "--conc", "10", "-n", "600"],
    "kept connections": ["--size", "2k", "--conc", "10", "-n", "1000", "--per-conn", "0"],
}
FETCHES = {"flags": "FLAGS", "envelope": "ENVELOPE, BODYSTRUCTURE", "body": "whole bodies"}
NEWS_TIMES = 30
SERVICES = ("smtp", "imap", "identity", "storage", "database")
CASE_SECONDS = 60
"""The longest that one case may take."""


@dataclass(slots=True)
class Measured:
    """One way of running it. visible: messages/s by case. cpu: milliseconds of CPU per message by case and process.
    fetch: (first, warm) milliseconds. news: milliseconds until IDLE tells, after a delivery and after an APPEND."""

    name: str
    visible: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, dict[str, float]] = field(default_factory=dict)
    fetch: dict[str, tuple[float, float]] = field(default_factory=dict)
    select: float = 0.0
    news: tuple[float, float] | None = None


def accept(live: Live, server: Server, pids: dict[str, int], measured: Measured) -> None:
    for name, args in ACCEPT.items():
        server.settled()
        before = {process: cpu_seconds(str(pid)) for process, pid in pids.items()}
        (row,) = scenario(
            server, "smtp", name.replace(" ", "-"), "--user", "u{i}", "--rcpt", f"u{{i}}@{DOMAIN}", "--users", "10",
            "--max-seconds", str(CASE_SECONDS), *args,
        )  # fmt: skip
        server.settled()
        assert not row.get("errors"), row
        measured.visible[name] = row["visible_per_s"]
        measured.cpu[name] = {
            process: 1000 * (cpu_seconds(str(pid)) - before[process]) / row["accepted"] for process, pid in pids.items()
        }


def fetch(server: Server, measured: Measured) -> None:
    user = ("--user", "u{i}", "--index", str(LIST_USER), "--max-seconds", str(CASE_SECONDS))
    scenario(server, "seed", "seed", *user, "-m", str(MESSAGES))
    server.settled()
    (row,) = scenario(server, "imap-list", "list", *user, "--warm", "2", "--only", ",".join(FETCHES))
    assert all(row[name]["complete"] for name in FETCHES), row
    measured.fetch = {name: (row[name]["first_ms"], row[name]["warm_ms"]) for name in FETCHES}
    measured.select = row["select_warm_ms"]


def news(cluster: Cluster, measured: Measured) -> None:
    """The cluster has two doors of each kind, so that what is told came through another process."""
    doors = cluster.of("imap")
    by_delivery = delivered_elsewhere(cluster.host, doors, cluster.of("smtp"), f"u21@{DOMAIN}", PASSWORD, NEWS_TIMES)
    by_append = appended_elsewhere(cluster.host, doors, f"u22@{DOMAIN}", PASSWORD, NEWS_TIMES)
    measured.news = (1000 * statistics.median(by_delivery), 1000 * statistics.median(by_append))


def server_of(live: Live) -> Server:
    token = live.admin_token()

    def settled() -> None:
        until(lambda: live.rest("GET", "/api/stats", token=token)[1]["index"]["lag"] == 0, 120, "the index", pause=0.2)

    pids = [str(pid) for pid in processes(live).values()]
    return Server(
        "homing", f"{live.host}:{live.ports['SMTP']}", f"{live.host}:{live.ports['IMAP']}", DOMAIN, ",".join(pids),
        settled,
    )  # fmt: skip


def processes(live: Live) -> dict[str, int]:
    """Name → pid; of a service with several processes the first, which all of the load goes to."""
    if isinstance(live, Cluster):
        return {service: live.of(service)[0].pid for service in ("smtp", "imap", "identity", "storage")}
    return {"all in one": live.pid}


@contextmanager
def started(live: Live) -> Iterator[Live]:
    try:
        live.start()
        live.add_users(*(f"u{i}@{DOMAIN}" for i in range(USERS)), password=PASSWORD)
        yield live
        assert live.stop() == 0, "".join(live.output[-20:])
    finally:
        if live.running:
            live.kill()


def measure(name: str, live: Live, stand_in: Database | None, say: Callable[[str], None]) -> Measured:
    measured = Measured(name)
    with started(live):
        server = server_of(live)
        pids = processes(live)
        if stand_in is not None and stand_in.pid is not None:
            pids["database"] = stand_in.pid
        accept(live, server, pids, measured)
        say(f"{name}: accepted")
        fetch(server, measured)
        say(f"{name}: fetched")
    return measured


def measure_news(measured: Measured, cluster: Cluster, say: Callable[[str], None]) -> None:
    with started(cluster):
        news(cluster, measured)
    say(f"{measured.name}: news")


def run(console: Console) -> tuple[list[Measured], str]:
    began = time.monotonic()

    def say(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:5.0f} s  {text}[/]")

    doors = {"smtp": 2, "imap": 2}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="homing-bench-")))
        found = [measure("one process, SQLite", Live(folder / "one"), None, say)]
        over_sqlite = measure("four processes, SQLite keepers", Cluster(folder / "four"), None, say)
        measure_news(over_sqlite, Cluster(folder / "news", None, doors), say)
        store = stack.enter_context(database())
        over_mongo = measure(f"four processes, {store.short}", Cluster(folder / "mongo", store.url), store, say)
        again = stack.enter_context(database())
        measure_news(over_mongo, Cluster(folder / "again", again.url, {**doors, "storage": 2}), say)
        return [*found, over_sqlite, over_mongo], store.words


def tables(found: list[Measured]) -> list[tuple[str, list[list[str]]]]:
    """(title, rows, the first of them the heads)"""
    ways = [one.name for one in found]
    speed = [["", *ways]]
    speed += [[f"{case}, messages/s", *(f"{one.visible[case]:.0f}" for one in found)] for case in ACCEPT]
    shown = [
        name for name in ("all in one", *SERVICES) if any(name in one.cpu[case] for one in found for case in ACCEPT)
    ]
    cpu = [["", *shown, "together"]]
    for one in found:
        for case, spent in one.cpu.items():
            values = [f"{spent[name]:.2f}" if name in spent else "" for name in shown]
            cpu.append([f"{one.name}, {case}", *values, f"{sum(spent.values()):.2f}"])
    times = [["", *ways]]
    times.append(["SELECT, warm", *(f"{one.select:.1f}" for one in found)])
    times += [
        [f"{title}, {which}", *(f"{one.fetch[name][n]:.0f}" for one in found)]
        for name, title in FETCHES.items()
        for n, which in enumerate(("first", "warm"))
    ]
    told = [["after", *ways]]
    told += [
        [what, *("" if one.news is None else f"{one.news[n]:.0f}" for one in found)]
        for n, what in enumerate(("a delivery through another process", "an APPEND through another imap process"))
    ]
    return [
        ("Delivered and visible, 2 KiB, ten connections", speed),
        ("CPU per message, ms, background work included", cpu),
        (f"FETCH of {MESSAGES} messages, ms", times),
        ("IDLE is told, median ms", told),
    ]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--write", action="store_true", help="append the tables to bench/RESULTS.md")
    args = options.parse_args()
    console = Console()
    found, words = run(console)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], text=True, capture_output=True).stdout.strip()
    lines = [
        f"## Distributed, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit}",
        "",
        f"`python -m bench.distributed`; {os.cpu_count()} cores for all processes and the load generator, Python"
        f" {platform.python_version()}, load average at the end {os.getloadavg()[0]:.1f}. {words}",
        "",
    ]
    for title, rows in tables(found):
        table = Table(*rows[0], title=title)
        for row in rows[1:]:
            table.add_row(*row)
        console.print(table)
        lines += [f"**{title}**", "", "| " + " | ".join(rows[0]) + " |", "|---" * len(rows[0]) + "|"]
        lines += ["| " + " | ".join(row) + " |" for row in rows[1:]]
        lines.append("")
    console.print(words)
    if args.write:
        with (Path(__file__).resolve().parent / "RESULTS.md").open("a") as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
