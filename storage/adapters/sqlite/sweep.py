"""The sweep: what nobody needs any more, in small steps, each of which looks up what it takes by an index.

The order of a message's end: its mailbox is deleted → its entry is lost → after the grace the lost entry is forgotten →
an email without copies leaves the search index, then the store → a blob that nothing names goes, chunk by chunk. Each
step commits by itself, and what a crash leaves undone the next round finds.
"""

from __future__ import annotations

import sqlite3

from storage.adapters.sqlite import blobs, metadata
from storage.adapters.sqlite.schema import CHUNK_BITS
from storage.limits import SWEEP_CHUNKS, SWEEP_ENTRIES

LOOK_AGAIN = 600.0
"""Seconds until the sweep looks again at a deleted mailbox whose lost messages wait for their grace."""

_COLUMNS = "mailbox, uid, modseq, flags, keywords, email, size, internaldate, savedate"


def drain_mailbox(conn: sqlite3.Connection, now: float, limit: int = SWEEP_ENTRIES) -> bool:
    """Make some entries of a deleted mailbox lost; when it has none left, remove it. True when something was done."""
    row = conn.execute(
        "SELECT number, removed FROM mailbox WHERE removed <= ? ORDER BY removed LIMIT 1", (now,)
    ).fetchone()
    if row is None:
        return False
    number, removed = row
    _drain(conn, number, removed, now, limit)
    return True


def drain_account(conn: sqlite3.Connection, account: int, limit: int = SWEEP_ENTRIES) -> bool:
    """The same for the mailboxes of an account that is being purged, without a grace. False when nothing is left."""
    row = conn.execute(
        "SELECT number FROM mailbox WHERE removed IS NOT NULL AND account = ? LIMIT 1", (account,)
    ).fetchone()
    if row is None:
        return metadata.drain_account(conn, account)
    (mailbox,) = row
    lost = conn.execute(
        "DELETE FROM lost WHERE (mailbox, uid) IN (SELECT mailbox, uid FROM lost WHERE mailbox = ? LIMIT ?) "
        "RETURNING email",
        (mailbox, limit),
    ).fetchall()
    if lost:
        _uncount(conn, lost)
    else:
        _drain(conn, mailbox, 0.0, 0.0, limit)
    return True


def _drain(conn: sqlite3.Connection, mailbox: int, removed: float, now: float, limit: int) -> None:
    last = conn.execute(
        "SELECT max(uid) FROM (SELECT uid FROM entry WHERE mailbox = ? ORDER BY uid LIMIT ?)", (mailbox, limit)
    ).fetchone()[0]
    if last is not None:
        conn.execute(
            f"INSERT INTO lost ({_COLUMNS}, lost) SELECT {_COLUMNS}, ? FROM entry WHERE mailbox = ? AND uid <= ?",
            (removed, mailbox, last),
        )
        conn.execute("DELETE FROM entry WHERE mailbox = ? AND uid <= ?", (mailbox, last))
        return
    history = conn.execute(
        "DELETE FROM vanished WHERE (mailbox, modseq, first) IN "
        "(SELECT mailbox, modseq, first FROM vanished WHERE mailbox = ? LIMIT ?)",
        (mailbox, limit),
    ).rowcount
    if history:
        return
    if conn.execute("SELECT 1 FROM lost WHERE mailbox = ? LIMIT 1", (mailbox,)).fetchone() is None:
        conn.execute("DELETE FROM mailbox WHERE number = ?", (mailbox,))
    else:
        # Its lost messages wait for their grace, and a purge of the account finds them by this row.
        conn.execute("UPDATE mailbox SET removed = ? WHERE number = ?", (now + LOOK_AGAIN, mailbox))


def forget_lost(conn: sqlite3.Connection, before: float, limit: int = SWEEP_ENTRIES) -> int:
    """Forget messages that were lost at that time or earlier; how many."""
    lost = conn.execute(
        "DELETE FROM lost WHERE (mailbox, uid) IN "
        "(SELECT mailbox, uid FROM lost WHERE lost <= ? ORDER BY lost LIMIT ?) RETURNING email",
        (before, limit),
    ).fetchall()
    _uncount(conn, lost)
    return len(lost)


def unused_emails(
    conn: sqlite3.Connection, account: int | None = None, limit: int = SWEEP_ENTRIES
) -> list[tuple[int, int]]:
    """Emails that no mailbox has: (account, number). They leave the search index before ``free_emails`` is called."""
    return conn.execute(
        "SELECT account, number FROM email WHERE copies = 0 AND account = coalesce(?, account) ORDER BY number LIMIT ?",
        (account, limit),
    ).fetchall()


def free_emails(conn: sqlite3.Connection, numbers: list[int]) -> int:
    """Remove these emails, unless they have copies; how many."""
    freed = 0
    for number in numbers:
        row = conn.execute("DELETE FROM email WHERE number = ? AND copies = 0 RETURNING blob", (number,)).fetchone()
        if row is not None:
            blobs.drop(conn, row[0])
            freed += 1
    return freed


def free_blobs(conn: sqlite3.Connection, before: float, limit: int = SWEEP_ENTRIES) -> tuple[int, int, bool]:
    """Remove blobs that nothing names, and staged bodies from that time or earlier: (blobs, staged, more)."""
    rows = conn.execute(
        "SELECT number, freed FROM blob WHERE freed IS NOT NULL AND freed <= ? ORDER BY freed LIMIT ?", (before, limit)
    ).fetchall()
    freed = staged = 0
    room = SWEEP_CHUNKS
    for number, since in rows:
        first = number << CHUNK_BITS
        room -= conn.execute(
            "DELETE FROM chunk WHERE key IN (SELECT key FROM chunk WHERE key BETWEEN ? AND ? ORDER BY key LIMIT ?)",
            (first, first + (1 << CHUNK_BITS) - 1, room),
        ).rowcount
        if room <= 0:
            # The rest of this blob is for the next step; nobody may name it or add to it meanwhile.
            conn.execute("UPDATE blob SET size = ?, freed = 0 WHERE number = ?", (blobs.LEAVING, number))
            return freed, staged, True
        blobs.forget(conn, number)
        if since:
            staged += 1
        else:
            freed += 1
    return freed, staged, len(rows) == limit


def _uncount(conn: sqlite3.Connection, emails: list[tuple[int]]) -> None:
    conn.executemany("UPDATE email SET copies = copies - 1 WHERE number = ?", emails)
