"""The end of a process that has begun to close: it comes, whatever hangs, and what hung is named."""

from __future__ import annotations

import asyncio
import os
import queue
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
"""By which a process is asked to end."""
CLOSE_SECONDS: Final = 20.0
"""How long it may take to stop the services, to close what is behind them, and to end."""
LATE_SECONDS: Final = 5.0
"""So long after the beginning a signal may have been meant for the work in hand, which has just ended: a process that
closes well meanwhile ends as if it had not come."""
EXIT_UNCLOSED: Final = 70
"""Status of a process that ended with something still open (sysexits.h: EX_SOFTWARE)."""
IDLE: Final = (("concurrent/futures/thread.py", "_worker"), ("runtime/jobs.py", "take"))
"""Files and functions in which threads wait for work."""
FRAMES: Final = 4
"""Calls that are told of each task and thread, beginning with the innermost."""
TOLD_OCTETS: Final = 4096
"""What is told fits a pipe at once (PIPE_BUF of Linux)."""
TELL_SECONDS: Final = 1.0
"""So long a reader of standard error that reads nothing is waited for."""


class Closing:
    """seconds: from `begin` to the end of the process. late: LATE_SECONDS. Nothing of it outlives the process, and what
    is executed in its place."""

    def __init__(self, *, seconds: float = CLOSE_SECONDS, late: float = LATE_SECONDS) -> None:
        self._seconds = seconds
        self._late = late
        self._signals: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.asked = False
        """Has a signal come since the beginning?"""

    def begin(self) -> None:
        """From now on a signal ends the process at once, and in the first ``late`` seconds then, if it is still there;
        the time does so without one. Once, on the running loop, in the main thread."""
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._watch, name="closing", daemon=True).start()
        for number in SIGNALS:
            signal.signal(number, self._signalled)

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        self.asked = True
        # Of queues the one that may be put into while the same thread puts.
        self._signals.put(number)

    def _watch(self) -> None:
        began = time.monotonic()
        try:
            number = self._signals.get(timeout=self._seconds)
        except queue.Empty:
            why = f"not closed after {self._seconds:g} s"
        else:
            time.sleep(max(0.0, began + self._late - time.monotonic()))
            why = f"{signal.Signals(number).name} while closing"
        try:
            _write("\n  ".join((f"homing: {why}; ended at once, with this still open:", *self._open())))
        finally:
            os._exit(EXIT_UNCLOSED)

    def _open(self) -> Iterator[str]:
        """What still runs: a line for each task and each thread, with where it is."""
        loop = self._loop
        for task in () if loop is None or loop.is_closed() else asyncio.all_tasks(loop):
            if not task.done():
                yield f"task {task.get_name()}: {_awaiting(task.get_coro())}"
        frames = sys._current_frames()
        for thread in threading.enumerate():
            frame = None if thread is threading.current_thread() else frames.get(thread.ident or 0)
            if frame is not None and not _is_idle(frame):
                yield f"thread {thread.name}: {_calls(frame)}"


def _awaiting(coroutine: Any) -> str:
    """Where the coroutine of a task stands: that for which it waits, and those that wait for that."""
    told: list[str] = []
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        told.append(_place(frame))
        coroutine = coroutine.cr_await
    return ", from ".join(told[: -FRAMES - 1 : -1])


def _calls(frame: FrameType | None) -> str:
    told: list[str] = []
    # all threads begin in threading.Thread
    while frame is not None and len(told) < FRAMES and not frame.f_code.co_qualname.startswith("Thread."):
        told.append(_place(frame))
        frame = frame.f_back
    return ", from ".join(told)


def _is_idle(frame: FrameType) -> bool:
    code = frame.f_code
    return any(code.co_name == name and code.co_filename.endswith(file) for file, name in IDLE)


def _place(frame: FrameType) -> str:
    code = frame.f_code
    return f"{'/'.join(Path(code.co_filename).parts[-2:])}:{frame.f_lineno} {code.co_qualname}"


def _write(text: str) -> None:
    """To standard error, past what the hanging threads may hold; nothing where nobody reads it."""
    error = 2
    _, writable, _ = select.select((), (error,), (), TELL_SECONDS)
    if writable:
        os.write(error, text.encode("utf-8", "replace")[: TOLD_OCTETS - 1] + b"\n")
