"""Access control lists: who may do what to the mailboxes of others, and what is told to nobody."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mail.flags import ANSWERED, DELETED, FLAGGED, SEEN
from storage.model import ALL_RIGHTS, ALL_UIDS, ANYONE, SYSTEM, All, FlagMode, Grant, NewMessage, Rights, Want
from storage.port import Reason, Refused
from tests.reading import entries_of, lost_rows_of, rows_of

LR = Rights.LOOKUP | Rights.READ


async def _reason(call: Any) -> Reason:
    with pytest.raises(Refused) as refused:
        await call
    return refused.value.reason


async def _share(bench: Any, rights: Rights, name: str = "INBOX", who: str = "bob", **how: Any) -> Any:
    """The ref of ann's mailbox as bob has it, once it is shared with these rights."""
    await bench.store.set_acl(bench.op(), await bench.ref(name), who, rights, **how)
    return (await bench.store.mailbox("ann", name, "bob")).ref


async def test_a_list_is_kept_in_order_and_changed_by_its_entries(bench: Any) -> None:
    store, ref = bench.store, await bench.ref()
    assert await store.acl(ref) == ()
    await store.set_acl(bench.op(), ref, "zoe", LR)
    await store.set_acl(bench.op(), ref, "bob", LR)
    await store.set_acl(bench.op(), ref, "bob", Rights.WRITE | Rights.SEEN, FlagMode.ADD)
    await store.set_acl(bench.op(), ref, "bob", Rights.READ | Rights.POST, FlagMode.REMOVE)
    await store.set_acl(bench.op(), ref, "bob", Rights.WRITE, negative=True)
    await store.set_acl(bench.op(SYSTEM), ref, ANYONE, Rights.LOOKUP)
    assert await store.acl(ref) == (
        Grant(ANYONE, Rights.LOOKUP),
        Grant("bob", Rights.LOOKUP | Rights.WRITE | Rights.SEEN),
        Grant("bob", Rights.WRITE, negative=True),
        Grant("zoe", LR),
    )
    assert (await store.mailbox("ann", "INBOX", "bob")).rights == Rights.LOOKUP | Rights.SEEN
    await store.set_acl(bench.op(), ref, "bob", Rights.NONE)
    await store.set_acl(bench.op(), ref, "zoe", LR, FlagMode.REMOVE)
    assert await store.acl(ref) == (Grant(ANYONE, Rights.LOOKUP), Grant("bob", Rights.WRITE, negative=True))


async def test_the_owner_has_all_rights_and_no_entry(bench: Any) -> None:
    store, ref = bench.store, await bench.ref()
    assert await _reason(store.set_acl(bench.op(), ref, "ann", Rights.NONE)) is Reason.CANNOT
    await store.set_acl(bench.op(), ref, ANYONE, ALL_RIGHTS, negative=True)
    box = await store.mailbox("ann", "INBOX", "ann")
    assert (box.rights, box.ref.actor) == (ALL_RIGHTS, None)
    await bench.fill(1)
    assert len(await bench.uids(box.ref)) == 1
    await store.set_acl(bench.op(), ref, ANYONE, Rights.NONE, negative=True)


async def test_a_change_of_a_list_is_news_and_one_that_changes_nothing_is_none(bench: Any) -> None:
    store, ref = bench.store, await bench.ref()
    before = await bench.modseq()
    op = bench.op()
    await store.set_acl(op, ref, "bob", LR)
    first = await bench.modseq()
    assert first > before
    await store.set_acl(bench.op(), ref, "bob", LR)
    await store.set_acl(op, ref, "bob", LR)
    await store.set_acl(bench.op(), ref, "carl", LR, FlagMode.REMOVE)
    assert await bench.modseq() == first


async def test_who_is_given_rights_or_loses_them_hears_of_it(bench: Any) -> None:
    store, ref = bench.store, await bench.ref()
    for rights, negative in ((LR, False), (Rights.LOOKUP, True), (Rights.NONE, True), (Rights.NONE, False)):
        before = await bench.modseq("bob")
        waiting = asyncio.create_task(store.watch({"bob": before}, 30.0))
        await store.set_acl(bench.op(), ref, "bob", rights, negative=negative)
        assert (await asyncio.wait_for(waiting, 20.0))["bob"] > before
        heard = await bench.modseq("bob")
        await store.set_acl(bench.op(), ref, "bob", rights, negative=negative)
        await store.set_acl(bench.op(), ref, ANYONE, rights)
        assert await bench.modseq("bob") == heard
    # one that has no mail here yet
    await store.set_acl(bench.op(), ref, "zoe", LR)
    assert [box.name for box in await store.shared_with("zoe")] == ["INBOX"]


