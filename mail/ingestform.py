"""Everything that storage keeps of a message beside its bytes, in one call."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from mail import headers, imapform, parts, sortkeys, structure, text
from mail.sortkeys import SortKeys
from mail.structure import DEFAULT, Limits, Part
from mail.text import Piece

VERSION = 1
"""Stored with each message; it rises whenever `describe` answers anything differently for the same bytes."""


@dataclass(frozen=True, slots=True)
class Described:
    """A message taken apart once.

    envelope, body and bodystructure are whole wire forms (mail.imapform); parts is mail.parts.encode; usual is
    mail.headers.usual (None: too large, read the blob). All offsets count from the start of raw.
    """

    raw: bytes = field(repr=False)
    part: Part = field(repr=False)
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
    part = structure.parse(raw, limits)
    fields = part.fields
    assert fields is not None
    return Described(
        raw=raw,
        part=part,
        envelope=imapform.envelope(fields),
        body=imapform.body(part),
        bodystructure=imapform.bodystructure(part),
        parts=parts.encode(part),
        usual=headers.usual(raw[part.header_start : part.body_start]),
        keys=sortkeys.keys(fields),
        preview=text.preview(raw, part),
    )
