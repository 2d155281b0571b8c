"""How much of its quota an account uses: identity knows the accounts and their quotas, storage what they keep."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from storage.port import Storage, Unavailable

if TYPE_CHECKING:
    # Commands need none of REST.
    from identity.admin_api import Used

AT_ONCE: Final = 8
"""Accounts that storage is asked about at a moment: a long list of them keeps nobody's mail waiting."""
ANSWER_SECONDS: Final = 5.0
"""Seconds that an answer of REST waits for storage; what it has not told by then is left out."""


async def used_octets(storage: Storage, accounts: Sequence[str]) -> list[int]:
    """What counts against the quota of each account id, in their order. Raises storage's Unavailable."""
    found: dict[str, int] = {}
    await _ask(storage, accounts, found)
    return [found[account] for account in accounts]


def telling_used(storage: Storage) -> Used:
    """For the routes of accounts, which answer whether storage is there or not."""

    async def used(accounts: Sequence[str]) -> list[int | None]:
        found: dict[str, int] = {}
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await _ask(storage, accounts, found)
        except (Unavailable, TimeoutError):
            # Told as null; what storage lacks is told by the health of the service.
            return [found.get(account) for account in accounts]
        return [found[account] for account in accounts]

    return used


async def _ask(storage: Storage, accounts: Sequence[str], found: dict[str, int]) -> None:
    """Fill in what each uses. The first Unavailable ends it."""

    async def some(left: Iterator[str]) -> None:
        for account in left:
            found[account] = (await storage.usage(account)).size

    left = iter(accounts)
    asking = [asyncio.create_task(some(left)) for _ in range(min(AT_ONCE, len(accounts)))]
    try:
        await asyncio.gather(*asking)
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
