"""Jobs for threads: a bounded queue of functions, and their answers handed back to whoever waits for them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections import deque
from collections.abc import Callable
from typing import Any


class QueueRefused(Exception):
    """The queue is full or closed: the job was not taken."""


class Job:
    """A job, who waits for it (a future of `loop`, or of no loop), and how it ended. For `lasting` and `heard` see
    `Database`."""

    __slots__ = ("error", "heard", "job", "lasting", "loop", "result", "waiter")

    def __init__(
        self,
        job: Callable[..., Any],
        waiter: asyncio.Future[Any] | concurrent.futures.Future[Any],
        loop: asyncio.AbstractEventLoop | None,
        *,
        lasting: bool = True,
        heard: Callable[[Any], None] | None = None,
    ) -> None:
        self.job = job
        self.heard = heard
        self.lasting = lasting
        self.waiter = waiter
        self.loop = loop
        self.result: Any = None
        self.error: BaseException | None = None

    def settle(self) -> None:
        if self.waiter.done():
            return
        if isinstance(self.error, StopIteration):
            # No future takes one, and the others of the batch must have their answers all the same.
            bug = RuntimeError("a job raised StopIteration")
            bug.__cause__ = self.error
            self.waiter.set_exception(bug)
        elif self.error is not None:
            self.waiter.set_exception(self.error)
        else:
            self.waiter.set_result(self.result)

    def tell(self) -> None:
        """Give the value to who hears of it whether or not somebody still waits."""
        if self.heard is None or self.error is not None:
            return
        try:
            self.heard(self.result)
        except Exception as error:
            # The others of the batch are to be heard of all the same.
            asyncio.get_running_loop().call_exception_handler({"message": "A job was not heard of", "exception": error})


class JobQueue:
    """A bounded queue of jobs that refuses instead of waiting: while it is full, before `open` and after `close`.

    Of the threads that wait for a job the one that waits the shortest gets it: what it keeps (a database's pages) was
    used last, and those that are not needed keep nothing.
    """

    def __init__(self, limit: int, name: str) -> None:
        self._items: deque[Job] = deque()
        self._limit = limit
        self._name = name
        self._opened = False
        self._closed = False
        self._lock = threading.Lock()
        self._idle: list[threading.Lock] = []

    def __len__(self) -> int:
        return len(self._items)

    @property
    def idle(self) -> int:
        """How many threads wait for a job."""
        return len(self._idle)

    def open(self) -> None:
        """Somebody takes the jobs from now on."""
        with self._lock:
            self._opened = True

    def put(self, item: Job) -> None:
        with self._lock:
            if self._closed:
                raise QueueRefused(f"{self._name} is closed")
            if not self._opened:
                raise QueueRefused(f"{self._name} is not open")
            if len(self._items) >= self._limit:
                raise QueueRefused(f"{self._name}: {self._limit} jobs wait already")
            self._items.append(item)
            if self._idle:
                self._idle.pop().release()

    def take(self) -> Job | None:
        """Wait for the next; None when the queue is closed and empty."""
        while True:
            with self._lock:
                if self._items:
                    return self._items.popleft()
                if self._closed:
                    return None
                waiting = threading.Lock()
                waiting.acquire()
                self._idle.append(waiting)
            # Until it is released: by then another thread may have taken the job.
            waiting.acquire()

    def wait(self, seconds: float) -> bool:
        """Wait for a job to come, or for the end; False when neither did in so many seconds."""
        with self._lock:
            if self._items or self._closed:
                return True
            waiting = threading.Lock()
            waiting.acquire()
            self._idle.append(waiting)
        if waiting.acquire(timeout=seconds):
            return True
        with self._lock:
            if waiting in self._idle:
                self._idle.remove(waiting)
        return False

    def take_waiting(self, *, lasting: bool = True) -> Job | None:
        """The next, if one waits; with `lasting` false only one that need not last."""
        with self._lock:
            if not self._items or (self._items[0].lasting and not lasting):
                return None
            return self._items.popleft()

    def take_all(self) -> list[Job]:
        with self._lock:
            items = list(self._items)
            self._items.clear()
            return items

    def close(self) -> None:
        with self._lock:
            self._closed = True
            while self._idle:
                self._idle.pop().release()


def answer(batch: list[Job]) -> None:
    """Settle each waiter on its own loop: one wake-up per loop, however many jobs."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    for item in batch:
        if item.loop is None:
            item.settle()
        else:
            by_loop.setdefault(item.loop, []).append(item)
    for loop, items in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle_all, items)
        except RuntimeError:
            # The loop has been closed: nobody waits there any more, and what was committed stays.
            continue


def _settle_all(items: list[Job]) -> None:
    for item in items:
        item.settle()
    # Who waits goes on when this has returned, and so after who hears.
    for item in items:
        item.tell()
