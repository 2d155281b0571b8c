"""Who may try an item of the spool, and what came of it."""

from __future__ import annotations

import heapq
import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from storage.adapters.sqlite import deliver, ids, operations, spool
from storage.adapters.sqlite.events import keep as keep_events
from storage.domains import printable
from storage.intake import Described
from storage.limits import CLAIM_MAX
from storage.model import Claimed, Event, Operation, Settlement, SpoolAction
from storage.port import Reason, Refused
from storage.spooling import check_settlement, check_settler, may_change, queue_event


class Settled(NamedTuple):
    """The outcome of one settlement, what its report came to, and whether something of the item is left."""

    outcome: Refused | None
    report: deliver.Arrival | None = None
    left: bool = False


def next_due(conn: sqlite3.Connection, skip: Collection[str]) -> float | None:
    """When the first item is due that is not of these domains; None when none will be."""
    for domain, due in conn.execute("SELECT domain, due FROM spool_next ORDER BY due"):
        if domain not in skip:
            return float(due)
    return None


def claim(
    conn: sqlite3.Connection,
    now: float,
    limit: int,
    per_domain: int,
    lease: float,
    skip: Collection[str],
    name: str,
) -> tuple[Claimed, ...]:
    """Take items that are due, those longest due first, under a lease of this name."""
    numbers = _due(conn, now, max(1, min(limit, CLAIM_MAX)), max(1, per_domain), skip)
    if not numbers:
        return ()
    wanted = json.dumps(numbers)
    conn.execute(
        "UPDATE spool SET claims = claims + 1, lease = ?, leased_until = ? "
        "WHERE number IN (SELECT value FROM json_each(?))",
        (name, now + lease, wanted),
    )
    rows = conn.execute(
        f"SELECT {spool.COLUMNS} FROM spool WHERE number IN (SELECT value FROM json_each(?))", (wanted,)
    )
    found = {item.id: Claimed(item, name) for item in spool.items(rows, now)}
    spool.renew(conn, (claimed.item.domain for claimed in found.values()))
    return tuple(found[ids.spool(number)] for number in numbers)


def _due(conn: sqlite3.Connection, now: float, limit: int, per_domain: int, skip: Collection[str]) -> list[int]:
    """The numbers of items that are due, those longest due first, a few of each domain. Each domain is met once and at
    most ``per_domain`` of its items are looked at, however many wait."""
    domains = (
        row
        for row in conn.execute("SELECT due, domain FROM spool_next WHERE due <= ? ORDER BY due", (now,))
        if row[1] not in skip
    )
    upcoming = next(domains, None)
    heads: list[tuple[float, int, Iterator[tuple[float, int]]]] = []
    found: list[int] = []
    while len(found) < limit:
        # As many as the limit are enough, also where thousands are due since the same moment.
        while upcoming is not None and len(heads) < limit and (not heads or upcoming[0] <= heads[0][0]):
            items = iter(
                conn.execute(
                    "SELECT due, number FROM spool WHERE domain = ? AND due <= ? ORDER BY due LIMIT ?",
                    (upcoming[1], now, min(per_domain, limit)),
                ).fetchall()
            )
            _push(heads, items)
            upcoming = next(domains, None)
        if not heads:
            break
        _, number, items = heapq.heappop(heads)
        found.append(number)
        _push(heads, items)
    return found


def _push(heads: list[tuple[float, int, Iterator[tuple[float, int]]]], items: Iterator[tuple[float, int]]) -> None:
    head = next(items, None)
    if head is not None:
        heapq.heappush(heads, (*head, items))


def extend(conn: sqlite3.Connection, now: float, leases: Mapping[str, str], lease: float) -> frozenset[str]:
    """Those of the items that are still under these leases, which run on."""
    kept: set[str] = set()
    domains: set[str] = set()
    for item, name in leases.items():
        row = conn.execute(
            "UPDATE spool SET leased_until = ? WHERE number = ? AND lease = ? RETURNING domain",
            (now + lease, ids.number(item, "S"), printable(name)),
        ).fetchone()
        if row is not None:
            kept.add(item)
            domains.add(row[0])
    spool.renew(conn, domains)
    return frozenset(kept)


