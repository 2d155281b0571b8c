"""Figures of the process for Prometheus that no room keeps by itself."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import partial

import structlog

from homing import __version__
from runtime.metrics import Metrics
from runtime.rest import RequestCounters
from storage.model import StorageStats
from storage.port import Storage, Unavailable

SAMPLE_SECONDS = 30.0
"""How often storage is asked for its totals, which it keeps anyway."""

log = structlog.get_logger("homing")


def show_version(metrics: Metrics) -> None:
    """What runs here."""
    metrics.gauge("info", "1, with the version as a label", ["version"]).labels(__version__).set(1)


def show_requests(metrics: Metrics, counters: RequestCounters) -> None:
    """REST, and the calls of other services on the same port."""
    metrics.counted_by(
        "rest_requests",
        "REST requests: good ones have a status below 400",
        "result",
        {"good": lambda: counters.successful, "failed": lambda: counters.failed},
    )


_TOTALS: tuple[tuple[str, str, Callable[[StorageStats], float]], ...] = (
    ("storage_accounts", "Accounts that have mail", lambda stats: stats.accounts),
    ("storage_emails", "Messages in mailboxes", lambda stats: stats.emails),
    ("storage_size_bytes", "Octets of the messages in mailboxes", lambda stats: stats.size),
    ("storage_spool", "Messages that wait for other servers", lambda stats: stats.spool),
    ("search_lag", "Messages not yet in the search index", lambda stats: stats.index.lag),
    ("search_lag_seconds", "How long the oldest of them has waited", lambda stats: stats.index.lag_seconds),
)


class StorageGauges:
    """The totals of a store that this process keeps, as they were SAMPLE_SECONDS ago at most. A service."""

    def __init__(self, storage: Storage, metrics: Metrics) -> None:
        self._storage = storage
        self._stats: StorageStats | None = None
        self._task: asyncio.Task[None] | None = None
        for name, description, read in _TOTALS:
            metrics.gauge(name, description, read=partial(self._read, read))

    async def start(self) -> None:
        await self._sample()
        self._task = asyncio.create_task(self._forever(), name="storage figures")

    async def drain(self) -> None:
        return None

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _read(self, read: Callable[[StorageStats], float]) -> float:
        # Prometheus's way to say that a figure is not known.
        return math.nan if self._stats is None else read(self._stats)

    async def _forever(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            await self._sample()

    async def _sample(self) -> None:
        try:
            self._stats = await self._storage.stats()
        except Unavailable as error:
            log.warning("figures of storage are not to be had", reason=str(error))
        except Exception:
            log.exception("figures of storage")
