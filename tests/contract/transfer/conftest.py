"""Stores of every kind as something to be moved, and random stores made through the port."""

from __future__ import annotations

import contextlib
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mail.flags import DELETED
from runtime.clock import ManualClock
from runtime.mongo import open_mongo
from storage import ranges
from storage.adapters.mongo.adapter import MongoStorage
from storage.adapters.mongo.transfer import open_transfer as open_mongo_transfer
from storage.adapters.sqlite.adapter import SqliteStorage
from storage.adapters.sqlite.transfer import open_transfer
from storage.model import (
    ALL_RIGHTS,
    ALL_UIDS,
    ANYONE,
    INLINE_MAX,
    MAIL,
    SYSTEM,
    TASKS,
    BodyContains,
    Delivery,
    Event,
    FlagMode,
    HeaderContains,
    LocalRecipient,
    MailboxRef,
    NewMessage,
    Operation,
    RemoteRecipient,
    Rights,
    Settlement,
    SpoolAction,
    TextContains,
    Want,
)
from storage.port import Refused, Storage
from storage.transfer import InMailbox, Transfer
from tests import mongo
from tests.reading import entries_of, lost_rows_of, rows_of

ACCOUNTS = ("ann", "bob", "carol")
WORDS = ("$Forwarded", "junk", "later", "todo")
NAMES = ("INBOX", "Sent", "Trash", "Work", "Work/2024", "Entwürfe/Öl")


@dataclass(frozen=True)
class Kind:
    """A kind of store. place: a new, empty one. port, transfer: open it in one way or the other."""

    name: str
    place: Callable[[Path], str]
    port: Callable[[str, ManualClock], Awaitable[Storage]]
    transfer: Callable[[str, ManualClock], Awaitable[Transfer]]


def _folder(tmp_path: Path) -> str:
    folder = tmp_path / uuid.uuid4().hex
    folder.mkdir()
    return str(folder)


async def _sqlite(place: str, clock: ManualClock) -> Storage:
    store = SqliteStorage(place, clock=clock)
    await store.open(index=False)
    return store


_made: list[str] = []


def _database(kind: mongo.Kind) -> Callable[[Path], str]:
    def place(tmp_path: Path) -> str:
        _made.append(mongo.mongo_url(kind))
        return _made[-1]

    return place


async def _mongo(place: str, clock: ManualClock) -> Storage:
    store = MongoStorage(await open_mongo(place, app="homing-tests"), clock=clock)
    try:
        await store.open()
    except BaseException:
        await store.close()
        raise
    return store


KINDS: dict[str, Kind] = {
    "sqlite": Kind("sqlite", _folder, _sqlite, open_transfer),
    "mongodb": Kind("mongodb", _database("mongodb"), _mongo, open_mongo_transfer),
}


@pytest.fixture(autouse=True)
async def dropped() -> AsyncIterator[None]:
    """The databases that a test has made go with it."""
    yield
    while _made:
        await mongo.dropped(_made.pop())


