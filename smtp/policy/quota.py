"""Whether a mailbox has room: decided when a recipient is named, never after DATA."""

from __future__ import annotations

from collections import OrderedDict

from runtime.clock import Clock
from storage.port import Storage

REMEMBER_SECONDS = 5.0
REMEMBER_MAX = 10_000


class QuotaCheck:
    """Asks storage how much an account uses, and remembers the answer for REMEMBER_SECONDS, adding what is delivered
    meanwhile."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, int]] = OrderedDict()

    async def has_room(self, account: str, quota: int | None, size: int) -> bool:
        """Would ``size`` more octets fit? An account without a quota always has room. Raises storage's errors."""
        if quota is None:
            return True
        known = self._known.get(account)
        now = self._clock.monotonic()
        if known is None or now >= known[0]:
            known = (now + REMEMBER_SECONDS, (await self._storage.usage(account)).size)
            self._known[account] = known
            self._known.move_to_end(account)
            if len(self._known) > REMEMBER_MAX:
                self._known.popitem(last=False)
        # A message whose size was not announced needs at least one octet.
        return known[1] + max(size, 1) <= quota

    def delivered(self, account: str, size: int) -> None:
        """``size`` octets were just stored for the account."""
        known = self._known.get(account)
        if known is not None:
            self._known[account] = (known[0], known[1] + size)
