"""Search keys that take more than one question: EMAILID and THREADID (RFC 8474 §6), MODSEQ (RFC 7162 §3.1.5)."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from imap.session import Session
from imap.wire.forms import And, EmailId, InSet, Modseq, Not, Or, SearchKey, ThreadId
from imap.wire.numset import NumSet
from imap.wire.numset import Ranges as NumRanges
from storage.model import Ranges

PAGE = 4096
"""Entries that are read in one go."""

NONE = InSet(NumSet(NumRanges()), uid=True)


def inner(key: SearchKey) -> Iterator[SearchKey]:
    """The key and all in it."""
    todo = [key]
    while todo:
        key = todo.pop()
        yield key
        match key:
            case And(keys):
                todo.extend(keys)
            case Or(left, right):
                todo.extend((left, right))
            case Not(one):
                todo.append(one)


def names_modseq(key: SearchKey) -> bool:
    """Whether the answer tells a modification sequence (RFC 7162 §3.1.6)."""
    return any(isinstance(one, Modseq) for one in inner(key))


async def resolved(session: Session, key: SearchKey) -> SearchKey:
    """The same with the UIDs in place of ids."""
    ids = {one.id for one in inner(key) if isinstance(one, EmailId)}
    if not ids and not any(isinstance(one, ThreadId) for one in inner(key)):
        return key
    uids: dict[str, list[int]] = {}
    view = session.selected
    left: Ranges = ((view.uids[0], view.uids[-1]),) if ids and view.uids else ()
    while left:
        entries = await session.storage.entries(view.ref, left, PAGE)
        for entry in entries:
            if entry.email in ids:
                uids.setdefault(entry.email, []).append(entry.uid)
        left = ((entries[-1].uid + 1, left[0][1]),) if len(entries) == PAGE and entries[-1].uid < left[0][1] else ()
    return _replaced(key, uids)


def _replaced(key: SearchKey, uids: dict[str, list[int]]) -> SearchKey:
    match key:
        case And(keys):
            return And(tuple(_replaced(one, uids) for one in keys))
        case Or(left, right):
            return Or(_replaced(left, uids), _replaced(right, uids))
        case Not(one):
            return Not(_replaced(one, uids))
        case EmailId(id):
            return InSet(NumSet(NumRanges.numbers(uids.get(id, ()))), uid=True)
        case ThreadId():
            # RFC 8474 §5.2: no message has a thread id
            return NONE
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
