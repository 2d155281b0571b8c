"""SEARCH (RFC 3501 §6.4.4): the client's keys into storage's, and UIDs into the numbers that the client knows."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from imap.commands.store import split_flags
from imap.session import Entry, News, Reply, Session, State
from imap.wire import forms, writer
from imap.wire.numset import Ranges as NumRanges
from storage import model
from storage.model import DateField, DateRange, Query, SizeRange, Uids


async def search(session: Session, form: forms.Search) -> Reply:
    """The messages that match, by number or UID: RFC 3501 §6.4.4."""
    view = session.selected
    found = await session.storage.search(view.ref, query(session, form.key))
    numbers: list[int] = []
    # what came since the client was last told has no number yet
    for start, stop in NumRanges(found.uids).slices(view.uids):
        numbers.extend(view.uids[start:stop] if form.uid else range(start + 1, stop + 1))
    session.out.write(writer.search(numbers))
    await session.out.drain()
    return Reply("Searched")


def query(session: Session, key: forms.SearchKey) -> Query:
    """A key as storage asks it. Raises Bad for a sequence number that there is not."""
    match key:
        case forms.All():
            return model.All()
        case forms.And(keys):
            return model.And(tuple(query(session, inner) for inner in keys))
        case forms.Or(left, right):
            return model.Or((query(session, left), query(session, right)))
        case forms.Not(inner):
            return model.Not(query(session, inner))
        case forms.HasFlag(flag, present):
            has = _has_flag(session, flag)
            return has if present else model.Not(has)
        case forms.OnDate(of, when, day):
            return _on_date(DateField.INTERNAL if of == "internal" else DateField.SENT, when, day)
        case forms.Larger(size):
            return SizeRange(size, None)
        case forms.Smaller(size):
            return SizeRange(None, size)
        case forms.Header(name, value):
            return model.HeaderContains(name, value)
        case forms.Body(value):
            return model.BodyContains(value)
        case forms.Text(value):
            return model.TextContains(value)
        case forms.InSet(numset, uid):
            return Uids(session.selected.ranges(session.messages(numset, uid)))


def _has_flag(session: Session, flag: str) -> Query:
    if flag.lower() == "\\recent":
        # RFC 3501 §2.3.2: \Recent is this session's own
        return Uids(session.selected.recent.ranges)
    bits, keywords = split_flags((flag,))
    return model.HasKeyword(keywords[0]) if keywords else model.HasFlags(bits)


def _on_date(field: DateField, when: str, day: date) -> Query:
    # RFC 3501 §6.4.4: dates are compared without time and time zone; INTERNALDATE is shown in UTC here
    start = _midnight(day)
    end = _midnight(day + timedelta(days=1)) if day < date.max else None
    match when:
        case "before":
            return DateRange(field, None, start)
        case "on":
            return DateRange(field, start, end)
        case _:
            return DateRange(field, start, None)


def _midnight(day: date) -> int:
    return int(datetime.combine(day, time(), UTC).timestamp())


ENTRIES = (
    Entry("SEARCH", State.SELECTED, forms.Search, search, News.IF_ANY),
    Entry("UID SEARCH", State.SELECTED, forms.Search, search, News.IF_ANY, may_expunge=True),
)
