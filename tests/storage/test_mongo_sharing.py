"""Sharing in MongoDB: the notes by which a grantee finds the owners, and a move between two accounts that broke off."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from runtime.clock import ManualClock
from storage.adapters.mongo import queries, state
from storage.adapters.mongo.adapter import MongoStorage
from storage.model import ALL_RIGHTS, ALL_UIDS, SYSTEM, MailboxRef, NewMessage, Operation, Rights
from storage.port import Reason, Refused, Unavailable
from tests.mongomock_async import open_mock

LR = Rights.LOOKUP | Rights.READ


class Steps:
    """Lets a command to the server fail: the first that begins with the words told."""

    def __init__(self) -> None:
        self.fails = ""
        self.seen = 0

    def __call__(self, step: str) -> None:
        if self.fails and step.startswith(self.fails):
            self.seen -= 1
            if self.seen <= 0:
                self.fails = ""
                raise Unavailable("broken off")


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
async def store(steps: Steps) -> AsyncIterator[MongoStorage]:
    storage = MongoStorage(open_mock(), clock=ManualClock(), on_step=steps, patience=0.01)
    await storage.open()
    for account in ("ann", "bob"):
        await storage.open_account(op(SYSTEM), account)
    yield storage
    await storage.close()


def op(actor: str = "ann", id: str | None = None) -> Operation:
    return Operation(id or uuid.uuid4().hex, actor)


async def _shared(store: MongoStorage, rights: Rights, name: str = "INBOX") -> MailboxRef:
    ref = (await store.mailbox("ann", name)).ref
    await store.set_acl(op(), ref, "bob", rights)
    return MailboxRef(ref.account, ref.mailbox, "bob")


async def _notes(store: MongoStorage) -> list[dict[str, Any]]:
    return await store.database.find(queries.shared_with(("bob",), 10))


async def test_one_note_for_each_owner(store: MongoStorage) -> None:
    for name in ("INBOX", "Sent"):
        await _shared(store, LR, name)
    (note,) = await _notes(store)
    assert (note["grantee"], note["owner"]) == ("bob", "ann")
    assert [box.name for box in await store.shared_with("bob")] == ["INBOX", "Sent"]


async def test_a_note_of_nothing_goes_when_it_is_met(store: MongoStorage) -> None:
    await _shared(store, LR)
    await _shared(store, Rights.NONE)
    assert len(await _notes(store)) == 1
    assert await store.shared_with("bob") == ()
    assert await _notes(store) == []


async def test_a_note_that_was_written_anew_stays(store: MongoStorage) -> None:
    await _shared(store, LR)
    (old,) = await _notes(store)
    await _shared(store, ALL_RIGHTS)
    assert await store.database.delete(queries.shared_noted(old["_id"], "bob", old["token"])) == 0
    assert len(await store.shared_with("bob")) == 1


async def test_who_reads_the_owner_writes_the_note_that_is_missing(store: MongoStorage, steps: Steps) -> None:
    ref = (await store.mailbox("ann", "INBOX")).ref
    steps.fails = "shared"
    await store.set_acl(op(), ref, "bob", LR)
    assert await _notes(store) == []
    await store.list_mailboxes("ann")
    assert len(await _notes(store)) == 1


async def test_who_has_too_many_entries_can_have_fewer(store: MongoStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an account may that was moved here from a store without that bound."""
    ref = await _shared(store, LR)
    monkeypatch.setattr(state, "ACCOUNT_OCTETS", 1)
    with pytest.raises(Refused) as refused:
        await store.set_acl(op(), ref, "carl", LR)
    assert refused.value.reason is Reason.LIMIT
    await store.set_acl(op(), ref, "bob", Rights.LOOKUP)
    await store.set_acl(op(), ref, "bob", Rights.NONE)
    assert await store.acl((await store.mailbox("ann", "INBOX")).ref) == ()


async def test_a_purge_leaves_no_note(store: MongoStorage) -> None:
    await _shared(store, LR)
    mine = (await store.mailbox("bob", "INBOX")).ref
    await store.set_acl(op("bob"), mine, "ann", LR)
    while not await store.purge_account(op(SYSTEM), "bob"):
        pass
    assert await store.database.find(queries.shared_with(("ann", "bob"), 10)) == []
    assert await store.acl((await store.mailbox("ann", "INBOX")).ref) == ()


async def test_a_move_that_broke_off_is_finished_by_its_repeat(store: MongoStorage, steps: Steps) -> None:
    ref = await _shared(store, ALL_RIGHTS)
    await store.append(op(), ref, [NewMessage(b"Subject: 1\r\n\r\n"), NewMessage(b"Subject: 2\r\n\r\n")], None)
    moving = op("bob")
    # what tells how the messages leave, once their copies are there
    steps.fails = "vanished insert"
    with pytest.raises(Unavailable):
        await store.move(moving, ref, ALL_UIDS, "INBOX", None, "bob")
    assert (await store.mailbox("bob", "INBOX")).messages == 2
    assert (await store.mailbox("ann", "INBOX")).messages == 2
    moved = await store.move(moving, ref, ALL_UIDS, "INBOX", None, "bob")
    assert (moved.source, moved.target) == (((1, 2),), ((1, 2),))
    assert (await store.mailbox("bob", "INBOX")).messages == 2
    assert (await store.mailbox("ann", "INBOX")).messages == 0
    assert await store.move(moving, ref, ALL_UIDS, "INBOX", None, "bob") == moved
    assert (await store.usage("ann")).messages == 0
