"""Accounts: made with their mailboxes, counted, purged."""

from __future__ import annotations

import sqlite3
from typing import Final

from storage.adapters.sqlite import acl
from storage.adapters.sqlite.schema import ACCOUNT_OPEN, ACCOUNT_PURGING
from storage.names import FIRST_MAILBOXES
from storage.port import Reason, Refused

DAY: Final = 86400
"""Seconds."""
_COUNT_SAVED: Final = (
    "saved = iif(saved_day > ?1, saved, iif(saved_day = ?1, saved, 0) + ?2), saved_day = max(saved_day, ?1)"
)


def find(conn: sqlite3.Connection, account: str) -> int:
    """The account's number. NO_SUCH_ACCOUNT when it was never opened or is being purged."""
    number = number_of(conn, account)
    if number is None:
        raise Refused(Reason.NO_SUCH_ACCOUNT)
    return number


def number_of(conn: sqlite3.Connection, account: str) -> int | None:
    """The same, None when it is not there."""
    row = conn.execute("SELECT number FROM account WHERE id = ? AND state = ?", (account, ACCOUNT_OPEN)).fetchone()
    return None if row is None else int(row[0])


def is_open(conn: sqlite3.Connection, account: str) -> bool:
    """Does it exist? NO_SUCH_ACCOUNT when its purge has begun: ids are never used again."""
    row = conn.execute("SELECT state FROM account WHERE id = ?", (account,)).fetchone()
    if row is not None and row[0] != ACCOUNT_OPEN:
        raise Refused(Reason.NO_SUCH_ACCOUNT, "This account was removed.")
    return row is not None


def make(conn: sqlite3.Connection, account: str, now: float) -> int:
    """Make the account and its first mailboxes; its modseq."""
    number = conn.execute("INSERT INTO account (id) VALUES (?)", (account,)).lastrowid
    if number is None:
        raise RuntimeError("no row was made")
    modseq = next_modseq(conn, number)
    for name, special_use in FIRST_MAILBOXES:
        conn.execute(
            "INSERT INTO mailbox (account, name, special_use, uidvalidity, modseq) VALUES (?, ?, ?, ?, ?)",
            (number, name, special_use, next_uidvalidity(conn, number, now), modseq),
        )
        conn.execute("INSERT INTO subscription (account, name) VALUES (?, ?)", (number, name))
    return modseq


def next_modseq(
    conn: sqlite3.Connection, number: int, *, size: int = 0, messages: int = 0, saved: int = 0, now: float = 0.0
) -> int:
    """Take the next modseq and count what the change adds to the account's usage, and ``saved`` (``count_saved``)."""
    # In two statements it takes two thirds of the time of RETURNING.
    row = conn.execute("SELECT modseq FROM account WHERE number = ?", (number,)).fetchone()
    modseq: int = row[0] + 1
    conn.execute(
        f"UPDATE account SET modseq = ?5, {_COUNT_SAVED}, size = size + ?3, messages = messages + ?4 WHERE number = ?6",
        (int(now // DAY), saved, size, messages, modseq, number),
    )
    return modseq


def count_saved(conn: sqlite3.Connection, number: int, messages: int, now: float) -> None:
    """Count entries made on the day (UTC) of that time: the latest day's are kept."""
    conn.execute(f"UPDATE account SET {_COUNT_SAVED} WHERE number = ?3", (int(now // DAY), messages, number))


def modseq(conn: sqlite3.Connection, account: str) -> int:
    """The account's, as it is. NO_SUCH_ACCOUNT."""
    row = conn.execute("SELECT modseq FROM account WHERE id = ? AND state = ?", (account, ACCOUNT_OPEN)).fetchone()
    if row is None:
        raise Refused(Reason.NO_SUCH_ACCOUNT)
    now: int = row[0]
    return now


def next_uidvalidity(conn: sqlite3.Connection, number: int, now: float) -> int:
    """Take the next uidvalidity: it rises, and begins at the clock so that a store made anew has others."""
    # RFC 3501 §2.3.1.1: a 32-bit value, rising each time.
    row = conn.execute(
        "UPDATE account SET uidvalidity = max(uidvalidity + 1, ?) WHERE number = ? RETURNING uidvalidity",
        (int(now) & 0xFFFF_FFFF, number),
    ).fetchone()
    uidvalidity: int = row[0]
    return uidvalidity


def check_quota(conn: sqlite3.Connection, number: int, more: int, quota: int | None) -> None:
    """OVER_QUOTA when ``more`` octets would pass ``quota``."""
    if quota is None or more <= 0:
        return
    (size,) = conn.execute("SELECT size FROM account WHERE number = ?", (number,)).fetchone()
    if size + more > quota:
        raise Refused(Reason.OVER_QUOTA, f"The account would use {size + more} of {quota} octets.")


def begin_purge(conn: sqlite3.Connection, account: str) -> tuple[int, int] | None:
    """Close the account for good and take its mailboxes' names: (number, modseq); None when there is no such."""
    row = conn.execute("SELECT number, state FROM account WHERE id = ?", (account,)).fetchone()
    acl.forget_grantee(conn, account)
    if row is None:
        # The id is taken all the same, so that a delivery in flight cannot open it afterwards.
        conn.execute("INSERT INTO account (id, state) VALUES (?, ?)", (account, ACCOUNT_PURGING))
        return None
    number, state = row
    if state == ACCOUNT_OPEN:
        conn.execute("UPDATE account SET state = ?, size = 0, messages = 0 WHERE number = ?", (ACCOUNT_PURGING, number))
        modseq = next_modseq(conn, number)
        acl.forget_owner(conn, number)
        conn.execute(
            "UPDATE mailbox SET name = NULL, removed = 0, modseq = ? WHERE account = ? AND name IS NOT NULL",
            (modseq, number),
        )
        # What was deleted before must not wait for its grace now.
        conn.execute("UPDATE mailbox SET removed = 0 WHERE removed IS NOT NULL AND account = ?", (number,))
        conn.execute("DELETE FROM subscription WHERE account = ?", (number,))
        conn.execute("DELETE FROM keyword WHERE account = ?", (number,))
        return number, modseq
    (modseq,) = conn.execute("SELECT modseq FROM account WHERE number = ?", (number,)).fetchone()
    return number, modseq
