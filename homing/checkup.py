"""`homing check`: could the server start with these settings?"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass

from homing.health import identity_check, storage_check
from homing.keepers import (
    check_urls,
    folder_of,
    identity_store,
    in_folder,
    is_service,
    open_identity,
    open_overrides,
    open_resolver,
    open_storage,
)
from homing.overrides import OverridesUnavailable, SettingsKeeper
from homing.settings import Settings, load_settings
from identity.port import Unavailable as IdentityUnavailable
from runtime.admin import FolderLock, FolderLocked
from runtime.lifecycle import StartError
from runtime.listener import bind
from runtime.tls import Tls
from storage.port import Unavailable as StorageUnavailable

SERVICE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    good: bool
    detail: str


async def examine() -> list[Finding]:
    """Look at everything that does not need the server to start; what is wrong is a finding, never an exception."""
    try:
        settings = load_settings().settings
        check_urls(settings)
    except StartError as error:
        return [Finding("settings", False, str(error))]
    findings = [Finding("settings", True, "understood")]
    running = False
    try:
        with FolderLock(settings.data):
            findings.append(Finding("data folder", True, str(settings.data.absolute())))
            settings, kept = await _with_overrides(settings)
            findings += kept
    except FolderLocked as error:
        running = True
        findings.append(Finding("data folder", True, f"{settings.data.absolute()}, in use by process {error.pid}"))
    except StartError as error:
        findings.append(Finding("data folder and overrides", False, str(error)))
    findings += _resolvers(settings)
    findings += _connectors(settings)
    findings += _queue(settings)
    findings.append(_certificate(settings))
    findings += await _services(settings)
    if not running:
        findings += _ports(settings)
    return findings


async def _with_overrides(settings: Settings) -> tuple[Settings, list[Finding]]:
    """The settings with what is saved over them, and the database where it is not in the folder. Raises StartError, and
    FolderLocked where the database is in another folder, which a process has."""
    url = identity_store(settings)
    if settings.mongodb.url is None and is_service(settings.identity.url):
        # They are kept elsewhere, and nothing of them is made here.
        return settings, []
    try:
        with ExitStack() as stack:
            if in_folder(url) and folder_of(url).resolve() != settings.data.resolve():
                stack.enter_context(FolderLock(folder_of(url), "identity"))
            store = await open_overrides(settings, url)
            try:
                settings = await SettingsKeeper(store).open()
            finally:
                await store.close()
    except OverridesUnavailable as error:
        return settings, [Finding("database", False, f"{error}")]
    return settings, [] if in_folder(url) else [Finding("database", True, "it answers")]


async def _services(settings: Settings) -> list[Finding]:
    """The keepers that other processes serve, where the settings name them."""
    findings = []
    for name, url in (("identity", settings.identity.url), ("storage", settings.storage.url)):
        if url is None or not is_service(url):
            continue
        try:
            async with asyncio.timeout(SERVICE_SECONDS):
                await _ask(name, settings, url)
        except (StartError, IdentityUnavailable, StorageUnavailable) as error:
            findings.append(Finding(f"{name} service", False, str(error)))
        except TimeoutError:
            findings.append(Finding(f"{name} service", False, f"{url} does not answer"))
        else:
            findings.append(Finding(f"{name} service", True, f"{url} answers"))
    return findings


async def _ask(name: str, settings: Settings, url: str) -> None:
    if name == "identity":
        identity = await open_identity(settings, url)
        try:
            await identity_check(identity).ask()
        finally:
            await identity.close()
        return
    storage = await open_storage(settings, url)
    try:
        await storage_check(storage).ask()
    finally:
        await storage.close()


def _resolvers(settings: Settings) -> list[Finding]:
    try:
        open_resolver(settings)
    except StartError as error:
        return [Finding("resolvers", False, str(error))]
    return []


def _connectors(settings: Settings) -> list[Finding]:
    if not settings.connectors:
        return []
    # Here, as the libraries that this needs are many.
    from homing.relays import make_relays

    try:
        make_relays(settings)
    except ValueError as error:
        return [Finding("connectors", False, f"{error}")]
    return [Finding("connectors", True, ", ".join(sorted(settings.connector_names)))]


def _queue(settings: Settings) -> list[Finding]:
    if settings.queue.url is None:
        return []
    from connectors.tasks.connect import check_url

    try:
        check_url(settings.queue.url)
    except ValueError as error:
        return [Finding("queue of tasks", False, f"{error}")]
    return [Finding("queue of tasks", True, "a URL of Redis, which was not asked")]


def _certificate(settings: Settings) -> Finding:
    if settings.tls.cert is None or settings.tls.key is None:
        return Finding("certificate", True, "self-signed, made on the first run")
    try:
        Tls(settings.tls.cert, settings.tls.key)
    except StartError as error:
        return Finding("certificate", False, str(error))
    return Finding("certificate", True, str(settings.tls.cert))


def _ports(settings: Settings) -> list[Finding]:
    findings = []
    for name, port in (
        ("SMTP", settings.smtp.port),
        ("submission", settings.submission.port),
        ("submissions", settings.submissions.port),
        ("IMAP", settings.imap.port),
        ("IMAPS", settings.imaps.port),
        ("REST", settings.rest.port),
    ):
        if port is None:
            findings.append(Finding(name, True, "off"))
            continue
        try:
            for held in bind(settings.host, port, what=name):
                held.close()
        except StartError as error:
            findings.append(Finding(name, False, str(error)))
        else:
            findings.append(Finding(name, True, f"port {port} is free" if port else "any free port"))
    return findings
