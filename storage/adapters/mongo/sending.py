"""The calls by which mail leaves the spool: claimed, tried elsewhere, settled.

Each change of an item is one compare-and-set of its document: that is the commit. What the change means for others
(its events, the outcome of its operation, a report to be delivered, items made of it, the item's own end) stands in
``todo``, set in the same stroke; ``spool_work`` carries it out. Nobody changes or claims an item that has something
left to do: who meets one carries it out first, and the sweep those that nobody meets.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from typing import Final

from bson import ObjectId

from runtime.mongo import Document
from storage.adapters.mongo import spool, spool_queries
from storage.adapters.mongo.blobs import is_id
from storage.adapters.mongo.commits import Commits
from storage.adapters.mongo.database import Change, Database
from storage.adapters.mongo.due import DueDates
from storage.adapters.mongo.spool_work import SpoolWork
from storage.hub import Bell
from storage.limits import CLAIM_MAX, CLAIM_POLL, SPOOL_CHANGES, WATCH_MAX
from storage.model import Claimed
from storage.port import Unavailable
from storage.spooling import check_number

DOMAINS_AT_ONCE: Final = 16
"""Domains whose items are looked at together."""


class Sending:
    """bell: rings when something may be due in this process."""

    def __init__(self, database: Database, commits: Commits, dues: DueDates, work: SpoolWork) -> None:
        self.bell = Bell()
        self._database = database
        self._commits = commits
        self._dues = dues
        self._work = work
        self._closed = False

    def close(self) -> None:
        """End every wait."""
        self._closed = True
        self.bell.ring()

    async def claim(
        self, limit: int, per_domain: int, lease: float, wait: float, skip: frozenset[str], queue: str
    ) -> tuple[Claimed, ...]:
        """``Storage.claim``."""
        if self._closed:
            raise Unavailable("the store is closed")
        loop = asyncio.get_running_loop()
        until = loop.time() + min(wait, WATCH_MAX)
        limit, per_domain = max(1, min(limit, CLAIM_MAX)), max(1, per_domain)
        while not self._closed:
            rung = self.bell.rung
            domains = await self._domains(limit, skip, queue)
            now = self._database.now()
            if any(domain["due"] <= now for domain in domains):
                claimed = await self._commits.run(self._claim(domains, limit, per_domain, lease, now))
                if claimed:
                    return claimed
            left = until - loop.time()
            if left <= 0:
                return ()
            soon = [domain["due"] - now for domain in domains if domain["due"] > now]
            await self.bell.wait(rung, min([left, CLAIM_POLL, *soon]))
        return ()

    async def _domains(self, limit: int, skip: frozenset[str], queue: str) -> list[Document]:
        """The domains, without these, of which something is due first: at most ``limit``, for each has something."""
        found = await self._dues.first(limit + len(skip), queue)
        return [domain for domain in found if domain["_id"] not in skip][:limit]

    async def _claim(
        self, domains: Sequence[Document], limit: int, per_domain: int, lease: float, now: float
    ) -> tuple[Claimed, ...]:
        due = [domain for domain in domains if domain["due"] <= now]
        found: list[Document] = []
        used_up: list[Document] = []
        for start in range(0, len(due), DOMAINS_AT_ONCE):
            found.sort(key=lambda item: (item["due"], item["_id"]))
            if len(found) >= limit and found[limit - 1]["due"] < due[start]["due"]:
                # Those that come have nothing that is due longer.
                break
            together = due[start : start + DOMAINS_AT_ONCE]
            asked = min(per_domain, limit)
            each = await asyncio.gather(
                *[self._database.find(spool_queries.spool_due(domain["_id"], now, asked)) for domain in together]
            )
            for domain, items in zip(together, each, strict=True):
                found += items
                if len(items) < asked:
                    used_up.append(domain)
        found.sort(key=lambda item: (item["due"], item["_id"]))
        unfinished = [item["_id"] for item in found if "todo" in item]
        if unfinished:
            await self._work.carry_out(unfinished)
        taken = found[:limit]
        claimed = await self._take([item["_id"] for item in taken], lease) if taken else ()
        left = {item["domain"] for item in found[limit:]}
        await self._dues.settle([domain for domain in used_up if domain["_id"] not in left])
        return claimed

    async def _take(self, names: Sequence[str], lease: float) -> tuple[Claimed, ...]:
        """Put those of the items that nobody has taken meanwhile under a lease, in this order."""
        name = uuid.uuid4().hex
        # Not when they were looked for: what others had left to do of them may have taken long.
        now = self._database.now()
        until = now + lease
        await self._database.update(
            [
                Change(
                    spool_queries.spool_claimable(names, now),
                    {"$set": {"lease": name, "leased": until, "due": until, "rev": ObjectId()}, "$inc": {"claims": 1}},
                    many=True,
                )
            ]
        )
        mine = {one["_id"]: one for one in await self._database.find(spool_queries.spool_leased(names, name))}
        return tuple(Claimed(spool.made(mine[id], now), name) for id in names if id in mine)

    async def extend(self, leases: Mapping[str, str], lease: float) -> frozenset[str]:
        """``Storage.extend``."""
        check_number(len(leases), SPOOL_CHANGES)
        asked = {item: name for item, name in leases.items() if is_id(item) and is_id(name)}
        if not asked:
            return frozenset()
        return await self._commits.run(self._extend(asked, self._database.now() + lease))

    async def _extend(self, leases: Mapping[str, str], until: float) -> frozenset[str]:
        kept: set[str] = set()
        left = dict(leases)
        while left:
            await self._database.update(
                Change(
                    spool_queries.spool_extended(item, name, held),
                    {"$set": {"leased": until, "rev": ObjectId()} | ({} if held else {"due": until})},
                )
                for item, name in left.items()
                for held in (False, True)
            )
            found = await self._database.find(spool_queries.spool_named(list(left)))
            mine = [one for one in found if one.get("lease") == left[one["_id"]]]
            kept.update(one["_id"] for one in mine if one["leased"] == until)
            # An administrator's change, which leaves the lease as it is, came in between.
            others = [one for one in mine if one["leased"] != until]
            await self._work.carry_out([one["_id"] for one in others if "todo" in one])
            left = {one["_id"]: leases[one["_id"]] for one in others}
        return frozenset(kept)