async def test_a_repeat_of_a_change_changes_nothing(bench: Any) -> None:
    store, ref = bench.store, await bench.ref()
    op = bench.op()
    await store.set_acl(op, ref, "bob", LR, FlagMode.ADD)
    await store.set_acl(bench.op(), ref, "bob", Rights.NONE)
    await store.set_acl(op, ref, "bob", LR, FlagMode.ADD)
    assert await store.acl(ref) == ()


async def test_a_mailbox_has_a_bounded_list(bench: Any, bound: Any) -> None:
    bound("GRANTS_PER_MAILBOX", 2)
    store, ref = bench.store, await bench.ref()
    for who in ("a", "b"):
        await store.set_acl(bench.op(), ref, who, LR)
    assert await _reason(store.set_acl(bench.op(), ref, "c", LR)) is Reason.LIMIT
    await store.set_acl(bench.op(), ref, "b", ALL_RIGHTS)
    assert len(await store.acl(ref)) == 2


async def test_an_account_has_boundedly_many_entries(bench: Any, bound: Any) -> None:
    store = bench.store
    for name, who in (("INBOX", "a"), ("INBOX", "b"), ("Sent", "a"), ("Archive", "a")):
        await store.set_acl(bench.op(), await bench.ref(name), who, LR)
    await store.set_acl(bench.op("bob"), await bench.ref("Sent", "bob"), "a", LR)
    bound("GRANTS_PER_ACCOUNT", 5)
    await store.set_acl(bench.op(), await bench.ref("Drafts"), "a", LR)
    modseq = await bench.modseq()
    with pytest.raises(Refused, match="account are shared in at most 5") as refused:
        await store.set_acl(bench.op(), await bench.ref("Sent"), "b", LR)
    assert refused.value.reason is Reason.LIMIT
    # a new mailbox is shared as the one above it
    assert await _reason(store.create_mailbox(bench.op(), "ann", "Archive/May")) is Reason.LIMIT
    assert await bench.modseq() == modseq
    assert await store.acl(await bench.ref("Sent")) == (Grant("a", LR),)
    await store.create_mailbox(bench.op(), "ann", "Trash/May")
    # what is there may be changed and taken away, and what is deleted counts no more
    await store.set_acl(bench.op(), await bench.ref("Sent"), "a", ALL_RIGHTS)
    await store.delete_mailbox(bench.op(), "ann", "Drafts")
    await store.set_acl(bench.op(), await bench.ref("Sent"), "b", LR)
    await store.set_acl(bench.op(), await bench.ref("INBOX"), "a", Rights.NONE)
    await store.create_mailbox(bench.op(), "ann", "Archive/May")
    assert await store.acl(await bench.ref("Archive/May")) == (Grant("a", LR),)
    bound("GRANTS_PER_ACCOUNT", 3)
    await store.set_acl(bench.op(), await bench.ref("Sent"), "b", ALL_RIGHTS)
    await store.set_acl(bench.op(), await bench.ref("Sent"), "a", Rights.NONE)
    assert await _reason(store.set_acl(bench.op(), await bench.ref("Sent"), "c", LR)) is Reason.LIMIT


async def test_what_is_shared_is_found_by_who_may_look_it_up(bench: Any) -> None:
    store = bench.store
    assert await store.shared_with("bob") == await store.shared_with("nobody") == ()
    for name, rights in (("Sent", LR), ("Drafts", Rights.READ), ("INBOX", Rights.LOOKUP)):
        await _share(bench, rights, name)
    await _share(bench, LR | Rights.WRITE, "Archive", ANYONE)
    await _share(bench, LR, "Trash", ANYONE)
    await _share(bench, Rights.LOOKUP, "Trash", negative=True)
    found = await store.shared_with("bob")
    assert [(box.name, box.rights) for box in found] == [
        ("Archive", LR | Rights.WRITE),
        ("INBOX", Rights.LOOKUP),
        ("Sent", LR),
    ]
    assert {(box.ref.account, box.ref.actor) for box in found} == {("ann", "bob")}
    assert [box.name for box in await store.shared_with("zoe")] == ["Archive", "Trash"]
    assert await store.shared_with("ann") == ()
    await store.set_acl(bench.op(), await bench.ref("Sent"), "bob", Rights.NONE)
    assert [box.name for box in await store.shared_with("bob")] == ["Archive", "INBOX"]


