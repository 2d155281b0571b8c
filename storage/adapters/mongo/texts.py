"""The folded text of each blob, kept for searches: written with the blob, read in bounded pages.

A *text* document ``<blob>`` holds the header's text, the first TEXT_PIECE octets of the body's and, where the body's is
longer, how many documents ``<blob>:0001`` … hold the rest (``more``). A body's text over TEXT_MAX is not kept
(``large``): such a message, and one whose text is of another FORM, is read whole at every question, so that an answer
never depends on what is kept here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from mail.structure import Part
from runtime.mongo import Document
from storage.search.document import FORM, body_pieces, header_text

TEXT_MAX: Final = 16 * 1024 * 1024
"""Octets of one body's folded text that are kept."""
TEXT_PIECE: Final = 256 * 1024
"""Octets of a body's text in one document."""
NO_FORM: Final = 0
"""Of a body whose text is not read out: it is to be, or the body is in no mailbox."""


class Text(NamedTuple):
    """A message's folded text. body: pieces of TEXT_PIECE octets, the last may be shorter; None: too long."""

    header: bytes
    body: list[bytes] | None


def read_out(raw: bytes, part: Part) -> Text:
    """The text of a message that was taken apart: a ``storage.intake.ReadOut``."""
    header = header_text(raw[part.header_start : part.body_start])
    body: list[bytes] = []
    for piece in _even(body_pieces(raw, part)):
        body.append(piece)
        if len(body) * TEXT_PIECE > TEXT_MAX:
            return Text(header, None)
    return Text(header, body)


def pieces_of(raw: bytes, part: Part) -> tuple[bytes, Iterator[bytes]]:
    """The header's text and the body's of a message that is read at a question."""
    return header_text(raw[part.header_start : part.body_start]), body_pieces(raw, part)


def documents(blob: str, text: Text) -> list[Document]:
    """What is kept of it, the document that names the others last."""
    first: Document = {"_id": blob, "form": FORM, "header": text.header}
    if text.body is None:
        return [first | {"large": True}]
    if text.body:
        first["body"] = text.body[0]
    rest = [{"_id": piece_id(blob, n), "body": piece} for n, piece in enumerate(text.body[1:], 1)]
    if rest:
        first["more"] = len(rest)
    return [*rest, first]


def is_kept(document: Document | None) -> bool:
    """Can questions be answered from this document (and those that it names)?"""
    return document is not None and document["form"] == FORM and not document.get("large")


def piece_id(blob: str, n: int) -> str:
    return f"{blob}:{n:04}"


def ids_of(blobs: Iterable[tuple[str, int]]) -> list[str]:
    """The ids of all text documents of these blobs, each given with how many it has beside its first."""
    return [id for blob, more in blobs for id in (blob, *(piece_id(blob, n) for n in range(1, more + 1)))]


def more_of(text: Any) -> int:
    """How many documents a text takes beside its first."""
    return max(0, len(text.body) - 1) if isinstance(text, Text) and text.body is not None else 0


def _even(pieces: Iterable[bytes]) -> Iterator[bytes]:
    buffer = bytearray()
    for piece in pieces:
        buffer += piece
        while len(buffer) >= TEXT_PIECE:
            yield bytes(memoryview(buffer)[:TEXT_PIECE])
            del buffer[:TEXT_PIECE]
    if buffer:
        yield bytes(buffer)
