"""Mail for other domains under load, its processes killed with -9 again and again; then ended by SIGTERM.

    python -m bench.soak_outbound                                   50 kills of the one process
    python -m bench.soak_outbound --kind sqlite --write bench/SOAK.md   of the processes of a distributed server

kinds: embedded; sqlite (two processes that send, keepers on SQLite); mongo (the same, keepers on the server that
HOMING_TEST_MONGODB names, or else on a stand-in that is started). After each run the spool is empty, and all that was
acknowledged was taken by the other server, or its sender has a notice.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.progress import Progress, TaskID

from bench.databases import database
from tests.crash.leaving import Figures, Kind, under_kills, under_stops, world
from tests.crash.left import finish

KINDS: tuple[Kind, ...] = ("embedded", "sqlite", "mongo")
PAUSE = (0.3, 2.5)
"""Seconds between two kills."""
STOP_EVERY = 2.0
WORDS: dict[Kind, str] = {
    "embedded": "one process",
    "sqlite": "two processes that send, one storage keeper on SQLite, all of them killed",
    "mongo": "two processes that send, two storage keepers on {}, all of them killed",
}


def soak(kind: Kind, kills: int, stops: int, seed: int) -> tuple[Figures, Figures, str]:
    """The figures of the kills and of the orderly ends; what the database is."""
    with tempfile.TemporaryDirectory(prefix="homing-soak-") as folder, Progress() as progress, ExitStack() as stack:
        found: list[Figures] = []
        short = ""
        for name in ("kills", "ends"):
            url = None
            if kind == "mongo":
                server = stack.enter_context(database())
                url, short = server.url, server.short
            task = progress.add_task(f"{kind}, {name}", total=kills if name == "kills" else None)
            with world(Path(folder) / name / "data", kind, url, seed) as this:
                if name == "kills":
                    under_kills(this, kills, seed, PAUSE, partial(_show, progress, task))
                else:
                    under_stops(this, stops, seed, STOP_EVERY)
                finish(this)
            found.append(this.figures)
        return found[0], found[1], short


def _show(progress: Progress, task: TaskID, done: int) -> None:
    progress.update(task, completed=done)


def words(killed: Figures, ended: Figures) -> list[str]:
    """What stands below the head."""
    handed = killed.handed
    starts = sorted(kill.ready - kill.at for kill in killed.kills)
    doubled = ", ".join(f"{count} because {why}" for why, count in killed.doubled.most_common()) or "none"
    answers = ", ".join(f"{name} {count} times" for name, count in handed.answers.most_common()) or "nothing"
    gaps = sorted(killed.gaps) or [0.0]
    recipients = sum(len(message.recipients) for message in handed.messages.values())
    return [
        f"Handed in: {len(handed.messages)} messages to {recipients} recipients in {killed.load_seconds:.0f} s, of"
        f" which {len(handed.acknowledged)} were acknowledged (what senders heard instead: {answers}). Every recipient"
        " of these has the message, or its sender has one notice; none has both; nobody was told twice.",
        f"Killed: {', '.join(f'{name} {count} times' for name, count in sorted(killed.killed().items()))}. From a kill"
        f" to `ready`: median {starts[len(starts) // 2]:.2f} s, longest {starts[-1]:.2f} s. The spool was empty"
        f" {killed.empty_seconds:.0f} s after the end of the load.",
        f"Taken: {killed.taken} times. Taken again: {doubled}; each of these traces says so. From a 250 to the kill"
        f" by which it was not seen, with storage there: median {1000 * gaps[len(gaps) // 2]:.0f} ms, longest"
        f" {1000 * gaps[-1]:.0f} ms.",
        f"Ended by SIGTERM {len(ended.drains)} times under load, {ended.taken} taken: none twice; an end took at most"
        f" {max(ended.drains):.2f} s.",
    ]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--kind", choices=KINDS, default="embedded")
    options.add_argument("--kills", type=int, default=50)
    options.add_argument("--stops", type=int, default=5)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--write", type=Path, help="a Markdown file for the figures")
    args = options.parse_args()
    killed, ended, short = soak(args.kind, args.kills, args.stops, args.seed)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], text=True, capture_output=True).stdout.strip()
    lines = [
        f"## Mail on its way out, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit}",
        "",
        f"`python -m bench.soak_outbound --kind {args.kind} --kills {args.kills} --stops {args.stops} --seed"
        f" {args.seed}` on {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}:"
        f" {WORDS[args.kind].format(short)}.",
        "",
        *(f"{line}\n" for line in words(killed, ended)),
    ]
    print("\n".join(lines))
    if args.write:
        with args.write.open("a") as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
