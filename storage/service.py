"""The keeper's life in a process: the store's upkeep in the background, and its end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from storage.limits import SWEEP_SECONDS
from storage.port import Storage, Unavailable

BREATH = 0.05
"""Seconds between two rounds of upkeep while there is more to do, so that deliveries come first."""

TURN_ROUNDS = 3
"""A turn lasts so many rounds: a process that has died loses it after that."""

Turn = Callable[[str, float], Awaitable[bool]]
"""Is it this process's turn to do what has that name, from now on for so many seconds, where several could do the same?
What is done in turn is safe without it."""

log = structlog.get_logger("storage")


async def always(_name: str, _seconds: float) -> bool:
    """The turn of a process that has no others beside it."""
    return True


class StorageService:
    """Sweeps the store, and describes messages again that an earlier release described. Closes it at the end.

    storage: opened; whoever else uses it does so between ``start`` and ``stop``. turn: see ``Turn``.
    """

    def __init__(self, storage: Storage, *, sweep_seconds: float = SWEEP_SECONDS, turn: Turn = always) -> None:
        self.storage = storage
        self._sweep_seconds = sweep_seconds
        self._turn = turn
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin the upkeep."""
        self._tasks = [
            asyncio.create_task(self._sweep_forever(), name="storage sweep"),
            asyncio.create_task(self._reparse_all(), name="storage reparse"),
        ]

    async def drain(self) -> None:
        """Nothing is in hand but the upkeep, which any later start goes on with."""
        await self._end_upkeep()

    async def stop(self) -> None:
        """End the upkeep and close the store: what has begun is finished, the rest refused as Unavailable."""
        await self._end_upkeep()
        await self.storage.close()

    async def _end_upkeep(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _sweep_forever(self) -> None:
        while True:
            more = False
            try:
                if await self._mine("sweep"):
                    more = (await self.storage.sweep()).more
            except Unavailable as error:
                log.warning("the sweep waits", reason=str(error))
            except Exception:
                log.exception("the sweep failed")
            await asyncio.sleep(BREATH if more else self._sweep_seconds)

    async def _reparse_all(self) -> None:
        after = ""
        while True:
            try:
                if not await self._mine("reparse"):
                    await asyncio.sleep(self._sweep_seconds)
                    continue
                after = await self.storage.reparse(after)
            except Unavailable as error:
                log.warning("describing older messages again waits", reason=str(error))
                await asyncio.sleep(self._sweep_seconds)
                continue
            except Exception:
                log.exception("describing older messages again failed")
                await asyncio.sleep(self._sweep_seconds)
                continue
            if not after:
                return
            await asyncio.sleep(BREATH)

    async def _mine(self, name: str) -> bool:
        return await self._turn(name, TURN_ROUNDS * self._sweep_seconds)
