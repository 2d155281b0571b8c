"""Homing beside Postfix + Dovecot (maildir) in one run, by the same load generator; ratios ours ÷ theirs.

    python -m bench.compare                    print the table
    python -m bench.compare --write            and put it into bench/RESULTS.md
    python -m bench.compare --only smtp idle   some of the groups

The peers are set up by bench/load/peers.sh with their shipped durability; needs root, postfix, dovecot-imapd and
dovecot-lmtpd. The scenarios of a group run on one server and then on the other, so that both meet the same machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.live import Live, until

HERE = Path(__file__).resolve().parent
DOMAIN, PASSWORD, USERS = "bench.example", "secret", 300


@dataclass(frozen=True)
class Server:
    name: str
    smtp: str
    imap: str
    domain: str
    tree: str
    settled: Callable[[], Any]
    """Waits until nothing of the work is left (for us: the search index has caught up)."""


@dataclass(frozen=True)
class Bar:
    """One row: where the figure is, and what it should be at least (or at most) as ours ÷ theirs, if that is said."""

    title: str
    case: str
    figure: Callable[[dict[str, Any]], float]
    bar: float | None
    at_least: bool


SMTP_CASES = {
    "2k-c10-single": ["--size", "2k", "--conc", "10", "-n", "1500"],
    "2k-c10-reused": ["--size", "2k", "--conc", "10", "-n", "2000", "--per-conn", "0"],
    "20k-c10-pipelined": ["--size", "20k", "--conc", "10", "-n", "2000", "--per-conn", "0", "--pipelining"],
    "1m-c4-pipelined": ["--size", "1m", "--conc", "4", "-n", "120", "--per-conn", "0", "--pipelining"],
}

BARS = [
    Bar("delivered and visible /s, 2 KiB, new connections", "2k-c10-single", lambda r: r["visible_per_s"], 1.3, True),
    Bar("delivered and visible /s, 2 KiB, reused connections", "2k-c10-reused", lambda r: r["visible_per_s"], 3, True),
    Bar("delivered and visible /s, 20 KiB pipelined", "20k-c10-pipelined", lambda r: r["visible_per_s"], 3, True),
    Bar("delivered and visible /s, 1 MiB", "1m-c4-pipelined", lambda r: r["visible_per_s"], 1.2, True),
    Bar("server CPU ms per 2 KiB message, new connections", "2k-c10-single", lambda r: r["cpu_ms"], 0.25, False),
    Bar("server CPU ms per 2 KiB message, reused connections", "2k-c10-reused", lambda r: r["cpu_ms"], 0.25, False),
    Bar("the same without indexing, reused", "2k-c10-reused", lambda r: r["cpu_ms_unindexed"], 0.25, False),
    Bar(
        "ENVELOPE and BODYSTRUCTURE of 10,000, first time, ms", "list", lambda r: r["envelope"]["first_ms"], 0.3, False
    ),
    Bar("memory per idle connection, KiB (PSS)", "idle", lambda r: r["pss_kib_per_conn"], 0.3, False),
    Bar("idle notification after the 250, p50 ms", "idle", lambda r: r["notify_p50_ms"], 0.1, False),
]


def cpu_seconds(tree: str) -> float:
    """User and system seconds of the live trees and their reaped children."""
    sys.path.insert(0, str(HERE / "load"))
    import perf

    return float(perf.tree_cpu([int(pid) for pid in tree.split(",")]))


def scenario(server: Server, name: str, case: str, *args: str) -> list[dict[str, Any]]:
    command = [
        sys.executable, str(HERE / "load" / "perf.py"), name, "--label", server.name, "--case", case,
        "--imap", server.imap, *(["--smtp", server.smtp] if name in ("smtp", "imap-idle") else []),
        "--tree", server.tree, "--password", PASSWORD, "--max-seconds", "240", *args,
    ]  # fmt: skip
    done = subprocess.run(command, text=True, capture_output=True, timeout=300)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def smtp(server: Server, case: str, repeat: int) -> list[dict[str, Any]]:
    """Runs of one case, with the CPU read once more when all is settled, background work included."""
    out = []
    for _ in range(repeat):
        server.settled()
        before, unindexed = cpu_seconds(server.tree), indexing(server)
        rows = scenario(
            server,
            "smtp",
            case,
            "--user",
            "u{i}",
            "--rcpt",
            f"u{{i}}@{server.domain}",
            "--users",
            "10",
            *SMTP_CASES[case],
        )
        server.settled()
        spent = cpu_seconds(server.tree) - before
        for row in rows:
            row["cpu_ms"] = 1000 * spent / row["accepted"]
            row["cpu_ms_unindexed"] = 1000 * (spent - (indexing(server) - unindexed)) / row["accepted"]
            out.append(row)
    return out


INDEX_CPU: dict[str, Callable[[], float]] = {}


def indexing(server: Server) -> float:
    """CPU seconds that the server's own search index took until now; 0 for a server that has none."""
    return INDEX_CPU[server.name]() if server.name in INDEX_CPU else 0.0


def listing(server: Server, index: int) -> list[dict[str, Any]]:
    scenario(server, "seed", "10000", "--user", "u{i}", "--index", str(index), "-m", "10000")
    server.settled()
    return scenario(server, "imap-list", "list", "--user", "u{i}", "--index", str(index), "--warm", "3")


def idle(server: Server) -> list[dict[str, Any]]:
    return scenario(
        server, "imap-idle", "idle", "--user", "u1{i}", "--rcpt", f"u1{{i}}@{server.domain}",
        "--users", "20", "--conc", "100", "-n", "60",
    )  # fmt: skip


