"""One mailbox of 100,000 messages: what a session with it costs, and what others and searches notice of it.

    python -m bench.large                                   print the tables
    python -m bench.large --write                           and append them to bench/RESULTS.md
    python -m bench.large -m 20000 --only latency search    smaller, or some of the groups

memory: PSS of the server's processes for each session more (the median of ROUNDS groups of them, on a server that has
one such group already and has come to rest), and what is left of its growth, which no single session causes; beside
Dovecot 2.3 (maildir, TLS, one process a connection as shipped), which has the same messages. slow: PSS while
clients ask for everything and read nothing, then a little. latency: NOOP of another account every 5 ms, each from the
moment when it was due, while one client fetches the whole mailbox. search: words of three letters and more with at most
2,000 hits, once the index has caught up. Ours is one process of `homing up`. Dovecot's side needs root and
dovecot-imapd; without them it is left out.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import pwd
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import accumulate, pairwise
from pathlib import Path
from pydoc_data.topics import topics
from statistics import median
from types import ModuleType
from typing import Any

from rich.console import Console
from rich.table import Table

from runtime.tls import make_self_signed
from tests.live import DOMAIN, PASSWORD, Live, free_ports, until

HERE = Path(__file__).resolve().parent
GROUPS = ("memory", "slow", "latency", "search")
OWNER, OTHER, IDLERS = "large", "other", 20
"""Accounts: whose mailbox it is, who sends NOOP, and how many share the idle connections."""
SETTLE_SECONDS = 3.0
"""For what a server still does with what was asked, before its memory is read."""
REST_KIB, REST_SECONDS, REST_DEADLINE = 64, 5.0, 180.0
"""A server rests when its memory has grown by no more than so much in so long."""
ROUNDS = 5
"""Groups of sessions by which a server's memory is seen to grow, beside one before them."""
EVERY = 0.005
"""Seconds between NOOPs."""
WORDS, HITS_MAX, PASSES = 60, 2_000, 3
SEARCHES = ("BODY", "TEXT")
SHORT = tuple(a + b + c for a in "jqx" for b in "aeiou" for c in "kvw")[:20]
"""Words of three letters that little else contains, put into few messages."""
FETCHES = ("(UID FLAGS)", "(UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)", "(UID BODY.PEEK[])")
SLOW_CLIENTS, SLOW_SECONDS, SLOW_RATE = 10, 10.0, 64 * 1024


def load() -> ModuleType:
    """The load generator's parts."""
    sys.path.insert(0, str(HERE / "load"))
    import perf

    return perf  # type: ignore[no-any-return]


# --- the messages ---


def english() -> Counter[str]:
    """Words and how often they are used, of the text that Python brings with it."""
    return Counter(re.findall(r"[a-z]{2,}", "\n".join(topics.values()).lower()))


def names() -> list[str]:
    """20,000 words that few messages contain each."""
    chance = random.Random(1)
    syllables = [a + b for a in "bcdfghlmnprstvw" for b in ("a", "e", "i", "o", "u", "an", "er", "in", "on", "st")]
    return ["".join(chance.choices(syllables, k=chance.randint(3, 5))) for _ in range(20_000)]


def messages(count: int) -> Iterator[bytes]:
    """Plain messages of some 1.3 KB: English words, as often as they are used, and one in twenty a name."""
    chance, rare, usual = random.Random(7), names(), english()
    words, sums = list(usual), list(accumulate(usual.values()))
    for n in range(count):
        text = chance.choices(words, cum_weights=sums, k=130)
        for _ in range(6):
            text[chance.randrange(len(text))] = chance.choice(rare)
        for at, word in enumerate(SHORT):
            # from 1 in 50 down to 1 in 10,000
            if chance.random() * 50 * 200 ** (at / (len(SHORT) - 1)) < 1:
                text[chance.randrange(len(text))] = word
        head = (
            f"Received: from mail{n % 97}.example.net by mx.example.org with ESMTPS id {chance.getrandbits(64):016x};"
            "\r\n\tTue, 21 Nov 2023 12:00:00 +0000\r\n"
            f"Message-ID: <{chance.getrandbits(96):x}@mail{n % 97}.example.net>\r\n"
            f"Date: Tue, 21 Nov 2023 12:00:00 +0000\r\nFrom: Sender {n % 500} <sender{n % 500}@example.net>\r\n"
            f"To: Alice <alice@example.org>\r\nSubject: {' '.join(text[:5])}\r\nMIME-Version: 1.0\r\n"
            "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n\r\n"
        )
        body = "\r\n".join(" ".join(text[at : at + 10]) for at in range(0, len(text), 10))
        yield f"{head}{body}\r\n".encode()


