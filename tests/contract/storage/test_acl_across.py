"""COPY and MOVE between the mailboxes of two accounts."""

from __future__ import annotations

from typing import Any

import pytest

from mail.flags import ANSWERED, DELETED, SEEN
from storage.model import ALL_RIGHTS, ALL_UIDS, BodyContains, NewMessage, Rights, Want
from storage.port import Reason, Refused
from tests.reading import entries_of, rows_of

LR = Rights.LOOKUP | Rights.READ


async def _reason(call: Any) -> Reason:
    with pytest.raises(Refused) as refused:
        await call
    return refused.value.reason


async def _shared(bench: Any, rights: Rights, name: str = "INBOX") -> Any:
    """The ref of ann's mailbox as bob has it, once it is shared with these rights."""
    await bench.store.set_acl(bench.op(), await bench.ref(name), "bob", rights)
    return (await bench.store.mailbox("ann", name, "bob")).ref


async def _usage(bench: Any, account: str) -> tuple[int, int]:
    usage = await bench.store.usage(account)
    return usage.messages, usage.size


@pytest.mark.parametrize("move", [False, True])
async def test_messages_go_from_another_to_oneself(bench: Any, move: bool) -> None:
    store = bench.store
    await bench.deliver("ann", prefix=b"Return-Path: <>\r\n")
    await bench.fill(2, flags=ANSWERED | SEEN, keywords=("red",), internaldate=7)
    await store.append(bench.op("bob"), await bench.ref("Sent", "bob"), [NewMessage(bench.message())], None)
    source = await _shared(bench, LR | (Rights.DELETE_MESSAGES | Rights.EXPUNGE if move else Rights.NONE))
    before = await rows_of(store, source, ((1, 2),), Want.PREFIX | Want.CONTENT | Want.ENVELOPE | Want.SIZE)
    had = await _usage(bench, "bob"), await _usage(bench, "ann")
    modseqs = await bench.modseq("bob"), await bench.modseq("ann")
    op = bench.op("bob")
    call = store.move if move else store.copy
    copied = await call(op, source, ((1, 2), (9, 9)), "Sent", None, "bob")
    sent = await store.mailbox("bob", "Sent")
    assert (copied.uidvalidity, copied.source, copied.target) == (sent.uidvalidity, ((1, 2),), ((2, 3),))
    assert copied.modseq == await bench.modseq("ann" if move else "bob")
    assert await bench.modseq("bob") == modseqs[0] + 1
    assert await bench.modseq("ann") == modseqs[1] + move
    after = await rows_of(store, sent.ref, ((2, 3),), Want.PREFIX | Want.CONTENT | Want.ENVELOPE | Want.SIZE)
    assert [row[1:] for row in after] == [row[1:] for row in before]
    assert [(row.entry.flags, row.entry.keywords) for row in after] == [(0, ()), (ANSWERED | SEEN, ("red",))]
    assert after[1].entry.internaldate == 7
    assert after[1].entry.savedate == int(bench.clock.now())
    assert (sent.messages, sent.unseen) == (3, 2)
    size = sum(row.size for row in before)
    assert await _usage(bench, "bob") == (had[0][0] + 2, had[0][1] + size)
    assert await _usage(bench, "ann") == ((had[1][0] - 2, had[1][1] - size) if move else had[1])
    assert await bench.uids(await bench.ref()) == ([3] if move else [1, 2, 3])
    # A repeat changes nothing and is told the same.
    assert await call(op, source, ((1, 2), (9, 9)), "Sent", None, "bob") == copied
    assert (await store.mailbox("bob", "Sent")).messages == 3
    assert await bench.uids(await bench.ref()) == ([3] if move else [1, 2, 3])


async def test_a_message_that_was_copied_outlives_the_one_it_was_copied_from(bench: Any) -> None:
    store = bench.store
    await bench.fill(1, flags=DELETED)
    source = await _shared(bench, LR)
    await store.copy(bench.op("bob"), source, ALL_UIDS, "INBOX", None, "bob")
    await store.expunge(bench.op(), await bench.ref(), ALL_UIDS)
    bench.clock.advance(7200)
    while (await store.sweep()).more:
        pass
    (row,) = await rows_of(store, await bench.ref(account="bob"), ALL_UIDS, Want.CONTENT)
    assert row.content == bench.message("0")
    found = await store.search(await bench.ref(account="bob"), BodyContains("0"))
    assert found.uids == ((1, 1),)


