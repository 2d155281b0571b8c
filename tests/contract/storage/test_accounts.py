"""Accounts and mailboxes: what ``storage.port`` says of them."""

from __future__ import annotations

from typing import Any

import pytest

from storage import limits
from storage.model import ALL_UIDS, SYSTEM, NewMessage, Usage
from storage.port import Reason, Refused
from tests.reading import entries_of, rows_of


async def test_an_account_begins_with_its_mailboxes(bench: Any) -> None:
    found = await bench.store.list_mailboxes("ann")
    assert [(box.name, box.special_use) for box in found.mailboxes] == [
        ("INBOX", None),
        ("Archive", "\\Archive"),
        ("Drafts", "\\Drafts"),
        ("Junk", "\\Junk"),
        ("Sent", "\\Sent"),
        ("Trash", "\\Trash"),
    ]
    assert found.subscriptions == {box.name for box in found.mailboxes}
    assert all(box.highest_modseq >= 1 and box.uidnext == 1 and box.messages == 0 for box in found.mailboxes)
    assert len({box.uidvalidity for box in found.mailboxes}) == 6


async def test_opening_again_changes_nothing(bench: Any) -> None:
    before = await bench.store.list_mailboxes("ann"), await bench.modseq()
    await bench.store.open_account(bench.op(), "ann")
    assert (await bench.store.list_mailboxes("ann"), await bench.modseq()) == before


async def test_an_unknown_account_is_refused_and_uses_nothing(bench: Any) -> None:
    with pytest.raises(Refused) as refused:
        await bench.store.list_mailboxes("nobody")
    assert refused.value.reason is Reason.NO_SUCH_ACCOUNT
    assert await bench.store.usage("nobody") == Usage(0, 0)


async def test_what_many_use_is_told_in_their_order(bench: Any, bound: Any) -> None:
    await bench.fill(3)
    await bench.deliver("ann", "bob")
    ann, bob = await bench.store.usage("ann"), await bench.store.usage("bob")
    assert (ann.messages, bob.messages) == (4, 1)
    assert ann.size > bob.size > 0
    asked = ["bob", "nobody", "ann", "bob"]
    assert await bench.store.usages(asked) == (bob, Usage(0, 0), ann, bob)
    assert await bench.store.usages([]) == ()
    bound("USAGES_AT_ONCE", 3)
    with pytest.raises(Refused) as refused:
        await bench.store.usages(asked)
    assert refused.value.reason is Reason.LIMIT
    assert len(await bench.store.usages(asked[:3])) == 3


async def test_a_purged_account_is_gone_for_good(bench: Any) -> None:
    ref = await bench.fill(3)
    await bench.deliver("ann", "bob")
    while not await bench.store.purge_account(bench.op(SYSTEM), "ann"):
        continue
    assert await bench.store.usage("ann") == Usage(0, 0)
    for call in (
        bench.store.open_account(bench.op(SYSTEM), "ann"),
        bench.store.list_mailboxes("ann"),
        bench.store.create_mailbox(bench.op(), "ann", "x"),
    ):
        with pytest.raises(Refused) as refused:
            await call
        assert refused.value.reason is Reason.NO_SUCH_ACCOUNT
    with pytest.raises(Refused):
        await entries_of(bench.store, ref, ALL_UIDS)
    (outcome,) = await bench.store.accept([bench.delivery("ann")])
    assert isinstance(outcome, Refused)
    assert outcome.reason is Reason.NO_SUCH_ACCOUNT
    assert (await bench.store.changes(ref, 0)).gone
    # What was shared with another account is still there.
    row = (await entries_of(bench.store, await bench.ref(account="bob"), ALL_UIDS))[0]
    assert await bench.store.read("bob", row.email, 0, 1000) == bench.message()