class Maker:
    """Does random things to a store, through the port."""

    def __init__(self, store: Storage, clock: ManualClock, seed: int) -> None:
        self.store = store
        self.clock = clock
        self.random = random.Random(seed)
        self.count = 0

    def op(self, *events: Event) -> Operation:
        return Operation(uuid.uuid4().hex, SYSTEM, events)

    def content(self, size: int = 0) -> bytes:
        self.count += 1
        head = f"From: Eve <eve@example.net>\r\nSubject: number {self.count}\r\n\r\n".encode()
        return head + self.random.randbytes(self.random.randrange(200)).hex().encode() + b"x" * size + b"\r\n"

    def words(self) -> tuple[str, ...]:
        return tuple(self.random.sample(WORDS, self.random.randrange(3)))

    def flags(self) -> int:
        return self.random.randrange(32)

    async def make(self, steps: int) -> None:
        for account in ACCOUNTS:
            # One may be purged by now.
            with contextlib.suppress(Refused):
                await self.store.open_account(self.op(), account)
        doing = (
            (self.deliver, 6),
            (self.append, 6),
            (self.append_large, 1),
            (self.send, 3),
            (self.queue, 2),
            (self.flag, 6),
            (self.copy, 3),
            (self.move, 3),
            (self.expunge, 4),
            (self.select, 3),
            (self.mailbox, 4),
            (self.subscribe, 2),
            (self.annotate, 4),
            (self.share, 3),
            (self.record, 2),
            (self.wait, 2),
        )
        work = self.random.choices([one for one, _ in doing], [weight for _, weight in doing], k=steps)
        for one in work:
            # A mailbox that is there already, or not there: the next step.
            with contextlib.suppress(Refused):
                await one()
        if self.random.random() < 0.5:
            while not await self.store.purge_account(self.op(), "carol"):
                continue

    async def some(self) -> MailboxRef:
        mailboxes = (await self.store.list_mailboxes(self.random.choice(ACCOUNTS))).mailboxes
        return self.random.choice(mailboxes).ref

    async def uids(self, ref: MailboxRef) -> tuple[tuple[int, int], ...]:
        there = [entry.uid for entry in await entries_of(self.store, ref, ALL_UIDS)]
        return ranges.of(sorted(self.random.sample(there, self.random.randint(0, len(there)))))

    async def deliver(self) -> None:
        names = self.random.sample(ACCOUNTS, self.random.randint(0, 3))
        trace = f"trace-{self.random.randrange(5)}"
        local = tuple(
            LocalRecipient(
                name,
                f"{name}@example.org",
                f"Delivered-To: {name}@example.org\r\n".encode() if self.random.random() < 0.5 else b"",
                self.random.choice(NAMES),
                self.flags(),
            )
            for name in names
        )
        remote = tuple(
            RemoteRecipient(f"out{n}@d{n % 2}.example.net", {"NOTIFY": "NEVER", "ORCPT": "rfc822;x"})
            for n in range(self.random.randrange(4))
        )
        actor = self.random.choice((SYSTEM, "ann"))
        op = Operation(uuid.uuid4().hex, actor, (Event(trace, self.clock.now(), "rcpt", None, {"n": 1, "ok": True}),))
        sender = self.random.choice(("eve@example.net", ""))
        delivery = Delivery(
            op,
            self.content(),
            sender,
            self.clock.now(),
            trace,
            local,
            remote,
            {"BODY": "8BITMIME"},
            TASKS if len(remote) == 3 else MAIL,
        )
        await self.store.accept([delivery])

    async def append(self) -> None:
        messages = [
            NewMessage(self.content(), self.flags(), self.words(), self.random.choice((None, 0, 1_234_567_890)))
            for _ in range(self.random.randint(1, 4))
        ]
        await self.store.append(self.op(), await self.some(), messages, None)

    async def append_large(self) -> None:
        whole = self.content(INLINE_MAX + self.random.randrange(3 * INLINE_MAX))

        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(whole), 100_000):
                yield whole[start : start + 100_000]

        staged = await self.store.stage(chunks())
        if self.random.random() < 0.8:
            await self.store.append(self.op(), await self.some(), [NewMessage(staged, self.flags())], None)

    async def flag(self) -> None:
        ref = await self.some()
        mode = self.random.choice(list(FlagMode))
        await self.store.store_flags(self.op(), ref, await self.uids(ref), mode, self.flags(), self.words())

    async def copy(self) -> None:
        ref = await self.some()
        await self.store.copy(self.op(), ref, await self.uids(ref), self.random.choice(NAMES), None)

    async def move(self) -> None:
        ref = await self.some()
        await self.store.move(self.op(), ref, await self.uids(ref), self.random.choice(NAMES))

    async def expunge(self) -> None:
        ref = await self.some()
        await self.store.store_flags(self.op(), ref, await self.uids(ref), FlagMode.ADD, DELETED)
        await self.store.expunge(self.op(), ref, ALL_UIDS)

    async def select(self) -> None:
        await self.store.open_mailbox(self.op(), await self.some(), True)

    async def mailbox(self) -> None:
        account, name = self.random.choice(ACCOUNTS), self.random.choice(NAMES)
        what = self.random.randrange(4)
        if what < 2:
            await self.store.create_mailbox(self.op(), account, name)
        elif what == 2:
            await self.store.rename_mailbox(self.op(), account, name, self.random.choice(NAMES))
        else:
            await self.store.delete_mailbox(self.op(), account, name)

    async def subscribe(self) -> None:
        name = self.random.choice((*NAMES, "not there"))
        await self.store.subscribe(self.op(), self.random.choice(ACCOUNTS), name, self.random.random() < 0.7)

    async def share(self) -> None:
        ref = await self.some()
        who = self.random.choice((*ACCOUNTS, ANYONE))
        given = Rights(self.random.randrange(ALL_RIGHTS + 1))
        await self.store.set_acl(self.op(), ref, who, given, negative=self.random.random() < 0.3)

    async def annotate(self) -> None:
        ref = await self.some()
        actor = self.random.choice((ref.account, SYSTEM))
        names = ["/shared/comment", "/shared/vendor/x"]
        if actor != SYSTEM:
            names.append("/private/comment")
            if self.random.random() < 0.3:
                ref, names = MailboxRef(ref.account, ""), ["/private/comment"]
        value = self.random.choice((None, b"", self.random.randbytes(self.random.randrange(3000))))
        op = Operation(uuid.uuid4().hex, actor)
        await self.store.set_annotations(op, ref, dict.fromkeys(self.random.sample(names, 1), value))

    async def send(self) -> None:
        """An attempt at some of what waits: one of them is left under its lease."""
        for claimed in (await self.store.claim(3, 3, 60.0))[1:]:
            finished = [to.address for to in claimed.item.recipients if self.random.random() < 0.4]
            settlement = Settlement(
                Operation(uuid.uuid4().hex, SYSTEM, (Event("trace-0", self.clock.now(), "attempt"),)),
                claimed.item.id,
                claimed.lease,
                tuple(finished),
                self.clock.now() + self.random.choice((0, 60.0, 900.0)),
                told=self.random.random() < 0.5,
                last="451 später",
            )
            await self.store.settle([settlement])

    async def queue(self) -> None:
        items = [item.id for item in await self.store.spool(None) if self.random.random() < 0.2]
        op = Operation(uuid.uuid4().hex, SYSTEM)
        await self.store.change_spool(op, items, self.random.choice(list(SpoolAction)), "smtp://relay.example:25")

    async def record(self) -> None:
        trace = f"trace-{self.random.randrange(5)}"
        events = [Event(trace, self.clock.now() + n, "refused", "bob", {"why": "ü", "x": None}) for n in range(3)]
        await self.store.record(events)

    async def wait(self) -> None:
        self.clock.advance(self.random.choice((1.5, 900.0, 3600.0)))
        if self.random.random() < 0.3:
            await self.store.sweep()


