"""Ends of claims, gathered: what many attempts came to goes to storage in one call, and is kept until it is durable."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import structlog

from storage.model import Settlement
from storage.port import Refused, Storage, Unavailable

BATCH_MAX = 100
CALLS_MAX = 2
"""Calls under way at the same time."""
GATHER_SECONDS = 0.002
"""How long the first of a batch waits for others."""
RETRY_MIN = 0.2
RETRY_MAX = 5.0

log = structlog.get_logger("outbound")


class _Waiting(NamedTuple):
    settlement: Settlement
    done: asyncio.Future[Refused | None]


class Settler:
    """``settle`` returns once the settlement is durable, however long storage is away."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._queue: deque[_Waiting] = deque()
        self._calls: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """Settlements that are not durable yet and not in a call."""
        return len(self._queue)

    async def settle(self, settlement: Settlement) -> Refused | None:
        """The refusal, if it was refused: then nothing was changed. A cancelled caller leaves it to its fate: it may be
        settled or not."""
        done: asyncio.Future[Refused | None] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(settlement, done))
        self._soon()
        return await done

    def _soon(self) -> None:
        if self._timer is None and len(self._calls) < CALLS_MAX:
            self._timer = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._dispatch)

    def _dispatch(self) -> None:
        self._timer = None
        while self._queue and len(self._calls) < CALLS_MAX:
            batch: list[_Waiting] = []
            while self._queue and len(batch) < BATCH_MAX:
                waiting = self._queue.popleft()
                if not waiting.done.done():
                    batch.append(waiting)
            if batch:
                call = asyncio.create_task(self._call(batch), name="outbound settle")
                self._calls.add(call)
                call.add_done_callback(self._ended)

    def _ended(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        if self._queue:
            self._soon()

    async def _call(self, batch: Sequence[_Waiting]) -> None:
        pause = RETRY_MIN
        while batch:
            again = await self._try(batch)
            # Who was cancelled waits no more.
            batch = [waiting for waiting in again if not waiting.done.done()]
            if batch:
                await asyncio.sleep(pause)
                pause = min(2 * pause, RETRY_MAX)

    async def _try(self, batch: Sequence[_Waiting]) -> list[_Waiting]:
        """Those that storage has not got yet. A repeat has the same operation id, so that it does no harm."""
        outcomes: Sequence[Refused | Unavailable | None]
        try:
            outcomes = await self._storage.settle([waiting.settlement for waiting in batch])
        except Refused as refused:
            outcomes = [refused] * len(batch)
        except Unavailable as unavailable:
            outcomes = [unavailable] * len(batch)
        except Exception:
            log.exception("settling attempts", attempts=len(batch))
            outcomes = [Unavailable("an error of storage")] * len(batch)
        again: list[_Waiting] = []
        for waiting, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Unavailable):
                again.append(waiting)
            elif not waiting.done.done():
                waiting.done.set_result(outcome)
        return again

    async def stop(self) -> None:
        """Let go of what storage could not be told: those claims run out, and are told as unsettled."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        for waiting in self._queue:
            waiting.done.cancel()
        self._queue.clear()