async def test_a_purge_of_much_takes_several_bounded_calls(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = await bench.fill(1500)
    await bench.store.copy(bench.op(), ref, ALL_UIDS, "Archive", None)
    await bench.store.expunge(bench.op(), ref, ALL_UIDS)
    calls = 1
    while not await bench.store.purge_account(bench.op(SYSTEM), "ann"):
        calls += 1
        assert calls < 20
    assert (await bench.store.sweep(0)).emails == 0


async def test_usage_counts_every_entry(bench: Any) -> None:
    size = len(bench.message("0"))
    ref = await bench.fill(1)
    await bench.store.copy(bench.op(), ref, ALL_UIDS, "Sent", None)
    assert await bench.store.usage("ann") == Usage(2 * size, 2)
    await bench.store.delete_mailbox(bench.op(), "ann", "Sent")
    assert await bench.store.usage("ann") == Usage(size, 1)


async def test_inbox_is_found_in_any_case(bench: Any) -> None:
    assert await bench.store.mailbox("ann", "inBox") == await bench.store.mailbox("ann", "INBOX")
    made = await bench.store.create_mailbox(bench.op(), "ann", "inbox/a")
    assert made.name == "INBOX/a"
    with pytest.raises(Refused) as refused:
        await bench.store.mailbox("ann", "sent")
    assert refused.value.reason is Reason.NO_SUCH_MAILBOX


async def test_creating_makes_the_superiors(bench: Any) -> None:
    made = await bench.store.create_mailbox(bench.op(), "ann", "a/b/c", "\\All")
    names = {box.name: box.special_use for box in (await bench.store.list_mailboxes("ann")).mailboxes}
    assert names["a"] is names["a/b"] is None
    assert names["a/b/c"] == made.special_use == "\\All"
    with pytest.raises(Refused) as refused:
        await bench.store.create_mailbox(bench.op(), "ann", "a/b")
    assert refused.value.reason is Reason.ALREADY_EXISTS


async def test_a_special_use_belongs_to_one_mailbox(bench: Any) -> None:
    with pytest.raises(Refused) as refused:
        await bench.store.create_mailbox(bench.op(), "ann", "Other", "\\Sent")
    assert refused.value.reason is Reason.CANNOT
    await bench.store.delete_mailbox(bench.op(), "ann", "Sent")
    assert (await bench.store.create_mailbox(bench.op(), "ann", "Other", "\\Sent")).special_use == "\\Sent"


@pytest.mark.parametrize(
    "name",
    ["", "/a", "a/", "a//b", "a\nb", "a\x7fb", "a\x00", "x" * 1025, "/".join("a" * 65), "\ud800", "é" * 513],
)
async def test_bad_names(bench: Any, name: str) -> None:
    with pytest.raises(Refused) as refused:
        await bench.store.create_mailbox(bench.op(), "ann", name)
    assert refused.value.reason is Reason.BAD_NAME


@pytest.mark.parametrize("name", ["x" * 1024, "/".join("a" * 64), "../../etc", "é" * 512, "%*'\";--", "𝄞"])
async def test_good_names(bench: Any, name: str) -> None:
    await bench.store.create_mailbox(bench.op(), "ann", name)
    assert (await bench.store.mailbox("ann", name)).name == name


async def test_a_name_composed_or_not_is_one(bench: Any) -> None:
    # RFC 9051 §5.1
    made = await bench.store.create_mailbox(bench.op(), "ann", "Cafe\u0301/x")
    assert made.name == "Caf\u00e9/x"
    for name in ("Cafe\u0301/x", "Caf\u00e9/x"):
        assert (await bench.store.mailbox("ann", name)).ref == made.ref
        with pytest.raises(Refused) as refused:
            await bench.store.create_mailbox(bench.op(), "ann", name)
        assert refused.value.reason is Reason.ALREADY_EXISTS
    await bench.store.subscribe(bench.op(), "ann", "Cafe\u0301/x", True)
    assert "Caf\u00e9/x" in (await bench.store.list_mailboxes("ann")).subscriptions
    await bench.store.rename_mailbox(bench.op(), "ann", "Cafe\u0301", "The\u0301")
    assert (await bench.store.mailbox("ann", "Th\u00e9/x")).ref == made.ref
    await bench.store.delete_mailbox(bench.op(), "ann", "The\u0301/x")


async def test_mailboxes_per_account(bench: Any, bound: Any) -> None:
    bound("MAILBOXES_PER_ACCOUNT", 8)
    await bench.store.create_mailbox(bench.op(), "ann", "a/b")
    with pytest.raises(Refused) as refused:
        await bench.store.create_mailbox(bench.op(), "ann", "c")
    assert refused.value.reason is Reason.LIMIT


async def test_deleting_leaves_the_inferiors(bench: Any) -> None:
    await bench.store.create_mailbox(bench.op(), "ann", "a/b")
    await bench.store.delete_mailbox(bench.op(), "ann", "a")
    assert [box.name for box in (await bench.store.list_mailboxes("ann")).mailboxes if box.name[0] == "a"] == ["a/b"]
    with pytest.raises(Refused) as refused:
        await bench.store.delete_mailbox(bench.op(), "ann", "a")
    assert refused.value.reason is Reason.NO_SUCH_MAILBOX
    # The name that is left of it can still be renamed.
    await bench.store.rename_mailbox(bench.op(), "ann", "a", "z")
    assert (await bench.store.mailbox("ann", "z/b")).name == "z/b"


async def test_deleting_takes_the_messages_and_ends_the_session(bench: Any) -> None:
    ref = await bench.fill(2, "Archive")
    since = (await bench.store.mailbox("ann", "Archive")).highest_modseq
    before = await bench.modseq()
    await bench.store.delete_mailbox(bench.op(), "ann", "Archive")
    assert await bench.modseq() > before
    changes = await bench.store.changes(ref, since)
    assert changes.gone
    with pytest.raises(Refused) as refused:
        await rows_of(bench.store, ref, ALL_UIDS, 1)
    assert refused.value.reason is Reason.NO_SUCH_MAILBOX
    with pytest.raises(Refused) as refused:
        await bench.store.delete_mailbox(bench.op(), "ann", "inbox")
    assert refused.value.reason is Reason.CANNOT


async def test_a_name_made_again_has_a_new_uidvalidity(bench: Any) -> None:
    seen = {box.uidvalidity for box in (await bench.store.list_mailboxes("ann")).mailboxes}
    for _ in range(3):
        made = await bench.store.create_mailbox(bench.op(), "ann", "again")
        assert made.uidvalidity > max(seen)
        seen.add(made.uidvalidity)
        await bench.store.delete_mailbox(bench.op(), "ann", "again")


async def test_renaming_moves_the_inferiors_and_keeps_ids(bench: Any) -> None:
    await bench.store.create_mailbox(bench.op(), "ann", "a/b/c")
    await bench.store.create_mailbox(bench.op(), "ann", "ab")
    before = await bench.store.mailbox("ann", "a/b/c")
    await bench.store.rename_mailbox(bench.op(), "ann", "a", "new/home")
    after = await bench.store.mailbox("ann", "new/home/b/c")
    assert (after.ref, after.uidvalidity) == (before.ref, before.uidvalidity)
    names = [box.name for box in (await bench.store.list_mailboxes("ann")).mailboxes]
    assert "new" in names
    assert "ab" in names
    assert "a" not in names


async def test_what_cannot_be_renamed(bench: Any) -> None:
    await bench.store.create_mailbox(bench.op(), "ann", "a/b")
    for old, new, reason in (
        ("a", "Sent", Reason.ALREADY_EXISTS),
        ("a", "a", Reason.ALREADY_EXISTS),
        ("a", "a/c", Reason.CANNOT),
        ("a", "x//y", Reason.BAD_NAME),
        ("none", "x", Reason.NO_SUCH_MAILBOX),
        ("a", "/".join("x" * 64), Reason.BAD_NAME),
    ):
        with pytest.raises(Refused) as refused:
            await bench.store.rename_mailbox(bench.op(), "ann", old, new)
        assert refused.value.reason is reason, (old, new)


async def test_renaming_inbox_moves_its_messages(bench: Any) -> None:
    ref = await bench.fill(3)
    await bench.store.create_mailbox(bench.op(), "ann", "INBOX/sub")
    await bench.store.rename_mailbox(bench.op(), "ann", "inbox", "old/mail")
    inbox, moved = await bench.store.mailbox("ann", "INBOX"), await bench.store.mailbox("ann", "old/mail")
    assert (inbox.ref, inbox.messages, inbox.uidnext, inbox.size) == (ref, 0, 4, 0)
    assert moved.messages == 3
    assert moved.ref != ref
    assert (await bench.store.changes(ref, 0)).vanished == ((1, 3),)
    assert (await bench.store.mailbox("ann", "INBOX/sub")).name == "INBOX/sub"
    assert (await bench.store.usage("ann")).messages == 3


async def test_subscriptions_are_names(bench: Any) -> None:
    await bench.store.subscribe(bench.op(), "ann", "not/there", True)
    await bench.store.subscribe(bench.op(), "ann", "not/there", True)
    await bench.store.subscribe(bench.op(), "ann", "Sent", False)
    await bench.store.delete_mailbox(bench.op(), "ann", "Trash")
    subscriptions = (await bench.store.list_mailboxes("ann")).subscriptions
    assert {"not/there", "Trash"} <= subscriptions
    assert "Sent" not in subscriptions


async def test_subscriptions_per_account(bench: Any, bound: Any) -> None:
    bound("SUBSCRIPTIONS_PER_ACCOUNT", 7)
    await bench.store.subscribe(bench.op(), "ann", "a", True)
    await bench.store.subscribe(bench.op(), "ann", "a", True)
    with pytest.raises(Refused) as refused:
        await bench.store.subscribe(bench.op(), "ann", "b", True)
    assert refused.value.reason is Reason.LIMIT


async def test_opening_shows_all_and_takes_the_recent_once(bench: Any) -> None:
    ref = await bench.fill(2)
    await bench.store.append(bench.op(), ref, [NewMessage(bench.message(), flags=1)], None)
    looked = await bench.store.open_mailbox(bench.op(), ref, False)
    assert (looked.uids, looked.recent, looked.first_unseen_uid) == (((1, 3),), ((1, 3),), 1)
    op = bench.op()
    first = await bench.store.open_mailbox(op, ref, True)
    assert first.recent == ((1, 3),)
    assert first.mailbox.recent == 3
    assert (await bench.store.open_mailbox(bench.op(), ref, True)).recent == ()
    # The answer to the first call was lost: its repeat gets what the first took.
    assert (await bench.store.open_mailbox(op, ref, True)).recent == ((1, 3),)
    assert (await bench.store.mailbox("ann", "INBOX")).recent == 0
    await bench.deliver()
    assert (await bench.store.open_mailbox(bench.op(), ref, True)).recent == ((4, 4),)


async def test_opening_names_the_first_unseen_and_the_keywords(bench: Any) -> None:
    ref = await bench.fill(1, flags=1, keywords=("$Work", "b"))
    opened = await bench.store.open_mailbox(bench.op(), ref, True)
    assert opened.first_unseen_uid is None
    assert opened.keywords == ("$Work", "b")
    await bench.deliver()
    assert (await bench.store.open_mailbox(bench.op(), ref, True)).first_unseen_uid == 2


async def test_no_uid_is_left_after_the_last(bench: Any, bound: Any) -> None:
    assert limits.UID_MAX == 0xFFFF_FFFF
    bound("UID_MAX", 2)
    ref = await bench.fill(2)
    (outcome,) = await bench.store.accept([bench.delivery("ann")])
    assert isinstance(outcome, Refused)
    assert outcome.reason is Reason.LIMIT
    for call in (
        bench.store.append(bench.op(), ref, [NewMessage(b"x")], None),
        bench.store.copy(bench.op(), ref, ALL_UIDS, "INBOX", None),
    ):
        with pytest.raises(Refused) as refused:
            await call
        assert refused.value.reason is Reason.LIMIT


async def test_a_tree_moves_up_into_its_own_place(bench: Any) -> None:
    await bench.store.create_mailbox(bench.op(), "ann", "a/a/a/b")
    boxes = {name: await bench.ref(name) for name in ("a/a", "a/a/a", "a/a/a/b")}
    await bench.store.delete_mailbox(bench.op(), "ann", "a")
    await bench.store.rename_mailbox(bench.op(), "ann", "a/a", "a")
    for name, ref in boxes.items():
        assert await bench.ref(name.removeprefix("a/")) == ref
    with pytest.raises(Refused):
        await bench.ref("a/a/a/b")
