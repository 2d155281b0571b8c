"""FETCH (RFC 3501 §6.4.5, §7.4.2): pages of rows in, joined lines out, large bodies in slices."""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Iterator, Sequence

from imap.commands import results, resync, sections
from imap.commands.fetchplan import Plan, item_format, never
from imap.commands.sections import Place
from imap.errors import Bad, No
from imap.session import Entry, News, Reply, Session, State
from imap.view import Slices
from imap.wire import writer
from imap.wire.forms import Attribute, Fetch, Section
from mail.flags import SEEN
from mail.headers import MAX_BYTES
from storage.model import INLINE_MAX, FlagMode, Ranges, Row, Want
from storage.model import Entry as Message

WRITE = 64 * 1024
"""Octets of answers that are joined into one write."""
NARROW_PAGE = 4096
"""Entries that are read in one go where flags and dates are all that was asked for."""


async def fetch(session: Session, form: Fetch) -> Reply:
    """The items asked for, of every message of the set: RFC 3501 §6.4.5, RFC 7162 §3.1.4."""
    view = session.selected
    if form.vanished and "QRESYNC" not in session.enabled:
        # RFC 7162 §3.2.6
        raise Bad("VANISHED is for those who have enabled QRESYNC")
    slices = session.messages(form.numset, form.uid)
    if form.window is not None:
        # RFC 9394 §3.4: before CHANGEDSINCE
        slices = results.cut_slices(slices, form.window)
    if Attribute("MODSEQ") in form.items:
        session.tell_modseq()
    if form.changed_since is not None:
        since = await resync.since(session, view, form.changed_since)
        if form.vanished:
            await resync.tell_vanished(session, since.vanished_of(form.numset.resolve(view.last)))
        slices = since.changed_of(slices)
    plan = Plan(form.items, view)
    run = _Run(session, plan, slices)
    await (run.narrow() if plan.narrow else run.wide())
    if run.unreadable and not form.uid:
        # RFC 5530 §3: expunged by another session and not kept any more
        raise No("Some of the messages have been expunged", "EXPUNGEISSUED")
    return Reply("Fetched")


class _Run:
    """One FETCH on its way through the set."""

    def __init__(self, session: Session, plan: Plan, slices: Slices) -> None:
        self.session = session
        self.plan = plan
        self.view = plan.view
        self.ranges = plan.view.ranges(slices)
        self.unreadable = False
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
            entries = await storage.entries(self.view.ref, ranges, NARROW_PAGE)
            if self.plan.flags_only:
                await self._flags(entries)
            else:
                await self._rows([_narrow_row(entry) for entry in entries])
            ranges = after(ranges, entries[-1].uid) if len(entries) == NARROW_PAGE else ()
            await self._lost(all_of_them=not ranges)
        await self._flush()

    async def wide(self) -> None:
        """Anything else, from rows."""
        storage, ranges = self.session.storage, self.ranges
        while ranges:
            rows = await storage.rows(self.view.ref, ranges, self.plan.want)
            if self.plan.sets_seen:
                await self._rows(*await self._set_seen(rows))
            else:
                await self._rows(rows)
            if self.plan.reads:
                self.session.note_read(self.view, [row.entry for row in rows])
            ranges = after(ranges, rows[-1].entry.uid) if rows else ()
            await self._lost(all_of_them=not ranges)
        await self._flush()

    async def _lost(self, all_of_them: bool) -> None:
        """RFC 2180 §4.1.2: what others expunged, and the client was not told of yet, is still answered."""
        if all_of_them and self._next >= 0:
            if self._whole:
                self._whole = False
                self._positions = iter(range(self._next + 1, self._stop))
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
        done = await session.storage.store_flags(
            session.operation(), self.view.ref, self.view.ranges_of(unseen), FlagMode.ADD, SEEN
        )
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

    async def _flags(self, entries: Sequence[Message]) -> None:
        view = self.view
        numbers = self._numbers(entries)
        recent = view.is_recent if view.recent else never
        numbered = [(number, entry) for number, entry in zip(numbers, entries, strict=True) if number]
        for entry in entries:
            if entry[1] > view.through:
                view.told(entry[0], entry[1])
        known = view.new_keywords({keyword for keywords in {e[3] for e in entries} for keyword in keywords})
        if self.plan.with_modseq:
            rows = [(n, e[0], e[2], e[3], recent(e[0]), e[1]) for n, e in numbered]
            await self._add(known + writer.fetch_flags_modseq(rows, self.plan.with_uid))
            return
        lines = [(n, e[0], e[2], e[3], recent(e[0])) for n, e in numbered]
        await self._add(known + writer.fetch_flags(lines, self.plan.with_uid))

    def _numbers(self, entries: Sequence[Message]) -> Sequence[int]:
        """The sequence numbers of a page; 0 for what was not asked for."""
        at, count = self._next, len(entries)
        there = array("I", [entry[0] for entry in entries])
        if at >= 0 and self._whole and self.view.uids[at : at + count] == there:
            # one run without gaps, which is nearly always so
            self._next = at + count if at + count < self._stop else -1
            return range(at + 1, at + count + 1)
        if self._whole:
            self._whole = False
            self._positions = iter(range(at + 1, self._stop)) if at >= 0 else iter(())
        return [self._number(uid) for uid in there]

    async def _rows(self, rows: Sequence[Row], changed: frozenset[int] = frozenset()) -> None:
        plan, view = self.plan, self.view
        if plan.has_flags or changed:
            known = view.new_keywords({keyword for row in rows if row[0][3] for keyword in row[0][3]})
            if known:
                await self._add(known)
        if plan.columns and not changed:
            if plan.has_flags:
                for row in rows:
                    if row[0][1] > view.through:
                        view.told(row[0][0], row[0][1])
            await self._add(b"".join(plan.lines(self._numbers([row[0] for row in rows]), rows)))
            return
        for row in rows:
            entry = row.entry
            number = self._number(entry.uid)
            if not number:
                continue
            tell_flags = not plan.has_flags and entry.uid in changed
            if (plan.has_flags or tell_flags) and entry.modseq > view.through:
                view.told(entry.uid, entry.modseq)
            line = plan.line(number, row, tell_flags)
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
        done = [b"* %d FETCH (" % number]
        space = b""
        for item, piece in plan.pieces:
            value = piece(row)
            if value is not None or isinstance(item, Attribute):
                done.append(space + item_format(item) % (value,))
            elif sections.is_fields(item):
                done.append(space + item.label + b" " + await self._fields(item, row))
            elif (whole := sections.place(item, row)) is None:
                done.append(space + item.label + b" NIL")
            else:
                place = whole.cut(item.partial)
                done.append(space + item.label + b" {%d}\r\n" % place.size + place.head)
                if place.end > place.start:
                    await self._add(b"".join(done))
                    done.clear()
                    await self._stream(row, place)
            space = b" "
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
        header = b"".join([octets async for octets in self._slices(row, place)])
        return writer.literal(sections.fields(section, place.head + header, sections.names(section)))

    async def _stream(self, row: Row, place: Place) -> None:
        await self._flush()
        self.session.in_line = True
        async for octets in self._slices(row, place):
            self.session.out.write(octets)
            await self.session.out.drain()

    async def _slices(self, row: Row, place: Place) -> AsyncIterator[bytes]:
        at = place.start
        while at < place.end:
            octets = await self.session.storage.read(
                self.view.ref.account, row.entry.email, at, min(at + INLINE_MAX, place.end)
            )
            if not octets:
                raise RuntimeError("a blob is shorter than its row says")
            yield octets
            at += len(octets)

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
