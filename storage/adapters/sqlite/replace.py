"""REPLACE: a new message in the place of another, which leaves in the same change."""

from __future__ import annotations

import sqlite3

from storage.adapters.sqlite import accounts, deliver, expunge, mailboxes
from storage.intake import Described
from storage.model import Appended, MailboxRef, NewMessage, Rights
from storage.port import Reason, Refused


def replace(
    conn: sqlite3.Connection,
    ref: MailboxRef,
    uid: int,
    target: MailboxRef,
    message: NewMessage,
    described: Described,
    quota: int | None,
    now: float,
    actor: str | None = None,
) -> tuple[Appended, list[int]]:
    """The outcome and the new blob. The caller has seen to it that both mailboxes are of one account. actor: another
    than the owner, who acts."""
    # RFC 8508 §3.2: all of it or nothing
    place = mailboxes.found(conn, ref, actor, Rights.READ | Rights.DELETE_MESSAGES | Rights.EXPUNGE)
    row = conn.execute("SELECT size FROM entry WHERE mailbox = ? AND uid = ?", (place.number, uid)).fetchone()
    if row is None:
        raise Refused(Reason.NO_SUCH_MESSAGE)
    (size,) = row
    accounts.check_quota(conn, place.account, described.size - size, quota)
    appended, made = deliver.append(conn, target, [message], [described], None, now, actor)
    expunge.take_away(conn, place.number, ((uid, uid),), appended.modseq, now)
    conn.execute("UPDATE account SET size = size - ?, messages = messages - 1 WHERE number = ?", (size, place.account))
    return appended, made
