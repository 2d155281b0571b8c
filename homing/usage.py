"""How much of its quota an account uses: identity knows the accounts and their quotas, storage what they keep."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Final

from storage.limits import USAGES_AT_ONCE
from storage.port import Storage, Unavailable

if TYPE_CHECKING:
    # Commands need none of REST.
    from identity.admin_api import Used

ANSWER_SECONDS: Final = 5.0
"""Seconds that an answer of REST waits for storage; what it has not told by then is left out."""


async def used_octets(storage: Storage, accounts: Sequence[str]) -> list[int]:
    """What counts against the quota of each account id, in their order. Raises storage's Unavailable."""
    return [octets async for octets in _ask(storage, accounts)]


def telling_used(storage: Storage) -> Used:
    """For the routes of accounts, which answer whether storage is there or not."""

    async def used(accounts: Sequence[str]) -> list[int | None]:
        found: list[int | None] = []
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                async for octets in _ask(storage, accounts):
                    found.append(octets)
        except (Unavailable, TimeoutError):
            # Told as null; what storage lacks is told by the health of the service.
            found += [None] * (len(accounts) - len(found))
        return found

    return used


async def _ask(storage: Storage, accounts: Sequence[str]) -> AsyncIterator[int]:
    for start in range(0, len(accounts), USAGES_AT_ONCE):
        for used in await storage.usages(accounts[start : start + USAGES_AT_ONCE]):
            yield used.size
