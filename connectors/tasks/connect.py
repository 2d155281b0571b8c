"""Opening a task queue."""

from __future__ import annotations

from urllib.parse import urlsplit

from connectors.tasks.model import WAITING_MAX
from connectors.tasks.port import TaskQueue
from storage.port import Storage

SCHEMES = ("redis", "rediss")


def check_url(url: str) -> None:
    """Raises ValueError, with a sentence, for a URL of Redis that cannot be used; nobody is asked."""
    from connectors.tasks.adapters.redis import client_of

    client_of(url)


async def connect(url: str | None, storage: Storage, *, waiting_max: int = WAITING_MAX) -> TaskQueue:
    """The queue at a URL, or (None) in the spool of storage, which stays the caller's. Raises Unavailable while it
    cannot be had, and ValueError with a sentence for one that cannot be used."""
    match None if url is None else urlsplit(url).scheme:
        case None:
            from connectors.tasks.adapters.spool import SpoolTasks

            return SpoolTasks(storage, waiting_max=waiting_max)
        case "redis" | "rediss":
            from connectors.tasks.adapters.redis import open_redis

            return await open_redis(str(url), waiting_max=waiting_max)
        case other:
            raise ValueError(f"queue.url has the scheme {other!r}: it looks like redis://host:6379/0, or is empty")
