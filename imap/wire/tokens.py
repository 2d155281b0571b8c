"""The grammar's small words: one cursor over a command's octets (RFC 3501 §9)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from typing import TypeVar

from imap.wire import utf7
from imap.wire.errors import BadSyntax
from imap.wire.limits import LIST_ITEMS
from imap.wire.numset import LARGEST, NumSet, parse_numset
from mail.flags import NAMES, is_keyword

T = TypeVar("T")

INBOX = "INBOX"
TAG_MAX = 255
PATTERN_MAX = 1024
"""Characters of a pattern that could be a mailbox's whole name."""

# RFC 3501 §9: ATOM-CHAR leaves out ( ) { SP CTL % * " \ ] and what is above US-ASCII; an astring may have ], a
# list-mailbox also % and *, and a tag is an astring without +.
_ATOM_CHARS = rb"!#$&'+,\-./0-9:;<=>?@A-Z\[^_`a-z|}~"
_ATOM = re.compile(rb"[%b]+" % _ATOM_CHARS)
_ASTRING = re.compile(rb"[%b\]]+" % _ATOM_CHARS)
# no name has this octet
_OF_NO_NAME = "\0"
_LIST_MAILBOX = re.compile(rb"[%b\]%%*]+" % _ATOM_CHARS)
_TAG = re.compile(rb"([%b\]]{1,%d})(?: |\r?\n|\Z)" % (_ATOM_CHARS.replace(rb"+", b""), TAG_MAX))
_QUOTED = re.compile(rb'"([^"\\\r\n]*(?:\\["\\][^"\\\r\n]*)*)"')
_QUOTED_PAIR = re.compile(rb'\\(["\\])')
_LITERAL = re.compile(rb"\{([0-9]{1,20})\+?\}\r\n")
_OVER = re.compile(rb" *\Z")
# RFC 5182 §3: `$` stands alone
_NUMSET = re.compile(rb"[0-9*:,]+\$?|\$")
_NUMBER = re.compile(rb"[0-9]{1,20}")
_FLAG = re.compile(rb"\\?[%b]+" % _ATOM_CHARS)
_DATE = re.compile(rb'("?)([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4})\1')
_DATE_TIME = re.compile(
    rb'"([ 0-9]?[0-9])-([A-Za-z]{3})-([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-])([0-9]{2})([0-9]{2})"'
)
_MONTHS = {month: at for at, month in enumerate(b"jan feb mar apr may jun jul aug sep oct nov dec".split(), start=1)}
_SYSTEM_FLAGS = {name.lower(): name for name in (*(name for _, name in NAMES), "\\Recent")}


def tag_of(command: bytes) -> str:
    """The tag that a command begins with, "*" where it begins with none."""
    match = _TAG.match(command)
    return match[1].decode("ascii") if match else "*"