def searched() -> list[str]:
    """More words than WORDS: those that too many messages have are left out by who searches."""
    chance = random.Random(3)
    usual = [word for word in english() if len(word) > 2]
    found = [*SHORT[::2], *chance.sample(names(), 10), *chance.sample(usual, 100)]
    chance.shuffle(found)
    return found


# --- the servers ---


@dataclass(frozen=True)
class Server:
    name: str
    tls_port: int
    plain_port: int
    roots: list[int]
    password: str
    suffix: str
    """Behind the names of accounts."""

    def connect(self, user: str, tls: bool = True) -> Any:
        """The load generator's client, signed in."""
        at = ("127.0.0.1", self.tls_port if tls else self.plain_port)
        options = Namespace(imap=at, imap_tls=tls, user=user + self.suffix, password=self.password)
        return load().Imap(options).login()

    def pss(self) -> int:
        """KiB of all its processes."""
        return int(load().tree_mem(self.roots)["pss_kib"])

    def cpu(self) -> float:
        return float(load().tree_cpu(self.roots))


@contextmanager
def homing(folder: Path) -> Iterator[tuple[Live, Server]]:
    live = Live(folder / "data", HOMING_LOG_LEVEL="warning")
    live.start()
    try:
        live.add_users(OWNER, OTHER, *(f"idle{n}" for n in range(IDLERS)))
        server = Server("homing", live.ports["IMAPS"], live.ports["IMAP"], [live.pid], PASSWORD, f"@{DOMAIN}")
        yield live, server
    finally:
        assert live.stop(120) == 0


@contextmanager
def dovecot(folder: Path, args: Namespace) -> Iterator[Server]:
    """As Debian ships it, but for the numbers of connections that it lets in."""
    user, home = pwd.getpwnam("mail"), folder / "home"
    home.mkdir(parents=True)
    os.chown(home, user.pw_uid, user.pw_gid)
    connections = 2 * args.connections + 100
    fill_maildir(home / OWNER, args.messages)
    cert, key = make_self_signed(folder, ["localhost"])
    plain, tls = free_ports(2)
    config = folder / "dovecot.conf"
    config.write_text(f"""
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols = imap
listen = 127.0.0.1
ssl = yes
ssl_cert = <{cert}
ssl_key = <{key}
disable_plaintext_auth = no
first_valid_uid = 1
mail_location = maildir:{home}/%n
mail_max_userip_connections = {connections}
passdb {{
  driver = static
  args = password=secret
}}
userdb {{
  driver = static
  args = uid={user.pw_uid} gid={user.pw_gid} home={home}
}}
service imap-login {{
  process_limit = {connections}
  inet_listener imap {{
    port = {plain}
  }}
  inet_listener imaps {{
    port = {tls}
  }}
}}
service imap {{
  process_limit = {connections}
}}
service anvil {{
  client_limit = {4 * connections}
}}
service auth {{
  client_limit = {4 * connections}
}}
""")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(["dovecot", "-c", str(config)], check=True, timeout=20, **quiet)  # type: ignore[call-overload]
    try:
        pid = folder / "run" / "master.pid"
        until(pid.exists, 15, "Dovecot's pid")
        yield Server("Dovecot", tls, plain, [int(pid.read_text())], "secret", "")
    finally:
        subprocess.run(["doveadm", "-c", str(config), "stop"], timeout=20, check=True)


def fill(server: Server, count: int) -> None:
    """By MULTIAPPEND; every third message is unread."""
    client = server.connect(OWNER, tls=False)
    items = (("\\Seen" if n % 3 else "", None, raw) for n, raw in enumerate(messages(count)))
    client.append_many("INBOX", items, "multiappend", batch=200)
    client.logout()


