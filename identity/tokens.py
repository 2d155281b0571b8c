"""Secrets that identity makes: bearer tokens, app passwords, first passwords; and how they are kept.

Pure but for the system's random numbers. What is made here has more than 100 random bits, so SHA-256 keeps it as well
as a slow hash would: nobody can try all of them.
"""

from __future__ import annotations

import hashlib
import secrets
import string
from dataclasses import dataclass, field

from identity.model import Token

_LETTERS = string.ascii_lowercase
_APP_LETTERS = 24
MAX_TOKEN_CHARACTERS = 256


@dataclass(frozen=True, slots=True)
class Pair:
    """An access token and the refresh token that renews it. Expires: Unix seconds."""

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    access_expires: float
    refresh_expires: float

    def token(self, account: str) -> Token:
        """As it is handed out."""
        return Token(self.access, self.refresh, self.access_expires, account)


def new_pair(now: float, access_seconds: float, refresh_seconds: float) -> Pair:
    """A pair that is good from now on for so many seconds each."""
    return Pair(new_access(), new_refresh(), now + access_seconds, now + refresh_seconds)


def new_access() -> str:
    """An access token: 256 bits. The prefix lets a scanner for leaked secrets know it."""
    return "homing_at_" + secrets.token_urlsafe(32)


def new_refresh() -> str:
    """A refresh token: 256 bits."""
    return "homing_rt_" + secrets.token_urlsafe(32)


def kept(token: str) -> bytes:
    """The form in which a token is stored and looked up: SHA-256, 32 octets."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def new_id() -> str:
    """An id that is never made twice: 80 random bits as 16 letters and digits."""
    number = secrets.randbits(80)
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
    return "".join(alphabet[number >> shift & 31] for shift in range(75, -5, -5))


def new_app_secret() -> str:
    """An app password, 24 letters in groups of four: 112 bits."""
    return _grouped(_APP_LETTERS)


def new_password() -> str:
    """A password for a person to copy once, 16 letters in groups of four: 75 bits. It is kept as any password is."""
    return _grouped(16)


def app_letters(password: str) -> str | None:
    """The letters of what may be an app password, else None.

    Tolerance: people retype it, so case, hyphens and spaces do not count.
    """
    if len(password) > 2 * _APP_LETTERS:
        return None
    letters = password.replace("-", "").replace(" ", "").lower()
    if len(letters) == _APP_LETTERS and letters.isascii() and letters.isalpha():
        return letters
    return None


def app_forms(secret: str) -> tuple[bytes, ...]:
    """An app password as it was shown, and without its hyphens: as a client that sends no password may take it."""
    return secret.encode("ascii"), secret.replace("-", "").encode("ascii")


def shown(letters: str) -> str:
    """The letters of a secret in groups, as it is shown."""
    return "-".join(letters[at : at + 4] for at in range(0, len(letters), 4))


def _grouped(count: int) -> str:
    return shown("".join(secrets.choice(_LETTERS) for _ in range(count)))
