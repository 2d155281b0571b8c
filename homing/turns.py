"""Whose turn the upkeep is, where several processes could do the same."""

from __future__ import annotations

from typing import Protocol

import structlog

log = structlog.get_logger("homing")


class TurnsUnavailable(Exception):
    """Nobody can say now whose turn it is."""


class Turns(Protocol):
    """One process at a time has the turn of a name. It asks again before each round, and who asks no more loses it."""

    async def mine(self, name: str, seconds: float) -> bool:
        """True when this process has the turn, from now on for so many seconds. A hint that saves work twice done: what
        is done in a turn is safe without it. Raises TurnsUnavailable."""

    async def close(self) -> None:
        """Give back all turns."""


class Alone:
    """The turns of a process that has no others beside it."""

    async def mine(self, name: str, seconds: float) -> bool:
        return True

    async def close(self) -> None:
        return None


class Turn:
    """The turns of this process as the keepers ask for them: nobody's while nobody can say whose."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    async def __call__(self, name: str, seconds: float) -> bool:
        try:
            return await self._turns.mine(name, seconds)
        except TurnsUnavailable as error:
            log.info("no turn: whose it is cannot be asked now", name=name, reason=str(error))
            return False
