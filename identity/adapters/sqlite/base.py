"""What the parts of the SQLite adapter share: the database, the memos, the news of a change."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from identity.adapters.sqlite.memo import Memo
from identity.checked import Checked
from identity.guesses import Guard
from identity.model import Resolution
from identity.passwords import Passwords
from identity.port import Unavailable
from identity.scram import ScramRule
from identity.settings import IdentitySettings
from identity.sign_in import Signer
from identity.to_the_end import ToTheEnd
from runtime.clock import Clock
from runtime.sqlite import Database, DatabaseUnavailable

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]

# Domains seen on the wire, ours or not; addresses; names that sign in. About 15 MiB together when full of plain names.
REMEMBERED_DOMAINS = 10_000
REMEMBERED_ADDRESSES = 10_000
# What leads to more is resolved each time, so that the addresses of one long list (list+1, list+2, …) fill no memory.
REMEMBERED_TARGETS = 16
REMEMBERED_SIGNERS = 10_000


class Base:
    """See the module. The mixins of one adapter are made once, together, by `SqliteIdentity`."""

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        guesses: Guard,
        checked: Checked,
        scram: ScramRule,
        settings: IdentitySettings,
        clock: Clock,
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._guesses = guesses
        self._checked = checked
        self._scram = scram
        self._settings = settings
        self._clock = clock
        self._ours: Memo[str, bool] = Memo(REMEMBERED_DOMAINS)
        self._resolved: Memo[str, Resolution] = Memo(REMEMBERED_ADDRESSES)
        self._senders: Memo[tuple[str, str], bool] = Memo(REMEMBERED_ADDRESSES)
        self._signers: Memo[str, Signer | None] = Memo(REMEMBERED_SIGNERS)
        self._used: dict[str, float] = {}
        self._news = asyncio.Event()
        self._closed = False
        self._writes = ToTheEnd("identity change")

    async def _read(self, job: Job[T]) -> T:
        try:
            return await self._database.read(job)
        except DatabaseUnavailable as error:
            raise Unavailable(str(error)) from error

    async def _write(self, job: Job[T]) -> T:
        """A write that nothing remembered depends on."""
        try:
            return await self._database.write(job)
        except DatabaseUnavailable as error:
            raise Unavailable(str(error)) from error

    async def _change(self, job: Job[T]) -> T:
        """A write after which no name leads where it did: nothing remembered holds."""
        return await self._to_the_end(job, (self._ours, self._resolved, self._senders, self._signers))

    async def _change_credentials(self, job: Job[T]) -> T:
        """A write after which names lead where they did, and passwords may not."""
        return await self._to_the_end(job, (self._signers,))

    async def _change_tokens(self, job: Job[T]) -> T:
        """A write of tokens alone: nothing of them is remembered."""
        return await self._to_the_end(job, ())

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _to_the_end(self, job: Job[T], memos: Sequence[Memo[Any, Any]]) -> T:
        """Write, then forget and tell, even when the caller is cancelled: a job handed in commits all the same."""

        async def work() -> T:
            try:
                return await self._write(job)
            finally:
                # Also when it failed: after a failed sync it is in doubt whether the change was made.
                for memo in memos:
                    memo.clear()
                self._tell()

        return await self._writes.run(work())
