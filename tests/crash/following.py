"""A client of the storage port that follows mailboxes by their changes, while the processes behind the port die.

It keeps a copy of each mailbox that is made of `changes` alone, as a mail client with QRESYNC does, and says what may
not be: a counter that goes back, a uid that comes late or again, a change at or below a modseq that was told before. At
rest the copy and the mailbox are the same.
"""

from __future__ import annotations

import asyncio
import threading
import traceback
from dataclasses import dataclass, field

from storage.adapters.http.adapter import open_http
from storage.model import Changes, Entry, Mailbox
from storage.port import Storage, Unavailable
from tests.crash.checking import all_entries
from tests.crash.records import Records

EVERY = 0.05
"""Seconds between two rounds."""


@dataclass(slots=True)
class Copy:
    """What is known of one mailbox. seen: every uid there ever was, to its email."""

    name: str
    mailbox: Mailbox
    since: int = 0
    entries: dict[int, Entry] = field(default_factory=dict)
    seen: dict[int, str] = field(default_factory=dict)

    def counters(self, now: Mailbox) -> list[str]:
        """What is wrong with these, read later."""
        wrong = [
            f"{self.name}: {counter} went from {before} to {after}"
            for counter in ("highest_modseq", "uidnext")
            if (after := getattr(now, counter)) < (before := getattr(self.mailbox, counter))
        ]
        if now.uidvalidity != self.mailbox.uidvalidity:
            wrong.append(f"{self.name}: uidvalidity went from {self.mailbox.uidvalidity} to {now.uidvalidity}")
        self.mailbox = now
        return wrong

    def take(self, news: Changes) -> list[str]:
        """Change the copy; what is wrong with the news."""
        wrong: list[str] = []
        highest = max(self.seen, default=0)
        for entry in news.entries:
            if not self.since < entry.modseq <= news.through:
                wrong.append(
                    f"{entry.uid} has modseq {entry.modseq} in the changes from {self.since} to {news.through}"
                )
            if entry.uid in self.seen:
                if self.seen[entry.uid] != entry.email:
                    wrong.append(f"uid {entry.uid} was {self.seen[entry.uid]} and is {entry.email}")
                if entry.uid not in self.entries:
                    wrong.append(f"uid {entry.uid} had vanished and is there again")
            elif entry.uid <= highest:
                wrong.append(f"uid {entry.uid} appeared after {highest} was seen")
            if (before := self.entries.get(entry.uid)) is not None and before.modseq >= entry.modseq:
                wrong.append(f"uid {entry.uid}: modseq went from {before.modseq} to {entry.modseq}")
        for entry in news.entries:
            self.entries[entry.uid] = entry
            self.seen[entry.uid] = entry.email
        for first, last in news.vanished:
            for uid in [uid for uid in self.entries if first <= uid <= last]:
                del self.entries[uid]
        if news.through < self.since:
            wrong.append(f"through went from {self.since} to {news.through}")
        self.since = news.through
        return [f"{self.name}: {text}" for text in wrong]


class Follower(threading.Thread):
    """Follows all mailboxes of these accounts (name → account id) until `end`."""

    def __init__(self, url: str, token: str, accounts: dict[str, str], records: Records) -> None:
        super().__init__(name="follower", daemon=True)
        self._url, self._token, self._accounts, self._records = url, token, accounts, records
        self._copies: dict[str, Copy] = {}
        self._modseqs: dict[str, int] = {}
        self._ended = threading.Event()
        self.rounds = 0

    def run(self) -> None:
        try:
            asyncio.run(self._follow())
        except Exception:
            self._records.accuse(f"the follower:\n{traceback.format_exc()}")

    def end(self) -> None:
        """Follow to the end; the load has ended. What was wrong stands in the records."""
        self._ended.set()
        self.join(120)
        assert not self.is_alive(), "the follower hangs"

    async def _follow(self) -> None:
        storage = open_http(self._url, self._token)
        try:
            while not self._ended.is_set():
                await self._round(storage)
                await asyncio.sleep(EVERY)
            await self._round(storage, patient=True)
            for copy in self._copies.values():
                there = {entry.uid: entry for entry in await all_entries(storage, copy.mailbox.ref)}
                if there != copy.entries:
                    odd = sorted(set(there.items()) ^ set(copy.entries.items()))
                    self._records.accuse(
                        f"{copy.name}: the copy made of changes is another than the mailbox: {odd[:6]}"
                    )
        finally:
            await storage.close()

    async def _round(self, storage: Storage, patient: bool = False) -> None:
        for name, account in self._accounts.items():
            try:
                await self._look(storage, name, account)
            except Unavailable as error:
                if patient:
                    raise
                self._records.heard(f"port: {error.text[:60]}")
        self.rounds += 1

    async def _look(self, storage: Storage, name: str, account: str) -> None:
        told = await storage.watch({account: 0}, 0)
        if account in told:
            if told[account] < self._modseqs.get(account, 0):
                self._records.accuse(f"{name}: modseq went from {self._modseqs[account]} to {told[account]}")
            self._modseqs[account] = told[account]
        for box in (await storage.list_mailboxes(account)).mailboxes:
            copy = self._copies.setdefault(box.ref.mailbox, Copy(f"{name} {box.name}", box))
            wrong = copy.counters(box)
            if box.highest_modseq > self._modseqs.get(account, 0):
                self._modseqs[account] = box.highest_modseq
            while copy.since < box.highest_modseq:
                news = await storage.changes(box.ref, copy.since)
                wrong += copy.take(news)
                if not news.more:
                    break
            for text in wrong:
                self._records.accuse(text)
