"""Trace events: one row holds the events that one call brings to one trace.

``event.upto`` counts the octets of all rows up to this one, so that the size of the log is a difference. A row of
*event_key* says that events of one row have that key (see ``storage.tracekeys``). Above the key's own bits stands the
number of the row's segment of SEGMENT rows: so new keys go into few pages, and the oldest are in one range.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from storage import tracekeys
from storage.adapters.sqlite import bulk
from storage.limits import EVENT_ROWS, EVENTS_PER_TRACE, FIND_STEPS, FIND_TRACES, TraceLimits
from storage.model import Event, TraceFound

SEGMENT_BITS: Final = 12
ROW_OCTETS: Final = 80
"""What a row of events takes beside its text, with its place in the index."""
KEY_OCTETS: Final = 20
"""What a key takes."""

_JSON = json.JSONEncoder(separators=(",", ":"))
_KEEP = (
    "INSERT INTO event (trace, kept, data, upto) VALUES (?, ?, ?, "
    "? + coalesce((SELECT upto FROM event ORDER BY number DESC LIMIT 1), 0))"
)
_LAST = "SELECT number, upto FROM event ORDER BY number DESC LIMIT 1"
_KEEP_KEYS = "INSERT OR IGNORE INTO event_key (key, event)"


def keep(conn: sqlite3.Connection, now: float, events: Sequence[Event]) -> None:
    """Keep the events, in the commit of the change that they belong to."""
    if not events:
        return
    by_trace: dict[str, list[Event]] = {}
    for event in events:
        by_trace.setdefault(event.trace, []).append(event)
    if len(by_trace) > 1:
        _keep_many(conn, now, by_trace)
        return
    for trace, together in by_trace.items():
        data, keys = _encode(together), tracekeys.keys(together)
        number = conn.execute(_KEEP, (trace, now, data, _octets(data) + KEY_OCTETS * len(keys))).lastrowid
        if number is None:
            raise RuntimeError("no row was made")
        base = _base(number)
        bulk.insert(conn, _KEEP_KEYS, [(base | key, number) for key in keys])


def _keep_many(conn: sqlite3.Connection, now: float, by_trace: Mapping[str, Sequence[Event]]) -> None:
    number, upto = conn.execute(_LAST).fetchone() or (0, 0)
    rows: list[tuple[int, str, float, str, int]] = []
    places: list[tuple[int, int]] = []
    for trace, together in by_trace.items():
        data, keys = _encode(together), tracekeys.keys(together)
        number += 1
        upto += _octets(data) + KEY_OCTETS * len(keys)
        rows.append((number, trace, now, data, upto))
        base = _base(number)
        places += [(base | key, number) for key in keys]
    bulk.insert(conn, "INSERT INTO event (number, trace, kept, data, upto)", rows)
    bulk.insert(conn, _KEEP_KEYS, places)


def find(conn: sqlite3.Connection, trace: str, account: str | None) -> tuple[Event, ...]:
    """The events of a trace by time; with an account, those that are shown to it."""
    rows = conn.execute(
        "SELECT data FROM event WHERE trace = ? ORDER BY number LIMIT ?", (trace, EVENTS_PER_TRACE)
    ).fetchall()
    events = [
        event for (data,) in rows for event in _decode(trace, data) if account is None or event.account == account
    ]
    return tuple(sorted(events, key=lambda event: event.at))


def find_traces(
    conn: sqlite3.Connection, text: str, account: str | None, since: float, limit: int
) -> tuple[TraceFound, ...]:
    """``Storage.find_traces``, looking at rows from the newest back, FIND_STEPS of them at most."""
    limit = max(1, min(limit, FIND_TRACES))
    looked_at: set[str] = set()
    found: list[TraceFound] = []

    def look(trace: str) -> None:
        looked_at.add(trace)
        one = tracekeys.told(trace, find(conn, trace, account), since)
        if one is not None:
            found.append(one)

    asked = tracekeys.folded(text)
    for trace in tracekeys.trace_ids(text) if asked else ():
        look(trace)
    for number in _newest(conn, tracekeys.wanted(text, account)):
        if len(found) >= limit:
            break
        row = conn.execute("SELECT trace, data FROM event WHERE number = ?", (number,)).fetchone()
        if row is None or row[0] in looked_at:
            continue
        if any(tracekeys.answers(event, asked, account) for event in _decode(*row)):
            look(row[0])
    return tracekeys.latest_first(found)[:limit]


def _newest(conn: sqlite3.Connection, keys: Sequence[int]) -> Iterator[int]:
    """The numbers of rows that have all these keys, from the newest back."""
    lowest, highest = _ends(conn)
    if not keys:
        yield from range(highest, max(lowest, highest - FIND_STEPS) - 1, -1)
        return
    number, steps = highest, 0
    while number >= lowest and steps < FIND_STEPS:
        # Each key in turn says where it is next; where nobody goes on, all of them are.
        asked = number
        base = _base(asked)
        for key in keys:
            steps += 1
            row = conn.execute(
                "SELECT event FROM event_key WHERE key = ? AND event <= ? ORDER BY event DESC LIMIT 1",
                (base | key, number),
            ).fetchone()
            if row is None:
                # To the segment below.
                number = (asked >> SEGMENT_BITS << SEGMENT_BITS) - 1
                break
            (number,) = row
        else:
            if number == asked:
                yield number
                number -= 1


def _ends(conn: sqlite3.Connection) -> tuple[int, int]:
    """The lowest and the highest number; (1, 0) where there is none."""
    lowest, highest = conn.execute("SELECT (SELECT min(number) FROM event), (SELECT max(number) FROM event)").fetchone()
    return (1, 0) if lowest is None else (lowest, highest)


def expire(conn: sqlite3.Connection, now: float, limit: int, bounds: TraceLimits) -> int:
    """Forget up to ``limit`` rows of events that are over their age, number or size, and their keys."""
    last = conn.execute(_LAST).fetchone()
    if last is None:
        return 0
    highest, size = last
    rows = conn.execute("SELECT number, kept, upto FROM event ORDER BY number LIMIT ?", (limit,)).fetchall()
    old = 0
    for n, (number, kept, upto) in enumerate(rows, 1):
        # Too much is what the rows after it fill already.
        if kept < now - bounds.age or number <= highest - EVENT_ROWS or size - upto >= bounds.size:
            old = n
    if old:
        forgotten = rows[old - 1][0]
        conn.execute("DELETE FROM event WHERE number <= ?", (forgotten,))
        above = _base(forgotten) + (1 << tracekeys.KEY_BITS)
        conn.execute("DELETE FROM event_key WHERE key < ? AND event <= ?", (above, forgotten))
    return old


def _base(number: int) -> int:
    """What stands above the bits of a key of that row's events."""
    return number >> SEGMENT_BITS << tracekeys.KEY_BITS


def _octets(data: str) -> int:
    # As JSON it is ASCII.
    return ROW_OCTETS + len(data)


def _encode(events: Iterable[Event]) -> str:
    return _JSON.encode([(event.at, event.kind, event.account, dict(event.detail)) for event in events])


def _decode(trace: str, data: str) -> Iterator[Event]:
    return (Event(trace, at, kind, owner, detail) for at, kind, owner, detail in json.loads(data))
