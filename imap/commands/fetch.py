"""FETCH (RFC 3501 §6.4.5, §7.4.2): pages of rows in, joined lines out, large bodies in slices."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import repeat

from imap import messagelimit
from imap.commands import binary, results, resync, sections
from imap.commands.blobs import octets_of
from imap.commands.fetchplan import Plan, item_format
from imap.commands.sections import Place
from imap.errors import Bad, No
from imap.session import Entry, News, Reply, Session, State
from imap.view import Slices
from imap.wire import writer
from imap.wire.forms import Attribute, Binary, BinarySize, Fetch, FetchItem, Section
from mail.flags import SEEN
from mail.headers import MAX_BYTES
from storage.model import Entry as Message
from storage.model import FlagMode, FlagPage, Ranges, Row, Want
from storage.port import Reason, Refused

WRITE = 64 * 1024
"""Octets of answers that are joined into one write."""
NARROW_PAGE = 4096
"""Entries that are read in one go where flags and dates are all that was asked for."""
WIDE_PAGE = 2048
"""Rows that are read in one go, where they are small."""


async def fetch(session: Session, form: Fetch) -> Reply:
    """The items asked for, of every message of the set: RFC 3501 §6.4.5, RFC 7162 §3.1.4."""
    view = session.selected
    if form.vanished and "QRESYNC" not in session.enabled:
        # RFC 7162 §3.2.6
        raise Bad("VANISHED is for those who have enabled QRESYNC")
    slices = session.messages(form.numset, form.uid)
    most = session.house.limits.messages
    if form.window is not None:
        messagelimit.check_count(form.window.last - form.window.first + 1, most)
        # RFC 9394 §3.4: before CHANGEDSINCE
        slices = results.cut_slices(slices, form.window)
    if Attribute("MODSEQ") in form.items:
        session.tell_modseq()
    if form.changed_since is not None:
        since = await resync.since(session, view, form.changed_since)
        if form.vanished:
            await resync.tell_vanished(session, since.vanished_of(form.numset.resolve(view.last)))
        slices = since.changed_of(slices)
    slices, limited = messagelimit.highest(view, slices, most)
    items = form.items
    if view.uid_only and not form.asks_uid:
        # RFC 9586 §3.3: the UID is at the head of the line
        items = tuple(item for item in items if item != Attribute("UID"))
    plan = Plan(items, view)
    run = _Run(session, plan, slices)
    await (run.narrow() if plan.narrow else run.wide())
    if limited is not None and (run.undecodable or run.unreadable):
        session.out.write(messagelimit.untold(limited))
    if run.undecodable:
        # RFC 3516 §4.3, RFC 9051 §7.5.2
        raise No("A part of some message is encoded in a way that is not known here", "UNKNOWN-CTE")
    if run.unreadable and not form.uid:
        # RFC 5530 §3: expunged by another session and not kept any more
        raise No("Some of the messages have been expunged", "EXPUNGEISSUED")
    return Reply("Fetched" if limited is None else "Fetched, but not all", limited)


async def fetch_items(session: Session, items: Sequence[FetchItem], slices: Slices) -> None:
    """FETCH responses that no command asked for (RFC 5465 §5.2). What cannot be read of a message is left out."""
    plan = Plan(items, session.selected)
    run = _Run(session, plan, slices)
    await (run.narrow() if plan.narrow else run.wide())


class _Run:
    """One FETCH on its way through the set."""

    def __init__(self, session: Session, plan: Plan, slices: Slices) -> None:
        self.session = session
        self.plan = plan
        self.view = plan.view
        self.ranges = plan.view.ranges(slices)
        self.unreadable = False
        self.undecodable = False
        session.progress.of(sum(stop - start for start, stop in slices))
        self._passed = 0
        # one run of numbers is counted, not walked through, while no message of it is missing
        self._whole = plan.columns and len(slices) == 1
        self._stop = slices[-1][1] if slices else 0
        self._positions = _positions(slices)
        self._next = next(self._positions, -1)
        self._missing: list[int] = []
        self._lines: list[bytes] = []
        self._size = 0

    # -- from storage

    async def narrow(self) -> None:
        """Flags and dates, from entries."""
        storage, ranges = self.session.storage, self.ranges
        while ranges:
            if self.plan.flags_only:
                page = await storage.flags(self.view.ref, ranges, NARROW_PAGE)
                uids: Sequence[int] = page.uids
                await self._flags(page)
            else:
                entries = await storage.entries(self.view.ref, ranges, NARROW_PAGE)
                uids = [entry[0] for entry in entries]
                await self._rows([_narrow_row(entry) for entry in entries])
            self._page_is_done(len(uids))
            ranges = after(ranges, uids[-1]) if len(uids) == NARROW_PAGE else ()
            await self._lost(all_of_them=not ranges)
        await self._flush()

    async def wide(self) -> None:
        """Anything else, from rows."""
        storage, ranges = self.session.storage, self.ranges
        while ranges:
            rows = await storage.rows(self.view.ref, ranges, self.plan.want, WIDE_PAGE)
            if self.plan.sets_seen:
                await self._rows(*await self._set_seen(rows))
            else:
                await self._rows(rows)
            if self.plan.reads:
                self.session.note_read(self.view, [row.entry for row in rows])
            self._page_is_done(len(rows))
            ranges = after(ranges, rows[-1].entry.uid) if rows else ()
            await self._lost(all_of_them=not ranges)
        await self._flush()

    def _page_is_done(self, count: int) -> None:
        self._passed += count
        self.session.progress.reached(self._passed)

    async def _lost(self, all_of_them: bool) -> None:
        """RFC 2180 §4.1.2: what others expunged, and the client was not told of yet, is still answered."""
        if all_of_them and self._next >= 0:
            self._one_by_one()
            self._missing.extend((self._next, *self._positions))
            self._next = -1
        missing, self._missing = self._missing, []
        if not missing:
            return
        ranges: Ranges = self.view.ranges(_slices(missing))
        self._positions, kept = iter(missing), (self._positions, self._next)
        self._next = next(self._positions)
        while ranges:
            rows = await self.session.storage.lost_rows(self.view.ref, ranges, self.plan.want)
            await self._rows(rows)
            ranges = after(ranges, rows[-1].entry.uid) if rows else ()
        if self._missing or self._next >= 0:
            self.unreadable = True
            self._missing.clear()
        self._positions, self._next = kept

    async def _set_seen(self, rows: tuple[Row, ...]) -> tuple[Sequence[Row], frozenset[int]]:
        unseen = [row.entry.uid for row in rows if not row.entry.flags & SEEN]
        if not unseen:
            return rows, frozenset()
        session = self.session
        try:
            done = await session.storage.store_flags(
                session.operation(), self.view.ref, self.view.ranges_of(unseen), FlagMode.ADD, SEEN
            )
        except Refused as error:
            if error.reason is not Reason.NO_PERMISSION:
                raise
            # RFC 4314 §4: who has lost the right to it may read on
            self.plan.sets_seen = False
            return rows, frozenset()
        session.wrote(done.modseq)
        now = {entry.uid: entry for entry in done.entries}
        changed = frozenset(unseen)
        return [row._replace(entry=now.get(row.entry.uid, row.entry)) for row in rows], changed

    # -- to the client

    def _number(self, uid: int) -> int:
        """The sequence number of the next message that is there; those passed over are missing. 0: not asked for."""
        uids = self.view.uids
        at = self._next
        while at >= 0 and uids[at] < uid:
            self._missing.append(at)
            at = next(self._positions, -1)
        if at < 0 or uids[at] != uid:
            self._next = at
            return 0
        self._next = next(self._positions, -1)
        return at + 1

    async def _flags(self, page: FlagPage) -> None:
        view, (uids, modseqs, flags, pairs) = self.view, page
        words = dict(pairs)
        if modseqs and max(modseqs) > view.through:
            for uid, modseq in zip(uids, modseqs, strict=True):
                if modseq > view.through:
                    view.told(uid, modseq)
        known = view.new_keywords({keyword for keywords in set(words.values()) for keyword in keywords})
        numbers = self._numbers(uids)
        keywords = map(words.get, uids, repeat(())) if words else repeat(())
        recent = map(view.is_recent, uids) if view.recent else repeat(False)
        # as many as there are numbers; 0 is of a message that was not asked for
        if self.plan.with_modseq:
            six = zip(numbers, uids, flags, keywords, recent, modseqs, strict=False)
            lines = writer.fetch_flags_modseq((row for row in six if row[0]), self.plan.with_uid, view.uid_only)
        else:
            five = zip(numbers, uids, flags, keywords, recent, strict=False)
            lines = writer.fetch_flags((row for row in five if row[0]), self.plan.with_uid, view.uid_only)
        await self._add(known + lines)

    def _numbers(self, uids: Sequence[int]) -> Sequence[int]:
        """The sequence numbers of a page; 0 for what was not asked for."""
        at, count = self._next, len(uids)
        there = array("I", uids)
        if at >= 0 and self._whole and self.view.uids[at : at + count] == there:
            # one run without gaps, which is nearly always so
            self._next = at + count if at + count < self._stop else -1
            return range(at + 1, at + count + 1)
        self._one_by_one()
        return [self._number(uid) for uid in there]

    def _one_by_one(self) -> None:
        """Numbers are no longer counted as one run."""
        if self._whole:
            self._whole = False
            self._positions = iter(range(self._next + 1, self._stop)) if self._next >= 0 else iter(())

    async def _rows(self, rows: Sequence[Row], changed: frozenset[int] = frozenset()) -> None:
        plan, view = self.plan, self.view
        if plan.has_flags or changed:
            known = view.new_keywords({keyword for row in rows if row[0][3] for keyword in row[0][3]})
            if known:
                await self._add(known)
        if plan.columns and not changed and (values := plan.values(rows)) is not None:
            if plan.has_flags:
                for row in rows:
                    if row[0][1] > view.through:
                        view.told(row[0][0], row[0][1])
            uids = [row[0][0] for row in rows]
            numbers = self._numbers(uids)
            if view.uid_only:
                numbers = [uid if number else 0 for number, uid in zip(numbers, uids, strict=True)]
            await self._add(b"".join(plan.lines(numbers, values)))
            return
        self._one_by_one()
        for row in rows:
            entry = row.entry
            number = self._number(entry.uid)
            if not number:
                continue
            number = entry.uid if view.uid_only else number
            tell_flags = not plan.has_flags and entry.uid in changed
            try:
                if plan.many:
                    plan.check(row)
                    line = None
                else:
                    line = plan.line(number, row, tell_flags)
            except binary.UnknownEncoding:
                self.undecodable = True
                continue
            if plan.decodes:
                # others have their turn after each message
                await asyncio.sleep(0)
            if (plan.has_flags or tell_flags) and entry.modseq > view.through:
                view.told(entry.uid, entry.modseq)
            if line is None:
                await self._message(number, row, tell_flags)
                continue
            self._lines.append(line)
            self._size += len(line)
            if self._size >= WRITE:
                await self._flush()

    async def _message(self, number: int, row: Row, tell_flags: bool) -> None:
        """One line with sections that are not all at hand, bit by bit."""
        plan = self.plan
        done = [plan.head % number]
        space = b""
        for item, piece in plan.pieces:
            value = piece(row)
            if value is not None or isinstance(item, Attribute):
                done.append(space + item_format(item) % (value,))
            elif isinstance(item, Binary | BinarySize):
                done.append(space)
                await self._binary(item, row, done)
            elif sections.is_fields(item):
                done.append(space + item.label + b" " + await self._fields(item, row))
            elif (whole := sections.place(item, row)) is None:
                done.append(space + item.label + b" NIL")
            else:
                place = whole.cut(item.partial)
                done.append(space + item.label + b" {%d}\r\n" % place.size)
                if place.end > place.start:
                    await self._stream(done, self._octets(row, place))
                else:
                    done.append(place.head)
            space = b" "
            if plan.many:
                if sum(map(len, done)) >= WRITE:
                    await self._half(done)
                # others have their turn after each item
                await asyncio.sleep(0)
        if tell_flags:
            done.append(plan.flags_seen % plan.seen(row))
        done.append(writer.FETCH_CLOSE)
        await self._add(b"".join(done))
        if self.session.in_line:
            await self._flush()
            self.session.in_line = False

    async def _fields(self, section: Section, row: Row) -> bytes:
        """HEADER.FIELDS of a large message, or of one with more usual lines than are kept beside it."""
        storage, ref = self.session.storage, self.view.ref
        if sections.from_usual(section):
            want = Want.SIZE | Want.PREFIX | Want.PARTS
            one = ((row.entry.uid, row.entry.uid),)
            found = await storage.rows(ref, one, want) or await storage.lost_rows(ref, one, want)
            if not found:
                return writer.NIL
            row = found[0]
        place = sections.place(section, row)
        if place is None:
            return writer.NIL
        # Tolerance: a header beyond the limit has no fields there, as for ENVELOPE
        place = place._replace(end=min(place.end, place.start + MAX_BYTES))
        header = b"".join([octets async for octets in self._octets(row, place)])
        return writer.literal(sections.fields(section, header, sections.names(section)))

    async def _binary(self, item: Binary | BinarySize, row: Row, done: list[bytes]) -> None:
        """BINARY[…] of a large message, read twice: for its size, which stands before it, and for its octets."""
        found = binary.find(item.path, row)
        assert found is not None, "of a part that there is not all is at hand"
        header = b""
        if found.header is not None:
            # as `mail.structure` has it: beyond the limit a header has no fields
            start = found.header.start
            cut = found.header._replace(end=min(found.header.end, start + MAX_BYTES))
            header = b"".join([octets async for octets in self._octets(row, cut)])
        window = item.partial if isinstance(item, Binary) else None
        octets = binary.decoded(self._octets(row, found.place), found.decoder(header), window)
        size, has_nul = await binary.measured(octets)
        if isinstance(item, BinarySize):
            done.append(binary.size_of(item, size))
            return
        done.append(writer.literal8_head(item.label, size, has_nul))
        await self._stream(done, binary.decoded(self._octets(row, found.place), found.decoder(header), window))

    async def _stream(self, done: list[bytes], octets: AsyncIterator[bytes]) -> None:
        """Write what is done of the line, and these octets."""
        await self._half(done)
        async for piece in octets:
            self.session.out.write(piece)
            await self.session.out.drain()

    async def _half(self, done: list[bytes]) -> None:
        """Write what is done of the line; its rest is still to come."""
        self.session.in_line = True
        await self._add(b"".join(done))
        done.clear()
        await self._flush()

    def _octets(self, row: Row, place: Place) -> AsyncIterator[bytes]:
        return octets_of(self.session.storage, self.view.ref.account, row, place)

    async def _add(self, octets: bytes) -> None:
        self._lines.append(octets)
        self._size += len(octets)
        if self._size >= WRITE:
            await self._flush()

    async def _flush(self) -> None:
        if self._lines:
            self.session.out.write(b"".join(self._lines))
            self._lines.clear()
            self._size = 0
            await self.session.out.drain()


def after(ranges: Ranges, uid: int) -> Ranges:
    """What of a set is above a UID."""
    return tuple((max(low, uid + 1), high) for low, high in ranges if high > uid)


def _positions(slices: Slices) -> Iterator[int]:
    for start, stop in slices:
        yield from range(start, stop)


def _slices(positions: Sequence[int]) -> Slices:
    """Ascending positions as slices."""
    found: list[tuple[int, int]] = []
    for at in positions:
        if found and found[-1][1] == at:
            found[-1] = (found[-1][0], at + 1)
        else:
            found.append((at, at + 1))
    return tuple(found)


def _narrow_row(entry: Message) -> Row:
    return Row(entry, *(None,) * 10)


ENTRIES = (
    Entry("FETCH", State.SELECTED, Fetch, fetch, News.IF_ANY),
    # RFC 3501 §7.4.1: the UID forms may be answered with EXPUNGE
    Entry("UID FETCH", State.SELECTED, Fetch, fetch, News.IF_ANY, may_expunge=True),
)
