"""What a FETCH asks of each message, worked out once for all of them (RFC 3501 §6.4.5, §7.4.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from imap.commands import binary, sections
from imap.view import View
from imap.wire import writer
from imap.wire.forms import Attribute, Binary, BinarySize, FetchItem, Section
from mail.dates import format_date_time
from mail.threadid import thread_id
from storage.model import Rights, Row, Want

MANY = 16
"""Sections and parts of each message, beyond which a line is written bit by bit."""

Piece = Callable[[Row], object]
"""One item's value of a row; None where it is not at hand and must be read."""

_WANT = {
    "RFC822.SIZE": Want.SIZE,
    "ENVELOPE": Want.ENVELOPE,
    "BODY": Want.BODY,
    "BODYSTRUCTURE": Want.BODYSTRUCTURE,
    "PREVIEW": Want.PREVIEW,
    "THREADID": Want.KEYS,
}
_NARROW = frozenset(("UID", "FLAGS", "INTERNALDATE", "SAVEDATE", "MODSEQ", "EMAILID"))


class Plan:
    """What a FETCH asks of each message, worked out once.

    want: what rows must bring. narrow: entries alone will do. columns: attributes and usual header lines alone, so that
    ``values`` and ``lines`` will do. sets_seen: \\Seen is set where it is not. reads: text of the message is asked for,
    and not its header alone. decodes: transfer encodings are to be undone, which takes time. many: so much is asked for
    that the items of one message are not to be held together.
    """

    def __init__(self, items: Sequence[FetchItem], view: View) -> None:
        if view.with_modseq and Attribute("FLAGS") in items and Attribute("MODSEQ") not in items:
            # RFC 7162 §3.1: with all flags. (Told without them, it would let the client believe that it has them.)
            items = (*items, Attribute("MODSEQ"))
        self.items = items
        self.view = view
        self.want = Want(0)
        bodies = [item for item in items if isinstance(item, Section | Binary)]
        self.narrow = all(isinstance(item, Attribute) and item.name in _NARROW for item in items)
        self.many = sum(not isinstance(item, Attribute) for item in items) > MANY
        self.columns = not self.many and all(
            sections.from_usual(item) if isinstance(item, Section) else isinstance(item, Attribute) for item in items
        )
        self.flags_only = set(items) - {Attribute("UID"), Attribute("MODSEQ")} == {Attribute("FLAGS")}
        self.with_modseq = Attribute("MODSEQ") in items
        self.with_uid = Attribute("UID") in items
        # RFC 3501 §6.4.5: BODY[…], RFC822 and RFC822.TEXT set \Seen, where flags can be changed at all
        # RFC 4314 §4
        may_set = not view.read_only and bool(view.rights & Rights.SEEN)
        self.sets_seen = may_set and any(not body.peek for body in bodies)
        self.decodes = any(isinstance(item, Binary | BinarySize) for item in items)
        self.reads = any(isinstance(body, Binary) or body.text in ("", "TEXT") for body in bodies)
        self._days: dict[int, bytes] = {}
        self._recent = view.is_recent if view.recent else never
        for item in items:
            self.want |= _wants(item)
        self.has_flags = Attribute("FLAGS") in items
        names = b" ".join(item_format(item) for item in items)
        self.head = writer.fetch_head(view.uid_only)
        self._template = self.head + names + b")\r\n"
        # RFC 3501 §6.4.5: flags that change by the fetch are told with it
        self.flags_seen = b" FLAGS %b MODSEQ (%d)" if view.with_modseq and not self.with_modseq else b" FLAGS %b"
        self._template_seen = self.head + names + self.flags_seen + b")\r\n"
        self.pieces = [(item, self._piece(item)) for item in items]

    def values(self, rows: Sequence[Row]) -> list[list[object]] | None:
        """The items of many rows, a list for each item; None where some of one row must be read first."""
        columns = [list(map(piece, rows)) for _, piece in self.pieces]
        return None if any(None in column for column in columns) else columns

    def lines(self, numbers: Iterable[int], values: Sequence[Sequence[object]]) -> list[bytes]:
        """The response lines of many rows from their ``values``; a number of 0 leaves one out."""
        template = self._template
        return [template % line for line in zip(numbers, *values, strict=True) if line[0]]

    def line(self, number: int, row: Row, tell_flags: bool) -> bytes | None:
        """The whole response line; None where some of it must be read first. Raises `binary.UnknownEncoding`."""
        values = [piece(row) for _, piece in self.pieces]
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

    def _piece(self, item: FetchItem) -> Piece:
        if isinstance(item, Section):
            return sections.at_hand(item)
        if isinstance(item, Binary | BinarySize):
            return partial(binary.at_hand, item)
        match item.name:
            case "UID":
                return _uid
            case "FLAGS":
                return self.flags
            case "INTERNALDATE":
                return self._internaldate
            case "SAVEDATE":
                return self._savedate
            case "RFC822.SIZE":
                return _size
            case "ENVELOPE":
                return _envelope
            case "BODY":
                return _body
            case "BODYSTRUCTURE":
                return _bodystructure
            case "MODSEQ":
                return _modseq
            case "EMAILID":
                return _email
            case "THREADID":
                return _thread
            case "PREVIEW":
                return _preview
        raise AssertionError(f"no FETCH item {item.name}")

    def seen(self, row: Row) -> tuple[object, ...]:
        """The values of `flags_seen`."""
        flags = self.flags(row)
        return (flags, row[0][1]) if b"MODSEQ" in self.flags_seen else (flags,)

    def flags(self, row: Row) -> bytes:
        entry = row[0]
        return writer.flags(entry[2], entry[3], self._recent(entry[0]))

    def _internaldate(self, row: Row) -> bytes:
        return self._date_time(row[0][5])

    def _savedate(self, row: Row) -> bytes:
        return self._date_time(row[0][6])

    def _date_time(self, seconds: int) -> bytes:
        day, second = divmod(seconds, 86400)
        date = self._days.get(day)
        if date is None:
            date = self._days[day] = format_date_time(day * 86400)[: len("dd-Mon-yyyy ")].encode()
        return b'"%b%02d:%02d:%02d +0000"' % (date, second // 3600, second // 60 % 60, second % 60)


def _wants(item: FetchItem) -> Want:
    """What a row must bring for the item."""
    if isinstance(item, Section):
        return sections.wants(item)
    return _WANT.get(item.name, Want(0)) if isinstance(item, Attribute) else binary.WANT


def _uid(row: Row) -> object:
    return row[0][0]


def _size(row: Row) -> object:
    return row[1]


def _envelope(row: Row) -> object:
    return row[3]


def _body(row: Row) -> object:
    return row[4]


def _bodystructure(row: Row) -> object:
    return row[5]


def _modseq(row: Row) -> object:
    return row[0][1]


def _email(row: Row) -> object:
    return row[0][4].encode()


def _thread(row: Row) -> object:
    keys = row[9]
    # a row has what was wanted of it
    assert keys is not None
    return thread_id(keys.message_id, keys.references, row[0][4]).encode()


def _preview(row: Row) -> object:
    # RFC 8970 §3.1: "" for a message of which there is nothing to show
    return writer.string(row[8] or "")


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


def never(uid: int) -> bool:
    """Stands for `View.is_recent` where no message is."""
    return False