async def test_who_has_no_right_learns_nothing(bench: Any) -> None:
    store, hidden = bench.store, Reason.NO_SUCH_MAILBOX
    ref = await bench.fill(1)
    ref = type(ref)(ref.account, ref.mailbox, "bob")
    op = lambda: bench.op("bob")  # noqa: E731
    for account, name in (("ann", "INBOX"), ("ann", "nowhere"), ("nobody", "INBOX")):
        assert await _reason(store.mailbox(account, name, "bob")) is hidden
    for call in (
        entries_of(store, ref, ALL_UIDS),
        rows_of(store, ref, ALL_UIDS, Want.SIZE),
        lost_rows_of(store, ref, ALL_UIDS, Want.SIZE),
        store.search(ref, All()),
        store.acl(ref),
        store.open_mailbox(op(), ref, True),
        store.set_acl(op(), ref, "bob", ALL_RIGHTS),
        store.append(op(), ref, [NewMessage(b"a\r\n")], None),
        store.store_flags(op(), ref, ALL_UIDS, FlagMode.ADD, SEEN),
        store.expunge(op(), ref, ALL_UIDS),
        store.copy(op(), ref, ALL_UIDS, "INBOX", None, "bob"),
        store.move(op(), ref, ALL_UIDS, "INBOX", None, "bob"),
        store.delete_mailbox(op(), "ann", "Sent"),
        store.rename_mailbox(op(), "ann", "Sent", "Sent2"),
        # Nor whether there is such an account.
        store.delete_mailbox(op(), "nobody", "Sent"),
        store.rename_mailbox(op(), "nobody", "Sent", "Sent2"),
        store.set_annotations(op(), type(ref)("nobody", ref.mailbox), {"/shared/x": b""}),
        store.set_acl(op(), type(ref)("nobody", ref.mailbox), "bob", ALL_RIGHTS),
    ):
        assert await _reason(call) is hidden
    for account in ("ann", "nobody"):
        assert await _reason(store.create_mailbox(op(), account, "Sent/new")) is Reason.NO_PERMISSION
    own = await bench.ref(account="bob")
    assert await _reason(store.copy(op(), own, ALL_UIDS, "INBOX", None, "ann")) is hidden
    changes = await store.changes(ref, 0)
    assert changes.gone
    assert not changes.entries


async def test_who_may_look_up_alone_is_refused(bench: Any) -> None:
    store, denied = bench.store, Reason.NO_PERMISSION
    await bench.fill(1)
    ref = await _share(bench, Rights.LOOKUP)
    await _share(bench, Rights.LOOKUP, "Sent")
    op = lambda: bench.op("bob")  # noqa: E731
    for call in (
        entries_of(store, ref, ALL_UIDS),
        store.search(ref, All()),
        store.acl(ref),
        store.open_mailbox(op(), ref, False),
        store.set_acl(op(), ref, "bob", ALL_RIGHTS),
        store.append(op(), ref, [NewMessage(b"a\r\n")], None),
        store.store_flags(op(), ref, ALL_UIDS, FlagMode.ADD, SEEN),
        store.expunge(op(), ref, ALL_UIDS),
        store.copy(op(), ref, ALL_UIDS, "INBOX", None, "bob"),
        store.delete_mailbox(op(), "ann", "Sent"),
        store.rename_mailbox(op(), "ann", "Sent", "Sent/2"),
        store.create_mailbox(op(), "ann", "Sent/new"),
        store.create_mailbox(op(), "ann", "new"),
        store.open_account(op(), "ann"),
        store.subscribe(op(), "ann", "x", True),
    ):
        assert await _reason(call) is denied
    assert (await store.changes(ref, 0)).gone


async def test_who_may_read_reads_all_and_changes_nothing(bench: Any) -> None:
    store = bench.store
    await bench.fill(2, flags=DELETED)
    ref = await _share(bench, LR)
    opened = await store.open_mailbox(bench.op("bob"), ref, True)
    assert opened.mailbox.rights == LR
    assert opened.mailbox.ref.actor == "bob"
    assert [row.content for row in await rows_of(store, ref, ALL_UIDS, Want.CONTENT)] == [
        bench.message("0"),
        bench.message("1"),
    ]
    assert (await store.search(ref, All())).uids == ((1, 2),)
    (entry, _) = await entries_of(store, ref, ALL_UIDS)
    assert await store.read("ann", entry.email, 0, 4) == b"From"
    op = lambda: bench.op("bob")  # noqa: E731
    for call in (
        store.append(op(), ref, [NewMessage(b"a\r\n")], None),
        store.store_flags(op(), ref, ALL_UIDS, FlagMode.ADD, SEEN),
        store.expunge(op(), ref, ALL_UIDS),
        store.move(op(), ref, ALL_UIDS, "INBOX", None, "bob"),
    ):
        assert await _reason(call) is Reason.NO_PERMISSION
    assert len(await bench.uids(ref)) == 2


