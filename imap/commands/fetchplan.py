"""What a FETCH asks of each message, worked out once for all of them (RFC 3501 §6.4.5, §7.4.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter

from imap.commands import sections
from imap.view import View
from imap.wire import writer
from imap.wire.forms import Attribute, FetchItem, Section
from mail.dates import format_date_time
from storage.model import Row, Want

Piece = Callable[[Row], object]
"""One item's value of a row; None where it is not at hand and must be read."""

_WANT = {
    "RFC822.SIZE": Want.SIZE,
    "ENVELOPE": Want.ENVELOPE,
    "BODY": Want.BODY,
    "BODYSTRUCTURE": Want.BODYSTRUCTURE,
    "PREVIEW": Want.PREVIEW,
}
_NARROW = frozenset(("UID", "FLAGS", "INTERNALDATE", "SAVEDATE", "MODSEQ", "EMAILID", "THREADID"))
_COLUMNS = ("UID", "FLAGS", "INTERNALDATE", "RFC822.SIZE", "prefix", "ENVELOPE", "BODY", "BODYSTRUCTURE", "MODSEQ")
"""What ``Plan.lines`` has of a row, in order: three of its entry, the row's own, one of its entry again."""


class Plan:
    """What a FETCH asks of each message, worked out once.

    want: what rows must bring. narrow: entries alone will do. columns: attributes alone, so that ``lines`` will do.
    sets_seen: \\Seen is set where it is not. reads: text of the message is asked for, and not its header alone.
    """

    def __init__(self, items: Sequence[FetchItem], view: View) -> None:
        if view.with_modseq and Attribute("FLAGS") in items and Attribute("MODSEQ") not in items:
            # RFC 7162 §3.1: with all flags. (Told without them, it would let the client believe that it has them.)
            items = (*items, Attribute("MODSEQ"))
        self.items = items
        self.view = view
        self.want = Want(0)
        self.sections = [item for item in items if isinstance(item, Section)]
        self.narrow = all(isinstance(item, Attribute) and item.name in _NARROW for item in items)
        self.columns = all(isinstance(item, Attribute) and item.name in _COLUMNS for item in items)
        self.flags_only = set(items) - {Attribute("UID"), Attribute("MODSEQ")} == {Attribute("FLAGS")}
        self.with_modseq = Attribute("MODSEQ") in items
        self.with_uid = Attribute("UID") in items
        # RFC 3501 §6.4.5: BODY[…], RFC822 and RFC822.TEXT set \Seen, where flags can be changed at all
        self.sets_seen = not view.read_only and any(not section.peek for section in self.sections)
        self.reads = any(section.text in ("", "TEXT") for section in self.sections)
        self._days: dict[int, bytes] = {}
        self._recent = view.is_recent if view.recent else never
        for item in items:
            self.want |= sections.wants(item) if isinstance(item, Section) else _WANT.get(item.name, Want(0))
        self.has_flags = Attribute("FLAGS") in items
        names = b" ".join(item_format(item) for item in items)
        self._template = b"* %d FETCH (" + names + b")\r\n"
        # RFC 3501 §6.4.5: flags that change by the fetch are told with it
        self.flags_seen = b" FLAGS %b MODSEQ (%d)" if view.with_modseq and not self.with_modseq else b" FLAGS %b"
        self._template_seen = b"* %d FETCH (" + names + self.flags_seen + b")\r\n"
        # of at least two, so that it always gives a tuple
        picked = [_COLUMNS.index(item.name) for item in items if isinstance(item, Attribute)] if self.columns else [0]
        self._pick = itemgetter(*picked, 0)
        self.pieces = [(i, self._piece(i) if isinstance(i, Attribute) else sections.at_hand(i)) for i in items]

    def lines(self, numbers: Iterable[int], rows: Iterable[Row]) -> list[bytes]:
        """The response lines of many rows, where ``columns``; a number of 0 leaves one out."""
        pick, template = self._pick, self._template
        flags = self.flags if self.has_flags else _uid
        date = self._internaldate if Attribute("INTERNALDATE") in self.items else _uid
        return [
            template % (number, *pick((row[0][0], flags(row), date(row), *row[1:6], row[0][1]))[:-1])
            for number, row in zip(numbers, rows, strict=True)
            if number
        ]

    def line(self, number: int, row: Row, tell_flags: bool) -> bytes | None:
        """The whole response line; None where some of it must be read first."""
        values = [piece(row) for _, piece in self.pieces]
        if None in values:
            return None
        if tell_flags:
            return self._template_seen % (number, *values, *self.seen(row))
        return self._template % (number, *values)

    def _piece(self, item: Attribute) -> Piece:
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
    # RFC 8474 §5.2: no thread ids are kept
    return writer.NIL


def _preview(row: Row) -> object:
    # RFC 8970 §3.1: "" for a message of which there is nothing to show
    return writer.string(row[8] or "")


def item_format(item: FetchItem) -> bytes:
    """A template of one item's value with its name; a section brings its own name."""
    if isinstance(item, Section):
        return b"%b"
    if item.name == "MODSEQ":
        # RFC 7162 §3.1.4.2
        return b"MODSEQ (%d)"
    if item.name == "EMAILID":
        # RFC 8474 §5.1
        return b"EMAILID (%b)"
    return item.name.encode() + (b" %d" if item.name in ("UID", "RFC822.SIZE") else b" %b")


def never(uid: int) -> bool:
    """Stands for `View.is_recent` where no message is."""
    return False
