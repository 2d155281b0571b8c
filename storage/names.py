"""Mailbox names: levels divided by "/", INBOX in capitals (RFC 3501 §5.1)."""

from __future__ import annotations

import unicodedata
from typing import Final

from storage.limits import NAME_LEVELS, NAME_OCTETS
from storage.model import DELIMITER, INBOX
from storage.port import Reason, Refused

# RFC 6154 §2
FIRST_MAILBOXES: Final = (
    (INBOX, None),
    ("Drafts", "\\Drafts"),
    ("Sent", "\\Sent"),
    ("Trash", "\\Trash"),
    ("Junk", "\\Junk"),
    ("Archive", "\\Archive"),
)
"""What an account begins with: name and special use."""


def canonical(name: str) -> str:
    """The name in Normalization Form C, with INBOX, alone or as the first level, in capitals."""
    # RFC 9051 §5.1, RFC 5198 §2: composed or not, it is the same name. Composing takes time quadratic in the number of
    # marks in a row; no mailbox has a name of more characters.
    if len(name) <= NAME_OCTETS:
        name = unicodedata.normalize("NFC", name)
    # RFC 3501 §5.1: INBOX means the same in any case; as a superior it is the same mailbox.
    # Of ASCII's letters alone: the dotless i in capitals is an I as well.
    first, delimiter, rest = name.partition(DELIMITER)
    return INBOX + delimiter + rest if first.isascii() and first.upper() == INBOX else name


def checked(name: str) -> str:
    """The canonical form of a name that may be given to a mailbox; else Refused(BAD_NAME)."""
    name = canonical(name)
    try:
        octets = len(name.encode())
    except UnicodeEncodeError:
        raise Refused(Reason.BAD_NAME, "The mailbox name is not valid Unicode.") from None
    if octets > NAME_OCTETS:
        raise Refused(Reason.BAD_NAME, f"The mailbox name is longer than {NAME_OCTETS} octets.")
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in name):
        raise Refused(Reason.BAD_NAME, "The mailbox name has a control character.")
    levels = name.split(DELIMITER)
    if len(levels) > NAME_LEVELS:
        raise Refused(Reason.BAD_NAME, f"The mailbox name has more than {NAME_LEVELS} levels.")
    if not all(levels):
        raise Refused(Reason.BAD_NAME, "The mailbox name has an empty level.")
    return name


def searchable(name: str) -> str:
    """The canonical form of a name to look for; NO_SUCH_MAILBOX for one that no mailbox can have."""
    try:
        return checked(name)
    except Refused:
        raise Refused(Reason.NO_SUCH_MAILBOX) from None


def encodable(name: str) -> str:
    """The canonical form of a name to look for; one that no mailbox can have (half a surrogate pair) becomes another
    that none can have."""
    return canonical(name).encode("utf-8", "replace").decode()


def superiors(name: str) -> list[str]:
    """The names above it, highest first: "a/b/c" has "a" and "a/b"."""
    levels = name.split(DELIMITER)
    return [DELIMITER.join(levels[:depth]) for depth in range(1, len(levels))]


def is_under(name: str, superior: str) -> bool:
    """Is ``name`` inferior to ``superior``, at any depth?"""
    return name.startswith(superior + DELIMITER)
