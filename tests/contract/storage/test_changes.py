"""Flags, copies, moves, expunges, and how others hear of them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from storage.model import ALL_UIDS, FlagMode, NewMessage, Rights, Want
from storage.port import Reason, Refused
from tests.reading import entries_of, lost_rows_of, rows_of


async def _reason(call: Any) -> Reason:
    with pytest.raises(Refused) as refused:
        await call
    return refused.value.reason


async def test_flags_replace_add_remove(bench: Any) -> None:
    ref = await bench.fill(3, flags=1, keywords=("a",))
    store = bench.store
    for mode, flags, words, expected in (
        (FlagMode.ADD, 4, ("b",), (5, ("a", "b"))),
        (FlagMode.REMOVE, 1, ("A", "unknown"), (4, ("b",))),
        (FlagMode.REPLACE, 8 | 1, ("c", "a"), (9, ("a", "c"))),
        (FlagMode.REPLACE, 0, (), (0, ())),
    ):
        before = await bench.modseq()
        stored = await store.store_flags(bench.op(), ref, ((1, 2),), mode, flags, words)
        assert [(entry.uid, entry.flags, entry.keywords) for entry in stored.entries] == [
            (1, *expected),
            (2, *expected),
        ]
        assert {entry.modseq for entry in stored.entries} == {stored.modseq}
        assert stored.modseq > before
        assert stored.entries == tuple(entry[:4] for entry in await entries_of(store, ref, ((1, 2),)))
        box = await store.mailbox("ann", "INBOX")
        assert box.highest_modseq == stored.modseq
        entries = await entries_of(store, ref, ALL_UIDS)
        assert box.unseen == sum(not entry.flags & 1 for entry in entries)
        assert box.deleted == sum(bool(entry.flags & 8) for entry in entries)
    assert (await entries_of(store, ref, ((3, 3),)))[0].flags == 1
    assert "unknown" not in (await store.open_mailbox(bench.op(), ref, False)).keywords


async def test_what_does_not_change_keeps_its_modseq(bench: Any) -> None:
    ref = await bench.fill(2)
    first = await bench.store.store_flags(bench.op(), ref, ((1, 1),), FlagMode.ADD, 4)
    both = await bench.store.store_flags(bench.op(), ref, ((1, 9),), FlagMode.ADD, 4)
    assert [entry.modseq for entry in both.entries] == [first.modseq, both.modseq]
    again = await bench.store.store_flags(bench.op(), ref, ALL_UIDS, FlagMode.ADD, 4)
    assert again.entries == both.entries
    assert await bench.modseq() == both.modseq
    assert (await bench.store.store_flags(bench.op(), ref, ((7, 9),), FlagMode.ADD, 4)).entries == ()


async def test_unchanged_since(bench: Any) -> None:
    ref = await bench.fill(4)
    since = await bench.modseq()
    await bench.store.store_flags(bench.op(), ref, ((2, 3),), FlagMode.ADD, 4)
    stored = await bench.store.store_flags(bench.op(), ref, ALL_UIDS, FlagMode.ADD, 1, (), since)
    assert stored.modified == ((2, 3),)
    assert [entry.flags for entry in stored.entries] == [1, 4, 4, 1]


async def test_keyword_limit_on_store(bench: Any, bound: Any) -> None:
    bound("KEYWORDS_PER_ACCOUNT", 2)
    ref = await bench.fill(1)
    await bench.store.store_flags(bench.op(), ref, ALL_UIDS, FlagMode.ADD, 0, ("a", "b"))
    call = bench.store.store_flags(bench.op(), ref, ALL_UIDS, FlagMode.ADD, 1, ("c",))
    assert await _reason(call) is Reason.LIMIT
    assert (await entries_of(bench.store, ref, ALL_UIDS))[0].flags == 0


async def test_copy_shares_the_email(bench: Any, flat: Any) -> None:
    ref = await bench.fill(5, flags=1 | 8, keywords=("k",), internaldate=77)
    await bench.store.expunge(bench.op(), ref, ((3, 3),))
    bench.clock.advance(10)
    copied = await bench.store.copy(bench.op(), ref, ((2, 4), (9, 12)), "Archive", None)
    assert (flat(copied.source), flat(copied.target)) == ([2, 4], [1, 2])
    target = await bench.store.mailbox("ann", "Archive")
    assert copied.uidvalidity == target.uidvalidity
    assert (target.messages, target.unseen, target.deleted, target.recent, target.uidnext) == (2, 0, 2, 2, 3)
    sources = {entry.uid: entry for entry in await entries_of(bench.store, ref, ALL_UIDS)}
    for uid, entry in zip((2, 4), await entries_of(bench.store, target.ref, ALL_UIDS), strict=True):
        assert entry.email == sources[uid].email
        assert (entry.flags, entry.keywords, entry.internaldate, entry.modseq) == (9, ("k",), 77, copied.modseq)
        assert entry.savedate == int(bench.clock.now())
    nothing = await bench.store.copy(bench.op(), ref, ((50, 60),), "Archive", None)
    assert (nothing.source, nothing.target, nothing.uidvalidity) == ((), (), target.uidvalidity)
    assert await _reason(bench.store.copy(bench.op(), ref, ALL_UIDS, "None", None)) is Reason.NO_SUCH_MAILBOX


async def test_copy_keeps_the_quota(bench: Any) -> None:
    ref = await bench.fill(2)
    size = (await bench.store.usage("ann")).size
    assert await _reason(bench.store.copy(bench.op(), ref, ALL_UIDS, "Sent", 2 * size - 1)) is Reason.OVER_QUOTA
    assert (await bench.store.mailbox("ann", "Sent")).uidnext == 1
    assert (await bench.store.copy(bench.op(), ref, ALL_UIDS, "Sent", 2 * size)).target == ((1, 2),)
    # Into itself: the new ones are not copied again.
    assert (await bench.store.copy(bench.op(), ref, ALL_UIDS, "INBOX", None)).target == ((3, 4),)


async def test_move_is_one_change(bench: Any) -> None:
    ref = await bench.fill(3)
    before = await bench.store.usage("ann")
    since = (await bench.store.mailbox("ann", "INBOX")).highest_modseq
    moved = await bench.store.move(bench.op(), ref, ((2, 3),), "Trash")
    assert (moved.source, moved.target) == (((2, 3),), ((1, 2),))
    assert await bench.store.usage("ann") == before
    changes = await bench.store.changes(ref, since)
    assert (changes.entries, changes.vanished, changes.through) == ((), ((2, 3),), moved.modseq)
    trash = await bench.ref("Trash")
    assert {entry.modseq for entry in await entries_of(bench.store, trash, ALL_UIDS)} == {moved.modseq}
    assert await _reason(bench.store.move(bench.op(), ref, ALL_UIDS, "x")) is Reason.NO_SUCH_MAILBOX


async def test_a_move_within_a_mailbox_gives_new_uids(bench: Any) -> None:
    # RFC 6851 §3.1
    ref = await bench.fill(4)
    await bench.store.store_flags(bench.op(), ref, ((2, 3),), FlagMode.ADD, 8, ("hot",))
    before, was = await bench.store.usage("ann"), await bench.store.mailbox("ann", "INBOX")
    op = bench.op()
    moved = await bench.store.move(op, ref, ((2, 3),), "inbox", 1)
    assert (moved.source, moved.target) == (((2, 3),), ((5, 6),))
    assert await bench.store.move(op, ref, ((2, 3),), "inbox", 1) == moved
    assert await bench.store.usage("ann") == before
    changes = await bench.store.changes(ref, was.highest_modseq)
    assert [(entry.uid, entry.modseq, entry.flags, entry.keywords) for entry in changes.entries] == [
        (uid, moved.modseq, 8, ("hot",)) for uid in (5, 6)
    ]
    assert (changes.vanished, changes.through) == (((2, 3),), moved.modseq)
    now = await bench.store.mailbox("ann", "INBOX")
    assert (now.messages, now.unseen, now.deleted, now.recent, now.size) == (
        was.messages,
        was.unseen,
        was.deleted,
        was.recent,
        was.size,
    )
    assert await bench.uids(ref) == [1, 4, 5, 6]
    # all of it, and what the operations left can be read
    assert (await bench.store.move(bench.op(), ref, ALL_UIDS, "INBOX")).target == ((7, 10),)
    await bench.store.sweep(grace=0.0)
    assert [entry.uid for entry in await entries_of(bench.store, ref, ALL_UIDS)] == [7, 8, 9, 10]
    rows = await rows_of(bench.store, ref, ALL_UIDS, Want.CONTENT)
    assert len(rows) == 4
    assert all(row.content for row in rows)


@pytest.mark.parametrize("to", [None, "bob"])
async def test_a_copy_of_so_many_messages_is_of_no_fewer(bench: Any, to: str | None) -> None:
    # RFC 9051 §6.4.7, RFC 2180 §4.4.1
    ref = await bench.fill(4)
    await bench.store.store_flags(bench.op(), ref, ((2, 2),), FlagMode.ADD, 8)
    await bench.store.expunge(bench.op(), ref, ALL_UIDS)
    if to is not None:
        sent = await bench.ref("Sent", to)
        await bench.store.set_acl(bench.op(to), sent, "ann", Rights.READ | Rights.INSERT)
    for call in (bench.store.copy, bench.store.move):
        for uids in (((1, 4),), ((2, 2),)):
            messages = sum(last - first + 1 for first, last in uids)
            assert await _reason(call(bench.op(), ref, uids, "Sent", None, to, messages)) is Reason.NO_SUCH_MESSAGE
        assert await bench.uids(ref) == [1, 3, 4]
    assert (await bench.store.mailbox(to or "ann", "Sent")).uidnext == 1
    assert (await bench.store.copy(bench.op(), ref, ((1, 4),), "Sent", None, to, 3)).source == ((1, 1), (3, 4))
    assert (await bench.store.move(bench.op(), ref, ((1, 3),), "Sent", None, to, 2)).source == ((1, 1), (3, 3))
    assert await bench.uids(ref) == [4]


async def test_expunge_takes_the_deleted_of_the_set(bench: Any) -> None:
    ref = await bench.fill(6)
    await bench.store.store_flags(bench.op(), ref, ((1, 2), (5, 6)), FlagMode.ADD, 8)
    expunged = await bench.store.expunge(bench.op(), ref, ((2, 5),))
    assert expunged.uids == ((2, 2), (5, 5))
    assert await bench.uids(ref) == [1, 3, 4, 6]
    box = await bench.store.mailbox("ann", "INBOX")
    assert (box.messages, box.deleted, box.uidnext, box.recent) == (4, 2, 7, 4)
    assert box.size == (await bench.store.usage("ann")).size
    modseq = await bench.modseq()
    assert (await bench.store.expunge(bench.op(), ref, ((2, 5),))).uids == ()
    assert await bench.modseq() == modseq
    await bench.deliver()
    assert (await bench.uids(ref))[-1] == 7


async def test_lost_messages_can_be_read_until_swept(bench: Any) -> None:
    ref = await bench.fill(2, flags=8, keywords=("k",))
    entries = await entries_of(bench.store, ref, ALL_UIDS)
    await bench.store.expunge(bench.op(), ref, ((1, 1),))
    await bench.store.move(bench.op(), ref, ((2, 2),), "Sent")
    assert await rows_of(bench.store, ref, ALL_UIDS, Want.SIZE) == ()
    lost = await lost_rows_of(bench.store, ref, ALL_UIDS, Want.CONTENT)
    assert tuple(row.entry for row in lost) == entries
    assert [row.content for row in lost] == [bench.message("0"), bench.message("1")]
    bench.clock.advance(3601)
    await bench.store.sweep()
    assert await lost_rows_of(bench.store, ref, ALL_UIDS, Want.SIZE) == ()
    assert await _reason(bench.store.read("ann", entries[0].email, 0, 9)) is Reason.NO_SUCH_MESSAGE
    # The moved one lives on.
    assert await bench.store.read("ann", entries[1].email, 0, 999) == bench.message("1")


async def test_changes_tell_everything_once(bench: Any) -> None:
    ref = await bench.ref()
    since = (await bench.store.mailbox("ann", "INBOX")).highest_modseq
    await bench.fill(4, flags=8)
    await bench.store.store_flags(bench.op(), ref, ((2, 2),), FlagMode.ADD, 4)
    await bench.store.expunge(bench.op(), ref, ((3, 3),))
    changes = await bench.store.changes(ref, since)
    assert [(entry.uid, entry.flags) for entry in changes.entries] == [(1, 8), (4, 8), (2, 12)]
    assert (changes.vanished, changes.more, changes.gone) == (((3, 3),), False, False)
    assert changes.through == (await bench.store.mailbox("ann", "INBOX")).highest_modseq
    after = await bench.store.changes(ref, changes.through)
    assert (after.entries, after.vanished, after.through, after.more) == ((), (), changes.through, False)
    # News of another mailbox is none of this one.
    await bench.fill(1, "Sent")
    assert (await bench.store.changes(ref, changes.through)).entries == ()


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
async def test_pages_of_changes_lose_nothing(bench: Any, flat: Any, limit: int) -> None:
    ref = await bench.ref()
    await bench.fill(5, flags=8)
    for n in range(4):
        await bench.deliver(flags=8)
        await bench.store.store_flags(bench.op(), ref, ((n + 1, n + 2),), FlagMode.ADD, 4)
        await bench.store.expunge(bench.op(), ref, ((2 * n + 1, 2 * n + 1),))
    seen: dict[int, int] = {}
    since, modseqs = 0, [0]
    for _ in range(50):
        page = await bench.store.changes(ref, since, limit)
        assert page.through > since or not page.more
        for entry in page.entries:
            assert since < entry.modseq <= page.through
            modseqs.append(entry.modseq)
            seen[entry.uid] = entry.flags
        gone = set(flat(page.vanished))
        assert gone.isdisjoint(entry.uid for entry in page.entries)
        for uid in gone:
            seen.pop(uid, None)
        since = page.through
        if not page.more:
            break
    assert modseqs == sorted(modseqs)
    assert seen == {entry.uid: entry.flags for entry in await entries_of(bench.store, ref, ALL_UIDS)}


async def test_a_history_that_was_cut_tells_all_that_is_not_there(bench: Any, flat: Any, bound: Any) -> None:
    bound("VANISHED_PER_MAILBOX", 4)
    ref = await bench.fill(20, flags=8)
    since = await bench.modseq()
    for uid in range(1, 20, 2):
        await bench.store.expunge(bench.op(), ref, ((uid, uid),))
    assert set(flat((await bench.store.changes(ref, since)).vanished)) == set(range(1, 20, 2))
    latest = (await bench.store.mailbox("ann", "INBOX")).highest_modseq
    assert flat((await bench.store.changes(ref, latest - 1)).vanished) == [19]


async def test_watch_is_at_once_or_waits(bench: Any) -> None:
    now = await bench.modseq()
    assert dict(await bench.store.watch({"ann": now - 1, "nobody": 0}, 5)) == {"ann": now}
    assert dict(await bench.store.watch({"ann": now, "nobody": 0}, 0.01)) == {}
    waits = [asyncio.create_task(bench.store.watch({"ann": now, "bob": 10**6}, 60)) for _ in range(3)]
    await asyncio.sleep(0)
    await bench.deliver("bob", "ann")
    for wait in waits:
        assert dict(await wait) == {"ann": now + 1}
    # Every kind of change is news.
    ref = await bench.ref()
    for call in (
        lambda: bench.store.append(bench.op(), ref, [NewMessage(b"x")], None),
        lambda: bench.store.store_flags(bench.op(), ref, ALL_UIDS, FlagMode.ADD, 8),
        lambda: bench.store.copy(bench.op(), ref, ALL_UIDS, "Sent", None),
        lambda: bench.store.expunge(bench.op(), ref, ((1, 1),)),
        lambda: bench.store.move(bench.op(), ref, ALL_UIDS, "Junk"),
        lambda: bench.store.create_mailbox(bench.op(), "ann", "new"),
        lambda: bench.store.rename_mailbox(bench.op(), "ann", "new", "newer"),
        lambda: bench.store.delete_mailbox(bench.op(), "ann", "newer"),
    ):
        before = await bench.modseq()
        waiting = asyncio.create_task(bench.store.watch({"ann": before}, 60))
        await asyncio.sleep(0)
        await call()
        assert (await waiting)["ann"] > before


async def test_a_watched_account_may_be_opened_later(bench: Any) -> None:
    waiting = asyncio.create_task(bench.store.watch({"carl": 0}, 60))
    await asyncio.sleep(0)
    await bench.store.open_account(bench.op("carl"), "carl")
    assert "carl" in await waiting


async def test_ten_thousand_messages_in_one_change(bench: Any) -> None:
    ref = await bench.ref()
    for _ in range(10):
        await bench.store.append(bench.op(), ref, [NewMessage(b"Subject: x\r\n\r\n")] * 1000, None)
    odd = tuple((uid, uid) for uid in range(1, 10_001, 2))
    stored = await bench.store.store_flags(bench.op(), ref, odd, FlagMode.ADD, 8, ("k",))
    assert len(stored.entries) == 5000
    copied = await bench.store.copy(bench.op(), ref, ALL_UIDS, "Archive", None)
    assert copied.target == ((1, 10_000),)
    expunged = await bench.store.expunge(bench.op(), ref, ALL_UIDS)
    assert expunged.uids == odd
    changes = await bench.store.changes(ref, 0, 100)
    assert changes.more or len(changes.entries) + len(changes.vanished) >= 5000
    archive = await bench.ref("Archive")
    pages, last = 0, 0
    while page := await entries_of(bench.store, archive, ((last + 1, 0xFFFF_FFFF),)):
        last, pages = page[-1].uid, pages + 1
    assert (last, pages) == (10_000, 3)


async def test_only_the_owner_or_the_system_writes(bench: Any) -> None:
    ref = await bench.fill(1)
    store = bench.store
    # Nothing is shared: of a mailbox another learns not even that it is there.
    for call in (
        store.append(bench.op("bob"), ref, [NewMessage(b"x")], None),
        store.store_flags(bench.op("bob"), ref, ALL_UIDS, FlagMode.ADD, 1),
        store.copy(bench.op("bob"), ref, ALL_UIDS, "Sent", None),
        store.move(bench.op("bob"), ref, ALL_UIDS, "Sent"),
        store.expunge(bench.op("bob"), ref, ALL_UIDS),
        store.open_mailbox(bench.op("bob"), ref, True),
        store.delete_mailbox(bench.op("bob"), "ann", "Sent"),
        store.rename_mailbox(bench.op("bob"), "ann", "Sent", "x"),
    ):
        assert await _reason(call) is Reason.NO_SUCH_MAILBOX
    for call in (
        store.create_mailbox(bench.op("bob"), "ann", "x"),
        store.subscribe(bench.op("bob"), "ann", "x", True),
        store.open_account(bench.op("bob"), "ann"),
        store.purge_account(bench.op("bob"), "ann"),
    ):
        assert await _reason(call) is Reason.NO_PERMISSION
    stolen = replace(ref, account="bob")
    assert await _reason(store.expunge(bench.op("bob"), stolen, ALL_UIDS)) is Reason.NO_SUCH_MAILBOX


async def test_one_change_of_many_messages_is_one_page(bench: Any) -> None:
    ref = await bench.fill(9)
    since = await bench.modseq()
    stored = await bench.store.store_flags(bench.op(), ref, ((2, 8),), FlagMode.ADD, 4)
    await bench.store.store_flags(bench.op(), ref, ((1, 1),), FlagMode.ADD, 4)
    page = await bench.store.changes(ref, since, 2)
    assert [entry.uid for entry in page.entries] == [2, 3, 4, 5, 6, 7, 8]
    assert (page.through, page.more) == (stored.modseq, True)
    rest = await bench.store.changes(ref, page.through, 2)
    assert ([entry.uid for entry in rest.entries], rest.more) == ([1], False)


async def test_after_the_last_page_watch_is_silent(bench: Any) -> None:
    ref = await bench.fill(3)
    await bench.fill(2, "Sent")
    first = await bench.store.changes(ref, 0, 1)
    assert first.more or len(first.entries) == 3
    page = await bench.store.changes(ref, first.through)
    assert not page.more
    assert await bench.store.watch({"ann": page.through}, 0) == {}
    await bench.store.store_flags(bench.op(), ref, ((2, 2),), FlagMode.ADD, 1)
    assert await bench.store.watch({"ann": page.through}, 0)
    later = await bench.store.changes(ref, page.through)
    assert [entry.uid for entry in later.entries] == [2]
