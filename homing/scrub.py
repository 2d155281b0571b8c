"""Looking, once a day, whether every stored message is still what it was."""

from __future__ import annotations

import asyncio

import structlog

from storage.port import Storage, Unavailable
from storage.service import TURN_ROUNDS, Turn, always

EVERY_SECONDS = 24 * 3600.0
PAUSE_SECONDS = 0.05
BATCH = 20

log = structlog.get_logger("scrub")


class Scrub:
    """Compares all blobs with their checksums, in small steps, and logs each that is damaged as an error; of several
    processes over one store the one whose turn it is."""

    def __init__(self, storage: Storage, *, every: float = EVERY_SECONDS, turn: Turn = always) -> None:
        self._storage = storage
        self._every = every
        self._turn = turn
        self._task: asyncio.Task[None] | None = None
        self.damaged = 0

    async def start(self) -> None:
        self._task = asyncio.create_task(self._forever(), name="scrub")

    async def drain(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def stop(self) -> None:
        await self.drain()

    async def _forever(self) -> None:
        while True:
            # Not at the start, when there is other work to do.
            await asyncio.sleep(self._every)
            try:
                if await self._turn("scrub", TURN_ROUNDS * self._every):
                    await self._round()
            except Unavailable as error:
                log.warning("the scrub waits for storage", reason=str(error))
            except Exception:
                log.exception("the scrub failed")

    async def _round(self) -> None:
        after, damaged = await self._storage.scrub("", BATCH)
        found = len(damaged)
        while True:
            for blob in damaged:
                log.error("a stored message is damaged: its checksum does not match", blob=blob)
            if not after:
                self.damaged = found
                return
            await asyncio.sleep(PAUSE_SECONDS)
            after, damaged = await self._storage.scrub(after, BATCH)
            found += len(damaged)
