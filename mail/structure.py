"""MIME structure in one pass, with offsets into the raw message (RFC 2045, RFC 2046). [signatures; being filled]"""
from __future__ import annotations
from dataclasses import dataclass, field
from mail.headers import Headers

@dataclass(frozen=True, slots=True)
class Limits:
    max_parts: int = 10_000
    max_depth: int = 100
    max_header_bytes: int = 256 * 1024
    max_fields: int = 2_000

DEFAULT = Limits()

@dataclass(frozen=True, slots=True)
class Part:
    header_start: int      # header block incl. its blank line = raw[header_start:body_start]
    body_start: int
    body_end: int
    type: str              # lower case
    subtype: str           # lower case
    media: tuple[bytes, bytes]  # type, subtype as written
    params: tuple[tuple[bytes, bytes], ...]  # as BODYSTRUCTURE shows them; mail.params.decoded() for text
    encoding: bytes | None       # Content-Transfer-Encoding token as written; None: absent
    content_id: bytes | None
    description: bytes | None
    md5: bytes | None
    disposition: bytes | None
    disposition_params: tuple[tuple[bytes, bytes], ...]
    language: tuple[bytes, ...]
    location: bytes | None
    lines: int
    children: tuple[Part, ...]
    fields: Headers | None = field(default=None, repr=False, compare=False)  # of messages (root, child of message/rfc822); else None

def parse(raw: bytes, limits: Limits = DEFAULT) -> Part:
    """The part tree of any bytes."""
    raise RuntimeError
