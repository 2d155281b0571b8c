"""From a URL to an opened store. Only composition roots call this."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from storage.limits import TraceLimits
from storage.port import Storage, Unavailable
from storage.transfer import Transfer

FILE = "storage.db"
"""Of a store in a folder."""


async def connect(
    url: str,
    *,
    token: str = "",
    pool: int = 10,
    timeout: float = 30.0,  # noqa: ASYNC109  # of the calls to come
    trace: TraceLimits = TraceLimits(),  # noqa: B008  # it is frozen
) -> Storage:
    """Open the store at ``sqlite:///path/of/folder``, which exists, in the database ``mongodb://host/name``, or served
    at ``http://host:port`` (several with commas between them); ``close`` it after use.

    token, pool, timeout: of a served one, the service token, the connections at once and the seconds of a call; whether
    it is there shows with the first call. trace: how much of it a store that is opened here keeps. Raises ValueError
    for any other kind of URL, and Unavailable when the store cannot be opened.
    """
    parts = urlsplit(url)
    match parts.scheme:
        case "sqlite" if not parts.netloc and len(parts.path) > 1:
            from storage.adapters.sqlite.adapter import SqliteStorage

            store = SqliteStorage(unquote(parts.path), trace=trace)
            await store.open()
            return store
        case "http":
            from storage.adapters.http.adapter import open_http

            return open_http(url, token, pool=pool, timeout=timeout)
        case "mongodb" | "mongodb+srv":
            return await _mongo(url, trace)
        case other:
            raise ValueError(
                f"storage knows no store {other!r}: sqlite:///path/of/folder, mongodb://host/name, http://host:port"
            )


async def _mongo(url: str, trace: TraceLimits) -> Storage:
    from runtime.mongo import MongoUnavailable, open_mongo
    from storage.adapters.mongo.adapter import MongoStorage

    try:
        mongo = await open_mongo(url, app="homing-storage")
    except MongoUnavailable as error:
        raise Unavailable(str(error)) from error
    store = MongoStorage(mongo, trace=trace)
    try:
        await store.open()
    except BaseException:
        await store.close()
        raise
    return store


async def connect_transfer(url: str) -> Transfer:
    """Open the store to be moved from or to; a folder is locked by the caller. ValueError and Unavailable as above."""
    parts = urlsplit(url)
    match parts.scheme:
        case "sqlite" if not parts.netloc and len(parts.path) > 1:
            from storage.adapters.sqlite.transfer import open_transfer

            return await open_transfer(unquote(parts.path))
        case "mongodb" | "mongodb+srv":
            from storage.adapters.mongo.transfer import open_transfer as open_mongo_transfer

            return await open_mongo_transfer(url)
        case other:
            raise ValueError(f"there is no moving from or to {other!r}: sqlite:///path/of/folder, mongodb://host/name")
