"""The life of a process: start in order, say ready, drain on a signal, stop in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Protocol

from runtime.closing import SIGNALS

DRAIN_SECONDS = 30.0
STOP_SECONDS = 10.0


@contextlib.contextmanager
def signalled(told: Callable[[], None]) -> Iterator[None]:
    """Each of SIGNALS calls ``told``, on the running loop. Afterwards they do nothing any more: the process is at its
    end, which is carried through, and whose exit status says how it went (`runtime.closing` sees to it that there is
    one). Who goes on after that, or executes another program (which would ignore them too), calls ``heed_again``. For
    the main thread."""
    loop = asyncio.get_running_loop()

    def handler(_number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(told)

    # The loop's own handlers would be followed by the default, which ends the process with a signal's status.
    for number in SIGNALS:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def heed_again() -> None:
    """Let SIGNALS end the process, as they did before it had handlers."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


class StartError(Exception):
    """The process cannot start, and why, in one sentence for the person who started it. `exit_code` is the status."""

    def __init__(self, sentence: str, *, exit_code: int = 1) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class Service(Protocol):
    """A part of the process that has a life of its own."""

    async def start(self) -> None:
        """Return once it serves. Raises StartError when it cannot."""
        ...

    async def drain(self) -> None:
        """Take no new work, and return when the work in hand is finished. Cancelled at the deadline."""
        ...

    async def stop(self) -> None:
        """Let go of everything at once. Called once after every `start` that returned, drained or not."""
        ...


class Lifecycle:
    """Runs services from start to stop.

    They start in the order given, each after the one before has; all drain together, for the doors need the keepers
    behind them until the last piece of work is done; they stop in reverse order. SIGTERM or SIGINT begins the drain,
    a second one (or `drain_seconds`) ends it at once. `on_closing` is called before the first stop; from there on the
    signals are its own, or are ignored (`signalled`). `on_trouble` gets what a drain or a stop raised.
    `asked_by_signal`: whether there was one.
    """

    def __init__(
        self,
        services: Sequence[Service],
        *,
        on_ready: Callable[[], None],
        on_trouble: Callable[[str, BaseException], None],
        on_closing: Callable[[], None] = lambda: None,
        drain_seconds: float = DRAIN_SECONDS,
    ) -> None:
        self._services = tuple(services)
        self._on_ready = on_ready
        self._on_trouble = on_trouble
        self._on_closing = on_closing
        self._drain_seconds = drain_seconds
        self._asked = 0
        self._changed = asyncio.Event()
        self.ready = False
        self.draining = False
        self.asked_by_signal = False

    def end(self) -> None:
        """Begin to drain, as a signal does; the second time stop at once."""
        self._asked += 1
        self._changed.set()

    async def run(self) -> None:
        """Return when all has been stopped. Raises what a start raised, after stopping what had started."""
        started: list[Service] = []
        try:
            with signalled(self._signalled):
                await self._start(started)
                if not self._asked:
                    self.ready = True
                    self._on_ready()
                    await self._changed.wait()
                await self._drain(started)
        finally:
            self.ready = False
            self._on_closing()
            await self._stop(started)

    def _signalled(self) -> None:
        self.asked_by_signal = True
        self.end()

    async def _start(self, started: list[Service]) -> None:
        for service in self._services:
            if self._asked:
                return
            await service.start()
            started.append(service)

    async def _drain(self, services: Sequence[Service]) -> None:
        self.ready, self.draining = False, True
        drains = {asyncio.ensure_future(service.drain()): service for service in services}
        at_once = asyncio.create_task(self._asked_twice())
        deadline = asyncio.get_running_loop().time() + self._drain_seconds
        waiting = set(drains)
        while waiting and not at_once.done():
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                break
            await asyncio.wait({*waiting, at_once}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            waiting = {drain for drain in waiting if not drain.done()}
        for pending in (*waiting, at_once):
            pending.cancel()
        for result, service in zip(await asyncio.gather(*drains, return_exceptions=True), drains.values(), strict=True):
            if isinstance(result, Exception):
                self._on_trouble(f"draining {type(service).__name__}", result)

    async def _asked_twice(self) -> None:
        while self._asked < 2:
            self._changed.clear()
            await self._changed.wait()

    async def _stop(self, services: Sequence[Service]) -> None:
        for service in reversed(services):
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await service.stop()
            except Exception as error:
                self._on_trouble(f"stopping {type(service).__name__}", error)
