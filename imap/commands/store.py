"""STORE: flags (RFC 3501 §6.4.6)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from imap.errors import Bad, No
from imap.session import Entry, News, Reply, Session, State
from imap.view import Slices, View
from imap.wire import writer
from imap.wire.forms import Store
from imap.wire.numset import Ranges as NumRanges
from mail.flags import bit_of, is_keyword
from storage.model import Entry as Message
from storage.model import FlagMode

STORE_PAGE = 16 * 1024
"""Messages whose flags are changed in one change; a larger set takes several, so that others get their turn."""
PAGE = 2048
"""FETCH lines that are formatted and written in one go."""

_MODES = {"set": FlagMode.REPLACE, "add": FlagMode.ADD, "remove": FlagMode.REMOVE}


def split_flags(names: Iterable[str]) -> tuple[int, tuple[str, ...]]:
    """Flag names as bits and keywords. Raises Bad for what is neither a system flag nor a keyword."""
    bits = 0
    keywords: list[str] = []
    for name in names:
        if not name.startswith("\\"):
            if not is_keyword(name):
                raise Bad(f"{name[:40]} cannot be a keyword")
            keywords.append(name)
        elif (bit := bit_of(name)) is not None:
            bits |= bit
        elif name.lower() != "\\recent":
            # RFC 3501 §2.3.2: clients cannot change \Recent, and are not scolded for naming it
            raise Bad(f"{name[:40]} is no system flag")
    return bits, tuple(keywords)


async def store(session: Session, form: Store) -> Reply:
    """Change flags, and tell the new ones but for .SILENT: RFC 3501 §6.4.6."""
    view = session.writable
    bits, keywords = split_flags(form.flags)
    slices = session.messages(form.numset, form.uid)
    missing = 0
    for page in _pages(slices):
        missing += sum(stop - start for start, stop in page)
        missing -= await _store(session, view, form, page, bits, keywords)
    if missing and not form.uid:
        # RFC 2180 §4.2.1, RFC 5530 §3
        raise No("Some of the messages have been expunged", "EXPUNGEISSUED")
    return Reply("Stored")


async def _store(session: Session, view: View, form: Store, page: Slices, bits: int, keywords: tuple[str, ...]) -> int:
    """One change of some of the messages; how many of them there are."""
    mode = _MODES[form.mode]
    storage = session.storage
    # Messages that are as this client was told come first. Only of those can it compute the new flags itself, as
    # .SILENT has it do; and what is new of them is this command's doing.
    done = await storage.store_flags(
        session.operation(), view.ref, view.ranges(page), mode, bits, keywords, unchanged_since=view.through
    )
    modified = NumRanges(done.modified)
    own = [entry for entry in done.entries if entry.uid not in modified] if modified else done.entries
    others: tuple[Message, ...] = ()
    if modified:
        again = await storage.store_flags(session.operation(), view.ref, done.modified, mode, bits, keywords)
        others = again.entries
        session.wrote(again.modseq)
    if form.silent:
        for entry in own:
            view.told(entry.uid, entry.modseq)
        await _tell(session, view, others, form.uid)
    else:
        await _tell(session, view, sorted((*own, *others)) if others else own, form.uid)
    session.wrote(done.modseq, told=not modified and any(entry.modseq == done.modseq for entry in own))
    return len(own) + len(others)


def _pages(slices: Slices) -> Iterator[Slices]:
    """The same messages, at most STORE_PAGE at a time."""
    page: list[tuple[int, int]] = []
    room = STORE_PAGE
    for start, stop in slices:
        while start < stop:
            end = min(stop, start + room)
            page.append((start, end))
            room -= end - start
            start = end
            if not room:
                yield tuple(page)
                page.clear()
                room = STORE_PAGE
    if page:
        yield tuple(page)


async def _tell(session: Session, view: View, entries: Sequence[Message], with_uid: bool) -> None:
    for at in range(0, len(entries), PAGE):
        page = [(view.number(e.uid), e) for e in entries[at : at + PAGE]]
        rows = [(n, e.uid, e.flags, e.keywords, view.is_recent(e.uid)) for n, e in page if n]
        for _, entry in page:
            view.told(entry.uid, entry.modseq)
        known = view.new_keywords(keyword for row in rows for keyword in row[3])
        session.out.write(known + writer.fetch_flags(rows, with_uid))
        await session.out.drain()


ENTRIES = (
    Entry("STORE", State.SELECTED, Store, store, News.IF_ANY),
    # RFC 3501 §7.4.1: the UID forms may be answered with EXPUNGE
    Entry("UID STORE", State.SELECTED, Store, store, News.IF_ANY, may_expunge=True),
)
