"""Trace events: one row holds the events that one call brings to one trace."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence

from storage.limits import EVENT_AGE, EVENT_ROWS, EVENTS_PER_TRACE
from storage.model import Event

_JSON = json.JSONEncoder(separators=(",", ":"))


def keep(conn: sqlite3.Connection, now: float, events: Sequence[Event]) -> None:
    """Keep the events, in the commit of the change that they belong to."""
    if not events:
        return
    by_trace: dict[str, list[Event]] = {}
    for event in events:
        by_trace.setdefault(event.trace, []).append(event)
    for trace, together in by_trace.items():
        conn.execute("INSERT INTO event (trace, kept, data) VALUES (?, ?, ?)", (trace, now, _encode(together)))


def find(conn: sqlite3.Connection, trace: str, account: str | None) -> tuple[Event, ...]:
    """The events of a trace by time; with an account, those that are shown to it."""
    rows = conn.execute(
        "SELECT data FROM event WHERE trace = ? ORDER BY number LIMIT ?", (trace, EVENTS_PER_TRACE)
    ).fetchall()
    events = [
        Event(trace, at, kind, owner, detail)
        for (data,) in rows
        for at, kind, owner, detail in json.loads(data)
        if account is None or owner == account
    ]
    return tuple(sorted(events, key=lambda event: event.at))


def expire(conn: sqlite3.Connection, now: float, limit: int) -> int:
    """Forget up to ``limit`` rows of events that are over their age or number."""
    lowest, highest = conn.execute("SELECT (SELECT min(number) FROM event), (SELECT max(number) FROM event)").fetchone()
    if lowest is None:
        return 0
    rows = conn.execute("SELECT number, kept FROM event ORDER BY number LIMIT ?", (limit,)).fetchall()
    too_many = highest - EVENT_ROWS
    old = [number for number, kept in rows if kept < now - EVENT_AGE or number <= too_many]
    if old:
        conn.execute("DELETE FROM event WHERE number <= ?", (old[-1],))
    return len(old)


def _encode(events: Iterable[Event]) -> str:
    return _JSON.encode([(event.at, event.kind, event.account, dict(event.detail)) for event in events])
