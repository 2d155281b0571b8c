"""A move into MongoDB that dies at any step: before a command, or after it and before anybody has heard so."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runtime.clock import ManualClock
from runtime.mongo import open_mongo
from storage.adapters.mongo.adapter import MongoStorage
from storage.adapters.mongo.transfer import MongoTransfer
from storage.adapters.sqlite.adapter import SqliteStorage
from storage.adapters.sqlite.transfer import open_transfer
from storage.compare import compare
from storage.migrate import copy, survey
from storage.model import (
    INLINE_MAX,
    SYSTEM,
    Accepted,
    Delivery,
    FlagMode,
    LocalRecipient,
    NewMessage,
    Operation,
    RemoteRecipient,
)
from tests.mongo import KINDS, Kind, dropped, mongo_url
from tests.storage.consistency import problems


class Killed(Exception):
    """The process ends here."""


def quiet(messages: int, octets: int) -> None:
    return None


def op() -> Operation:
    return Operation(uuid.uuid4().hex, SYSTEM)


async def small_store(folder: Path, clock: ManualClock) -> None:
    """One of each kind of record, a body over INLINE_MAX among them."""
    store = SqliteStorage(folder, clock=clock)
    await store.open(index=False)
    try:
        for account in ("ann", "bob"):
            await store.open_account(op(), account)
        to = tuple(LocalRecipient(one, f"{one}@example.org", b"X: y\r\n", "INBOX", 8) for one in ("ann", "bob"))
        remote = (RemoteRecipient("out@example.net"),)
        await store.accept([Delivery(op(), b"Subject: one\r\n\r\none\r\n", "", 1.0, "trace", to, remote)])
        ref = (await store.mailbox("ann", "INBOX")).ref

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b"x" * INLINE_MAX

        staged = await store.stage(chunks())
        await store.append(op(), ref, [NewMessage(staged), NewMessage(b"Subject: two\r\n\r\n", 1, ("word",))], None)
        await store.expunge(op(), ref, ((1, 1),))
    finally:
        await store.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_there_and_back_in_each_dialect(tmp_path: Path, kind: Kind) -> None:
    clock = ManualClock()
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    await small_store(tmp_path / "old", clock)
    source, back = await open_transfer(tmp_path / "old", clock), await open_transfer(tmp_path / "new", clock)
    url = mongo_url(kind)
    there = MongoTransfer(await open_mongo(url, app="homing-tests"), clock)
    try:
        await there.open()
        await copy(source, there, await survey(source), quiet)
        assert (await compare(source, there, quiet)).problems == []
        await there.finish()
        await copy(there, back, await survey(there), quiet)
        assert set((await back.renamed()).values()) == {0}
        assert (await compare(source, back, quiet)).problems == []
        assert await back.highest() == await source.highest() == await there.highest()
    finally:
        for transfer in (source, there, back):
            await transfer.close()
        await dropped(url)


@pytest.mark.parametrize("done", [False, True])
async def test_a_move_that_dies_at_any_step_is_gone_on_with(tmp_path: Path, done: bool) -> None:
    clock = ManualClock()
    await small_store(tmp_path, clock)
    source = await open_transfer(tmp_path, clock)
    url = mongo_url("mongodb")
    steps = deaths = 0
    try:
        found = await survey(source)
        while True:
            # Each attempt dies one step later than the one before.
            steps += 1
            left = steps

            def on_step(step: str) -> None:
                nonlocal left
                if (step == "done") == done:
                    left -= 1
                    if left == 0:
                        raise Killed(step)

            target = MongoTransfer(await open_mongo(url, app="homing-tests"), clock, on_step)
            try:
                await target.open()
                await copy(source, target, found, quiet)
                break
            except Killed:
                deaths += 1
            finally:
                await target.close()
        assert deaths > 5
        target = MongoTransfer(await open_mongo(url, app="homing-tests"), clock)
        try:
            report = await compare(source, target, quiet)
            assert report.problems == []
            assert report.bodies == 3
            await target.finish()
            # Nothing is there twice, or for nobody.
            database = target._mongo.database
            names = ("account", "entry", "email", "blob", "chunk", "vanished", "spool", "event", "transfer")
            counts = {name: await database[name].count_documents({}) for name in names}
            assert counts == {
                "account": 2,
                "entry": 4,
                "email": 4,
                "blob": 3,
                "chunk": 5,
                "vanished": 1,
                "spool": 1,
                "event": 1,
                "transfer": 1,
            }
        finally:
            await target.close()
    finally:
        await source.close()
        await dropped(url)


async def test_what_services_that_died_have_left_is_finished(tmp_path: Path) -> None:
    """A delivery to two accounts and on, and a change of one account, by a service that dies at any step: all of each
    moves, or nothing."""
    clock = ManualClock()
    steps = 0
    seen: set[tuple[int, ...]] = set()
    ended = False
    while not ended:
        steps += 1
        url = mongo_url("mongodb")
        left: int | None = None

        def on_step(step: str) -> None:
            nonlocal left
            if left is not None:
                left -= 1
                if left < 0:
                    raise Killed(step)

        try:
            store = MongoStorage(await open_mongo(url, app="homing-tests"), clock=clock, on_step=on_step)
            try:
                await store.open()
                for account in ("ann", "bob"):
                    await store.open_account(op(), account)
                ref = (await store.mailbox("ann", "INBOX")).ref
                await store.append(op(), ref, [NewMessage(b"Subject: old\r\n\r\n")], None)
                left = steps
                to = tuple(LocalRecipient(one, f"{one}@example.org") for one in ("ann", "bob"))
                remote = (RemoteRecipient("out@example.net"),)
                (outcome,) = await store.accept([Delivery(op(), b"Subject: new\r\n\r\n", "", 1.0, "t", to, remote)])
                if isinstance(outcome, Accepted):
                    await store.store_flags(op(), ref, ((1, 1),), FlagMode.ADD, 8)
                    await store.expunge(op(), ref, ((1, 1),))
                    ended = True
            except Killed:
                pass
            finally:
                left = None
                await store.close()
            source = MongoTransfer(await open_mongo(url, app="homing-tests"), clock)
            (tmp_path / str(steps)).mkdir()
            target = await open_transfer(tmp_path / str(steps), clock)
            try:
                await source.open()
                await copy(source, target, await survey(source), quiet)
                assert (await compare(source, target, quiet)).problems == []
                inboxes = [
                    next(box for box in one.mailboxes if box.name == "INBOX") for one in await target.accounts("", 9)
                ]
                found = tuple(box.uidnext - 1 for box in inboxes), len(await target.spool("", 9))
                assert found in (((1, 0), 0), ((2, 1), 1))
                seen.add((*found[0], found[1], inboxes[0].messages))
                await target.finish()
            finally:
                await source.close()
                await target.close()
            again = SqliteStorage(tmp_path / str(steps), clock=clock)
            await again.open(index=False)
            try:
                assert await again.database.read(lambda conn: problems(conn, octets=True)) == []
            finally:
                await again.close()
        finally:
            await dropped(url)
    # Not begun, delivered, and delivered and expunged were all met.
    assert seen == {(1, 0, 0, 1), (2, 1, 1, 2), (2, 1, 1, 1)}
