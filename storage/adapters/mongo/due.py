"""When the first item of each domain is due: one document for each domain of which something may be claimed.

A claim meets each domain once by these, however much waits for it. ``due`` is never later than that of any of the
domain's items, which two rules see to: who makes an item due earlier tells so here *after* the item says it
(``lower``); who finds that a domain's first item is due later sets it only if nobody has told anything since it was
read (``settle``: ``rev`` is another with each telling). A writer that dies between the item and here has left the item,
or its delivery, ``undone``, and whoever finishes that comes here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bson import ObjectId

from runtime.mongo import Document
from storage.adapters.mongo import spool_queries
from storage.adapters.mongo.database import Change, Database
from storage.model import MAIL


@dataclass(slots=True)
class _Telling:
    """What is told together: domains, and when something of each is due."""

    dues: dict[str, float] = field(default_factory=dict)
    told: bool = False


class DueDates:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._next = _Telling()
        self._turn = asyncio.Lock()

    async def first(self, limit: int, queue: str = MAIL) -> list[Document]:
        """The domains, or the groups of a queue, of which something is due first, with when."""
        asked = spool_queries.domains_due(limit) if queue == MAIL else spool_queries.groups_due(queue, limit)
        return await self._database.find(asked)

    async def lower(self, dues: Mapping[str, float]) -> None:
        """Something of these domains is due at these times, or earlier. What comes while one telling is written is told
        by the next, all together: most mail goes to a few domains."""
        if not dues:
            return
        mine = self._next
        mine.dues.update(earliest([*mine.dues.items(), *dues.items()]))
        async with self._turn:
            if mine.told:
                return
            if self._next is mine:
                self._next = _Telling()
            # Where this fails, the next of those who wait for it tries again.
            await self._tell(mine.dues)
            mine.told = True

    async def _tell(self, dues: Mapping[str, float]) -> None:
        for collection, names in _by_collection(dues).items():
            await self._tell_in(collection, {name: dues[name] for name in names})

    async def _tell_in(self, collection: str, dues: Mapping[str, float]) -> None:
        left = dict(dues)
        while left:
            changes = [
                Change(spool_queries.domain_due(domain), {"$min": {"due": due}, "$set": {"rev": ObjectId()}})
                for domain, due in left.items()
            ]
            if await self._database.update(changes) == len(changes):
                return
            made: list[Document] = [{"_id": domain, "due": due, "rev": ObjectId()} for domain, due in left.items()]
            # One that is there was told, or has just come: it is told again.
            known = await self._database.insert(collection, made)
            left = {one["_id"]: one["due"] for place, one in enumerate(made) if place in known}

    async def settle(self, domains: Sequence[Document]) -> None:
        """Find out when the first items of these domains (as they were read) are due now."""
        await asyncio.gather(*[self._settle(domain) for domain in domains])

    async def _settle(self, domain: Document) -> None:
        item = await self._database.first(spool_queries.spool_first(domain["_id"]))
        asked = spool_queries.domain_due_at(domain["_id"], domain["rev"])
        if item is None:
            await self._database.delete(asked)
        elif item["due"] != domain["due"]:
            await self._database.swap(asked, {"$set": {"due": item["due"], "rev": ObjectId()}})


def _by_collection(domains: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for domain in domains:
        found.setdefault(spool_queries.dues(domain), []).append(domain)
    return found


def earliest(dues: Iterable[tuple[str, float]]) -> dict[str, float]:
    """The earliest time of each domain."""
    found: dict[str, float] = {}
    for domain, due in dues:
        found[domain] = min(due, found.get(domain, due))
    return found
