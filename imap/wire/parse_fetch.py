"""FETCH and STORE (RFC 3501 §6.4.5, §6.4.6). A new FETCH item is one entry in ITEMS."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

from imap.wire.errors import BadSyntax
from imap.wire.forms import Attribute, Binary, BinarySize, Fetch, FetchItem, Section, SectionText, Store, Window
from imap.wire.limits import MODSEQ_MAX, SECTION_DEPTH
from imap.wire.parse_search import parse_window
from imap.wire.tokens import Scanner, unique
from imap.wire.writer import astring

_NAME = re.compile(rb"[A-Za-z0-9.]+")
_PATH = re.compile(rb"[1-9][0-9]{0,9}(?:\.[1-9][0-9]{0,9})*")
_LAZY = re.compile(rb" \(LAZY\)", re.IGNORECASE)
_FIELD = re.compile(rb"[\x21-\x39\x3b-\x7e]{1,255}")
_LARGEST_OFFSET = 2**63 - 1

MACROS: Mapping[str, tuple[str, ...]] = {
    "ALL": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"),
    "FAST": ("FLAGS", "INTERNALDATE", "RFC822.SIZE"),
    "FULL": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"),
}


def parse_fetch(scanner: Scanner, *, uid: bool) -> Fetch:
    """``numset item``, ``numset (item item)`` or ``numset macro``, and perhaps ``(modifier modifier)``."""
    scanner.space()
    numset = scanner.numset()
    scanner.space()
    items: list[FetchItem]
    if scanner.sees(b"("):
        items = scanner.parenthesised(lambda: parse_item(scanner))
    else:
        start = scanner.at
        macro = MACROS.get(scanner.word("a FETCH item", _NAME))
        scanner.at = scanner.at if macro else start
        items = [Attribute(name) for name in macro] if macro else [parse_item(scanner)]
    asks_uid = Attribute("UID") in items
    if uid:
        # RFC 3501 §6.4.8: UID FETCH implies the UID item
        items.insert(0, Attribute("UID"))
    changed_since, vanished, window = _modifiers(scanner, uid) if scanner.skip(b" (") else (None, False, None)
    if changed_since is not None:
        # RFC 7162 §3.1.4.1: CHANGEDSINCE implies the MODSEQ item
        items.append(Attribute("MODSEQ"))
    return Fetch(numset, tuple(dict.fromkeys(items)), uid, changed_since, vanished, window, asks_uid)


def _modifiers(scanner: Scanner, uid: bool) -> tuple[int | None, bool, Window | None]:
    """``(CHANGEDSINCE n VANISHED PARTIAL -1:-30)`` in any order (RFC 4466 §2.4, RFC 7162 §7, RFC 9394 §4)."""
    changed_since: int | None = None
    vanished = False
    window: Window | None = None
    while True:
        match scanner.word("CHANGEDSINCE, VANISHED or PARTIAL"):
            case "CHANGEDSINCE" if changed_since is None:
                scanner.space()
                # Tolerance: 0, which the grammar has not, is before everything
                changed_since = scanner.number("a modification sequence", MODSEQ_MAX)
            case "VANISHED" if uid and not vanished:
                vanished = True
            case "PARTIAL" if uid and window is None:
                # RFC 9394 §3.3: of UID FETCH alone
                scanner.space()
                window = parse_window(scanner)
            case name:
                raise BadSyntax(f"{name[:40]} is no modifier here, or stands here twice")
        if scanner.skip(b")"):
            break
        scanner.space()
    if vanished and changed_since is None:
        # RFC 7162 §3.2.6
        raise BadSyntax("VANISHED goes with CHANGEDSINCE")
    return changed_since, vanished, window


def parse_store(scanner: Scanner, *, uid: bool) -> Store:
    """``numset [(UNCHANGEDSINCE n)] [+-]FLAGS[.SILENT] flags``."""
    scanner.space()
    numset = scanner.numset()
    scanner.space()
    unchanged_since: int | None = None
    if scanner.skip(b"("):
        # RFC 7162 §3.1.3
        if scanner.word("UNCHANGEDSINCE") != "UNCHANGEDSINCE":
            raise BadSyntax("UNCHANGEDSINCE is the one modifier of STORE")
        scanner.space()
        unchanged_since = scanner.number("a modification sequence", MODSEQ_MAX)
        scanner.expect(b")")
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
    return Store(numset, mode, name.endswith(".SILENT"), flags, uid, unchanged_since)


def parse_item(scanner: Scanner) -> FetchItem:
    """One FETCH item."""
    start = scanner.at
    name = scanner.word("a FETCH item", _NAME)
    parse = ITEMS.get(name)
    if parse is None:
        scanner.at = start
        raise scanner.wrong("a FETCH item")
    return parse(scanner)


def _attribute(name: str, scanner: Scanner) -> FetchItem:
    return Attribute(name)


def _preview(scanner: Scanner) -> FetchItem:
    # RFC 8970 §3.2: with LAZY as without, since the preview was made when the message came
    scanner.match(_LAZY)
    return Attribute("PREVIEW")


def _body(peek: bool, scanner: Scanner) -> FetchItem:
    if not scanner.sees(b"["):
        if peek:
            raise scanner.wrong('"["')
        return Attribute("BODY")
    return _section(scanner, peek)


def _old_section(name: str, text: SectionText, peek: bool, scanner: Scanner) -> FetchItem:
    return Section(peek, (), text, (), None, name.encode())


def parse_section(text: bytes) -> Section:
    """What may stand between the brackets of BODY[…]. Raises BadSyntax."""
    scanner = Scanner(b"[%b]" % text)
    section = _section(scanner, True)
    scanner.end()
    return section


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
    partial_range = _partial(scanner)
    return Section(peek, path, text, fields, partial_range, _label(path, text, fields, partial_range))


def _partial(scanner: Scanner) -> tuple[int, int] | None:
    if not scanner.skip(b"<"):
        return None
    first = scanner.number("the first octet of a partial", _LARGEST_OFFSET)
    scanner.expect(b".")
    count = scanner.number("a number of octets", _LARGEST_OFFSET)
    if not count:
        raise scanner.wrong("a number of octets that is not 0 before this")
    scanner.expect(b">")
    return first, count


def _binary(peek: bool, scanner: Scanner) -> FetchItem:
    """``[part]<first.count>`` (RFC 3516 §7, RFC 9051 §9 section-binary)."""
    path = _binary_path(scanner)
    partial_range = _partial(scanner)
    return Binary(peek, path, partial_range, b"BINARY" + _label(path, "", (), partial_range).removeprefix(b"BODY"))


def _binary_size(scanner: Scanner) -> FetchItem:
    path = _binary_path(scanner)
    return BinarySize(path, b"BINARY.SIZE" + _label(path, "", (), None).removeprefix(b"BODY"))


def _binary_path(scanner: Scanner) -> tuple[int, ...]:
    scanner.expect(b"[")
    path = _path(scanner)
    scanner.expect(b"]")
    return path


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
        for name in (
            "FLAGS",
            "UID",
            "INTERNALDATE",
            "SAVEDATE",
            "RFC822.SIZE",
            "ENVELOPE",
            "BODYSTRUCTURE",
            "MODSEQ",
            "EMAILID",
            "THREADID",
        )
    },
    "PREVIEW": _preview,
    "BODY": partial(_body, False),
    "BODY.PEEK": partial(_body, True),
    "BINARY": partial(_binary, False),
    "BINARY.PEEK": partial(_binary, True),
    "BINARY.SIZE": _binary_size,
    "RFC822": partial(_old_section, "RFC822", "", False),
    "RFC822.HEADER": partial(_old_section, "RFC822.HEADER", "HEADER", True),
    "RFC822.TEXT": partial(_old_section, "RFC822.TEXT", "TEXT", False),
    # Tolerance: those of RFC 1730 §6.4.5 that set no \Seen (`imap.quirks`)
    "RFC822.PEEK": partial(_old_section, "RFC822", "", True),
    "RFC822.TEXT.PEEK": partial(_old_section, "RFC822.TEXT", "TEXT", True),
}
