"""[signatures; being filled]"""
from __future__ import annotations
from mail.headers import Headers
from mail.structure import Part
def nstring(value: bytes | None) -> bytes:
    """NIL, quoted or literal."""
    raise RuntimeError
def envelope(fields: Headers) -> bytes:
    """Parenthesised ENVELOPE (part.fields of a message)."""
    raise RuntimeError
def body(part: Part) -> bytes:
    """Parenthesised BODY (without extension data)."""
    raise RuntimeError
def bodystructure(part: Part) -> bytes:
    raise RuntimeError
