"""FETCH (RFC 3501 §6.4.5, §7.4.2): pages of rows in, joined lines out, large bodies in slices."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator, Iterator, Sequence

from imap import messagelimit
from imap.commands import binary, fetchlines, results, resync, sections
from imap.commands.blobs import octets_of
from imap.commands.fetchlines import WRITE
from imap.commands.fetchplan import CONTENT_PAGE, Plan, item_format
from imap.commands.sections import Place
from imap.errors import Bad, No
from imap.session import Entry, News, Reply, Session, State
from imap.view import Slices
from imap.wire import writer
from imap.wire.forms import Attribute, Binary, BinarySize, Fetch, FetchItem, Section
from mail.flags import SEEN
from mail.headers import MAX_BYTES
from storage.model import Columns, FlagMode, Ranges, Row, Want
from storage.port import Reason, Refused
from storage.ranges import after, of


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
    plan = Plan(items, view, session.house.readings is not None)
    run = _Run(session, plan, slices)
    await run.through()
    if limited is not None and (run.undecodable or run.unreadable):
        session.out.write(messagelimit.untold(limited))
    if run.undecodable:
        # RFC 3516 §4.3, RFC 9051 §7.5.2
        raise No("A part of some message is encoded in a way that is not known here", "UNKNOWN-CTE")
    if run.unreadable and not form.uid:
        # RFC 5530 §3: expunged by another session and not kept any more
        await session.listening.tell(ask=True, may_expunge=False)
        raise No("Some of the messages have been expunged", "EXPUNGEISSUED")
    return Reply("Fetched" if limited is None else "Fetched, but not all", limited)


async def fetch_items(session: Session, items: Sequence[FetchItem], slices: Slices) -> None:
    """FETCH responses that no command asked for (RFC 5465 §5.2). What cannot be read of a message is left out."""
    plan = Plan(items, session.selected, session.house.readings is not None)
    run = _Run(session, plan, slices)
    await run.through()


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

    async def through(self) -> None:
        """All of the set, page by page."""
        ranges = self.ranges
        while ranges:
            page = await self._read(ranges, lost=False)
            untold = self._untold(page) if self.plan.decodes else frozenset()
            changed: frozenset[int] = frozenset()
            if self.plan.sets_seen:
                page, changed = await self._set_seen(page, untold)
            await self._page(page, False, changed)
            if self.plan.reads:
                read = zip(page.uids, page.emails, strict=True)
                self.session.note_read(self.view, [(uid, email) for uid, email in read if uid not in untold])
            self._page_is_done(len(page.uids))
            ranges = after(ranges, page.uids[-1]) if page.more else ()
            await self._lost(all_of_them=not ranges)
        await self._flush()

    async def _read(self, ranges: Ranges, lost: bool) -> Columns:
        storage, plan = self.session.storage, self.plan
        page = await storage.columns(self.view.ref, ranges, plan.want, plan.page, lost)
        if plan.has_flags and page.through > self.view.through and not plan.want & Want.MODSEQ:
            # changes that the client was not told of yet: with their modification sequences they are not told again
            plan.want |= Want.MODSEQ
            page = await storage.columns(self.view.ref, ranges, plan.want, plan.page, lost)
        if plan.want & Want.MODSEQ:
            self.view.shows(page.through)
        return page

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
            page = await self._read(ranges, lost=True)
            await self._page(page, True)
            ranges = after(ranges, page.uids[-1]) if page.more else ()
        if self._missing or self._next >= 0:
            self.unreadable = True
            self._missing.clear()
        self._positions, self._next = kept

    def _untold(self, page: Columns) -> frozenset[int]:
        """The messages of which nothing will be told, since a part cannot be decoded: so nobody reads them."""
        untold: set[int] = set()
        for row in page.rows():
            try:
                self.plan.check(row)
            except binary.UnknownEncoding:
                untold.add(row.entry.uid)
        return frozenset(untold)

    async def _set_seen(self, page: Columns, untold: frozenset[int]) -> tuple[Columns, frozenset[int]]:
        pairs = zip(page.uids, page.flags, strict=True)
        unseen = [uid for uid, flags in pairs if not flags & SEEN and uid not in untold]
        if not unseen:
            return page, frozenset()
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
            return page, frozenset()
        session.wrote(done.modseq)
        now = {entry.uid: entry for entry in done.entries}
        entries = [now.get(entry.uid, entry) for entry in page.entries()]
        return page._replace(
            flags=[entry.flags for entry in entries],
            modseqs=[entry.modseq for entry in entries],
            keywords=[(entry.uid, entry.keywords) for entry in entries if entry.keywords],
        ), frozenset(unseen)

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

    def _numbers(self, uids: Sequence[int]) -> Sequence[int]:
        """The sequence numbers of a page; 0 for what was not asked for."""
        at, count = self._next, len(uids)
        if at >= 0 and self._whole and self._is_run(at, uids):
            # one run without gaps, which is nearly always so
            self._next = at + count if at + count < self._stop else -1
            return range(at + 1, at + count + 1)
        self._one_by_one()
        return [self._number(uid) for uid in uids]

    def _is_run(self, at: int, uids: Sequence[int]) -> bool:
        """Whether these are the UIDs that the client knows from an index on."""
        known, count = self.view.uids, len(uids)
        if isinstance(uids, range) and count and at + count <= len(known):
            # both rise: where they agree at both ends, they agree between
            return known[at] == uids[0] and known[at + count - 1] == uids[-1]
        return known[at : at + count] == array("I", uids)

    def _one_by_one(self) -> None:
        """Numbers are no longer counted as one run."""
        if self._whole:
            self._whole = False
            self._positions = iter(range(self._next + 1, self._stop)) if self._next >= 0 else iter(())

    async def _page(self, page: Columns, lost: bool, changed: frozenset[int] = frozenset()) -> None:
        plan, view = self.plan, self.view
        if plan.has_flags or changed:
            known = view.new_keywords({keyword for words in {pair[1] for pair in page.keywords} for keyword in words})
            if known:
                await self._add(known)
        if plan.columns and not changed:
            await self._columns(page, lost)
            return
        self._one_by_one()
        for row, given in zip(page.rows(), plan.given(page), strict=True):
            await self._row(row, given, row.entry.uid in changed)

    async def _columns(self, page: Columns, lost: bool) -> None:
        """All that is at hand of a page, and what is not as rows between."""
        plan, view, uids = self.plan, self.view, page.uids
        values = plan.values(page)
        if plan.has_flags and page.through > view.through:
            for uid, modseq in zip(uids, page.modseqs, strict=True):
                if modseq > view.through:
                    view.told(uid, modseq)
        start = through = 0
        rows: dict[int, tuple[Row, Sequence[object]]] = {}
        gaps = fetchlines.gaps(values)
        # After an upgrade those whose usual header lines are not kept are many; a long message is read when it is sent.
        most = CONTENT_PAGE if plan.want & Want.HEADERS else 1
        for count, gap in enumerate(gaps):
            await self._lines_of(uids[start:gap], fetchlines.between(values, start, gap))
            self._one_by_one()
            if uids[gap] > through:
                rows, through = await self._rows([uids[at] for at in gaps[count : count + most]], lost)
            if uids[gap] in rows:
                await self._row(*rows[uids[gap]], False)
            start = gap + 1
        await self._lines_of(uids[start:], fetchlines.between(values, start, len(uids)) if start else values)

    async def _rows(self, uids: Sequence[int], lost: bool) -> tuple[dict[int, tuple[Row, Sequence[object]]], int]:
        """Of the first of these messages all that can be at hand, with their attributes, by UID; and up to which UID.
        Header lines that are not kept come with the whole message."""
        want = self.plan.want | Want.ENTRY | Want.SIZE
        if want & Want.HEADERS:
            want |= Want.CONTENT | Want.PARTS
        page = await self.session.storage.columns(self.view.ref, of(uids), want, len(uids), lost)
        rows = zip(page.uids, page.rows(), self.plan.given(page), strict=True)
        return {uid: (row, given) for uid, row, given in rows}, page.uids[-1] if page.more else uids[-1]

    async def _lines_of(self, uids: Sequence[int], values: fetchlines.Values) -> None:
        numbers = self._numbers(uids)
        if self.view.uid_only:
            numbers = [uid if number else 0 for number, uid in zip(numbers, uids, strict=True)]
        for lines in self.plan.lines.of(numbers, values):
            await self._add(lines)

    async def _row(self, row: Row, given: Sequence[object], changed: bool) -> None:
        plan, view, entry = self.plan, self.view, row.entry
        number = self._number(entry.uid)
        if not number:
            return
        number = entry.uid if view.uid_only else number
        tell_flags = not plan.has_flags and changed
        try:
            if plan.many:
                plan.check(row)
                line = None
            else:
                line = plan.line(number, row, given, tell_flags)
        except binary.UnknownEncoding:
            self.undecodable = True
            return
        if plan.decodes:
            # others have their turn after each message
            await asyncio.sleep(0)
        if (plan.has_flags or tell_flags) and entry.modseq > view.through:
            view.told(entry.uid, entry.modseq)
        if line is None:
            await self._message(number, row, given, tell_flags)
        else:
            await self._add(line)

    async def _message(self, number: int, row: Row, given: Sequence[object], tell_flags: bool) -> None:
        """One line with sections that are not all at hand, bit by bit."""
        plan = self.plan
        done = [plan.head % number]
        space = b""
        for item, piece, attribute in zip(plan.items, plan.pieces, given, strict=True):
            value = attribute if piece is None else piece(row)
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
            for lost in (False, True):
                found = (await storage.columns(ref, one, want | Want.ENTRY, lost=lost)).rows()
                if found:
                    row = found[0]
                    break
            else:
                return writer.NIL
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


ENTRIES = (
    Entry("FETCH", State.SELECTED, Fetch, fetch, News.IF_ANY),
    # RFC 3501 §7.4.1: the UID forms may be answered with EXPUNGE
    Entry("UID FETCH", State.SELECTED, Fetch, fetch, News.IF_ANY, may_expunge=True),
)
