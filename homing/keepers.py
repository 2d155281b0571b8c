"""Where identity and storage are, as the settings say, and opening them: the one place that calls their `connect`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, unquote, urlsplit

import structlog

from connectors.tasks.port import TaskQueue
from connectors.tasks.port import Unavailable as QueueUnavailable
from homing.connect import connect_notes, connect_overrides, connect_turns
from homing.overrides import Overrides, OverridesUnavailable
from homing.settings import Settings
from homing.turns import Turns, TurnsUnavailable
from identity.dkim import DkimRules
from identity.port import Identity
from identity.port import Unavailable as IdentityUnavailable
from identity.settings import IdentitySettings
from runtime.clock import SystemClock
from runtime.dns import Resolver
from runtime.ids import new_id
from runtime.lifecycle import StartError
from runtime.sqlite import DatabaseUnavailable
from smtp.outbound.notes import Notes, NotesUnavailable
from storage.limits import TraceLimits
from storage.model import SYSTEM, Operation
from storage.port import Storage
from storage.port import Unavailable as StorageUnavailable

T = TypeVar("T")
EXIT_CONFIG = 78
EXIT_UNAVAILABLE = 69
TOKEN_MIN = 16
STORES = ("sqlite", "mongodb", "mongodb+srv")
REACHED = ("http",)
QUEUES = ("redis", "rediss")
WAIT_SECONDS = 60.0
"""How long a process waits at its start for a database that is not there yet."""
WAIT_PAUSE = 1.0
DAY = 86400.0

AWAY = (
    IdentityUnavailable,
    StorageUnavailable,
    OverridesUnavailable,
    TurnsUnavailable,
    NotesUnavailable,
    QueueUnavailable,
)
"""What says that something is not there now."""

log = structlog.get_logger("homing")


def check_urls(settings: Settings) -> None:
    """Raises StartError where a setting names what there is not."""
    if settings.queue.url is not None and scheme(settings.queue.url) not in QUEUES:
        raise _misset("queue.url", settings.queue.url, "looks like redis://host:6379/0, or is empty")
    for key, url in (("storage.url", settings.storage.url), ("identity.url", settings.identity.url)):
        if url is not None and scheme(url) not in (*STORES, *REACHED):
            raise _misset(
                key, url, "looks like http://host:8002 (the service), sqlite:///folder or mongodb://host/name"
            )
        if url is not None and in_folder(url) and (urlsplit(url).netloc or folder_of(url) in (Path(), Path("/"))):
            raise StartError(f"{key} names no folder: it looks like sqlite:///folder.", exit_code=EXIT_CONFIG)
    url = settings.mongodb.url
    if url is not None and scheme(url) not in STORES[1:]:
        raise _misset("mongodb.url", url, "looks like mongodb://host:27017/name")


def check_embedded(settings: Settings) -> None:
    """Raises StartError where `homing up` is asked for what only services can do."""
    check_urls(settings)
    for key, url in (("storage.url", settings.storage.url), ("identity.url", settings.identity.url)):
        if is_service(url):
            raise StartError(
                f"{key} names a service, and `homing up` runs all services itself: leave it empty, or start the doors"
                " alone with `homing serve smtp imap`.",
                exit_code=EXIT_CONFIG,
            )


def service_token(settings: Settings) -> str:
    """The secret between services. Raises StartError where it is missing or short."""
    secret = settings.service.token
    if secret is None:
        raise StartError(
            "service.token is not set: the services know each other by it. Set HOMING_SERVICE_TOKEN to the same secret"
            ' for all of them, such as the output of: python3 -c "import secrets; print(secrets.token_urlsafe(32))"',
            exit_code=EXIT_CONFIG,
        )
    token = secret.get_secret_value()
    if len(token.encode()) < TOKEN_MIN:
        raise StartError(f"service.token is too short: at least {TOKEN_MIN} octets.", exit_code=EXIT_CONFIG)
    if not token.isascii() or any(not 0x21 <= ord(letter) <= 0x7E for letter in token):
        # RFC 9110 §5.5: what an HTTP header can carry.
        raise StartError(
            "service.token has a blank or a letter beyond ASCII: use letters and digits.", exit_code=EXIT_CONFIG
        )
    return token


def identity_settings(settings: Settings) -> IdentitySettings:
    """What identity is told."""
    return IdentitySettings(
        default_domain=settings.domain,
        trusted_networks=settings.signin.trusted,
        scram=settings.signin.scram,
        scram_iterations=settings.signin.scram_iterations,
        dkim=DkimRules(settings.dkim.activate_days * DAY, settings.dkim.retire_days * DAY),
    )


def open_resolver(settings: Settings) -> Resolver:
    """Who is asked about names."""
    try:
        return Resolver(settings.dns.servers, settings.dns.trusted, settings.dns.timeout)
    except ValueError as error:
        raise StartError(f"dns: {error}.", exit_code=EXIT_CONFIG) from error


def identity_store(settings: Settings) -> str:
    """Where the process that keeps identity keeps it."""
    return _store(settings, settings.identity.url)


def storage_store(settings: Settings) -> str:
    """Where the process that keeps storage keeps it."""
    return _store(settings, settings.storage.url)


def identity_service(settings: Settings) -> str:
    """Where all others reach the identity service."""
    url = settings.identity.url
    return url if url is not None and is_service(url) else _here("identity", settings.identity.port)


def storage_service(settings: Settings) -> str:
    """Where all others reach the storage service."""
    url = settings.storage.url
    return url if url is not None and is_service(url) else _here("storage", settings.storage.port)


def in_folder(url: str) -> bool:
    """Is the store at the URL a file, which one process owns?"""
    return scheme(url) == "sqlite"


def folder_of(url: str) -> Path:
    """The folder of a store that is a file: who opens it locks it there, wherever the data folder is."""
    return Path(unquote(urlsplit(url).path))


def is_service(url: str | None) -> bool:
    """Does the URL name a service, and no store?"""
    return url is not None and scheme(url) in REACHED


def scheme(url: str) -> str:
    """What stands before the colon; "" of what is no URL."""
    try:
        return urlsplit(url).scheme
    except ValueError:
        return ""


def _here(name: str, port: int | None) -> str:
    if not port:
        raise StartError(
            f"{name}.url is not set, and {name}.port does not say where {name} is: set one of them.",
            exit_code=EXIT_CONFIG,
        )
    return f"http://127.0.0.1:{port}"


def _store(settings: Settings, url: str | None) -> str:
    if url is not None and not is_service(url):
        return url
    return settings.mongodb.url or f"sqlite://{quote(str(settings.data.absolute()))}"


def _misset(key: str, url: str, form: str) -> StartError:
    return StartError(f"{key} has the scheme {scheme(url)!r}: it {form}.", exit_code=EXIT_CONFIG)


async def open_identity(settings: Settings, url: str) -> Identity:
    """The identity port. The store in a folder is locked by the caller, who closes what is returned."""
    from identity.connect import connect

    try:
        if is_service(url):
            return await connect(
                url,
                identity_settings(settings),
                SystemClock(),
                token=service_token(settings),
                pool=settings.smtp.pool_size,
                timeout=settings.smtp.timeout,
            )
        return await connect(url, identity_settings(settings))
    except ValueError as error:
        raise StartError(f"{error}.", exit_code=EXIT_CONFIG) from error


async def open_storage(settings: Settings, url: str) -> Storage:
    """The storage port. The store in a folder is locked by the caller, who closes what is returned."""
    from storage.connect import connect

    try:
        if is_service(url):
            return await connect(
                url, token=service_token(settings), pool=settings.smtp.pool_size, timeout=settings.smtp.timeout
            )
        return await connect(url, trace=TraceLimits(settings.trace.days * DAY, settings.trace.size_max))
    except ValueError as error:
        raise StartError(f"{error}.", exit_code=EXIT_CONFIG) from error


async def open_overrides(settings: Settings, url: str) -> Overrides:
    """The store of saved settings that belongs to the identity at the URL. The caller closes what is returned."""
    token = service_token(settings) if is_service(url) else ""
    try:
        return await connect_overrides(url, token=token, seconds=settings.smtp.timeout)
    except ValueError as error:
        raise StartError(f"{error}.", exit_code=EXIT_CONFIG) from error


async def open_notes(settings: Settings, url: str) -> Notes:
    """The notes of who sends mail, beside the identity at the URL. The caller closes what is returned."""
    token = service_token(settings) if is_service(url) else ""
    try:
        return await connect_notes(url, token=token, seconds=settings.smtp.timeout)
    except ValueError as error:
        raise StartError(f"{error}.", exit_code=EXIT_CONFIG) from error


async def open_queue(settings: Settings, storage: Storage) -> TaskQueue:
    """The queue of the asynchronous sending API. The caller closes what is returned; storage stays the caller's."""
    from connectors.tasks.connect import connect

    try:
        return await connect(settings.queue.url, storage, waiting_max=settings.queue.waiting_max)
    except ValueError as error:
        raise StartError(f"{error}.", exit_code=EXIT_CONFIG) from error


