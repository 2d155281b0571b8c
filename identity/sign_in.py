"""Sign-in: guess counters, then the password, then the account. What a store adds is three questions about accounts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from identity import tokens
from identity.arguments import joined_mask, login_key
from identity.checked import Checked
from identity.guesses import Attempt, Guard
from identity.model import Account, Origin, Principal, Role
from identity.passwords import Passwords, scram_forms
from identity.port import Reason, Refused, Unavailable
from identity.scram import NO_KEYS, ScramKeys, ScramRule
from identity.settings import IdentitySettings
from runtime.clock import Clock

log = structlog.get_logger("identity")

# The time of an app password's last use is written this often at most, by each process.
USED_SECONDS = 900.0
REMEMBERED_USES = 10_000
# How often one sign-in is begun anew because the account's credentials changed under it.
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Signer:
    """An account as sign-in needs it. key: of its name. apps: the kept form of each app password, and its id. scram:
    the keys of each credential that has any. masks: of each app password that has one, by credential."""

    account: Account
    key: str
    password_hash: str = field(repr=False)
    apps: dict[bytes, str] = field(repr=False)
    scram: Mapping[str, ScramKeys] = field(repr=False)
    masks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class SignIn(ABC):
    """authenticate. An adapter's class has these attributes, and answers the questions below."""

    _checked: Checked
    _clock: Clock
    _guesses: Guard
    _passwords: Passwords
    _scram: ScramRule
    _settings: IdentitySettings
    # When the use of each app password was written last.
    _used: dict[str, float]

    @abstractmethod
    async def _signer(self, key: str | None) -> Signer | None:
        """Who signs in by this key; None for nobody."""

    @abstractmethod
    async def _replace_hash(self, account: str, old: str, new: str) -> None:
        """Keep the password under another hash, unless it is no longer the old one. No version changes."""

    @abstractmethod
    async def _keep_keys(self, signer: Signer, credential: str, keys: ScramKeys) -> None:
        """Keep SCRAM's keys of a credential, unless the account's credentials have changed meanwhile. No version
        changes."""

    @abstractmethod
    async def _keep_used(self, account: str, app: str, now: float) -> None:
        """The app password was used now."""

    async def authenticate(self, name: str, password: str, origin: Origin) -> Principal:
        key = login_key(name, self._settings.default_domain)
        fingerprint = self._checked.fingerprint(key or name, password)
        attempt = await self._guesses.admit(key, origin, fingerprint)
        try:
            signer, credential = await self._signed(key, password, fingerprint, attempt)
            if signer is None or credential is None:
                await self._guesses.wrong(attempt)
                log.info("sign-in refused", address=origin.address, door=origin.door, known=signer is not None)
                raise Refused(Reason.BAD_CREDENTIALS)
            await self._guesses.right(attempt)
        finally:
            self._guesses.end(attempt)
        await self._make_keys(signer, credential, password)
        return await self._principal(signer, credential)

    async def _principal(self, signer: Signer, credential: str) -> Principal:
        """Who has signed in. Raises Refused DISABLED."""
        account = signer.account
        if not account.enabled:
            raise Refused(Reason.DISABLED)
        if credential.startswith("app:"):
            await self._app_used(account.id, credential.removeprefix("app:"))
        return principal_of(account, credential, signer.masks.get(credential, ()))

    async def _signed(
        self, key: str | None, password: str, fingerprint: bytes, attempt: Attempt
    ) -> tuple[Signer | None, str | None]:
        """Who it is and by what credential, the two of one moment; None for a name or a password that is wrong."""
        charged = False
        for _ in range(_TRIES):
            signer = await self._signer(key)
            if signer is not None and (credential := self._known(signer, password, fingerprint)) is not None:
                return signer, credential
            if not charged:
                await self._guesses.charge(attempt)
                charged = True
            credential = await self._compute(key, signer, password, fingerprint)
            if signer is None or credential is None:
                return signer, None
            latest = await self._signer(key)
            if latest is not None and latest.account.version == signer.account.version:
                return signer, credential
        raise Unavailable("the account changes too often to sign in")

    def _known(self, signer: Signer, password: str, fingerprint: bytes) -> str | None:
        """The credential, where that needs no slow hash."""
        letters = tokens.app_letters(password)
        if letters is not None and (app := signer.apps.get(tokens.kept(letters))) is not None:
            return f"app:{app}"
        return self._checked.known(signer.account.id, signer.account.version, fingerprint)

    async def _compute(self, key: str | None, signer: Signer | None, password: str, fingerprint: bytes) -> str | None:
        if signer is None:
            # Nobody of that name: the same work under a name that no account id has.
            async def nobody() -> str | None:
                await self._passwords.verify(password, None)
                return None

            return await self._checked.check(f"?{key}", 0, fingerprint, nobody)

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
            await self._replace_hash(signer.account.id, signer.password_hash, hash)
        except Unavailable as error:
            # The old hash still opens; the next good sign-in tries again.
            log.warning("password hash not upgraded", account=signer.account.id, reason=str(error))

    async def _make_keys(self, signer: Signer, credential: str, password: str) -> None:
        """The password is at hand: give its credential keys for SCRAM, where it has none as they are made now."""
        if not self._scram.is_on or self._scram.suits(signer.scram.get(credential, NO_KEYS)):
            return
        letters = tokens.app_letters(password)
        forms = (
            tokens.app_forms(tokens.shown(letters)) if letters and credential != "password" else scram_forms(password)
        )
        try:
            keys = await self._passwords.scram_keys(self._scram, signer.key, forms)
            await self._keep_keys(signer, credential, keys)
        except Unavailable as error:
            # It has signed in all the same; the next good sign-in tries again.
            log.warning("keys for SCRAM not kept", account=signer.account.id, reason=str(error))

    async def _app_used(self, account: str, app: str) -> None:
        now = self._clock.now()
        if now - self._used.get(app, 0.0) < USED_SECONDS:
            return
        if len(self._used) >= REMEMBERED_USES:
            self._used.clear()
        self._used[app] = now
        try:
            await self._keep_used(account, app, now)
        except Unavailable as error:
            log.warning("time of use not kept", credential=f"app:{app}", reason=str(error))


def principal_of(account: Account, credential: str, mask: tuple[str, ...]) -> Principal:
    """Who signed in with that credential, which has a mask of its own or ()."""
    masked = joined_mask(account.mask, mask)
    return Principal(account.id, account.address, account.role, account.quota, credential, account.version, masked)


def may_stay(account: Account, principal: Principal) -> bool:
    """Does the account still allow what the principal signed in as? Its credential is another question."""
    return account.enabled and (principal.role is not Role.ADMIN or account.role is Role.ADMIN)