@pytest.mark.parametrize(
    ("rights", "mode", "flags", "words", "left"),
    [
        (Rights.SEEN, FlagMode.ADD, SEEN | FLAGGED, ("b",), (SEEN | ANSWERED, ("a",))),
        (Rights.WRITE, FlagMode.ADD, SEEN | FLAGGED, ("b",), (ANSWERED | FLAGGED, ("a", "b"))),
        (Rights.DELETE_MESSAGES, FlagMode.ADD, SEEN | DELETED, (), (ANSWERED | DELETED, ("a",))),
        (Rights.WRITE, FlagMode.REMOVE, SEEN | ANSWERED, ("a",), (0, ())),
        (Rights.SEEN, FlagMode.REPLACE, SEEN | FLAGGED, ("b",), (SEEN | ANSWERED, ("a",))),
        (Rights.WRITE, FlagMode.REPLACE, SEEN, ("b",), (0, ("b",))),
        (Rights.WRITE | Rights.SEEN, FlagMode.REPLACE, 0, (), (0, ())),
        (Rights.DELETE_MESSAGES, FlagMode.REPLACE, 0, (), (ANSWERED, ("a",))),
    ],
)
async def test_flags_without_their_right_stay_as_they_are(
    bench: Any, rights: Rights, mode: FlagMode, flags: int, words: tuple[str, ...], left: Any
) -> None:
    await bench.fill(1, flags=ANSWERED, keywords=("a",))
    ref = await _share(bench, LR | rights)
    stored = await bench.store.store_flags(bench.op("bob"), ref, ALL_UIDS, mode, flags, words)
    (entry,) = stored.entries
    assert (entry.flags, entry.keywords) == left
    assert [one[:4] for one in await entries_of(bench.store, ref, ALL_UIDS)] == [entry]
    box = await bench.store.mailbox("ann", "INBOX")
    assert (box.unseen, box.deleted) == (not entry.flags & SEEN, bool(entry.flags & DELETED))


@pytest.mark.parametrize(
    ("rights", "mode", "flags", "words"),
    [
        (Rights.SEEN, FlagMode.ADD, FLAGGED, ("b",)),
        (Rights.WRITE, FlagMode.ADD, SEEN | DELETED, ()),
        (Rights.SEEN | Rights.DELETE_MESSAGES, FlagMode.REMOVE, 0, ("b",)),
        (Rights.INSERT, FlagMode.REPLACE, 0, ()),
    ],
)
async def test_a_store_is_refused_where_no_flag_of_it_is_allowed(
    bench: Any, rights: Rights, mode: FlagMode, flags: int, words: tuple[str, ...]
) -> None:
    await bench.fill(1)
    ref = await _share(bench, LR | rights)
    call = bench.store.store_flags(bench.op("bob"), ref, ALL_UIDS, mode, flags, words)
    assert await _reason(call) is Reason.NO_PERMISSION


async def test_an_append_keeps_the_flags_that_it_may(bench: Any) -> None:
    store = bench.store
    ref = await _share(bench, LR | Rights.INSERT | Rights.SEEN)
    message = NewMessage(bench.message(), SEEN | FLAGGED | DELETED, ("a",))
    await store.append(bench.op("bob"), ref, [message], None)
    await _share(bench, LR | Rights.INSERT | Rights.WRITE)
    await store.append(bench.op("bob"), ref, [message], None)
    found = await entries_of(store, ref, ALL_UIDS)
    assert [(entry.flags, entry.keywords) for entry in found] == [(SEEN, ()), (FLAGGED, ("a",))]
    box = await store.mailbox("ann", "INBOX")
    assert (box.unseen, box.deleted) == (1, 0)
    assert (await store.usage("ann")).messages == 2
    assert (await store.usage("bob")).messages == 0
    op = bench.op("bob")
    assert await _reason(store.append(op, ref, [message], 1)) is Reason.OVER_QUOTA


