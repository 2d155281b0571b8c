"""Databases of a release that sent nothing on: their items get a domain each, and are sent."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import uuid
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from runtime.clock import ManualClock
from runtime.sqlite import migrate
from storage.adapters.mongo.spool import packed
from storage.adapters.sqlite.adapter import SqliteStorage
from storage.adapters.sqlite.schema import MIGRATIONS
from storage.model import SYSTEM, Accepted, Delivery, Operation, RemoteRecipient, Settlement
from storage.outcomes import accepted
from storage.port import Storage, Unavailable
from tests.storage.consistency import problems
from tests.storage.mongo_world import Kill, Killed, delivery, operation, world

ITEMS = (
    (("a@far.example", "b@near.example", "c@FAR.example"), ()),
    (("d@far.example",), ()),
    (("e@near.example", "f@é.example"), ("e@near.example",)),
    (("g@far.example",), ("g@far.example",)),
    (("é\udc80@far.example", "nowhere"), ()),
)
"""Addresses of each item, and those of them that were done with."""
SPLIT = [
    ("far.example", ["a@far.example", "c@FAR.example"]),
    ("far.example", ["d@far.example"]),
    ("xn--9ca.example", ["f@é.example"]),
    ("far.example", ["é\udc80@far.example"]),
    ("near.example", ["b@near.example"]),
    (".", ["nowhere"]),
]


def _old_database(file: Path) -> None:
    """As the first release made it, with items; the last of which has had the highest number."""
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as conn:
        migrate(conn, MIGRATIONS[:1], file.name)
        for n, (addresses, done) in enumerate(ITEMS, 1):
            content = b"x" * n
            conn.execute(
                "INSERT INTO blob (number, size, refs, version, sha256) VALUES (?, ?, 1, 1, ?)", (n, len(content), b"")
            )
            conn.execute("INSERT INTO chunk (key, data) VALUES (?, ?)", (n << 12, content))
            conn.execute(
                "INSERT INTO spool (number, trace, account, sender, blob, size, queued_at, next_attempt, params) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    n,
                    f"t{n}",
                    "ann" if n % 2 else None,
                    json.dumps("é\udc80@x"),
                    n,
                    n,
                    10.0 + n,
                    20.0 + n,
                    '{"RET": "HDRS"}',
                ),
            )
            conn.executemany(
                "INSERT INTO spool_recipient (spool, n, address, params, outcome) VALUES (?, ?, ?, ?, ?)",
                [
                    (n, place, json.dumps(one), json.dumps({"N": str(place)}), "sent" if one in done else None)
                    for place, one in enumerate(addresses)
                ],
            )
        conn.execute(
            "INSERT INTO spool (number, trace, sender, blob, size, queued_at, next_attempt, params) "
            "VALUES (40, '', '', 1, 1, 1, 1, '')"
        )
        conn.execute("DELETE FROM spool WHERE number = 40")


async def _sent(store: Storage) -> None:
    for claimed in await store.claim(100, 100, 60.0):
        addresses = tuple(to.address for to in claimed.item.recipients)
        one = Settlement(Operation(uuid.uuid4().hex, SYSTEM), claimed.item.id, claimed.lease, addresses)
        assert list(await store.settle([one])) == [None]


async def test_an_older_database_opens_with_its_items_split_by_domain(tmp_path: Path) -> None:
    _old_database(tmp_path / "storage.db")
    store = SqliteStorage(tmp_path, clock=ManualClock())
    await store.open(index=False)
    try:
        items = await store.spool(None)
        assert [(item.domain, [to.address for to in item.recipients]) for item in items] == SPLIT
        # Ids are not used again, and what was there keeps its own.
        assert [item.id[-2:] for item in items] == ["01", "02", "03", "05", "29", "2a"]
        first, *_, extra, _ = items
        assert (first.trace, first.account, first.sender, first.size) == ("t1", "ann", "é\udc80@x", 1)
        assert (first.queued_at, first.next_attempt, first.attempts, first.claims) == (11.0, 21.0, 0, 0)
        assert (first.params, first.recipients[1].params) == ({"RET": "HDRS"}, {"N": "2"})
        assert (extra.trace, extra.account, extra.queued_at) == ("t1", "ann", 11.0)
        assert await store.spool_read(extra.id, 0, 9) == b"x"
        assert sum(one.items for one in await store.spool_domains()) == len(SPLIT)
        await _sent(store)
        assert await store.spool(None) == ()
        while (await store.sweep(0.0)).more:
            continue
    finally:
        await store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "storage.db")) as conn:
        assert problems(conn) == []
        assert conn.execute("SELECT count(*) FROM blob").fetchone() == (0,)


async def test_items_of_an_older_mongodb_are_split_by_domain() -> None:
    async with world("mongomock") as there:
        store = await there.store()
        database = there.mongo.database
        for n, (addresses, _) in enumerate(ITEMS):
            await store.accept([delivery(str(n), remote=("x@one",))])
            fields: dict[str, Any] = {
                "recipients": packed(RemoteRecipient(address) for address in addresses),
            }
            gone = dict.fromkeys(("domain", "due", "rev", "claims"), "")
            await database["spool"].update_one({"domain": {"$exists": True}}, {"$set": fields, "$unset": gone})
        await database["due"].delete_many({})
        # They are read before they are split too.
        assert [len(item.recipients) for item in await store.spool(None)] == [3, 1, 2, 1, 2]
        again = await there.store()
        await again.recover()
        items = await again.spool(None)
        found = [(item.domain, [to.address for to in item.recipients]) for item in items]
        assert len(found) == 8
        assert all(place in found for place in SPLIT)
        assert {address for _, addresses in found for address in addresses} == {
            one for many, _ in ITEMS for one in many
        }
        assert await there.problems() == []
        await _sent(again)
        assert await again.spool(None) == ()
        assert await there.swept() == []
        # What tells that a domain may have something due goes when a claim finds nothing.
        assert await again.claim(9, 9, 60.0) == ()
        assert await database["due"].count_documents({}) == 0


@pytest.mark.parametrize("step", range(1, 16))
async def test_an_item_is_split_once_whoever_dies_at_it(step: int) -> None:
    async with world("mongomock") as there:
        store = await there.store()
        await store.accept([delivery("x", remote=("x@one",))])
        database = there.mongo.database
        recipients = packed(RemoteRecipient(address) for address in ITEMS[0][0])
        gone = dict.fromkeys(("domain", "due", "rev", "claims"), "")
        await database["spool"].update_one({}, {"$set": {"recipients": recipients}, "$unset": gone})
        kill = Kill(step)
        victim = await there.store(kill)
        with contextlib.suppress(Killed, Unavailable):
            await victim.recover()
        kill.on = False
        other = await there.store()
        await other.recover()
        there.clock.advance(6)
        await other.sweep()
        items = await other.spool(None)
        assert sorted([to.address for to in item.recipients] for item in items) == [
            ["a@far.example", "c@FAR.example"],
            ["b@near.example"],
        ]
        claimed = await other.claim(9, 9, 60.0)
        assert len(claimed) == 2
        assert await there.swept() == []


def test_an_outcome_that_an_older_release_kept_is_told_again() -> None:
    assert accepted([[], None]) == Accepted(())
    assert accepted([[], "S1"]) == Accepted((), ("S1",))
    assert accepted([[], ["S1", "S2"]]) == Accepted((), ("S1", "S2"))


async def test_a_delivery_that_an_older_release_committed_is_finished() -> None:
    async with world("mongomock") as there:
        store = await there.store()
        database = there.mongo.database
        await store.accept([Delivery(operation(id="old"), b"x", "", 1.0, "t", (), (RemoteRecipient("a@far.example"),))])
        (item,) = await database["spool"].find({}).to_list()
        # As it was between the commit and the end.
        gone = dict.fromkeys(("domain", "due", "rev", "claims"), "")
        await database["spool"].update_one({}, {"$set": {"pending": 1.0}, "$unset": gone})
        await database["due"].delete_many({})
        undone = {"parts": {}, "undone": 1.0, "trace": "t", "item": item["_id"], "events": []}
        await database["operation"].update_one(
            {"_id": "old"}, {"$set": {**undone, "claim": ObjectId()}, "$unset": {"outcome": ""}}
        )
        other = await there.store()
        await other.recover()
        (claimed,) = await other.claim(9, 9, 60.0)
        assert (claimed.item.id, claimed.item.domain) == (item["_id"], "far.example")
