"""GETMETADATA and SETMETADATA (RFC 5464 §4.2, §4.3, §5), and the entries of LIST's METADATA (RFC 9590 §5)."""

from __future__ import annotations

import re
from typing import Literal

from imap.wire.errors import BadSyntax
from imap.wire.forms_metadata import GetMetadata, SetMetadata
from imap.wire.numset import LARGEST
from imap.wire.tokens import Scanner, unique

# RFC 5464 §3.2.1: US-ASCII without controls and wildcards, no component of it empty.
_ENTRY = re.compile(rb"/(?:private|shared)(?:/[ !-$&-)+-.0-~]+)*", re.IGNORECASE)
_OPTIONS = re.compile(rb"\((?=(?:MAXSIZE|DEPTH) )", re.IGNORECASE)


def parse_getmetadata(scanner: Scanner) -> GetMetadata:
    """``[(options)] mailbox entries``."""
    scanner.space()
    options = _options(scanner)
    if options is not None:
        scanner.space()
    mailbox = scanner.mailbox()
    scanner.space()
    # Tolerance: the options behind the mailbox, where the examples of RFC 5464 had them before they were corrected.
    if options is None and (options := _options(scanner)) is not None:
        scanner.space()
    largest, depth = options or (None, "0")
    return GetMetadata(mailbox, parse_entries(scanner), largest, depth)


def parse_setmetadata(scanner: Scanner) -> SetMetadata:
    """``mailbox (entry value entry value)``."""
    scanner.space()
    mailbox = scanner.mailbox()
    scanner.space()
    nul = scanner.data.count(b"\0")
    values: dict[str, tuple[str, bytes | None]] = {}

    def one() -> None:
        nonlocal nul
        entry = _entry(scanner, whole=True)
        scanner.space()
        is_binary = scanner.skip(b"~")
        if is_binary and not scanner.sees(b"{"):
            raise scanner.wrong("a literal")
        value = scanner.nstring("NIL or a string")
        if is_binary and value is not None:
            nul -= value.count(b"\0")
        if values.setdefault(entry.lower(), (entry, value)) != (entry, value):
            raise BadSyntax(f"two values for {entry[:40]}")

    scanner.parenthesised(one)
    if nul:
        # RFC 5464 §5: a value with NUL is a literal8
        raise BadSyntax("NUL stands in a literal8 alone")
    return SetMetadata(mailbox, tuple(values.values()))


def parse_entries(scanner: Scanner) -> tuple[str, ...]:
    """One name of an entry, or several in parentheses."""
    if scanner.sees(b"("):
        return unique(scanner.parenthesised(lambda: _entry(scanner)))
    return (_entry(scanner),)


def _options(scanner: Scanner) -> tuple[int | None, Literal["0", "1", "infinity"]] | None:
    if scanner.match(_OPTIONS) is None:
        return None
    largest: int | None = None
    depth: Literal["0", "1", "infinity"] | None = None
    while True:
        match scanner.word("MAXSIZE or DEPTH"):
            case "MAXSIZE" if largest is None:
                scanner.space()
                largest = scanner.number("a number of octets", LARGEST)
            case "DEPTH" if depth is None:
                scanner.space()
                match scanner.word("0, 1 or infinity"):
                    case "0" | "1" as depth:
                        pass
                    case "INFINITY":
                        depth = "infinity"
                    case _:
                        raise scanner.wrong("0, 1 or infinity before this")
            case name:
                raise BadSyntax(f"{name[:40]} is no option here, or stands here twice")
        if scanner.skip(b")"):
            return largest, depth or "0"
        scanner.space()


def _entry(scanner: Scanner, whole: bool = False) -> str:
    """whole: what is named has a value, which /private and /shared themselves have not."""
    octets = scanner.astring("the name of an entry")
    if not _ENTRY.fullmatch(octets) or (whole and octets.count(b"/") < 2):
        raise scanner.wrong('a name such as "/private/comment" before this')
    return octets.decode("ascii")
