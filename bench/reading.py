"""The reading room beside Dovecot 2.3 (maildir) on one mailbox of 10,000, in one run; ratios ours ÷ theirs.

    python -m bench.reading                       print the table
    python -m bench.reading --write               and put it into bench/RESULTS.md
    python -m bench.reading -m 2000 --only store  smaller, or some of the groups

Both servers get the same messages by APPEND. What is called *first* is the first time after it, *warm* the median of
the three runs that follow, each with a sign-in of its own. Searches run when our index has caught up; *behind* is a
search of a mailbox filled a moment before. The peers are set up as bench/compare.py says.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.compare import Bar, Server, indexing, ours, peers_stop, report, scenario, theirs

GROUPS = ("list", "search", "store", "append")
FILLED, BEHIND = 210, 211
"""Accounts: the one that is read, and one that is searched as soon as it is filled."""


def timing(case: str, name: str, figure: str) -> Callable[[dict[str, Any]], float]:
    return lambda row: float(row[name][figure])


def pair(title: str, case: str, name: str, first: float, warm: float) -> list[Bar]:
    return [
        Bar(f"{title}, first, ms", case, timing(case, name, "first_ms"), first, False),
        Bar(f"{title}, warm, ms", case, timing(case, name, "warm_ms"), warm, False),
    ]


def changing(title: str, name: str, bar: float) -> Bar:
    return Bar(f"{title}, ms", "store", timing("store", name, "ms"), bar, False)


BARS = [
    Bar("SELECT, first, ms", "list", lambda row: row["select_first_ms"], 0.7, False),
    Bar("SELECT, warm, ms", "list", lambda row: row["select_warm_ms"], 0.7, False),
    *pair("FETCH UID FLAGS", "list", "flags", 1.5, 1.5),
    *pair("FETCH ENVELOPE BODYSTRUCTURE and more", "list", "envelope", 0.2, 0.5),
    *pair("FETCH five header fields", "list", "headers", 1.0, 1.0),
    *pair("FETCH whole bodies", "list", "body", 0.8, 0.8),
    *pair("SEARCH FROM", "search", "from", 0.5, 0.5),
    *pair("SEARCH BODY", "search", "body", 0.1, 0.1),
    *pair("SEARCH TEXT", "search", "text", 0.1, 0.1),
    Bar("SEARCH TEXT, index behind, first, ms", "behind", timing("behind", "text", "first_ms"), None, False),
    changing("STORE +FLAGS.SILENT \\Seen", "store_seen", 0.8),
    changing("STORE +FLAGS.SILENT \\Flagged", "store_flagged", 0.8),
    changing("COPY", "copy", 0.4),
    changing("MOVE", "move", 0.4),
    changing("EXPUNGE", "expunge", 1.0),
    *(
        Bar(f"{title}, messages/s", "append", timing("append", mode, "msgs_per_s"), bar, True)
        for title, mode, bar in (
            ("APPEND, synchronizing literal", "sync", 1.5),
            ("APPEND, LITERAL+", "literal+", 1.5),
            ("APPEND, pipelined", "pipelined", 1.5),
            ("MULTIAPPEND of 50", "multiappend", 2.0),
        )
    ),
]  # fmt: skip


def fill(server: Server, index: int, messages: int) -> None:
    scenario(
        server, "seed", "seed", "--user", "u{i}", "--index", str(index), "-m", str(messages), "--mode", "pipelined"
    )


def run(group: str, server: Server, messages: int) -> list[dict[str, Any]]:
    account = ["--user", "u{i}", "--index", str(FILLED)]
    match group:
        case "list":
            return scenario(server, "imap-list", "list", *account, "--warm", "3")
        case "search":
            return scenario(server, "imap-search", "search", *account, "--warm", "3")
        case "behind":
            other = ["--user", "u{i}", "--index", str(BEHIND)]
            fill(server, BEHIND, messages)
            return scenario(server, "imap-search", "behind", *other, "--warm", "0", "--only", "text")
        case "store":
            return scenario(server, "imap-store", "store", *account, "--repeat", "3")
        case "append":
            return scenario(server, "imap-append", "append", *account, "-n", "1000", "--size", "20k", "--repeat", "3")
    raise ValueError(group)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--write", action="store_true", help="append the table to bench/RESULTS.md")
    options.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS))
    options.add_argument("-m", "--messages", type=int, default=10_000, help="in the mailbox that is read")
    options.add_argument("--raw", type=Path, help="a file for the generator's JSON lines")
    args = options.parse_args()
    console = Console()
    results: dict[str, dict[str, list[dict[str, Any]]]] = {}
    notes: list[str] = []
    with tempfile.TemporaryDirectory(prefix="homing-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "peers").mkdir()
        live, mine = ours(folder)
        try:
            peer = theirs(folder / "peers")
            for server in (peer, mine):
                console.print(f"[dim]{time.strftime('%T')}[/] {server.name}: {args.messages} messages")
                fill(server, FILLED, args.messages)
            if "list" in args.only:
                for server in (peer, mine):
                    console.print(f"[dim]{time.strftime('%T')}[/] {server.name} list")
                    results.setdefault("list", {})[server.name] = run("list", server, args.messages)
            begun = time.monotonic()
            mine.settled()
            notes.append(
                f"Our index had caught up {time.monotonic() - begun:.0f} s after the listing; it took "
                f"{indexing(mine):.1f} s of CPU in all."
            )
            later = [group for group in GROUPS[1:] if group in args.only]
            for group in (*later, *(["behind"] if "search" in later else [])):
                for server in (peer, mine):
                    console.print(f"[dim]{time.strftime('%T')}[/] {server.name} {group}")
                    results.setdefault(group, {})[server.name] = run(group, server, args.messages)
                    server.settled()
        finally:
            peers_stop(folder / "peers")
            assert live.stop() == 0
    command = f"python -m bench.reading -m {args.messages} --only {' '.join(args.only)}"
    report(console, BARS, results, command, notes, args.write, args.raw)


if __name__ == "__main__":
    main()
