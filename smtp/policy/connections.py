"""Who may connect: so many connections in all, so many from one address and so fast, none while the service is off."""

from __future__ import annotations

from collections.abc import Iterable

from runtime.limits import ConnectionLimit
from smtp.policy.limits import Limits
from smtp.wire import replies
from smtp.wire.replies import Reply


class Connections:
    """Counts connections of all listeners together. ``enabled`` may be changed while running; ``closing`` is set when
    the process ends."""

    def __init__(self, *, total: int, per_address: int, exempt: Iterable[str], limits: Limits) -> None:
        self._total = total
        self._limits = limits
        self._addresses = ConnectionLimit(per_address, exempt=exempt)
        self.enabled = True
        self.closing = False

    def enter(self, address: str) -> Reply | None:
        """None and one more is counted (pair with ``leave``), or the reply to send away with."""
        if self.closing:
            return replies.SHUTTING_DOWN
        if not self.enabled:
            return replies.NOT_ENABLED
        if self._addresses.total >= self._total:
            return replies.SERVER_FULL
        if (refusal := self._limits.connect(address)) is not None:
            return refusal
        if not self._addresses.try_enter(address):
            return replies.TOO_MANY_CONNECTIONS
        return None

    def leave(self, address: str) -> None:
        self._addresses.leave(address)
