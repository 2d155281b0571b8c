"""News within the process: who waits for a change of an account is woken after its commit. For one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping


class Hub:
    """Knows the newest modseq of each account that was asked for or changed, and wakes waiters once for many."""

    def __init__(self) -> None:
        self._newest: dict[str, int] = {}
        self._waiters: set[_Waiter] = set()
        self._closed = False

    def publish(self, modseqs: Mapping[str, int]) -> None:
        """Changes that are durable now. A modseq that is not news is ignored."""
        news = {account: modseq for account, modseq in modseqs.items() if modseq > self._newest.get(account, 0)}
        if not news:
            return
        self._newest.update(news)
        for waiter in self._waiters:
            waiter.tell(news)

    def unknown(self, accounts: Iterable[str]) -> list[str]:
        """Those of the accounts whose modseq has to be read before they can be waited for."""
        return [account for account in accounts if account not in self._newest]

    def learn(self, accounts: Iterable[str], modseqs: Mapping[str, int]) -> None:
        """What was read of accounts that were unknown; those without a modseq do not exist yet."""
        self.publish(modseqs)
        for account in accounts:
            self._newest.setdefault(account, 0)

    async def wait(self, accounts: Mapping[str, int], seconds: float) -> dict[str, int]:
        """The accounts with news, at once if there are any or the hub is closed, else after the first change or
        ``seconds``."""
        found = {
            account: newest for account, seen in accounts.items() if (newest := self._newest.get(account, 0)) > seen
        }
        if found or seconds <= 0 or self._closed:
            return found
        waiter = _Waiter(accounts)
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout(seconds):
                await waiter.woken.wait()
        except TimeoutError:
            return {}
        finally:
            self._waiters.discard(waiter)
        return waiter.found

    def close(self) -> None:
        """End every wait, and those that begin later at once: the store closes."""
        self._closed = True
        for waiter in self._waiters:
            waiter.woken.set()


class _Waiter:
    def __init__(self, accounts: Mapping[str, int]) -> None:
        self._accounts = accounts
        self.found: dict[str, int] = {}
        self.woken = asyncio.Event()

    def tell(self, news: Mapping[str, int]) -> None:
        for account, modseq in news.items():
            if modseq > self._accounts.get(account, modseq):
                self.found[account] = modseq
                self.woken.set()


class Bell:
    """Wakes who waits for work, all at once. For one event loop.

    Read ``rung`` before looking for work, so that what comes between the look and the wait is not missed.
    """

    def __init__(self) -> None:
        self.rung = 0
        self._waiting: set[asyncio.Event] = set()

    def ring(self) -> None:
        self.rung += 1
        for waiting in self._waiting:
            waiting.set()

    async def wait(self, rung: int, seconds: float) -> None:
        """Until it has rung since ``rung`` was read, at most so many seconds."""
        if self.rung != rung or seconds <= 0:
            return
        waiting = asyncio.Event()
        self._waiting.add(waiting)
        try:
            async with asyncio.timeout(seconds):
                await waiting.wait()
        except TimeoutError:
            return
        finally:
            self._waiting.discard(waiting)
