"""Everything that storage keeps of a message beside its bytes, in one call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mail import headers, imapform, parts, sortkeys, structure, text
from mail.headers import Headers
from mail.sortkeys import SortKeys
from mail.structure import DEFAULT, Limits, Part
from mail.text import Piece

VERSION = 3
"""Stored with each message; it rises whenever `describe` answers anything differently for the same bytes."""

USUAL_SINCE = 3
"""The VERSION from which on `usual` has had the fields of today: the lines that an earlier one has left may lack some,
so that nobody is answered from them."""


class Described(NamedTuple):
    """A message taken apart once.

    envelope, body and bodystructure are whole wire forms (mail.imapform); parts is mail.parts.encode; usual is
    mail.headers.usual (None: too large, read the blob). All offsets count from the start of raw.
    """

    raw: bytes
    part: Part
    envelope: bytes
    body: bytes
    bodystructure: bytes
    parts: bytes
    usual: bytes | None
    keys: SortKeys
    preview: str

    def search_text(self) -> Iterator[Piece]:
        """The text to be searched, lazily (mail.text.search_text)."""
        return text.search_text(self.raw, self.part)


def describe(raw: bytes, limits: Limits = DEFAULT) -> Described:
    """What storage keeps of a message; any bytes have an answer."""
    return describe_all([raw], limits)[0]


def describe_all(raws: Sequence[bytes], limits: Limits = DEFAULT) -> list[Described]:
    """`describe` for each. Of sixteen it takes three quarters of the time: step by step, for the code of one step stays
    in the processor's cache."""
    found = [structure.parse(raw, limits) for raw in raws]
    fields = [_fields(part) for part in found]
    envelopes = list(map(imapform.envelope, fields))
    shown = list(map(imapform.structures, found))
    bodies, bodystructures = [one.body for one in shown], [one.bodystructure for one in shown]
    encoded = list(map(parts.encode, found))
    usual = [headers.usual(raw[part.header_start : part.body_start]) for raw, part in zip(raws, found, strict=True)]
    keys = list(map(sortkeys.keys, fields))
    previews = list(map(text.preview, raws, found))
    columns = zip(raws, found, envelopes, bodies, bodystructures, encoded, usual, keys, previews, strict=True)
    return list(map(Described._make, columns))


def _fields(part: Part) -> Headers:
    assert part.fields is not None
    return part.fields