async def dump(transfer: Transfer) -> dict[str, Any]:
    """All records, those without an order of their own sorted."""
    found: dict[str, Any] = {"accounts": [], "messages": {}, "history": {}, "emails": {}, "blobs": {}, "spool": []}
    after = ""
    while page := await transfer.accounts(after, 2):
        found["accounts"] += page
        after = page[-1].id
    for account in found["accounts"]:
        sets: list[Any] = []
        while some := await transfer.annotations(account.id, sets[-1][:2] if sets else ("", ""), 2):
            sets += some
        found["messages"][account.id] = sets
        for mailbox in account.mailboxes:
            at = InMailbox(account.id, mailbox.id)
            for lost in (False, True):
                entries: list[Any] = []
                while some := await transfer.entries(at, entries[-1].uid if entries else 0, 3, lost=lost):
                    entries += some
                found["messages"][at, lost] = entries
                for email in await transfer.emails(account.id, {entry.email for entry in entries}):
                    found["emails"][email.id] = email
            history: list[Any] = []
            while changes := await transfer.vanished(at, history[-1].modseq if history else 0, 2):
                history += changes
            found["history"][at] = history
    after = ""
    while items := await transfer.spool(after, 2):
        found["spool"] += items
        after = items[-1].id
    wanted = sorted({one.blob for one in (*found["emails"].values(), *found["spool"])})
    for blob in await transfer.blobs(wanted, 0):
        found["blobs"][blob.id] = (blob, await transfer.octets(blob.id, 0, blob.size))
    events: list[Any] = []
    after = ""
    while kept := await transfer.events(after, 2):
        events += [event for one in kept for event in one.events]
        after = kept[-1].place
    found["spool"].sort(key=lambda one: one.id)
    found["events"] = sorted(map(repr, events))
    return found


