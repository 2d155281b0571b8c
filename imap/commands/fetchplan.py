"""What a FETCH asks of each message, worked out once for all of them (RFC 3501 §6.4.5, §7.4.2)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial
from itertools import repeat

from imap.commands import binary, sections
from imap.commands.fetchlines import Lines, Literals, Values
from imap.view import View
from imap.wire import writer
from imap.wire.forms import Attribute, Binary, BinarySize, FetchItem, Section
from mail.dates import format_date_time
from mail.threadid import thread_id
from storage.model import Columns, Rights, Row, Want

MANY = 16
"""Sections and parts of each message, beyond which a line is written bit by bit."""
NARROW_PAGE = 8192
"""Messages that are read in one go where flags, dates and sizes are all that is asked for."""
WIDE_PAGE = 2048
"""And with what is stored beside them."""
CONTENT_PAGE = 256
"""And with their contents: so many mostly have more octets than a page may, and to look beyond them takes time."""

Column = Callable[[Columns], Sequence[object]]
"""One item's values of a page; None where one is not at hand and must be read."""
Piece = Callable[[Row], object]
"""The same of one message. A value that is sent is bytes, or a number where the item's format has %d."""

_WANT = {
    "UID": Want(0),
    "FLAGS": Want.FLAGS,
    "MODSEQ": Want.MODSEQ,
    "EMAILID": Want.EMAIL,
    "INTERNALDATE": Want.INTERNALDATE,
    "SAVEDATE": Want.SAVEDATE,
    "RFC822.SIZE": Want.SIZE,
    "ENVELOPE": Want.ENVELOPE,
    "BODY": Want.BODY,
    "BODYSTRUCTURE": Want.BODYSTRUCTURE,
    "PREVIEW": Want.PREVIEW,
    "THREADID": Want.KEYS | Want.EMAIL,
}
_IN_HOUR = tuple(b'%02d:%02d +0000"' % divmod(second, 60) for second in range(3600))


