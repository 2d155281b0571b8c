"""How a command reaches the ports: through the process that owns the data, over HTTP, or by opening the store itself.

Each command is written once, against the port, and does not see which of them it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from enum import Enum

from homing import sockets
from homing.keepers import (
    check_urls,
    folder_of,
    identity_store,
    in_folder,
    is_service,
    open_identity,
    open_overrides,
    open_storage,
    storage_store,
)
from homing.overrides import Overrides, SettingsKeeper
from homing.ports import (
    CONFIG,
    IDENTITY,
    SERVER,
    STORAGE,
    Config,
    Listening,
    config_codec,
    identity_codec,
    server_codec,
)
from homing.settings import Settings, load_settings
from homing.sockets import Socket
from identity.port import Identity
from runtime.admin import ControlClient, ControlUnreachable, FolderLock, FolderLocked
from runtime.controlport import packed
from storage import wire
from storage.connect import FILE
from storage.port import Storage, Unavailable

PATIENCE = 3.0
POLL = 0.1
PART = "identity"
"""The part of the data folder that holds accounts and saved settings."""
STORAGE_PART = "storage"
"""The part that holds mail."""


class Where(Enum):
    """What a command works with: the process that runs all services; a store in a folder that nobody has open (the
    server is stopped); or what the services of a distributed server share, whether they run or not."""

    RUNNING = "running"
    STOPPED = "stopped"
    SHARED = "shared"


@dataclass(frozen=True, slots=True)
class Access:
    """What a command works with. listeners: where the server can be reached, as far as it is known."""

    settings: Settings
    identity: Identity
    config: Config
    where: Where
    listeners: tuple[Listening, ...] = ()


@asynccontextmanager
async def reach() -> AsyncIterator[Access]:
    """Open the way. Raises StartError when the settings or the folder cannot be used, ControlUnreachable when the
    folder is held by a process that does not answer, even after a while (it may be starting, or ending)."""
    settings = _settings()
    async with AsyncExitStack() as stack:
        owner = await _owner(settings, _store(settings), PART, stack)
        if owner is not None:
            client, whole = owner
            identity, config = client.port(IDENTITY, identity_codec()), client.port(CONFIG, config_codec())
            if whole:
                listeners = await client.port(SERVER, server_codec()).listeners()
                yield Access(settings, identity, config, Where.RUNNING, listeners)
            else:
                yield Access(settings, identity, config, Where.SHARED, _usual(settings))
            return
        url = _store(settings)
        keeper = SettingsKeeper(await _opened(settings, url, stack))
        settings = await keeper.open()
        identity = await open_identity(settings, url)
        stack.push_async_callback(identity.close)
        if in_folder(url):
            yield Access(settings, identity, keeper, Where.STOPPED)
        else:
            yield Access(settings, identity, keeper, Where.SHARED, _usual(settings))


@asynccontextmanager
async def reach_mail() -> AsyncIterator[tuple[Access, Storage]]:
    """The same, and the way to the mail. Beyond the errors of `reach` storage's Unavailable."""
    async with reach() as access, mail_of(access) as storage:
        yield access, storage


@asynccontextmanager
async def mail_of(access: Access) -> AsyncIterator[Storage]:
    """The way to the mail, of who has the way to the accounts. Raises as `reach_mail`."""
    async with AsyncExitStack() as stack:
        settings = access.settings
        url = settings.storage.url if settings.mongodb.url is None else None
        url = url or storage_store(settings)
        if in_folder(url):
            owner = await _owner(settings, url, STORAGE_PART, stack)
            if owner is not None:
                yield packed(owner[0], STORAGE, wire.codec())
                return
            if is_service(_store(settings)) and not (folder_of(url) / FILE).exists():
                # Of accounts that are elsewhere the mail is so too; nothing is made here that would look like theirs.
                raise Unavailable(f"no mail is kept in {folder_of(url)}: STORAGE_URL says where the storage service is")
        storage = await open_storage(settings, url)
        stack.push_async_callback(storage.close)
        yield storage


@asynccontextmanager
async def overrides() -> AsyncIterator[Overrides | None]:
    """The store of saved settings alone, whatever is in it; None where a running process owns it."""
    settings = _settings()
    async with AsyncExitStack() as stack:
        owned = await _owner(settings, _store(settings), PART, stack) is not None
        yield None if owned else await _opened(settings, _store(settings), stack)


def _settings() -> Settings:
    settings = load_settings().settings
    check_urls(settings)
    return settings


def _store(settings: Settings) -> str:
    """Where accounts and saved settings are, for a command: as for identity itself, but that it asks the service where
    that is all it knows."""
    if settings.mongodb.url is None and settings.identity.url is not None:
        return settings.identity.url
    return identity_store(settings)


async def _opened(settings: Settings, url: str, stack: AsyncExitStack) -> Overrides:
    opened = await open_overrides(settings, url)
    stack.push_async_callback(opened.close)
    return opened


async def _owner(settings: Settings, url: str, part: str, stack: AsyncExitStack) -> tuple[ControlClient, bool] | None:
    """A line to the process that owns a part of the data, which is at the URL, and whether it runs all services. None:
    there is no such process, and a store in a folder is this command's."""
    whole = sockets.whole(settings.data)
    if not in_folder(url):
        return await _answering([whole], stack)
    lock = FolderLock(folder_of(url), part)
    until = time.monotonic() + PATIENCE
    while True:
        try:
            lock.acquire()
        except FolderLocked:
            found = await _answering([whole, *sockets.found(settings.data, [part])], stack)
            if found is not None:
                return found
            if time.monotonic() > until:
                raise ControlUnreachable(
                    f"The process that holds {folder_of(url)} does not answer on its control socket in {settings.data}."
                ) from None
            await asyncio.sleep(POLL)
        else:
            stack.callback(lock.release)
            return None


async def _answering(places: Sequence[Socket], stack: AsyncExitStack) -> tuple[ControlClient, bool] | None:
    for one in places:
        with contextlib.suppress(ControlUnreachable):
            return await stack.enter_async_context(one.client()), one.service == ""
    return None


def _usual(settings: Settings) -> tuple[Listening, ...]:
    """Where the settings say that SMTP is, on this machine."""
    port = settings.smtp.port
    return (Listening("SMTP", settings.host, port, ""),) if port else ()
