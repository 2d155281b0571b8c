"""Mail on its way out: relayed per second beside Postfix to the same sink, and what dead destinations cost live ones.

    python -m bench.relay                     print both tables
    python -m bench.relay --write             and append them to bench/RESULTS.md
    python -m bench.relay --only rate         beside Postfix alone; or: --only dead

rate: the same injector gives the same messages to each server, which sends all of them to one smtp-sink. "From the
queue": all are spooled before the first is sent, and the clock runs from the first that the sink takes to the last.
"Through": they are sent while they come, and the clock runs from the first connection until the sink has the last.
Postfix has in_flow_delay=0, and its main.cf is printed. It signs nothing, so our DKIM keys are removed, but for a row.
dead: messages to 100 destinations, found by MX in a test DNS server; in the second run ten of them do not answer. Needs
root and Postfix (with smtp-sink).
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.dnsserver import DnsServer
from tests.live import DOMAIN, PASSWORD, Live, free_ports, until

HERE = Path(__file__).resolve().parent
SIZE = 2048
CONNECTIONS = 10
DESTINATIONS = 100
DEAD = 10
SECONDS = 300.0
SETTLE_SECONDS = 2.0
"""For what a server still does with mail that it has just taken."""
SENDING = {
    # One account sends it all.
    "HOMING_RATES_ACCOUNT": "off",
    "HOMING_RATES_ACCOUNT_RECIPIENTS": "off",
    "HOMING_RATES_SENDER": "off",
    "HOMING_OUTBOUND_ENABLED": "true",
    "HOMING_LOG_LEVEL": "warning",
}

MAIN_CF = """compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
myhostname = relay.bench.example
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
biff = no
smtpd_relay_restrictions = permit_mynetworks defer_unauth_destination
relayhost = [127.0.0.1]:{sink}
in_flow_delay = 0
maillog_file_prefixes = {folder}
maillog_file = {folder}/log
"""


def message(number: int) -> bytes:
    head = (
        f"From: ann@{DOMAIN}\r\nTo: u{number}@d{number % DESTINATIONS}.example\r\nSubject: number {number}\r\n"
        f"Message-ID: <{number}@{DOMAIN}>\r\nDate: Sat, 21 Nov 2026 12:00:00 +0000\r\n\r\n"
    )
    line = "The quick brown fox jumps over the lazy dog and comes back again.\r\n"
    return (head + line * ((SIZE - len(head)) // len(line) + 1))[:SIZE].encode().rstrip() + b"\r\n"


async def inject(port: int, count: int, login: bytes | None) -> None:
    """The messages, over CONNECTIONS kept connections, MAIL, RCPT and DATA in one packet."""
    numbers = iter(range(count))

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        async def reply(first: bytes) -> None:
            while (line := await reader.readline())[3:4] == b"-":
                pass
            if not line.startswith(first):
                raise SystemExit(f"the server said {line!r}")

        async def say(line: bytes, first: bytes) -> None:
            writer.write(line)
            await reply(first)

        await reply(b"220")
        await say(b"EHLO bench.example\r\n", b"250")
        if login is not None:
            await say(b"AUTH PLAIN " + login + b"\r\n", b"235")
        for number in numbers:
            envelope = f"MAIL FROM:<ann@{DOMAIN}>\r\nRCPT TO:<u{number}@d{number % DESTINATIONS}.example>\r\nDATA\r\n"
            writer.write(envelope.encode())
            for first in (b"250", b"250", b"354"):
                await reply(first)
            await say(message(number) + b".\r\n", b"250")
        await say(b"QUIT\r\n", b"221")
        writer.close()

    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))


# -- the rate, beside Postfix


class Sink:
    """smtp-sink, which counts what it took."""

    def __init__(self) -> None:
        (self.port,) = free_ports(1)
        command = ["smtp-sink", "-c", "-u", "nobody", f"127.0.0.1:{self.port}", "1000"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.taken = 0
        threading.Thread(target=self._read, daemon=True).start()
        until(lambda: reachable(self.port), 10, "smtp-sink")

    def _read(self) -> None:
        # "sess=10 quit=8 mesg=1200", written over itself
        assert self._process.stdout is not None
        rest = b""
        while block := os.read(self._process.stdout.fileno(), 65536):
            *_, rest = (rest + block).split(b"\r")
            if found := re.findall(rb"mesg=(\d+)", rest + block):
                self.taken = int(found[-1])

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)


def reachable(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.5).close()
    except OSError:
        return False
    return True


def cpu_seconds(pids: list[int]) -> float:
    sys.path.insert(0, str(HERE / "load"))
    import perf

    return float(perf.tree_cpu(pids))


@contextmanager
def postfix(folder: Path, sink: int) -> Iterator[tuple[int, list[int]]]:
    """(port, pids) of a Postfix of its own that relays all to the sink."""
    (port,) = free_ports(1)
    etc = folder / "etc"
    for name in ("etc", "queue", "data"):
        (folder / name).mkdir()
    shutil.chown(folder / "data", "postfix")
    (etc / "main.cf").write_text(MAIN_CF.format(folder=folder, sink=sink))
    rows = []
    for row in Path("/usr/share/postfix/master.cf.dist").read_text().splitlines():
        words = row.split()
        if row[:1].isalnum() and len(words) >= 8:
            if words[:2] == ["smtp", "inet"]:
                words[0] = f"127.0.0.1:{port}"
            words[4] = "n"
            row = " ".join(words)
        rows.append(row)
    (etc / "master.cf").write_text("\n".join(rows) + "\n")
    subprocess.run(["postfix", "-c", str(etc), "start"], check=True, capture_output=True)
    try:
        until(lambda: reachable(port), 20, "Postfix")
        yield port, [int((folder / "queue" / "pid" / "master.pid").read_text())]
    finally:
        subprocess.run(["postfix", "-c", str(etc), "stop"], check=True, capture_output=True)


@dataclass
class Server:
    """A server that relays to the sink. hold: let what comes wait; release: send it."""

    port: int
    pids: list[int]
    login: bytes | None
    hold: Callable[[], object]
    release: Callable[[], object]


@dataclass
class Run:
    """Messages per second, and server CPU ms for each."""

    per_second: float
    cpu: float


def through(server: Server, sink: Sink, count: int) -> Run:
    before, spent, began = sink.taken, cpu_seconds(server.pids), time.monotonic()
    asyncio.run(inject(server.port, count, server.login))
    until(lambda: sink.taken >= before + count, SECONDS, "the sink has all", pause=0.005)
    seconds = time.monotonic() - began
    return Run(count / seconds, 1000 * (cpu_seconds(server.pids) - spent) / count)


def from_the_queue(server: Server, sink: Sink, count: int) -> Run:
    server.hold()
    asyncio.run(inject(server.port, count, server.login))
    time.sleep(SETTLE_SECONDS)
    before, spent = sink.taken, cpu_seconds(server.pids)
    server.release()
    until(lambda: sink.taken > before, 60, "the first is sent", pause=0.001)
    first, began = sink.taken, time.monotonic()
    until(lambda: sink.taken >= before + count, SECONDS, "the sink has all", pause=0.005)
    seconds = time.monotonic() - began
    return Run((before + count - first) / seconds, 1000 * (cpu_seconds(server.pids) - spent) / count)


def rate(count: int, repeat: int, folder: Path) -> tuple[Table, str]:
    sink = Sink()
    runs: dict[tuple[str, str], list[Run]] = {}
    live = Live(folder / "homing", HOMING_OUTBOUND_ROUTES=f"*=smtp://127.0.0.1:{sink.port}", **SENDING)
    live.start()

    def measure(name: str, server: Server) -> None:
        for way, one in (("from the queue", from_the_queue), ("through", through)):
            runs.setdefault((way, name), []).append(one(server, sink, count))

    try:
        live.add_users("ann")
        homing = Server(
            live.ports["SUBMISSION"],
            [live.pid],
            base64.b64encode(f"\0ann@{DOMAIN}\0{PASSWORD}".encode()),
            lambda: live.cli("config", "set", "outbound.enabled", "false"),
            lambda: live.cli("config", "set", "outbound.enabled", "true"),
        )
        measure("homing, signing", homing)
        for key in json.loads(live.cli("domain", "dkim", "list", DOMAIN, "--json").stdout):
            live.cli("domain", "dkim", "remove", DOMAIN, key["selector"])
        # It remembers keys for a while.
        live.stop()
        live.start()
        homing.pids = [live.pid]
        (folder / "postfix").mkdir()
        with postfix(folder / "postfix", sink.port) as (port, pids):

            def transports(deferred: str) -> None:
                etc = str(folder / "postfix" / "etc")
                subprocess.run(["postconf", "-c", etc, "-e", f"defer_transports={deferred}"], check=True)
                subprocess.run(["postfix", "-c", etc, "reload"], check=True, capture_output=True)
                if not deferred:
                    subprocess.run(["postqueue", "-c", etc, "-f"], check=True)

            peer = Server(port, pids, None, lambda: transports("smtp relay"), lambda: transports(""))
            for _ in range(repeat):
                measure("homing", homing)
                measure("Postfix", peer)
    finally:
        live.stop()
        sink.close()
    table = Table(title=f"relayed to one smtp-sink: {count:,} messages of {SIZE} octets, median of {repeat}")
    for head in ("way", "server", "sent /s", "CPU ms a message"):
        table.add_column(head, justify="left" if head in ("way", "server") else "right")
    for way in ("from the queue", "through"):
        middle = {
            name: sorted(found, key=lambda one: one.per_second)[len(found) // 2]
            for (a_way, name), found in runs.items()
            if a_way == way
        }
        for name, one in middle.items():
            table.add_row(way, name, f"{one.per_second:,.0f}", f"{one.cpu:.2f}")
        ours, theirs = middle["homing"], middle["Postfix"]
        ratios = f"{ours.per_second / theirs.per_second:.2f}", f"{ours.cpu / theirs.cpu:.2f}"
        table.add_row(way, "ours ÷ theirs", *ratios, style="bold", end_section=True)
    return table, MAIN_CF.format(folder="…", sink="SINK")


# -- dead destinations beside live ones


class Arrivals:
    """An SMTP server on all addresses of live destinations that notes when each message came."""

    def __init__(self) -> None:
        self.at: dict[int, float] = {}
        (self.port,) = free_ports(1)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        until(lambda: reachable(self.port), 10, "the receiving server")

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        # Not on all: the dead ones have listeners of their own on the same port.
        hosts = ["127.0.0.1", *(f"127.8.0.{n + 1}" for n in range(DESTINATIONS))]
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, hosts, self.port, backlog=4096))
        self._loop.run_forever()
        server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        writer.write(b"220 arrivals ESMTP\r\n")
        try:
            while line := await reader.readline():
                word = line[:4].upper()
                if word == b"EHLO":
                    writer.write(b"250-arrivals\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
                elif word == b"DATA":
                    writer.write(b"354 go on\r\n")
                    text = await reader.readuntil(b"\r\n.\r\n")
                    found = re.search(rb"^Subject: number (\d+)\r$", text, re.M)
                    assert found is not None
                    self.at.setdefault(int(found[1]), time.time())
                    writer.write(b"250 taken\r\n")
                elif word == b"QUIT":
                    writer.write(b"221 bye\r\n")
                    break
                else:
                    writer.write(b"250 ok\r\n")
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


@contextmanager
def silent(port: int, addresses: list[str]) -> Iterator[None]:
    """Hosts of which half take connections and never say a word, and half do not answer at all: their few places for
    connections that nobody takes are full."""
    held: list[socket.socket] = []
    try:
        for n, address in enumerate(addresses):
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, port))
            listener.listen(0 if n % 2 else 1000)
            held.append(listener)
            for _ in range(3 if n % 2 else 0):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex((address, port))
                held.append(filler)
        yield
    finally:
        for one in held:
            one.close()


def latencies(count: int, dead: int, folder: Path) -> tuple[list[float], int]:
    """(seconds from the start of the injection to the arrival of each message to a live destination, the server's
    largest memory in KiB)."""
    arrivals = Arrivals()
    with DnsServer() as dns:
        for n in range(DESTINATIONS):
            address = f"127.{9 if n < dead else 8}.0.{n + 1}"
            dns.add(f"d{n}.example MX 10 mx.d{n}.example.", f"mx.d{n}.example A {address}")
        live = Live(
            folder / f"dead{dead}",
            HOMING_DNS_SERVERS=dns.where,
            HOMING_OUTBOUND_PORT=str(arrivals.port),
            **SENDING,
        )
        # Dead hosts listen on addresses of their own; the port of all is the same.
        with silent(arrivals.port, [f"127.9.0.{n + 1}" for n in range(dead)]):
            live.start()
            try:
                live.add_users("ann")
                login = base64.b64encode(f"\0ann@{DOMAIN}\0{PASSWORD}".encode())
                began = time.time()
                asyncio.run(inject(live.ports["SUBMISSION"], count, login))
                wanted = [number for number in range(count) if number % DESTINATIONS >= dead]
                until(lambda: all(number in arrivals.at for number in wanted), SECONDS, "all have come", pause=0.05)
                status = Path(f"/proc/{live.pid}/status").read_text()
                peak = int(re.search(r"VmHWM:\s+(\d+)", status)[1])  # type: ignore[index]
                # The same destinations in both runs, so that the figures are of the same messages.
                same = [number for number in wanted if number % DESTINATIONS >= DEAD]
                return sorted(arrivals.at[number] - began for number in same), peak
            finally:
                live.stop()
                arrivals.close()


def dead(count: int, folder: Path) -> Table:
    runs = {"all live": latencies(count, 0, folder), f"{DEAD} dead": latencies(count, DEAD, folder)}
    table = Table(title=f"{count:,} messages to {DESTINATIONS} destinations: seconds until a live one has its mail")
    for head in ("run", "p50", "p95", "last", "server's peak MiB"):
        table.add_column(head, justify="left" if head == "run" else "right")
    for name, (seconds, peak) in runs.items():
        marks = (seconds[len(seconds) // 2], seconds[int(0.95 * len(seconds))], seconds[-1])
        table.add_row(name, *(f"{mark:.2f}" for mark in marks), f"{peak / 1024:.0f}")
    (calm, _), (troubled, _) = runs.values()
    places = (len(calm) // 2, int(0.95 * len(calm)), -1)
    table.add_row("with dead ÷ without", *(f"{troubled[at] / calm[at]:.2f}" for at in places), "", style="bold")
    return table


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--write", action="store_true", help="append the tables to bench/RESULTS.md")
    options.add_argument("--only", choices=["rate", "dead"])
    options.add_argument("-n", type=int, default=10_000, help="messages of a run")
    options.add_argument("--repeat", type=int, default=3, help="runs of the rate, of which the median counts")
    args = options.parse_args()
    console = Console(record=True, width=110)
    with tempfile.TemporaryDirectory(prefix="homing-relay-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        if args.only != "dead":
            table, config = rate(args.n, args.repeat, folder)
            console.print(table)
            console.print("Postfix's main.cf:\n" + config, highlight=False)
        if args.only != "rate":
            console.print(dead(args.n, folder))
    if args.write:
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty"], text=True, capture_output=True
        ).stdout.strip()
        when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        head = f"\n## Mail out: {when}, {commit}\n\n`{' '.join(['python -m bench.relay', *sys.argv[1:]])}`"
        load = f"{os.cpu_count()} cores, {platform.machine()}, load {os.getloadavg()[0]:.1f} at the end"
        with (HERE / "RESULTS.md").open("a") as file:
            file.write(f"{head} — {load}\n\n```\n{console.export_text()}```\n")


if __name__ == "__main__":
    main()
