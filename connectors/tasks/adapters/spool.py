"""Tasks in the spool of storage: items of a queue of their own, claimed, leased and settled as mail is.

What a task has beside an item stands in the item's ``last`` and in what is kept of it at its end, as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import storage.model
import storage.port
from connectors.tasks.model import (
    CLAIM_MAX,
    CONTENT_MAX,
    REASON_MAX,
    WAIT_MAX,
    WAITING_MAX,
    Claimed,
    NewTask,
    Status,
    Task,
)
from connectors.tasks.port import Reason, Refused, Unavailable
from runtime.clock import Clock, SystemClock
from runtime.ids import new_id
from storage.model import (
    SYSTEM,
    TASKS,
    Accepted,
    Delivery,
    Event,
    Operation,
    RemoteRecipient,
    Settlement,
    SpoolAction,
    SpoolItem,
    SpoolResult,
)
from storage.port import Storage

DIGEST: Final = "X-HOMING-DIGEST"
"""The parameter in which an item keeps its task's digest."""
COUNT_SECONDS: Final = 2.0
"""How long a count of an account's tasks is good, with what this process has put since added."""
COUNTS_MAX: Final = 10_000


class SpoolTasks:
    """storage: where the spool is; it stays the caller's. waiting_max: tasks without an end that one account may
    have."""

    def __init__(self, storage: Storage, *, waiting_max: int = WAITING_MAX, clock: Clock | None = None) -> None:
        self._storage = storage
        self._waiting_max = waiting_max
        self._clock = clock or SystemClock()
        self._counts: dict[str, tuple[float, int]] = {}
        self._closed = asyncio.Event()

    # -- who sends

    async def put(self, task: NewTask, key: str) -> str:
        if len(task.content) > CONTENT_MAX:
            raise Refused(Reason.TOO_BIG, f"A message has at most {CONTENT_MAX} octets.")
        operation = Operation(_operation("put", task.account, key), task.account)
        with _told():
            await self._check_room(task.account)
            (outcome,) = await self._storage.accept(
                [
                    Delivery(
                        operation,
                        task.content,
                        task.sender,
                        self._clock.now(),
                        task.trace,
                        remote=(RemoteRecipient(task.to),),
                        params={DIGEST: task.digest},
                        queue=TASKS,
                    )
                ]
            )
        if isinstance(outcome, Accepted):
            return outcome.spooled[0]
        if isinstance(outcome, storage.port.Unavailable):
            raise Unavailable(str(outcome)) from outcome
        raise Refused(Reason.TOO_BIG, outcome.text) from outcome

    async def _check_room(self, account: str) -> None:
        """A count is asked for once in a while, and not for each task: it costs as much as there are."""
        now = self._clock.monotonic()
        until, count = self._counts.get(account, (0.0, 0))
        if now >= until or count >= self._waiting_max:
            if len(self._counts) >= COUNTS_MAX:
                self._counts.clear()
            until, count = now + COUNT_SECONDS, await self._storage.spool_queued(TASKS, account)
        self._counts[account] = (until, count + 1)
        if count >= self._waiting_max:
            raise Refused(
                Reason.TOO_MANY,
                f"{count} tasks of this account wait; at most {self._waiting_max} may. Try again later.",
            )

    async def task(self, id: str, account: str | None) -> Task:
        with _told():
            try:
                return _waiting(await self._item(id, account))
            except storage.port.Refused as refused:
                if refused.reason is not storage.port.Reason.NO_SUCH_ITEM:
                    raise
            return _ended(await self._storage.spool_result(id, account))

    async def cancel(self, id: str, account: str | None) -> None:
        with _told():
            # One that came to its end between two of these questions is looked at again.
            for _ in range(3):
                task = await self.task(id, account)
                if task.status is Status.CANCELLED:
                    return
                if task.status is not Status.PENDING:
                    raise Refused(Reason.ENDED, f"The task has ended: {task.status.value}.")
                operation = Operation(new_id(), SYSTEM if account is None else account)
                if await self._storage.change_spool(operation, [id], SpoolAction.DROP):
                    return
        raise Refused(Reason.BEING_SENT, "The task is being sent at this moment.")

    async def waiting(self) -> int:
        with _told():
            return await self._storage.spool_queued(TASKS, None)

    # -- who works

    async def claim(self, limit: int, lease: float, wait: float = 0.0) -> tuple[Claimed, ...]:
        limit = max(1, min(limit, CLAIM_MAX))
        if self._closed.is_set():
            raise Unavailable("the queue is closed")
        with _told():
            claiming = asyncio.ensure_future(self._storage.claim(limit, limit, lease, min(wait, WAIT_MAX), queue=TASKS))
            closed = asyncio.ensure_future(self._closed.wait())
            try:
                await asyncio.wait({claiming, closed}, return_when=asyncio.FIRST_COMPLETED)
                if not claiming.done():
                    return ()
                return tuple(_claimed(one) for one in claiming.result())
            finally:
                claiming.cancel()
                closed.cancel()

    async def extend(self, leases: Mapping[str, str], lease: float) -> frozenset[str]:
        with _told():
            return await self._storage.extend(leases, lease)

    async def content(self, id: str) -> bytes:
        with _told():
            return await self._storage.spool_read(id, 0, CONTENT_MAX)

    async def succeed(self, claimed: Claimed, *, doubtful: bool = False) -> None:
        await self._end(claimed, Status.SUCCESS, "", doubtful, attempted=True)

    async def fail(self, claimed: Claimed, reason: str, *, attempted: bool = True, doubtful: bool = False) -> None:
        await self._end(claimed, Status.FAILED, reason, doubtful, attempted=attempted)

    async def _end(self, claimed: Claimed, status: Status, reason: str, doubtful: bool, *, attempted: bool) -> None:
        task = claimed.task
        kept = _kept(reason, doubtful or task.doubtful) | {"status": status.value, "digest": task.digest}
        await self._settle(
            Settlement(
                self._ends(claimed, status.value, reason),
                task.id,
                claimed.lease,
                (task.to,),
                attempted=attempted,
                result=json.dumps(kept),
            )
        )

    async def retry(self, claimed: Claimed, delay: float, reason: str, *, doubtful: bool = False) -> None:
        await self._settle(
            Settlement(
                self._ends(claimed, "retry", reason),
                claimed.task.id,
                claimed.lease,
                next_attempt=self._clock.now() + delay,
                last=json.dumps(_kept(reason, doubtful or claimed.task.doubtful)),
            )
        )

    async def give_back(self, claimed: Claimed, delay: float = 0.0, *, doubtful: bool = False) -> None:
        task = claimed.task
        await self._settle(
            Settlement(
                Operation(_operation("back", claimed.task.id, claimed.lease), SYSTEM),
                claimed.task.id,
                claimed.lease,
                next_attempt=self._clock.now() + delay,
                attempted=False,
                last=json.dumps(_kept(task.reason, doubtful or task.doubtful)) if doubtful else "",
            )
        )

    def _ends(self, claimed: Claimed, status: str, reason: str) -> Operation:
        """The operation by which the claim ends: the same for a repeat."""
        task = claimed.task
        detail: dict[str, str | int | float | bool | None] = {
            "item": task.id,
            "address": task.to,
            "status": status,
            "attempt": task.attempts + 1,
            "text": reason,
        }
        event = Event(claimed.trace, self._clock.now(), "task", task.account, detail)
        return Operation(_operation("end", task.id, claimed.lease), SYSTEM, (event,))

    async def _settle(self, settlement: Settlement) -> None:
        with _told(Reason.LEASE_LOST, "The task has ended, or is under another lease."):
            (outcome,) = await self._storage.settle([settlement])
            if outcome is not None:
                raise outcome

    async def _item(self, id: str, account: str | None) -> SpoolItem:
        item = await self._storage.spool_item(id, account)
        if item.queue != TASKS:
            raise storage.port.Refused(storage.port.Reason.NO_SUCH_ITEM)
        return item

    # -- upkeep

    async def sweep(self) -> bool:
        """Nothing is left to do: the store's own sweep forgets what became of its items."""
        return False

    async def close(self) -> None:
        self._closed.set()


