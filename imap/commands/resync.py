"""What happened since the client last looked: CHANGEDSINCE, VANISHED, QRESYNC (RFC 7162 §3.1.4.1, §3.2.5, §3.2.6)."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass

from imap.session import Session
from imap.view import Slices, View
from imap.wire import writer
from imap.wire.forms import Resync
from imap.wire.numset import Ranges as NumRanges
from storage import ranges
from storage.model import Ranges, Want

PAGE = 2048
"""FETCH lines that are formatted and written in one go."""


@dataclass(frozen=True, slots=True)
class Since:
    """What happened after a modification sequence. changed: UIDs of messages that came or whose flags changed,
    ascending. vanished: UIDs that are no longer there; those of which the client has yet to be told are not among them.
    """

    view: View
    changed: array[int]
    vanished: Ranges

    def changed_of(self, slices: Slices) -> Slices:
        """Those messages of a set that changed."""
        changed = NumRanges.numbers(self.changed)
        wanted = tuple((start + 1, stop) for start, stop in slices)
        there = tuple((start + 1, stop) for start, stop in changed.slices(self.view.uids))
        return tuple((low - 1, high) for low, high in ranges.intersect(wanted, there))

    def vanished_of(self, uids: NumRanges) -> Ranges:
        """Those UIDs of a set that vanished."""
        return ranges.intersect(uids.ranges, self.vanished)


async def since(session: Session, view: View, modseq: int) -> Since:
    """Ask storage. Raises the port's errors."""
    changed: set[int] = set()
    vanished: list[tuple[int, int]] = []
    at = modseq
    while True:
        page = await session.storage.changes(view.ref, at)
        changed.update(entry.uid for entry in page.entries)
        vanished.extend(page.vanished)
        at = page.through
        if not page.more:
            break
    gone = NumRanges.of(vanished)
    # RFC 7162 §3.2.10: EARLIER changes no numbers; of what still has one the client is told by VANISHED alone
    known = ranges.of(gone.pick(view.uids))
    return Since(view, array("I", sorted(changed)), ranges.subtract(gone.ranges, known))


async def tell_vanished(session: Session, uids: Ranges) -> None:
    """RFC 7162 §3.2.10: before any FETCH response, so that its number means what the client takes it for."""
    session.out.write(writer.vanished(uids, earlier=True))
    await session.out.drain()


async def resync(session: Session, view: View, known: Resync) -> None:
    """What SELECT and EXAMINE tell a client that knew the mailbox (RFC 7162 §3.2.5.1)."""
    happened = await since(session, view, known.modseq)
    uids = NumRanges(((1, view.last),)) if known.known is None else known.known
    unseen = ranges.intersect(happened.vanished_of(uids), ((matched(view, known) + 1, view.last),))
    await tell_vanished(session, unseen)
    slices = happened.changed_of(tuple(uids.slices(view.uids)))
    wanted = view.ranges(slices)
    while wanted:
        found = await session.storage.columns(view.ref, wanted, Want.ENTRY, PAGE)
        entries = found.entries()
        page = [(view.number(entry.uid), entry) for entry in entries]
        for _, entry in page:
            view.told(entry.uid, entry.modseq)
        known_flags = view.new_keywords({keyword for entry in entries for keyword in entry.keywords})
        session.out.write(known_flags + view.flag_fetches([pair for pair in page if pair[0]], with_uid=True))
        await session.out.drain()
        wanted = ranges.after(wanted, entries[-1].uid) if found.more else ()


def matched(view: View, known: Resync) -> int:
    """The UID up to which the client has been told of all expunges, by its sample of numbers with their UIDs
    (RFC 7162 §3.2.5.2); 0 where it matches nowhere."""
    numbers, uids = deque(known.numbers.ranges), deque(known.uids.ranges)
    best = 0
    while numbers and uids:
        # as much of the two first ranges as both have is paired; what is left of the longer one waits for the next
        (low, high), (first, last) = numbers.popleft(), uids.popleft()
        more = min(high - low, last - first)
        best = max(best, _matched(view, low, min(low + more, len(view)), first - low))
        if low + more < high:
            numbers.appendleft((low + more + 1, high))
        if first + more < last:
            uids.appendleft((first + more + 1, last))
    return best


def _matched(view: View, low: int, high: int, distance: int) -> int:
    """Of the numbers low to high, whose UIDs are said to be so much larger: the last UID for which that is true."""
    # UIDs rise at least as fast as numbers, so that the true ones stand together
    found = bisect_right(range(low, high + 1), distance, key=lambda number: view.uids[number - 1] - number)
    number = low + found - 1
    return view.uids[number - 1] if found and view.uids[number - 1] - number == distance else 0
