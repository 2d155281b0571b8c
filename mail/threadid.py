"""Which thread a message belongs to, told by the message alone (RFC 8474 §5.2)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

_DIGITS = 32


def thread_id(message_id: str, references: Sequence[str], email: str) -> str:
    """The objectid of the thread: the same for every message that names the same first message of it.

    message_id: "" where there is none. references: oldest first, as `mail.sortkeys` reads them. email: the message's
    EMAILID, its own thread where it names no message. The id depends on nothing else, so it is the same in every
    mailbox and never changes; replies whose References were cut off at the beginning are a thread of their own.
    """
    root = references[0] if references else message_id
    if not root:
        return f"T-{email}"
    return "T" + hashlib.sha256(root.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
