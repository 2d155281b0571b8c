"""From an item of the spool to the letter that a transport takes: where it goes, how its text is read, who signs it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Protocol

from smtp.outbound.notices import OWN
from smtp.outbound.routetext import ANY
from smtp.outbound.transport import Letter
from storage.model import INLINE_MAX, SpoolItem
from storage.port import Storage

Read = Callable[[int, int], Awaitable[bytes]]
COPIES = 4
MX = "mx"
"""The route of a domain that goes where its MX records lead."""


class Signs(Protocol):
    """Makes DKIM-Signature fields (`smtp.outbound.dkim.Signer`)."""

    async def sign(self, letter: Letter, *, own: bool, account: str | None = None) -> bytes: ...


class Text:
    """The text of a spooled message. One that fits in a single read is read once, whoever asks for it."""

    def __init__(self, storage: Storage, item: str, size: int) -> None:
        self._storage = storage
        self._item = item
        self._size = size
        self._whole: bytes | None = None

    async def read(self, start: int, end: int) -> bytes:
        """Octets [start, end), at most INLINE_MAX. Raises storage's errors."""
        if self._size > INLINE_MAX:
            return await self._storage.spool_read(self._item, start, end)
        if self._whole is None:
            self._whole = await self._storage.spool_read(self._item, 0, self._size)
        return self._whole[start:end]


def letter_of(item: SpoolItem, read: Read) -> Letter:
    """The letter, unsigned."""
    return Letter(
        item=item.id,
        trace=item.trace,
        sender=item.sender,
        domain=item.domain,
        recipients=item.recipients,
        size=item.size,
        read=read,
        route=item.route,
        params={name: value for name, value in item.params.items() if name != OWN},
    )


async def signed(letter: Letter, item: SpoolItem, signer: Signs | None) -> Letter:
    """The letter with the signatures of its author's domain, where it was written here. Raises identity's and storage's
    errors."""
    if signer is None:
        return letter
    if OWN in item.params:
        head = await signer.sign(letter, own=True)
    else:
        head = await signer.sign(letter, own=item.account is not None, account=item.account)
    return replace(letter, head=head) if head else letter


def destination_of(item: SpoolItem, routes: Mapping[str, str]) -> str:
    """What is counted together: a relay for all the domains that go there, else the domain."""
    route = item.route or routes.get(item.domain) or routes.get(ANY) or MX
    return item.domain if route == MX else route


def memory_of(size: int) -> int:
    """Octets of memory that sending a message of this size takes. One that is read whole is there as it was read, with
    what goes before it, with its dots, and in the socket's buffer; a longer one is read in pieces."""
    return COPIES * min(size, INLINE_MAX)
