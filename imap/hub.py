"""News for all sessions of a process: one `storage.watch` for all accounts that have a mailbox selected here.

The hub knows how far each account has come, so that a session can see without asking that nothing happened. What a
session of this process changed is noted before its client hears of it; what other rooms and processes changed comes
with the watch, a moment later. Therefore "nothing new" from the hub is a hint: NOOP, CHECK and IDLE ask storage.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from imap.notify.snapshots import Snapshots
from storage.port import Storage, Unavailable

WATCH_SECONDS = 60.0
GATHER_SECONDS = 0.005
"""How long newly joined accounts are gathered before the watch is asked anew."""
RETRY_SECONDS = 1.0

Notify = Callable[[], None]


class Hub:
    """`start` and `stop` by the service; the rest by sessions, on the event loop's thread."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.snapshots = Snapshots(storage)
        self._modseqs: dict[str, int] = {}
        self._listeners: dict[str, list[Notify]] = {}
        self._joined = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("imap")

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="imap news")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def join(self, account: str, modseq: int, notify: Notify) -> None:
        """Call `notify` when something happens in the account after `modseq`."""
        listeners = self._listeners.setdefault(account, [])
        listeners.append(notify)
        if account not in self._modseqs:
            self._modseqs[account] = modseq
            self._joined.set()

    def leave(self, account: str, notify: Notify) -> None:
        """The end of a `join`."""
        listeners = self._listeners[account]
        listeners.remove(notify)
        if not listeners:
            del self._listeners[account], self._modseqs[account]

    def modseq(self, account: str) -> int:
        """How far the account has come, as far as is known here; 0 for one that nobody joined."""
        return self._modseqs.get(account, 0)

    def note(self, account: str, modseq: int) -> None:
        """The account has come to `modseq`: wakes its sessions where that is news."""
        if modseq > self._modseqs.get(account, modseq):
            self._modseqs[account] = modseq
            for notify in self._listeners[account]:
                notify()

    async def _run(self) -> None:
        while True:
            self._joined.clear()
            joined = asyncio.create_task(self._joined.wait())
            watching = asyncio.create_task(self._watch(WATCH_SECONDS)) if self._modseqs else None
            try:
                await asyncio.wait({joined, watching} if watching else {joined}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                joined.cancel()
                if watching is not None:
                    watching.cancel()
            if self._joined.is_set():
                await asyncio.sleep(GATHER_SECONDS)
                # to its end, so that accounts which keep joining never keep the news from the others
                await self._watch(0.0)

    async def _watch(self, wait: float) -> None:
        try:
            news = await self._storage.watch(dict(self._modseqs), wait)
        except Unavailable:
            await asyncio.sleep(RETRY_SECONDS)
            return
        except Exception:
            self._log.exception("watch failed")
            await asyncio.sleep(RETRY_SECONDS)
            return
        for account, modseq in news.items():
            self.note(account, modseq)
