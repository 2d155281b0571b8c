"""What is to be written down and nobody waits for: kept in a bounded buffer, and handed on in batches."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Backlog(Generic[T]):
    """``start`` and ``stop`` as runtime.lifecycle.Service has them.

    record: writes a batch down; False where it cannot now, and is to be asked again with the same. It does not raise.
    most: of what waits; ``dropped`` counts what came beyond. batch: of one call. pause: seconds before each batch.
    """

    def __init__(
        self, record: Callable[[Sequence[T]], Awaitable[bool]], *, name: str, most: int, batch: int, pause: float
    ) -> None:
        self._record = record
        self._name = name
        self._most = most
        self._batch = batch
        self._pause = pause
        self._waiting: deque[T] = deque()
        self._filled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0

    def add(self, more: Iterable[T]) -> None:
        """Have them written down, soon."""
        for one in more:
            if len(self._waiting) >= self._most:
                self.dropped += 1
            else:
                self._waiting.append(one)
        self._filled.set()

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def stop(self) -> None:
        """Write down what is left, once, and end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            while self._waiting and await self._next():
                pass

    async def _run(self) -> None:
        while True:
            await self._filled.wait()
            # A pause lets a batch come together, and spaces out tries while the store is away.
            await asyncio.sleep(self._pause)
            self._filled.clear()
            while self._waiting:
                if not await self._next():
                    self._filled.set()
                    break

    async def _next(self) -> bool:
        batch = [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]
        writing = asyncio.ensure_future(self._record(batch))
        try:
            await asyncio.shield(writing)
        finally:
            # Whoever stops waits for its end: else it would not be known whether it was written.
            if not await writing:
                self._waiting.extendleft(reversed(batch))
        return writing.result()