async def seen(store: Storage, *, with_ids: bool) -> dict[Any, Any]:
    """All that a client can see of a store; without the ids, where the store could not keep them."""
    found: dict[Any, Any] = {}

    def row(one: Any) -> Any:
        return one if with_ids else one._replace(entry=one.entry._replace(email=""))

    def entry(one: Any) -> Any:
        return one if with_ids else one._replace(email="")

    every = Want(sum(want for want in Want))
    for account in ACCOUNTS:
        found[account, "usage"] = await store.usage(account)
        try:
            listed = await store.list_mailboxes(account)
        except Refused as refusal:
            found[account] = refusal.reason
            continue
        found[account, "subscriptions"] = listed.subscriptions
        found[account, "modseq"] = dict(await store.watch({account: 0}, 0))
        found[account, "annotated"] = listed.annotated
        found[account, "shared"] = [(one.name, one.rights) for one in await store.shared_with(account)]
        for ref in (MailboxRef(account, ""), *(one.ref for one in listed.mailboxes)):
            names = {one.ref.mailbox: one.name for one in listed.mailboxes}
            kept = await store.annotations([ref])
            found[account, names.get(ref.mailbox), "annotations"] = [(one.entry, one.modseq, one.value) for one in kept]
        for mailbox in listed.mailboxes:
            at = account, mailbox.name
            ref = mailbox.ref
            found[at] = {name: getattr(mailbox, name) for name in mailbox.__dataclass_fields__ if name != "ref"}
            found[at, "acl"] = await store.acl(ref)
            found[at, "ref"] = ref.mailbox if with_ids else ""
            found[at, "rows"] = [row(one) for one in await _pages(partial(rows_of, store), ref, every)]
            found[at, "lost"] = [row(one) for one in await _pages(partial(lost_rows_of, store), ref, every)]
            for query in (TextContains("number 1"), BodyContains("xxx"), HeaderContains("delivered-to", "bob")):
                found[at, query] = (await store.search(ref, query)).uids
            opened = await store.open_mailbox(Operation(uuid.uuid4().hex, SYSTEM), ref, False)
            found[at, "opened"] = opened.uids, opened.recent, opened.first_unseen_uid, opened.keywords
            for since in range(0, mailbox.highest_modseq + 1, max(1, mailbox.highest_modseq // 7)):
                changes = await store.changes(ref, since)
                told = [entry(one) for one in changes.entries], changes.vanished, changes.through, changes.more
                found[at, "since", since] = told
    spool = await store.spool(None)
    # Leases stay behind.
    found["spool"] = [replace(one, id="", leased_until=0.0) for one in spool]
    found["domains"] = await store.spool_domains()
    found["tasks"] = [await store.spool_queued(TASKS, account) for account in (None, "ann", "bob")]
    found["ids"] = [one.id for one in spool] if with_ids else []
    for n in range(5):
        found["trace", n] = await store.trace(f"trace-{n}", None)
    return found


async def _pages(read: Any, ref: MailboxRef, want: Want) -> list[Any]:
    found: list[Any] = []
    after = 0
    while page := await read(ref, ((after + 1, 0xFFFF_FFFF),), want):
        found += page
        after = page[-1].entry.uid
    return found


@pytest.fixture(params=sorted(KINDS))
def source_kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(params=sorted(KINDS))
def target_kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]
