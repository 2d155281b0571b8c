"""NOTIFY: what is written is read, and nothing else is."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imap.wire.errors import BadSyntax
from imap.wire.forms import Attribute, Section
from imap.wire.forms_notify import EVENTS, EXPUNGE, FLAGS, NEW, EventGroup, Filter, Notify
from imap.wire.limits import NOTIFY_GROUPS, NOTIFY_NAMES
from imap.wire.parser import parse
from imap.wire.writer import mailbox

OF_MESSAGES = st.sampled_from((frozenset(), frozenset((NEW, EXPUNGE)), frozenset((NEW, EXPUNGE, FLAGS))))
OTHERS = st.frozensets(st.sampled_from([one for one in EVENTS if one not in (NEW, EXPUNGE, FLAGS)]))
NAMES = st.lists(st.text("abcÖ/ *%", min_size=1, max_size=5), min_size=1, max_size=3, unique=True)


@st.composite
def groups(draw: st.DrawFn) -> EventGroup:
    of = draw(st.sampled_from(get_args(Filter)))
    events = draw(OF_MESSAGES)
    if of.startswith("SELECTED"):
        items = (Attribute("UID"), Attribute("FLAGS")) if NEW in events and draw(st.booleans()) else ()
        return EventGroup(of, (), events, items)
    names = tuple(draw(NAMES)) if of in ("SUBTREE", "MAILBOXES") else ()
    return EventGroup(of, names, events | draw(OTHERS))


def _written(group: EventGroup) -> bytes:
    filter_ = group.of.lower().encode()
    if group.names:
        filter_ += b" (" + b" ".join(map(mailbox, group.names)) + b")"
    if not group.events:
        return b"(%b NONE)" % filter_
    events = [one.encode() + (b" (uid flags)" if one == NEW and group.items else b"") for one in sorted(group.events)]
    return b"(%b (%b))" % (filter_, b" ".join(events))


@given(st.lists(groups(), min_size=1, max_size=6), st.booleans())
def test_what_is_written_is_read(given_groups: list[EventGroup], status: bool) -> None:
    line = b"a NOTIFY SET " + (b"status " if status else b"") + b" ".join(map(_written, given_groups))
    if sum(group.of.startswith("SELECTED") for group in given_groups) > 1:
        with pytest.raises(BadSyntax):
            parse(line)
        return
    assert parse(line).form == Notify(tuple(given_groups), status)


@given(st.text("()SETNONE mailboxesselected MessageNewExpunge uid", max_size=60))
def test_anything_is_a_form_or_bad_syntax(text: str) -> None:
    for line in (f"a NOTIFY {text}", f"a NOTIFY SET ({text})"):
        try:
            form = parse(line.encode()).form
        except BadSyntax:
            continue
        assert isinstance(form, Notify)


def test_items_of_new_messages() -> None:
    form = parse(b"a notify set (selected-delayed (messagenew (uid body.peek[header]) messageexpunge))").form
    assert isinstance(form, Notify)
    (group,) = form.groups
    assert group.items[0] == Attribute("UID")
    assert isinstance(group.items[1], Section)


def test_limits() -> None:
    one = b"(mailboxes INBOX (MessageNew MessageExpunge))"
    assert len(parse(b"a NOTIFY SET " + b" ".join([one] * NOTIFY_GROUPS)).form.groups) == NOTIFY_GROUPS  # type: ignore[union-attr]  # it is a Notify
    for line in (
        b" ".join([one] * (NOTIFY_GROUPS + 1)),
        b" ".join(
            b"(subtree (" + b" ".join(b"m%d.%d" % (half, n) for n in range(NOTIFY_NAMES // 2 + half)) + b") NONE)"
            for half in (0, 1)
        ),
    ):
        with pytest.raises(BadSyntax) as refused:
            parse(b"a NOTIFY SET " + line)
        assert (refused.value.condition, refused.value.code) == ("NO", "NOTIFICATIONOVERFLOW")
