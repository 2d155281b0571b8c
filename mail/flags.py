"""IMAP flags: the system flags as bits, keywords as checked atoms (RFC 3501 §2.3.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable

SEEN = 1
ANSWERED = 2
FLAGGED = 4
DELETED = 8
DRAFT = 16
ALL = SEEN | ANSWERED | FLAGGED | DELETED | DRAFT

NAMES: tuple[tuple[int, str], ...] = (
    (ANSWERED, "\\Answered"),
    (FLAGGED, "\\Flagged"),
    (DELETED, "\\Deleted"),
    (SEEN, "\\Seen"),
    (DRAFT, "\\Draft"),
)

KEYWORD_MAX = 128
"""The longest keyword, in characters."""

_BIT = {name.lower(): bit for bit, name in NAMES}
_ALL_NAMES = tuple(tuple(name for bit, name in NAMES if bits & bit) for bits in range(ALL + 1))
# RFC 3501 §9: an atom has no specials, no wildcards, no `]`, no controls and nothing above US-ASCII.
_ATOM = re.compile(r"[!#$&'+,\-./0-9:;<=>?@A-Z\[^_`a-z|}~]+")


def bit_of(name: str) -> int | None:
    r"""The bit of a system flag's name in any case; None for \Recent and every other name."""
    return _BIT.get(name.lower())


def bits_of(names: Iterable[str]) -> int:
    """The bits of those names that are system flags; other names count nothing."""
    bits = 0
    for name in names:
        bits |= _BIT.get(name.lower(), 0)
    return bits


def names_of(bits: int) -> tuple[str, ...]:
    """The system flags' names in the order of the RFC, for bits 0..ALL (higher bits are ignored)."""
    return _ALL_NAMES[bits & ALL]


def is_keyword(name: str) -> bool:
    """Whether this may be a keyword: an atom of at most KEYWORD_MAX characters (RFC 3501 §9, flag-keyword)."""
    return len(name) <= KEYWORD_MAX and _ATOM.fullmatch(name) is not None
