"""`homing worker` beside `homing up`: it reaches identity and storage over the control socket of the one process that
owns the data folder. Settings that were saved are that process's: this one has those of the file and the environment.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, cast

import identity.port
import storage.port
from homing import process, sockets
from homing.keepers import check_urls, is_service, open_queue, patiently
from homing.overrides import Saved, SettingsKeeper
from homing.ports import IDENTITY, SERVER, STORAGE, identity_codec, server_codec
from homing.process import Process, Running
from homing.services.base import Control
from homing.settings import Settings, load_settings
from homing.sockets import WORKER, Socket
from homing.tasks import make_worker
from identity.port import Identity
from runtime.admin import ControlClient, ControlUnreachable, Served
from runtime.controlport import packed
from runtime.metrics import LoopLag
from storage import wire
from storage.port import Storage


def is_beside(settings: Settings) -> bool:
    """Is the worker to reach the process that runs all services, and no services of their own?"""
    urls = (settings.storage.url, settings.identity.url)
    return settings.service.token is None and not any(is_service(url) for url in urls)


def main() -> None:
    """Work until SIGTERM or SIGINT. Raises StartError."""
    process.run(_serve, [WORKER])


class _NoOverrides:
    """As ``Overrides``: nothing is kept."""

    async def read(self) -> Saved:
        return Saved(0, {})

    async def replace(self, revision: int, values: Any) -> bool:
        return False

    async def close(self) -> None:
        return None


class _Reached:
    """A port behind a control socket, on which one call follows the other: so each call opens it for itself."""

    def __init__(
        self, place: Socket, port: Callable[[ControlClient], object], unavailable: Callable[[str], Exception]
    ) -> None:
        self._place = place
        self._port = port
        self._unavailable = unavailable

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        if method.startswith("_"):
            raise AttributeError(method)

        async def call(*args: Any, **kwargs: Any) -> Any:
            try:
                async with self._place.client() as client:
                    return await getattr(self._port(client), method)(*args, **kwargs)
            except ControlUnreachable as error:
                raise self._unavailable(str(error)) from error

        return call


async def _serve() -> bool:
    """Returns whether to begin again."""
    settings = load_settings().settings
    check_urls(settings)
    keeper = SettingsKeeper(_NoOverrides())
    settings = await keeper.open()
    bugs, recent = process.logs(settings, WORKER)
    this = Process(WORKER, settings, keeper, process.make_metrics(bugs, WORKER), recent, process.console())
    place = sockets.whole(settings.data)
    kept = cast(
        Storage,
        _Reached(place, lambda client: packed(client, STORAGE, wire.codec()), storage.port.Unavailable),
    )
    known = cast(
        Identity,
        _Reached(place, lambda client: client.port(IDENTITY, identity_codec()), identity.port.Unavailable),
    )
    async with AsyncExitStack() as stack:
        await patiently("the server on this data folder", kept.stats)
        queue = await patiently("the queue of tasks", lambda: open_queue(settings, kept))
        stack.push_async_callback(queue.close)
        worker = make_worker(this, queue, known, kept, concurrency=max(1, settings.queue.concurrency))
        running = Running(recent, tuple)
        control = Control(this, {SERVER: Served(server_codec(), running)})
        return await running.run(this, [LoopLag(this.metrics), worker, control])
