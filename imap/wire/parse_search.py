"""SEARCH (RFC 3501 §6.4.4), SORT and THREAD (RFC 5256 §3). A new search key is one entry in KEYS."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Literal

from imap.wire.errors import BadSyntax
from imap.wire.forms import (
    All,
    And,
    Body,
    Criterion,
    EmailId,
    Fuzzy,
    HasFlag,
    Header,
    InSet,
    Larger,
    Modseq,
    Not,
    OnDate,
    Or,
    Return,
    Search,
    SearchKey,
    Smaller,
    Sort,
    Text,
    Thread,
    ThreadId,
    Window,
    Within,
)
from imap.wire.limits import MODSEQ_MAX, SEARCH_DEPTH, SEARCH_KEYS
from imap.wire.numset import LARGEST, NumSet, Ranges
from imap.wire.tokens import Scanner

_KEY = re.compile(rb"[A-Za-z0-9]+")
_FLAG_ENTRY = re.compile(rb"/flags/[\x21-\x7e]{1,255}")
_OBJECT_ID = re.compile(rb"[A-Za-z0-9_-]{1,255}(?![A-Za-z0-9_-])")
_SET = re.compile(rb"[0-9*$]")
_RETURN = re.compile(rb"RETURN (?=\()", re.IGNORECASE)
_CHARSET = re.compile(rb"CHARSET ", re.IGNORECASE)
_WINDOW = re.compile(rb"(-?)([1-9][0-9]{0,9}):(-?)([1-9][0-9]{0,9})")

CHARSETS = (b"US-ASCII", b"UTF-8")

RETURNS = frozenset(("MIN", "MAX", "ALL", "COUNT", "SAVE", "RELEVANCY"))
"""RETURN options without an argument: RFC 4731 §3.1, RFC 5182 §2.1, RFC 6203 §4."""

CRITERIA = frozenset(
    ("ARRIVAL", "CC", "DATE", "FROM", "SIZE", "SUBJECT", "TO", "DISPLAYFROM", "DISPLAYTO", "RELEVANCY")
)
"""RFC 5256 §3, RFC 5957 §4, RFC 6203 §6."""
_LARGEST_SIZE = 2**63 - 1


def parse_search(scanner: Scanner, *, uid: bool) -> Search:
    """``[RETURN (option option…)] [CHARSET name] key key…``."""
    scanner.space()
    returns = _returns(scanner)
    if scanner.match(_CHARSET) is not None:
        return replace(_keys_in_charset(scanner, uid, returns), charset=True)
    return _relevant(scanner, Search(SearchParser(scanner).keys(SEARCH_DEPTH), uid, returns=returns))


def parse_sort(scanner: Scanner, *, uid: bool) -> Sort:
    """``[RETURN (option option…)] (criterion criterion…) charset key key…``."""
    scanner.space()
    returns = _returns(scanner)
    criteria = scanner.parenthesised(lambda: _criterion(scanner))
    scanner.space()
    search = _keys_in_charset(scanner, uid, returns)
    if any(criterion.name == "RELEVANCY" for criterion in criteria) and search.known_charset:
        _check_fuzzy(scanner, search)
    return Sort(search, tuple(dict.fromkeys(criteria)))


def parse_thread(scanner: Scanner, *, uid: bool) -> Thread:
    """``algorithm charset key key…``."""
    scanner.space()
    start = scanner.at
    match scanner.word("a threading algorithm"):
        case "ORDEREDSUBJECT" | "REFERENCES" as algorithm:
            scanner.space()
            return Thread(_keys_in_charset(scanner, uid, None), algorithm)
    scanner.at = start
    raise scanner.wrong("ORDEREDSUBJECT or REFERENCES")


def parse_window(scanner: Scanner) -> Window:
    """``1:500`` or ``-1:-500`` (RFC 9394 §4 partial-range)."""
    match = scanner.match(_WINDOW)
    if match is None or match[1] != match[3]:
        raise scanner.wrong("a range such as 1:500 or -1:-500 before this" if match else "a range such as 1:500")
    first, last = sorted((int(match[2]), int(match[4])))
    if last > LARGEST:
        raise scanner.wrong(f"a range up to {LARGEST} before this")
    return Window(first, last, bool(match[1]), match[0])


def _returns(scanner: Scanner) -> Return | None:
    """RFC 4466 §2.6.1: ``RETURN (…)`` and a space, where it is there."""
    if scanner.match(_RETURN) is None:
        return None
    options: set[str] = set()
    window: Window | None = None

    def option() -> None:
        nonlocal window
        start = scanner.at
        name = scanner.word("a result option", _KEY)
        if name == "PARTIAL" and window is None:
            scanner.space()
            window = parse_window(scanner)
        elif name in RETURNS:
            options.add(name)
        else:
            scanner.at = start
            raise scanner.wrong("a result option")

    scanner.parenthesised(option, empty=True)
    if window is not None and "ALL" in options:
        # RFC 9394 §3.1
        raise scanner.wrong("PARTIAL or ALL, not both, before this")
    scanner.space()
    # RFC 4731 §3.1: no options are as good as ALL
    return Return(frozenset(options) if options or window is not None else frozenset(("ALL",)), window)


def _keys_in_charset(scanner: Scanner, uid: bool, returns: Return | None) -> Search:
    """A charset and keys whose strings are in it."""
    charset = scanner.astring("a charset")
    scanner.space()
    if charset.upper() not in CHARSETS:
        # the command's strings cannot be read; RFC 5182 §2.1 has the session answer that, which may forget a result
        scanner.at = len(scanner.data)
        return Search(All(), uid, known_charset=False, returns=returns)
    return _relevant(scanner, Search(SearchParser(scanner).keys(SEARCH_DEPTH), uid, returns=returns))


def _relevant(scanner: Scanner, search: Search) -> Search:
    if search.returns is not None and "RELEVANCY" in search.returns.options:
        _check_fuzzy(scanner, search)
    return search


def _check_fuzzy(scanner: Scanner, search: Search) -> None:
    # RFC 6203 §4, §6: only with a FUZZY key
    if not any(isinstance(key, Fuzzy) for key in inner(search.key)):
        raise scanner.wrong("a FUZZY key, of which RELEVANCY would tell, before this")


def inner(key: SearchKey) -> Iterator[SearchKey]:
    """The key and all in it."""
    todo = [key]
    while todo:
        key = todo.pop()
        yield key
        match key:
            case And(keys):
                todo.extend(keys)
            case Or(left, right):
                todo.extend((left, right))
            case Not(one) | Fuzzy(one):
                todo.append(one)


def _criterion(scanner: Scanner) -> Criterion:
    start = scanner.at
    name = scanner.word("a sort criterion", _KEY)
    reverse = name == "REVERSE"
    if reverse:
        scanner.space()
        start = scanner.at
        name = scanner.word("a sort criterion", _KEY)
    if name not in CRITERIA:
        scanner.at = start
        raise scanner.wrong("a sort criterion")
    return Criterion(name, reverse)


class SearchParser:
    """The keys of one SEARCH; counts them. `depth` is how many more levels may open."""

    __slots__ = ("left", "scanner")

    def __init__(self, scanner: Scanner) -> None:
        self.scanner = scanner
        self.left = SEARCH_KEYS

    def keys(self, depth: int) -> SearchKey:
        """One or more keys, all of which must match."""
        keys = [self.key(depth)]
        while self.scanner.more():
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
    of: Literal["internal", "sent", "saved"], when: Literal["before", "on", "since"], parser: SearchParser, depth: int
) -> SearchKey:
    parser.scanner.space()
    return OnDate(of, when, parser.scanner.date())


def _within(when: Literal["older", "younger"], parser: SearchParser, depth: int) -> SearchKey:
    parser.scanner.space()
    seconds = parser.scanner.number("a number of seconds")
    if not seconds:
        # RFC 5032 §3: nz-number
        raise parser.scanner.wrong("a number of seconds that is not 0 before this")
    return Within(when, seconds)


def _larger(parser: SearchParser, depth: int) -> SearchKey:
    parser.scanner.space()
    # RFC 9051 §9: number64
    return Larger(parser.scanner.number("a number of octets", _LARGEST_SIZE))


def _smaller(parser: SearchParser, depth: int) -> SearchKey:
    parser.scanner.space()
    return Smaller(parser.scanner.number("a number of octets", _LARGEST_SIZE))


def _uid(parser: SearchParser, depth: int) -> SearchKey:
    parser.scanner.space()
    return InSet(parser.scanner.numset(), uid=True)


def _uid_after(parser: SearchParser, depth: int) -> SearchKey:
    """``n`` (RFC 9738 §3.2)."""
    parser.scanner.space()
    uid = parser.scanner.number("a UID")
    return InSet(NumSet(Ranges(((uid + 1, LARGEST),) if uid < LARGEST else ())), uid=True)


def _uid_before(parser: SearchParser, depth: int) -> SearchKey:
    """``n`` (RFC 9738 §3.2)."""
    parser.scanner.space()
    uid = parser.scanner.number("a UID")
    return InSet(NumSet(Ranges(((1, uid - 1),) if uid > 1 else ())), uid=True)


def _modseq(parser: SearchParser, depth: int) -> SearchKey:
    """``["/flags/name" type] n`` (RFC 7162 §7)."""
    scanner = parser.scanner
    scanner.space()
    if scanner.sees(b'"'):
        entry = scanner.string("a metadata entry")
        scanner.space()
        if not _FLAG_ENTRY.fullmatch(entry) or scanner.word("priv, shared or all") not in ("PRIV", "SHARED", "ALL"):
            raise scanner.wrong('"/flags/name" and priv, shared or all before this')
        scanner.space()
    # RFC 7162 §3.1.5: sequences are not kept by flag, so that the message's own is compared
    return Modseq(scanner.number("a modification sequence", MODSEQ_MAX))


def _object_id(form: type[EmailId] | type[ThreadId], parser: SearchParser, depth: int) -> SearchKey:
    parser.scanner.space()
    match = parser.scanner.match(_OBJECT_ID)
    if match is None:
        raise parser.scanner.wrong("an object id")
    return form(match[0].decode("ascii"))


def _not(parser: SearchParser, depth: int) -> SearchKey:
    parser.scanner.space()
    return Not(parser.key(depth - 1))


def _fuzzy(parser: SearchParser, depth: int) -> SearchKey:
    parser.scanner.space()
    return Fuzzy(parser.key(depth - 1))


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
    "SAVEDBEFORE": partial(_on_date, "saved", "before"),
    "SAVEDON": partial(_on_date, "saved", "on"),
    "SAVEDSINCE": partial(_on_date, "saved", "since"),
    # RFC 8514 §4.3: all messages, where the mailbox has save dates, as all of ours have
    "SAVEDATESUPPORTED": partial(_constant, All()),
    "OLDER": partial(_within, "older"),
    "YOUNGER": partial(_within, "younger"),
    "LARGER": _larger,
    "SMALLER": _smaller,
    "UID": _uid,
    "UIDAFTER": _uid_after,
    "UIDBEFORE": _uid_before,
    "MODSEQ": _modseq,
    "EMAILID": partial(_object_id, EmailId),
    "THREADID": partial(_object_id, ThreadId),
    "NOT": _not,
    "FUZZY": _fuzzy,
    "OR": _or,
}
