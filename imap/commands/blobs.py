"""The octets of a place in a message that is not at hand, read bit by bit."""

from __future__ import annotations

from collections.abc import AsyncIterator

from imap.commands.sections import Place
from storage.model import INLINE_MAX, Row
from storage.port import Storage


async def octets_of(storage: Storage, account: str, row: Row, place: Place) -> AsyncIterator[bytes]:
    """The head of the place, then slices of the blob, at most INLINE_MAX octets each. Raises the port's errors."""
    if place.head:
        yield place.head
    at = place.start
    while at < place.end:
        octets = await storage.read(account, row.entry.email, at, min(at + INLINE_MAX, place.end))
        if not octets:
            raise RuntimeError("a blob is shorter than its row says")
        yield octets
        at += len(octets)