async def open_turns(url: str) -> Turns:
    """Whose turn the upkeep of the store at the URL is. The caller closes what is returned."""
    try:
        return await connect_turns(url)
    except ValueError as error:
        raise StartError(f"{error}.", exit_code=EXIT_CONFIG) from error


async def patiently(what: str, open: Callable[[], Awaitable[T]], seconds: float = WAIT_SECONDS) -> T:
    """Open what may not be there yet, telling in the log that it is waited for. Raises StartError after so long, and at
    once for a database that is damaged."""
    until = time.monotonic() + seconds
    told = False
    while True:
        try:
            return await open()
        except AWAY as error:
            if isinstance(error.__cause__, DatabaseUnavailable) and error.__cause__.damaged:
                raise StartError(
                    f"{what} cannot be opened: {error}. Put the file of a backup in its place.",
                    exit_code=EXIT_UNAVAILABLE,
                ) from error
            if time.monotonic() >= until:
                raise StartError(
                    f"{what} could not be had within {seconds:.0f} s: {error}.", exit_code=EXIT_UNAVAILABLE
                ) from error
            if not told:
                log.warning("waiting at the start", what=what, seconds=seconds, reason=str(error))
            told = True
            await asyncio.sleep(WAIT_PAUSE)


def operation() -> Operation:
    """A new operation of the server's own."""
    return Operation(new_id(), SYSTEM)
