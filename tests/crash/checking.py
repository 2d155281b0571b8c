"""What must hold of a cluster at rest, after all that was asked of it: by IMAP, and in the documents themselves."""

from __future__ import annotations

import imaplib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable

from runtime.clock import ManualClock
from runtime.mongo import Mongo, open_mongo
from storage.adapters.mongo.adapter import MongoStorage
from storage.limits import SWEEP_SECONDS
from storage.model import ALL_UIDS, Entry, MailboxRef
from storage.port import Storage
from storage.service import TURN_ROUNDS
from tests.crash.clients import COPY_BOX, FROM_BOX, RECIPIENTS, TO_BOX, WORKER, ok, ops_of, uids_of
from tests.crash.records import Place, Records
from tests.live import PASSWORD, Cluster
from tests.reading import entries_of
from tests.storage.mongo_documents import problems

FINISHED_SECONDS = (TURN_ROUNDS + 2) * SWEEP_SECONDS
"""Within these a delivery to several that its process died over is finished by a sweep, whoever had the turn to it."""
ROUNDS_MAX = 10_000
"""Rounds of the sweep that a test's data can need."""
LATER = 7 * 86400.0
"""After so many seconds no bound and no grace holds anything back from the sweep."""


def prepare(cluster: Cluster) -> None:
    """The users and mailboxes that the clients work on."""
    cluster.add_users(*RECIPIENTS, WORKER)
    for user in (*RECIPIENTS, WORKER):
        with imaplib.IMAP4(cluster.host, cluster.ports["IMAP"], timeout=60) as imap:
            # The first sign-in makes the account's mailboxes.
            imap.login(user, PASSWORD)
            for name in (FROM_BOX, TO_BOX, COPY_BOX) if user == WORKER else ():
                ok(imap.create(name))


def verify(cluster: Cluster, records: Records) -> None:
    """Every acknowledged operation is there exactly once; what was in flight happened once or not at all."""
    for door in cluster.of("imap"):
        port = door.ports["IMAP"]
        _verify_deliveries(records, lambda: {user: _ops(cluster, port, records, user) for user in RECIPIENTS})  # noqa: B023
        boxes = {name: _read(cluster, port, records, WORKER, name) for name in (FROM_BOX, TO_BOX)}
        copies = Counter(_ops(cluster, port, records, WORKER, COPY_BOX))
        _verify_work(records, boxes[FROM_BOX], boxes[TO_BOX])
        _verify_copies(records, copies)
    assert not records.wrong, "\n".join(records.wrong)


def _verify_deliveries(records: Records, read: Callable[[], dict[str, list[str]]]) -> None:
    deadline = time.monotonic() + FINISHED_SECONDS
    while partly := _partly_delivered(records, read()):
        acknowledged = partly.keys() & records.acknowledged("deliver")
        assert not acknowledged, f"acknowledged deliveries are not everywhere: {acknowledged}"
        assert time.monotonic() < deadline, f"deliveries reached some of their recipients alone: {partly}"
        time.sleep(1.0)


def _partly_delivered(records: Records, found: dict[str, list[str]]) -> dict[str, set[str]]:
    """Deliveries that have not reached all of their recipients, with those that they have."""
    holders: dict[str, set[str]] = {}
    for user, ops in found.items():
        twice = [op for op, count in Counter(ops).items() if count > 1]
        assert not twice, f"{len(twice)} deliveries are there twice for {user}: {twice[:5]}"
        for op in ops:
            holders.setdefault(op, set()).add(user)
    lost = [op for op in records.acknowledged("deliver") if op not in holders]
    assert not lost, f"{len(lost)} acknowledged deliveries are lost: {lost[:5]}"
    assert set(holders) <= records.asked_for("deliver")
    wrong = {op: users for op, users in holders.items() if not users <= set(records.recipients[op])}
    assert not wrong, f"deliveries reached others than their recipients: {wrong}"
    return {op: users for op, users in holders.items() if users != set(records.recipients[op])}


def _verify_work(records: Records, source: dict[str, bytes], target: dict[str, bytes]) -> None:
    both = source.keys() & target.keys()
    assert not both, f"{len(both)} messages are in two mailboxes: {sorted(both)[:5]}"
    expunging, expunged = records.asked_for("expunge"), records.acknowledged("expunge")
    there = source.keys() | target.keys()
    lost = [op for op in records.acknowledged("append") if op not in there and op not in expunging]
    assert not lost, f"{len(lost)} acknowledged APPENDs are lost: {lost[:5]}"
    assert there <= records.asked_for("append")
    back = [op for op in expunged if op in there]
    assert not back, f"{len(back)} expunged messages are there: {back[:5]}"
    lost = [op for op in records.acknowledged("move") if op not in target and op not in expunging]
    assert not lost, f"{len(lost)} acknowledged MOVEs are lost: {lost[:5]}"
    assert target.keys() <= records.asked_for("move")
    bare = [op for op in records.acknowledged("store") & target.keys() if not _flagged(target[op])]
    assert not bare, f"{len(bare)} acknowledged STOREs are lost: {bare[:5]}"
    for flags in source.values():
        assert b"\\Flagged" not in flags


