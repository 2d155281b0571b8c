"""SEARCH (RFC 3501 §6.4.4). A new search key is one entry in KEYS."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

from imap.wire.errors import BadSyntax
from imap.wire.forms import (
    All,
    And,
    Body,
    HasFlag,
    Header,
    InSet,
    Larger,
    Not,
    OnDate,
    Or,
    Search,
    SearchKey,
    Smaller,
    Text,
)
from imap.wire.limits import SEARCH_DEPTH, SEARCH_KEYS
from imap.wire.tokens import Scanner
from imap.wire.writer import code_badcharset

_KEY = re.compile(rb"[A-Za-z0-9]+")
_SET = re.compile(rb"[0-9*]")

CHARSETS = ("US-ASCII", "UTF-8")


def parse_search(scanner: Scanner, *, uid: bool) -> Search:
    """``[CHARSET name] key key…``. BadSyntax is NO [BADCHARSET] for a charset that is not in CHARSETS."""
    scanner.space()
    if scanner.data[scanner.at : scanner.at + 8].upper() == b"CHARSET ":
        scanner.at += 8
        charset = scanner.astring("a charset").upper().decode("ascii", "replace")
        if charset not in CHARSETS:
            raise BadSyntax("strings can be in US-ASCII or UTF-8", condition="NO", code=code_badcharset())
        scanner.space()
    return Search(SearchParser(scanner).keys(SEARCH_DEPTH), uid)


class SearchParser:
    """The keys of one SEARCH; counts them. `depth` is how many more levels may open."""

    __slots__ = ("left", "scanner")

    def __init__(self, scanner: Scanner) -> None:
        self.scanner = scanner
        self.left = SEARCH_KEYS

    def keys(self, depth: int) -> SearchKey:
        """One or more keys, all of which must match."""
        keys = [self.key(depth)]
        while self.scanner.skip(b" "):
            keys.append(self.key(depth))
        return keys[0] if len(keys) == 1 else And(tuple(keys))

    def key(self, depth: int) -> SearchKey:
        """One key."""
        scanner = self.scanner
        self.left -= 1
        if not depth or self.left < 0:
            raise BadSyntax(f"search of more than {SEARCH_DEPTH} levels or {SEARCH_KEYS} keys")
        if scanner.skip(b"("):
            inner = self.keys(depth - 1)
            scanner.expect(b")")
            return inner
        if _SET.match(scanner.data, scanner.at):
            return InSet(scanner.numset(), uid=False)
        start = scanner.at
        parse = KEYS.get(scanner.word("a search key", _KEY))
        if parse is None:
            scanner.at = start
            raise scanner.wrong("a search key")
        return parse(self, depth)


Parse = Callable[[SearchParser, int], SearchKey]


def _constant(key: SearchKey, parser: SearchParser, depth: int) -> SearchKey:
    return key


def _keyword(present: bool, parser: SearchParser, depth: int) -> SearchKey:
    parser.scanner.space()
    return HasFlag(parser.scanner.flag(), present)


def _field(name: str, parser: SearchParser, depth: int) -> SearchKey:
    parser.scanner.space()
    return Header(name, parser.scanner.text("a string"))


def _header(parser: SearchParser, depth: int) -> SearchKey:
    parser.scanner.space()
    name = parser.scanner.text("a header field name").lower()
    parser.scanner.space()
    return Header(name, parser.scanner.text("a string"))


def _body(parser: SearchParser, depth: int) -> SearchKey:
    parser.scanner.space()
    return Body(parser.scanner.text("a string"))


def _text(parser: SearchParser, depth: int) -> SearchKey:
    parser.scanner.space()
    return Text(parser.scanner.text("a string"))


def _on_date(
    of: Literal["internal", "sent"], when: Literal["before", "on", "since"], parser: SearchParser, depth: int
) -> SearchKey:
    parser.scanner.space()
    return OnDate(of, when, parser.scanner.date())


def _larger(parser: SearchParser, depth: int) -> SearchKey:
    parser.scanner.space()
    return Larger(parser.scanner.number("a number of octets"))


def _smaller(parser: SearchParser, depth: int) -> SearchKey:
    parser.scanner.space()
    return Smaller(parser.scanner.number("a number of octets"))


def _uid(parser: SearchParser, depth: int) -> SearchKey:
    parser.scanner.space()
    return InSet(parser.scanner.numset(), uid=True)


def _not(parser: SearchParser, depth: int) -> SearchKey:
    parser.scanner.space()
    return Not(parser.key(depth - 1))


def _or(parser: SearchParser, depth: int) -> SearchKey:
    parser.scanner.space()
    left = parser.key(depth - 1)
    parser.scanner.space()
    return Or(left, parser.key(depth - 1))


def _flag_keys() -> dict[str, Parse]:
    keys: dict[str, Parse] = {}
    for name in ("Answered", "Deleted", "Draft", "Flagged", "Seen"):
        keys[name.upper()] = partial(_constant, HasFlag(f"\\{name}", True))
        keys[f"UN{name.upper()}"] = partial(_constant, HasFlag(f"\\{name}", False))
    return keys


_RECENT = HasFlag("\\Recent", True)

KEYS: Mapping[str, Parse] = {
    **_flag_keys(),
    "ALL": partial(_constant, All()),
    "RECENT": partial(_constant, _RECENT),
    "OLD": partial(_constant, HasFlag("\\Recent", False)),
    "NEW": partial(_constant, And((_RECENT, HasFlag("\\Seen", False)))),
    "KEYWORD": partial(_keyword, True),
    "UNKEYWORD": partial(_keyword, False),
    **{name.upper(): partial(_field, name) for name in ("bcc", "cc", "from", "subject", "to")},
    "HEADER": _header,
    "BODY": _body,
    "TEXT": _text,
    "BEFORE": partial(_on_date, "internal", "before"),
    "ON": partial(_on_date, "internal", "on"),
    "SINCE": partial(_on_date, "internal", "since"),
    "SENTBEFORE": partial(_on_date, "sent", "before"),
    "SENTON": partial(_on_date, "sent", "on"),
    "SENTSINCE": partial(_on_date, "sent", "since"),
    "LARGER": _larger,
    "SMALLER": _smaller,
    "UID": _uid,
    "NOT": _not,
    "OR": _or,
}