async def test_messages_go_to_another_with_the_marks_that_are_allowed(bench: Any) -> None:
    store = bench.store
    await _shared(bench, LR | Rights.INSERT | Rights.SEEN, "Archive")
    own = await bench.ref(account="bob")
    message = NewMessage(bench.message(), SEEN | ANSWERED | DELETED, ("red",))
    await store.append(bench.op("bob"), own, [message], None)
    await store.copy(bench.op("bob"), own, ALL_UIDS, "Archive", None, "ann")
    (entry,) = await entries_of(store, await bench.ref("Archive"), ALL_UIDS)
    assert (entry.flags, entry.keywords) == (SEEN, ())
    box = await store.mailbox("ann", "Archive")
    assert (box.messages, box.unseen, box.deleted) == (1, 0, 0)
    moved = await store.move(bench.op("bob"), own, ALL_UIDS, "Archive", None, "ann")
    assert moved.target == ((2, 2),)
    assert await bench.uids(own) == []


async def test_marks_that_are_not_allowed_stay_behind_within_an_account_too(bench: Any) -> None:
    store = bench.store
    await bench.fill(2, flags=SEEN | DELETED | ANSWERED, keywords=("red",))
    source = await _shared(bench, ALL_RIGHTS)
    await _shared(bench, LR | Rights.INSERT | Rights.WRITE, "Archive")
    await store.copy(bench.op("bob"), source, ((1, 1),), "Archive", None)
    await store.move(bench.op("bob"), source, ((2, 2),), "Archive")
    found = await entries_of(store, await bench.ref("Archive"), ALL_UIDS)
    assert [(entry.flags, entry.keywords) for entry in found] == [(ANSWERED, ("red",))] * 2
    box = await store.mailbox("ann", "Archive")
    assert (box.messages, box.unseen, box.deleted) == (2, 2, 0)
    assert await bench.uids(source) == [1]


async def test_the_quota_is_that_of_the_targets_owner(bench: Any) -> None:
    store = bench.store
    await bench.fill(1)
    source = await _shared(bench, ALL_RIGHTS)
    for call in (store.copy, store.move):
        assert await _reason(call(bench.op("bob"), source, ALL_UIDS, "INBOX", 1, "bob")) is Reason.OVER_QUOTA
    assert await bench.uids(source) == [1]
    assert (await store.mailbox("bob", "INBOX")).messages == 0
    await store.move(bench.op("bob"), source, ALL_UIDS, "INBOX", 10_000, "bob")


async def test_a_move_is_refused_whole_where_a_right_lacks(bench: Any) -> None:
    store = bench.store
    await bench.fill(1)
    for lacking in (Rights.DELETE_MESSAGES, Rights.EXPUNGE):
        source = await _shared(bench, ALL_RIGHTS & ~lacking)
        call = store.move(bench.op("bob"), source, ALL_UIDS, "INBOX", None, "bob")
        assert await _reason(call) is Reason.NO_PERMISSION
    await _shared(bench, ALL_RIGHTS & ~Rights.INSERT, "Archive")
    own = await bench.ref(account="bob")
    await store.append(bench.op("bob"), own, [NewMessage(bench.message())], None)
    for call in (store.copy, store.move):
        refused = await _reason(call(bench.op("bob"), own, ALL_UIDS, "Archive", None, "ann"))
        assert refused is Reason.NO_PERMISSION
    assert await bench.uids(source) == await bench.uids(own) == [1]


async def test_nothing_there_is_nothing_to_do(bench: Any) -> None:
    store = bench.store
    source = await _shared(bench, ALL_RIGHTS)
    for n in range(9):
        # The two accounts are far apart in their modseqs.
        await store.create_mailbox(bench.op("bob"), "bob", f"Sent/{n}")
    await store.append(bench.op("bob"), await bench.ref("Sent", "bob"), [NewMessage(bench.message())], None)
    sent = await store.mailbox("bob", "Sent")
    for call, owner in ((store.copy, "bob"), (store.move, "ann")):
        copied = await call(bench.op("bob"), source, ALL_UIDS, "Sent", None, "bob")
        assert (copied.uidvalidity, copied.source, copied.target) == (sent.uidvalidity, (), ())
        assert copied.modseq <= await bench.modseq(owner)
        refused = await _reason(call(bench.op("bob"), source, ALL_UIDS, "nowhere", None, "bob"))
        assert refused is Reason.NO_SUCH_MAILBOX
