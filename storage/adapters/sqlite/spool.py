"""The spool's items: messages that wait to be sent on, an item for each domain. Who may try one: ``spool_claims``."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from storage.adapters.sqlite import blobs, ids
from storage.domains import printable
from storage.limits import SPOOL_PAGE, SPOOL_RESULT_AGE
from storage.model import (
    INLINE_MAX,
    SYSTEM,
    Delivery,
    Event,
    RemoteRecipient,
    SpoolDomain,
    SpoolItem,
    SpoolResult,
)
from storage.port import Reason, Refused
from storage.queues import MAIL_END, bounds, group, queue_of

COLUMNS: Final = (
    "number, trace, account, sender, domain, recipients, size, queued_at, next_attempt, attempts, claims, "
    "leased_until, held, route, told_at, last, params"
)
"""Of the table spool, as ``items`` takes them."""


class Totals(NamedTuple):
    """As in ``StorageStats``."""

    items: int
    held: int
    oldest: float | None


def add(
    conn: sqlite3.Connection,
    delivery: Delivery,
    domains: Mapping[str, Sequence[RemoteRecipient]],
    blob: int,
    size: int,
    now: float,
    events: list[Event],
    about: Mapping[str, str],
) -> tuple[str, ...]:
    """Spool the delivery's remote recipients, an item for each of these domains; the items' ids. Each names the blob.
    An event for each recipient joins ``events``, with what it says ``about`` the message."""
    account = None if delivery.op.actor == SYSTEM else delivery.op.actor
    made: list[str] = []
    item_of: dict[str, str] = {}
    for domain, recipients in domains.items():
        # As JSON, which knows half a surrogate pair: an address is kept as it was given.
        number = conn.execute(
            "INSERT INTO spool (trace, account, sender, domain, recipients, blob, size, queued_at, next_attempt, "
            "params) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                delivery.trace,
                account,
                json.dumps(delivery.sender),
                domain,
                packed(recipients),
                blob,
                size,
                delivery.received_at,
                now,
                json.dumps(dict(delivery.params)),
            ),
        ).lastrowid
        if number is None:
            raise RuntimeError("no row was made")
        conn.execute(
            "INSERT INTO spool_next (domain, due) VALUES (?, ?) "
            "ON CONFLICT (domain) DO UPDATE SET due = min(due, excluded.due)",
            (domain, now),
        )
        made.append(ids.spool(number))
        item_of.update((recipient.address, made[-1]) for recipient in recipients)
    events.extend(
        Event(
            delivery.trace,
            now,
            "spooled",
            account,
            {"address": recipient.address, "item": item_of[recipient.address], **about},
        )
        for recipient in delivery.remote
    )
    return tuple(made)


def remove(conn: sqlite3.Connection, items: Sequence[tuple[int, int]]) -> None:
    """The end of items (number, blob): they let go of their bodies. ``renew`` their domains after."""
    numbers = json.dumps([number for number, _ in items])
    conn.execute("DELETE FROM spool WHERE number IN (SELECT value FROM json_each(?))", (numbers,))
    blobs.drop_all(conn, [blob for _, blob in items])


def renew(conn: sqlite3.Connection, domains: Iterable[str]) -> None:
    """Note when the first item of each of these domains is due now."""
    wanted = json.dumps(sorted(set(domains)))
    # Of each domain alone, so that the index gives its first item and no other is looked at.
    conn.execute(
        "REPLACE INTO spool_next (domain, due) SELECT domain, due FROM (SELECT value AS domain, (SELECT min(due) "
        "FROM spool WHERE spool.domain = value AND due IS NOT NULL) AS due FROM json_each(?)) WHERE due IS NOT NULL",
        (wanted,),
    )
    conn.execute(
        "DELETE FROM spool_next WHERE domain IN (SELECT value FROM json_each(?)) AND NOT EXISTS "
        "(SELECT 1 FROM spool WHERE spool.domain = spool_next.domain AND spool.due IS NOT NULL)",
        (wanted,),
    )


# -- reading


def page(
    conn: sqlite3.Connection, account: str | None, limit: int, after: str, domain: str | None, now: float
) -> tuple[SpoolItem, ...]:
    """Waiting items after the id, in order of id."""
    wanted: list[str | int] = [ids.number(after, "S")]
    which = ""
    for column, value in (("account", account), ("domain", None if domain is None else printable(domain))):
        if value is not None:
            which += f" AND {column} = ?"
            wanted.append(value)
    rows = conn.execute(
        f"SELECT {COLUMNS} FROM spool WHERE number > ?{which} AND domain < ? ORDER BY number LIMIT ?",
        (*wanted, MAIL_END, max(1, min(limit, SPOOL_PAGE))),
    )
    return items(rows, now)


def one(conn: sqlite3.Connection, item: str, account: str | None, now: float) -> SpoolItem:
    """NO_SUCH_ITEM."""
    rows = conn.execute(f"SELECT {COLUMNS} FROM spool WHERE number = ?", (ids.number(item, "S"),))
    for found in items(rows, now):
        if account is None or found.account == account:
            return found
    raise Refused(Reason.NO_SUCH_ITEM)


def items(rows: Iterable[Sequence[Any]], now: float) -> tuple[SpoolItem, ...]:
    """The items in rows of COLUMNS."""
    return tuple(
        SpoolItem(
            id=ids.spool(number),
            trace=trace,
            account=account,
            sender=json.loads(sender),
            domain=domain,
            recipients=unpacked(recipients),
            size=size,
            queued_at=queued_at,
            next_attempt=next_attempt,
            attempts=attempts,
            claims=claims,
            leased_until=leased_until if leased_until > now else 0.0,
            held=bool(held),
            route=None if route is None else json.loads(route),
            told_at=told_at,
            last=json.loads(last),
            params=json.loads(params),
        )
        for (
            number,
            trace,
            account,
            sender,
            domain,
            recipients,
            size,
            queued_at,
            next_attempt,
            attempts,
            claims,
            leased_until,
            held,
            route,
            told_at,
            last,
            params,
        ) in rows
    )


def by_domain(conn: sqlite3.Connection, limit: int, after: str) -> tuple[SpoolDomain, ...]:
    """What waits by domain, after the name; out of an index alone."""
    rows = conn.execute(
        "SELECT domain, count(*), sum(held <> 0), sum(size), min(queued_at), "
        "min(CASE WHEN held = 0 THEN next_attempt END) FROM spool WHERE domain > ? AND domain < ? GROUP BY domain "
        "ORDER BY domain LIMIT ?",
        (printable(after), MAIL_END, max(1, min(limit, SPOOL_PAGE))),
    )
    return tuple(SpoolDomain(*row) for row in rows)


def read(conn: sqlite3.Connection, item: str, start: int, end: int) -> bytes:
    """Octets of the item's message. NO_SUCH_ITEM."""
    row = conn.execute(
        "SELECT b.number, b.size, b.codec FROM spool AS s JOIN blob AS b ON b.number = s.blob WHERE s.number = ?",
        (ids.number(item, "S"),),
    ).fetchone()
    if row is None:
        raise Refused(Reason.NO_SUCH_ITEM)
    blob, size, codec = row
    start = max(0, start)
    return blobs.read(conn, blob, codec, start, min(end, size, start + INLINE_MAX))


