"""What a search asks for (RFC 3501 §6.4.4), and what it finds. Plain data of the port, as in ``storage.model``.

Sequence numbers never reach storage: the session turns them into uids.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from storage.ranges import Ranges


@dataclass(frozen=True, slots=True)
class All:
    """Every message."""


@dataclass(frozen=True, slots=True)
class And:
    keys: tuple[Query, ...]


@dataclass(frozen=True, slots=True)
class Or:
    keys: tuple[Query, ...]


@dataclass(frozen=True, slots=True)
class Not:
    key: Query


@dataclass(frozen=True, slots=True)
class Uids:
    uids: Ranges


@dataclass(frozen=True, slots=True)
class HasFlags:
    """All of these system flag bits are set."""

    flags: int


@dataclass(frozen=True, slots=True)
class HasKeyword:
    """Case-insensitive."""

    keyword: str


class DateField(Enum):
    INTERNAL = "internaldate"
    SENT = "sent"
    SAVED = "savedate"


@dataclass(frozen=True, slots=True)
class DateRange:
    """start <= date < end, Unix seconds; None is open. SENT compares the Date header's own calendar day without its
    zone (RFC 3501 SENTBEFORE: "disregarding time and timezone"); a message without a Date never matches SENT."""

    field: DateField
    start: int | None
    end: int | None


@dataclass(frozen=True, slots=True)
class SizeRange:
    """larger < RFC822.SIZE < smaller, octets; None is open."""

    larger: int | None
    smaller: int | None


@dataclass(frozen=True, slots=True)
class HeaderContains:
    """The named header field, decoded, holds the text (i;unicode-casemap, substring); "" : the field exists."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class BodyContains:
    text: str


@dataclass(frozen=True, slots=True)
class TextContains:
    """Header or body holds the text."""

    text: str


@dataclass(frozen=True, slots=True)
class ModseqFrom:
    """modseq >= value (RFC 7162 §3.1.5)."""

    modseq: int


Query = (
    All
    | And
    | Or
    | Not
    | Uids
    | HasFlags
    | HasKeyword
    | DateRange
    | SizeRange
    | HeaderContains
    | BodyContains
    | TextContains
    | ModseqFrom
)


@dataclass(frozen=True, slots=True)
class Found:
    """uids that match, of the mailbox as it was at modseq ``highest_modseq``."""

    uids: Ranges
    highest_modseq: int
