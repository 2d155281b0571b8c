"""What every process of Homing is, whichever services it runs: its set-up, its figures, its start and its end."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import structlog
import uvloop
from rich.console import Console

from homing import banner
from homing.gauges import show_version
from homing.overrides import SettingsKeeper
from homing.ports import Listening
from homing.settings import Settings
from runtime.admin import FolderLock, make_folder
from runtime.clock import Clock, SystemClock
from runtime.closing import Closing
from runtime.lifecycle import Lifecycle, Service, heed_again
from runtime.log import BugCounter, LogLine, RecentLines, configure
from runtime.metrics import Metrics
from runtime.tls import Tls, make_self_signed

OPEN_FILES = 65536
LARGE_BLOCK = 192 * 1024
"""Octets."""
_M_MMAP_THRESHOLD = -3
LOCK_SECONDS = 2.0
CERTIFICATE_SECONDS = 30.0
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
WHOLE = "homing"
"""The name of the process that runs all services."""

log = structlog.get_logger("homing")


@dataclass(frozen=True, slots=True)
class Process:
    """What the parts of a process share. name: of the one service that it runs, or WHOLE."""

    name: str
    settings: Settings
    keeper: SettingsKeeper
    metrics: Metrics
    recent: RecentLines
    console: Console
    clock: Clock = field(default_factory=SystemClock)
    closing: Closing = field(default_factory=Closing)


def run(serve: Callable[[], Coroutine[Any, Any, bool]], command: Sequence[str]) -> None:
    """Run `serve` until it returns; where that says so begin again, as the same process, with `command`. Raises what it
    raises."""
    # Nothing of the data folder is for others.
    os.umask(0o077)
    _raise_file_limit()
    _map_large_blocks()
    # Until it serves there is nothing to drain.
    signal.signal(signal.SIGTERM, _end_at_once)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        again = runner.run(serve())
    if again:
        # The same process, terminal and process id; new code, settings and certificate.
        heed_again()
        os.execv(sys.executable, [sys.executable, "-m", "homing", *command])


def _map_large_blocks() -> None:
    """Let glibc map blocks from LARGE_BLOCK on apart, whatever was freed before. It raises that bound by itself with
    each larger block that is freed, and then the mostly unused buffer of a TLS connection (256 KiB) lies in memory
    that others have touched: an idle connection costs as much again. Other C libraries are left as they are."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK)


def _end_at_once(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def console() -> Console:
    """For what is shown at the start."""
    return Console(width=None if sys.stdout.isatty() else 120)


def logs(settings: Settings, service: str = "") -> tuple[BugCounter, RecentLines]:
    """Set up the log; `service` is said in every line."""
    bugs, recent = BugCounter(), RecentLines()
    form = settings.log.form
    configure(
        level=settings.log.level,
        json=None if form == "auto" else form == "json",
        bugs=bugs,
        recent=recent,
        service=service,
    )
    return bugs, recent


def make_metrics(bugs: BugCounter, service: str = "") -> Metrics:
    """The figures of the process; `service` is a label of each."""
    metrics = Metrics("homing", service)
    metrics.counted("bugs", "Errors that nobody foresaw, since the start", lambda: bugs.count)
    show_version(metrics)
    return metrics


def certificate(settings: Settings) -> Tls:
    """The certificate of all listeners, made where there is none. Raises StartError."""
    cert, key = settings.tls.cert, settings.tls.key
    if cert is None or key is None:
        folder = settings.data / "tls"
        make_folder(settings.data)
        names = dict.fromkeys((settings.domain, settings.name, *LOOPBACK_NAMES))
        lock = FolderLock(folder)
        # Several processes over one folder make one certificate.
        lock.acquire(wait=CERTIFICATE_SECONDS)
        try:
            cert, key = make_self_signed(folder, list(names))
        finally:
            lock.release()
    return Tls(cert, key, on_change=lambda sentence: log.info("certificate", detail=sentence))


class Running:
    """The `Server` port of this process, and its life."""

    def __init__(self, recent: RecentLines, listeners: Callable[[], tuple[Listening, ...]]) -> None:
        self._recent = recent
        self._listeners = listeners
        self._began = time.time()
        self._life: Lifecycle | None = None
        self._restart = False

    async def run(self, process: Process, services: Sequence[Service]) -> bool:
        """Serve until the end. True when it is to begin again: a signal meanwhile is for the end."""
        self._life = Lifecycle(
            services,
            on_ready=lambda: _tell_ready(process, self._listeners()),
            on_trouble=lambda where, error: log.error(where, exc_info=error),
            on_closing=process.closing.begin,
            drain_seconds=process.settings.admin.drain_seconds,
        )
        await self._life.run()
        log.info("ended")
        return self._restart and not (self._life.asked_by_signal or process.closing.asked)

    @property
    def ready(self) -> bool:
        """Has all started, and nothing begun to end?"""
        return self._life is not None and self._life.ready

    def again(self) -> None:
        """Drain, and begin again."""
        self._restart = True
        self.finish()

    def finish(self) -> None:
        """Drain, and end."""
        if self._life is not None:
            # What is being answered goes out first: a drain begins by closing the ways in.
            asyncio.get_running_loop().call_later(0.05, self._life.end)

    async def started_at(self) -> float:
        return self._began

    async def end(self, restart: bool) -> None:
        if restart:
            self.again()
        else:
            self.finish()

    async def logs(self, after: int, wait: float) -> tuple[LogLine, ...]:
        return await self._recent.after(after, wait)

    async def listeners(self) -> tuple[Listening, ...]:
        return self._listeners()


def _tell_ready(process: Process, listeners: tuple[Listening, ...]) -> None:
    banner.show(process.settings, listeners, process.console, process.name)
    log.info("serving", domain=process.settings.domain, **{one.name.lower(): one.port for one in listeners})
    # What lives now lives until the end: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    print("ready", flush=True)


def _raise_file_limit() -> None:
    """A connection is a file, and the usual soft limit of 1024 is soon reached."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
