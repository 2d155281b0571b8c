"""What SEARCH and SORT answer and keep: numbers, or the items of ESEARCH, and what ``$`` holds.

A result is the positions of its messages in the view (sequence number less 1), in the order in which it is told.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from imap.commands import searchkeys
from imap.commands.fuzzykeys import Relevancy
from imap.errors import Bad
from imap.session import Session
from imap.view import Slices, View
from imap.wire import writer
from imap.wire.forms import Return, Search, Window
from imap.wire.numset import format_sequence


async def answer(
    session: Session,
    search: Search,
    positions: array[int],
    plain: Callable[[Iterable[int], int | None], bytes],
    relevancy: Relevancy,
) -> None:
    """Write the response, and keep the result where the client asked for it. plain: makes the response of a command
    without RETURN."""
    view, returns = session.selected, search.returns
    found = numbers(view, positions, search.uid)
    modseq: int | None = None
    if searchkeys.names_modseq(search.key):
        # RFC 7162 §3.1.6, RFC 4731 §3.2
        modseq = await searchkeys.highest(session, positions if returns is None else chosen(positions, returns))
    if returns is None:
        session.out.write(plain(found, modseq))
    elif is_told(returns):
        told = items(found, returns)
        shown = positions if returns.window is None else cut(positions, returns.window)
        if "RELEVANCY" in returns.options and shown:
            # RFC 6203 §4: in the order of the messages that are told
            told.append(b"RELEVANCY (%b)" % b" ".join([b"%d" % relevancy.of(view.uids[at]) for at in shown]))
        if modseq is not None:
            told.append(b"MODSEQ %d" % modseq)
        session.out.write(writer.esearch(session.tag, search.uid, told))
    await session.out.drain()
    if returns is not None and "SAVE" in returns.options:
        view.save(chosen(positions, returns))


def numbers(view: View, positions: array[int], uid: bool) -> array[int]:
    """As the client counts: UIDs, or sequence numbers."""
    uids = view.uids
    return array("I", [uids[at] for at in positions] if uid else [at + 1 for at in positions])


def items(found: array[int], returns: Return) -> list[bytes]:
    """The items of an ESEARCH response (RFC 4731 §3.1) with these numbers.

    MIN and MAX are the first and the last of the result, which for SORT is in its own order (RFC 5267 §3.1).
    """
    options = returns.options
    told: list[bytes] = []
    if found:
        if "MIN" in options:
            told.append(b"MIN %d" % found[0])
        if "MAX" in options:
            told.append(b"MAX %d" % found[-1])
        if "ALL" in options:
            told.append(b"ALL %b" % format_sequence(found))
    if returns.window is not None:
        shown = format_sequence(cut(found, returns.window))
        # RFC 9394 §3.1: NIL where the whole range is beyond the result
        told.append(b"PARTIAL (%b %b)" % (returns.window.label, shown or writer.NIL))
    if "COUNT" in options:
        # RFC 4731 §3.1: always told, 0 too
        told.append(b"COUNT %d" % len(found))
    return told


def is_told(returns: Return) -> bool:
    """Whether there is an ESEARCH response: not where the result is only to be kept (RFC 5182 §2.1)."""
    return returns.options != frozenset(("SAVE",)) or returns.window is not None


def cut(found: array[int], window: Window) -> array[int]:
    """The part of a result that a window shows, in the result's order (RFC 9394 §3.1)."""
    if window.from_end:
        return found[max(0, len(found) - window.last) : max(0, len(found) - window.first + 1)]
    return found[window.first - 1 : window.last]


def cut_slices(slices: Slices, window: Window) -> Slices:
    """The part of a set of messages that a window shows, without counting through it (RFC 9394 §3.3)."""
    count = sum(stop - start for start, stop in slices)
    first, last = window.first - 1, window.last
    if window.from_end:
        first, last = max(0, count - window.last), max(0, count - window.first + 1)
    shown: list[tuple[int, int]] = []
    passed = 0
    for start, stop in slices:
        low, high = max(start, start + first - passed), min(stop, start + last - passed)
        if low < high:
            shown.append((low, high))
        passed += stop - start
    return tuple(shown)


def chosen(positions: array[int], returns: Return) -> array[int]:
    """The messages that ``$`` stands for after this: RFC 5182 §2.1 with the table of RFC 9394 §3.2. All, unless less
    was asked for than ALL and COUNT."""
    options = returns.options
    partly = returns.window is not None or not options.isdisjoint(("MIN", "MAX"))
    if not partly or not options.isdisjoint(("ALL", "COUNT")):
        return positions
    some: set[int] = set() if returns.window is None else set(cut(positions, returns.window))
    if positions:
        if "MIN" in options:
            some.add(positions[0])
        if "MAX" in options:
            some.add(positions[-1])
    return array("I", sorted(some))


@contextmanager
def saving(session: Session, search: Search) -> Iterator[None]:
    """Around a command that may have the SAVE option: ended by NO it leaves ``$`` empty, by BAD as it was (RFC 5182
    §2.1)."""
    view, returns = session.selected, search.returns
    try:
        yield
    except Bad:
        raise
    except Exception:
        if returns is not None and "SAVE" in returns.options:
            view.save(())
        raise
