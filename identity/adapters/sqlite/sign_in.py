"""Sign-in: guess counters, then the password, then the account."""

from __future__ import annotations

import sqlite3

import structlog

from identity import tokens
from identity.adapters.sqlite.base import REMEMBERED_SIGNERS, Base, Signer
from identity.adapters.sqlite.memo import MISSING
from identity.adapters.sqlite.rows import ACCOUNT, account_of, login_key
from identity.model import Account, Origin, Principal, Role
from identity.port import Reason, Refused, Unavailable

log = structlog.get_logger("identity")

# The time of an app password's last use is written this often at most.
USED_SECONDS = 900.0
# How often one sign-in is begun anew because the account's credentials changed under it.
_TRIES = 3


class SignIn(Base):
    """authenticate, still_valid."""

    async def authenticate(self, name: str, password: str, origin: Origin) -> Principal:
        key = login_key(name, self._settings.default_domain)
        fingerprint = self._checked.fingerprint(key or name, password)
        attempt = await self._guesses.admit(key, origin, fingerprint)
        try:
            for _ in range(_TRIES):
                signer = await self._signer(key)
                credential = await self._credential(key, signer, password, fingerprint)
                if signer is None or credential is None:
                    await self._guesses.wrong(attempt)
                    log.info("sign-in refused", address=origin.address, door=origin.door, known=signer is not None)
                    raise Refused(Reason.BAD_CREDENTIALS)
                latest = await self._signer(key)
                if latest is not None and latest.account.version == signer.account.version:
                    break
            else:
                raise Unavailable("the account changes too often to sign in")
            self._guesses.right(attempt)
        finally:
            self._guesses.end(attempt)
        account = signer.account
        if not account.enabled:
            raise Refused(Reason.DISABLED)
        if credential.startswith("app:"):
            await self._app_used(credential.removeprefix("app:"))
        return Principal(account.id, account.address, account.role, account.quota, credential, account.version)

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

    async def _credential(
        self, key: str | None, signer: Signer | None, password: str, fingerprint: bytes
    ) -> str | None:
        if signer is None:
            # Nobody of that name: the same work under a name that no account id has.
            async def nobody() -> str | None:
                await self._passwords.verify(password, None)
                return None

            return await self._checked.check(f"?{key}", 0, fingerprint, nobody)
        letters = tokens.app_letters(password)
        if letters is not None and (app := signer.apps.get(tokens.kept(letters))) is not None:
            return f"app:{app}"

        async def compute() -> str | None:
            if not await self._passwords.verify(password, signer.password_hash):
                return None
            if self._passwords.needs_update(signer.password_hash):
                await self._upgrade(signer, password)
            return "password"

        return await self._checked.check(signer.account.id, signer.account.version, fingerprint, compute)

    async def _upgrade(self, signer: Signer, password: str) -> None:
        """Replace an imported hash by argon2id, the same password behind it: no version changes, nothing ends."""
        try:
            hash = await self._passwords.hash(password)
            await self._change_credentials(
                lambda c: (
                    c.execute(
                        "UPDATE account SET password_hash = ? WHERE id = ? AND password_hash = ?",
                        (hash, signer.account.id, signer.password_hash),
                    ).rowcount
                )
            )
        except Unavailable as error:
            # The old hash still opens; the next good sign-in tries again.
            log.warning("password hash not upgraded", account=signer.account.id, reason=str(error))

    async def _app_used(self, id: str) -> None:
        now = self._clock.now()
        if now - self._used.get(id, 0.0) < USED_SECONDS:
            return
        if len(self._used) >= REMEMBERED_SIGNERS:
            self._used.clear()
        self._used[id] = now
        try:
            await self._write(
                lambda c: c.execute("UPDATE app_password SET last_used = ? WHERE id = ?", (now, id)).rowcount
            )
        except Unavailable as error:
            log.warning("time of use not kept", credential=f"app:{id}", reason=str(error))


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
    if not account.enabled or (principal.role is Role.ADMIN and account.role is not Role.ADMIN):
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
