"""Two processes of each service under load, one random process killed with -9 every five seconds and started again.

    python -m bench.soak_distributed                                     two minutes
    python -m bench.soak_distributed --seconds 20 --write bench/SOAK.md

HOMING_TEST_MONGODB names the server, in which a database of its own is made and dropped; without it the stand-in
mongo-java-server is started (which is not MongoDB, and the figures say so).
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.databases import database
from tests.crash.kills import COUNTS, EVERY, Figures, run

HEAD = ("operation", "acknowledged", "asked", "median ms", "longest ms", "longest silence s")


def rows(figures: Figures) -> list[tuple[str, ...]]:
    """One for each kind of operation, as HEAD says."""
    gaps = figures.gaps()
    found: list[tuple[str, ...]] = []
    for name, (done, asked) in figures.records.counts().items():
        took = sorted(figures.records.seconds[name]) or [0.0]
        times = (f"{1000 * took[len(took) // 2]:.0f}", f"{1000 * took[-1]:.0f}", f"{gaps[name]:.1f}")
        found.append((name, str(done), str(asked), *times))
    return found


def words(figures: Figures) -> list[str]:
    """What stands below the table."""
    starts = sorted(figures.starts)
    answers = ", ".join(f"{name} {count} times" for name, count in figures.records.answers.most_common())
    acknowledged = sum(done for done, _ in figures.records.counts().values())
    return [
        f"Killed: {', '.join(f'{name} {count} times' for name, count in sorted(figures.kills.items()))}. From a kill to"
        f" `ready`: median {starts[len(starts) // 2]:.1f} s, longest {starts[-1]:.1f} s.",
        f"Acknowledged in all: {acknowledged}, {acknowledged / figures.busy_seconds:.0f} a second under load. What"
        f" clients heard instead: {answers or 'nothing else'}.",
        f"All was looked at {figures.verified} times by IMAP at both doors, {figures.rounds} times by a follower of the"
        f" storage port, and at the end in the documents, where {figures.messages} messages are left of them.",
    ]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=120.0, help="under load")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--write", type=Path, help="a Markdown file for the figures")
    args = options.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="homing-soak-") as folder, database() as server:
        figures = run(
            Path(folder) / "data", server.url, args.seconds, args.seed, lambda text: console.print(f"[dim]{text}[/]")
        )
    table = Table(*HEAD)
    for row in rows(figures):
        table.add_row(*row)
    console.print(table)
    for line in words(figures):
        console.print(line)
    if args.write:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], text=True, capture_output=True).stdout.strip()
        processes = ", ".join(f"{count} {service}" for service, count in COUNTS.items())
        lines = [
            f"## Distributed, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit}",
            "",
            f"`python -m bench.soak_distributed --seconds {args.seconds:g} --seed {args.seed}` on {platform.machine()},"
            f" {os.cpu_count()} cores, Python {platform.python_version()}, {server.short}: {processes} processes, a"
            f" kill -9 every {EVERY:g} s for {figures.load_seconds:.0f} s. Every acknowledged operation was there"
            " exactly once, and each one in flight once or not at all; uids and modseq rose, and none was used again.",
            "",
            "| " + " | ".join(HEAD) + " |",
            "|---" * len(HEAD) + "|",
            *("| " + " | ".join(row) + " |" for row in rows(figures)),
            "",
            *(f"{line}\n" for line in words(figures)),
        ]
        with args.write.open("a") as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
