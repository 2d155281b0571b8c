"""Where the octets of BODY[section] are (RFC 3501 §6.4.5): in the account's prefix and in the shared blob.

A message is its row's prefix followed by the blob. The prefix holds whole header lines, so that it belongs to the
message's own header and to nothing else; part offsets count from the blob's start.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from imap.wire.forms import Section
from mail import headers, parts
from storage.model import Row, Want


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


def _chooser(wanted: frozenset[bytes]) -> Callable[[bytes], bytes]:
    """`mail.headers.select` of lines that are whole and known to be header lines, several times as fast."""
    anyone = b"|".join(re.escape(name) for name in sorted(wanted))
    # each with the line end before it: a literal to look for is faster than the beginning of a line
    found = re.compile(rb"\n(?:%b)[ \t]*+:[^\n]*+(?:\n[ \t][^\n]*+)*+" % anyone, re.IGNORECASE).findall

    def choose(block: bytes) -> bytes:
        chosen = b"".join(found(b"\n" + block))
        return chosen[1:] + b"\n\r\n" if chosen else b"\r\n"

    return choose


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
    choose: Callable[[bytes], bytes] | None = None

    def lines(row: Row) -> bytes | None:
        nonlocal choose
        if usual and row.headers is not None:
            if choose is None:
                # a pattern takes time to make, and there may be many sections
                choose = _chooser(wanted)
            chosen = choose((row.prefix or b"") + row.headers)
            if section.partial is not None:
                chosen = chosen[section.partial[0] : section.partial[0] + section.partial[1]]
        elif usual or row.content is None:
            return None
        else:
            whole = place(section, row)
            if whole is None:
                return nil
            chosen = fields(section, whole.head + row.content[whole.start : whole.end], wanted)
        return opening % (len(chosen), chosen)

    return lines
