"""Password hashes: made and checked on threads of their own, never on the event loop.

argon2id for what is made here (RFC 9106); argon2id, bcrypt and sha512-crypt for what comes with an import. libpass
knows the forms; argon2 and bcrypt let go of the GIL while they work, sha512-crypt is Python and shares it.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from passlib.context import CryptContext  # type: ignore[import-untyped]  # libpass ships no types
from passlib.utils import saslprep  # type: ignore[import-untyped]  # as above

from identity.port import Reason, Refused, Unavailable
from identity.scram import NO_KEYS, ScramKeys, ScramRule
from identity.settings import PasswordSettings

T = TypeVar("T")

MAX_PASSWORD_OCTETS = 1024
# What an imported hash may cost to check: about a second of one core.
MAX_ARGON2_KIB = 256 * 1024
MAX_ARGON2_KIB_PASSES = 2 * 1024 * 1024
MAX_ARGON2_LANES = 16
MAX_BCRYPT_COST = 14
MAX_SHA512_ROUNDS = 1_000_000
_BCRYPT_OCTETS = 72

_SCHEME = re.compile(r"\{[A-Z0-9.-]{1,20}\}")
_ARGON2ID = re.compile(
    r"\$argon2id\$v=19\$m=([0-9]{1,7}),t=([0-9]{1,7}),p=([0-9]{1,3})\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{22,172}"
)
_BCRYPT = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}")
_SHA512 = re.compile(r"\$6\$(?:rounds=([1-9][0-9]{3,8})\$)?[./A-Za-z0-9]{0,16}\$[./A-Za-z0-9]{86}")


class Hasher(Protocol):
    """The slow functions, called on threads."""

    def hash(self, password: str) -> str: ...

    def verify(self, password: str, hash: str) -> bool: ...

    def needs_update(self, hash: str) -> bool:
        """Is the hash of another form, or cheaper, than those made now? Quick."""
        ...


class LibpassHasher:
    """libpass's context: argon2id by the settings, the other forms to check only."""

    def __init__(self, settings: PasswordSettings) -> None:
        self._context = CryptContext(
            schemes=["argon2", "bcrypt", "sha512_crypt"],
            default="argon2",
            deprecated="auto",
            argon2__type="ID",
            argon2__memory_cost=settings.memory_kib,
            argon2__time_cost=settings.iterations,
            argon2__parallelism=settings.lanes,
        )

    def hash(self, password: str) -> str:
        return str(self._context.hash(password.encode("utf-8")))

    def verify(self, password: str, hash: str) -> bool:
        secret = password.encode("utf-8")
        if hash.startswith("$2"):
            # bcrypt has always read 72 octets; its library now refuses longer ones instead of cutting them.
            secret = secret[:_BCRYPT_OCTETS]
        try:
            return bool(self._context.verify(secret, hash))
        except ValueError:
            # A hash that passed `accepted_hash` and that libpass still cannot read opens for nobody.
            return False

    def needs_update(self, hash: str) -> bool:
        return bool(self._context.needs_update(hash))


def check_acceptable(password: str) -> None:
    """Raises Refused BAD_PASSWORD for a password that nobody could sign in with."""
    if not _usable(password):
        raise Refused(Reason.BAD_PASSWORD, "a password has 1 to 1024 octets of UTF-8 and no NUL")


def accepted_hash(text: str) -> str:
    """An imported hash in the form it is kept in. Raises Refused BAD_PASSWORD when it is of no known form, or would
    take too long to check."""
    # Tolerance: Dovecot writes the scheme in front, {ARGON2ID}, {BLF-CRYPT}, {SHA512-CRYPT}.
    prefix = _SCHEME.match(text)
    hash = text[prefix.end() :] if prefix is not None else text
    if found := _ARGON2ID.fullmatch(hash):
        memory, passes, lanes = (int(number) for number in found.groups())
        good = (
            1 <= lanes <= MAX_ARGON2_LANES
            and 8 * lanes <= memory <= MAX_ARGON2_KIB
            and passes >= 1
            and memory * passes <= MAX_ARGON2_KIB_PASSES
        )
    elif found := _BCRYPT.fullmatch(hash):
        good = 4 <= int(found[1]) <= MAX_BCRYPT_COST
    elif found := _SHA512.fullmatch(hash):
        good = int(found[1] or 5000) <= MAX_SHA512_ROUNDS
    else:
        raise Refused(Reason.BAD_PASSWORD, "the hash is neither argon2id nor bcrypt nor sha512-crypt")
    if not good:
        raise Refused(Reason.BAD_PASSWORD, "the hash's cost is out of range")
    return hash


def scram_forms(password: str) -> tuple[bytes, ...]:
    """The forms in which a client may take the password: as SASLprep makes it (RFC 5802 §2.2, RFC 4013), and as it is.

    Tolerance: many clients leave SASLprep out.
    """
    plain = password.encode("utf-8")
    try:
        prepared = str(saslprep(password)).encode("utf-8")
    except ValueError:
        # It has letters that SASLprep forbids: clients take it as it is, or not at all.
        return (plain,)
    return (prepared, plain) if prepared and prepared != plain else (plain,)


class Passwords:
    """A bounded pool of threads around a hasher. Every method may raise Unavailable: too many checks wait."""

    def __init__(self, settings: PasswordSettings, hasher: Hasher | None = None) -> None:
        self.threads = settings.threads
        self._hasher = hasher or LibpassHasher(settings)
        self._limit = settings.threads + settings.waiting
        self._inside = 0
        self._pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="passwords")
        self._dummy = ""

    async def open(self) -> None:
        """Load the libraries, and make the hash that unknown names are checked against."""
        self._dummy = await self.hash(secrets.token_urlsafe(16))

    async def hash(self, password: str) -> str:
        """A new hash; the password has passed `check_acceptable`."""
        return await self._run(lambda: self._hasher.hash(password))

    async def verify(self, password: str, hash: str | None) -> bool:
        """Is it the password of the hash? With None it takes as long and says no."""
        usable = _usable(password)
        against = hash if hash is not None and usable else self._dummy
        tried = password if usable else "x"
        return await self._run(lambda: self._hasher.verify(tried, against)) and hash is not None and usable

    async def scram_keys(self, rule: ScramRule, name: str, forms: Sequence[bytes]) -> ScramKeys:
        """The keys of a password in its forms, for the key of its account's name; none where SCRAM is off."""
        return await self._run(lambda: rule.make(name, forms)) if rule.is_on else NO_KEYS

    def needs_update(self, hash: str) -> bool:
        """Should the hash be made anew, now that the password is at hand?"""
        return self._hasher.needs_update(hash)

    async def close(self) -> None:
        """Let the checks in hand end."""
        await asyncio.get_running_loop().run_in_executor(None, self._pool.shutdown)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._inside >= self._limit:
            raise Unavailable("too many passwords wait to be checked")
        self._inside += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        # Counted until the thread is done, also when whoever asked has gone.
        future.add_done_callback(self._left)
        return await asyncio.shield(future)

    def _left(self, future: asyncio.Future[T]) -> None:
        self._inside -= 1
        if not future.cancelled():
            future.exception()


def _usable(password: str) -> bool:
    try:
        return 0 < len(password.encode("utf-8")) <= MAX_PASSWORD_OCTETS and "\0" not in password
    except UnicodeEncodeError:
        return False
