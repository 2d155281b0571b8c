"""FETCH and STORE (RFC 3501 §6.4.5, §6.4.6). A new FETCH item is one entry in ITEMS."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

from imap.wire.forms import Attribute, Fetch, FetchItem, Section, SectionText, Store
from imap.wire.limits import SECTION_DEPTH
from imap.wire.tokens import Scanner, unique
from imap.wire.writer import astring

_NAME = re.compile(rb"[A-Za-z0-9.]+")
_PATH = re.compile(rb"[1-9][0-9]{0,9}(?:\.[1-9][0-9]{0,9})*")
_FIELD = re.compile(rb"[\x21-\x39\x3b-\x7e]{1,255}")
_LARGEST_OFFSET = 2**63 - 1

MACROS: Mapping[str, tuple[str, ...]] = {
    "ALL": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"),
    "FAST": ("FLAGS", "INTERNALDATE", "RFC822.SIZE"),
    "FULL": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"),
}


def parse_fetch(scanner: Scanner, *, uid: bool) -> Fetch:
    """``numset item``, ``numset (item item)`` or ``numset macro``."""
    scanner.space()
    numset = scanner.numset()
    scanner.space()
    items: list[FetchItem]
    if scanner.sees(b"("):
        items = scanner.parenthesised(lambda: _item(scanner))
    else:
        start = scanner.at
        macro = MACROS.get(scanner.word("a FETCH item", _NAME))
        scanner.at = scanner.at if macro else start
        items = [Attribute(name) for name in macro] if macro else [_item(scanner)]
    if uid:
        # RFC 3501 §6.4.8: UID FETCH implies the UID item
        items.insert(0, Attribute("UID"))
    return Fetch(numset, tuple(dict.fromkeys(items)), uid)


def parse_store(scanner: Scanner, *, uid: bool) -> Store:
    """``numset [+-]FLAGS[.SILENT] flags``."""
    scanner.space()
    numset = scanner.numset()
    scanner.space()
    mode: Literal["set", "add", "remove"] = "set"
    if scanner.skip(b"+"):
        mode = "add"
    elif scanner.skip(b"-"):
        mode = "remove"
    name = scanner.word("FLAGS or FLAGS.SILENT", _NAME)
    if name not in ("FLAGS", "FLAGS.SILENT"):
        raise scanner.wrong("FLAGS or FLAGS.SILENT before this")
    scanner.space()
    flags = scanner.flag_list() if scanner.sees(b"(") else unique(scanner.items(scanner.flag))
    return Store(numset, mode, name.endswith(".SILENT"), flags, uid)


def _item(scanner: Scanner) -> FetchItem:
    start = scanner.at
    name = scanner.word("a FETCH item", _NAME)
    parse = ITEMS.get(name)
    if parse is None:
        scanner.at = start
        raise scanner.wrong("a FETCH item")
    return parse(scanner)


def _attribute(name: str, scanner: Scanner) -> FetchItem:
    return Attribute(name)


def _body(peek: bool, scanner: Scanner) -> FetchItem:
    if not scanner.sees(b"["):
        if peek:
            raise scanner.wrong('"["')
        return Attribute("BODY")
    return _section(scanner, peek)


def _old_section(name: str, text: SectionText, peek: bool, scanner: Scanner) -> FetchItem:
    return Section(peek, (), text, (), None, name.encode())


def _section(scanner: Scanner, peek: bool) -> Section:
    scanner.expect(b"[")
    path = _path(scanner)
    text: SectionText = ""
    fields: tuple[str, ...] = ()
    if not path or scanner.skip(b"."):
        text = _section_text(scanner, path)
    if text in ("HEADER.FIELDS", "HEADER.FIELDS.NOT"):
        scanner.space()
        fields = tuple(scanner.parenthesised(lambda: _field(scanner)))
    scanner.expect(b"]")
    partial_range: tuple[int, int] | None = None
    if scanner.skip(b"<"):
        first = scanner.number("the first octet of a partial", _LARGEST_OFFSET)
        scanner.expect(b".")
        partial_range = (first, scanner.number("a number of octets", _LARGEST_OFFSET))
        if not partial_range[1]:
            raise scanner.wrong("a number of octets that is not 0 before this")
        scanner.expect(b">")
    return Section(peek, path, text, fields, partial_range, _label(path, text, fields, partial_range))


def _path(scanner: Scanner) -> tuple[int, ...]:
    match = scanner.match(_PATH)
    if match is None:
        return ()
    numbers = match[0].split(b".")
    if len(numbers) > SECTION_DEPTH:
        raise scanner.wrong(f"a part path of at most {SECTION_DEPTH} numbers before this")
    return tuple(map(int, numbers))


def _section_text(scanner: Scanner, path: tuple[int, ...]) -> SectionText:
    if not path and scanner.sees(b"]"):
        return ""
    start = scanner.at
    match scanner.word("a section", _NAME):
        case "HEADER" | "HEADER.FIELDS" | "HEADER.FIELDS.NOT" | "TEXT" as name:
            return name
        case "MIME" as name if path:
            # RFC 3501 §6.4.5: MIME needs a part number before it
            return name
    scanner.at = start
    raise scanner.wrong("a section such as HEADER, TEXT, MIME or 1.2")


def _field(scanner: Scanner) -> str:
    name = scanner.astring("a header field name")
    if not _FIELD.fullmatch(name):
        raise scanner.wrong("a header field name before this")
    return name.decode("ascii")


def _label(path: tuple[int, ...], text: str, fields: tuple[str, ...], partial_range: tuple[int, int] | None) -> bytes:
    section = ".".join((*map(str, path), *((text,) if text else ()))).encode()
    if fields:
        section += b" (%b)" % b" ".join(map(astring, fields))
    # RFC 3501 §7.4.2: only the origin octet of a partial is echoed
    return b"BODY[%b]" % section + (b"<%d>" % partial_range[0] if partial_range else b"")


ITEMS: Mapping[str, Callable[[Scanner], FetchItem]] = {
    **{
        name: partial(_attribute, name)
        for name in ("FLAGS", "UID", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODYSTRUCTURE")
    },
    "BODY": partial(_body, False),
    "BODY.PEEK": partial(_body, True),
    "RFC822": partial(_old_section, "RFC822", "", False),
    "RFC822.HEADER": partial(_old_section, "RFC822.HEADER", "HEADER", True),
    "RFC822.TEXT": partial(_old_section, "RFC822.TEXT", "TEXT", False),
}
