"""Asking the running server to end, to begin again, or for its log."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from homing.access import reach
from homing.ports import SERVER, server_codec
from runtime.admin import ControlClient, ControlUnreachable, FolderLock, FolderLocked

LOG_WAIT = 20.0
POLL = 0.1
PATIENCE = 120.0
"""Seconds to wait for a drain that others' work in hand makes long, and for the start after it."""


async def end() -> bool:
    """Drain and end the server; returns once its data folder is free. False when none runs."""
    async with reach() as access:
        if not access.running:
            return False
        await access.server.end(False)
    folder = access.settings.data
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                with FolderLock(folder):
                    return True
            except FolderLocked:
                await asyncio.sleep(POLL)


async def restart() -> bool:
    """Let the server drain and begin again; returns once it serves. False when none runs."""
    async with reach() as access:
        if not access.running:
            return False
        before = await access.server.started_at()
        await access.server.end(True)
    codec = server_codec()
    async with asyncio.timeout(PATIENCE):
        while True:
            await asyncio.sleep(POLL)
            # Not by `reach`: between its two lives the folder is free, and must not be taken away from it.
            with contextlib.suppress(ControlUnreachable):
                async with ControlClient(access.settings.data) as client:
                    if await client.port(SERVER, codec).started_at() != before:
                        return True


async def lines(follow: bool) -> AsyncIterator[str]:
    """The log's lines that the server holds, and with `follow` each new one. Raises ControlUnreachable where none
    runs, or when it ends."""
    async with reach() as access:
        if not access.running:
            raise ControlUnreachable("No server runs on this data folder.")
        last = 0
        while True:
            for line in await access.server.logs(last, LOG_WAIT if last else 0.0):
                last = line.number
                yield line.text
            if not follow:
                return
