"""STORE: flags (RFC 3501 §6.4.6)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from imap import messagelimit
from imap.errors import Bad, No
from imap.session import Entry, News, Reply, Session, State
from imap.view import Slices, View
from imap.wire import writer
from imap.wire.forms import Store
from imap.wire.numset import Ranges as NumRanges
from mail.flags import ALL, bit_of, is_keyword
from storage.model import Flagged, FlagMode, Ranges, Rights
from storage.port import Reason, Refused
from storage.rights import flags_allowed

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
    """Change flags, and tell the new ones but for .SILENT: RFC 3501 §6.4.6, RFC 7162 §3.1.3."""
    view = session.writable
    if form.unchanged_since is not None:
        session.tell_modseq()
    bits, keywords = split_flags(form.flags)
    slices, limited = messagelimit.highest(view, session.messages(form.numset, form.uid), session.house.limits.messages)
    missing = 0
    refused: list[tuple[int, int]] = []
    session.progress.of(sum(stop - start for start, stop in slices))
    done = 0
    for page in _pages(slices):
        count = sum(stop - start for start, stop in page)
        try:
            there, modified = await _store(session, view, form, page, bits, keywords)
        except Refused as error:
            if error.reason is Reason.LIMIT and keywords:
                # RFC 9051 §7.1: PERMANENTFLAGS without \* once there is no room for another keyword
                view.keywords_full = True
                session.out.write(view.flags_lines())
            raise
        missing += count - there
        refused.extend(modified)
        done += count
        session.progress.reached(done)
    code = _modified(view, NumRanges.of(refused), form.uid) if refused else None
    if missing and not form.uid:
        # RFC 2180 §4.2.1, RFC 5530 §3; RFC 7162 §3.1.3 where the store was conditional
        if limited is not None:
            session.out.write(messagelimit.untold(limited))
        await session.listening.tell(ask=True, may_expunge=False)
        raise No("Some of the messages have been expunged", code or "EXPUNGEISSUED")
    if limited is not None and code is None:
        return Reply("Stored, but not all", limited)
    if limited is not None:
        session.out.write(messagelimit.untold(limited))
    return Reply("Stored" if code is None else "Some of the messages were changed meanwhile", code)


def _modified(view: View, uids: NumRanges, by_uid: bool) -> str:
    """The response code with what a conditional STORE left alone (RFC 7162 §3.1.3)."""
    if not by_uid:
        uids = NumRanges(tuple((start + 1, stop) for start, stop in uids.slices(view.uids)))
    return f"MODIFIED {uids.format().decode()}"


async def _store(
    session: Session, view: View, form: Store, page: Slices, bits: int, keywords: tuple[str, ...]
) -> tuple[int, Ranges]:
    """One change of some of the messages; how many of them there are, and which have been left alone."""
    mode = _MODES[form.mode]
    known, limit = view.through, form.unchanged_since
    storage = session.storage
    # Messages that are as this client was told come first. Only of those can it compute the new flags itself, as
    # .SILENT has it do; and what is new of them is this command's doing.
    done = await storage.store_flags(
        session.operation(),
        view.ref,
        view.ranges(page),
        mode,
        bits,
        keywords,
        unchanged_since=known if limit is None else min(known, limit),
    )
    modified = NumRanges(done.modified)
    own = [entry for entry in done.entries if entry.uid not in modified] if modified else done.entries
    others: tuple[Flagged, ...] = ()
    refused: Ranges = ()
    if modified and limit is not None and limit <= known:
        # RFC 7162 §3.1.3: with the client told how they are now, it can decide anew
        others, refused = tuple(entry for entry in done.entries if entry.uid in modified), done.modified
    elif modified:
        again = await storage.store_flags(
            session.operation(), view.ref, done.modified, mode, bits, keywords, unchanged_since=limit
        )
        others, refused = again.entries, again.modified
        session.wrote(again.modseq)
    if form.silent and not _is_partly_kept(view, mode, bits, keywords):
        if view.with_modseq:
            # RFC 7162 §3.1.3: the new modification sequence is told even so
            await _tell_modseq(session, view, own)
        for entry in own:
            view.told(entry.uid, entry.modseq)
        # RFC 9051 §7.5.2: what .SILENT did not ask for has its UID
        await _tell(session, view, others, with_uid=True)
    else:
        # RFC 7162 §3.2.4: who is told modification sequences is told the UID as well
        with_uid = form.uid or form.silent or view.with_modseq
        await _tell(session, view, sorted((*own, *others)) if others else own, with_uid)
    session.wrote(done.modseq, told=not modified and any(entry.modseq == done.modseq for entry in own))
    return len(own) + len(others), refused


def _is_partly_kept(view: View, mode: FlagMode, bits: int, keywords: tuple[str, ...]) -> bool:
    """Does the user lack the right to some of the flags (RFC 4314 §4)? Then the client cannot know what came of it."""
    allowed = flags_allowed(view.rights)
    if mode is FlagMode.REPLACE:
        return allowed != ALL
    return bool(bits & ~allowed or (keywords and not view.rights & Rights.WRITE))


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


async def _tell(session: Session, view: View, entries: Sequence[Flagged], with_uid: bool) -> None:
    for at in range(0, len(entries), PAGE):
        page = [(view.number(e.uid), e) for e in entries[at : at + PAGE]]
        rows = [(n, e) for n, e in page if n]
        for _, entry in page:
            view.told(entry.uid, entry.modseq)
        known = view.new_keywords(keyword for _, entry in rows for keyword in entry.keywords)
        session.out.write(known + view.flag_fetches(rows, with_uid))
        await session.out.drain()


async def _tell_modseq(session: Session, view: View, entries: Sequence[Flagged]) -> None:
    for at in range(0, len(entries), PAGE):
        page = [(view.number(e.uid), e.uid, e.modseq) for e in entries[at : at + PAGE]]
        session.out.write(writer.fetch_modseq([row for row in page if row[0]], view.uid_only))
        await session.out.drain()


ENTRIES = (
    Entry("STORE", State.SELECTED, Store, store, News.IF_ANY),
    # RFC 3501 §7.4.1: the UID forms may be answered with EXPUNGE
    Entry("UID STORE", State.SELECTED, Store, store, News.IF_ANY, may_expunge=True),
)
