"""The text keys of a query, and their answer for a message that the index does not know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import NamedTuple

from storage.adapters.sqlite.search_document import field_mark, in_field, octets
from storage.model import BodyContains, HeaderContains, TextContains
from storage.port import Reason, Refused

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


def scan(keys: Sequence[TextKey], header: bytes, body: Iterable[bytes]) -> list[bool]:
    """Each key's answer for one message; the pieces of the body are taken only while a key still waits for them."""
    answers = [
        in_field(header, key.mark, key.needle)
        if key.where is Where.FIELD
        else key.where is Where.TEXT and key.needle in header
        for key in keys
    ]
    waiting = [n for n, key in enumerate(keys) if key.where is not Where.FIELD and not answers[n]]
    if not waiting:
        return answers
    overlap = max(len(keys[n].needle) for n in waiting) - 1
    tail = b""
    for piece in body:
        window = tail + piece
        for n in waiting:
            answers[n] = keys[n].needle in window
        waiting = [n for n in waiting if not answers[n]]
        if not waiting:
            break
        tail = window[-overlap:] if overlap else b""
    return answers
