"""What an access control list gives, and how it is changed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mail.flags import ALL, DELETED, FLAGGED, SEEN
from storage import rights
from storage.model import ALL_RIGHTS, ANYONE, SYSTEM, FlagMode, Grant, MailboxRef, Operation, Rights
from storage.port import Reason

some = st.integers(0, ALL_RIGHTS).map(Rights)
who = st.sampled_from(("ann", "bob", ANYONE))
lists = st.dictionaries(st.tuples(who, st.booleans()), some.filter(bool)).map(
    lambda found: tuple(Grant(name, found[name, minus], minus) for name, minus in sorted(found))
)


@given(lists, who, some, st.sampled_from(FlagMode), st.booleans())
def test_a_change_is_of_one_entry(
    grants: tuple[Grant, ...], name: str, of: Rights, mode: FlagMode, minus: bool
) -> None:
    before = {(grant.identifier, grant.negative): grant.rights for grant in grants}
    after = rights.changed(grants, name, of, mode, minus)
    entries = {(grant.identifier, grant.negative): grant.rights for grant in after}
    had = before.pop((name, minus), Rights.NONE)
    now = {FlagMode.REPLACE: of, FlagMode.ADD: had | of, FlagMode.REMOVE: had & ~of}[mode]
    assert entries.pop((name, minus), Rights.NONE) == now
    assert entries == before
    assert list(after) == sorted(after, key=lambda grant: (grant.identifier, grant.negative))
    assert rights.changed(after, name, of, mode, minus) == after


@given(lists, who)
def test_negative_rights_win(grants: tuple[Grant, ...], name: str) -> None:
    found = rights.held(grants, name)
    mine = [grant for grant in grants if grant.identifier in (name, ANYONE)]
    for right in Rights(ALL_RIGHTS):
        given_ = any(grant.rights & right and not grant.negative for grant in mine)
        taken = any(grant.rights & right and grant.negative for grant in mine)
        assert bool(found & right) == (given_ and not taken)


@given(some)
def test_flags_go_by_their_rights(of: Rights) -> None:
    allowed = rights.flags_allowed(of)
    assert bool(allowed & SEEN) == bool(of & Rights.SEEN)
    assert bool(allowed & DELETED) == bool(of & Rights.DELETE_MESSAGES)
    assert bool(allowed & FLAGGED) == bool(of & Rights.WRITE)
    assert rights.flags_allowed(ALL_RIGHTS) == ALL


def test_who_may_not_know_of_a_mailbox_is_told_that_there_is_none() -> None:
    assert rights.lacking(Rights.INSERT).reason is Reason.NO_SUCH_MAILBOX
    assert rights.lacking(Rights.LOOKUP).reason is rights.lacking(Rights.READ).reason is Reason.NO_PERMISSION


def test_the_owner_and_the_system_are_no_others() -> None:
    assert rights.reader(MailboxRef("ann", "m")) is rights.reader(MailboxRef("ann", "m", "ann")) is None
    assert rights.reader(MailboxRef("ann", "m", SYSTEM)) is None
    assert rights.reader(MailboxRef("ann", "m", "bob")) == "bob"
    assert rights.writer(Operation("x", "ann"), "ann") is rights.writer(Operation("x", SYSTEM), "ann") is None
    assert rights.writer(Operation("x", "bob"), "ann") == "bob"
