"""Who may try an item of the spool, and what came of it."""

from __future__ import annotations

import heapq
import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from storage.adapters.sqlite import blobs, deliver, ids, operations, spool
from storage.adapters.sqlite.events import keep as keep_events
from storage.adapters.sqlite.schema import CHUNK_BITS
from storage.domains import printable
from storage.intake import Described
from storage.limits import CLAIM_MAX, CLAIM_TEXT
from storage.model import MAIL, Claimed, Event, Operation, Settlement, SpoolAction
from storage.port import Reason, Refused
from storage.queues import bounds
from storage.spooling import check_settlement, check_settler, may_change, queue_event

_TEXT = (
    "CASE WHEN size <= ? THEN (SELECT c.data FROM blob AS b JOIN chunk AS c ON c.key = b.number << "
    f"{CHUNK_BITS} WHERE b.number = spool.blob AND b.codec = {blobs.RAW}) END"
)
"""The message of a row of the table spool where it has at most so many octets, else NULL."""


class Settled(NamedTuple):
    """The outcome of one settlement, what its report came to, and whether something of the item is left."""

    outcome: Refused | None
    report: deliver.Arrival | None = None
    left: bool = False


def next_due(conn: sqlite3.Connection, skip: Collection[str], queue: str = MAIL) -> float | None:
    """When the first item of the queue is due that is not of these domains; None when none will be."""
    asked = f"SELECT domain, due FROM spool_next WHERE {_of(queue)} ORDER BY due"
    for domain, due in conn.execute(asked, bounds(queue)):
        if domain not in skip:
            return float(due)
    return None


def _of(queue: str, *, now: bool = False) -> str:
    """The rows within the ``bounds`` of a queue, and (now) due then: found in order of due among all domains, of which
    most are mail's; of other queues by their few names."""
    if queue == MAIL:
        return "+domain >= ? AND +domain < ?" + (" AND due <= ?" if now else "")
    return "domain >= ? AND domain < ?" + (" AND +due <= ?" if now else "")


def claim(
    conn: sqlite3.Connection,
    now: float,
    limit: int,
    per_domain: int,
    lease: float,
    skip: Collection[str],
    name: str,
    queue: str = MAIL,
) -> tuple[Claimed, ...]:
    """Take items that are due, those longest due first, under a lease of this name."""
    numbers = _due(conn, now, max(1, min(limit, CLAIM_MAX)), max(1, per_domain), skip, queue)
    if not numbers:
        return ()
    wanted = json.dumps(numbers)
    conn.execute(
        "UPDATE spool SET claims = claims + 1, lease = ?, leased_until = ? "
        "WHERE number IN (SELECT value FROM json_each(?))",
        (name, now + lease, wanted),
    )
    rows = conn.execute(
        f"SELECT {spool.COLUMNS}, {_TEXT} FROM spool WHERE number IN (SELECT value FROM json_each(?))",
        (CLAIM_TEXT, wanted),
    ).fetchall()
    items = spool.items([row[:-1] for row in rows], now)
    found = {item.id: Claimed(item, name, row[-1]) for item, row in zip(items, rows, strict=True)}
    spool.renew(conn, (claimed.item.domain for claimed in found.values()))
    return tuple(found[ids.spool(number)] for number in numbers)


def _due(
    conn: sqlite3.Connection, now: float, limit: int, per_domain: int, skip: Collection[str], queue: str
) -> list[int]:
    """The numbers of items that are due, those longest due first, a few of each domain. Each domain is met once and at
    most ``per_domain`` of its items are looked at, however many wait."""
    domains = (
        row
        for row in conn.execute(
            f"SELECT due, domain FROM spool_next WHERE {_of(queue, now=True)} ORDER BY due", (*bounds(queue), now)
        )
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
    done = operations.known(conn, [settlement.op.id for settlement, _ in batch], now)
    ends = _Ends(_held(conn, [settlement.item for settlement, _ in batch]))
    for settlement, described in batch:
        if settlement.op.id in done:
            settled.append(Settled(None))
            continue
        try:
            one = _settle(conn, settlement, described, now, ends)
        except Refused as refusal:
            settled.append(Settled(refusal))
            continue
        done.add(settlement.op.id)
        settled.append(one)
    ends.write(conn, now)
    return settled


class _Item(NamedTuple):
    """What a settlement has to know of an item under a lease."""

    lease: str
    account: str | None
    domain: str
    recipients: str
    blob: int


def _held(conn: sqlite3.Connection, items: Sequence[str]) -> dict[int, _Item]:
    """Those of the items that are under a lease, by number."""
    # All in one row: each row more is a wait for the interpreter's lock.
    (rows,) = conn.execute(
        "SELECT json_group_array(json_array(number, lease, account, domain, recipients, blob)) FROM spool "
        "WHERE number IN (SELECT value FROM json_each(?)) AND lease IS NOT NULL",
        (json.dumps([ids.number(item, "S") for item in items]),),
    ).fetchone()
    return {number: _Item(*row) for number, *row in json.loads(rows)}


class _Ends:
    """What the settlements of a batch come to, written together. held: the items whose claims have not ended."""

    def __init__(self, held: dict[int, _Item]) -> None:
        self.held = held
        self.domains: set[str] = set()
        self.gone: list[tuple[int, int]] = []
        self.operations: list[str] = []
        self.events: list[Event] = []

    def write(self, conn: sqlite3.Connection, now: float) -> None:
        if self.gone:
            spool.remove(conn, self.gone)
        if self.domains:
            spool.renew(conn, self.domains)
        operations.keep_all(conn, self.operations, [1], now)
        keep_events(conn, now, self.events)


def _settle(
    conn: sqlite3.Connection,
    settlement: Settlement,
    described: Described | Refused | None,
    now: float,
    ends: _Ends,
) -> Settled:
    number = ids.number(settlement.item, "S")
    item = ends.held.get(number)
    if item is None or item.lease != printable(settlement.lease):
        raise Refused(Reason.NO_SUCH_ITEM, "The item is gone, or under another lease.")
    check_settlement(settlement)
    check_settler(settlement.op, item.account)
    if isinstance(described, Refused):
        raise described
    report = None
    if settlement.report is not None and described is not None:
        report = deliver.arrive(conn, settlement.report, described, now)
    finished = set(settlement.finished)
    before = spool.unpacked(item.recipients)
    left = [one for one in before if one.address not in finished]
    if not left:
        if settlement.result is not None:
            spool.keep_result(conn, number, now, settlement.result, attempted=settlement.attempted)
        ends.gone.append((number, item.blob))
    else:
        attempted = int(settlement.attempted)
        conn.execute(
            "UPDATE spool SET recipients = ?, next_attempt = CASE WHEN ? THEN ? ELSE max(next_attempt, ?) END, "
            "attempts = attempts + ?, claims = CASE WHEN ? THEN attempts + 1 ELSE claims - 1 END, lease = NULL, "
            "leased_until = 0, told_at = coalesce(?, told_at), last = coalesce(?, last) WHERE number = ?",
            (
                item.recipients if len(left) == len(before) else spool.packed(left),
                attempted,
                settlement.next_attempt,
                settlement.next_attempt,
                attempted,
                attempted,
                now if settlement.told else None,
                json.dumps(settlement.last) if settlement.attempted or settlement.last else None,
                number,
            ),
        )
    # Its claim has ended: nobody settles it a second time.
    del ends.held[number]
    ends.domains.add(item.domain)
    ends.operations.append(settlement.op.id)
    ends.events += settlement.op.events
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
            spool.keep_result(conn, number, now, None)
            spool.remove(conn, [(number, blob)])
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
