"""COPY and MOVE within an account: new entries for the same emails."""

from __future__ import annotations

import sqlite3

from storage import names, ranges
from storage.adapters.sqlite import accounts, deliver, expunge, mailboxes
from storage.adapters.sqlite.uids import source, within
from storage.limits import UID_MAX
from storage.model import INBOX, Copied, MailboxRef, Ranges
from storage.port import Reason, Refused


def copy(conn: sqlite3.Connection, ref: MailboxRef, uids: Ranges, target: str, quota: int | None, now: float) -> Copied:
    # RFC 3501 §6.4.7
    place = mailboxes.find(conn, ref)
    to = mailboxes.find_named(conn, place.account, names.searchable(target))
    found, size = _present(conn, place.number, uids)
    if not found:
        return Copied(to.uidvalidity, (), (), to.modseq)
    accounts.check_quota(conn, place.account, size, quota)
    modseq = accounts.next_modseq(conn, place.account, size=size, messages=ranges.count(found))
    return Copied(to.uidvalidity, found, _enter_all(conn, place, found, to, modseq, now), modseq)


def move(conn: sqlite3.Connection, ref: MailboxRef, uids: Ranges, target: str, now: float) -> Copied:
    # RFC 6851 §3.3
    place = mailboxes.find(conn, ref)
    to = mailboxes.find_named(conn, place.account, names.searchable(target))
    if to.number == place.number:
        raise Refused(Reason.CANNOT, "The messages are in this mailbox already.")
    found, _ = _present(conn, place.number, uids)
    if not found:
        return Copied(to.uidvalidity, (), (), to.modseq)
    modseq = accounts.next_modseq(conn, place.account)
    new = _enter_all(conn, place, found, to, modseq, now)
    expunge.take_away(conn, place.number, found, modseq, now)
    return Copied(to.uidvalidity, found, new, modseq)


def empty_inbox(conn: sqlite3.Connection, account: str, target: int, modseq: int, now: float) -> None:
    """Move all messages of INBOX to the mailbox that was just made for them at ``modseq`` (RFC 3501 §6.3.5)."""
    number = accounts.find(conn, account)
    place = mailboxes.find_named(conn, number, INBOX)
    found, _ = _present(conn, place.number, ((1, UID_MAX),))
    if found:
        row = conn.execute(
            "SELECT number, account, name, uidvalidity, uidnext, modseq FROM mailbox WHERE number = ?", (target,)
        ).fetchone()
        _enter_all(conn, place, found, mailboxes.Place(*row), modseq, now)
        expunge.take_away(conn, place.number, found, modseq, now)


def _present(conn: sqlite3.Connection, mailbox: int, uids: Ranges) -> tuple[Ranges, int]:
    """Those of the uids that are there, and their octets."""
    rows, parameters = source("entry", mailbox, uids)
    found = conn.execute(f"SELECT e.uid, e.size {rows}", parameters).fetchall()
    return ranges.of(uid for uid, _ in found), sum(size for _, size in found)


def _enter_all(
    conn: sqlite3.Connection, place: mailboxes.Place, uids: Ranges, to: mailboxes.Place, modseq: int, now: float
) -> Ranges:
    """Give these existing messages uids in the other mailbox too; the uids, in the same order."""
    messages = ranges.count(uids)
    if to.uidnext + messages - 1 > UID_MAX:
        raise Refused(Reason.LIMIT, "The mailbox has no uid left.")
    condition, parameters = within(place.number, uids)
    unseen, deleted, size = conn.execute(
        f"SELECT sum(NOT flags & 1), sum(flags & 8 <> 0), sum(size) FROM entry WHERE {condition}", parameters
    ).fetchone()
    # The same email may be in the mailbox more than once.
    conn.execute(
        "UPDATE email SET copies = copies + found.n FROM "
        f"(SELECT email, count(*) AS n FROM entry WHERE {condition} GROUP BY email) AS found "
        "WHERE email.number = found.email",
        parameters,
    )
    # RFC 8514 §2: the save date is that of the copy.
    conn.execute(
        "INSERT INTO entry (mailbox, uid, modseq, flags, keywords, email, size, internaldate, savedate) "
        "SELECT ?, ? + row_number() OVER (ORDER BY uid), ?, flags, keywords, email, size, internaldate, ? "
        f"FROM entry WHERE {condition} ORDER BY uid",
        (to.number, to.uidnext - 1, modseq, int(now), *parameters),
    )
    conn.execute(
        "UPDATE mailbox SET uidnext = uidnext + ?, modseq = ?, messages = messages + ?, unseen = unseen + ?, "
        "deleted = deleted + ?, recent = recent + ?, size = size + ? WHERE number = ?",
        (messages, modseq, messages, unseen, deleted, messages, size, to.number),
    )
    deliver.count_saved(conn, messages, now)
    return ((to.uidnext, to.uidnext + messages - 1),)
