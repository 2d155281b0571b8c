"""Access control lists as they are kept: rows of a mailbox, and what comes of them for an account."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from storage import rights
from storage.model import ALL_RIGHTS, ANYONE, Grant, Rights


def of(conn: sqlite3.Connection, mailbox: int) -> tuple[Grant, ...]:
    """The list of a mailbox, in its order."""
    rows = conn.execute(
        "SELECT identifier, rights, negative FROM acl WHERE mailbox = ? ORDER BY identifier, negative", (mailbox,)
    )
    return tuple(Grant(identifier, Rights(given), bool(negative)) for identifier, given, negative in rows)


def have(conn: sqlite3.Connection, mailbox: int, actor: str | None) -> Rights:
    """What an account may do that is not the owner; the owner (None) everything."""
    if actor is None:
        return ALL_RIGHTS
    rows = conn.execute(
        "SELECT identifier, rights, negative FROM acl WHERE mailbox = ? AND identifier IN (?, ?)",
        (mailbox, actor, ANYONE),
    )
    return rights.held([Grant(who, Rights(given), bool(negative)) for who, given, negative in rows], actor)


def keep(conn: sqlite3.Connection, mailbox: int, grants: Sequence[Grant]) -> None:
    """This is the mailbox's list from now on."""
    conn.execute("DELETE FROM acl WHERE mailbox = ?", (mailbox,))
    conn.executemany(
        "INSERT INTO acl (mailbox, identifier, negative, rights) VALUES (?, ?, ?, ?)",
        [(mailbox, grant.identifier, grant.negative, int(grant.rights)) for grant in grants],
    )


def count(conn: sqlite3.Connection, account: int) -> int:
    """The entries of all lists of the account (its number)."""
    return int(
        conn.execute(
            "SELECT count(*) FROM mailbox AS m JOIN acl AS g ON g.mailbox = m.number "
            "WHERE m.account = ? AND m.name IS NOT NULL",
            (account,),
        ).fetchone()[0]
    )


def forget_owner(conn: sqlite3.Connection, account: int) -> None:
    """Nothing of this account (its number) is shared any more. Before its mailboxes lose their names."""
    conn.execute(
        "DELETE FROM acl WHERE mailbox IN (SELECT number FROM mailbox WHERE account = ? AND name IS NOT NULL)",
        (account,),
    )


def forget_grantee(conn: sqlite3.Connection, account: str) -> None:
    """Nothing is shared with this account any more."""
    conn.execute("DELETE FROM acl WHERE identifier = ?", (account,))
