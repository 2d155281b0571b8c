"""NOTIFY (RFC 5465 §8)."""

from __future__ import annotations

from typing import get_args

from imap.wire.errors import BadSyntax
from imap.wire.forms import FetchItem
from imap.wire.forms_notify import EVENTS, EXPUNGE, FLAGS, NEW, OF_MESSAGES, EventGroup, Filter, Notify
from imap.wire.limits import NOTIFY_GROUPS, NOTIFY_NAMES
from imap.wire.parse_fetch import parse_item
from imap.wire.tokens import Scanner

_FILTERS: dict[str, Filter] = {name: name for name in get_args(Filter)}
_EVENTS = {name.upper(): name for name in EVENTS}
_SELECTED = frozenset(("SELECTED", "SELECTED-DELAYED"))


def parse_notify(scanner: Scanner) -> Notify:
    """``NONE``, or ``SET [STATUS] (mailboxes events) …``."""
    scanner.space()
    start = scanner.at
    match scanner.word("SET or NONE"):
        case "NONE":
            return Notify(())
        case "SET":
            pass
        case _:
            scanner.at = start
            raise scanner.wrong("SET or NONE")
    scanner.space()
    status = not scanner.sees(b"(")
    if status:
        if scanner.word("STATUS or a group of events") != "STATUS":
            raise scanner.wrong("STATUS or a group of events before this")
        scanner.space()
    groups = tuple(scanner.items(lambda: _group(scanner)))
    if sum(group.of in _SELECTED for group in groups) > 1:
        # RFC 5465 §6.1
        raise BadSyntax("SELECTED or SELECTED-DELAYED stands once")
    if len(groups) > NOTIFY_GROUPS or sum(len(group.names) for group in groups) > NOTIFY_NAMES:
        # RFC 5465 §3.1
        text = f"at most {NOTIFY_GROUPS} groups with {NOTIFY_NAMES} names"
        raise BadSyntax(text, condition="NO", code="NOTIFICATIONOVERFLOW")
    return Notify(groups, status)


def _group(scanner: Scanner) -> EventGroup:
    scanner.expect(b"(")
    start = scanner.at
    of = _FILTERS.get(scanner.word("which mailboxes"))
    if of is None:
        scanner.at = start
        raise scanner.wrong("which mailboxes")
    scanner.space()
    names: tuple[str, ...] = ()
    if of in ("SUBTREE", "MAILBOXES"):
        several = scanner.sees(b"(")
        # RFC 5465 §6.6: wildcards in these names are letters like others
        names = tuple(dict.fromkeys(scanner.parenthesised(scanner.mailbox) if several else (scanner.mailbox(),)))
        scanner.space()
    events, items = _events(scanner, of in _SELECTED)
    scanner.expect(b")")
    return EventGroup(of, names, events, items)


def _events(scanner: Scanner, selected: bool) -> tuple[frozenset[str], tuple[FetchItem, ...]]:
    if not scanner.sees(b"("):
        start = scanner.at
        if scanner.word("events or NONE") != "NONE":
            scanner.at = start
            raise scanner.wrong("events or NONE")
        return frozenset(), ()
    items: list[FetchItem] = []

    def one() -> str:
        word = scanner.word("an event")
        event = _EVENTS.get(word)
        if event is None:
            # RFC 5465 §3.1
            text = f"there is no event {word[:40]} here"
            raise BadSyntax(text, condition="NO", code=f"BADEVENT ({' '.join(EVENTS)})")
        if event == NEW and scanner.sees(b" ("):
            scanner.space()
            items.extend(scanner.parenthesised(lambda: parse_item(scanner)))
        return event

    events = frozenset(scanner.parenthesised(one))
    if (NEW in events) != (EXPUNGE in events) or (FLAGS in events and NEW not in events):
        # RFC 5465 §5
        raise BadSyntax("MessageNew and MessageExpunge go together, and FlagChange with them")
    if selected and not events <= OF_MESSAGES:
        # RFC 5465 §6.1
        raise BadSyntax("the selected mailbox has events of messages alone")
    if items and not selected:
        # RFC 5465 §8
        raise BadSyntax("what is to be fetched goes with the selected mailbox alone")
    return events, tuple(dict.fromkeys(items))