class Scanner:
    """A cursor over one command. Each method takes one thing at the cursor and moves behind it, or raises BadSyntax.

    utf8: mailbox names are in UTF-8 (RFC 9051 §5.1), and in modified UTF-7 otherwise.
    """

    __slots__ = ("at", "data", "utf8")

    def __init__(self, data: bytes, at: int = 0, *, utf8: bool = False) -> None:
        self.data = data
        self.at = at
        self.utf8 = utf8

    def wrong(self, expected: str) -> BadSyntax:
        """The error that says what was expected here."""
        return BadSyntax(f"expected {expected} at octet {self.at + 1}")

    def match(self, pattern: re.Pattern[bytes]) -> re.Match[bytes] | None:
        """The pattern at the cursor, or None and nothing taken."""
        match = pattern.match(self.data, self.at)
        if match is not None:
            self.at = match.end()
        return match

    def skip(self, octets: bytes) -> bool:
        """Whether these octets stood here."""
        if self.data.startswith(octets, self.at):
            self.at += len(octets)
            return True
        return False

    def sees(self, octets: bytes) -> bool:
        """Whether these octets stand here; nothing is taken."""
        return self.data.startswith(octets, self.at)

    def expect(self, octets: bytes) -> None:
        """These octets."""
        if not self.skip(octets):
            raise self.wrong(f'"{octets.decode()}"')

    def space(self) -> None:
        """One space."""
        if not self.skip(b" "):
            raise self.wrong("a space")

    def end(self) -> None:
        """The command's end. Tolerance: spaces before it."""
        if self.data[self.at :].strip(b" "):
            raise self.wrong("the end of the command")

    def word(self, expected: str, pattern: re.Pattern[bytes] = _ATOM) -> str:
        """An atom that the protocol defines, upper-case."""
        match = self.match(pattern)
        if match is None:
            raise self.wrong(expected)
        return match[0].decode("ascii").upper()

    def number(self, expected: str, largest: int = LARGEST) -> int:
        """0 up to `largest`."""
        match = _NUMBER.match(self.data, self.at)
        if match is None or int(match[0]) > largest:
            raise self.wrong(expected)
        self.at = match.end()
        return int(match[0])

    def numset(self) -> NumSet:
        """A sequence-set."""
        match = self.match(_NUMSET)
        if match is None:
            raise self.wrong("a set of message numbers")
        return parse_numset(match[0])

    def string(self, expected: str) -> bytes:
        """A quoted string or a literal. Tolerance: UTF-8 in a quoted string of those who have not enabled it."""
        if (quoted := self.match(_QUOTED)) is not None:
            text: bytes = quoted[1]
            if not text.isascii():
                # RFC 6855 §3: what is not UTF-8 is refused with BAD
                _utf8(text, self, expected)
            return _QUOTED_PAIR.sub(rb"\1", text) if b"\\" in text else text
        head = _LITERAL.match(self.data, self.at)
        if head is None or len(self.data) - head.end() < int(head[1]):
            raise self.wrong(expected)
        self.at = head.end() + int(head[1])
        return self.data[head.end() : self.at]

    def astring(self, expected: str, pattern: re.Pattern[bytes] = _ASTRING) -> bytes:
        """An atom (that may have `]`) or a string."""
        match = self.match(pattern)
        return match[0] if match is not None else self.string(expected)

    def nstring(self, expected: str) -> bytes | None:
        """NIL or a string."""
        if self.data[self.at : self.at + 3].upper() == b"NIL":
            self.at += 3
            return None
        return self.string(expected)

    def text(self, expected: str) -> str:
        """An astring in UTF-8 (of which US-ASCII is a part)."""
        return _utf8(self.astring(expected), self, expected)

    def mailbox(self) -> str:
        """A mailbox name, decoded, as the client spells it."""
        octets = self.astring("a mailbox name")
        # RFC 3501 §5.1: INBOX is one name in any case of its US-ASCII letters; others have capitals that look like it
        return INBOX if octets.upper() == INBOX.encode() else self._name(octets)

    def pattern(self) -> str:
        """A list-mailbox: a mailbox name with wildcards, decoded; composed (NFC) as names are (RFC 9051 §5.1), where it
        is no longer than those."""
        octets = self.astring("a mailbox name or pattern", _LIST_MAILBOX)
        try:
            text = self._name(octets)
        except BadSyntax as error:
            if error.condition != "NO":
                raise
            # RFC 9051 §6.3.9: what is not in modified UTF-7 is the pattern of no name
            return _OF_NO_NAME
        # composing takes time quadratic in the number of marks in a row
        return unicodedata.normalize("NFC", text) if len(text) <= PATTERN_MAX else text

    def _name(self, octets: bytes) -> str:
        # RFC 6855 §3: a name in UTF-8 is one, whatever was enabled; none in modified UTF-7 looks like it
        return _utf8(octets, self, "a mailbox name") if self.utf8 or not octets.isascii() else utf7.decode(octets)

    def more(self) -> bool:
        """Whether a space stands here, which is taken. Tolerance: not the spaces before the command's end."""
        return _OVER.match(self.data, self.at) is None and self.skip(b" ")

    def items(self, one: Callable[[], T]) -> list[T]:
        """Things with one space between, at least one."""
        found = [one()]
        while self.more():
            if len(found) == LIST_ITEMS:
                raise BadSyntax(f"more than {LIST_ITEMS} members in a list at octet {self.at}")
            found.append(one())
        return found

    def parenthesised(self, one: Callable[[], T], *, empty: bool = False) -> list[T]:
        """``(a b c)``; ``()`` where `empty` allows it."""
        self.expect(b"(")
        if empty and self.skip(b")"):
            return []
        found = self.items(one)
        self.expect(b")")
        return found

    def flag(self) -> str:
        """One flag: a system flag in its RFC spelling, or a checked keyword."""
        match = self.match(_FLAG)
        if match is None:
            raise self.wrong("a flag")
        name: str = match[0].decode("ascii")
        if name.startswith("\\"):
            return _SYSTEM_FLAGS.get(name.lower(), name)
        if not is_keyword(name):
            raise BadSyntax(f"keyword too long before octet {self.at + 1}")
        return name

    def flag_list(self) -> tuple[str, ...]:
        """``(\\Seen work)``, perhaps empty."""
        return unique(self.parenthesised(self.flag, empty=True))

    def date(self) -> date:
        """``1-Feb-1994``, quoted or not."""
        start = self.at
        if (match := self.match(_DATE)) is not None:
            try:
                return date(int(match[4]), _MONTHS[match[3].lower()], int(match[2]))
            except (KeyError, ValueError):
                self.at = start
        raise self.wrong("a date such as 1-Feb-1994")

    def date_time(self) -> datetime:
        """``" 1-Feb-1994 21:52:25 -0800"`` with its zone. Tolerance: a day of one digit without the space before it
        (`imap.quirks`)."""
        start = self.at
        if (match := self.match(_DATE_TIME)) is not None:
            try:
                zone = timedelta(hours=int(match[8]), minutes=int(match[9]))
                if match[7] == b"-":
                    zone = -zone
                day, year = int(match[1]), int(match[3])
                # Tolerance: a leap second is the second before it.
                hour, minute, second = int(match[4]), int(match[5]), min(int(match[6]), 59)
                month = _MONTHS[match[2].lower()]
                return datetime(year, month, day, hour, minute, second, tzinfo=timezone(zone))
            except (KeyError, ValueError):
                self.at = start
        raise self.wrong('a date and time such as " 1-Feb-1994 21:52:25 -0800"')


def _utf8(octets: bytes, scanner: Scanner, expected: str) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise BadSyntax(f"expected {expected} in UTF-8 before octet {scanner.at + 1}") from None


def unique(names: list[str]) -> tuple[str, ...]:
    """Each once, compared without case, in the order of their first."""
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(name.lower(), name)
    return tuple(first.values())
