"""[signatures; being filled]"""
from __future__ import annotations
from collections.abc import Iterator
from dataclasses import dataclass
from mail.sortkeys import SortKeys
from mail.structure import DEFAULT, Limits, Part
from mail.text import Piece
VERSION = 1
@dataclass(frozen=True, slots=True)
class Described:
    part: Part
    envelope: bytes
    body: bytes
    bodystructure: bytes
    parts: bytes            # mail.parts.encode
    usual: bytes | None     # mail.headers.usual
    keys: SortKeys
    preview: str
    raw: bytes
    def text(self) -> Iterator[Piece]: raise RuntimeError
def describe(raw: bytes, limits: Limits = DEFAULT) -> Described: raise RuntimeError
