"""What the four services have in common: how one of them becomes a process."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import structlog

from homing import process, sockets
from homing.health import Health
from homing.keepers import (
    check_urls,
    folder_of,
    identity_service,
    identity_store,
    in_folder,
    open_identity,
    open_overrides,
    open_storage,
    open_turns,
    patiently,
    service_token,
    storage_service,
)
from homing.overrides import PATIENCE_SECONDS, Overrides, SettingsKeeper
from homing.ports import CONFIG, SERVER, Listening, config_codec, server_codec
from homing.process import LOCK_SECONDS, Process, Running
from homing.settings import Settings, load_settings
from homing.turns import Turns
from identity.port import Identity
from runtime.admin import ControlServer, FolderLock, Served
from runtime.lifecycle import Service, StartError
from runtime.metrics import LoopLag
from storage.port import Storage

SUPERVISED = "--supervised"

log = structlog.get_logger("homing")


@dataclass(frozen=True, slots=True)
class Parts:
    """What a service consists of. services: in the order in which they start. further: ports on the control socket
    besides those of every process."""

    services: Sequence[Service]
    listeners: Callable[[], tuple[Listening, ...]]
    further: Mapping[str, Served[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Context:
    """What a service is composed from. overrides: the store of saved settings. stack: what is pushed there is closed
    after all services have stopped."""

    process: Process
    token: str
    overrides: Overrides
    running: Running
    stack: AsyncExitStack

    @property
    def settings(self) -> Settings:
        """In force at the start."""
        return self.process.settings

    async def remote_identity(self) -> Identity:
        """Identity, which need not be there yet."""
        identity = await open_identity(self.settings, identity_service(self.settings))
        self.stack.push_async_callback(identity.close)
        return identity

    async def remote_storage(self) -> Storage:
        """Storage, which need not be there yet."""
        storage = await open_storage(self.settings, storage_service(self.settings))
        self.stack.push_async_callback(storage.close)
        return storage

    async def turns(self, url: str) -> Turns:
        """Whose turn the upkeep of the store at the URL is."""
        turns = await patiently("whose turn it is", lambda: open_turns(url))
        self.stack.push_async_callback(turns.close)
        return turns

    def healthy(self, health: Health) -> Callable[[], bool]:
        """Does all run that was asked for, and is there all that it depends on?"""
        return lambda: self.running.ready and health.good


Compose = Callable[[Context], Awaitable[Parts]]


async def serve(name: str, store: Callable[[Settings], str] | None, compose: Compose, *, supervised: bool) -> bool:
    """Run a service until it is asked to end; whether it is to begin again.

    store: where a keeper's data is, which a file's owner alone may open; None for what keeps nothing. supervised: it
    ends with its standard input, which the supervisor holds open.
    """
    settings = load_settings().settings
    check_urls(settings)
    token = service_token(settings)
    process.logs(settings, name)
    async with AsyncExitStack() as stack:
        if store is not None and in_folder(url := store(settings)):
            lock = FolderLock(folder_of(url), name)
            lock.acquire(wait=LOCK_SECONDS)
            stack.callback(lock.release)
        overrides, keeper, settings = await _saved_settings(name, settings, stack)
        bugs, recent = process.logs(settings, name)
        this = Process(name, settings, keeper, process.make_metrics(bugs, name), recent, process.console())
        listeners: Callable[[], tuple[Listening, ...]] = tuple
        running = Running(recent, lambda: listeners())
        keeper.on_late = running.again
        parts = await compose(Context(this, token, overrides, running, stack))
        listeners = parts.listeners
        ports: dict[str, Served[Any]] = {
            SERVER: Served(server_codec(), running),
            CONFIG: Served(config_codec(), keeper),
            **parts.further,
        }
        services: list[Service] = [LoopLag(this.metrics), keeper, *parts.services, Control(this, ports)]
        if supervised:
            services.append(_Supervised(running))
        return await running.run(this, services)


async def _saved_settings(
    name: str, settings: Settings, stack: AsyncExitStack
) -> tuple[Overrides, SettingsKeeper, Settings]:
    """The store of saved settings, and their keeper. They are where identity's accounts are: in the folder of the
    identity process, in MongoDB for both keepers, and behind the identity service for the others, who may begin without
    them."""
    own = identity_store(settings)
    direct = name == "identity" or (name == "storage" and not in_folder(own))
    url = own if direct else identity_service(settings)
    overrides = await patiently("the store of settings", lambda: open_overrides(settings, url))
    stack.push_async_callback(overrides.close)
    keeper = SettingsKeeper(overrides, shared=True)
    if direct:
        return overrides, keeper, await patiently("the store of settings", keeper.open)
    return overrides, keeper, await keeper.open(PATIENCE_SECONDS)


class Control:
    """The control socket of the process; a service that keeps nothing does without, where the folder cannot be
    written."""

    def __init__(self, this: Process, ports: Mapping[str, Served[Any]]) -> None:
        self._process = this
        self._ports = ports
        self._server: ControlServer | None = None

    async def start(self) -> None:
        try:
            place = sockets.prepare(self._process.settings.data, self._process.name, os.getpid())
            server = ControlServer(place.folder, self._ports, place.name)
            await server.start()
        except StartError as error:
            log.warning("commands do not find this process", reason=str(error))
        else:
            self._server = server

    async def drain(self) -> None:
        if self._server is not None:
            await self._server.drain()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop()


class _Supervised:
    """Ends the process when its supervisor has gone without a word."""

    def __init__(self, running: Running) -> None:
        self._running = running

    async def start(self) -> None:
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self._read)

    async def drain(self) -> None:
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())

    async def stop(self) -> None:
        await self.drain()

    def _read(self) -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            log.warning("the supervisor has gone: ending")
            self._running.finish()
