"""Writes: each runs once, whoever stops waiting, and in a repeat of it not at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from storage.adapters.mongo import events
from storage.adapters.mongo.accounts import Accounts, Work
from storage.adapters.mongo.database import Database
from storage.adapters.mongo.operations import Claim, ClaimLost, Ended, Operations
from storage.adapters.mongo.state import Document, Draft, Item
from storage.model import Operation
from storage.port import Reason, Refused, Unavailable
from storage.rights import check_rights, told

T = TypeVar("T")


class Commits:
    def __init__(self, database: Database, accounts: Accounts, operations: Operations) -> None:
        self._database = database
        self._accounts = accounts
        self._operations = operations
        self._running: set[asyncio.Task[Any]] = set()
        self._under_way: dict[str, asyncio.Event] = {}
        self._closed = False

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What the work comes to. It is carried on though the caller is cancelled. Unavailable when closed."""
        if self._closed:
            work.close()
            raise Unavailable("the store is closed")
        return await asyncio.shield(self.begin(work))

    def begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start work that ``finish`` waits for."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def finish(self) -> None:
        """Refuse what comes, and wait for what has begun."""
        self._closed = True
        while self._running:
            await asyncio.wait(self._running)

    async def once(
        self,
        op: Operation,
        owner: str,
        work: Callable[[], Work[T]],
        plain: Callable[[T], Any],
        again: Callable[[Any], Coroutine[Any, Any, T]],
        *,
        shared: bool = False,
        unknown: Reason = Reason.NO_SUCH_MAILBOX,
    ) -> T:
        """An operation on the owner's mail. work: makes what is committed, for each attempt anew. plain: its outcome as
        JSON knows it. again: the value of a repeat out of that. shared: the work itself sees to the rights of others
        than the owner. unknown: why these are refused where there is no such owner. NO_PERMISSION and what the work
        refuses."""
        if not shared:
            check_rights(op, owner)
        try:
            return await self.run(self._once(op, owner, work, plain, again))
        except Refused as refusal:
            raise told(refusal, op, owner, unknown) from None

    async def _once(
        self,
        op: Operation,
        owner: str,
        work: Callable[[], Work[T]],
        plain: Callable[[T], Any],
        again: Callable[[Any], Coroutine[Any, Any, T]],
    ) -> T:
        await self.begin_alone([op.id])
        try:
            while True:
                claim = await self._operations.claim(op.id, owner)
                if isinstance(claim, Ended):
                    return await again(json.loads(claim.outcome))
                try:
                    return await self._commit(op, owner, claim, work(), plain)
                except Refused:
                    await self._operations.release([claim])
                    raise
                except ClaimLost:
                    continue
                except BaseException:
                    self._operations.give_up(claim)
                    raise
        finally:
            self.end_alone([op.id])

    async def _commit(self, op: Operation, owner: str, claim: Claim, work: Work[T], plain: Callable[[T], Any]) -> T:
        step = _Ending(work, lambda value, item: self.end(item, op, claim, plain(value)))
        async with self._accounts.lane(owner):
            value = await self._accounts.commit(owner, step, lambda epoch: self._operations.check(claim, owner, epoch))
            await self._accounts.empty(owner)
            return value

    def end(self, item: Item, op: Operation, claim: Claim, outcome: Any) -> None:
        """Write the operation's end into the journal item."""
        documents = events.documents(op.events, self._database.now(), op.id)
        item.end(op.id, claim.nonce, "outcome", json.dumps(outcome), documents)

    async def begin_alone(self, ops: list[str]) -> None:
        """Wait until none of these operations is under way in this process, and hold the others off."""
        for op in sorted(set(ops)):
            while (ended := self._under_way.get(op)) is not None:
                await ended.wait()
            self._under_way[op] = asyncio.Event()

    def end_alone(self, ops: list[str]) -> None:
        for op in set(ops):
            self._under_way.pop(op).set()


class _Ending(Generic[T]):
    """Work whose commit tells the operation's end too."""

    def __init__(self, work: Work[T], end: Callable[[T, Item], None]) -> None:
        self._work = work
        self._end = end

    async def prepare(self, base: Document) -> None:
        await self._work.prepare(base)

    def stands(self, base: Document) -> bool:
        return self._work.stands(base)

    def commit(self, draft: Draft, item: Item) -> T:
        value = self._work.commit(draft, item)
        self._end(value, item)
        return value
