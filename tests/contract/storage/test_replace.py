"""REPLACE: the new message and the old one's leaving are one change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from storage.model import ALL_UIDS, INLINE_MAX, NewMessage, Rights, Usage, Want
from storage.port import Reason, Refused
from tests.reading import entries_of, lost_rows_of, rows_of


async def _reason(call: Any) -> Reason:
    with pytest.raises(Refused) as refused:
        await call
    return refused.value.reason


async def test_in_the_same_mailbox(bench: Any) -> None:
    ref = await bench.fill(3, "Drafts")
    before = await bench.modseq()
    new = bench.message("new", 500)
    done = await bench.store.replace(bench.op(), ref, 2, ref, NewMessage(new, 16, ("work",), 1000), None)
    assert done.uids == (4,)
    assert done.modseq == before + 1 == await bench.modseq()
    assert await bench.uids(ref) == [1, 3, 4]
    (row,) = await rows_of(bench.store, ref, ((4, 4),), Want.SIZE | Want.CONTENT)
    assert (row.content, row.size) == (new, 500)
    assert (row.entry.flags, row.entry.keywords, row.entry.internaldate) == (16, ("work",), 1000)
    changes = await bench.store.changes(ref, before)
    assert ([entry.uid for entry in changes.entries], changes.vanished) == ([4], ((2, 2),))
    box = await bench.store.mailbox("ann", "Drafts")
    size = sum([row.size for row in await rows_of(bench.store, ref, ALL_UIDS, Want.SIZE)])
    assert (box.messages, box.uidnext, box.size, box.recent, box.uidvalidity) == (3, 5, size, 3, done.uidvalidity)
    assert await bench.store.usage("ann") == Usage(size, 3)
    (lost,) = await lost_rows_of(bench.store, ref, ALL_UIDS, Want(0))
    assert lost.entry.uid == 2


async def test_into_another_mailbox(bench: Any) -> None:
    ref, sent = await bench.fill(2, "Drafts"), await bench.ref("Sent")
    before = await bench.modseq()
    done = await bench.store.replace(bench.op(), ref, 1, sent, NewMessage(bench.message("sent")), None)
    assert (await bench.uids(ref), await bench.uids(sent)) == ([2], [1])
    assert done.uidvalidity == (await bench.store.mailbox("ann", "Sent")).uidvalidity
    assert [entry.uid for entry in (await bench.store.changes(sent, before)).entries] == [1]
    assert (await bench.store.changes(ref, before)).vanished == ((1, 1),)
    assert (await bench.store.usage("ann")).messages == 2


async def test_a_repeat_returns_the_first_outcome(bench: Any) -> None:
    ref = await bench.fill(1, "Drafts")
    op, message = bench.op(), NewMessage(bench.message("again"))
    first = await bench.store.replace(op, ref, 1, ref, message, None)
    assert await bench.store.replace(op, ref, 1, ref, message, None) == first
    assert await bench.uids(ref) == [2]


async def test_only_what_is_more_counts_against_the_quota(bench: Any) -> None:
    ref = await bench.ref("Drafts")
    await bench.store.append(bench.op(), ref, [NewMessage(bench.message(size=1000))], None)

    async def by(octets: int, quota: int) -> Any:
        (uid,) = await bench.uids(ref)
        return await bench.store.replace(bench.op(), ref, uid, ref, NewMessage(bench.message(size=octets)), quota)

    await by(1100, 1100)
    assert await _reason(by(1101, 1100)) is Reason.OVER_QUOTA
    assert (await bench.store.usage("ann")).size == 1100
    # what is over already may still become less
    await by(1050, 100)
    assert (await bench.store.usage("ann")) == Usage(1050, 1)


async def test_all_or_nothing(bench: Any) -> None:
    ref = await bench.fill(1, "Drafts")
    sent = await bench.ref("Sent")
    good = NewMessage(bench.message())
    other = await bench.ref("INBOX", "bob")
    before = await bench.modseq()
    for uid, target, message, reason in (
        (9, sent, good, Reason.NO_SUCH_MESSAGE),
        (1, replace(sent, mailbox="M999"), good, Reason.NO_SUCH_MAILBOX),
        (1, sent, NewMessage(b"a\0"), Reason.UNKNOWN_CTE),
        (1, sent, NewMessage(b"x" * (INLINE_MAX + 1)), Reason.TOO_BIG),
        (1, sent, NewMessage(b"x", keywords=("no atom",)), Reason.BAD_NAME),
        (1, other, good, Reason.CANNOT),
    ):
        assert await _reason(bench.store.replace(bench.op(), ref, uid, target, message, None)) is reason
    gone = replace(ref, mailbox="M999")
    assert await _reason(bench.store.replace(bench.op(), gone, 1, sent, good, None)) is Reason.NO_SUCH_MAILBOX
    assert (await bench.uids(ref), await bench.uids(sent), await bench.modseq()) == ([1], [], before)


async def test_who_may(bench: Any) -> None:
    ref, sent = await bench.fill(1, "Drafts"), await bench.ref("Sent")
    message = NewMessage(bench.message("by bob"), 16)

    async def by_bob() -> Any:
        return await bench.store.replace(bench.op("bob"), ref, 1, sent, message, None)

    assert await _reason(by_bob()) is Reason.NO_SUCH_MAILBOX
    source = Rights.LOOKUP | Rights.READ | Rights.DELETE_MESSAGES
    await bench.store.set_acl(bench.op(), ref, "bob", source)
    await bench.store.set_acl(bench.op(), sent, "bob", Rights.LOOKUP | Rights.INSERT)
    assert await _reason(by_bob()) is Reason.NO_PERMISSION
    await bench.store.set_acl(bench.op(), ref, "bob", source | Rights.EXPUNGE)
    assert (await by_bob()).uids == (1,)
    # RFC 4314 §4: without the right to flags the message has none
    (entry,) = await entries_of(bench.store, sent, ALL_UIDS)
    assert (entry.flags, await bench.uids(ref)) == (0, [])


async def test_a_staged_body_in_the_place_of_another(bench: Any) -> None:
    ref = await bench.fill(1, "Drafts")
    raw = bench.message("long", INLINE_MAX + 5)
    staged = await bench.store.stage(bench.chunks(raw))
    done = await bench.store.replace(bench.op(), ref, 1, ref, NewMessage(staged), None)
    (row,) = await rows_of(bench.store, ref, ALL_UIDS, Want.SIZE)
    assert (row.entry.uid, row.size) == (done.uids[0], len(raw))
    assert await bench.store.read("ann", row.entry.email, INLINE_MAX - 5, INLINE_MAX + 5) == raw[INLINE_MAX - 5 :]
