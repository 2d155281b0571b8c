"""Where the octets of BODY[section] are (RFC 3501 §6.4.5): in the account's prefix and in the shared blob.

A message is its row's prefix followed by the blob. The prefix holds whole header lines, so that it belongs to the
message's own header and to nothing else; part offsets count from the blob's start.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from imap.commands.fetchlines import Form, Literals
from imap.wire.forms import Section
from mail import headers, parts
from storage.model import Columns, Row, Want


class Place(NamedTuple):
    """The octets of `head`, then those of the blob from `start` to `end`."""

    head: bytes
    start: int
    end: int

    @property
    def size(self) -> int:
        return len(self.head) + self.end - self.start

    def cut(self, partial: tuple[int, int] | None) -> Place:
        """Only the octets of a partial, fewer or none beyond the end (RFC 3501 §6.4.5)."""
        if partial is None:
            return self
        first, count = partial
        low = min(first, self.size)
        high = min(first + count, self.size)
        before = len(self.head)
        return Place(self.head[low:high], self.start + max(0, low - before), self.start + max(0, high - before))


def is_fields(section: Section) -> bool:
    """HEADER.FIELDS or HEADER.FIELDS.NOT: chosen from a header, not a range."""
    return section.text in ("HEADER.FIELDS", "HEADER.FIELDS.NOT")


def from_usual(section: Section) -> bool:
    """Whether the header lines that are kept beside each message are enough."""
    return (
        section.text == "HEADER.FIELDS"
        and not section.path
        and all(headers.is_usual(field.encode()) for field in section.fields)
    )


def wants(section: Section) -> Want:
    """What a row must bring for the section."""
    if from_usual(section):
        return Want.HEADERS | Want.PREFIX
    want = Want.SIZE | Want.PREFIX | Want.CONTENT
    return want if not section.path and not section.text else want | Want.PARTS


def place(section: Section, row: Row) -> Place | None:
    """The whole section, without its partial; None where the message has no such section. For HEADER.FIELDS the place
    of the header they are chosen from."""
    prefix = row.prefix or b""
    if not section.path and not section.text:
        return Place(prefix, 0, (row.size or 0) - len(prefix))
    text = "HEADER" if is_fields(section) else section.text
    found = parts.locate(parts.decode(row.parts or b""), section.path, text)
    if found is None:
        return None
    return Place(prefix if not section.path and text == "HEADER" else b"", *found)


def names(section: Section) -> frozenset[bytes]:
    """The field names as `mail.headers` compares them."""
    return frozenset(field.upper().encode() for field in section.fields)


def fields(section: Section, header: bytes, wanted: frozenset[bytes]) -> bytes:
    """The chosen lines of a header, with the partial cut. wanted: `names` of the section."""
    chosen = headers.select(header, wanted, section.text == "HEADER.FIELDS.NOT")
    if section.partial is not None:
        first, count = section.partial
        return chosen[first : first + count]
    return chosen


def _finder(wanted: frozenset[bytes]) -> Callable[[bytes], list[bytes]]:
    """`mail.headers.select` of lines that are whole and known to be header lines, several times as fast. It takes them
    behind a line end, and finds those wanted each with the line end before it in place of its own.

    Lines that follow on each other are one match, and names begin with a literal, so that those of other initials are
    passed over without a try: without the one or the other it takes a third longer.
    """
    initials = ((name, initial) for name in sorted(wanted) for initial in (name[:1], name[:1].lower()))
    anyone = b"|".join(b"%b(?i:%b)" % (re.escape(initial), re.escape(name[1:])) for name, initial in initials)
    # white space, folded too, may stand before the colon
    begun = rb"(?:%b)(?::|[ \t\r\v\f]*+(?:\n[ \t][ \t\r\v\f]*+)*+:)" % anyone
    return re.compile(rb"\n%b.*+(?:\n(?:%b|[ \t]).*+)*" % (begun, begun)).findall


def _lines(found: list[bytes]) -> bytes:
    """What a finder has found, as lines, and the blank line behind them."""
    joined = b"".join(found)
    return b"%b\n\r\n" % joined[1:] if joined else b"\r\n"


class Column(NamedTuple):
    """A section as a column. form: its opening has the label."""

    form: Form
    of: Callable[[Columns], Literals]


def column(section: Section) -> Column | None:
    """How the section is made of all messages of a page together; None for one that is made row by row."""
    # a field name may have "%"
    label = section.label.replace(b"%", b"%%")
    if not section.path and not section.text:
        return Column(Form(label + b" {%d}\r\n", b""), _whole(section.partial))
    if not from_usual(section):
        return None
    found, join = _finder(names(section)), b"".join
    if section.partial is not None:
        return Column(Form(label + b" {%d}\r\n", b""), _part_of_fields(found, section.partial))

    def fields_of(page: Columns) -> Literals:
        blocks = zip(page.prefixes, page.headers, strict=True)
        chosen = [None if usual is None else join(found(b"\n" + prefix + usual)) for prefix, usual in blocks]
        return Literals([None if lines is None else len(lines) + 2 for lines in chosen], (chosen,))

    # the line end before the first line is the one of the opening, and the last line still wants its own
    return Column(Form(label + b" {%d}\r", b"\n\r\n"), fields_of)


def _part_of_fields(found: Callable[[bytes], list[bytes]], partial: tuple[int, int]) -> Callable[[Columns], Literals]:
    cut = slice(partial[0], partial[0] + partial[1])

    def of(page: Columns) -> Literals:
        blocks = zip(page.prefixes, page.headers, strict=True)
        chosen = [None if usual is None else _lines(found(b"\n" + prefix + usual))[cut] for prefix, usual in blocks]
        return Literals([None if lines is None else len(lines) for lines in chosen], (chosen,))

    return of


def _whole(partial: tuple[int, int] | None) -> Callable[[Columns], Literals]:
    """The messages themselves."""

    def of(page: Columns) -> Literals:
        if partial is None:
            both = zip(page.prefixes, page.contents, strict=True)
            sizes = [None if content is None else len(prefix) + len(content) for prefix, content in both]
            # not put together here: they are large
            return Literals(sizes, (page.prefixes, page.contents) if any(page.prefixes) else (page.contents,))
        cut = slice(partial[0], partial[0] + partial[1])
        both = zip(page.prefixes, page.contents, strict=True)
        parts = [None if content is None else (prefix + content)[cut] for prefix, content in both]
        return Literals([None if part is None else len(part) for part in parts], (parts,))

    return of


def at_hand(section: Section) -> Callable[[Row], bytes | None]:
    """What makes an item, with its label, of a row that has all its octets; None of a row that has not."""
    # a field name may have "%", which the template would take for its own
    opening = section.label.replace(b"%", b"%%") + b" {%d}\r\n%b"
    nil = section.label + b" NIL"
    if not is_fields(section):

        def octets(row: Row) -> bytes | None:
            if row.content is None:
                return None
            whole = place(section, row)
            if whole is None:
                return nil
            cut = whole.cut(section.partial)
            return opening % (cut.size, cut.head + row.content[cut.start : cut.end])

        return octets
    usual, wanted = from_usual(section), names(section)
    found: Callable[[bytes], list[bytes]] | None = None

    def lines(row: Row) -> bytes | None:
        nonlocal found
        if usual and row.headers is not None:
            if found is None:
                # a pattern takes time to make, and there may be many sections
                found = _finder(wanted)
            chosen = _lines(found(b"\n" + (row.prefix or b"") + row.headers))
            if section.partial is not None:
                chosen = chosen[section.partial[0] : section.partial[0] + section.partial[1]]
        elif row.content is None or row.parts is None:
            return None
        else:
            whole = place(section, row)
            if whole is None:
                return nil
            chosen = fields(section, whole.head + row.content[whole.start : whole.end], wanted)
        return opening % (len(chosen), chosen)

    return lines
