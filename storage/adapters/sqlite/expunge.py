"""Messages that leave a mailbox: expunged or moved away, remembered for those who have not heard of it."""

from __future__ import annotations

import sqlite3

from mail.flags import DELETED
from storage import ranges
from storage.adapters.sqlite import accounts, mailboxes
from storage.adapters.sqlite.uids import source, within
from storage.limits import VANISHED_PER_MAILBOX
from storage.model import Expunged, MailboxRef, Ranges, Rights


def expunge(conn: sqlite3.Connection, ref: MailboxRef, uids: Ranges, now: float, actor: str | None = None) -> Expunged:
    # RFC 3501 §6.4.3, RFC 4315 §2.1
    place = mailboxes.found(conn, ref, actor, Rights.EXPUNGE)
    rows, parameters = source("entry", place.number, uids)
    found = conn.execute(f"SELECT e.uid, e.size {rows} AND e.flags & {DELETED}", parameters).fetchall()
    if not found:
        return Expunged((), place.modseq)
    gone = ranges.of(uid for uid, _ in found)
    modseq = accounts.next_modseq(conn, place.account, size=-sum(size for _, size in found), messages=-len(found))
    take_away(conn, place.number, gone, modseq, now)
    return Expunged(gone, modseq)


def take_away(conn: sqlite3.Connection, mailbox: int, uids: Ranges, modseq: int, now: float) -> None:
    """Make these existing messages lost and vanished, and count them off the mailbox (not off the account)."""
    condition, parameters = within(mailbox, uids)
    messages, unseen, deleted, recent, size = conn.execute(
        "SELECT count(*), sum(NOT flags & 1), sum(flags & 8 <> 0), "
        "sum(uid >= (SELECT recent_from FROM mailbox WHERE number = ?)), sum(size) "
        f"FROM entry WHERE {condition}",
        (mailbox, *parameters),
    ).fetchone()
    conn.execute(
        "INSERT INTO lost (mailbox, uid, modseq, flags, keywords, email, size, internaldate, savedate, lost) "
        "SELECT mailbox, uid, modseq, flags, keywords, email, size, internaldate, savedate, ? "
        f"FROM entry WHERE {condition}",
        (now, *parameters),
    )
    conn.execute(f"DELETE FROM entry WHERE {condition}", parameters)
    conn.executemany(
        "INSERT INTO vanished (mailbox, modseq, first, last) VALUES (?, ?, ?, ?)",
        [(mailbox, modseq, first, last) for first, last in uids],
    )
    (history,) = conn.execute(
        "UPDATE mailbox SET modseq = ?, messages = messages - ?, unseen = unseen - ?, deleted = deleted - ?, "
        "recent = recent - ?, size = size - ?, vanished = vanished + ? WHERE number = ? RETURNING vanished",
        (modseq, messages, unseen, deleted, recent, size, len(uids), mailbox),
    ).fetchone()
    if history > VANISHED_PER_MAILBOX:
        _shorten(conn, mailbox, history - VANISHED_PER_MAILBOX // 2)


def _shorten(conn: sqlite3.Connection, mailbox: int, excess: int) -> None:
    """Forget the oldest expunges; ``changes`` since before them tells every uid that is not there."""
    (modseq,) = conn.execute(
        "SELECT max(modseq) FROM (SELECT modseq FROM vanished WHERE mailbox = ? ORDER BY modseq LIMIT ?)",
        (mailbox, excess),
    ).fetchone()
    dropped = conn.execute("DELETE FROM vanished WHERE mailbox = ? AND modseq <= ?", (mailbox, modseq)).rowcount
    conn.execute(
        "UPDATE mailbox SET vanished = vanished - ?, history_from = ? WHERE number = ?", (dropped, modseq, mailbox)
    )