async def test_who_may_expunge_need_not_delete(bench: Any) -> None:
    store = bench.store
    await bench.fill(2, flags=DELETED)
    ref = await _share(bench, LR | Rights.EXPUNGE)
    assert (await store.expunge(bench.op("bob"), ref, ((1, 1),))).uids == ((1, 1),)
    assert await bench.uids(ref) == [2]
    assert [row.entry.uid for row in await lost_rows_of(store, ref, ALL_UIDS, Want.SIZE)] == [1]


async def test_mailboxes_of_others_are_made_renamed_and_deleted(bench: Any) -> None:
    store = bench.store
    await _share(bench, LR | Rights.CREATE | Rights.DELETE_MAILBOX, "Archive")
    made = await store.create_mailbox(bench.op("bob"), "ann", "Archive/2026/May")
    assert made.ref.account == "ann"
    assert made.ref.actor == "bob"
    # RFC 4314 §4: as the one above it
    assert made.rights == LR | Rights.CREATE | Rights.DELETE_MAILBOX
    assert (await store.mailbox("ann", "Archive/2026", "bob")).rights == made.rights
    await store.rename_mailbox(bench.op("bob"), "ann", "Archive/2026/May", "Archive/May")
    assert (await store.mailbox("ann", "Archive/May", "bob")).ref == made.ref
    await store.delete_mailbox(bench.op("bob"), "ann", "Archive/May")
    assert [box.name for box in await store.shared_with("bob")] == ["Archive", "Archive/2026"]
    op = lambda: bench.op("bob")  # noqa: E731
    for call in (
        store.create_mailbox(op(), "ann", "Archive/x", "\\Flagged"),
        store.rename_mailbox(op(), "ann", "Archive", "Elsewhere"),
    ):
        assert await _reason(call) is Reason.NO_PERMISSION
    await _share(bench, ALL_RIGHTS)
    assert await _reason(store.rename_mailbox(op(), "ann", "INBOX", "Archive/old")) is Reason.NO_PERMISSION


async def test_a_list_stays_with_its_mailbox(bench: Any) -> None:
    store = bench.store
    await _share(bench, LR, "Archive")
    await store.rename_mailbox(bench.op(), "ann", "Archive", "Old")
    assert [box.name for box in await store.shared_with("bob")] == ["Old"]
    await store.delete_mailbox(bench.op(), "ann", "Old")
    assert await store.shared_with("bob") == ()
    await store.create_mailbox(bench.op(), "ann", "Old")
    assert await store.acl(await bench.ref("Old")) == ()


async def test_who_loses_the_right_to_read_hears_that_the_mailbox_is_gone(bench: Any) -> None:
    store = bench.store
    await bench.fill(1)
    ref = await _share(bench, LR)
    seen = await store.changes(ref, 0)
    assert not seen.gone
    await store.set_acl(bench.op(), await bench.ref(), "bob", Rights.READ, FlagMode.REMOVE)
    assert dict(await store.watch({"ann": seen.through}, 5.0))
    assert (await store.changes(ref, seen.through)).gone
    assert await _reason(entries_of(store, ref, ALL_UIDS)) is Reason.NO_PERMISSION


async def test_who_may_administer_shares_on(bench: Any) -> None:
    store = bench.store
    ref = await _share(bench, LR | Rights.ADMINISTER)
    await store.set_acl(bench.op("bob"), ref, "zoe", LR)
    assert await store.acl(ref) == (Grant("bob", LR | Rights.ADMINISTER), Grant("zoe", LR))
    assert await _reason(store.set_acl(bench.op("bob"), ref, "ann", Rights.NONE)) is Reason.CANNOT
    await store.set_acl(bench.op("bob"), ref, "bob", Rights.NONE)
    assert await _reason(store.acl(ref)) is Reason.NO_SUCH_MAILBOX


async def test_a_purge_takes_what_was_shared_by_and_with_the_account(bench: Any) -> None:
    store = bench.store
    await _share(bench, LR)
    await _share(bench, LR, "Sent", ANYONE)
    await store.set_acl(bench.op("bob"), await bench.ref(account="bob"), "ann", LR)
    await store.set_acl(bench.op("bob"), await bench.ref("Sent", "bob"), "zoe", LR)
    while not await store.purge_account(bench.op(SYSTEM), "bob"):
        pass
    assert await store.shared_with("ann") == ()
    assert [(box.ref.account, box.name) for box in await store.shared_with("zoe")] == [("ann", "Sent")]
    assert await store.acl(await bench.ref()) == ()
    assert await store.acl(await bench.ref("Sent")) == (Grant(ANYONE, LR),)