# -- what came of it


def settle(
    conn: sqlite3.Connection, batch: Sequence[tuple[Settlement, Described | Refused | None]], now: float
) -> list[Settled]:
    """End claims. What may be refused is looked at before the first write, so that a refusal undoes nothing."""
    settled: list[Settled] = []
    domains: set[str] = set()
    saved = 0
    for settlement, described in batch:
        if operations.find(conn, settlement.op, now) is not None:
            settled.append(Settled(None))
            continue
        try:
            one = _settle(conn, settlement, described, now, domains)
        except Refused as refusal:
            settled.append(Settled(refusal))
            continue
        if one.report is not None:
            saved += len(one.report.modseqs)
        settled.append(one)
    spool.renew(conn, domains)
    deliver.count_saved(conn, saved, now)
    return settled


def _settle(
    conn: sqlite3.Connection,
    settlement: Settlement,
    described: Described | Refused | None,
    now: float,
    domains: set[str],
) -> Settled:
    number = ids.number(settlement.item, "S")
    row = conn.execute(
        "SELECT account, domain, recipients, blob, next_attempt, last FROM spool WHERE number = ? AND lease = ?",
        (number, printable(settlement.lease)),
    ).fetchone()
    if row is None:
        raise Refused(Reason.NO_SUCH_ITEM, "The item is gone, or under another lease.")
    account, domain, recipients, blob, next_attempt, last = row
    check_settlement(settlement)
    check_settler(settlement.op, account)
    if isinstance(described, Refused):
        raise described
    report = None
    if settlement.report is not None and described is not None:
        report = deliver.arrive(conn, settlement.report, described, now)
    finished = set(settlement.finished)
    before = spool.unpacked(recipients)
    left = [one for one in before if one.address not in finished]
    if not left:
        spool.remove(conn, number, blob)
    else:
        conn.execute(
            "UPDATE spool SET recipients = ?, next_attempt = ?, attempts = attempts + ?, "
            "claims = CASE WHEN ? THEN attempts + 1 ELSE claims - 1 END, lease = NULL, leased_until = 0, "
            "told_at = coalesce(?, told_at), last = ? WHERE number = ?",
            (
                recipients if len(left) == len(before) else spool.packed(left),
                settlement.next_attempt if settlement.attempted else max(next_attempt, settlement.next_attempt),
                int(settlement.attempted),
                int(settlement.attempted),
                now if settlement.told else None,
                json.dumps(settlement.last) if settlement.attempted or settlement.last else last,
                number,
            ),
        )
    domains.add(domain)
    operations.keep(conn, settlement.op, [1], now)
    keep_events(conn, now, settlement.op.events)
    return Settled(None, report, bool(left))


# -- what an administrator does


def change(
    conn: sqlite3.Connection, op: Operation, items: Sequence[str], action: SpoolAction, route: str | None, now: float
) -> tuple[tuple[str, ...], list[Event]]:
    """Do it to each of the items that are there and the actor's: their ids, and an event for each."""
    done: list[str] = []
    domains: set[str] = set()
    events: list[Event] = []
    for item in dict.fromkeys(items):
        number = ids.number(item, "S")
        row = conn.execute(
            "SELECT account, domain, trace, blob, leased_until FROM spool WHERE number = ?", (number,)
        ).fetchone()
        if row is None or not may_change(op, row[0]):
            continue
        account, domain, trace, blob, leased_until = row
        if action is SpoolAction.DROP:
            if leased_until > now:
                continue
            spool.remove(conn, number, blob)
        elif action is SpoolAction.RETRY:
            conn.execute("UPDATE spool SET next_attempt = ? WHERE number = ?", (now, number))
        elif action is SpoolAction.ROUTE:
            kept = None if route is None else json.dumps(route)
            conn.execute("UPDATE spool SET route = ? WHERE number = ?", (kept, number))
        else:
            conn.execute("UPDATE spool SET held = ? WHERE number = ?", (int(action is SpoolAction.HOLD), number))
        done.append(item)
        domains.add(domain)
        events.append(queue_event(op, trace, account, item, action, route, now))
    spool.renew(conn, domains)
    return tuple(done), events
