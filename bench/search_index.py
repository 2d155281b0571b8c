"""What the search index costs an email, and how long a search takes: ``python bench/search_index.py --emails 10000``.

Messages of 2 to 3 KB with text of the usual spread of words; some words are planted in known shares of them. CPU is
that of the whole process. Everything is done in a temporary folder.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mail import structure
from runtime.sqlite import Database
from storage.adapters.sqlite import query
from storage.adapters.sqlite.schema import CHUNK_BITS, MIGRATIONS
from storage.adapters.sqlite.search_index import SearchIndex
from storage.model import (
    All,
    And,
    BodyContains,
    HasFlags,
    HeaderContains,
    MailboxRef,
    Not,
    Query,
    TextContains,
)

BATCH = 256
PLANTED = ((50, "halcyonic"), (500, "zephyrine"), (2000, "quicksilver"))


def messages(number: int, seed: int) -> Iterator[bytes]:
    """Messages with a planted word in as many of every 10,000 as PLANTED says."""
    chance = random.Random(seed)
    syllables = [a + b for a in "bcdfghlmnprstvw" for b in ("a", "e", "i", "o", "u", "an", "er", "in", "on", "st")]
    words = ["".join(chance.choices(syllables, k=chance.randint(1, 4))) for _ in range(20_000)]
    weights = [1 / (rank + 3) for rank in range(len(words))]
    for n in range(number):
        text = chance.choices(words, weights, k=330)
        for share, word in PLANTED:
            if chance.random() * 10_000 < share:
                text[chance.randrange(len(text))] = word
        lines = [" ".join(text[at : at + 11]) for at in range(0, len(text), 11)]
        head = (
            f"Received: from mail{n % 97}.example.net (mail{n % 97}.example.net [192.0.2.{n % 250}])\r\n"
            f"\tby mx.example.org with ESMTPS id {chance.getrandbits(64):016x};\r\n"
            "\tTue, 21 Nov 2023 12:00:00 +0000\r\n"
            f"Message-ID: <{chance.getrandbits(96):x}@mail{n % 97}.example.net>\r\n"
            f"Date: Tue, 21 Nov 2023 12:00:00 +0000\r\nFrom: Sender {n % 500} <sender{n % 500}@example.net>\r\n"
            f"To: Alice <alice@example.org>\r\nSubject: {' '.join(text[:6])}\r\nMIME-Version: 1.0\r\n"
            "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n\r\n"
        )
        yield (head + "\r\n".join(lines) + "\r\n").encode()


class Bench:
    def __init__(self, folder: Path) -> None:
        self.storage = Database(folder / "storage.db", migrations=MIGRATIONS, synchronous="NORMAL")
        self.path = folder / "search.db"
        self.index = SearchIndex(self.path, self.storage)
        self.uid = 0

    async def open(self) -> None:
        await self.storage.open()
        await self.storage.write(lambda conn: conn.execute("INSERT INTO account (id) VALUES ('alice')").lastrowid)
        await self.storage.write(
            lambda conn: (
                conn.execute(
                    "INSERT INTO mailbox (account, name, uidvalidity, modseq) VALUES (1, 'INBOX', 1, 1)"
                ).lastrowid
            )
        )
        await self.index.open()

    async def close(self) -> None:
        await self.index.close()
        await self.storage.close()

    async def add(self, raws: list[bytes]) -> list[int]:
        """Store messages; their blobs."""
        first = self.uid + 1
        self.uid += len(raws)

        def job(conn: sqlite3.Connection) -> list[int]:
            blobs: list[int] = []
            for uid, raw in enumerate(raws, start=first):
                blob = conn.execute("INSERT INTO blob (size, refs, version) VALUES (?, 1, 1)", (len(raw),)).lastrowid
                conn.execute("INSERT INTO chunk VALUES (?, ?)", ((blob or 0) << CHUNK_BITS, raw))
                email = conn.execute(
                    "INSERT INTO email (account, blob, copies, size, saved, prefix) VALUES (1, ?, 1, ?, 0, x'')",
                    (blob, len(raw)),
                ).lastrowid
                conn.execute(
                    "INSERT INTO entry VALUES (1, ?, ?, ?, '', ?, ?, 0, 0)", (uid, uid, uid % 2, email, len(raw))
                )
                blobs.append(blob or 0)
            return blobs

        return await self.storage.write(job)


async def fill(bench: Bench, number: int, seed: int, batch: int, hand: bool) -> tuple[float, float]:
    """Deliver and index; CPU and wall seconds of the indexing alone."""
    cpu = wall = 0.0
    waiting: list[bytes] = []
    for raw in messages(number, seed):
        waiting.append(raw)
        if len(waiting) < batch:
            continue
        blobs = await bench.add(waiting)
        if hand:
            for blob, one in zip(blobs, waiting, strict=True):
                bench.index.hand(blob, one, structure.parse(one))
        waiting = []
        cpu_begun, wall_begun = time.process_time(), time.perf_counter()
        await bench.index.catch_up()
        cpu += time.process_time() - cpu_begun
        wall += time.perf_counter() - wall_begun
    return cpu, wall


async def timed(bench: Bench, what: Query, times: int) -> tuple[int, list[float]]:
    ref = MailboxRef("alice", "M1")
    taken = []
    count = 0
    for _ in range(times):
        begun = time.perf_counter()
        found = await query.run(bench.storage, bench.index, ref, what)
        taken.append((time.perf_counter() - begun) * 1000)
        count = sum(last - first + 1 for first, last in found.uids)
    return count, sorted(taken)


async def main(options: argparse.Namespace) -> None:
    console = Console()
    costs = Table("messages a batch", "handed over", "CPU ms an email", "wall ms an email", "search.db ÷ messages")
    for batch, hand, number in ((1, False, 500), (16, False, 2_000), (BATCH, True, 5_000)):
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(Path(folder))
            await bench.open()
            number = min(number, options.emails)
            cpu, wall = await fill(bench, number, 1, batch, hand)
            await bench.close()
            costs.add_row(str(batch), str(hand), f"{cpu / number * 1000:.3f}", f"{wall / number * 1000:.3f}", "")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        await bench.open()
        cpu, wall = await fill(bench, options.emails, 1, BATCH, False)
        await bench.index.close()
        octets = await bench.storage.read(lambda conn: conn.execute("SELECT sum(size) FROM blob").fetchone()[0])
        share = bench.path.stat().st_size / octets
        per = bench.uid or 1
        costs.add_row(str(BATCH), "False", f"{cpu / per * 1000:.3f}", f"{wall / per * 1000:.3f}", f"{share:.2f}")
        await bench.index.open()
        console.print(costs)
        searches = Table("search", "found", "p50 ms", "p95 ms", title=f"{bench.uid} emails in one mailbox")
        wanted: list[tuple[str, Query]] = [
            ("ALL", All()),
            ("UNSEEN", Not(HasFlags(1))),
            *[
                (f"{kind.__name__} {word!r}", kind(word))
                for _, word in PLANTED
                for kind in (BodyContains, TextContains)
            ],
            ("BodyContains 'icksi'", BodyContains("icksi")),
            ("TextContains, nothing", TextContains("nowhere to be found")),
            ("BodyContains 'xq' (scan)", BodyContains("xq")),
            ("From sender77@", HeaderContains("From", "sender77@")),
            ("From example.net (all)", HeaderContains("From", "example.net")),
            ("Subject quicksilver", HeaderContains("Subject", "quicksilver")),
            ("X-None exists", HeaderContains("X-None", "")),
            ("UNSEEN TextContains", And((Not(HasFlags(1)), TextContains("quicksilver")))),
        ]
        for name, what in wanted:
            count, taken = await timed(bench, what, options.repeat)
            p95 = taken[min(len(taken) - 1, int(len(taken) * 0.95))]
            searches.add_row(name, str(count), f"{statistics.median(taken):.1f}", f"{p95:.1f}")
        await bench.close()
    console.print(searches)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--emails", type=int, default=10_000, choices=range(BATCH, 200_001), metavar="256…200000")
    parser.add_argument("--repeat", type=int, default=20, choices=range(1, 201), metavar="1…200")
    asyncio.run(main(parser.parse_args()))
