"""Removing the mail of removed accounts: what identity asks of storage, of which it knows nothing."""

from __future__ import annotations

from homing.keepers import operation
from identity.port import Unavailable as IdentityUnavailable
from identity.service import PURGE_EVERY
from storage.port import Storage, Unavailable

PURGE_TURN_SECONDS = 3 * PURGE_EVERY
"""A process that has died loses its turn to purge after that."""


class Purge:
    """Removes the mail of a removed account, a step at a time (`identity.service.Purge`)."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def __call__(self, account: str) -> bool:
        try:
            return await self._storage.purge_account(operation(), account)
        except Unavailable as error:
            # Identity knows no storage: to it one keeper that is away is like the other, and no bug.
            raise IdentityUnavailable(str(error)) from error
