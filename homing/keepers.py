"""Opening identity and storage as the settings say: the one place that calls their `connect`."""

from __future__ import annotations

from urllib.parse import quote

from homing.settings import Settings
from identity.port import Identity
from identity.settings import IdentitySettings
from runtime.ids import new_id
from runtime.lifecycle import StartError
from storage.model import SYSTEM, Operation
from storage.port import Storage

DISTRIBUTED = "comes with distributed mode, which this release does not have yet: leave it empty"


def refuse_distributed(settings: Settings) -> None:
    """Raises StartError where a setting asks for what this release cannot do."""
    for key, value in (
        ("storage.url", settings.storage.url),
        ("identity.url", settings.identity.url),
        ("mongodb.url", settings.mongodb.url),
        ("queue.url", settings.queue.url),
    ):
        if value is not None and not (key in ("storage.url", "identity.url") and value.startswith("sqlite:")):
            raise StartError(f"{key} {DISTRIBUTED}.", exit_code=78)


def identity_settings(settings: Settings) -> IdentitySettings:
    """What identity is told."""
    return IdentitySettings(default_domain=settings.domain, trusted_networks=settings.signin.trusted)


def identity_url(settings: Settings) -> str:
    """Where identity is kept."""
    return settings.identity.url or _folder_url(settings)


async def open_identity(settings: Settings) -> Identity:
    """The identity port. The data folder is locked by the caller, who closes what is returned."""
    from identity.connect import connect

    refuse_distributed(settings)
    try:
        return await connect(identity_url(settings), identity_settings(settings))
    except ValueError as error:
        raise StartError(f"{error}.", exit_code=78) from error


async def open_storage(settings: Settings) -> Storage:
    """The storage port. The data folder is locked by the caller, who closes what is returned."""
    from storage.connect import connect

    try:
        return await connect(settings.storage.url or _folder_url(settings))
    except ValueError as error:
        raise StartError(f"{error}.", exit_code=78) from error


def _folder_url(settings: Settings) -> str:
    return f"sqlite://{quote(str(settings.data.absolute()))}"


def operation() -> Operation:
    """A new operation of the server's own."""
    return Operation(new_id(), SYSTEM)
