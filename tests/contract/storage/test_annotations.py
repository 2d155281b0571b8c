"""Annotations of mailboxes and accounts: what ``storage.port`` says of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from storage import limits
from storage.model import ANNOTATION_OCTETS, SYSTEM, Depth, MailboxRef, Rights
from storage.port import Reason, Refused


async def _reason(call: Any) -> Reason:
    with pytest.raises(Refused) as refused:
        await call
    return refused.value.reason


async def _values(bench: Any, ref: MailboxRef, *entries: str, **how: Any) -> dict[str, bytes]:
    found = await bench.store.annotations([ref], entries or ("/private", "/shared"), **how)
    assert {one.mailbox for one in found} <= {ref.mailbox}
    return {one.entry: one.value for one in found}


async def test_what_is_set_is_read_by_names_without_case(bench: Any) -> None:
    ref = await bench.ref()
    before = await bench.modseq()
    modseq = await bench.store.set_annotations(
        bench.op(), ref, {"/shared/Comment": b"two\r\n\0\xff", "/private/comment": b""}
    )
    assert modseq == await bench.modseq() == before + 1
    found = await bench.store.annotations([ref])
    assert [(one.mailbox, one.entry, one.modseq, one.value) for one in found] == [
        (ref.mailbox, "/private/comment", modseq, b""),
        (ref.mailbox, "/shared/comment", modseq, b"two\r\n\0\xff"),
    ]
    assert [one.value for one in await bench.store.annotations([ref], values=False)] == [None, None]
    assert await _values(bench, ref, "/SHARED/comment", depth=Depth.ENTRY) == {"/shared/comment": b"two\r\n\0\xff"}
    assert await _values(bench, await bench.ref("Sent")) == {}


async def test_depth(bench: Any) -> None:
    ref = await bench.ref()
    names = ("/shared/a", "/shared/a/b", "/shared/a/b/c", "/shared/ab", "/private/a/b")
    await bench.store.set_annotations(bench.op(), ref, dict.fromkeys(names, b"x"))
    for wanted, depth, expected in (
        ("/shared/a", Depth.ENTRY, {"/shared/a"}),
        ("/shared/a", Depth.CHILDREN, {"/shared/a", "/shared/a/b"}),
        ("/shared/a", Depth.ALL, {"/shared/a", "/shared/a/b", "/shared/a/b/c"}),
        ("/shared", Depth.ENTRY, set()),
        ("/shared", Depth.CHILDREN, {"/shared/a", "/shared/ab"}),
        ("/private", Depth.CHILDREN, set()),
        ("/private", Depth.ALL, {"/private/a/b"}),
    ):
        assert set(await _values(bench, ref, wanted, depth=depth)) == expected, (wanted, depth)


async def test_none_removes_and_what_changes_nothing_is_no_news(bench: Any) -> None:
    ref = await bench.ref()
    await bench.store.set_annotations(bench.op(), ref, {"/shared/a": b"1", "/shared/b": b"2"})
    before = await bench.modseq()
    listed = await bench.store.list_mailboxes("ann")
    assert await bench.store.set_annotations(bench.op(), ref, {"/shared/A": b"1", "/shared/c": None}) == before
    assert (await bench.store.list_mailboxes("ann"), await bench.modseq()) == (listed, before)
    modseq = await bench.store.set_annotations(bench.op(), ref, {"/shared/a": None, "/shared/b": b"3"})
    assert modseq == before + 1
    assert await _values(bench, ref) == {"/shared/b": b"3"}
    now = await bench.store.list_mailboxes("ann")
    assert (listed.annotated, now.annotated) == (before, modseq)
    # RFC 7162 §3.2: it is a change of the mailbox, and none of its messages.
    (changed,) = [one for one in now.mailboxes if one not in listed.mailboxes]
    assert (changed.ref, changed.highest_modseq) == (ref, modseq)
    told = await bench.store.changes(ref, before)
    assert (told.entries, told.vanished, told.more) == ((), (), False)
    assert told.through >= modseq


async def test_a_repeat_changes_nothing(bench: Any) -> None:
    ref = await bench.ref()
    op = bench.op()
    first = await bench.store.set_annotations(op, ref, {"/shared/a": b"1"})
    await bench.store.set_annotations(bench.op(), ref, {"/shared/a": b"2"})
    assert await bench.store.set_annotations(op, ref, {"/shared/a": b"1"}) == first
    assert await _values(bench, ref) == {"/shared/a": b"2"}


async def test_private_ones_are_each_accounts_own(bench: Any) -> None:
    ref = await bench.ref()
    await bench.store.set_acl(bench.op(), ref, "bob", Rights.LOOKUP | Rights.READ | Rights.WRITE)
    of_bob = MailboxRef(ref.account, ref.mailbox, "bob")
    await bench.store.set_annotations(bench.op(), ref, {"/private/x": b"ann's", "/shared/x": b"1"})
    await bench.store.set_annotations(bench.op("bob"), of_bob, {"/private/x": b"bob's", "/shared/x": b"2"})
    assert await _values(bench, ref) == {"/private/x": b"ann's", "/shared/x": b"2"}
    assert await _values(bench, of_bob) == {"/private/x": b"bob's", "/shared/x": b"2"}
    assert await _reason(bench.store.set_annotations(bench.op(SYSTEM), ref, {"/private/x": b""})) is Reason.CANNOT
    await bench.store.set_annotations(bench.op(SYSTEM), ref, {"/shared/x": b"3"})
    assert (await _values(bench, of_bob))["/shared/x"] == b"3"
    while not await bench.store.purge_account(bench.op(SYSTEM), "bob"):
        continue
    assert await _values(bench, of_bob) == {}
    assert await _values(bench, ref) == {"/private/x": b"ann's", "/shared/x": b"3"}


async def test_rights_of_others(bench: Any) -> None:
    ref = await bench.ref()
    of_bob = MailboxRef(ref.account, ref.mailbox, "bob")
    store = bench.store
    await store.set_annotations(bench.op(), ref, {"/shared/x": b"1"})
    for given, reads, private, shared in (
        (Rights.NONE, False, Reason.NO_SUCH_MAILBOX, Reason.NO_SUCH_MAILBOX),
        (Rights.LOOKUP, False, Reason.NO_PERMISSION, Reason.NO_PERMISSION),
        (Rights.READ | Rights.WRITE, False, Reason.NO_PERMISSION, Reason.NO_PERMISSION),
        (Rights.LOOKUP | Rights.POST, True, None, Reason.NO_PERMISSION),
        (Rights.LOOKUP | Rights.READ, True, None, Reason.NO_PERMISSION),
        (Rights.LOOKUP | Rights.WRITE, True, None, None),
    ):
        await store.set_acl(bench.op(), ref, "bob", given)
        assert bool(await store.annotations([of_bob], ("/shared",))) is reads, given
        for entry, refusal in (("/private/y", private), ("/shared/y", shared)):
            call = store.set_annotations(bench.op("bob"), of_bob, {entry: str(given).encode()})
            if refusal is None:
                await call
            else:
                assert await _reason(call) is refusal, (given, entry)


async def test_an_account_itself_has_private_ones(bench: Any) -> None:
    ann, bob = MailboxRef("ann", ""), MailboxRef("bob", "")
    before = (await bench.store.list_mailboxes("ann")).annotated
    modseq = await bench.store.set_annotations(bench.op(), ann, {"/private/comment": b"mine"})
    assert (before, (await bench.store.list_mailboxes("ann")).annotated) == (0, modseq)
    assert await _values(bench, ann) == {"/private/comment": b"mine"}
    assert await _values(bench, bob) == {}
    assert await bench.store.annotations([MailboxRef("ann", "", "bob")]) == ()
    assert await _reason(bench.store.set_annotations(bench.op(), ann, {"/shared/comment": b"x"})) is Reason.CANNOT
    assert await _reason(bench.store.set_annotations(bench.op("bob"), ann, {"/private/x": b""})) is Reason.NO_PERMISSION
    nobody = MailboxRef("nobody", "")
    assert await bench.store.annotations([nobody]) == ()
    refused = await _reason(bench.store.set_annotations(bench.op("nobody"), nobody, {"/private/x": b""}))
    assert refused is Reason.NO_SUCH_ACCOUNT


async def test_they_stay_with_their_mailbox_and_go_with_it(bench: Any) -> None:
    await bench.store.create_mailbox(bench.op(), "ann", "Work/Old")
    ref = await bench.ref("Work/Old")
    await bench.store.set_annotations(bench.op(), ref, {"/shared/x": b"1", "/private/x": b"2"})
    await bench.store.rename_mailbox(bench.op(), "ann", "Work", "Play")
    assert await bench.ref("Play/Old") == ref
    assert await _values(bench, ref) == {"/shared/x": b"1", "/private/x": b"2"}
    await bench.store.delete_mailbox(bench.op(), "ann", "Play/Old")
    assert await _values(bench, ref) == {}
    call = bench.store.set_annotations(bench.op(), ref, {"/shared/x": b"1"})
    assert await _reason(call) is Reason.NO_SUCH_MAILBOX
    await bench.store.create_mailbox(bench.op(), "ann", "Play/Old")
    assert await _values(bench, await bench.ref("Play/Old")) == {}
    bench.clock.advance(4000)
    while (await bench.store.sweep()).more:
        continue
    assert await _values(bench, ref) == {}


async def test_inbox_keeps_them_and_its_messages_take_them_along(bench: Any) -> None:
    # RFC 5464 §4.1
    ref = await bench.fill(2)
    await bench.store.set_acl(bench.op(), ref, "bob", Rights.LOOKUP | Rights.READ)
    of_bob = MailboxRef("ann", ref.mailbox, "bob")
    await bench.store.set_annotations(bench.op(), ref, {"/shared/x": b"1", "/private/x": b"2"})
    await bench.store.set_annotations(bench.op("bob"), of_bob, {"/private/x": b"bob's"})
    op = bench.op()
    for _ in range(2):
        await bench.store.rename_mailbox(op, "ann", "INBOX", "old/mail")
    now = await bench.store.list_mailboxes("ann")
    made = next(one for one in now.mailboxes if one.name == "old/mail")
    assert (made.messages, await bench.modseq()) == (2, now.annotated)
    told = await bench.store.annotations([made.ref, ref])
    assert [(one.mailbox, one.entry, one.value) for one in told] == [
        (mailbox, entry, value)
        for mailbox in (made.ref.mailbox, ref.mailbox)
        for entry, value in (("/private/x", b"2"), ("/shared/x", b"1"))
    ]
    assert {one.modseq for one in told if one.mailbox == made.ref.mailbox} == {now.annotated}
    assert await _values(bench, of_bob) == {"/private/x": b"bob's", "/shared/x": b"1"}
    # Others' private ones are about a mailbox that they can see.
    await bench.store.set_acl(bench.op(), made.ref, "bob", Rights.LOOKUP | Rights.READ)
    assert await _values(bench, MailboxRef("ann", made.ref.mailbox, "bob")) == {"/shared/x": b"1"}
    # From now on each has its own.
    await bench.store.set_annotations(bench.op(), made.ref, {"/shared/x": None})
    assert await _values(bench, made.ref) == {"/private/x": b"2"}
    assert await _values(bench, ref) == {"/private/x": b"2", "/shared/x": b"1"}
    await bench.store.delete_mailbox(bench.op(), "ann", "old/mail")
    assert await _values(bench, made.ref) == {}


async def test_inbox_with_nothing_in_it_takes_them_along(bench: Any) -> None:
    ref = await bench.ref()
    await bench.store.set_annotations(bench.op(), ref, {"/shared/x": b"1"})
    await bench.store.rename_mailbox(bench.op(), "ann", "INBOX", "Old")
    assert await _values(bench, await bench.ref("Old")) == await _values(bench, ref) == {"/shared/x": b"1"}


async def test_a_purge_takes_them(bench: Any) -> None:
    ref = await bench.ref()
    await bench.store.set_annotations(bench.op(), ref, {"/shared/x": b"1", "/private/x": b"2"})
    await bench.store.set_annotations(bench.op(), MailboxRef("ann", ""), {"/private/x": b"2"})
    while not await bench.store.purge_account(bench.op(SYSTEM), "ann"):
        continue
    assert await bench.store.annotations([ref, MailboxRef("ann", "")]) == ()
    call = bench.store.set_annotations(bench.op(), ref, {"/shared/x": b"1"})
    assert await _reason(call) in (Reason.NO_SUCH_MAILBOX, Reason.NO_SUCH_ACCOUNT)


async def test_a_mailbox_is_not_found_under_another_account(bench: Any) -> None:
    ref = await bench.ref()
    await bench.store.set_annotations(bench.op(), ref, {"/shared/x": b"1"})
    theirs, as_own = MailboxRef("ann", ref.mailbox, "bob"), MailboxRef("bob", ref.mailbox)
    for refs in ([theirs, as_own], [as_own], [MailboxRef("ann", "", "bob"), as_own]):
        assert await bench.store.annotations(refs) == ()


async def test_bad_names(bench: Any) -> None:
    ref = await bench.ref()
    for entry in (
        *("", "/", "/shared", "/private/", "/shared//x", "/shared/x/", "/comment", "shared/x", "/sharedx/y"),
        *("/shared/a*b", "/shared/a%b", "/shared/a\tb", "/shared/ü", "/shared/" + "x" * limits.ENTRY_NAME_OCTETS),
    ):
        call = bench.store.set_annotations(bench.op(), ref, {"/shared/good": b"1", entry: b"2"})
        assert await _reason(call) is Reason.BAD_NAME, entry
    longest = "/shared/" + "x" * (limits.ENTRY_NAME_OCTETS - len("/shared/"))
    # All or none.
    assert await _values(bench, ref) == {}
    await bench.store.set_annotations(bench.op(), ref, {longest: b"1"})
    assert await _values(bench, ref) == {longest: b"1"}
    assert await _reason(bench.store.annotations([ref], ("/shared", "/*"))) is Reason.BAD_NAME


async def test_limits_of_a_mailbox(bench: Any, bound: Any) -> None:
    bound("ANNOTATIONS_PER_MAILBOX", 3)
    bound("ANNOTATED_OCTETS", 2 * ANNOTATION_OCTETS)
    ref = await bench.ref()
    store = bench.store
    whole = b"x" * ANNOTATION_OCTETS
    await store.set_annotations(bench.op(), ref, {"/shared/a": whole})
    call = store.set_annotations(bench.op(), ref, {"/shared/a": None, "/shared/b": whole + b"x"})
    assert await _reason(call) is Reason.TOO_BIG
    assert await _reason(store.set_annotations(bench.op(), ref, {"/shared/b": whole})) is Reason.LIMIT
    await store.set_annotations(bench.op(), ref, {"/shared/a": b"1", "/shared/b": b"2", "/shared/c": b"3"})
    call = store.set_annotations(bench.op(), ref, {"/private/d": b"", "/shared/d": b""})
    assert await _reason(call) is Reason.LIMIT
    assert sorted(await _values(bench, ref)) == ["/shared/a", "/shared/b", "/shared/c"]
    # Private ones are counted for themselves, and one can take another's place.
    names = dict.fromkeys(("/private/a", "/private/b", "/private/c"), b"")
    await store.set_annotations(bench.op(), ref, {**names, "/shared/a": None, "/shared/d": b"4"})
    assert len(await _values(bench, ref)) == 6


async def test_limits_of_an_account(bench: Any, bound: Any) -> None:
    bound("ANNOTATIONS_PER_ACCOUNT", 3)
    bound("ANNOTATED_OCTETS_PER_ACCOUNT", 100)
    one, other = await bench.ref(), await bench.ref("Sent")
    store = bench.store
    await store.set_annotations(bench.op(), one, {"/shared/a": b"1", "/private/a": b"2"})
    call = store.set_annotations(bench.op(), other, {"/shared/a": b"1", "/private/a": b"2"})
    assert await _reason(call) is Reason.LIMIT
    assert await _reason(store.set_annotations(bench.op(), other, {"/shared/a": b"x" * 100})) is Reason.LIMIT
    await store.set_annotations(bench.op(), other, {"/shared/a": b"x" * 50})
    await store.set_annotations(bench.op(), one, {"/shared/a": None, "/private/b": b""})
    assert len(await _values(bench, one)) == 2
    await store.rename_mailbox(bench.op(), "ann", "Sent", "Other")
    assert await _reason(store.rename_mailbox(bench.op(), "ann", "INBOX", "Old")) is Reason.LIMIT
    assert "Old" not in {one.name for one in (await store.list_mailboxes("ann")).mailboxes}


async def test_mailboxes_at_once(bench: Any, bound: Any) -> None:
    bound("ANNOTATED_AT_ONCE", 2)
    refs = [await bench.ref(name) for name in ("Sent", "INBOX", "Trash")]
    for ref in refs:
        await bench.store.set_annotations(bench.op(), ref, {"/shared/b": b"1", "/private/a": b"2"})
    found = await bench.store.annotations([refs[0], MailboxRef("ann", "Mffff"), *refs[1:]], values=False)
    assert [(one.mailbox, one.entry) for one in found] == [
        (ref.mailbox, entry) for ref in refs for entry in ("/private/a", "/shared/b")
    ]
    assert len(await bench.store.annotations(refs[:2])) == 4
    assert await _reason(bench.store.annotations(refs)) is Reason.LIMIT


async def test_all_that_set_at_once_is_kept(bench: Any) -> None:
    ref = await bench.ref()
    await asyncio.gather(
        *(
            bench.store.set_annotations(bench.op(), ref, {f"/shared/{n}": b"1", "/private/n": b"%d" % n})
            for n in range(8)
        )
    )
    found = await _values(bench, ref)
    assert {f"/shared/{n}" for n in range(8)} < set(found)
    modseqs = [one.modseq for one in await bench.store.annotations([ref], ("/shared",))]
    assert len(set(modseqs)) == 8
    assert await bench.modseq() == max(modseqs)


async def test_who_watches_hears_of_it(bench: Any) -> None:
    ref = await bench.ref()
    for change in (
        bench.store.set_annotations(bench.op(), ref, {"/shared/x": b"1"}),
        bench.store.subscribe(bench.op(), "ann", "Elsewhere", True),
        bench.store.subscribe(bench.op(), "ann", "Elsewhere", False),
    ):
        before = await bench.modseq()
        await change
        assert await bench.modseq() == before + 1
    # What is so already is no news.
    await bench.store.subscribe(bench.op(), "ann", "Elsewhere", False)
    await bench.store.subscribe(bench.op(), "ann", "INBOX", True)
    assert await bench.modseq() == before + 1
