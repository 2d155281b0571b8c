"""From an item of the spool to the letter that a transport takes: where it goes, how its text is read, who signs it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from smtp.outbound.notices import OWN
from smtp.outbound.routetext import listed
from smtp.outbound.transport import Letter, Unsigned
from storage.model import INLINE_MAX, SpoolItem
from storage.port import Storage

Read = Callable[[int, int], Awaitable[bytes]]
COPIES = 4
MX = "mx"
"""The route of a domain that goes where its MX records lead."""


class Signs(Protocol):
    """Makes DKIM-Signature fields (`smtp.outbound.dkim.Signer`)."""

    async def sign_all(self, letters: Sequence[Unsigned]) -> list[bytes]: ...


class Text:
    """The text of a spooled message. One that fits in a single read is read once, whoever asks for it. whole: it,
    where it has been read already."""

    def __init__(self, storage: Storage, item: str, size: int, whole: bytes | None = None) -> None:
        self._storage = storage
        self._item = item
        self._size = size
        self._whole = whole

    async def read(self, start: int, end: int) -> bytes:
        """Octets [start, end), at most INLINE_MAX. Raises storage's errors."""
        if self._size > INLINE_MAX:
            return await self._storage.spool_read(self._item, start, end)
        if self._whole is None:
            self._whole = await self._storage.spool_read(self._item, 0, self._size)
        return self._whole[start:end]


def letter_of(item: SpoolItem, read: Read, head: bytes = b"") -> Letter:
    """The letter. head: its signatures."""
    return Letter(
        item=item.id,
        trace=item.trace,
        sender=item.sender,
        domain=item.domain,
        recipients=item.recipients,
        size=item.size,
        read=read,
        head=head,
        route=item.route,
        params=item.params if OWN not in item.params else {k: v for k, v in item.params.items() if k != OWN},
    )


async def signatures(texts: Sequence[tuple[SpoolItem, Read]], signer: Signs | None) -> list[bytes]:
    """The signatures of each message's author's domain, where it was written here. Raises identity's and storage's
    errors."""
    if signer is None:
        return [b""] * len(texts)
    return await signer.sign_all([_unsigned(item, read) for item, read in texts])


def _unsigned(item: SpoolItem, read: Read) -> Unsigned:
    letter = letter_of(item, read)
    if OWN in item.params:
        return Unsigned(letter, own=True)
    return Unsigned(letter, own=item.account is not None, account=item.account)


def destination_of(item: SpoolItem, routes: Mapping[str, str]) -> str:
    """What is counted together: a relay for all the domains that go there, else the domain."""
    route = item.route or listed(routes, item.sender, item.domain) or MX
    return item.domain if route == MX else route


def memory_of(size: int) -> int:
    """Octets of memory that sending a message of this size takes. One that is read whole is there as it was read, with
    what goes before it, with its dots, and in the socket's buffer; a longer one is read in pieces."""
    return COPIES * min(size, INLINE_MAX)
