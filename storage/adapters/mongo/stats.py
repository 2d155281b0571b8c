"""Totals, from the counters that each account keeps of itself.

One global counter would be written by every delivery of the whole cluster. So the accounts are added up, a page at each
call: the totals of a store of at most ACCOUNTS_PAGE accounts are those of this moment, those of a larger one are as old
as the round that ended last.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from storage.adapters.mongo import queries, spool_queries
from storage.adapters.mongo.database import Database
from storage.adapters.mongo.spool import queued
from storage.adapters.mongo.state import OPEN
from storage.model import QUEUES, IndexHealth, StorageStats

ACCOUNTS_PAGE: Final = 1_000
"""Accounts that are added up at each call."""
UNSEEN_MAX: Final = 1_000
"""Unseen items of the spool that are told apart from the others."""


HELD_MAX: Final = 10_000
"""Held items of the spool that are counted."""


class Totals(NamedTuple):
    accounts: int = 0
    emails: int = 0
    size: int = 0
    today: int = 0


class Stats:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._told: Totals | None = None
        self._day = -1
        self._sum = Totals()
        self._after = ""

    async def totals(self) -> StorageStats:
        """``Storage.stats``."""
        told = await self._round()
        unseen = await self._database.find(spool_queries.spool_unseen(UNSEEN_MAX))
        tasks = sum([await queued(self._database, queue, None) for queue in sorted(QUEUES)])
        spool = max(0, await self._database.estimate("spool") - len(unseen) - tasks)
        held = await self._database.find(spool_queries.spool_held(HELD_MAX))
        oldest = await self._database.first(spool_queries.spool_oldest())
        # The text of a message is inserted with it: the index is never behind.
        return StorageStats(
            *told,
            spool=spool,
            index=IndexHealth(0, 0.0, 0.0, None),
            spool_held=len(held),
            spool_oldest=None if oldest is None else oldest["queued"],
        )

    async def _round(self) -> Totals:
        """Add up the next page; the totals of the last whole round. The first call makes a whole round."""
        while True:
            day = int(self._database.now() // 86400)
            if day != self._day:
                # What was counted as of today was of another day.
                self._day, self._after = day, ""
                self._told = self._told and self._told._replace(today=0)
            if not self._after:
                self._sum = Totals()
            after = self._after
            page = await self._database.find(queries.accounts_after(after, ACCOUNTS_PAGE))
            if self._after != after or self._day != day:
                # Another call was quicker.
                continue
            self._sum = Totals(*map(sum, zip(self._sum, *[_counted(one, day) for one in page], strict=True)))
            self._after = page[-1]["_id"] if len(page) == ACCOUNTS_PAGE else ""
            if not self._after:
                self._told = self._sum
            if self._told is not None:
                return self._told


def _counted(account: dict[str, Any], day: int) -> Totals:
    if account["state"] != OPEN:
        return Totals()
    saved = account.get("saved")
    today = saved["n"] if saved is not None and saved["day"] == day else 0
    return Totals(1, account["messages"], account["size"], today)
