"""What a message takes in MongoDB, and what calls ask of it: ``python -m bench.mongo_scale [--messages 20000]``.

Keeps messages through the storage port on the server that HOMING_TEST_MONGODB names, then reads the documents back and
encodes them as BSON: their octets. Index entries are computed from the octets of their keys, as MongoDB writes them
before its prefix compression. Commands are counted as the driver sends them. None of this is MongoDB's own figure: what
its disk takes (blocks, compression, free room) only its own ``collStats`` tells. Prints the tables of docs/scale.md.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import bson
from bson import ObjectId
from pymongo import monitoring
from rich.console import Console
from rich.progress import track

from bench.search_index import messages as letters
from runtime.ids import new_id
from runtime.mongo import open_mongo
from storage.adapters.mongo.adapter import MongoStorage
from storage.adapters.mongo.indexes import INDEXES
from storage.model import (
    ALL_UIDS,
    INLINE_MAX,
    SYSTEM,
    Accepted,
    And,
    Delivery,
    FlagMode,
    HasFlags,
    LocalRecipient,
    NewMessage,
    Not,
    Operation,
    Ranges,
    RemoteRecipient,
    TextContains,
    Want,
)
from storage.ranges import after
from tests.corpus.make import messages as corpus

ACCOUNTS = 200
BATCH = 64
LISTED = 10_000
"""Messages of the mailbox that is listed."""
AWKWARD = 8
"""One message of so many is of tests/corpus."""
TARGET = 100_000_000
PER_ACCOUNT = 10_000
"""Messages of an account, among the hundred million."""
RECIPIENTS = 1.1
"""Accounts that a message is delivered to, among the hundred million."""
RECORD_ID = 4
"""Octets of the number by which an index entry names its document, for some hundred million of them."""
COLLECTIONS = ("entry", "email", "blob", "chunk", "text", "account", "operation", "event")
PREFIX = b"Return-Path: <sender@example.net>\r\nDelivered-To: someone@example.org\r\n"


class Counted(monitoring.CommandListener):
    """Counts commands, and documents and octets that came back with them."""

    def __init__(self) -> None:
        self.commands: Counter[str] = Counter()
        self.octets = 0
        self.on = False

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if self.on and event.command_name not in ("hello", "ping", "endSessions"):
            collection = event.command.get(event.command_name)
            name = event.command.get("collection") if event.command_name == "getMore" else collection
            self.commands[f"{name} {event.command_name}"] += 1

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        cursor = event.reply.get("cursor") if self.on else None
        if cursor is not None:
            self.octets += sum(len(bson.encode(one)) for one in cursor.get("firstBatch", cursor.get("nextBatch", [])))

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        return None


@dataclass
class Size:
    """Documents of a collection."""

    documents: int = 0
    octets: int = 0
    indexes: dict[str, int] = field(default_factory=dict)


def content(count: int) -> Iterator[bytes]:
    """Ordinary messages of 2 to 3 KB, and every eighth one of the corpus."""
    awkward = itertools.cycle([raw for _, raw in corpus()])
    for n, letter in enumerate(letters(count, 1)):
        yield next(awkward) if n % AWKWARD == 0 else letter


def key_octets(value: Any) -> int:
    """Octets of a value in a key, as MongoDB's KeyString has them, about: a type, the value, an end where it needs
    one; numbers lose their leading zeros."""
    match value:
        case str():
            return 2 + len(value.encode())
        case ObjectId():
            return 13
        case bool() | None:
            return 1
        case int():
            return 2 + max(1, (abs(value).bit_length() + 7) // 8)
        case float():
            return 10
        case _:
            raise TypeError(f"no key is a {type(value).__name__}")


def index_entries(document: dict[str, Any], collection: str) -> Iterator[tuple[str, int]]:
    """Each index that has the document, with the octets of its entry."""
    yield "_id_", key_octets(document["_id"]) + RECORD_ID
    for index in INDEXES.get(collection, ()):
        if index.sparse and index.keys[0][0] not in document:
            continue
        yield index.name, sum(key_octets(document.get(name)) for name, _ in index.keys) + RECORD_ID


async def sizes(storage: MongoStorage) -> dict[str, Size]:
    found: dict[str, Size] = {}
    for name in COLLECTIONS:
        size = found[name] = Size()
        async for document in storage.database.mongo.database[name].find(batch_size=1_000):
            size.documents += 1
            size.octets += len(bson.encode(document))
            for index, octets in index_entries(document, name):
                size.indexes[index] = size.indexes.get(index, 0) + octets
    return found


def op() -> Operation:
    return Operation(new_id(), SYSTEM)


def delivery(raw: Any, accounts: Sequence[str], remote: Sequence[str] = ()) -> Delivery:
    local = tuple(LocalRecipient(account, f"{account}@example.org", PREFIX) for account in accounts)
    return Delivery(
        op(), raw, "eve@example.net", 1.7e9, new_id(), local, tuple(RemoteRecipient(address) for address in remote)
    )


async def deliver(storage: MongoStorage, batch: Sequence[Delivery]) -> None:
    for outcome in await storage.accept(batch):
        if not isinstance(outcome, Accepted):
            raise RuntimeError(f"not delivered: {outcome}")


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[MongoStorage]:
    """A store in a database of its own, which is dropped at the end."""
    parts = urlsplit(url)
    name = f"homing_scale_{new_id()}"
    mongo = await open_mongo(urlunsplit(parts._replace(path=f"/{name}")), app="homing-bench")
    storage = MongoStorage(mongo)
    try:
        await storage.open()
        yield storage
    finally:
        await mongo.database.client.drop_database(name)
        await storage.close()


async def fill(storage: MongoStorage, count: int, console: Console) -> int:
    """Deliver all messages; octets of their contents."""
    accounts = [f"account{n:08}" for n in range(ACCOUNTS)]
    for account in [*accounts, "listed"]:
        await storage.open_account(op(), account)
    total = 0
    source = content(count)
    for first in track(range(0, count, BATCH), "delivering", console=console):
        some = list(itertools.islice(source, BATCH))
        # The first LISTED go to the mailbox that is listed, the others everywhere.
        to = ["listed" if first + n < LISTED else accounts[(first + n) % ACCOUNTS] for n in range(len(some))]
        await deliver(storage, [delivery(raw, [account]) for raw, account in zip(some, to, strict=True)])
        total += sum(map(len, some))
    return total


async def calls(storage: MongoStorage, counted: Counted) -> list[tuple[str, Counter[str], int]]:
    """What each call asks of the server."""
    told: list[tuple[str, Counter[str], int]] = []
    source = content(1_000)
    ref = (await storage.mailbox("listed", "INBOX")).ref
    highest = (await storage.mailbox("listed", "INBOX")).highest_modseq

    async def count(name: str, call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        # What an earlier call left to be done behind its answer is not this one's.
        await asyncio.sleep(0.3)
        counted.commands, counted.octets, counted.on = Counter(), 0, True
        await call()
        await asyncio.sleep(0.3)
        counted.on = False
        told.append((name, counted.commands, counted.octets))

    async def pages(want: Want) -> None:
        left: Ranges = ALL_UIDS
        while left:
            page = await storage.columns(ref, left, want)
            left = after(left, page.uids[-1]) if page.more else ()

    def ones(number: int, accounts: Sequence[str]) -> list[Delivery]:
        return [
            delivery(raw, [account]) for raw, account in zip(itertools.islice(source, number), accounts, strict=True)
        ]

    async def body() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * INLINE_MAX

    some = [f"account{n:08}" for n in range(BATCH)]
    await count("accept: one message, one recipient", lambda: deliver(storage, ones(1, some[:1])))
    await count(f"accept: {BATCH} messages for one account", lambda: deliver(storage, ones(BATCH, some[:1] * BATCH)))
    await count(f"accept: {BATCH} messages for {BATCH} accounts", lambda: deliver(storage, ones(BATCH, some)))
    await count(
        "accept: one message, 3 recipients and one elsewhere",
        lambda: deliver(storage, [delivery(next(source), some[:3], ["x@far.example"])]),
    )
    await count("append: one message", lambda: storage.append(op(), ref, [NewMessage(next(source))], None))
    await count("stage: 10 MiB", lambda: storage.stage(body()))
    await count("open_mailbox: 10,000 messages", lambda: storage.open_mailbox(op(), ref, True))
    await count("columns: ENVELOPE and BODYSTRUCTURE of 10,000", lambda: pages(Want.ENVELOPE | Want.BODYSTRUCTURE))
    await count("columns: FLAGS and size of 10,000", lambda: pages(Want.FLAGS | Want.SIZE))
    await count("columns: one message, whole", lambda: storage.columns(ref, ((5, 5),), Want.PREFIX | Want.CONTENT))
    email = (await storage.columns(ref, ((5, 5),), Want.EMAIL)).emails[0]
    await count("read: one range of 256 KiB", lambda: storage.read("listed", email, 0, INLINE_MAX))
    await count("changes: nothing new", lambda: storage.changes(ref, highest))
    await count("search: UNSEEN of 10,000", lambda: storage.search(ref, Not(HasFlags(1))))
    await count(
        "search: a word in 10,000 texts",
        lambda: storage.search(ref, And((Not(HasFlags(1)), TextContains("halcyonic")))),
    )
    await count("store_flags: one message", lambda: storage.store_flags(op(), ref, ((5, 5),), FlagMode.ADD, 1))
    await count("store_flags: 10,000 messages", lambda: storage.store_flags(op(), ref, ALL_UIDS, FlagMode.ADD, 4))
    await count("copy: one message", lambda: storage.copy(op(), ref, ((5, 5),), "Sent", None))
    await count("move: 100 messages", lambda: storage.move(op(), ref, ((101, 200),), "Trash"))
    await storage.store_flags(op(), ref, ((300, 399),), FlagMode.ADD, 8)
    await count("expunge: 100 messages", lambda: storage.expunge(op(), ref, ((300, 399),)))
    await count("sweep: 200 messages", lambda: storage.sweep(0.0))
    await count("stats", storage.stats)
    return told


def kept(console: Console, found: dict[str, Size], messages: int, octets: int) -> None:
    """Octets per message in each collection, and what a hundred million take."""
    console.print(f"\n{messages} messages of {octets / messages:.0f} octets on average, each for one account.\n")
    console.print(
        "| collection | documents a message | octets a document | octets a message | index octets a message |"
    )
    console.print("|---|---|---|---|---|")
    for name, size in found.items():
        if not size.documents:
            continue
        indexes = ", ".join(f"{index} {total / messages:.1f}" for index, total in size.indexes.items())
        console.print(
            f"| {name} | {size.documents / messages:.3g} | {size.octets / size.documents:.0f} "
            f"| {size.octets / messages:.0f} | {indexes} |"
        )
    # An entry and an email for each recipient; a blob with its chunks and text for each message.
    shared = {"entry": 1.0, "email": 1.0, "blob": 1 / RECIPIENTS, "chunk": 1 / RECIPIENTS, "text": 1 / RECIPIENTS}
    gib = 1024**3
    console.print(f"\n{TARGET:,} messages in mailboxes ({RECIPIENTS} recipients a message), computed from the above:\n")
    console.print("| collection | documents | documents GiB | indexes GiB |")
    console.print("|---|---|---|---|")
    sums = [0.0, 0.0]
    for name, share in shared.items():
        size = found[name]
        data = size.octets / messages * TARGET * share / gib
        index = sum(size.indexes.values()) / messages * TARGET * share / gib
        sums = [sums[0] + data, sums[1] + index]
        console.print(f"| {name} | {size.documents / messages * TARGET * share:,.0f} | {data:.1f} | {index:.1f} |")
    accounts = found["account"]
    each = accounts.octets / accounts.documents
    console.print(f"| account | {TARGET // PER_ACCOUNT:,} | {each * TARGET / PER_ACCOUNT / gib:.2f} | 0.00 |")
    console.print(f"| together | | {sums[0]:.1f} | {sums[1]:.1f} |")


def asked(console: Console, told: Sequence[tuple[str, Counter[str], int]]) -> None:
    console.print("\n| call | commands | KiB that came back | which |")
    console.print("|---|---|---|---|")
    for name, commands, octets in told:
        each = ", ".join(f"{what} {number}" for what, number in sorted(commands.items()))
        console.print(f"| {name} | {sum(commands.values())} | {octets / 1024:.1f} | {each} |")


async def main(url: str, messages: int) -> None:
    console = Console(width=10_000, highlight=False, markup=False)
    counted = Counted()
    monitoring.register(counted)
    async with opened(url) as storage:
        mongo = storage.database.mongo
        version = (await mongo.database.command("buildInfo")).get("version")
        console.print(
            f"The server says that it is version {version}, a replica set: {mongo.replica_set}. Octets are those of "
            "BSON and of computed keys; they are not MongoDB's own figures."
        )
        octets = await fill(storage, messages, console)
        found = await sizes(storage)
        told = await calls(storage, counted)
    kept(console, found, messages, octets)
    asked(console, told)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000)
    given = parser.parse_args()
    if "HOMING_TEST_MONGODB" not in os.environ:
        parser.error("HOMING_TEST_MONGODB names no server")
    asyncio.run(main(os.environ["HOMING_TEST_MONGODB"], given.messages))
