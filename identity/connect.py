"""From a URL to an identity. Only composition roots call it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from identity.port import Identity
from identity.settings import IdentitySettings
from identity.transfer import Transfer
from runtime.clock import Clock, SystemClock

FILE = "identity.db"


async def connect(
    url: str,
    settings: IdentitySettings,
    clock: Clock | None = None,
    *,
    token: str = "",
    pool: int = 10,
    timeout: float = 30.0,  # noqa: ASYNC109  # of the calls to come
) -> Identity:
    """Open the store that the URL names: ``sqlite:FOLDER`` (or ``sqlite:///FOLDER``) is identity.db in a data folder,
    which the caller has locked; ``mongodb://host/name`` is a database for any number of processes; ``http://host:port``
    (several with commas between them) is served by another process.

    token, pool, timeout: of a served one, the service token, the connections at once and the seconds of a call; whether
    it is there shows with the first call. Raises ValueError for a scheme that is not known, and what opening raises.
    """
    parts = urlsplit(url)
    match parts.scheme:
        case "sqlite":
            from identity.adapters.sqlite.adapter import open_sqlite

            folder = Path(unquote(parts.netloc + parts.path))
            return await open_sqlite(folder / FILE, settings, clock or SystemClock())
        case "http":
            from identity.adapters.http.adapter import open_http

            return open_http(url, token, pool=pool, timeout=timeout)
        case "mongodb" | "mongodb+srv":
            from identity.adapters.mongo.adapter import connect_mongo

            return await connect_mongo(url, settings, clock or SystemClock())
        case other:
            raise ValueError(f"identity knows no store {other!r}: sqlite:FOLDER, mongodb://HOST/NAME, http://HOST:PORT")


async def connect_transfer(url: str) -> Transfer:
    """Open the store to be moved from or to; a folder is locked by the caller. Raises as ``connect``."""
    parts = urlsplit(url)
    match parts.scheme:
        case "sqlite":
            from identity.adapters.sqlite.moving import open_transfer

            return await open_transfer(Path(unquote(parts.netloc + parts.path)) / FILE)
        case "mongodb" | "mongodb+srv":
            from identity.adapters.mongo.moving import open_transfer as open_mongo_transfer

            return await open_mongo_transfer(url)
        case other:
            raise ValueError(f"there is no moving from or to {other!r}: sqlite:FOLDER, mongodb://HOST/NAME")
