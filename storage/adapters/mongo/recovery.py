"""What writers that died have left: deliveries and moves that are committed and not everywhere, and what nobody will
commit."""

from __future__ import annotations

import asyncio
import random

import structlog

from storage.adapters.mongo import queries
from storage.adapters.mongo.accounts import Accounts
from storage.adapters.mongo.commits import Commits
from storage.adapters.mongo.copying import Copying
from storage.adapters.mongo.database import Database
from storage.adapters.mongo.deliver import Deliveries
from storage.adapters.mongo.operations import LOOK, ClaimLost, Ended, Operations
from storage.adapters.mongo.release import UNSEEN_AGE
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
        copying: Copying,
    ) -> None:
        self._database = database
        self._accounts = accounts
        self._operations = operations
        self._commits = commits
        self._deliveries = deliveries
        self._copying = copying

    async def finish_undone(self, before: float, limit: int) -> int:
        """Finish deliveries that were committed before that time and are not in all their mailboxes, and moves to
        another account that have not left the first; how many."""
        found = await self._database.find(queries.undone_before(before, limit))
        finished = 0
        for doc in found:
            op: str = doc["_id"]
            try:
                finished += await self._commits.run(self._finish_move(op) if "leave" in doc else self._take_over(op))
            except Unavailable as error:
                log.warning("an operation waits to be finished", op=op, trace=doc.get("trace"), reason=str(error))
        return finished

    async def _finish_move(self, op: str) -> bool:
        """False where it may yet be committed."""
        doc = await self._database.first(queries.operation(op))
        if doc is not None and "outcome" not in doc:
            # Nobody takes so long. Before that, whoever reads the account carries out what is committed.
            if doc.get("undone", 0.0) < self._database.now() - UNSEEN_AGE:
                await self._take_over(op)
            else:
                for account in doc["accounts"]:
                    await self._accounts.find(account)
            doc = await self._database.first(queries.operation(op))
        if doc is None or "leave" not in doc:
            return True
        if "outcome" not in doc and doc["undone"] >= self._database.now() - UNSEEN_AGE:
            return False
        await self._copying.finish(doc)
        return True

    async def bury(self, account: str, op: str) -> None:
        """Make sure of what the operation has inserted unseen in the account: what is still unseen after this was
        inserted later or will never be seen."""
        await self._commits.run(self._take_over(op))
        await self._accounts.fence(account)

    async def bury_delivery(self, op: str) -> None:
        """The same of a spool item."""
        await self._commits.run(self._take_over(op))

    async def _take_over(self, op: str) -> bool:
        """Take the operation from whoever has it; where it is a delivery that is committed, finish it. True."""
        await self._commits.begin_alone([op])
        try:
            while True:
                doc = await self._database.first(queries.operation(op))
                if doc is None or "outcome" in doc:
                    return True
                claim = await self._operations.take(doc)
                if isinstance(claim, Ended) or (claim is not None and claim.parts is None):
                    return True
                try:
                    if claim is not None:
                        doc = await self._database.first(queries.operation(op))
                        if doc is None or "parts" not in doc:
                            return True
                        await self._deliveries.finish(claim, doc)
                        return True
                except ClaimLost:
                    pass
                # Another has it now, and may finish a committed delivery: what is unseen of that is still needed.
                await asyncio.sleep(random.uniform(0, LOOK))
        finally:
            self._commits.end_alone([op])
