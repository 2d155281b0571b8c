"""The mbox format, mboxrd's way: many messages in one file, each after a From_ line (RFC 4155, and what is in use).

A line of a message that begins with any number of ">" and "From " has one ">" more in the file, so that it comes back
as it was. After each message there is one LF. Flags are kept in header fields: Status and X-Status (Berkeley mail,
mutt, Dovecot: R O, A F D T) and X-Keywords (Dovecot); a reader takes the first of each away.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from mail import flags as flag

LINE_MAX = 64 * 1024
"""Octets of one piece of a line that readers hand in; a longer line comes in several."""

FROM_MAX = 1_000
"""Octets of the longest line that can be a From_ line."""

_FROM = re.compile(
    rb"From [^\n]*?\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? +"
    rb"(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) +(\d{1,2}) +(\d{1,2}):(\d\d)(?::(\d\d))?"
    rb"(?: +[A-Za-z]{1,5})?(?: +([+-]\d{4}))? +(\d{4})(?: +([+-]\d{4}))?[^\n]{0,200}\n?"
)
_TO_UNQUOTE = re.compile(rb"^>(?=>*From )", re.MULTILINE)
_BARE = re.compile(rb"(?<!\r)\n")
_TO_QUOTE = re.compile(rb"^(?=>*From )", re.MULTILINE)
# What a line that is not whole yet may begin with, and still become one to be quoted.
_UNDECIDED = re.compile(rb">*(?:F(?:r(?:o(?:m)?)?)?)?\Z")
_FIELDS = {b"status": 0, b"x-status": 1, b"x-keywords": 2}
_LETTERS = ((b"R", flag.SEEN), (b"A", flag.ANSWERED), (b"F", flag.FLAGGED), (b"D", flag.DELETED), (b"T", flag.DRAFT))
_DAYS = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Span(NamedTuple):
    """Where a message is in the file: start of its From_ line, begin and end of what is in it (the LF after it left
    out). date: what the From_ line says, in Unix seconds, as UTC where it has no zone."""

    start: int
    begin: int
    end: int
    date: int


def from_date(line: bytes) -> int | None:
    """The date of a From_ line in Unix seconds; None for a line that is none."""
    match = _FROM.fullmatch(line) if line.startswith(b"From ") and len(line) <= FROM_MAX else None
    if match is None:
        return None
    month, day, hour, minute, second, before, year, after = match.groups()
    try:
        date = datetime(int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), tzinfo=UTC)
    except ValueError:
        return None
    zone = before or after or b"+0000"
    away = (int(zone[1:3]) * 60 + int(zone[3:5])) * (-60 if zone[:1] == b"-" else 60)
    return int(date.timestamp()) + int(second or 0) - away


def from_line(date: int) -> bytes:
    """The From_ line of a message that came in at that time, in UTC (RFC 4155); years 1 to 9999."""
    at = _EPOCH + timedelta(seconds=date)
    day, month = _DAYS[at.weekday()], _MONTHS[at.month - 1]
    return b"From MAILER-DAEMON %s %s %2d %02d:%02d:%02d %04d\n" % (
        *(day, month, at.day),
        *(at.hour, at.minute, at.second, at.year),
    )


def spans(lines: Iterable[bytes]) -> Iterator[Span]:
    """The messages of a file, given line by line (or piece of a line). What stands before the first From_ line is
    passed over."""
    at = ending = 0
    found: tuple[int, int, int] | None = None
    crlf = exact = False
    whole = True
    for line in lines:
        date = from_date(line) if whole else None
        if date is not None:
            if found is not None:
                yield _span(found, at - ending)
            found = at, at + len(line), date
            crlf, exact, ending = line.endswith(b"\r\n"), False, 0
        else:
            if found is not None and at == found[1]:
                exact = line.endswith(b"\r\n")
            if whole and line in (b"\n", b"\r\n"):
                ending = len(line) if crlf else 1
            else:
                # The LF after a message of CRLF lines that does not end with one: others end with a line.
                ending = 1 if exact and not crlf and line.endswith(b"\n") else 0
        whole = line.endswith(b"\n")
        at += len(line)
    if found is not None:
        yield _span(found, at - ending)


def _span(found: tuple[int, int, int], end: int) -> Span:
    start, begin, date = found
    return Span(start, begin, max(begin, end), date)


class Status:
    """The header fields that a mail program keeps its flags in, as they were found."""

    def __init__(self) -> None:
        self.flags = 0
        self.keywords: tuple[str, ...] = ()
        self._words: dict[int, bytes] = {}

    def take(self, line: bytes) -> bool:
        """Is this the first field of its name that belongs here? Then it is taken."""
        name, colon, value = line.partition(b":")
        place = _FIELDS.get(name.strip().lower()) if colon else None
        if place is None or place in self._words:
            return False
        self._words[place] = value.strip()
        letters = self._words.get(0, b"") + self._words.get(1, b"")
        self.flags = sum(bit for letter, bit in _LETTERS if letter in letters)
        if place == 2:
            words = (one.decode("utf-8", "replace") for one in value.split())
            self.keywords = tuple(dict.fromkeys(one for one in words if flag.is_keyword(one)))
        return True


def status_lines(bits: int, keywords: Iterable[str]) -> bytes:
    """All three fields, always, so that a reader takes away none that the message has of its own."""
    letters = b"".join(letter for letter, bit in _LETTERS[1:] if bits & bit)
    seen = b"RO" if bits & flag.SEEN else b"O"
    return b"Status: %s\r\nX-Status: %s\r\nX-Keywords: %s\r\n" % (seen, letters, " ".join(keywords).encode())


def content(lines: Iterable[bytes], status: Status) -> Iterator[bytes]:
    """The octets of a message from the lines of its span: without the fields of `status`, without the quoting.

    A message whose first line ends with CRLF is as it is; in any other each bare LF becomes CRLF.
    """
    exact: bool | None = None
    in_header = begins = True
    dropping = False
    block: list[bytes] = []
    size = 0
    body = _Body()
    for line in lines:
        if in_header:
            if exact is None and line.endswith(b"\n"):
                exact = line.endswith(b"\r\n")
            if begins:
                if line in (b"\n", b"\r\n"):
                    in_header = dropping = False
                elif exact or not (dropping and line[:1] in (b" ", b"\t")):
                    # What `status_lines` wrote is not folded: what follows is the message, whatever it begins with.
                    dropping = status.take(line)
            begins = line.endswith(b"\n")
            if dropping:
                continue
        block.append(line)
        size += len(line)
        if size >= LINE_MAX:
            yield body.take(b"".join(block), exact=bool(exact))
            block, size = [], 0
    if block:
        yield body.take(b"".join(block), exact=bool(exact))


class _Body:
    """Takes the quoting away, and makes line ends right, block by block."""

    def __init__(self) -> None:
        self._last = b"\n"

    def take(self, octets: bytes, *, exact: bool) -> bytes:
        begins, after_cr = self._last == b"\n", self._last == b"\r"
        self._last = octets[-1:]
        # Where a line was cut, what follows does not begin one.
        cut = 0 if begins else octets.find(b"\n") + 1 or len(octets)
        if b"\n>" in octets or octets.startswith(b">"):
            octets = octets[:cut] + _TO_UNQUOTE.sub(b"", octets[cut:])
        if exact:
            return octets
        if after_cr and octets.startswith(b"\n"):
            return b"\n" + _BARE.sub(b"\r\n", octets[1:])
        return _BARE.sub(b"\r\n", octets)


class Quoting:
    """The octets of a message as they stand in the file; pieces of any length in, about the same out."""

    def __init__(self) -> None:
        self._held = b""
        self._begins = True

    def feed(self, piece: bytes) -> bytes:
        octets = self._held + piece
        cut = octets.rfind(b"\n") + 1
        # Only the last line can be undecided, and only where it begins here.
        undecided = (cut > 0 or self._begins) and _UNDECIDED.match(octets, cut) is not None
        self._held = octets[cut:] if undecided else b""
        ready = octets[:cut] if undecided else octets
        if not ready:
            return b""
        begins, self._begins = self._begins, ready.endswith(b"\n")
        return _quote(ready, begins)

    def end(self) -> bytes:
        """What was held back; nothing more comes."""
        held, self._held = self._held, b""
        return held


def _quote(octets: bytes, begins: bool) -> bytes:
    if begins:
        return _TO_QUOTE.sub(b">", octets)
    cut = octets.find(b"\n") + 1
    return octets[:cut] + _TO_QUOTE.sub(b">", octets[cut:]) if cut else octets
