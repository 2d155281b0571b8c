"""Sharing: the access control list of a mailbox shown and changed, and what is shared with an account."""

from __future__ import annotations

import sqlite3

from storage import rights
from storage.adapters.sqlite import accounts, acl, mailboxes
from storage.limits import SHARED_MAILBOXES
from storage.model import ANYONE, FlagMode, Grant, Mailbox, MailboxRef, Operation, Rights
from storage.port import Reason, Refused


def shown(conn: sqlite3.Connection, ref: MailboxRef) -> tuple[Grant, ...]:
    """``Storage.acl``."""
    return acl.of(conn, mailboxes.found(conn, ref, rights.reader(ref), Rights.ADMINISTER).number)


def change(
    conn: sqlite3.Connection,
    ref: MailboxRef,
    op: Operation,
    identifier: str,
    given: Rights,
    mode: FlagMode,
    negative: bool,
) -> dict[str, int]:
    """``Storage.set_acl``: the modseqs of the owner's account and of the one that the entry is about, where it is here;
    none where nothing changes."""
    place = mailboxes.found(conn, ref, rights.writer(op, ref.account), Rights.ADMINISTER)
    if identifier == ref.account:
        raise Refused(Reason.CANNOT, "The owner always has all rights.")
    before = acl.of(conn, place.number)
    after = rights.changed(before, identifier, given, mode, negative)
    if after == before:
        return {}
    acl.keep(conn, place.number, after)
    rights.check_entries(len(before), len(after), acl.count(conn, place.account))
    # What of the account changed is told by nothing else.
    modseqs = {ref.account: accounts.next_modseq(conn, place.account)}
    number = accounts.number_of(conn, identifier)
    if number is not None:
        modseqs[identifier] = accounts.next_modseq(conn, number)
    return modseqs


def shared_with(conn: sqlite3.Connection, account: str) -> tuple[Mailbox, ...]:
    """``Storage.shared_with``."""
    rows = conn.execute(
        "SELECT DISTINCT m.number, o.id FROM acl AS g CROSS JOIN mailbox AS m ON m.number = g.mailbox "
        "CROSS JOIN account AS o ON o.number = m.account "
        "WHERE g.identifier IN (?, ?) AND NOT g.negative AND g.rights & ? AND m.name IS NOT NULL AND o.id <> ? "
        "ORDER BY o.id, m.name",
        (account, ANYONE, int(Rights.LOOKUP), account),
    ).fetchall()
    seen: list[Mailbox] = []
    for number, owner in rows:
        if len(seen) >= SHARED_MAILBOXES:
            break
        given = acl.have(conn, number, account)
        if given & Rights.LOOKUP:
            seen.append(mailboxes.one(conn, owner, number, account, given))
    return tuple(seen)
