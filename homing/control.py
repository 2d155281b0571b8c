"""Asking running processes to end, to begin again, or for their logs."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

from homing import sockets
from homing.ports import SERVER, server_codec
from homing.settings import load_settings
from homing.sockets import DOORS, ORDER, SUPERVISOR, WORKER, Socket
from runtime.admin import ControlUnreachable, FolderLock, FolderLocked

LOG_WAIT = 20.0
POLL = 0.1
ANSWER_SECONDS = 10.0
"""Seconds that a process may take for the shortest of answers; one that takes longer hangs."""
PATIENCE = 3.0
"""Seconds to wait for a process that holds the folder, and does not answer yet."""
DRAIN_PATIENCE = 120.0
"""Seconds to wait for a drain that others' work in hand makes long, and for the start after it."""


async def end() -> bool:
    """Drain and end all processes over the data folder, supervisors first, then workers, doors before keepers; returns
    once they have ended. False when none runs."""
    folder = load_settings().settings.data
    running = await _running(folder)
    if not running:
        return False
    # Who works beside the one process has still to tell it what came of the work.
    for group in ((SUPERVISOR,), (WORKER,), ("",), DOORS, ORDER):
        ending = [one for one in running if one.service in group and await _ask(one, restart=False)]
        async with asyncio.timeout(DRAIN_PATIENCE):
            for one in ending:
                await _until(partial(_ended, one, folder))
    return True


async def restart(services: Sequence[str]) -> bool:
    """Let the processes of these services (all, where none is named) drain and begin again, one after the other;
    returns once they serve. Where one process runs all services, it is that. False when none was found."""
    folder = load_settings().settings.data
    running = [one for one in await _running(folder, services) if one.service != SUPERVISOR]
    # Keepers first, so that a door begins with keepers that are there.
    for one in sorted(running, key=lambda one: (*ORDER, "").index(one.service)):
        before = await _began(one)
        if before is None or not await _ask(one, restart=True):
            continue
        async with asyncio.timeout(DRAIN_PATIENCE):
            await _until(partial(_again, one, before))
    return bool(running)


async def lines(follow: bool, services: Sequence[str] = ()) -> AsyncIterator[str]:
    """The log's lines that the processes hold, and with `follow` each new one. Raises ControlUnreachable where none
    runs, or when the last one ends."""
    folder = load_settings().settings.data
    running = [one for one in await _running(folder, services) if one.service != SUPERVISOR]
    if not running:
        raise ControlUnreachable("No server runs on this data folder.")
    found: asyncio.Queue[str | None] = asyncio.Queue(maxsize=1000)
    tasks = [asyncio.create_task(_tell(one, found, follow)) for one in running]
    try:
        left = len(tasks)
        while left:
            line = await found.get()
            if line is None:
                left -= 1
            else:
                yield line
        if follow:
            raise ControlUnreachable("The server has ended.")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _tell(one: Socket, found: asyncio.Queue[str | None], follow: bool) -> None:
    last = 0
    try:
        async with one.client() as client:
            server = client.port(SERVER, server_codec())
            while True:
                for line in await server.logs(last, LOG_WAIT if last else 0.0):
                    last = line.number
                    await found.put(line.text)
                if not follow:
                    return
    except ControlUnreachable:
        return
    finally:
        await found.put(None)


async def _running(folder: Path, services: Sequence[str] = ()) -> list[Socket]:
    """The processes that answer: that of all services, and those of the services named. Raises FolderLocked where one
    holds the folder and does not answer, even after a while."""
    until = time.monotonic() + PATIENCE
    while True:
        asked = [sockets.whole(folder), *sockets.found(folder, services)]
        answering = [one for one in asked if await _began(one) is not None]
        if answering or services or not folder.is_dir():  # noqa: ASYNC240 (one look, of a command)
            return answering
        try:
            with FolderLock(folder):
                return []
        except FolderLocked:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(POLL)


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Ask until it holds; the caller sets the deadline."""
    while True:
        if await holds():
            return
        await asyncio.sleep(POLL)


async def _ended(one: Socket, folder: Path) -> bool:
    """Has the process gone? That of all services has when its folder is free."""
    if await _began(one) is not None:
        return False
    return one.service != "" or _free(folder)


async def _again(one: Socket, before: float) -> bool:
    return await _began(one) not in (None, before)


def _free(folder: Path) -> bool:
    try:
        with FolderLock(folder):
            return True
    except FolderLocked:
        return False


async def _ask(one: Socket, *, restart: bool) -> bool:
    with contextlib.suppress(ControlUnreachable):
        async with one.client() as client:
            await client.port(SERVER, server_codec()).end(restart)
            return True
    return False


async def _began(one: Socket) -> float | None:
    """When the process began; None where there is none. Raises TimeoutError for one that hangs."""
    with contextlib.suppress(ControlUnreachable):
        async with asyncio.timeout(ANSWER_SECONDS), one.client() as client:
            return await client.port(SERVER, server_codec()).started_at()
    return None