def fill_maildir(box: Path, count: int) -> None:
    """As files, which is faster than through Dovecot and comes to the same."""
    user = pwd.getpwnam("mail")
    for name in ("cur", "new", "tmp"):
        (box / name).mkdir(parents=True)
    for n, raw in enumerate(messages(count)):
        path = box / "cur" / f"{1_700_000_000 + n}.M{n}.bench,S={len(raw)},W={len(raw)}:2,{'S' if n % 3 else ''}"
        path.write_bytes(raw)
        os.chown(path, user.pw_uid, user.pw_gid)
    for path in (box, *box.iterdir()):
        os.chown(path, user.pw_uid, user.pw_gid)


# --- what is measured ---


@dataclass
class Report:
    """Rows of (figure, homing, Dovecot, bar); a number over its bar is not met."""

    rows: list[tuple[str, str, str, str, str]] = field(default_factory=list)

    def add(self, figure: str, ours: float, theirs: float | None = None, most: float | None = None) -> None:
        met = "" if most is None else "yes" if ours <= most else "no"
        shown = "" if theirs is None else f"{theirs:,.4g}"
        self.rows.append((figure, f"{ours:,.4g}", shown, "" if most is None else f"≤ {most:g}", met))


def resting(server: Server) -> int:
    """KiB of its memory once it rests."""
    deadline, before = time.monotonic() + REST_DEADLINE, server.pss()
    while True:
        time.sleep(REST_SECONDS)
        now = server.pss()
        if now - before <= REST_KIB:
            return now
        assert time.monotonic() < deadline, f"{server.name} does not come to rest"
        before = now


def growth(server: Server, begin: Callable[[Server, int], Any], count: int) -> tuple[float, float]:
    """KiB that the server's memory grows for each of so many sessions, and KiB that it grows beside; all are closed
    afterwards.

    What sessions share is not theirs: page caches, and the heap of each thread of the store, which keeps what its
    longest answer took (tens of MiB in all, whoever asks). It grows when such a thread meets its first long answer,
    which may be in any group; what a session costs is seen in every group. So the median of the groups is a session's,
    and what the sum of them has beyond that is shared."""
    size = count // (1 + ROUNDS)
    alone = resting(server)
    sessions = [begin(server, n) for n in range(size)]
    found = [resting(server)]
    for _ in range(ROUNDS):
        sessions += [begin(server, len(sessions) + n) for n in range(size)]
        time.sleep(SETTLE_SECONDS)
        found.append(server.pss())
    each = median(after - before for before, after in pairwise(found)) / size
    for session in sessions:
        session.s.close()
    time.sleep(SETTLE_SECONDS)
    return each, found[-1] - alone - each * len(sessions)


def selected(server: Server, n: int) -> Any:
    client = server.connect(OWNER)
    client.select()
    client.buf = client.mv = None
    return client


def worked(server: Server, n: int) -> Any:
    """A session that did what a client does with a mailbox that it meets for the first time."""
    client = server.connect(OWNER)
    client.select()
    for command in ("UID FETCH 1:* (FLAGS)", "FETCH 1:* (UID RFC822.SIZE ENVELOPE)", "UID SEARCH ALL", "NOOP"):
        client.drain(command)
    client.buf = client.mv = None
    return client


def idle(server: Server, n: int) -> Any:
    client = server.connect(f"idle{n % IDLERS}")
    client.select()
    client.s.sendall(b"i IDLE\r\n")
    client.read_until(b"+")
    client.buf = client.mv = None
    return client


def memory(live: Live, server: Server, peer: Server | None, sessions: int, connections: int, report: Report) -> None:
    for title, begin, count, unit, most in (
        ("MiB a session that has the mailbox selected", selected, sessions, 1024, 2),
        ("MiB a session after FETCH FLAGS, FETCH ENVELOPE and SEARCH ALL", worked, sessions, 1024, 2),
        ("KiB an idle connection: TLS, small mailbox, IDLE", idle, connections, 1, 60),
    ):
        # memory that was freed before would hide what sessions take
        assert live.stop(120) == 0
        live.start()
        server.roots[:] = [live.pid]
        ours = growth(server, begin, count)
        theirs = growth(peer, begin, count) if peer else None
        report.add(f"{title} ({count})", ours[0] / unit, theirs and theirs[0] / unit, most)
        report.add("the same, MiB in all that no single one takes", ours[1] / 1024, theirs and theirs[1] / 1024)


