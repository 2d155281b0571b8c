"""APPEND (RFC 3501 §6.3.11), with several messages (RFC 3502): one head before each literal.

A message is a literal, a literal8 (RFC 3516 §7), one in ``UTF8 (…)`` (RFC 6855 §4), or ``CATENATE (…)`` (RFC 4469
§5). REPLACE (RFC 8508 §5) has one too.
"""

from __future__ import annotations

import re
from datetime import datetime

from imap.wire.errors import BadSyntax
from imap.wire.forms import Append, AppendPart, Replace
from imap.wire.parse_catenate import parse_catenation
from imap.wire.tokens import Scanner

_MESSAGE = re.compile(rb"(~?)\{([0-9]{1,20})(\+?)\}\Z")
_UTF8 = re.compile(rb"UTF8 \((?=~)", re.IGNORECASE)
_CATENATE = re.compile(rb"CATENATE \(", re.IGNORECASE)


def parse_append(scanner: Scanner) -> Append:
    """``mailbox [flags] [date] {n}``."""
    scanner.space()
    mailbox = scanner.mailbox()
    scanner.space()
    return Append(mailbox, _part(scanner))


def parse_replace(scanner: Scanner, *, uid: bool) -> Replace:
    """``number mailbox [flags] [date] {n}``."""
    scanner.space()
    # RFC 8508 §5: one message, not a set
    number = None if scanner.skip(b"*") else scanner.number("the number of a message")
    if number == 0:
        raise scanner.wrong("the number of a message before this")
    scanner.space()
    mailbox = scanner.mailbox()
    scanner.space()
    return Replace(number, mailbox, _part(scanner), uid)


def parse_append_part(line: bytes, before: AppendPart | None = None) -> AppendPart | None:
    """What follows a message of APPEND: `` [flags] [date] {n}`` before the next one (RFC 3502 §6), or None at the end
    of the command (b""). before: that message, which may leave a parenthesis to be closed. Raises BadSyntax."""
    scanner = Scanner(line)
    if b"\0" in line:
        raise BadSyntax("A command has no NUL octets")
    try:
        if before is not None and before.utf8:
            # RFC 6855 §4
            scanner.expect(b")")
        if not line[scanner.at :].strip(b" "):
            return None
        scanner.space()
        return _part(scanner)
    except BadSyntax as error:
        raise BadSyntax(f"Behind a message: {error.text}") from None


def _part(scanner: Scanner) -> AppendPart:
    flags: tuple[str, ...] = ()
    date_time: datetime | None = None
    if scanner.sees(b"("):
        flags = scanner.flag_list()
        scanner.space()
    if scanner.sees(b'"'):
        date_time = scanner.date_time()
        scanner.space()
    if scanner.match(_CATENATE) is not None:
        # RFC 4469 §5
        return AppendPart(flags, date_time, 0, False, catenation=parse_catenation(scanner))
    utf8 = scanner.match(_UTF8) is not None
    message = scanner.match(_MESSAGE)
    if message is None:
        raise scanner.wrong("the message as a literal")
    return AppendPart(flags, date_time, int(message[2]), not message[3], bool(message[1]), utf8)
