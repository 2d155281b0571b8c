"""How late the event loop comes to a timer while four clients send messages of 25 MiB, and others small ones.

    python -m bench.loop_lag              print the figures
    python -m bench.loop_lag --write      and append them to bench/RESULTS.md

The server is the one that `homing up` starts; a timer of 5 ms runs beside it in the same loop. Lateness is what every
connection waits for. The first second after the start is left out.
"""

from __future__ import annotations

import argparse
import json
import smtplib
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.live import DOMAIN, Live

EVERY = 0.005
SIZE = 25 * 1024 * 1024


def serve(out: Path) -> None:
    """The server with the timer in its loop; writes the lateness of each tick as (when, ms) when it ends."""
    import asyncio

    import uvloop

    from homing import embedded

    late: list[tuple[float, float]] = []
    make = uvloop.new_event_loop

    def with_timer() -> asyncio.AbstractEventLoop:
        loop = make()

        def tick(due: float) -> None:
            now = loop.time()
            late.append((time.time(), 1000 * (now - due)))
            loop.call_at(now + EVERY, tick, now + EVERY)

        loop.call_later(EVERY, tick, loop.time() + EVERY)
        return loop

    uvloop.new_event_loop = with_timer
    try:
        embedded.main()
    finally:
        out.write_text(json.dumps(late))


def send(live: Live, user: str, raw: bytes, count: int) -> None:
    with smtplib.SMTP(live.host, live.ports["SMTP"], timeout=120) as smtp:
        for _ in range(count):
            smtp.sendmail("x@elsewhere.example", [f"{user}@{DOMAIN}"], raw)


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def measure(count: int) -> str:
    import base64
    import random

    noise = base64.encodebytes(random.Random(1).randbytes(SIZE * 18 // 25)).replace(b"\n", b"\r\n")
    head = b"Subject: large\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    head += b"--b\r\n\r\ntext\r\n--b\r\n"
    part = b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    attachment = head + part + noise + b"--b--\r\n"
    text = b"Subject: text\r\n\r\n" + b"All work and no play makes the loop a dull one, says the one who waits.\r\n" * (
        SIZE // 73
    )
    lines = []
    for title, raw in (("attachments", attachment), ("plain text", text)):
        with tempfile.TemporaryDirectory(prefix="homing-lag-") as name:
            folder = Path(name)
            live = Live(folder / "data")
            live.command = (sys.executable, "-m", "bench.loop_lag", "--serve", str(folder / "late.json"))
            live.start()
            try:
                live.add_users(*(f"u{i}" for i in range(4)), "small")
                time.sleep(1)
                began = time.time()
                clients = [threading.Thread(target=send, args=(live, f"u{i}", raw, count)) for i in range(4)]
                clients.append(threading.Thread(target=send, args=(live, "small", b"Subject: s\r\n\r\ns\r\n", 200)))
                for client in clients:
                    client.start()
                for client in clients:
                    client.join(300)
                ended = time.time()
            finally:
                assert live.stop(120) == 0
            ticks = json.loads((folder / "late.json").read_text())
            busy = [late for when, late in ticks if began <= when <= ended]
            seconds = ended - began
            lines.append(
                f"| {title} | {4 * count} × {len(raw) / 2**20:.0f} MiB in {seconds:.1f} s | {quantile(busy, 0.5):.1f} "
                f"| {quantile(busy, 0.99):.1f} | {max(busy):.1f} | {len(busy)} |"
            )
    return "\n".join(
        ["| message | load | lag p50 ms | p99 ms | longest ms | ticks |", "|---|---|---|---|---|---|", *lines, ""]
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options.add_argument("--count", type=int, default=5, help="messages of each of the four clients")
    options.add_argument("--write", action="store_true")
    args = options.parse_args()
    if args.serve:
        serve(args.serve)
        return
    table = measure(args.count)
    print(table)
    if args.write:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], text=True, capture_output=True).stdout.strip()
        with (Path(__file__).parent / "RESULTS.md").open("a") as file:
            file.write(
                f"## Loop lag, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit}\n\n"
                f"`python -m bench.loop_lag --count {args.count}`\n\n{table}\n"
            )


if __name__ == "__main__":
    main()