def slow(server: Server, report: Report) -> None:
    """Clients that want all and take nothing, or little."""
    client = server.connect(OWNER, tls=False)
    client.select()
    client.drain("FETCH 1:* (BODY.PEEK[])")
    client.logout()
    time.sleep(SETTLE_SECONDS)
    clients = []
    for _ in range(SLOW_CLIENTS):
        client = server.connect(OWNER)
        client.select()
        client.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
        clients.append(client)
    time.sleep(SETTLE_SECONDS)
    before = server.pss()
    for client in clients:
        client.s.sendall(b"s FETCH 1:* (BODY.PEEK[])\r\n")
    for title, rate in (("nothing", 0), ("64 KiB/s", SLOW_RATE)):
        most, until_ = 0, time.monotonic() + SLOW_SECONDS
        while time.monotonic() < until_:
            for client in clients if rate else ():
                client.s.recv(rate // 4)
            most = max(most, server.pss() - before)
            time.sleep(0.25)
        report.add(
            f"MiB for each of {SLOW_CLIENTS} clients that fetch all and read {title}",
            most / 1024 / SLOW_CLIENTS,
            most=2,
        )
    for client in clients:
        client.s.close()
    time.sleep(SETTLE_SECONDS)


def fetching(server: Server, items: str, seconds: float, out: Any) -> None:
    """A process of its own: fetch the whole mailbox again and again; sends when it begins, and what each time took."""
    client = server.connect(OWNER, tls=False)
    client.select()
    out.send(None)
    took: list[float] = []
    while sum(took) < seconds:
        took.append(client.drain(f"FETCH 1:* {items}")[0])
    out.send(took)


def noops(server: Server, done: Callable[[], bool], least: int = 400) -> list[float]:
    """Milliseconds of round trips, from when each was due."""
    client = server.connect(OTHER, tls=False)
    client.select()
    found: list[float] = []
    due = time.perf_counter()
    while not done() or len(found) < least:
        if (wait := due - time.perf_counter()) > 0:
            time.sleep(wait)
        client.cmd("NOOP")
        found.append(1000 * (time.perf_counter() - due))
        due += EVERY
    client.logout()
    return found


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def latency(server: Server, seconds: float, report: Report) -> None:
    quiet = noops(server, lambda: True)
    report.add("NOOP while nothing is fetched, p50 ms", quantile(quiet, 0.5))
    report.add("the same, p99 ms", quantile(quiet, 0.99))
    fork = multiprocessing.get_context("fork")
    for items in FETCHES:
        here, there = fork.Pipe()
        process = fork.Process(target=fetching, args=(server, items, seconds, there))
        cpu = server.cpu()
        process.start()
        here.recv()
        found = noops(server, here.poll, 1)
        took = here.recv()
        process.join()
        each = (server.cpu() - cpu) / len(took)
        report.add(f"FETCH 1:* {items}, s (the server's CPU: {each:.2f} s)", quantile(took, 0.5))
        report.add("NOOP meanwhile, p50 ms", quantile(found, 0.5))
        report.add(f"the same, p99 ms (of {len(found)})", quantile(found, 0.99), most=50)
        report.add("the same, longest ms", max(found))


def search(server: Server, report: Report) -> None:
    client = server.connect(OWNER, tls=False)
    client.select()

    def ask(kind: str, word: str) -> tuple[int, float]:
        """Hits and milliseconds."""
        begun = time.perf_counter()
        answer = client.cmd(f"UID SEARCH {kind} {word}")
        took = 1000 * (time.perf_counter() - begun)
        return len(re.findall(rb" \d+", answer[: answer.index(b"\r\n")])), took

    times: dict[str, list[float]] = {kind: [] for kind in SEARCHES}
    hits: dict[str, int] = {}
    for word in searched():
        count, took = ask("TEXT", word)
        if count <= HITS_MAX and len(hits) < WORDS:
            hits[word] = count
            times["TEXT"].append(took)
    assert len(hits) == WORDS, "there are too few words with so few hits"
    cpu = server.cpu()
    for _ in range(PASSES):
        for kind, found in times.items():
            found += [ask(kind, word)[1] for word in hits]
    each = 1000 * (server.cpu() - cpu) / (PASSES * len(SEARCHES) * WORDS)
    client.logout()
    counts = sorted(hits.values())
    spread = f"{WORDS} words, {counts[0]} to {counts[-1]:,} hits, median {counts[WORDS // 2]}"
    for kind, found in times.items():
        report.add(f"SEARCH {kind}, p50 ms ({spread})", quantile(found, 0.5))
        report.add(f"SEARCH {kind}, p95 ms", quantile(found, 0.95), most=100)
        report.add(f"SEARCH {kind}, longest ms", max(found))
    report.add("the server's CPU for a search, ms", each)


def lag(live: Live, token: str) -> int:
    return int(live.rest("GET", "/api/stats", token=token)[1]["index"]["lag"])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--write", action="store_true", help="append the table to bench/RESULTS.md")
    options.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS))
    options.add_argument("-m", "--messages", type=int, default=100_000)
    options.add_argument("--sessions", type=int, default=30, help="with the mailbox selected")
    options.add_argument("--connections", type=int, default=500, help="idle ones")
    options.add_argument("--seconds", type=float, default=10, help="of fetches of each kind")
    options.add_argument("--alone", action="store_true", help="without Dovecot")
    args = options.parse_args()
    console, report, notes = Console(), Report(), list[str]()
    beside = "memory" in args.only and not args.alone and shutil.which("dovecot") is not None

    def say(text: str) -> None:
        console.print(f"[dim]{time.strftime('%T')}[/] {text}")

    with tempfile.TemporaryDirectory(prefix="homing-large-") as name, homing(Path(name)) as (live, server):
        folder = Path(name)
        folder.chmod(0o755)
        begun = time.monotonic()
        fill(server, args.messages)
        notes.append(f"{args.messages:,} messages by MULTIAPPEND in {time.monotonic() - begun:.0f} s.")
        token = live.admin_token()
        until(lambda: lag(live, token) == 0, 600, "the search index", pause=0.5)
        notes.append(f"The search index had them {time.monotonic() - begun:.0f} s after the first.")
        say(" ".join(notes))
        if "latency" in args.only:
            say("latency")
            latency(server, args.seconds, report)
        if "search" in args.only:
            say("search")
            search(server, report)
        if "slow" in args.only:
            say("slow")
            slow(server, report)
        if "memory" in args.only:
            with dovecot(folder / "dovecot", args) if beside else nullcontext() as peer:
                say("memory")
                memory(live, server, peer, args.sessions, args.connections, report)
    show(console, report, notes, args)


def show(console: Console, report: Report, notes: Sequence[str], args: Namespace) -> None:
    """Print the table; with --write into bench/RESULTS.md as well."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], text=True, capture_output=True).stdout.strip()
    command = f"python -m bench.large -m {args.messages} --only {' '.join(args.only)}{' --alone' if args.alone else ''}"
    table = Table("figure", "homing", "Dovecot", "bar", "met")
    lines = [
        f"## One large mailbox: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit}",
        "",
        f"`{command}`; {os.cpu_count()} cores, Python {platform.python_version()}, load average at the end "
        f"{os.getloadavg()[0]:.1f}.",
        *notes,
        "",
        "| figure | homing | Dovecot | bar | met |",
        "|---|---|---|---|---|",
    ]
    for row in report.rows:
        table.add_row(*row, style="red" if row[-1] == "no" else None)
        lines.append("| " + " | ".join(row) + " |")
    console.print(table)
    if args.write:
        with (HERE / "RESULTS.md").open("a") as file:
            file.write("\n".join(lines) + "\n\n")


if __name__ == "__main__":
    main()