def _operation(*what: str) -> str:
    return hashlib.blake2s("\0".join(what).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _kept(reason: str, doubtful: bool) -> dict[str, Any]:
    return {"reason": reason[:REASON_MAX], "doubtful": doubtful}


def _waiting(item: SpoolItem) -> Task:
    kept = json.loads(item.last) if item.last else {}
    # One claim more than attempts is the one that runs; further ones ended without a word.
    lost = _lost(item) - (1 if item.leased_until else 0)
    return Task(
        item.id,
        item.account or "",
        item.recipients[0].address,
        Status.PENDING,
        item.attempts,
        kept.get("reason", ""),
        bool(kept.get("doubtful")) or lost > 0,
        item.params.get(DIGEST, ""),
    )


def _lost(item: SpoolItem) -> int:
    return max(0, item.claims - item.attempts)


def _claimed(claimed: storage.model.Claimed) -> Claimed:
    item = claimed.item
    lost = _lost(item) - 1
    return Claimed(_waiting(item), claimed.lease, item.sender, item.trace, item.size, lost, claimed.text)


def _ended(result: SpoolResult) -> Task:
    if result.queue != TASKS:
        raise storage.port.Refused(storage.port.Reason.NO_SUCH_ITEM)
    kept = json.loads(result.text) if result.text else {}
    return Task(
        result.item,
        result.account or "",
        result.recipients[0].address,
        Status.CANCELLED if result.dropped else Status(kept["status"]),
        result.attempts,
        kept.get("reason", ""),
        # A dropped one was under no lease: every claim more than its attempts ended without a word.
        bool(kept.get("doubtful")) or (result.dropped and result.claims > result.attempts),
        kept.get("digest", ""),
    )


@contextlib.contextmanager
def _told(missing: Reason = Reason.NO_SUCH_TASK, text: str = "There is no such task.") -> Iterator[None]:
    """Storage's errors as the queue's. missing: what it means that there is no such item."""
    try:
        yield
    except storage.port.Unavailable as error:
        raise Unavailable(str(error)) from error
    except storage.port.Refused as error:
        if error.reason is storage.port.Reason.NO_SUCH_ITEM:
            raise Refused(missing, text) from error
        raise