def totals(conn: sqlite3.Connection) -> Totals:
    """Out of indexes."""
    row = conn.execute(
        "SELECT (SELECT count(*) FROM spool WHERE domain < :end), "
        "(SELECT count(*) FROM spool WHERE held <> 0 AND domain < :end), "
        "(SELECT queued_at FROM spool WHERE +domain < :end ORDER BY queued_at LIMIT 1)",
        {"end": MAIL_END},
    ).fetchone()
    return Totals(*row)


# -- queues


def queued(conn: sqlite3.Connection, queue: str, account: str | None) -> int:
    """How many items of the queue there are; out of an index."""
    asked = "domain >= ? AND domain < ?" if account is None else "domain = ?"
    of = bounds(queue) if account is None else (group(queue, account),)
    (count,) = conn.execute(f"SELECT count(*) FROM spool WHERE {asked}", of).fetchone()
    return int(count)


def keep_result(
    conn: sqlite3.Connection, number: int, now: float, text: str | None, *, attempted: bool = False
) -> None:
    """Keep what became of the item, which is about to be removed. text: None of one that is dropped: then it is kept of
    items of queues alone."""
    if text is None:
        (domain,) = conn.execute("SELECT domain FROM spool WHERE number = ?", (number,)).fetchone()
        if domain < MAIL_END:
            return
    conn.execute(
        "INSERT INTO spool_result (number, domain, account, recipients, attempts, claims, ended, dropped, text) "
        "SELECT number, domain, account, recipients, attempts + ?, claims, ?, ?, ? FROM spool WHERE number = ?",
        (int(attempted), now, int(text is None), json.dumps(text or ""), number),
    )


def result(conn: sqlite3.Connection, item: str, account: str | None, now: float) -> SpoolResult:
    """NO_SUCH_ITEM."""
    row = conn.execute(
        "SELECT domain, account, recipients, attempts, claims, ended, dropped, text FROM spool_result WHERE number = ?",
        (ids.number(item, "S"),),
    ).fetchone()
    if row is None or row[5] <= now - SPOOL_RESULT_AGE or (account is not None and row[1] != account):
        raise Refused(Reason.NO_SUCH_ITEM)
    domain, owner, recipients, attempts, claims, ended, dropped, text = row
    return SpoolResult(
        item, queue_of(domain), owner, unpacked(recipients), attempts, claims, ended, bool(dropped), json.loads(text)
    )


def expire_results(conn: sqlite3.Connection, now: float, limit: int) -> int:
    """Forget up to ``limit`` of those that are old; how many."""
    return conn.execute(
        "DELETE FROM spool_result WHERE number IN (SELECT number FROM spool_result WHERE ended <= ? ORDER BY ended "
        "LIMIT ?)",
        (now - SPOOL_RESULT_AGE, limit),
    ).rowcount


# -- recipients in a column


def packed(recipients: Sequence[RemoteRecipient]) -> str:
    return json.dumps([(one.address, dict(one.params)) for one in recipients])


def unpacked(recipients: str) -> tuple[RemoteRecipient, ...]:
    return tuple(RemoteRecipient(address, params) for address, params in json.loads(recipients))
