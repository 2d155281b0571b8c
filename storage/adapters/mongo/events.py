"""Trace events: one document holds the events that one call brings to one trace.

The detail of an event is anybody's text, which may hold half a surrogate pair: so events are kept as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from runtime.ids import new_id
from runtime.mongo import Document
from storage import tracekeys
from storage.adapters.mongo import queries
from storage.adapters.mongo.database import Database
from storage.limits import EVENT_ROWS, EVENTS_PER_CALL, EVENTS_PER_TRACE, FIND_TRACES, TraceLimits
from storage.model import Event, TraceFound

DOCUMENT_OCTETS: Final = 160
"""What a document of events takes beside its text, with its place in the indexes."""
KEY_OCTETS: Final = 40
"""What a key takes."""
FIND_DOCUMENTS: Final = 2_000
"""Documents that one search looks at, the newest: what a common address has beyond is not found."""
FIND_TOGETHER: Final = 32
"""Traces whose events are read in one command."""

_JSON = json.JSONEncoder(separators=(",", ":"))


def documents(events: Iterable[Event], now: float, key: str) -> list[Document]:
    """One for each trace, with ids made of the key: who inserts them again, inserts nothing."""
    by_trace: dict[str, list[Event]] = {}
    for event in events:
        by_trace.setdefault(event.trace, []).append(event)
    return [document(f"{key}:{n:04}", trace, now, together) for n, (trace, together) in enumerate(by_trace.items())]


def document(id: str, trace: str, kept: float, together: Sequence[Event]) -> Document:
    """Events of one trace that are kept together. keys: by which it is found; size: octets, about."""
    data, keys = (
        _JSON.encode([(one.at, one.kind, one.account, dict(one.detail)) for one in together]),
        tracekeys.keys(together),
    )
    size = DOCUMENT_OCTETS + len(data) + KEY_OCTETS * len(keys)
    return {"_id": id, "trace": trace, "kept": kept, "data": data, "keys": keys, "size": size}


class Trace:
    """The log of events, bounded by age, number and size."""

    def __init__(self, database: Database, bounds: TraceLimits) -> None:
        self._database = database
        self._bounds = bounds

    async def record(self, events: Sequence[Event]) -> None:
        """``Storage.record``."""
        for start in range(0, len(events), EVENTS_PER_CALL):
            together = events[start : start + EVENTS_PER_CALL]
            await self._database.insert("event", documents(together, self._database.now(), new_id()))

    async def find(self, trace: str, account: str | None) -> tuple[Event, ...]:
        """``Storage.trace``."""
        found = await self._database.find(queries.trace(trace, EVENTS_PER_TRACE))
        return tuple(_by_time(event for event in _events(found) if account is None or event.account == account))

    async def find_traces(self, text: str, account: str | None, since: float, limit: int) -> tuple[TraceFound, ...]:
        """``Storage.find_traces``."""
        limit = max(1, min(limit, FIND_TRACES))
        asked = tracekeys.folded(text)
        named = tracekeys.trace_ids(text) if asked else ()
        keys = tracekeys.wanted(text, account)
        shape = queries.events_by_keys(keys, FIND_DOCUMENTS) if keys else queries.events_newest(FIND_DOCUMENTS)
        traces = list(dict.fromkeys([*named, *[one["trace"] for one in await self._database.find(shape)]]))
        found: list[TraceFound] = []
        for first in range(0, len(traces), FIND_TOGETHER):
            together = traces[first : first + FIND_TOGETHER]
            events: dict[str, list[Event]] = {trace: [] for trace in together}
            for event in _events(await self._database.find(queries.traces(together, EVENTS_PER_TRACE))):
                if account is None or event.account == account:
                    events[event.trace].append(event)
            for trace, shown in events.items():
                if trace in named or any(tracekeys.answers(event, asked, account) for event in shown):
                    one = tracekeys.told(trace, shown, since)
                    found += [] if one is None else [one]
            if len(found) >= limit:
                break
        return tracekeys.latest_first(found)[:limit]

    async def expire(self, limit: int) -> int:
        """Forget up to ``limit`` documents that are over their age, number or size; how many. Of the size what those
        take that are looked at stands for all: nothing counts it together."""
        oldest = await self._database.find(queries.events_oldest(limit))
        if not oldest:
            return 0
        before = self._database.now() - self._bounds.age
        octets = sum(one.get("size", DOCUMENT_OCTETS) for one in oldest) / len(oldest)
        most = min(EVENT_ROWS, int(self._bounds.size / octets))
        too_many = await self._database.estimate("event") - most
        old = [one["_id"] for n, one in enumerate(oldest) if one["kept"] < before or n < too_many]
        return await self._database.delete(queries.events(old)) if old else 0


def _events(documents: Iterable[Document]) -> Iterator[Event]:
    for one in sorted(documents, key=lambda one: (one["kept"], one["_id"])):
        for at, kind, owner, detail in json.loads(one["data"]):
            yield Event(one["trace"], at, kind, owner, detail)


def _by_time(events: Iterable[Event]) -> list[Event]:
    return sorted(events, key=lambda event: event.at)
