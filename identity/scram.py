"""The keys of SCRAM-SHA-256 (RFC 5802 §3, RFC 7677): made of a password while it is at hand, and asked for proofs.

All credentials of an account share one salt, since a client is told it before the password is known. It is made of the
account's name by a secret of the store, and that of a name that is nobody's is made in the same way: who asks learns
nothing, however often. The iteration count is one for the whole store, for the same reason; keys made with another
count are as good as none, and are made anew when their password passes.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from identity.limits import MAX_APP_PASSWORDS

MIN_ITERATIONS: Final = 4096
"""RFC 7677 §4."""
MAX_ITERATIONS: Final = 1_000_000
SALT_OCTETS: Final = 16
SECRET_OCTETS: Final = 32
SECRET_NAME: Final = "scram"
"""Of the store's secret, beside others that it may come to have."""
_HASH: Final = "sha256"
_KEY = 32
_PAIR = 2 * _KEY
# The pairs of an account with as many credentials as there may be: the password as it is and as SASLprep makes it, app
# passwords with and without hyphens.
_PAIRS = 2 * (1 + MAX_APP_PASSWORDS)


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """The keys of one credential. keys: StoredKey and ServerKey, 32 octets each, for each form in which clients may
    take the password; b"" where it has none yet."""

    iterations: int
    keys: bytes = field(repr=False)


NO_KEYS: Final = ScramKeys(0, b"")


class ScramRule:
    """How keys are made. secret: of the store; None switches SCRAM off. iterations: of PBKDF2."""

    def __init__(self, secret: bytes | None, iterations: int) -> None:
        if not MIN_ITERATIONS <= iterations <= MAX_ITERATIONS:
            raise ValueError(f"SCRAM iterates {MIN_ITERATIONS} to {MAX_ITERATIONS} times")
        self.secret = secret
        self.iterations = iterations

    @property
    def is_on(self) -> bool:
        return self.secret is not None

    def salt(self, name: str) -> bytes:
        """Of the key of a name, or of a text that is nobody's name. ValueError where SCRAM is off."""
        if self.secret is None:
            raise ValueError("SCRAM is off")
        return hmac.digest(self.secret, b"salt\0" + name.encode("utf-8", "surrogatepass"), _HASH)[:SALT_OCTETS]

    def make(self, name: str, forms: Sequence[bytes]) -> ScramKeys:
        """The keys of a password in its forms. Slow: for a thread."""
        salt = self.salt(name)
        return ScramKeys(self.iterations, b"".join(derived(form, salt, self.iterations) for form in forms))

    def suits(self, keys: ScramKeys) -> bool:
        """Are they keys, and made as now?"""
        return bool(keys.keys) and keys.iterations == self.iterations


def new_secret() -> bytes:
    """For a store that has none."""
    return secrets.token_bytes(SECRET_OCTETS)


def derived(password: bytes, salt: bytes, iterations: int) -> bytes:
    """StoredKey and ServerKey."""
    # RFC 5802 §3
    salted = hashlib.pbkdf2_hmac(_HASH, password, salt, iterations)
    client = hmac.digest(salted, b"Client Key", _HASH)
    return hashlib.sha256(client).digest() + hmac.digest(salted, b"Server Key", _HASH)


def proved(held: Mapping[str, ScramKeys], iterations: int, message: bytes, proof: bytes) -> tuple[str, bytes] | None:
    """(the credential whose keys the proof was made with, ServerSignature), or None.

    held: by credential; those of other counts do not count. It takes as long for an account of many credentials as for
    nobody's.
    """
    pairs = [
        (credential, keys.keys[at : at + _PAIR])
        for credential, keys in held.items()
        if keys.iterations == iterations
        for at in range(0, len(keys.keys), _PAIR)
    ][:_PAIRS]
    found: str | None = None
    server = b""
    for credential, pair in pairs + [("", bytes(_PAIR))] * (_PAIRS - len(pairs)):
        is_it = _is_proof(pair[:_KEY], message, proof)
        if is_it and credential:
            found, server = credential, pair[_KEY:]
    return None if found is None else (found, hmac.digest(server, message, _HASH))


def _is_proof(stored: bytes, message: bytes, proof: bytes) -> bool:
    # RFC 5802 §3: ClientKey is ClientProof XOR ClientSignature, and StoredKey is its hash.
    if len(proof) != _KEY:
        return False
    signature = int.from_bytes(hmac.digest(stored, message, _HASH), "big")
    client = (int.from_bytes(proof, "big") ^ signature).to_bytes(_KEY, "big")
    return hmac.compare_digest(hashlib.sha256(client).digest(), stored)
