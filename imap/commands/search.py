"""SEARCH (RFC 3501 §6.4.4): the client's keys into storage's, and UIDs into the numbers that the client knows."""

from __future__ import annotations

from array import array
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

from imap import messagelimit
from imap.commands import fuzzykeys, results, searchkeys
from imap.commands.fuzzykeys import Relevancy
from imap.commands.store import split_flags
from imap.errors import Bad, No
from imap.session import Entry, News, Reply, Session, State
from imap.view import Slices
from imap.wire import forms, writer
from imap.wire.numset import Ranges as NumRanges
from storage import model, ranges
from storage.model import DateField, DateRange, Query, Ranges, SizeRange, Uids

_DATES = {"internal": DateField.INTERNAL, "sent": DateField.SENT, "saved": DateField.SAVED}


async def search(session: Session, form: forms.Search) -> Reply:
    """The messages that match, by number or UID: RFC 3501 §6.4.4, RFC 4731 §3.1, RFC 5182 §2.1."""
    if form.charset and "UTF8=ACCEPT" in session.enabled:
        # RFC 6855 §3
        raise Bad("With UTF8=ACCEPT all strings are in UTF-8, and no charset is named")
    if form.returns is None and session.rev2:
        # RFC 9051 §6.4.4, §7.3.4: the answer is always an ESEARCH
        form = replace(form, returns=forms.Return(frozenset(("ALL",))))
    with results.saving(session, form):
        within, limited = messagelimit.highest(session.selected, searched(session, form), session.house.limits.messages)
        slices, relevancy = await found(session, form, None if limited is None else within)
        positions = array("I", [at for start, stop in slices for at in range(start, stop)])
        await results.answer(session, form, positions, writer.search, relevancy)
    return Reply("Searched" if limited is None else "Searched, but not all", limited)


async def find(session: Session, form: forms.Search) -> Slices:
    """The messages that match; see `found`."""
    return (await found(session, form))[0]


def searched(session: Session, form: forms.Search) -> Slices:
    """The messages that a search has to look at, by the sets that it names. Where they are not limited in number, none
    are counted."""
    view = session.selected
    if session.house.limits.messages is None or not form.known_charset or not len(view):
        return ()
    left: Ranges = ((1, len(view)),)
    for numset, uid in messagelimit.sets(form.key):
        left = ranges.intersect(left, tuple((start + 1, stop) for start, stop in session.messages(numset, uid)))
    return tuple((low - 1, high) for low, high in left)


async def found(session: Session, form: forms.Search, within: Slices | None = None) -> tuple[Slices, Relevancy]:
    """The messages that match, of those that the client knows: what came since it was last told has no number yet; and
    how well they match. within: of these alone.

    Raises No for a charset that is not known, Bad for a sequence number that there is not.
    """
    if not form.known_charset:
        # RFC 3501 §6.4.4, RFC 5256 §3
        raise No("Strings can be in US-ASCII or UTF-8", writer.code_badcharset())
    view = session.selected
    if searchkeys.names_modseq(form.key):
        session.tell_modseq()
    key, relevancy = await fuzzykeys.resolved(session, form.key)
    asked = query(session, await searchkeys.resolved(session, key))
    if within is not None:
        asked = model.And((Uids(view.ranges(within)), asked))
    uids = (await session.storage.search(view.ref, asked)).uids
    return tuple(NumRanges(uids).slices(view.uids)), relevancy


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
            return _on_date(_DATES[of], when, day)
        case forms.Within(when, seconds):
            return _within(session, when, seconds)
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
            if numset.open is not None and not len(session.selected):
                # Tolerance: "1:*" in an empty mailbox, where RFC 9051 §9 has BAD (`imap.quirks`)
                return Uids(())
            return Uids(session.selected.ranges(session.messages(numset, uid)))
        case forms.Modseq(modseq):
            return model.ModseqFrom(modseq)
        case forms.EmailId() | forms.ThreadId() | forms.Fuzzy():
            raise AssertionError("a key that was not resolved")


def _has_flag(session: Session, flag: str) -> Query:
    if flag.lower() == "\\recent":
        # RFC 3501 §2.3.2: \Recent is this session's own
        return Uids(session.selected.recent.ranges)
    bits, keywords = split_flags((flag,))
    return model.HasKeyword(keywords[0]) if keywords else model.HasFlags(bits)


def _on_date(field: DateField, when: str, day: date) -> Query:
    # RFC 3501 §6.4.4, RFC 8514 §4.3: compared without time and time zone; INTERNALDATE and SAVEDATE are shown in UTC
    start = _midnight(day)
    end = _midnight(day + timedelta(days=1)) if day < date.max else None
    match when:
        case "before":
            return DateRange(field, None, start)
        case "on":
            return DateRange(field, start, end)
        case _:
            return DateRange(field, start, None)


def _within(session: Session, when: str, seconds: int) -> Query:
    # RFC 5032 §3: a message of exactly that age is both
    moment = int(session.house.clock.now()) - seconds
    if when == "older":
        return DateRange(DateField.INTERNAL, None, moment + 1)
    return DateRange(DateField.INTERNAL, moment, None)


def _midnight(day: date) -> int:
    return int(datetime.combine(day, time(), UTC).timestamp())


ENTRIES = (
    Entry("SEARCH", State.SELECTED, forms.Search, search, News.IF_ANY),
    Entry("UID SEARCH", State.SELECTED, forms.Search, search, News.IF_ANY, may_expunge=True),
)