def ours(folder: Path) -> tuple[Live, Server]:
    live = Live(folder / "data", HOMING_DOMAIN=DOMAIN)
    live.start()
    rows = "".join(f"u{i}@{DOMAIN},{PASSWORD}\n" for i in range(USERS))
    (folder / "users.csv").write_text(rows)
    live.cli("user", "import", str(folder / "users.csv"))
    login = {"username": f"admin@{DOMAIN}", "password": live.admin_password}
    from urllib.parse import urlencode

    token = live.rest("POST", "/token", urlencode(login), form=True)[1]["access_token"]

    def stats() -> dict[str, Any]:
        return dict(live.rest("GET", "/api/stats", token=token)[1]["index"])

    INDEX_CPU["homing"] = lambda: float(stats()["cpu_seconds"])
    server = Server(
        "homing", f"127.0.0.1:{live.ports['SMTP']}", f"127.0.0.1:{live.ports['IMAP']}", DOMAIN, str(live.pid),
        lambda: until(lambda: stats()["lag"] == 0, 120, "the search index", pause=0.5),
    )  # fmt: skip
    return live, server


def theirs(folder: Path) -> Server:
    env = os.environ | {"PEERS_DIR": str(folder)}
    peers = HERE / "load" / "peers.sh"
    if subprocess.run(["getent", "passwd", "perfmail"], capture_output=True).returncode:
        no_home = ["-M", "-d", "/nonexistent", "-s", "/usr/sbin/nologin"]
        subprocess.run(["useradd", "-r", "-U", *no_home, "perfmail"], check=True)
    subprocess.run([peers, "start", "dovecot-maildir", "postfix"], env=env, check=True, capture_output=True)
    tree = subprocess.run([peers, "pids", "postfix", "dovecot-maildir"], env=env, text=True, capture_output=True)
    return Server("postfix+dovecot", "127.0.0.1:21025", "127.0.0.1:21143", "maildir.example", tree.stdout.strip(), bool)


def peers_stop(folder: Path) -> None:
    """End what ``theirs`` started."""
    env = os.environ | {"PEERS_DIR": str(folder)}
    subprocess.run([HERE / "load" / "peers.sh", "stop", "postfix", "dovecot-maildir"], env=env, check=False)


def median(rows: list[dict[str, Any]], figure: Callable[[dict[str, Any]], float]) -> float:
    values = sorted(figure(row) for row in rows)
    return values[len(values) // 2]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--write", action="store_true", help="append the table to bench/RESULTS.md")
    options.add_argument("--only", nargs="+", choices=["idle", "smtp", "list"], default=["idle", "smtp", "list"])
    options.add_argument("--cases", nargs="+", choices=list(SMTP_CASES), default=list(SMTP_CASES), help="of smtp")
    options.add_argument("--repeat", type=int, default=3, help="runs of each SMTP case; the median counts")
    options.add_argument("--raw", type=Path, help="a file for the generator's JSON lines")
    args = options.parse_args()
    console = Console()
    results: dict[str, dict[str, list[dict[str, Any]]]] = {}
    with tempfile.TemporaryDirectory(prefix="homing-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "peers").mkdir()
        live, mine = ours(folder)
        try:
            peer = theirs(folder / "peers")
            for group in args.only:
                for case in args.cases if group == "smtp" else [group]:
                    for server in (peer, mine):
                        console.print(f"[dim]{time.strftime('%T')}[/] {server.name} {case}")
                        rows = (
                            smtp(server, case, args.repeat)
                            if group == "smtp"
                            else listing(server, 210)
                            if group == "list"
                            else idle(server)
                        )
                        results.setdefault(case, {})[server.name] = rows
        finally:
            peers_stop(folder / "peers")
            assert live.stop() == 0
    command = (
        f"python -m bench.compare --only {' '.join(args.only)} --cases {' '.join(args.cases)} --repeat {args.repeat}"
    )
    report(console, BARS, results, command, (), args.write, args.raw)


def report(
    console: Console,
    bars: Sequence[Bar],
    results: dict[str, dict[str, list[dict[str, Any]]]],
    command: str,
    notes: Sequence[str],
    write: bool,
    raw: Path | None,
) -> None:
    """Print the ratios; `write` them into bench/RESULTS.md, and the generator's lines into the file `raw`."""
    if raw:
        with raw.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for of in results.values() for rows in of.values() for row in rows)
    table = Table("figure", "homing", "postfix+dovecot", "ours ÷ theirs", "bar", "met")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], text=True, capture_output=True).stdout.strip()
    lines = [
        f"## {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit}",
        "",
        f"`{command}`; {os.cpu_count()} cores, Python {platform.python_version()}, load average at the end "
        f"{os.getloadavg()[0]:.1f}.",
        *notes,
        "",
        "| figure | homing | postfix+dovecot | ours ÷ theirs | bar | met |",
        "|---|---|---|---|---|---|",
    ]
    for bar in bars:
        if bar.case not in results:
            continue
        us, them = (median(results[bar.case][name], bar.figure) for name in ("homing", "postfix+dovecot"))
        ratio = us / them
        met = bar.bar is None or (ratio >= bar.bar if bar.at_least else ratio <= bar.bar)
        wanted = ("", "") if bar.bar is None else (f"{'≥' if bar.at_least else '≤'} {bar.bar}", "yes" if met else "no")
        row = (bar.title, f"{us:.4g}", f"{them:.4g}", f"{ratio:.2f}", *wanted)
        table.add_row(*row, style=None if met else "red")
        lines.append("| " + " | ".join(row) + " |")
    console.print(table)
    for note in notes:
        console.print(note)
    if write:
        with (HERE / "RESULTS.md").open("a") as file:
            file.write("\n".join(lines) + "\n\n")


if __name__ == "__main__":
    main()
