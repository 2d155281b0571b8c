"""What a client said with the commands of METADATA (RFC 5464); conventions as in `imap.wire.forms`.

Names of entries are as the client wrote them: they are compared without case.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class GetMetadata:
    """GETMETADATA (RFC 5464 §4.2): of a mailbox, "" for the server itself. `largest`: MAXSIZE, octets of a value."""

    mailbox: str
    entries: tuple[str, ...]
    largest: int | None = None
    depth: Literal["0", "1", "infinity"] = "0"


@dataclass(frozen=True, slots=True)
class SetMetadata:
    """SETMETADATA (RFC 5464 §4.3): entries, each once, with their new values; None (NIL) removes one."""

    mailbox: str
    values: tuple[tuple[str, bytes | None], ...] = field(repr=False)
