"""What happened in a mailbox after a modseq, in pages that end between two modseqs."""

from __future__ import annotations

import sqlite3

from storage import ranges
from storage.adapters.sqlite import acl, entries, mailboxes
from storage.adapters.sqlite.keywords import Names
from storage.adapters.sqlite.uids import all_uids
from storage.limits import PAGE_ENTRIES
from storage.model import Changes, MailboxRef, Ranges
from storage.port import Refused
from storage.rights import reader


def since(conn: sqlite3.Connection, ref: MailboxRef, modseq: int, limit: int) -> Changes:
    """One page. What shares a modseq stays together, so a page is longer than ``limit`` where one change was."""
    try:
        place = mailboxes.readable(conn, ref)
    except Refused:
        return Changes((), (), modseq, more=False, gone=True)
    given = acl.have(conn, place.number, reader(ref))
    # The account's modseq at this moment: what any mailbox gets later is above it, and ``watch``, which knows
    # accounts only, is silent until then.
    (newest,) = conn.execute("SELECT modseq FROM account WHERE number = ?", (place.account,)).fetchone()
    newest = max(modseq, newest)
    if place.modseq <= modseq:
        # Every NOOP comes by here, and beside a thread that reads thousands of rows each statement is a wait.
        return Changes((), (), newest, more=False, rights=given)
    through = _through(conn, place.number, modseq, max(1, min(limit, PAGE_ENTRIES)))
    end = newest if through is None else through
    found = conn.execute(
        f"SELECT {entries.ENTRY} FROM entry AS e WHERE e.mailbox = ? AND e.modseq > ? AND e.modseq <= ? "
        "ORDER BY e.modseq, e.uid",
        (place.number, modseq, end),
    )
    appeared = entries.made(found, Names(conn, place.account))
    vanished = _vanished(conn, place.number, modseq, end)
    return Changes(appeared, vanished, end, more=end < place.modseq, rights=given)


def _through(conn: sqlite3.Connection, mailbox: int, modseq: int, limit: int) -> int | None:
    """The modseq at which a page of about ``limit`` ends; None when all that is left fits."""
    rows = conn.execute(
        "SELECT modseq FROM (SELECT modseq FROM (SELECT modseq FROM entry WHERE mailbox = ?1 AND modseq > ?2 "
        "ORDER BY modseq LIMIT ?3) UNION ALL SELECT modseq FROM (SELECT modseq FROM vanished WHERE mailbox = ?1 "
        "AND modseq > ?2 ORDER BY modseq LIMIT ?3)) ORDER BY modseq LIMIT ?3",
        (mailbox, modseq, limit + 1),
    ).fetchall()
    if len(rows) <= limit:
        return None
    last: int = rows[limit][0]
    # The change that would be cut is left for the next page, unless it is the only one.
    before: list[int] = [found for (found,) in rows if found < last]
    return before[-1] if before else last


def _vanished(conn: sqlite3.Connection, mailbox: int, modseq: int, end: int) -> Ranges:
    (history_from, uidnext, messages) = conn.execute(
        "SELECT history_from, uidnext, messages FROM mailbox WHERE number = ?", (mailbox,)
    ).fetchone()
    if modseq < history_from:
        # RFC 7162 §3.2.6: where the history is gone, every uid that is not there may be told.
        return ranges.outside(all_uids(conn, mailbox, messages), uidnext)
    rows = conn.execute(
        "SELECT first, last FROM vanished WHERE mailbox = ? AND modseq > ? AND modseq <= ?", (mailbox, modseq, end)
    ).fetchall()
    return ranges.union(rows)
