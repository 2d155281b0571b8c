"""[signatures; being filled]"""
from __future__ import annotations
from collections.abc import Iterator
from typing import NamedTuple
from mail.structure import Part
class Piece(NamedTuple):
    where: str  # "header" (the message's own header) or "body"
    text: str   # not folded; at most SLICE characters
SLICE = 256 * 1024
def search_text(raw: bytes, part: Part) -> Iterator[Piece]:
    """Joined texts of one `where` are what SEARCH HEADER-less TEXT/BODY looks through."""
    raise RuntimeError
def preview(raw: bytes, part: Part, limit: int = 200) -> str: raise RuntimeError
def fold(s: str) -> str:
    """i;unicode-casemap."""
    raise RuntimeError
