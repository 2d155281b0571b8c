"""Trace events of what was refused: kept in a bounded buffer and recorded in batches, never in a reply's way."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

import structlog

from storage.model import Event
from storage.port import Refused, Storage, Unavailable

BUFFER_MAX = 10_000
BATCH_MAX = 500
PAUSE_SECONDS = 0.5

log = structlog.get_logger("smtp")


class Journal:
    """``dropped`` counts events that came while the buffer was full; the newest are those that are lost."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._buffer: deque[Event] = deque()
        self._filled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0

    def add(self, events: Iterable[Event]) -> None:
        for event in events:
            if len(self._buffer) >= BUFFER_MAX:
                self.dropped += 1
            else:
                self._buffer.append(event)
        self._filled.set()

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="smtp journal")

    async def stop(self) -> None:
        """Record what is left, once, and end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            while self._buffer and await self._record():
                pass

    async def _run(self) -> None:
        while True:
            await self._filled.wait()
            # A pause lets a batch come together, and spaces out tries while storage is away.
            await asyncio.sleep(PAUSE_SECONDS)
            self._filled.clear()
            while self._buffer:
                if not await self._record():
                    self._filled.set()
                    break

    async def _record(self) -> bool:
        batch = [self._buffer.popleft() for _ in range(min(BATCH_MAX, len(self._buffer)))]
        try:
            await self._storage.record(batch)
        except Unavailable:
            self._buffer.extendleft(reversed(batch))
            return False
        except Refused as error:
            log.warning("trace events refused", reason=error.text)
        except Exception:
            log.exception("trace events not recorded")
        return True
