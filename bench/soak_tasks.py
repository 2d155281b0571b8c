"""Tasks of the sending API under load, the workers killed with -9 again and again.

    python -m bench.soak_tasks                                     50 kills, tasks in the spool of storage
    python -m bench.soak_tasks --queue redis --write bench/SOAK.md   the same, tasks in a Redis that is started

Afterwards each task has one end, success or failed, and each that the remote server took more than once says so.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from rich.progress import Progress

from tests.crash.tasking import WORKERS, Figures, under_kills, working
from tests.redisserver import DURABLE, Server

PAUSE = (0.2, 1.2)
"""Seconds between two kills."""
WORDS = {"spool": "the spool of storage, on SQLite", "redis": "Redis"}


def soak(queue: str, kills: int, seed: int) -> Figures:
    """The figures of a run; AssertionError for one that was not as it should be."""
    with tempfile.TemporaryDirectory(prefix="homing-soak-") as folder, Progress() as progress, ExitStack() as stack:
        url = None
        if queue == "redis":
            server = Server(*DURABLE)
            stack.callback(server.close)
            url = server.url
        task = progress.add_task(f"tasks in {queue}", total=kills)
        with working(Path(folder) / "data", url) as work:
            return under_kills(work, kills, seed, PAUSE, lambda done: progress.update(task, completed=done))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--queue", choices=sorted(WORDS), default="spool")
    options.add_argument("--kills", type=int, default=50)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--write", type=Path, help="a Markdown file for the figures")
    args = options.parse_args()
    figures = soak(args.queue, args.kills, args.seed)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], text=True, capture_output=True).stdout.strip()
    lines = [
        f"## Tasks of the sending API, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit}",
        "",
        f"`python -m bench.soak_tasks --queue {args.queue} --kills {args.kills} --seed {args.seed}` on"
        f" {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}: {WORKERS} workers, killed"
        f" {figures.kills} times in turn; tasks in {WORDS[args.queue]}.",
        "",
        f"{len(figures.results)} tasks in {figures.seconds:.0f} s: {figures.statuses['success']} sent,"
        f" {figures.statuses['failed']} refused by the remote server for good, each ended once. Taken"
        f" {sum(figures.taken.values())} times: {figures.twice} more than once, and each of these says so;"
        f" {figures.doubtful} in all say that an attempt's outcome was not seen.",
        "",
    ]
    print("\n".join(lines))
    if args.write:
        with args.write.open("a") as file:
            file.write("\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
