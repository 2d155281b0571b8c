"""How fast the SMTP server alone is: a storage that keeps nothing behind it, a client on the same machine.

    python -m bench.smtp_accept [--messages 3000] [--size 2048] [--connections 4] [--real] [--profile]

With --real the SQLite identity and storage of the embedded mode stand behind it, in a temporary folder.
Prints messages (or connections) per second and the server's CPU per message; the client runs in a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import multiprocessing
import os
import pstats
import resource
import socket
import tempfile
import time
from pathlib import Path
from typing import cast

import uvloop

import identity.connect
import storage.connect
from identity.model import NewAccount
from identity.port import Identity
from identity.settings import IdentitySettings
from runtime.clock import SystemClock
from runtime.metrics import Metrics
from smtp.service import SmtpService
from smtp.settings import SmtpSettings
from storage.port import Storage
from tests.smtp.fakes import FakeIdentity, FakeStorage


def _body(size: int) -> bytes:
    head = (
        b"From: a@remote.example\r\nTo: alice@example.org\r\nSubject: bench\r\nMessage-ID: <1@remote.example>\r\n\r\n"
    )
    line = b"x" * 76 + b"\r\n"
    return head + line * max(1, (size - len(head)) // len(line)) + b".\r\n"


def _connect(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _until(sock: socket.socket, buffer: bytearray, lines: int) -> None:
    """Read so many final reply lines."""
    while lines:
        end = buffer.find(b"\r\n")
        if end < 0:
            data = sock.recv(65536)
            if not data:
                raise SystemExit("the server closed the connection")
            buffer += data
            continue
        if buffer[3:4] != b"-":
            lines -= 1
            if buffer[0:1] not in (b"2", b"3"):
                raise SystemExit(f"the server said {bytes(buffer[:end])!r}")
        del buffer[: end + 2]


def _reused(port: int, count: int, size: int, body: bytes) -> None:
    sock, buffer = _connect(port), bytearray()
    _until(sock, buffer, 1)
    sock.sendall(b"EHLO bench.example\r\n")
    _until(sock, buffer, 1)
    envelope = b"MAIL FROM:<a@remote.example>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n"
    for _ in range(count):
        sock.sendall(envelope)
        _until(sock, buffer, 3)
        sock.sendall(body)
        _until(sock, buffer, 1)
    sock.sendall(b"QUIT\r\n")
    _until(sock, buffer, 1)


def _single(port: int, count: int, size: int, body: bytes) -> None:
    for _ in range(count):
        _reused(port, 1, size, body)


def _client(kind: str, port: int, count: int, size: int, connections: int) -> None:
    import threading

    run = _single if kind == "single" else _reused
    body = _body(size)
    threads = [threading.Thread(target=run, args=(port, count // connections, size, body)) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


async def _first(service: SmtpService, received: int) -> None:
    async with asyncio.timeout(30):
        while service.figures.emails_received == received:  # noqa: ASYNC110  # the figures have no event
            await asyncio.sleep(0.005)


async def _ports(real: bool, folder: str) -> tuple[Identity, Storage]:
    if not real:
        return cast(Identity, FakeIdentity()), cast(Storage, FakeStorage(keep=False))
    who = await identity.connect.connect(f"sqlite://{folder}", IdentitySettings())
    await who.add_domain("example.org")
    await who.import_accounts([NewAccount("alice@example.org", password="not-used-here")])
    return who, await storage.connect.connect(f"sqlite://{folder}")


async def _run(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        await _measure(args, folder)


async def _measure(args: argparse.Namespace, folder: str) -> None:
    who, store = await _ports(args.real, folder)
    service = SmtpService(
        SmtpSettings(port=0, submission_port=None, submissions_port=None),
        host="127.0.0.1",
        hostname="bench.example",
        domain="example.org",
        identity=who,
        storage=store,
        tls=None,
        clock=SystemClock(),
        metrics=Metrics("homing"),
    )
    await service.start()
    for kind, count, size in (
        ("pipelined", args.messages, args.size),
        ("single", args.messages // 2, args.size),
        ("pipelined", max(20, args.messages // 50), 1024 * 1024),
    ):
        process = multiprocessing.get_context("spawn").Process(
            target=_client, args=(kind, service.ports["smtp"], count, size, args.connections)
        )
        # The client starts up while nothing is measured.
        loop = asyncio.get_running_loop()
        received = service.figures.emails_received
        process.start()
        await _first(service, received)
        begun, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        first = service.figures.emails_received
        profile = cProfile.Profile() if args.profile else None
        if profile:
            profile.enable()
        await loop.run_in_executor(None, process.join)
        if profile:
            profile.disable()
            pstats.Stats(profile).sort_stats("tottime").print_stats(25)
        took, now = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF)
        done = service.figures.emails_received - first
        cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
        each = 1000 * cpu / max(done, 1)
        print(f"{kind:10} {size:8} octets: {done / took:7.0f} messages/s, {each:.3f} ms CPU a message")
    idle: list[socket.socket] = []
    before = 0
    for _ in range(4):
        # Fewer at once than the listener's backlog: the server's loop waits meanwhile.
        idle += [_connect(service.ports["smtp"]) for _ in range(400)]
        await asyncio.sleep(0.5)
        before = before or _rss()
    print(f"idle connection: {(_rss() - before) / 1200 / 1024:.1f} KiB (both ends' kernel memory not counted)")
    for sock in idle:
        sock.close()
    await service.stop()
    if args.real:
        await store.close()
        await who.close()


def _rss() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=3000)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--folder", help="where the temporary folder is made")
    parser.add_argument("--profile", action="store_true")
    uvloop.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
