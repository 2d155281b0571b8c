"""May a door offer SCRAM now? Asked of identity every few seconds, and answered from memory in between."""

from __future__ import annotations

from typing import Final

import structlog

from identity.port import Identity, Refused, Unavailable
from runtime.clock import Clock

log = structlog.get_logger("identity")

SECONDS: Final = 5.0
"""So long may an offer be late: a client that takes it up while keys are missing is refused as for a wrong password."""


class ScramOffer:
    """Of one process. is_on: the setting; where it is off identity is never asked."""

    def __init__(self, identity: Identity, clock: Clock, is_on: bool) -> None:
        self._identity = identity
        self._clock = clock
        self._is_on = is_on
        self._answer: bool | None = None
        self._until = float("-inf")

    async def now(self) -> bool:
        """No while identity is away: signing in by another mechanism is as good."""
        if not self._is_on:
            return False
        now = self._clock.monotonic()
        if now >= self._until:
            # Who comes while it is being asked gets the old answer.
            self._until = now + SECONDS
            before, self._answer = self._answer, await self._ask()
            if self._answer is not before:
                log.info("SCRAM is offered" if self._answer else "SCRAM is not offered: an account lacks keys for it")
        return bool(self._answer)

    async def _ask(self) -> bool:
        try:
            return await self._identity.scram_ready()
        except (Refused, Unavailable):
            return False
