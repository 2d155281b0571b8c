"""Deliveries of several callers in one batch: a command costs much the same for one message as for fifty."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from storage.adapters.mongo.blobs import PreparedBlob
from storage.adapters.mongo.commits import Commits
from storage.adapters.mongo.deliver import Deliveries, Outcome
from storage.limits import ACCEPT_BATCH
from storage.model import Delivery
from storage.port import Refused, Unavailable

AT_ONCE: Final = 2
"""Batches that are under way at a time; what comes meanwhile is the next one."""

Body = PreparedBlob | Refused


@dataclass(slots=True)
class _Waiting:
    delivery: Delivery
    body: Body
    outcome: asyncio.Future[Outcome] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Batches:
    def __init__(self, deliveries: Deliveries, commits: Commits) -> None:
        self._deliveries = deliveries
        self._commits = commits
        self._waiting: list[_Waiting] = []
        self._under_way = 0

    async def accept(self, batch: Sequence[tuple[Delivery, Body]]) -> list[Outcome | BaseException]:
        """One outcome for each, in order; an exception is the mistake of that delivery alone."""
        mine = [_Waiting(delivery, body) for delivery, body in batch]
        self._waiting += mine
        if self._under_way < AT_ONCE:
            self._under_way += 1
            self._commits.begin(self._deliver())
        return list(await asyncio.gather(*[one.outcome for one in mine], return_exceptions=True))

    async def _deliver(self) -> None:
        try:
            while self._waiting:
                taken, self._waiting = self._waiting[:ACCEPT_BATCH], self._waiting[ACCEPT_BATCH:]
                await self._batch(taken)
        finally:
            self._under_way -= 1

    async def _batch(self, taken: Sequence[_Waiting]) -> None:
        try:
            outcomes = await self._deliveries.accept([(one.delivery, one.body) for one in taken])
        except Unavailable as unavailable:
            outcomes = [unavailable] * len(taken)
        except Exception as error:
            if len(taken) == 1:
                taken[0].outcome.set_exception(error)
                return
            # The others must not suffer from the one in which something is wrong that nothing should be.
            for one in taken:
                await self._batch([one])
            return
        for one, outcome in zip(taken, outcomes, strict=True):
            one.outcome.set_result(outcome)
