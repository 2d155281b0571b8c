"""The second schema: an item of the spool for each domain of a message, claimed by leases.

- *recipients* are those still without an outcome: a JSON list of (address, parameters). Addresses, reasons and routes
  are kept as JSON, which knows half a surrogate pair: they are kept as they were given.
- *due* is when an item may be claimed: NULL while it is held.
- *spool_next* has the earliest ``due`` of each domain that has one, so that a claim meets each domain once, however
  much waits for it.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Final

from runtime.sqlite import Migration, statements
from storage.domains import by_domain
from storage.model import RemoteRecipient

_COLUMNS: Final = """
ALTER TABLE spool ADD COLUMN domain TEXT NOT NULL DEFAULT '';
ALTER TABLE spool ADD COLUMN recipients TEXT NOT NULL DEFAULT '[]';
ALTER TABLE spool ADD COLUMN claims INTEGER NOT NULL DEFAULT 0;
ALTER TABLE spool ADD COLUMN lease TEXT;
ALTER TABLE spool ADD COLUMN leased_until REAL NOT NULL DEFAULT 0;
ALTER TABLE spool ADD COLUMN held INTEGER NOT NULL DEFAULT 0;
ALTER TABLE spool ADD COLUMN route TEXT;
ALTER TABLE spool ADD COLUMN told_at REAL;
ALTER TABLE spool ADD COLUMN last TEXT NOT NULL DEFAULT '""';
ALTER TABLE spool ADD COLUMN due REAL
    GENERATED ALWAYS AS (CASE WHEN held = 0 THEN max(next_attempt, leased_until) END) VIRTUAL;
"""

_REST: Final = """
DROP TABLE spool_recipient;

-- What of a domain is due, and the totals of each domain.
CREATE INDEX spool_due ON spool (domain, due, held, next_attempt, queued_at, size);
CREATE INDEX spool_domain ON spool (domain);
CREATE INDEX spool_queued ON spool (queued_at);
CREATE INDEX spool_held ON spool (held) WHERE held <> 0;

CREATE TABLE spool_next (
    domain TEXT PRIMARY KEY,
    due REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX spool_next_due ON spool_next (due);

INSERT INTO spool_next (domain, due) SELECT domain, min(due) FROM spool GROUP BY domain;
"""


def _upgrade(conn: sqlite3.Connection) -> None:
    for statement in statements(_COLUMNS):
        conn.execute(statement)
    (last,) = conn.execute("SELECT coalesce(max(number), 0) FROM spool").fetchone()
    number = 0
    # An item at a time: there may be more than fits in memory.
    while row := conn.execute(
        "SELECT number, blob FROM spool WHERE number > ? AND number <= ? ORDER BY number LIMIT 1", (number, last)
    ).fetchone():
        number, blob = row
        _split(conn, number, blob)
    for statement in statements(_REST):
        conn.execute(statement)


def _split(conn: sqlite3.Connection, number: int, blob: int) -> None:
    """Give the item its domain and its recipients: the first keeps its number, the others become items of their own."""
    rows = conn.execute(
        "SELECT address, params FROM spool_recipient WHERE spool = ? AND outcome IS NULL ORDER BY n", (number,)
    ).fetchall()
    domains = by_domain([RemoteRecipient(json.loads(address), json.loads(params)) for address, params in rows])
    if not domains:
        # All of its recipients are done with.
        conn.execute("DELETE FROM spool WHERE number = ?", (number,))
        conn.execute("UPDATE blob SET refs = refs - 1, freed = CASE WHEN refs = 1 THEN 0 END WHERE number = ?", (blob,))
        return
    for place, (domain, recipients) in enumerate(domains.items()):
        kept = json.dumps([(one.address, dict(one.params)) for one in recipients])
        if place == 0:
            conn.execute(
                "UPDATE spool SET domain = ?, recipients = ?, claims = attempts WHERE number = ?",
                (domain, kept, number),
            )
            continue
        conn.execute(
            "INSERT INTO spool (trace, account, sender, blob, size, queued_at, next_attempt, attempts, params, domain, "
            "recipients, claims) SELECT trace, account, sender, blob, size, queued_at, next_attempt, attempts, params, "
            "?, ?, attempts FROM spool WHERE number = ?",
            (domain, kept, number),
        )
        conn.execute("UPDATE blob SET refs = refs + 1 WHERE number = ?", (blob,))


MIGRATION: Final = Migration("an item of the spool for each domain", _upgrade)

RESULTS: Final = Migration(
    "what became of items of queues",
    """
CREATE TABLE spool_result (
    number INTEGER PRIMARY KEY,
    domain TEXT NOT NULL,
    account TEXT,
    recipients TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    claims INTEGER NOT NULL,
    ended REAL NOT NULL,
    dropped INTEGER NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX spool_result_ended ON spool_result (ended);
""",
)
