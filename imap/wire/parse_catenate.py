"""CATENATE of APPEND (RFC 4469 §5, RFC 6855 §4): a message put together of text and URLs, as far as a line of the
command has it."""

from __future__ import annotations

import re
from dataclasses import replace

from imap.wire.errors import BadSyntax
from imap.wire.forms import Catenation, CatLiteral, CatUrl
from imap.wire.limits import LIST_ITEMS
from imap.wire.tokens import Scanner

_LITERAL = re.compile(rb"\{([0-9]{1,20})(\+?)\}\Z")
_UTF8 = re.compile(rb"\(~(?=\{)")


def parse_catenation(scanner: Scanner) -> Catenation:
    """Behind ``CATENATE (``: ``URL "…" TEXT {n}``, or ``URL "…")`` and what follows it, which is left for later."""
    return _parts(scanner, [])


def parse_catenation_further(line: bytes, before: CatLiteral) -> Catenation:
    """What stands behind the octets of a literal of CATENATE. before: that literal, which may leave a parenthesis to be
    closed. Raises BadSyntax."""
    if b"\0" in line:
        raise BadSyntax("A command has no NUL octets")
    scanner = Scanner(line)
    try:
        if before.utf8:
            scanner.expect(b")")
        if scanner.skip(b")"):
            return _closed(scanner, [])
        scanner.space()
        return _parts(scanner, [])
    except BadSyntax as error:
        raise BadSyntax(f"CATENATE: {error.text}") from None


def _parts(scanner: Scanner, found: list[CatUrl | CatLiteral]) -> Catenation:
    while True:
        if len(found) == LIST_ITEMS:
            raise BadSyntax(f"more than {LIST_ITEMS} members in a list at octet {scanner.at}")
        match scanner.word("TEXT or URL"):
            case "TEXT" | "UTF8" as name:
                scanner.space()
                if name == "UTF8" and scanner.match(_UTF8) is None:
                    raise scanner.wrong('"(" and the text as a literal8')
                if (literal := _literal(scanner, is_url=False)) is None:
                    raise scanner.wrong("the text as a literal")
                return Catenation((*found, replace(literal, utf8=name == "UTF8")), None)
            case "URL":
                scanner.space()
                if (literal := _literal(scanner, is_url=True)) is not None:
                    return Catenation((*found, literal), None)
                found.append(CatUrl(scanner.text("a URL")))
            case _:
                raise scanner.wrong("TEXT or URL before this")
        if scanner.skip(b")"):
            return _closed(scanner, found)
        scanner.space()


def _closed(scanner: Scanner, found: list[CatUrl | CatLiteral]) -> Catenation:
    rest = scanner.data[scanner.at :]
    scanner.at = len(scanner.data)
    return Catenation(tuple(found), rest)


def _literal(scanner: Scanner, *, is_url: bool) -> CatLiteral | None:
    """The literal at the line's end, whose octets follow as a stream."""
    match = scanner.match(_LITERAL)
    return None if match is None else CatLiteral(int(match[1]), not match[2], is_url)
