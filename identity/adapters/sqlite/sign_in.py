"""Sign-in's questions to the account tables, and whether what signed in still holds."""

from __future__ import annotations

import sqlite3

from identity import sign_in
from identity.adapters.sqlite.base import Base
from identity.adapters.sqlite.memo import MISSING
from identity.adapters.sqlite.rows import ACCOUNT, account_of
from identity.model import Account, Principal
from identity.sign_in import Signer


class SignIn(Base, sign_in.SignIn):
    """authenticate, still_valid."""

    async def still_valid(self, principal: Principal) -> bool:
        now = self._clock.now()
        return await self._read(lambda c: holds(c, principal, now))

    async def _signer(self, key: str | None) -> Signer | None:
        if key is None:
            return None
        known = self._signers.get(key)
        if known is not MISSING:
            return known
        generation = self._signers.generation
        signer = await self._read(lambda c: _signer(c, key))
        self._signers.put(key, signer, generation)
        return signer

    async def _replace_hash(self, account: str, old: str, new: str) -> None:
        await self._change_credentials(
            lambda c: (
                c.execute(
                    "UPDATE account SET password_hash = ? WHERE id = ? AND password_hash = ?", (new, account, old)
                ).rowcount
            )
        )

    async def _keep_used(self, account: str, app: str, now: float) -> None:
        await self._write(
            lambda c: (
                c.execute(
                    "UPDATE app_password SET last_used = ? WHERE id = ? AND account = ?", (now, app, account)
                ).rowcount
            )
        )


def _signer(connection: sqlite3.Connection, key: str) -> Signer | None:
    row = connection.execute(
        f"SELECT {ACCOUNT}, password_hash FROM account WHERE key = ? AND removed_at IS NULL", (key,)
    ).fetchone()
    if row is None:
        return None
    account = account_of(row[:-1])
    apps = connection.execute("SELECT hash, id FROM app_password WHERE account = ?", (account.id,)).fetchall()
    return Signer(account, row[-1], dict(apps))


def holds(connection: sqlite3.Connection, principal: Principal, now: float) -> bool:
    """Is what the principal signed in with still good for all that the principal may do?"""
    row = connection.execute(
        f"SELECT {ACCOUNT}, password_version FROM account WHERE id = ? AND removed_at IS NULL", (principal.account,)
    ).fetchone()
    if row is None:
        return False
    account: Account = account_of(row[:-1])
    if not sign_in.may_stay(account, principal):
        return False
    kind, _, id = principal.credential.partition(":")
    match kind:
        case "password":
            return bool(principal.version >= row[-1])
        case "app":
            found = connection.execute("SELECT 1 FROM app_password WHERE id = ? AND account = ?", (id, account.id))
        case "token":
            found = connection.execute(
                "SELECT 1 FROM token_family WHERE id = ? AND account = ? AND refresh_expires > ?", (id, account.id, now)
            )
        case _:
            return False
    return found.fetchone() is not None