def _flagged(flags: bytes) -> bool:
    return b"\\Flagged" in flags and b"$Kept" in flags


def _verify_copies(records: Records, copies: Counter[str]) -> None:
    asked = Counter(records.copied.values())
    acknowledged = Counter(records.copied[key] for key in records.acknowledged("copy"))
    few = {op: n for op, n in acknowledged.items() if copies[op] < n}
    assert not few, f"{len(few)} acknowledged COPYs are lost: {few}"
    many = {op: n for op, n in copies.items() if n > asked[op]}
    assert not many, f"COPYs that nobody asked for: {many}"


def _ops(cluster: Cluster, port: int, records: Records, user: str, mailbox: str = "INBOX") -> list[str]:
    with imaplib.IMAP4(cluster.host, port, timeout=60) as imap:
        imap.login(user, PASSWORD)
        return list(_look(imap, records, user, mailbox).values())


def _look(imap: imaplib.IMAP4, records: Records, user: str, mailbox: str) -> dict[int, str]:
    """uid → op of all messages; each sighting is recorded."""
    (count,) = ok(imap.select(mailbox, readonly=True))
    uidvalidity = int(imap.response("UIDVALIDITY")[1][0])
    if not int(count):
        return {}
    found = ops_of(imap, "1:*")
    assert list(found) == sorted(found), "uids rise strictly"
    assert len(found) == int(count), f"{int(count)} messages in {mailbox}, {len(found)} are told"
    assert uids_of(imap) == list(found)
    for uid, op in found.items():
        records.sighted(Place(user, mailbox, uidvalidity, uid), op)
    return found


def _read(cluster: Cluster, port: int, records: Records, user: str, mailbox: str) -> dict[str, bytes]:
    """op → FLAGS; whole bodies are compared with what was sent."""
    with imaplib.IMAP4(cluster.host, port, timeout=60) as imap:
        imap.login(user, PASSWORD)
        ops = _look(imap, records, user, mailbox)
        assert len(set(ops.values())) == len(ops), f"a message is twice in {mailbox}"
        found: dict[str, bytes] = {}
        if ops:
            for (head, content), op in zip(
                (row for row in ok(imap.uid("fetch", "1:*", "(UID FLAGS BODY.PEEK[])")) if isinstance(row, tuple)),
                ops.values(),
                strict=True,
            ):
                records.whole(op, content)
                found[op] = head
        return found


async def verify_documents(url: str) -> int:
    """Nothing is left of what has died, nor missing of what has not, once the sweep was there: how many messages there
    are. All processes have ended."""
    mongo = await open_mongo(url, app="homing-tests")
    storage = MongoStorage(mongo, clock=ManualClock(time.time() + LATER))
    try:
        await storage.open()
        accounts = [one["_id"] for one in await mongo.database["account"].find({}).to_list()]
        before = {place: entry for account in accounts async for place, entry in _everything(storage, account)}
        # After it: who reads an account carries out what was committed to it.
        owed = await _owed(mongo)
        for _ in range(ROUNDS_MAX):
            if not (await storage.sweep()).more:
                break
        else:
            raise AssertionError("the sweep finds no end")
        after = {place: entry for account in accounts async for place, entry in _everything(storage, account)}
        odd = {place: (entry, after.get(place)) for place, entry in before.items() if after.get(place) != entry}
        assert not odd, f"the sweep has taken or changed messages: {odd}"
        added = Counter((place[0], entry.email) for place, entry in after.items() if place not in before)
        assert added == owed, f"the sweep was to finish {owed - added}, and has added {added - owed}"
        wrong = await problems(mongo, swept=True)
        assert not wrong, "\n".join(wrong)
        return len(after)
    finally:
        await storage.close()
        await mongo.close()


async def _owed(mongo: Mongo) -> Counter[tuple[str, str]]:
    """(account, email) of what is still to be put into mailboxes, of deliveries that were committed."""
    undone = await mongo.database["operation"].find({"undone": {"$exists": True}}).to_list()
    return Counter(
        (part["account"], part["email"]) for one in undone for part in one["parts"].values() if "at" not in part
    )


async def _everything(storage: Storage, account: str) -> AsyncIterator[tuple[tuple[str, str, int], Entry]]:
    """((account, mailbox, uid), entry) of all messages."""
    for box in (await storage.list_mailboxes(account)).mailboxes:
        for entry in await all_entries(storage, box.ref):
            yield (account, box.name, entry.uid), entry


async def all_entries(storage: Storage, ref: MailboxRef) -> tuple[Entry, ...]:
    """Every message of a mailbox."""
    found: list[Entry] = []
    while page := await entries_of(storage, ref, ((found[-1].uid + 1, ALL_UIDS[0][1]),) if found else ALL_UIDS):
        found += page
    return tuple(found)
