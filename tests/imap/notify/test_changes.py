"""What is found between two snapshots."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from imap.notify.changes import Access, Annotated, Created, Deleted, Messages, Renamed, Subscribed, between
from imap.notify.snapshots import Snapshot
from imap.notify.wanted import Wanted
from imap.wire.forms_notify import EVENTS, EXPUNGE, FLAGS, NAME, NEW, EventGroup
from storage.model import ALL_RIGHTS, Mailbox, MailboxRef, Rights

BOX = Mailbox(MailboxRef("a", "M0"), "INBOX", 1, 5, 10, 3, 2, 0, 0, 99)


def box(id: str, name: str, **fields: object) -> Mailbox:
    return replace(BOX, ref=MailboxRef("a", id), name=name, **fields)  # type: ignore[arg-type]  # whatever a test wants


def snapshot(
    *boxes: Mailbox, subscribed: tuple[str, ...] = (), marks: dict[tuple[str, str], int] | None = None
) -> Snapshot:
    by_name = {one.name: one for one in boxes}
    mailboxes = {one.ref: one for one in boxes}
    return Snapshot(mailboxes, by_name, tuple(sorted(by_name)), frozenset(subscribed), 0, marks or {}, {})


def test_nothing() -> None:
    one = snapshot(BOX, box("M1", "x"), subscribed=("x",))
    assert list(between(one, one)) == []
    assert list(between(one, snapshot(*one.mailboxes.values(), subscribed=("x",)))) == []


def test_made_and_deleted() -> None:
    old, new = snapshot(BOX, box("M1", "x")), snapshot(BOX, box("M2", "y"))
    assert list(between(old, new)) == [Deleted("x"), Created(box("M2", "y"), again=False)]
    # Another of the same name is no deletion, but another UIDVALIDITY.
    assert list(between(old, snapshot(BOX, box("M2", "x")))) == [Created(box("M2", "x"), again=True)]


def test_those_below_move_along() -> None:
    old = snapshot(box("M1", "a"), box("M2", "a/b"), box("M3", "a/b/c"), box("M4", "d/e"))
    new = snapshot(box("M1", "x/y"), box("M2", "x/y/b"), box("M3", "x/y/b/c"), box("M4", "d/e"))
    assert list(between(old, new)) == [Renamed(box("M1", "x/y"), "a")]
    # Of d, which is no mailbox, nobody else tells.
    new = snapshot(box("M1", "a"), box("M2", "a/b"), box("M3", "a/b/c"), box("M4", "f/e"))
    assert list(between(old, new)) == [Renamed(box("M4", "f/e"), "d/e")]
    # Of several at once those below are told too.
    away = snapshot(box("M1", "x"), box("M2", "x/b"), box("M3", "other"), box("M4", "d/e"))
    assert list(between(old, away)) == [
        Renamed(box("M1", "x"), "a"),
        Renamed(box("M3", "other"), "x/b/c"),
        Created(box("M2", "x/b"), again=False),
    ]


def test_two_that_change_places() -> None:
    old, new = snapshot(box("M1", "a"), box("M2", "b")), snapshot(box("M1", "b"), box("M2", "a"))
    assert list(between(old, new)) == [Renamed(box("M1", "b"), "a"), Renamed(box("M2", "a"), "b")]


def test_messages() -> None:
    for fields, events in (
        ({"uidnext": 6, "messages": 4}, {NEW}),
        ({"uidnext": 6, "messages": 4, "unseen": 3}, {NEW, FLAGS}),
        ({"uidnext": 6, "messages": 3}, {NEW, EXPUNGE}),
        ({"messages": 2}, {EXPUNGE}),
        ({"messages": 2, "unseen": 1}, {EXPUNGE, FLAGS}),
        ({"unseen": 1}, {FLAGS}),
        ({}, {FLAGS}),
    ):
        now = replace(BOX, highest_modseq=11, **fields)
        assert list(between(snapshot(BOX), snapshot(now))) == [Messages(now, BOX, frozenset(events))], fields


def test_what_may_not_be_read() -> None:
    hidden = replace(BOX, rights=Rights.LOOKUP)
    later = replace(hidden, highest_modseq=12, messages=9)
    assert list(between(snapshot(hidden), snapshot(later))) == []
    shown = replace(later, rights=ALL_RIGHTS)
    assert list(between(snapshot(later), snapshot(shown))) == [Access(shown)]
    assert list(between(snapshot(shown), snapshot(later))) == [Access(later)]


def test_subscriptions_and_annotations() -> None:
    old = snapshot(BOX, subscribed=("x", "y"), marks={("M0", "/shared/a"): 1, ("M0", "/shared/b"): 1, ("", "/p"): 1})
    new = snapshot(
        BOX, subscribed=("y", "z"), marks={("M0", "/shared/b"): 2, ("", "/p"): 1, ("", "/q"): 2, ("M9", "/r"): 3}
    )
    assert list(between(old, new)) == [
        Subscribed("x"),
        Subscribed("z"),
        Annotated(None, ("/q",)),
        Annotated(BOX, ("/shared/a", "/shared/b")),
    ]


NAMES = st.sampled_from(("a", "b", "a/b", "a/c", "a/b/c", "INBOX"))


@given(st.dictionaries(st.integers(0, 4), NAMES), st.dictionaries(st.integers(0, 4), NAMES))
def test_who_believes_what_is_told_knows_the_names(before: dict[int, str], after: dict[int, str]) -> None:
    sides = []
    for names in (before, after):
        by_name = {name: id for id, name in names.items()}
        sides.append(snapshot(*(box(f"M{id}", name) for name, id in by_name.items())))
    old, new = sides
    known = dict(old.by_name)
    mentioned = set()
    for happened in between(old, new):
        match happened:
            case Deleted(name):
                del known[name]
            case Created(mailbox, _):
                mentioned.add(mailbox.name)
            case Renamed(mailbox, old_name):
                mentioned.add(mailbox.name)
                # Those below move along in the client's mind.
                known = {
                    mailbox.name + name[len(old_name) :] if f"{name}/".startswith(f"{old_name}/") else name: one
                    for name, one in known.items()
                }
    assert known.keys() | mentioned >= set(new.names)


def test_wanted_of_several_groups() -> None:
    new = frozenset((NEW, EXPUNGE))
    wanted = Wanted(
        (
            EventGroup("SELECTED-DELAYED", (), new),
            EventGroup("MAILBOXES", ("inbox", "x"), new),
            EventGroup("SUBTREE", ("Lists",), frozenset((NAME,))),
            EventGroup("SUBSCRIBED", (), frozenset((NAME, FLAGS)) | new),
            EventGroup("PERSONAL", (), frozenset(EVENTS[4:])),
        )
    )
    assert (wanted.selected, wanted.delayed, wanted.elsewhere, wanted.server) == (new, True, True, True)
    own = frozenset(EVENTS[4:])
    assert wanted.of("INBOX", ()) == new | own
    assert wanted.of("Lists", ()) == wanted.of("Lists/a/b", ()) == {NAME} | own
    assert wanted.of("Listsx", ()) == own
    assert wanted.of("Listsx", ("Listsx",)) == own | {NAME, FLAGS} | new
    assert wanted.of("Other Users/bob/Lists", ()) == frozenset()
    nothing = Wanted((EventGroup("PERSONAL", (), frozenset()),))
    assert (nothing.elsewhere, nothing.selected, nothing.server) == (False, frozenset(), False)
