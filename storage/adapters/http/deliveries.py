"""Deliveries of many callers on their way in a few large calls, so that the store behind commits them together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

import structlog

from runtime.portcall import BadCall
from runtime.portclient import PortBug
from storage.limits import ACCEPT_BATCH
from storage.model import Accepted, Delivery
from storage.port import Refused, Unavailable

CALL_OCTETS: Final = 4 * 1024 * 1024
"""Octets of deliveries after which a call is full; one that is longer goes alone."""
CALLS_AT_ONCE: Final = 4
"""Calls under way; what comes meanwhile is gathered for the next."""
RECIPIENT_OCTETS: Final = 128
"""What a recipient is counted for beside its texts."""

Outcome = Accepted | Refused | Unavailable
Send = Callable[[Sequence[Delivery]], Awaitable[Sequence[Outcome]]]
log = structlog.get_logger("storage")


class _Waiting(NamedTuple):
    delivery: Delivery
    octets: int
    done: asyncio.Future[Outcome]


class Deliveries:
    """send: does one call, and may raise Unavailable."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._queue: deque[_Waiting] = deque()
        self._calls: set[asyncio.Task[None]] = set()
        self._scheduled = False

    async def accept(self, deliveries: Sequence[Delivery]) -> list[Outcome]:
        """As the port says. What is on its way when the caller is cancelled goes on; what still waits does not."""
        loop = asyncio.get_running_loop()
        mine = [_Waiting(one, octets(one), loop.create_future()) for one in deliveries]
        self._queue.extend(mine)
        self._schedule()
        try:
            outcomes = await asyncio.gather(*(one.done for one in mine), return_exceptions=True)
        finally:
            for one in mine:
                one.done.cancel()
        return [
            self._outcome(outcome, one.delivery.trace, alone=len(mine) == 1)
            for one, outcome in zip(mine, outcomes, strict=True)
        ]

    async def close(self) -> None:
        """Return when the calls under way have ended; what waits is turned away by them."""
        while self._queue or self._calls:
            await asyncio.gather(*self._calls)
            await asyncio.sleep(0)

    def _outcome(self, outcome: Outcome | BaseException, trace: str, *, alone: bool) -> Outcome:
        if isinstance(outcome, (Accepted, Refused, Unavailable)):
            return outcome
        if alone or not isinstance(outcome, Exception):
            raise outcome
        log.error("a delivery failed", trace=trace, exc_info=outcome)
        return Unavailable("internal error")

    def _schedule(self) -> None:
        # Not at once: callers of the same turn of the loop go together.
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._scheduled = False
        while self._queue and len(self._calls) < CALLS_AT_ONCE:
            if batch := self._take():
                call = asyncio.create_task(self._call(batch), name="storage deliveries")
                self._calls.add(call)
                call.add_done_callback(self._ended)

    def _ended(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._schedule()

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        size = 0
        while self._queue and len(batch) < ACCEPT_BATCH:
            if batch and size + self._queue[0].octets > CALL_OCTETS:
                break
            waiting = self._queue.popleft()
            if not waiting.done.done():
                batch.append(waiting)
                size += waiting.octets
        return batch

    async def _call(self, batch: Sequence[_Waiting]) -> None:
        outcomes: Sequence[Outcome | Exception]
        try:
            outcomes = await self._send([waiting.delivery for waiting in batch])
            if len(outcomes) != len(batch):
                raise PortBug(f"{len(outcomes)} outcomes of {len(batch)} deliveries")
        except Unavailable as unavailable:
            outcomes = [unavailable] * len(batch)
        except (BadCall, PortBug) as error:
            if len(batch) > 1:
                # One of them is at fault, and each by itself harms no other. What the call may have done already is
                # not done again: each has its operation id.
                for waiting in batch:
                    await self._call([waiting])
                return
            outcomes = [error]
        except Exception as error:
            outcomes = [error] * len(batch)
        for waiting, outcome in zip(batch, outcomes, strict=True):
            if waiting.done.done():
                continue
            if isinstance(outcome, Unavailable | Refused | Accepted):
                waiting.done.set_result(outcome)
            else:
                waiting.done.set_exception(outcome)


def octets(delivery: Delivery) -> int:
    """About as many as the delivery takes in a call."""
    content = len(delivery.content) if isinstance(delivery.content, bytes) else 0
    local = sum(RECIPIENT_OCTETS + len(one.address) + len(one.prefix) for one in delivery.local)
    return content + local + sum(RECIPIENT_OCTETS + len(one.address) for one in delivery.remote)
