"""What a command may ask of a running process over its control socket: the ports, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from homing.overrides import OverrideRefused, Overrides, OverridesUnavailable
from identity.port import Identity, Refused, Unavailable
from runtime.config import Row
from runtime.log import LogLine
from runtime.portcall import PortCodec
from smtp.outbound.notes import Notes, NotesUnavailable

IDENTITY = "identity"
STORAGE = "storage"
CONFIG = "config"
SERVER = "server"
SETTINGS = "settings"
"""The store of saved settings, which the identity service serves to the others."""
NOTES = "notes"
"""What processes that send mail remember together, which the identity service serves to them."""


@dataclass(frozen=True, slots=True)
class Listening:
    """One listener of a running process: what is served, where, and how it is secured. A Unix socket has its path as
    host, and port 0."""

    name: str
    host: str
    port: int
    security: str


class Server(Protocol):
    """The process as such."""

    async def listeners(self) -> tuple[Listening, ...]:
        """What it serves; () when the server is stopped and the command itself holds the folder."""

    async def started_at(self) -> float:
        """When it began, in Unix seconds; 0.0 when the server is stopped."""

    async def end(self, restart: bool) -> None:
        """Drain and end; with `restart` begin again as the same process, with the settings as they are then."""

    async def logs(self, after: int, wait: float) -> tuple[LogLine, ...]:
        """Lines of the log after that number, as far as they are held; see `runtime.log.RecentLines.after`."""


class Config(Protocol):
    """The settings of a process. Errors: OverrideRefused, OverridesUnavailable."""

    async def settings(self) -> tuple[Row, ...]:
        """All settings in force there, secrets masked."""

    async def set_override(self, key: str, value: str) -> bool:
        """Keep a value over file and environment. True: in force now; False: at the next start. OverrideRefused."""

    async def clear_override(self, key: str) -> bool:
        """Back to file, environment or default; the same answer. OverrideRefused where none was kept."""


def identity_codec() -> PortCodec[Identity]:
    """Identity's calls as JSON."""
    return PortCodec(Identity, [Refused, Unavailable])


def server_codec() -> PortCodec[Server]:
    """The running process's own calls as JSON."""
    return PortCodec(Server, [])


def config_codec() -> PortCodec[Config]:
    """The calls about settings as JSON."""
    return PortCodec(Config, [OverrideRefused, OverridesUnavailable])


def overrides_codec() -> PortCodec[Overrides]:
    """The calls of the store of overrides as plain values."""
    return PortCodec(Overrides, [OverridesUnavailable])


def notes_codec() -> PortCodec[Notes]:
    """The calls of the notes as plain values."""
    return PortCodec(Notes, [NotesUnavailable])
