"""[signatures; being filled]"""
from __future__ import annotations
from collections.abc import Collection
from typing import NamedTuple

class Field(NamedTuple):
    name: bytes  # upper case
    start: int
    value: int
    end: int

class Headers:
    fields: tuple[Field, ...]
    def first(self, name: bytes) -> bytes | None: ...   # name upper-case; raw value, unfolded
    def last(self, name: bytes) -> bytes | None: ...
    def all(self, name: bytes) -> list[bytes]: ...

USUAL: tuple[bytes, ...] = ()
USUAL_MAX = 16 * 1024
def is_usual(name: bytes) -> bool:
    """Is a field of this name (any case) kept by usual()?"""
    raise RuntimeError
def usual(block: bytes) -> bytes | None:
    """Usual lines verbatim, no blank line; None when over USUAL_MAX: read the blob."""
    raise RuntimeError
def select(block: bytes, names: Collection[bytes], invert: bool) -> bytes:
    """HEADER.FIELDS(.NOT): matching lines verbatim + CRLF. names upper-case."""
    raise RuntimeError
def parse(raw: bytes, start: int, end: int) -> Headers:
    raise RuntimeError
