"""COPY and MOVE from one account to another: emails of its own for the other, of the same bodies."""

from __future__ import annotations

import sqlite3
from typing import Final, NamedTuple

from mail.flags import ALL
from storage import ranges
from storage.adapters.sqlite import deliver, keywords, mailboxes
from storage.adapters.sqlite.uids import source
from storage.limits import UID_MAX
from storage.model import Ranges
from storage.port import Reason, Refused


class Kept(NamedTuple):
    """What a copy keeps of a message's marks. flags: these bits. keywords: all or none."""

    flags: int
    keywords: bool


ALL_KEPT: Final = Kept(ALL, True)


def enter_all(
    conn: sqlite3.Connection,
    place: mailboxes.Place,
    uids: Ranges,
    to: mailboxes.Place,
    modseq: int,
    now: float,
    kept: Kept,
) -> Ranges:
    """Give these existing messages uids in the other account's mailbox; the uids, in the same order."""
    if to.uidnext + ranges.count(uids) - 1 > UID_MAX:
        raise Refused(Reason.LIMIT, "The mailbox has no uid left.")
    rows, parameters = source("entry", place.number, uids)
    found = conn.execute(f"SELECT e.email, e.size, e.flags, e.keywords, e.internaldate {rows}", parameters).fetchall()
    names = keywords.Names(conn, place.account)
    emails: dict[int, int] = {}
    words: dict[str, str] = {"": ""}
    entering: list[deliver.Entering] = []
    for email, size, flags, old_words, internaldate in found:
        if email not in emails:
            emails[email] = _email(conn, email, to.account, now)
        had = old_words if kept.keywords else ""
        if had not in words:
            words[had] = keywords.stored(conn, to.account, names.of(had), make=True)
        # RFC 8514 §2: the save date is that of the copy.
        entering.append(deliver.Entering(emails[email], size, flags & kept.flags, words[had], internaldate, int(now)))
    if entering:
        deliver.enter(conn, to.number, to.uidnext, modseq, entering)
    conn.executemany("UPDATE email SET copies = copies + 1 WHERE number = ?", [(emails[email],) for email, *_ in found])
    return ((to.uidnext, to.uidnext + len(found) - 1),)


def _email(conn: sqlite3.Connection, email: int, account: int, now: float) -> int:
    """The same message for the other account, as yet without entries: its number."""
    number, blob = conn.execute(
        "INSERT INTO email (account, blob, copies, size, saved, prefix) "
        "SELECT ?, blob, 0, size, ?, prefix FROM email WHERE number = ? RETURNING number, blob",
        (account, now, email),
    ).fetchone()
    conn.execute("UPDATE blob SET refs = refs + 1 WHERE number = ?", (blob,))
    made: int = number
    return made