class Plan:
    """What a FETCH asks of each message, worked out once.

    recorded: whether it is to be recorded that a message was read. want: what pages must bring. page: how many messages
    are read in one go. columns: attributes, usual header lines and whole messages alone, so that ``values`` and
    ``lines`` will do, without rows. sets_seen: \\Seen is set where it is not. reads: text of the message is asked for,
    and not its header alone, which is to be recorded. decodes: transfer encodings are to be undone, which takes time.
    many: so much is asked for that the items of one message are not to be held together.
    """

    def __init__(self, items: Sequence[FetchItem], view: View, recorded: bool) -> None:
        bodies = [item for item in items if isinstance(item, Section | Binary)]
        # RFC 3501 §6.4.5: BODY[…], RFC822 and RFC822.TEXT set \Seen, where flags can be changed at all
        # RFC 4314 §4
        may_set = not view.read_only and bool(view.rights & Rights.SEEN)
        self.sets_seen = may_set and any(not body.peek for body in bodies)
        if view.with_modseq and Attribute("FLAGS") in items and Attribute("MODSEQ") not in items:
            # RFC 7162 §3.1: with all flags. (Told without them, it would let the client believe that it has them.)
            items = (*items, Attribute("MODSEQ"))
        if view.with_modseq and self.sets_seen and not view.uid_only and Attribute("UID") not in items:
            # RFC 7162 §3.2.4: where \Seen is set, it is told with the UID
            items = (Attribute("UID"), *items)
        self.items = items
        self.view = view
        self.want = Want(0)
        for item in items:
            self.want |= _wants(item)
        self.many = sum(not isinstance(item, Attribute) for item in items) > MANY
        # a column takes time to make
        self._sections = [
            sections.column(item) if isinstance(item, Section) and not self.many else None for item in items
        ]
        self.columns = not self.many and all(
            section is not None or isinstance(item, Attribute)
            for section, item in zip(self._sections, items, strict=True)
        )
        self.page = WIDE_PAGE if self.want & ~(Want.ENTRY | Want.SIZE) else NARROW_PAGE
        if self.want & Want.CONTENT:
            self.page = CONTENT_PAGE
        self.decodes = any(isinstance(item, Binary | BinarySize) for item in items)
        self.reads = recorded and any(isinstance(body, Binary) or body.text in ("", "TEXT") for body in bodies)
        if self.reads:
            self.want |= Want.EMAIL
        if self.sets_seen or not self.columns:
            self.want |= Want.ENTRY
        elif Attribute("RFC822.SIZE") not in items:
            # octets that are at hand bring their number with them
            self.want &= ~Want.SIZE
        self.has_flags = Attribute("FLAGS") in items
        self._has_modseq = Attribute("MODSEQ") in items
        self._days: dict[int, bytes] = {}
        self._known_flags: dict[tuple[int, tuple[str, ...], bool], bytes] = {}
        names = b" ".join(item_format(item) for item in items)
        self.head = writer.fetch_head(view.uid_only)
        forms = [section and section.form for section in self._sections]
        self.lines = Lines(self.head, [form or item_format(item) for form, item in zip(forms, items, strict=True)])
        self._template = self.head + names + b")\r\n"
        # RFC 3501 §6.4.5: flags that change by the fetch are told with it
        self.flags_seen = b" FLAGS %b MODSEQ (%d)" if view.with_modseq and not self._has_modseq else b" FLAGS %b"
        self._template_seen = self.head + names + self.flags_seen + b")\r\n"
        self._attributes = [self._attribute(item) if isinstance(item, Attribute) else None for item in items]
        self.pieces = [_piece(item) for item in items]

    def values(self, page: Columns) -> Values:
        """The items of a page for ``lines``, where ``columns``."""
        found: list[Sequence[object] | Literals] = []
        for attribute, section in zip(self._attributes, self._sections, strict=True):
            made = attribute if section is None else section.of
            assert made is not None, "there are columns of attributes and of sections alone"
            found.append(made(page))
        return found

    def given(self, page: Columns) -> list[list[object]]:
        """For each message of a page the values of the items that are attributes, None for the others."""
        columns = [repeat(None) if attribute is None else attribute(page) for attribute in self._attributes]
        return [values for *values, _ in zip(*columns, page.uids, strict=False)]

    def line(self, number: int, row: Row, given: Sequence[object], tell_flags: bool) -> bytes | None:
        """The whole response line of a message; None where some of it must be read first. Raises
        `binary.UnknownEncoding`."""
        values = [value if piece is None else piece(row) for piece, value in zip(self.pieces, given, strict=True)]
        if None in values:
            return None
        if tell_flags:
            return self._template_seen % (number, *values, *self.seen(row))
        return self._template % (number, *values)

    def check(self, row: Row) -> None:
        """Raises `binary.UnknownEncoding` where `line` would."""
        for item in self.items:
            if isinstance(item, Binary | BinarySize):
                binary.find(item.path, row)

    def _attribute(self, item: Attribute) -> Column:
        match item.name:
            case "FLAGS":
                return self._flags
            case "INTERNALDATE":
                return lambda page: self._date_times(page.internaldates)
            case "SAVEDATE":
                return lambda page: self._date_times(page.savedates)
        return _ATTRIBUTES[item.name]

    def seen(self, row: Row) -> tuple[object, ...]:
        """The values of `flags_seen`."""
        entry = row.entry
        flags = writer.flags(entry.flags, entry.keywords, self.view.is_recent(entry.uid))
        return (flags, entry.modseq) if b"MODSEQ" in self.flags_seen else (flags,)

    def _flags(self, page: Columns) -> Sequence[bytes]:
        view, uids, bits = self.view, page.uids, page.flags
        found = writer.flags_of_many(bits, view.recent_of(uids))
        known = self._known_flags
        for uid, words in page.keywords:
            at = bisect_left(uids, uid)
            key = (bits[at], words, view.is_recent(uid))
            found[at] = known.get(key) or known.setdefault(key, writer.flags(*key))
        return found

    def _date_times(self, times: Sequence[int]) -> Sequence[bytes]:
        hours: dict[int, bytes] = {}
        for hour in {seconds // 3600 for seconds in times}:
            day = hour // 24
            date = self._days.get(day)
            if date is None:
                date = self._days[day] = format_date_time(day * 86400)[: len("dd-Mon-yyyy ")].encode()
            hours[hour] = b'"%b%02d:' % (date, hour % 24)
        return [hours[seconds // 3600] + _IN_HOUR[seconds % 3600] for seconds in times]


def _wants(item: FetchItem) -> Want:
    """What a page must bring for the item."""
    if isinstance(item, Section):
        return sections.wants(item)
    return _WANT[item.name] if isinstance(item, Attribute) else binary.WANT


def _piece(item: FetchItem) -> Piece | None:
    """What is not an attribute, of one message."""
    if isinstance(item, Section):
        return sections.at_hand(item)
    return None if isinstance(item, Attribute) else partial(binary.at_hand, item)


def _threads(page: Columns) -> Sequence[object]:
    return [
        thread_id(keys.message_id, keys.references, email).encode()
        for keys, email in zip(page.keys, page.emails, strict=True)
    ]


_ATTRIBUTES: dict[str, Column] = {
    "UID": lambda page: page.uids,
    "RFC822.SIZE": lambda page: page.sizes,
    "MODSEQ": lambda page: page.modseqs,
    "EMAILID": lambda page: [email.encode() for email in page.emails],
    "THREADID": _threads,
    "ENVELOPE": lambda page: page.envelopes,
    "BODY": lambda page: page.bodies,
    "BODYSTRUCTURE": lambda page: page.bodystructures,
    # RFC 8970 §3.1: "" for a message of which there is nothing to show
    "PREVIEW": lambda page: [writer.string(preview) for preview in page.previews],
}


def item_format(item: FetchItem) -> bytes:
    """A template of one item's value with its name; a section brings its own name."""
    if not isinstance(item, Attribute):
        return b"%b"
    if item.name == "MODSEQ":
        # RFC 7162 §3.1.4.2
        return b"MODSEQ (%d)"
    if item.name == "EMAILID":
        # RFC 8474 §5.1
        return b"EMAILID (%b)"
    if item.name == "THREADID":
        # RFC 8474 §5.2
        return b"THREADID (%b)"
    return item.name.encode() + (b" %d" if item.name in ("UID", "RFC822.SIZE") else b" %b")
