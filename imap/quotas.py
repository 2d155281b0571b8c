"""What accounts may use, and whether they use more: identity owns the limits, storage counts (RFC 9208 §4.3)."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from identity.port import Identity
from identity.port import Refused as IdentityRefused
from identity.port import Unavailable as IdentityUnavailable
from runtime.clock import Clock
from storage.port import Refused, Storage, Unavailable

QUOTA_SECONDS = 60.0
"""How long a quota asked of identity is used."""
OWNERS_MAX = 100
"""Accounts whose quota one session remembers: its own, and those whose shared mailboxes it uses."""


@dataclass(slots=True)
class _Known:
    quota: int | None
    until: float
    is_over: bool = False


class Quotas:
    """As one session knows them."""

    def __init__(self, identity: Identity, storage: Storage, clock: Clock) -> None:
        self._identity = identity
        self._storage = storage
        self._clock = clock
        self._known: dict[str, _Known] = {}

    def learn(self, account: str, quota: int | None) -> None:
        """Identity has just said so."""
        until = self._clock.monotonic() + QUOTA_SECONDS
        known = self._known.get(account)
        if known is not None:
            known.quota, known.until = quota, until
            return
        if len(self._known) >= OWNERS_MAX:
            self._known.clear()
        self._known[account] = _Known(quota, until)

    async def of(self, account: str) -> int | None:
        """Octets that the account may use, None for no limit."""
        known = self._known.get(account)
        if known is None or self._clock.monotonic() >= known.until:
            # an identity that is away keeps nobody from his own mail: what it said last holds until it is back
            with contextlib.suppress(IdentityUnavailable, IdentityRefused):
                self.learn(account, (await self._identity.account(account)).quota)
        known = self._known.get(account)
        return None if known is None else known.quota

    async def newly_over(self, account: str) -> bool:
        """Has the account come to use more than it may, since this was last asked? Not being able to ask is no."""
        quota = await self.of(account)
        known = self._known.get(account)
        if quota is None or known is None:
            return False
        try:
            is_over = (await self._storage.usage(account)).size > quota
        except (Refused, Unavailable):
            return False
        was, known.is_over = known.is_over, is_over
        return is_over and not was
