"""From a received message to its commit: a bounded queue, and workers that store what waits in batches.

``submit`` returns after storage has committed: only then may a door say 250. A worker takes all that waits, up to a
bound, into one ``storage.accept``, so that the busier the server is the more messages share one commit.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import structlog

from runtime.clock import Clock
from smtp.errors import QueueFull, StoreBug, WaitedTooLong
from storage.model import Accepted, Delivery
from storage.port import Refused, Storage, Unavailable

BATCH_MAX = 64
BATCH_OCTETS = 4 * 1024 * 1024

log = structlog.get_logger("smtp")


class _Waiting(NamedTuple):
    delivery: Delivery
    done: asyncio.Future[Accepted]
    deadline: float


class Reception:
    """max_workers (batches under way at once) and timeout (seconds that a message may wait for its turn) may be
    changed while running."""

    def __init__(self, storage: Storage, clock: Clock, *, max_workers: int, timeout: float, queue_max: int) -> None:
        self._storage = storage
        self._clock = clock
        self._max_workers = max_workers
        self._queue_max = queue_max
        self._queue: deque[_Waiting] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._in_hand = 0
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._empty.set()
        self.timeout = timeout

    @property
    def emails_in_queue(self) -> int:
        """Messages received and not yet committed: waiting ones and those in the workers' hands."""
        return len(self._queue) + self._in_hand

    @property
    def max_workers(self) -> int:
        return self._max_workers

    @max_workers.setter
    def max_workers(self, number: int) -> None:
        self._max_workers = number
        self._schedule()

    async def submit(self, delivery: Delivery) -> Accepted:
        """Store one message and return once it is durable. Raises QueueFull, WaitedTooLong (it was not stored and
        will not be), storage's Refused and Unavailable, and StoreBug.

        The caller's cancellation takes back a message that still waits, and not one that a worker has.
        """
        if len(self._queue) >= self._queue_max:
            raise QueueFull
        done: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(delivery, done, self._clock.monotonic() + self.timeout))
        self._empty.clear()
        self._schedule()
        return await done

    async def drain(self) -> None:
        """Return once nothing waits and nothing is in hand."""
        await self._empty.wait()

    async def stop(self) -> None:
        """Turn away what waits; what is in hand ends by itself, since a begun commit cannot be taken back."""
        while self._queue:
            waiting = self._queue.popleft()
            if not waiting.done.done():
                waiting.done.set_exception(Unavailable("the server stops"))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await asyncio.gather(*self._workers, return_exceptions=True)

    def _schedule(self) -> None:
        # Not at once: messages that came in the same turn of the loop go into one batch.
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._scheduled = False
        while self._queue and len(self._workers) < self._max_workers:
            batch = self._take()
            if batch:
                self._in_hand += len(batch)
                worker = asyncio.create_task(self._store(batch), name="smtp worker")
                self._workers.add(worker)
                worker.add_done_callback(self._done)
        if self._queue and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(min(1.0, self.timeout), self._expire)
        if not self._queue and not self._in_hand:
            self._empty.set()

    def _done(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        self._schedule()

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        octets = 0
        while self._queue and len(batch) < BATCH_MAX and octets < BATCH_OCTETS:
            waiting = self._queue.popleft()
            if not waiting.done.done():
                batch.append(waiting)
                content = waiting.delivery.content
                octets += len(content) if isinstance(content, bytes) else 0
        return batch

    def _expire(self) -> None:
        """Turn away those whose time is over; they wait in order of their deadlines, but for a changed timeout."""
        self._timer = None
        now = self._clock.monotonic()
        while self._queue and (self._queue[0].done.done() or self._queue[0].deadline <= now):
            waiting = self._queue.popleft()
            if not waiting.done.done():
                waiting.done.set_exception(WaitedTooLong())
        self._schedule()

    async def _store(self, batch: list[_Waiting]) -> None:
        outcomes: Sequence[Accepted | Exception]
        try:
            outcomes = await self._storage.accept([waiting.delivery for waiting in batch])
        except (Refused, Unavailable) as error:
            outcomes = [error] * len(batch)
        except Exception:
            log.exception("storing a batch", messages=len(batch))
            for waiting in batch:
                log.error("a message was not stored", trace=waiting.delivery.trace)
            outcomes = [StoreBug()] * len(batch)
        finally:
            self._in_hand -= len(batch)
        for waiting, outcome in zip(batch, outcomes, strict=True):
            if waiting.done.done():
                continue
            if isinstance(outcome, Accepted):
                waiting.done.set_result(outcome)
            else:
                waiting.done.set_exception(outcome)
