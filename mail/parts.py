"""[signatures; being filled]"""
from __future__ import annotations
from typing import NamedTuple
from mail.structure import Part
class Row(NamedTuple):
    parent: int   # index, own index for the root
    kind: int     # LEAF MULTIPART MESSAGE
    encoding: int # SEVENBIT EIGHTBIT BINARY QUOTED_PRINTABLE BASE64 OTHER
    header_start: int
    body_start: int
    body_end: int
PartTable = tuple[Row, ...]
def encode(part: Part) -> bytes: raise RuntimeError
def decode(data: bytes) -> PartTable: raise RuntimeError
def locate(table: PartTable, path: tuple[int, ...], what: str = "") -> tuple[int, int] | None:
    """what: "", "HEADER", "TEXT", "MIME". Byte range in raw, None when there is no such section."""
    raise RuntimeError
