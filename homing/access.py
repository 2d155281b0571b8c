"""How a command reaches the ports: through the process that holds the data folder, or else by holding it itself.

Each command is written once, against the port, and does not see which of the two it was.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from homing.keepers import open_identity
from homing.overrides import Listening, Server, SettingsKeeper
from homing.ports import IDENTITY, SERVER, identity_codec, server_codec
from homing.settings import Settings, load_settings
from identity.port import Identity
from runtime.admin import ControlClient, ControlUnreachable, FolderLock, FolderLocked
from runtime.config import Row
from runtime.log import LogLine

PATIENCE = 3.0
POLL = 0.1


@dataclass(frozen=True, slots=True)
class Access:
    """What a command works with. `running`: a server holds the folder, and the ports are its own."""

    settings: Settings
    identity: Identity
    server: Server
    running: bool


@asynccontextmanager
async def reach() -> AsyncIterator[Access]:
    """Open the way. Raises StartError when the settings or the folder cannot be used, ControlUnreachable when the
    folder is held by a process that does not answer, even after a while (it may be starting, or ending)."""
    settings = load_settings().settings
    async with AsyncExitStack() as stack:
        client = await _hold_or_call(settings, stack)
        if client is not None:
            yield Access(
                settings,
                client.port(IDENTITY, identity_codec()),
                client.port(SERVER, server_codec()),
                running=True,
            )
            return
        keeper = SettingsKeeper(settings.data)
        settings = await keeper.open()
        stack.push_async_callback(keeper.close)
        identity = await open_identity(settings)
        stack.push_async_callback(identity.close)
        yield Access(settings, identity, _Stopped(keeper), running=False)


async def _hold_or_call(settings: Settings, stack: AsyncExitStack) -> ControlClient | None:
    """Take the folder (None), or open a line to the process that has it."""
    lock = FolderLock(settings.data)
    until = time.monotonic() + PATIENCE
    while True:
        try:
            lock.acquire()
        except FolderLocked:
            try:
                return await stack.enter_async_context(ControlClient(settings.data))
            except ControlUnreachable:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(POLL)
        else:
            stack.callback(lock.release)
            return None


class _Stopped:
    """The `Server` port while no server runs."""

    def __init__(self, keeper: SettingsKeeper) -> None:
        self._keeper = keeper

    async def listeners(self) -> tuple[Listening, ...]:
        return ()

    async def started_at(self) -> float:
        return 0.0

    async def end(self, restart: bool) -> None:
        return None

    async def logs(self, after: int, wait: float) -> tuple[LogLine, ...]:
        return ()

    async def settings(self) -> tuple[Row, ...]:
        return await self._keeper.settings()

    async def set_override(self, key: str, value: str) -> bool:
        await self._keeper.set_override(key, value)
        return False

    async def clear_override(self, key: str) -> bool:
        await self._keeper.clear_override(key)
        return False
