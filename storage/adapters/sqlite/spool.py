"""The spool: messages that wait to be sent on."""

from __future__ import annotations

import json
import sqlite3

from storage.adapters.sqlite import ids
from storage.model import SYSTEM, Delivery, Event, RemoteRecipient, SpoolItem

PAGE = 1_000
"""The most items that one call returns."""


def add(conn: sqlite3.Connection, delivery: Delivery, blob: int, size: int, now: float, events: list[Event]) -> str:
    """Spool the delivery's remote recipients; the item's id. An event for each joins ``events``."""
    account = None if delivery.op.actor == SYSTEM else delivery.op.actor
    number = conn.execute(
        "INSERT INTO spool (trace, account, sender, blob, size, queued_at, next_attempt, params) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            delivery.trace,
            account,
            json.dumps(delivery.sender),
            blob,
            size,
            delivery.received_at,
            now,
            json.dumps(dict(delivery.params)),
        ),
    ).lastrowid
    if number is None:
        raise RuntimeError("no row was made")
    # As JSON, which knows half a surrogate pair: an address is kept as it was given.
    conn.executemany(
        "INSERT INTO spool_recipient (spool, n, address, params) VALUES (?, ?, ?, ?)",
        [
            (number, n, json.dumps(recipient.address), json.dumps(dict(recipient.params)))
            for n, recipient in enumerate(delivery.remote)
        ],
    )
    item = ids.spool(number)
    events.extend(
        Event(delivery.trace, now, "spooled", account, {"address": recipient.address, "item": item})
        for recipient in delivery.remote
    )
    return item


def page(conn: sqlite3.Connection, account: str | None, limit: int, after: str) -> tuple[SpoolItem, ...]:
    """Waiting items after the id, in order of id."""
    rows = conn.execute(
        "SELECT number, trace, account, sender, size, queued_at, next_attempt, attempts, params FROM spool "
        "WHERE number > ?" + ("" if account is None else " AND account = ?") + " ORDER BY number LIMIT ?",
        (ids.number(after, "S"), *(() if account is None else (account,)), max(1, min(limit, PAGE))),
    ).fetchall()
    return tuple(
        SpoolItem(
            ids.spool(number),
            trace,
            owner,
            json.loads(sender),
            _waiting(conn, number),
            size,
            queued_at,
            next_attempt,
            attempts,
            json.loads(params),
        )
        for number, trace, owner, sender, size, queued_at, next_attempt, attempts, params in rows
    )


def _waiting(conn: sqlite3.Connection, number: int) -> tuple[RemoteRecipient, ...]:
    rows = conn.execute(
        "SELECT address, params FROM spool_recipient WHERE spool = ? AND outcome IS NULL ORDER BY n", (number,)
    ).fetchall()
    return tuple(RemoteRecipient(json.loads(address), json.loads(params)) for address, params in rows)
