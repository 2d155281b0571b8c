"""What writers that died have left: deliveries that are committed and not everywhere, and what nobody will commit."""

from __future__ import annotations

import asyncio
import random

import structlog

from storage.adapters.mongo import queries
from storage.adapters.mongo.accounts import Accounts
from storage.adapters.mongo.commits import Commits
from storage.adapters.mongo.database import Database
from storage.adapters.mongo.deliver import Deliveries
from storage.adapters.mongo.operations import LOOK, ClaimLost, Ended, Operations
from storage.port import Unavailable

log = structlog.get_logger("storage")


class Recovery:
    def __init__(
        self,
        database: Database,
        accounts: Accounts,
        operations: Operations,
        commits: Commits,
        deliveries: Deliveries,
    ) -> None:
        self._database = database
        self._accounts = accounts
        self._operations = operations
        self._commits = commits
        self._deliveries = deliveries

    async def finish_deliveries(self, before: float, limit: int) -> int:
        """Finish deliveries that were committed before that time and are not in all their mailboxes; how many."""
        found = await self._database.find(queries.undone_before(before, limit))
        finished = 0
        for doc in found:
            try:
                await self._commits.run(self._take_over(doc["_id"]))
                finished += 1
            except Unavailable as error:
                log.warning("a delivery waits to be finished", op=doc["_id"], trace=doc.get("trace"), reason=str(error))
        return finished

    async def bury(self, account: str, op: str) -> None:
        """Make sure of what the operation has inserted unseen in the account: what is still unseen after this was
        inserted later or will never be seen."""
        await self._commits.run(self._take_over(op))
        await self._accounts.fence(account)

    async def bury_delivery(self, op: str) -> None:
        """The same of a spool item."""
        await self._commits.run(self._take_over(op))

    async def _take_over(self, op: str) -> None:
        """Take the operation from whoever has it; where it is a delivery that is committed, finish it."""
        await self._commits.begin_alone([op])
        try:
            while True:
                doc = await self._database.first(queries.operation(op))
                if doc is None or "outcome" in doc:
                    return
                claim = await self._operations.take(doc)
                if isinstance(claim, Ended) or (claim is not None and claim.parts is None):
                    return
                try:
                    if claim is not None:
                        doc = await self._database.first(queries.operation(op))
                        if doc is None or "parts" not in doc:
                            return
                        await self._deliveries.finish(claim, doc)
                        return
                except ClaimLost:
                    pass
                # Another has it now, and may finish a committed delivery: what is unseen of that is still needed.
                await asyncio.sleep(random.uniform(0, LOOK))
        finally:
            self._commits.end_alone([op])
