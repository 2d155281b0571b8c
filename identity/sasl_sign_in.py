"""Signing in by what is no password: a bearer token, and proofs of SCRAM."""

from __future__ import annotations

from abc import abstractmethod

import structlog

from identity import scram
from identity.arguments import login_key
from identity.model import Origin, Principal, ScramSalt, ScramSigned
from identity.port import Reason, Refused
from identity.sign_in import SignIn

log = structlog.get_logger("identity")

MAX_MESSAGE_OCTETS = 64 * 1024
"""Of an auth_message: three lines of SASL are less."""


class SaslSignIn(SignIn):
    """authenticate_token, scram_ready, scram_start, scram_finish."""

    @abstractmethod
    async def verify_token(self, access: str) -> Principal:
        """The port's."""

    @abstractmethod
    async def _lacks_keys(self, iterations: int) -> bool:
        """Is there an enabled account with a credential that has no keys of this count?"""

    async def authenticate_token(self, name: str, access: str, origin: Origin) -> Principal:
        # A token has 256 random bits, so that none is guessed: a good one is let in whatever others have tried from
        # the same address, and costs no write.
        try:
            principal = await self.verify_token(access)
            if name and login_key(name, self._settings.default_domain) != self._key_of(principal):
                raise Refused(Reason.BAD_CREDENTIALS)
        except Refused:
            attempt = await self._guesses.admit(None, origin, self._checked.fingerprint("", access))
            try:
                await self._guesses.charge(attempt)
                await self._guesses.wrong(attempt)
            finally:
                self._guesses.end(attempt)
            log.info("token refused", address=origin.address, door=origin.door)
            raise
        if (key := self._key_of(principal)) is not None:
            await self._guesses.seen(key, origin)
        return principal

    def _key_of(self, principal: Principal) -> str | None:
        return login_key(principal.address, self._settings.default_domain)

    async def scram_ready(self) -> bool:
        return self._scram.is_on and not await self._lacks_keys(self._scram.iterations)

    async def scram_start(self, name: str, origin: Origin) -> ScramSalt:
        if not self._scram.is_on:
            raise Refused(Reason.BAD_CREDENTIALS)
        # Nothing is looked up: who is here and who is not takes the same time.
        salt = self._scram.salt(login_key(name, self._settings.default_domain) or f"?{name}")
        return ScramSalt(salt, self._scram.iterations)

    async def scram_finish(self, name: str, auth_message: bytes, proof: bytes, origin: Origin) -> ScramSigned:
        if not self._scram.is_on or len(auth_message) > MAX_MESSAGE_OCTETS:
            raise Refused(Reason.BAD_CREDENTIALS)
        key = login_key(name, self._settings.default_domain)
        attempt = await self._guesses.admit(key, origin, self._checked.fingerprint(key or name, proof.hex()))
        try:
            await self._guesses.charge(attempt)
            signer = await self._signer(key)
            held = {} if signer is None else signer.scram
            found = scram.proved(held, self._scram.iterations, auth_message, proof)
            if signer is None or found is None:
                await self._guesses.wrong(attempt)
                log.info("sign-in refused", address=origin.address, door=origin.door, known=signer is not None)
                raise Refused(Reason.BAD_CREDENTIALS)
            await self._guesses.right(attempt)
        finally:
            self._guesses.end(attempt)
        credential, signature = found
        return ScramSigned(await self._principal(signer, credential), signature)
