"""SORT and THREAD (RFC 5256 §3): the messages that match, in an order or in trees."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator
from itertools import islice

from imap import messagelimit
from imap.commands import results
from imap.commands.search import find, found, searched
from imap.errors import No
from imap.session import Entry, News, Reply, Session, State
from imap.sorting import Sorter, TooMuch
from imap.threads import Forest, OrderedSubject, References
from imap.view import Slices
from imap.wire import forms, writer
from imap.wire.errors import BadSyntax
from imap.wire.tokens import Scanner
from mail import words
from mail.sortkeys import base_subject
from storage.model import Ranges, Row, Want
from storage.ranges import after

ENTRIES_PAGE = 4096
"""Messages that are read in one go where their entries have all that is compared."""
ROWS_PAGE = 512
"""As ENTRIES_PAGE, where their keys are compared."""
MERGE_PAGE = 4096
"""Places that are put in order before others get their turn."""


async def sort(session: Session, form: forms.Sort) -> Reply:
    """The messages that match in the order wished, by number or UID: RFC 5256 §3, RFC 5267 §3.1."""
    with results.saving(session, form.search):
        messagelimit.check_all(session.selected, searched(session, form.search), session.house.limits.messages)
        slices, relevancy = await found(session, form.search)
        positions = await _sorted(session, Sorter(form.criteria, relevancy=relevancy.of), slices)
        await results.answer(session, form.search, positions, writer.sort, relevancy)
    return Reply("Sorted")


async def _sorted(session: Session, sorter: Sorter, slices: Slices) -> array[int]:
    async for places, rows in _pages(session, slices, sorter.want):
        try:
            sorter.add(places, rows)
        except TooMuch:
            raise _too_much() from None
    positions = array("I")
    merged = sorter.merged()
    while page := list(islice(merged, MERGE_PAGE)):
        positions.extend(page)
        await asyncio.sleep(0)
    return positions


async def thread(session: Session, form: forms.Thread) -> Reply:
    """The messages that match as trees, by number or UID: RFC 5256 §3."""
    view = session.selected
    messagelimit.check_all(view, searched(session, form.search), session.house.limits.messages)
    slices = await find(session, form.search)
    forest = await (_by_subject if form.algorithm == "ORDEREDSUBJECT" else _by_references)(session, slices)
    places, uids = forest.places, view.uids

    def number(node: int) -> int:
        place = places[node]
        if place < 0:
            return 0
        return uids[place] if form.search.uid else place + 1

    session.in_line = True
    for piece in writer.thread(forest.heads, forest.children, number):
        session.out.write(piece)
        await session.out.drain()
    session.in_line = False
    return Reply("Threaded")


async def _by_subject(session: Session, slices: Slices) -> Forest:
    threads = OrderedSubject()
    await _add_all(session, slices, threads)
    return await asyncio.to_thread(threads.finish)


async def _by_references(session: Session, slices: Slices) -> Forest:
    threads = References()
    await _add_all(session, slices, threads)
    asked = await asyncio.to_thread(threads.gather)
    replies = await _replies(session, asked)
    return await asyncio.to_thread(threads.finish, replies)


async def _add_all(session: Session, slices: Slices, threads: OrderedSubject | References) -> None:
    async for places, rows in _pages(session, slices, Want.KEYS):
        try:
            for place, row in zip(places, rows, strict=True):
                assert row.keys is not None
                threads.add(place, row.keys)
        except TooMuch:
            raise _too_much() from None


async def _replies(session: Session, places: list[int]) -> frozenset[int]:
    """Which of these messages are replies or forwards by their whole subject (RFC 5256 §3). Keys have the base subject
    alone, so the envelopes are read: of few messages, those that share theirs with the head of another thread."""
    view = session.selected
    found: set[int] = set()
    ranges: Ranges = view.ranges_of(view.uids[place] for place in sorted(places))
    while ranges:
        page = await session.storage.columns(view.ref, ranges, Want.ENVELOPE, ROWS_PAGE)
        for uid, envelope in zip(page.uids, page.envelopes, strict=True):
            if (number := view.number(uid)) and _is_reply(envelope):
                found.add(number - 1)
        ranges = after(ranges, page.uids[-1]) if page.more else ()
    return frozenset(found)


def _is_reply(envelope: bytes) -> bool:
    scanner = Scanner(envelope)
    try:
        scanner.expect(b"(")
        scanner.nstring("a date")
        scanner.space()
        subject = scanner.nstring("a subject")
    except BadSyntax as error:
        raise RuntimeError("an envelope is not as RFC 3501 §7.4.2 has it") from error
    return base_subject(words.decode(subject or b""))[1]


async def _pages(session: Session, slices: Slices, want: Want) -> AsyncIterator[tuple[list[int], list[Row]]]:
    """The messages page by page, with their places in the view. Those that others have expunged meanwhile are left out,
    as a search begun now would."""
    view, storage = session.selected, session.storage
    ranges: Ranges = view.ranges(slices)
    session.progress.of(sum(stop - start for start, stop in slices))
    passed = 0
    while ranges:
        page = await storage.columns(view.ref, ranges, Want.ENTRY | want, ROWS_PAGE if want else ENTRIES_PAGE)
        passed += len(page.uids)
        session.progress.reached(passed)
        placed = [(number - 1, row) for row in page.rows() if (number := view.number(row.entry.uid))]
        yield [place for place, _ in placed], [row for _, row in placed]
        ranges = after(ranges, page.uids[-1]) if page.more else ()


def _too_much() -> No:
    return No("The messages have too much text in their headers to be put in order at once", "LIMIT")


# RFC 5256 §3: no EXPUNGE while numbers are answered
ENTRIES = (
    Entry("SORT", State.SELECTED, forms.Sort, sort, News.IF_ANY, capability="SORT"),
    Entry("UID SORT", State.SELECTED, forms.Sort, sort, News.IF_ANY, may_expunge=True),
    Entry("THREAD", State.SELECTED, forms.Thread, thread, News.IF_ANY),
    Entry("UID THREAD", State.SELECTED, forms.Thread, thread, News.IF_ANY, may_expunge=True),
)
