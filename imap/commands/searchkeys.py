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
from storage.ranges import after

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
        page = await session.storage.columns(view.ref, left, Want.EMAIL, PAGE)
        for uid, email in zip(page.uids, page.emails, strict=True):
            if email in emails:
                uids.setdefault(EmailId(email), []).append(uid)
        left = after(left, page.uids[-1]) if page.more else ()
    left = whole if threads else ()
    while left:
        page = await session.storage.columns(view.ref, left, Want.KEYS | Want.EMAIL, PAGE)
        for uid, email, keys in zip(page.uids, page.emails, page.keys, strict=True):
            thread = thread_id(keys.message_id, keys.references, email)
            if thread in threads:
                uids.setdefault(ThreadId(thread), []).append(uid)
        left = after(left, page.uids[-1]) if page.more else ()
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
        page = await session.storage.columns(view.ref, left, Want.MODSEQ, PAGE)
        most = max(most, max(page.modseqs, default=0))
        left = after(left, page.uids[-1]) if page.more else ()
    return most or None
