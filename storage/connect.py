"""From a URL to an opened store. Only composition roots call this."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from storage.port import Storage


async def connect(url: str) -> Storage:
    """Open the store at ``sqlite:///path/of/folder``, which exists; ``close`` it after use.

    Raises ValueError for any other kind of URL, and Unavailable when the store cannot be opened.
    """
    parts = urlsplit(url)
    match parts.scheme:
        case "sqlite" if not parts.netloc and len(parts.path) > 1:
            from storage.adapters.sqlite.adapter import SqliteStorage

            store = SqliteStorage(unquote(parts.path))
            await store.open()
            return store
        case _:
            raise ValueError(f"STORAGE_URL is {url!r}: it should look like sqlite:///path/of/folder")
