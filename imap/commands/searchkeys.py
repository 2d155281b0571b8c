"""Search keys that take more than one question: EMAILID and THREADID (RFC 8474 §6), MODSEQ (RFC 7162 §3.1.5)."""

from __future__ import annotations

from array import array

from imap.session import Session
from imap.wire.forms import And, EmailId, InSet, Modseq, Not, Or, SearchKey, ThreadId
from imap.wire.numset import NumSet
from imap.wire.numset import Ranges as NumRanges
from imap.wire.parse_search import inner
from mail.threadid import thread_id
from storage.model import Ranges, Want

PAGE = 4096
"""Entries or rows that are read in one go."""


def names_modseq(key: SearchKey) -> bool:
    """Whether the answer tells a modification sequence (RFC 7162 §3.1.6)."""
    return any(isinstance(one, Modseq) for one in inner(key))


async def resolved(session: Session, key: SearchKey) -> SearchKey:
    """The same with the UIDs in place of ids."""
    emails = {one.id for one in inner(key) if isinstance(one, EmailId)}
    threads = {one.id for one in inner(key) if isinstance(one, ThreadId)}
    if not emails and not threads:
        return key
    uids: dict[SearchKey, list[int]] = {}
    view = session.selected
    whole: Ranges = ((view.uids[0], view.uids[-1]),) if view.uids else ()
    left = whole if emails else ()
    while left:
        entries = await session.storage.entries(view.ref, left, PAGE)
        for entry in entries:
            if entry.email in emails:
                uids.setdefault(EmailId(entry.email), []).append(entry.uid)
        left = ((entries[-1].uid + 1, left[0][1]),) if len(entries) == PAGE and entries[-1].uid < left[0][1] else ()
    left = whole if threads else ()
    while left and (rows := await session.storage.rows(view.ref, left, Want.KEYS, PAGE)):
        for row in rows:
            assert row.keys is not None
            thread = thread_id(row.keys.message_id, row.keys.references, row.entry.email)
            if thread in threads:
                uids.setdefault(ThreadId(thread), []).append(row.entry.uid)
        last = rows[-1].entry.uid
        left = ((last + 1, left[0][1]),) if last < left[0][1] else ()
    return _replaced(key, uids)


def _replaced(key: SearchKey, uids: dict[SearchKey, list[int]]) -> SearchKey:
    match key:
        case And(keys):
            return And(tuple(_replaced(one, uids) for one in keys))
        case Or(left, right):
            return Or(_replaced(left, uids), _replaced(right, uids))
        case Not(one):
            return Not(_replaced(one, uids))
        case EmailId() | ThreadId():
            return InSet(NumSet(NumRanges.numbers(uids.get(key, ()))), uid=True)
        case _:
            return key


async def highest(session: Session, positions: array[int]) -> int | None:
    """The highest modification sequence of the messages at these positions of the view, in any order; None where there
    are none."""
    view = session.selected
    most = 0
    left = view.ranges_of([view.uids[at] for at in sorted(positions)])
    while left:
        entries = await session.storage.entries(view.ref, left, PAGE)
        most = max((most, *(entry.modseq for entry in entries)))
        if len(entries) < PAGE:
            break
        last = entries[-1].uid
        left = tuple((max(low, last + 1), high) for low, high in left if high > last)
    return most or None
