"""From a URL to an identity. Only composition roots call it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from identity.port import Identity
from identity.settings import IdentitySettings
from runtime.clock import Clock, SystemClock

FILE = "identity.db"


async def connect(url: str, settings: IdentitySettings, clock: Clock | None = None) -> Identity:
    """Open the store that the URL names: ``sqlite:FOLDER`` (or ``sqlite:///FOLDER``) is identity.db in a data folder,
    which the caller has locked. Raises ValueError for a scheme that is not known, and what opening raises."""
    parts = urlsplit(url)
    match parts.scheme:
        case "sqlite":
            from identity.adapters.sqlite.adapter import open_sqlite

            folder = Path(unquote(parts.netloc + parts.path))
            return await open_sqlite(folder / FILE, settings, clock or SystemClock())
        case other:
            raise ValueError(f"identity knows no store {other!r}: sqlite:FOLDER")
