"""Rows as values, and the questions that several of the adapter's files ask."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from identity.limits import HISTORY
from identity.model import Account, ChangeKind, Role
from identity.port import Reason, Refused
from identity.resolve import Holder, Rule

ACCOUNT = "id, address, display_name, role, quota, enabled, version, created_at, removed_at, mask"


def account_of(row: tuple[Any, ...]) -> Account:
    """The value of a row of ACCOUNT."""
    id, address, display_name, role, quota, enabled, version, created_at, removed_at, mask = row
    return Account(
        id,
        address,
        display_name,
        Role(role),
        quota,
        bool(enabled),
        version,
        created_at,
        removed_at is not None,
        tuple(mask.split()),
    )


def find(connection: sqlite3.Connection, id: str) -> Account:
    """The account of this id, not removed. Raises Refused NO_SUCH_ACCOUNT."""
    row = connection.execute(f"SELECT {ACCOUNT} FROM account WHERE id = ? AND removed_at IS NULL", (id,)).fetchone()
    if row is None:
        raise Refused(Reason.NO_SUCH_ACCOUNT)
    return account_of(row)


def other_administrator(connection: sqlite3.Connection, id: str) -> bool:
    """Is there an enabled administrator besides this account?"""
    (found,) = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM account WHERE role = 'admin' AND enabled = 1 AND removed_at IS NULL AND id <> ?)",
        (id,),
    ).fetchone()
    return bool(found)


def note_change(connection: sqlite3.Connection, account: str, kind: ChangeKind, revoked: tuple[str, ...] = ()) -> None:
    """Tell the doors, in the transaction of the change itself."""
    seq = connection.execute(
        "INSERT INTO change (account, kind, revoked) VALUES (?, ?, ?)", (account, kind.value, json.dumps(revoked))
    ).lastrowid
    connection.execute("DELETE FROM change WHERE seq <= ?", ((seq or 0) - HISTORY,))


def end_tokens(connection: sqlite3.Connection, account: str, credential: str | None = None) -> tuple[str, ...]:
    """End the account's tokens, or those that began with one credential; the credentials ("token:<id>") ended."""
    ended = connection.execute(
        "DELETE FROM token_family WHERE account = ?1 AND (?2 IS NULL OR credential = ?2) RETURNING id",
        (account, credential),
    ).fetchall()
    return tuple(f"token:{id}" for (id,) in ended)


class Tables:
    """The `resolve.Directory` of one connection, for one question: it keeps what it has read."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._rules: dict[str, Rule | None] = {}

    def rule(self, domain: str) -> Rule | None:
        if domain not in self._rules:
            row = self._connection.execute(
                "SELECT catch_all, subaddress FROM domain WHERE key = ?", (domain,)
            ).fetchone()
            self._rules[domain] = None if row is None else Rule(*row)
        return self._rules[domain]

    def holder(self, key: str) -> Holder | None:
        row = self._connection.execute(
            "SELECT id, address, quota FROM account WHERE key = ? AND removed_at IS NULL", (key,)
        ).fetchone()
        return None if row is None else Holder(*row)

    def targets(self, key: str) -> tuple[str, ...] | None:
        row = self._connection.execute("SELECT targets FROM alias WHERE key = ?", (key,)).fetchone()
        return None if row is None else tuple(json.loads(row[0]))

    def administrator(self) -> Holder | None:
        row = self._connection.execute(
            "SELECT id, address, quota FROM account"
            " WHERE role = 'admin' AND enabled = 1 AND removed_at IS NULL ORDER BY created_at, rowid LIMIT 1"
        ).fetchone()
        return None if row is None else Holder(*row)
