"""APPEND (RFC 3501 §6.3.11), with several messages (RFC 3502): one head before each literal."""

from __future__ import annotations

import re
from datetime import datetime

from imap.wire.errors import BadSyntax
from imap.wire.forms import Append, AppendPart
from imap.wire.tokens import Scanner

_MESSAGE = re.compile(rb"\{([0-9]{1,20})(\+?)\}\Z")


def parse_append(scanner: Scanner) -> Append:
    """``mailbox [flags] [date] {n}``."""
    scanner.space()
    mailbox = scanner.mailbox()
    scanner.space()
    return Append(mailbox, _part(scanner))


def parse_append_part(line: bytes) -> AppendPart | None:
    """What follows a message of APPEND: `` [flags] [date] {n}`` before the next one (RFC 3502 §6), or None at the end
    of the command (b""). Raises BadSyntax."""
    scanner = Scanner(line)
    if not line.strip(b" "):
        return None
    if b"\0" in line:
        raise BadSyntax("A command has no NUL octets")
    try:
        scanner.space()
        return _part(scanner)
    except BadSyntax as error:
        raise BadSyntax(f"APPEND, behind a message: {error.text}") from None


def _part(scanner: Scanner) -> AppendPart:
    flags: tuple[str, ...] = ()
    date_time: datetime | None = None
    if scanner.sees(b"("):
        flags = scanner.flag_list()
        scanner.space()
    if scanner.sees(b'"'):
        date_time = scanner.date_time()
        scanner.space()
    message = scanner.match(_MESSAGE)
    if message is None:
        raise scanner.wrong("the message as a literal")
    return AppendPart(flags, date_time, int(message[1]), not message[2])
