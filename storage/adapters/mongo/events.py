"""Trace events: one document holds the events that one call brings to one trace.

The detail of an event is anybody's text, which may hold half a surrogate pair: so events are kept as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from runtime.ids import new_id
from runtime.mongo import Document
from storage.adapters.mongo import queries
from storage.adapters.mongo.database import Database
from storage.limits import EVENT_AGE, EVENT_ROWS, EVENTS_PER_CALL, EVENTS_PER_TRACE
from storage.model import Event

_JSON = json.JSONEncoder(separators=(",", ":"))


def documents(events: Iterable[Event], now: float, key: str) -> list[Document]:
    """One for each trace, with ids made of the key: who inserts them again, inserts nothing."""
    by_trace: dict[str, list[Event]] = {}
    for event in events:
        by_trace.setdefault(event.trace, []).append(event)
    return [
        {"_id": f"{key}:{n:04}", "trace": trace, "kept": now, "data": _encode(together)}
        for n, (trace, together) in enumerate(by_trace.items())
    ]


class Trace:
    """The log of events, bounded by age and number."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, events: Sequence[Event]) -> None:
        """``Storage.record``."""
        for start in range(0, len(events), EVENTS_PER_CALL):
            together = events[start : start + EVENTS_PER_CALL]
            await self._database.insert("event", documents(together, self._database.now(), new_id()))

    async def find(self, trace: str, account: str | None) -> tuple[Event, ...]:
        """``Storage.trace``."""
        found = await self._database.find(queries.trace(trace, EVENTS_PER_TRACE))
        events = [
            Event(trace, at, kind, owner, detail)
            for document in sorted(found, key=lambda one: (one["kept"], one["_id"]))
            for at, kind, owner, detail in json.loads(document["data"])
            if account is None or owner == account
        ]
        return tuple(sorted(events, key=lambda event: event.at))

    async def expire(self, limit: int) -> int:
        """Forget up to ``limit`` documents that are over their age or number; how many."""
        oldest = await self._database.find(queries.events_oldest(limit))
        before = self._database.now() - EVENT_AGE
        too_many = await self._database.estimate("event") - EVENT_ROWS
        old = [one["_id"] for n, one in enumerate(oldest) if one["kept"] < before or n < too_many]
        return await self._database.delete(queries.events(old)) if old else 0


def _encode(events: Iterable[Event]) -> str:
    return _JSON.encode([(event.at, event.kind, event.account, dict(event.detail)) for event in events])
