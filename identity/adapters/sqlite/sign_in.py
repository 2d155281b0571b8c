"""Sign-in's questions to the account tables, and whether what signed in still holds."""

from __future__ import annotations

import sqlite3

from identity import sign_in
from identity.adapters.sqlite.base import Base
from identity.adapters.sqlite.memo import MISSING
from identity.adapters.sqlite.rows import ACCOUNT, account_of
from identity.model import Account, Principal
from identity.sasl_sign_in import SaslSignIn
from identity.scram import ScramKeys
from identity.sign_in import Signer


class SignIn(Base, SaslSignIn):
    """authenticate and its like, still_valid."""

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

    async def _keep_keys(self, signer: Signer, credential: str, keys: ScramKeys) -> None:
        account, (kind, _, app) = signer.account, credential.partition(":")
        if kind == "password":
            await self._change_credentials(
                lambda c: (
                    c.execute(
                        "UPDATE account SET scram_iterations = ?, scram_keys = ? WHERE id = ? AND version = ?",
                        (keys.iterations, keys.keys, account.id, account.version),
                    ).rowcount
                )
            )
        else:
            await self._change_credentials(
                lambda c: (
                    c.execute(
                        "UPDATE app_password SET scram_iterations = ?, scram_keys = ? WHERE id = ? AND account = ?",
                        (keys.iterations, keys.keys, app, account.id),
                    ).rowcount
                )
            )

    async def _lacks_keys(self, iterations: int) -> bool:
        return await self._read(lambda c: _lacks_keys(c, iterations))

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
        f"SELECT {ACCOUNT}, password_hash, scram_iterations, scram_keys FROM account"
        " WHERE key = ? AND removed_at IS NULL",
        (key,),
    ).fetchone()
    if row is None:
        return None
    *of_account, hash, iterations, keys = row
    account = account_of(tuple(of_account))
    scram = {"password": ScramKeys(iterations, keys)} if keys else {}
    apps: dict[bytes, str] = {}
    masks: dict[str, tuple[str, ...]] = {}
    for kept, id, iterations, keys, mask in connection.execute(
        "SELECT hash, id, scram_iterations, scram_keys, mask FROM app_password WHERE account = ?", (account.id,)
    ):
        apps[kept] = id
        if keys:
            scram[f"app:{id}"] = ScramKeys(iterations, keys)
        if mask:
            masks[f"app:{id}"] = tuple(mask.split())
    return Signer(account, key, hash, apps, scram, masks)


def _lacks_keys(connection: sqlite3.Connection, iterations: int) -> bool:
    (lacks,) = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM account WHERE scram_iterations < ?1 AND enabled = 1 AND removed_at IS NULL)"
        " OR EXISTS (SELECT 1 FROM account WHERE scram_iterations > ?1 AND enabled = 1 AND removed_at IS NULL)"
        " OR EXISTS (SELECT 1 FROM app_password JOIN account ON account.id = account AND enabled = 1"
        " WHERE app_password.scram_iterations < ?1)"
        " OR EXISTS (SELECT 1 FROM app_password JOIN account ON account.id = account AND enabled = 1"
        " WHERE app_password.scram_iterations > ?1)",
        (iterations,),
    ).fetchone()
    return bool(lacks)


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
