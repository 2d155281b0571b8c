"""Accounts: made, found, changed, removed."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from identity.adapters.sqlite.base import Base
from identity.adapters.sqlite.rows import ACCOUNT, account_of, end_tokens, find, note_change, other_administrator
from identity.arguments import (
    address_name,
    after_key,
    check_display_name,
    check_quota,
    domain_name,
    login_key,
    mask_names,
    page,
)
from identity.fresh import Fresh, Kept, checked_row, kept, kept_of
from identity.model import Account, ChangeKind, NewAccount, Role
from identity.names import Name
from identity.passwords import check_acceptable
from identity.port import Reason, Refused
from identity.tokens import new_id


class Accounts(Base):
    """accounts, find_account, add_account, set_password, update_account, remove_account and what follows it."""

    async def accounts(self, domain: str | None = None, limit: int = 1000, after: str = "") -> tuple[Account, ...]:
        among = None if domain is None else domain_name(domain)
        begin, rows = after_key(after), page(limit)

        def read(connection: sqlite3.Connection) -> tuple[Account, ...]:
            found = connection.execute(
                f"SELECT {ACCOUNT} FROM account WHERE removed_at IS NULL AND (?1 IS NULL OR domain = ?1) AND key > ?2"
                " ORDER BY key LIMIT ?3",
                (among, begin, rows),
            )
            return tuple(account_of(row) for row in found)

        return await self._read(read)

    async def find_account(self, address: str) -> Account:
        key = login_key(address, self._settings.default_domain)
        row = await self._read(
            lambda c: c.execute(
                f"SELECT {ACCOUNT} FROM account WHERE key = ? AND removed_at IS NULL", (key,)
            ).fetchone()
        )
        if row is None:
            raise Refused(Reason.NO_SUCH_ACCOUNT)
        return account_of(row)

    async def add_account(self, new: NewAccount) -> Account:
        fresh = checked_row(new)
        # Asked before the password is hashed too: a clash should cost nothing.
        await self._read(lambda c: check_free(c, fresh.name))
        made = await kept_of(self._passwords, self._scram, fresh)
        now = self._clock.now()
        return await self._change(lambda c: insert(c, fresh, made, now))

    async def set_password(self, account: str, password: str) -> None:
        check_acceptable(password)
        name = address_name((await self._read(lambda c: find(c, account))).address)
        made = await kept(self._passwords, self._scram, name.key, password)
        await self._change_credentials(lambda c: _set_password(c, account, made))

    async def update_account(
        self,
        account: str,
        *,
        enabled: bool | None = None,
        role: Role | None = None,
        quota: int | None = None,
        no_quota: bool = False,
        display_name: str | None = None,
        mask: Sequence[str] | None = None,
    ) -> Account:
        check_quota(quota)
        check_display_name(display_name)
        masked = None if mask is None else mask_names(mask)

        def update(connection: sqlite3.Connection) -> Account:
            old = find(connection, account)
            given: dict[str, Any] = {}
            if enabled is not None and enabled != old.enabled:
                given["enabled"] = int(enabled)
            if role is not None and role is not old.role:
                given["role"] = role.value
            if given:
                given["version"] = old.version + 1
            if quota is not None or no_quota:
                given["quota"] = None if no_quota else quota
            if display_name is not None:
                given["display_name"] = display_name
            if masked is not None:
                given["mask"] = " ".join(masked)
            loses = old.role is Role.ADMIN and old.enabled and (enabled is False or role is Role.USER)
            if loses and not other_administrator(connection, account):
                raise Refused(Reason.IN_USE, "the last enabled administrator stays one")
            if given:
                names = ", ".join(f"{column} = :{column}" for column in given)
                connection.execute(f"UPDATE account SET {names} WHERE id = :id", given | {"id": account})
            if given.get("enabled") == 0:
                end_tokens(connection, account)
                note_change(connection, account, ChangeKind.DISABLED)
            elif given.get("role") == Role.USER.value:
                # What was signed in as administrator must not stay one.
                note_change(connection, account, ChangeKind.CREDENTIALS)
            return find(connection, account)

        return await self._change(update)

    async def remove_account(self, account: str) -> None:
        now = self._clock.now()
        key = await self._change(lambda c: _remove(c, account, now))
        self._guesses.forget(key)

    async def removed_accounts(self) -> tuple[str, ...]:
        return await self._read(
            lambda c: tuple(
                id for (id,) in c.execute("SELECT id FROM account WHERE removed_at IS NOT NULL ORDER BY removed_at")
            )
        )

    async def finish_removal(self, account: str) -> None:
        await self._change(
            lambda c: c.execute("DELETE FROM account WHERE id = ? AND removed_at IS NOT NULL", (account,)).rowcount
        )


def check_free(connection: sqlite3.Connection, name: Name) -> None:
    """Raises Refused NO_SUCH_DOMAIN, or ALREADY_EXISTS when an account or an alias has the name."""
    if connection.execute("SELECT 1 FROM domain WHERE key = ?", (name.domain,)).fetchone() is None:
        raise Refused(Reason.NO_SUCH_DOMAIN)
    taken = connection.execute(
        "SELECT 1 FROM account WHERE key = ?1 AND removed_at IS NULL UNION ALL SELECT 1 FROM alias WHERE key = ?1",
        (name.key,),
    ).fetchone()
    if taken is not None:
        raise Refused(Reason.ALREADY_EXISTS)


def insert(connection: sqlite3.Connection, fresh: Fresh, made: Kept, now: float) -> Account:
    """Make the account. Raises as `check_free`."""
    check_free(connection, fresh.name)
    new = fresh.new
    id = new_id()
    connection.execute(
        "INSERT INTO account (id, key, domain, address, display_name, role, quota, enabled, version, password_hash,"
        " scram_iterations, scram_keys, password_version, created_at, mask)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, 1, 1, ?, ?, ?, 1, ?, ?)",
        (
            id,
            fresh.name.key,
            fresh.name.domain,
            new.address,
            new.display_name,
            new.role.value,
            new.quota,
            made.hash,
            made.scram.iterations,
            made.scram.keys,
            now,
            " ".join(fresh.mask),
        ),
    )
    return Account(id, new.address, new.display_name, new.role, new.quota, True, 1, now, mask=fresh.mask)


def _set_password(connection: sqlite3.Connection, account: str, made: Kept) -> None:
    find(connection, account)
    connection.execute(
        "UPDATE account SET password_hash = ?, scram_iterations = ?, scram_keys = ?, version = version + 1,"
        " password_version = version + 1 WHERE id = ?",
        (made.hash, made.scram.iterations, made.scram.keys, account),
    )
    ended = end_tokens(connection, account, "password")
    note_change(connection, account, ChangeKind.CREDENTIALS, ("password", *ended))


def _remove(connection: sqlite3.Connection, account: str, now: float) -> str:
    old = find(connection, account)
    if old.role is Role.ADMIN and old.enabled and not other_administrator(connection, account):
        raise Refused(Reason.IN_USE, "the last enabled administrator cannot be removed")
    ((key,),) = connection.execute(
        "UPDATE account SET removed_at = ?, version = version + 1, password_hash = '', scram_iterations = 0,"
        " scram_keys = x'' WHERE id = ? RETURNING key",
        (now, account),
    ).fetchall()
    connection.execute("DELETE FROM app_password WHERE account = ?", (account,))
    connection.execute("DELETE FROM integration WHERE account = ?", (account,))
    connection.execute("DELETE FROM usual_device WHERE name = ?", (key,))
    end_tokens(connection, account)
    note_change(connection, account, ChangeKind.REMOVED)
    return str(key)
