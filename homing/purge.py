"""Removing the mail of removed accounts: what identity asks of storage, of which it knows nothing."""

from __future__ import annotations

from homing.keepers import operation
from identity.service import PURGE_EVERY
from storage.port import Storage

PURGE_TURN_SECONDS = 3 * PURGE_EVERY
"""A process that has died loses its turn to purge after that."""


class Purge:
    """Removes the mail of a removed account, a step at a time (`identity.service.Purge`)."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def __call__(self, account: str) -> bool:
        return await self._storage.purge_account(operation(), account)
