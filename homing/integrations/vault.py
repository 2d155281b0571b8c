"""Secrets of integrations at rest: sealed with AES-256-GCM under a key of this server, which no store holds.

What is sealed names its key by an id, so that keys can follow one another, and is bound to the account and to the
server that the secrets are told to: put beside another host, or into another account, it does not open.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runtime.lifecycle import StartError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_OCTETS: Final = 32
NONCE_OCTETS: Final = 12
"""NIST SP 800-38D §8.2: of random nonces; far fewer than 2**32 are made under one key."""
FILE: Final = "secrets.key"
HOW: Final = 'python3 -c "import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())"'
"""What prints a new key."""
EXIT_CONFIG: Final = 78


class SecretsUnreadable(Exception):
    """There is no key to seal with, or not the one that was sealed with. The text says what to do."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """key: id of the key. octets: nonce and ciphertext with its tag."""

    key: str
    octets: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, repr=False)
class Key:
    """One key. id: a digest of it, which tells nothing of the key."""

    id: str
    octets: bytes

    def __repr__(self) -> str:
        return f"Key({self.id!r})"


class Vault:
    """keys: the first one seals, all of them open. file: where a key is kept, and made where there is none to seal
    with; None for none."""

    def __init__(self, keys: tuple[Key, ...] = (), file: Path | None = None) -> None:
        self._keys = keys
        self._file = file
        self._making = asyncio.Lock()

    @property
    def present(self) -> str | None:
        """The id of the key that seals; None before there is one."""
        return self._keys[0].id if self._keys else None

    @property
    def known(self) -> frozenset[str]:
        """The ids of all keys."""
        return frozenset(key.id for key in self._keys)

    async def seal(self, secrets: Mapping[str, str], bound: str) -> Sealed:
        """bound: what they belong to. Raises SecretsUnreadable without a key."""
        if not self._keys:
            await self._make()
        key, nonce = self._keys[0], os.urandom(NONCE_OCTETS)
        plain = json.dumps(dict(secrets)).encode()
        return Sealed(key.id, nonce + _cipher(key).encrypt(nonce, plain, _about(key.id, bound)))

    def open(self, sealed: Sealed, bound: str) -> dict[str, str]:
        """What was sealed. Raises SecretsUnreadable."""
        from cryptography.exceptions import InvalidTag

        key = next((one for one in self._keys if one.id == sealed.key), None)
        if key is None:
            raise SecretsUnreadable(
                f"The secret is sealed with the key {sealed.key}, which this server does not have"
                f" ({', '.join(one.id for one in self._keys) or 'it has none'}): give that key back to it"
                " (HOMING_SECRETS_KEY, or HOMING_SECRETS_OLD beside a new one), or store the secret again."
            )
        nonce, text = sealed.octets[:NONCE_OCTETS], sealed.octets[NONCE_OCTETS:]
        try:
            plain = _cipher(key).decrypt(nonce, text, _about(key.id, bound))
        except (InvalidTag, ValueError):
            raise SecretsUnreadable(
                "The stored secret does not belong to this account and server, or was damaged: store it again."
            ) from None
        return {str(name): str(value) for name, value in json.loads(plain).items()}

    async def _make(self) -> None:
        if self._file is None:
            raise SecretsUnreadable(
                "This server has no key for secrets, and keeps none without: its administrator sets HOMING_SECRETS_KEY,"
                f" the same for all services, to what this prints: {HOW}"
            )
        async with self._making:
            if not self._keys:
                self._keys = (await asyncio.to_thread(_made, self._file),)


def parse_key(text: str) -> Key:
    """From base64, as settings and the key file have it. ValueError says what is wrong, without the text."""
    written = text.strip().replace("-", "+").replace("_", "/")
    try:
        octets = base64.b64decode(written + "=" * (-len(written) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"is not base64 of {KEY_OCTETS} octets; this prints a key: {HOW}") from None
    if len(octets) != KEY_OCTETS:
        raise ValueError(f"has {len(octets)} octets in base64, not {KEY_OCTETS}; this prints a key: {HOW}")
    return Key(hashlib.sha256(b"homing secrets key\0" + octets).hexdigest()[:16], octets)


def open_vault(present: str | None, old: str | None, folder: Path | None) -> Vault:
    """present, old: keys as text, old ones separated by commas or blanks. folder: the data folder of a server that is
    all in one process; its key file is used, or made when a secret is stored first. Raises StartError."""
    keys: list[Key] = []
    texts = [("secrets.key", present or "")]
    texts += [("secrets.old", one) for one in re.split(r"[\s,]+", old or "")]
    file = None if folder is None else folder / FILE
    if file is not None and file.exists():
        texts.append((str(file), _read(file)))
    for where, text in texts:
        if text.strip():
            try:
                key = parse_key(text)
            except ValueError as error:
                raise StartError(f"{where} {error}.", exit_code=EXIT_CONFIG) from None
            keys += [key] if key.id not in [one.id for one in keys] else []
    if not present and not (file is not None and file.exists()):
        if keys:
            raise StartError("secrets.old is set without secrets.key, which seals.", exit_code=EXIT_CONFIG)
        return Vault((), file)
    if not present and file is not None:
        # Its own key seals, whatever old ones are named besides.
        own = parse_key(_read(file))
        keys.sort(key=lambda one: one.id != own.id)
    return Vault(tuple(keys), file)


def _read(file: Path) -> str:
    """What is in a key file that is its owner's alone. Raises StartError."""
    try:
        with file.open(encoding="ascii") as opened:
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
            if mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise StartError(
                    f"The key in {file} is open to others than its owner (mode {mode:04o}), and may be known to them:"
                    f" `chmod 600 {file}`; where somebody may have read it, set a new key as HOMING_SECRETS_KEY, and"
                    " this one as HOMING_SECRETS_OLD.",
                    exit_code=EXIT_CONFIG,
                )
            return opened.read()
    except (OSError, UnicodeError) as error:
        raise StartError(f"The key in {file} cannot be read: {error}.", exit_code=EXIT_CONFIG) from error


def _made(file: Path) -> Key:
    """A new key, durable in the file before anything is sealed with it; the one that is there where somebody was
    first. Raises SecretsUnreadable."""
    text = base64.urlsafe_b64encode(os.urandom(KEY_OCTETS))
    part = file.with_name(f"{file.name}.{os.urandom(4).hex()}")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            os.write(descriptor, text + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            os.link(part, file)
        except FileExistsError:
            pass
        finally:
            part.unlink()
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return parse_key(file.read_text("ascii"))
    except (OSError, ValueError) as error:
        raise SecretsUnreadable(f"No key for secrets can be kept in {file}: {error}.") from error


def _cipher(key: Key) -> AESGCM:
    # Imported late: no start needs it.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key.octets)


def _about(key: str, bound: str) -> bytes:
    return f"homing integration 1\0{key}\0{bound}".encode()
