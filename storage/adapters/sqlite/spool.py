"""The spool's items: messages that wait to be sent on, an item for each domain. Who may try one: ``spool_claims``."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from storage.adapters.sqlite import blobs, ids
from storage.domains import printable
from storage.limits import SPOOL_PAGE
from storage.model import INLINE_MAX, SYSTEM, Delivery, Event, RemoteRecipient, SpoolDomain, SpoolItem
from storage.port import Reason, Refused

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


def remove(conn: sqlite3.Connection, number: int, blob: int) -> None:
    """The item's end: it lets go of its body. ``renew`` its domain after."""
    conn.execute("DELETE FROM spool WHERE number = ?", (number,))
    blobs.drop(conn, blob)


def renew(conn: sqlite3.Connection, domains: Iterable[str]) -> None:
    """Note when the first item of each of these domains is due now."""
    for domain in sorted(set(domains)):
        (due,) = conn.execute("SELECT min(due) FROM spool WHERE domain = ? AND due IS NOT NULL", (domain,)).fetchone()
        if due is None:
            conn.execute("DELETE FROM spool_next WHERE domain = ?", (domain,))
        else:
            conn.execute("REPLACE INTO spool_next (domain, due) VALUES (?, ?)", (domain, due))


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
        f"SELECT {COLUMNS} FROM spool WHERE number > ?{which} ORDER BY number LIMIT ?",
        (*wanted, max(1, min(limit, SPOOL_PAGE))),
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
        "min(CASE WHEN held = 0 THEN next_attempt END) FROM spool WHERE domain > ? GROUP BY domain "
        "ORDER BY domain LIMIT ?",
        (printable(after), max(1, min(limit, SPOOL_PAGE))),
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
        "SELECT (SELECT count(*) FROM spool), (SELECT count(*) FROM spool WHERE held <> 0), "
        "(SELECT min(queued_at) FROM spool)"
    ).fetchone()
    return Totals(*row)


# -- recipients in a column


def packed(recipients: Sequence[RemoteRecipient]) -> str:
    return json.dumps([(one.address, dict(one.params)) for one in recipients])


def unpacked(recipients: str) -> tuple[RemoteRecipient, ...]:
    return tuple(RemoteRecipient(address, params) for address, params in json.loads(recipients))
