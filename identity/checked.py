"""Passwords found right a moment ago: ten connections of one client at once cost one argon2.

Kept: (account, its credential version, a keyed hash of the password) → the credential that it was. The key is random
and of this process, so what is kept tells nothing to who reads the memory later; the version makes a change of password
a miss. A wrong password is never kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable

from runtime.clock import Clock

LIMIT = 10_000

Key = tuple[str, int, bytes]


class Checked:
    """See the module. seconds: how long a good check is remembered, at most 60."""

    def __init__(self, clock: Clock, seconds: float = 60.0, limit: int = LIMIT) -> None:
        self._clock = clock
        self._seconds = min(60.0, seconds)
        self._limit = limit
        self._secret = secrets.token_bytes(32)
        # In the order of their ends, since all live equally long.
        self._good: dict[Key, tuple[str, float]] = {}
        self._running: dict[Key, asyncio.Task[str | None]] = {}

    def fingerprint(self, name: str, password: str) -> bytes:
        """The keyed hash of a password tried for a name: 16 octets."""
        hash = hashlib.blake2b(key=self._secret, digest_size=16)
        for text in (name, password):
            octets = text.encode("utf-8", "surrogatepass")
            hash.update(len(octets).to_bytes(8, "big") + octets)
        return hash.digest()

    def known(self, account: str, version: int, fingerprint: bytes) -> str | None:
        """The credential that the password was found to be well within the time, or None."""
        found = self._good.get((account, version, fingerprint))
        return found[0] if found is not None and self._clock.monotonic() < found[1] else None

    async def check(
        self, account: str, version: int, fingerprint: bytes, compute: Callable[[], Awaitable[str | None]]
    ) -> str | None:
        """The credential that the password is, or None. `compute` runs once for all who ask the same at once, and
        not at all when it answered well within the time; it goes on when who asked has gone."""
        if (known := self.known(account, version, fingerprint)) is not None:
            return known
        key = (account, version, fingerprint)
        task = self._running.get(key)
        if task is None:
            task = asyncio.create_task(self._compute(key, compute), name="password check")
            self._running[key] = task
            task.add_done_callback(lambda done: self._ended(key, done))
        return await asyncio.shield(task)

    async def _compute(self, key: Key, compute: Callable[[], Awaitable[str | None]]) -> str | None:
        credential = await compute()
        if credential is not None:
            now = self._clock.monotonic()
            for old in list(self._good)[:2]:
                if self._good[old][1] <= now or len(self._good) >= self._limit:
                    del self._good[old]
            self._good.pop(key, None)
            self._good[key] = (credential, now + self._seconds)
        return credential

    def _ended(self, key: Key, task: asyncio.Task[str | None]) -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            # Looked at, so that asyncio does not call it forgotten when nobody waits any more.
            task.exception()

    async def close(self) -> None:
        """Wait for the checks in hand."""
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        self._good.clear()
