"""The text keys of a query, and their answer for a message that the index does not know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import NamedTuple

from storage.model import BodyContains, HeaderContains, TextContains
from storage.port import Reason, Refused
from storage.search.document import field_mark, in_field, octets

NEEDLE_MAX = 4096
"""Octets of a folded needle. SQLite's instr compares at every place, so the product with the text has to stay small."""


class Where(Enum):
    FIELD = "field"
    BODY = "body"
    TEXT = "text"


class TextKey(NamedTuple):
    """Where to look and for what. mark: of the field (``field_mark``), empty for the others. needle: folded, never
    empty but with FIELD, where that asks whether the field exists."""

    where: Where
    mark: bytes
    needle: bytes


def key_of(query: HeaderContains | BodyContains | TextContains) -> TextKey | bool:
    """The key with its needle folded, or its answer where that is the same for every message. Refused(LIMIT)."""
    needle = octets(query.text)
    if len(needle) > NEEDLE_MAX:
        raise Refused(Reason.LIMIT, f"a text to search for has at most {NEEDLE_MAX} octets")
    if isinstance(query, HeaderContains):
        mark = field_mark(query.name)
        if mark is None or len(mark) > NEEDLE_MAX or b"\n" in needle:
            return False
        return TextKey(Where.FIELD, mark, needle)
    if not needle:
        return True
    return TextKey(Where.BODY if isinstance(query, BodyContains) else Where.TEXT, b"", needle)


class Scan:
    """The keys' answers for one message, whose body comes in pieces. ``waiting``: whether another piece could change
    an answer."""

    def __init__(self, keys: Sequence[TextKey], header: bytes) -> None:
        self._keys = keys
        self.answers = [
            in_field(header, key.mark, key.needle)
            if key.where is Where.FIELD
            else key.where is Where.TEXT and key.needle in header
            for key in keys
        ]
        self._open = [n for n, key in enumerate(keys) if key.where is not Where.FIELD and not self.answers[n]]
        self._overlap = max((len(keys[n].needle) for n in self._open), default=1) - 1
        self._tail = b""

    @property
    def waiting(self) -> bool:
        return bool(self._open)

    def take(self, piece: bytes) -> None:
        """Look through the next piece of the body."""
        window = self._tail + piece
        for n in self._open:
            self.answers[n] = self._keys[n].needle in window
        self._open = [n for n in self._open if not self.answers[n]]
        self._tail = window[-self._overlap :] if self._overlap else b""


def scan(keys: Sequence[TextKey], header: bytes, body: Iterable[bytes]) -> list[bool]:
    """Each key's answer for one message; the pieces of the body are taken only while a key still waits for them."""
    looking = Scan(keys, header)
    if looking.waiting:
        for piece in body:
            looking.take(piece)
            if not looking.waiting:
                break
    return looking.answers
