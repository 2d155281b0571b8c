"""Embedded mode: identity, storage, SMTP, IMAP and REST composed in one process over one data folder."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import sys
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import structlog
import uvloop
from rich.console import Console

from homing import banner, first_run
from homing.doors import Doors, make_doors
from homing.keepers import identity_settings, identity_url, open_storage, operation, refuse_distributed
from homing.overrides import Listening, SettingsKeeper
from homing.ports import IDENTITY, SERVER, identity_codec, server_codec
from homing.scrub import Scrub
from homing.settings import Settings, admin_password, load_settings
from identity.service import IdentityService
from runtime.admin import ControlServer, FolderLock, Served
from runtime.clock import SystemClock
from runtime.lifecycle import Lifecycle
from runtime.log import BugCounter, LogLine, RecentLines, configure
from runtime.metrics import LoopLag, Metrics
from runtime.tls import Tls, make_self_signed
from storage.service import StorageService

if TYPE_CHECKING:
    from storage.port import Storage

OPEN_FILES = 65536
LOCK_SECONDS = 2.0
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")

log = structlog.get_logger("homing")


def main() -> None:
    """Serve until SIGTERM or SIGINT. Raises StartError, FolderLocked, and the keepers' errors, before it serves."""
    # Nothing of the data folder is for others.
    os.umask(0o077)
    _raise_file_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        again = runner.run(_serve())
    if again:
        # The same process, terminal and process id; new code, settings and certificate.
        os.execv(sys.executable, [sys.executable, "-m", "homing", "up"])


async def _serve() -> bool:
    """Returns whether to begin again."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    settings = load_settings().settings
    refuse_distributed(settings)
    async with AsyncExitStack() as stack:
        lock = FolderLock(settings.data)
        # A command may hold the folder for a moment.
        lock.acquire(wait=LOCK_SECONDS)
        stack.callback(lock.release)
        keeper = SettingsKeeper(settings.data)
        settings = await keeper.open()
        stack.push_async_callback(keeper.close)
        bugs, recent = BugCounter(), RecentLines()
        form = settings.log.form
        configure(level=settings.log.level, json=None if form == "auto" else form == "json", bugs=bugs, recent=recent)
        metrics = Metrics("homing")
        metrics.gauge("bugs", "Errors that nobody foresaw, since the start", read=lambda: bugs.count)

        tls = _tls(settings)
        # The keepers outlive all that use them: they end after the doors, in reverse order.
        storage_service = StorageService(await open_storage(settings))
        storage = storage_service.storage
        stack.push_async_callback(storage_service.stop)
        await storage_service.start()
        identity_service = IdentityService(
            identity_url(settings), identity_settings(settings), purge=_Purge(storage), clock=SystemClock()
        )
        await identity_service.start()
        stack.push_async_callback(identity_service.stop)
        await _first_run(settings, identity_service, console)

        scrub = Scrub(storage)
        metrics.gauge(
            "storage_damaged_blobs", "Stored messages that the last scrub found damaged", read=lambda: scrub.damaged
        )
        doors = make_doors(settings, identity_service.identity, storage, tls, metrics, keeper)
        server = _RunningServer(keeper, doors, recent)
        control = ControlServer(
            settings.data,
            {
                IDENTITY: Served(identity_codec(), identity_service.identity),
                SERVER: Served(server_codec(), server),
            },
        )
        life = Lifecycle(
            [
                tls,
                LoopLag(metrics),
                scrub,
                *doors.services,
                control,
            ],
            on_ready=lambda: _tell_ready(settings, doors, console),
            on_trouble=lambda where, error: log.error(where, exc_info=error),
            drain_seconds=settings.admin.drain_seconds,
        )
        doors.is_ready = lambda: life.ready
        server.life = life
        await life.run()
        log.info("ended")
        return server.restart


class _Purge:
    """Removes the mail of a removed account, a step at a time."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def __call__(self, account: str) -> bool:
        return await self._storage.purge_account(operation(), account)


class _RunningServer:
    """The `Server` port of this process."""

    def __init__(self, keeper: SettingsKeeper, doors: Doors, recent: RecentLines) -> None:
        self._doors = doors
        self._began = time.time()
        self.life: Lifecycle | None = None
        self.restart = False
        self._recent = recent
        self.settings = keeper.settings
        self.set_override = keeper.set_override
        self.clear_override = keeper.clear_override

    async def started_at(self) -> float:
        return self._began

    async def end(self, restart: bool) -> None:
        self.restart = restart
        if self.life is not None:
            # The answer goes out first: the drain begins with the control socket.
            asyncio.get_running_loop().call_later(0.05, self.life.end)

    async def logs(self, after: int, wait: float) -> tuple[LogLine, ...]:
        return await self._recent.after(after, wait)

    async def listeners(self) -> tuple[Listening, ...]:
        return self._doors.listeners()


def _tls(settings: Settings) -> Tls:
    cert, key = settings.tls.cert, settings.tls.key
    if cert is None or key is None:
        names = dict.fromkeys((settings.domain, settings.name, *LOOPBACK_NAMES))
        cert, key = make_self_signed(settings.data / "tls", list(names))
    return Tls(cert, key, on_change=lambda sentence: log.info("certificate", detail=sentence))


async def _first_run(settings: Settings, names: IdentityService, console: Console) -> None:
    made = await names.ensure_first_run(settings.domain, admin_password(settings))
    if made is None:
        if not await names.identity.domain_exists(settings.domain):
            log.warning("the default domain is none of ours: homing domain add", domain=settings.domain)
        return
    # Shown at once: whatever fails later in this start, the passwords are not made again.
    path = first_run.show(made, console, settings.data)
    if path is not None:
        console.print(f"First run: the administrator's login and one user's are in {path}", soft_wrap=True)


def _tell_ready(settings: Settings, doors: Doors, console: Console) -> None:
    listeners = doors.listeners()
    banner.show(settings, listeners, console)
    log.info("serving", domain=settings.domain, **{one.name.lower(): one.port for one in listeners})
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
