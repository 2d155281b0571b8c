"""Workers: they take tasks from the queue, have each sent, and write down what came of it.

Any number of workers in any number of processes share one queue: a task belongs to the worker that has its lease, which
is kept running until its end is durable. A worker that is killed leaves leases that run out; the next one tries those
tasks again, and what becomes of them says that it was not seen what the attempt before came to.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from connectors.tasks.model import CLAIM_MAX, Claimed
from connectors.tasks.port import Reason, Refused, TaskQueue, Unavailable
from runtime.metrics import Metrics
from smtp.outbound.transport import Letter, Outcome, Phase, Result, Status, Transport
from storage.model import RemoteRecipient

ATTEMPTS: Final = 3
"""Attempts with a known outcome before a task has failed."""
JITTER: Final = 0.2
"""The share of a pause by which it is made longer or shorter."""
LOST_MAX: Final = 10
"""Workers that may die over one task, one after the other, before it has failed: it may be what kills them."""
POLL_SECONDS: Final = 1.0
"""How long a claim waits for something to be due."""
AWAY_SECONDS: Final = 5.0
"""A task that could not be tried for want of storage or identity waits so long."""
RETRY_MIN: Final = 0.2
RETRY_MAX: Final = 5.0
"""Seconds between two tries of what the queue could not do."""
COUNT_SECONDS: Final = 10.0
"""How often the queue is counted for the metrics."""
SWEEP_SECONDS: Final = 60.0
STOP_SECONDS: Final = 2.0
BUCKETS: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0)

BROKEN = Outcome(Status.DEFERRED, Phase.ROUTE, "4.3.0", "This server met an error of its own")

log = structlog.get_logger("tasks")


@dataclass(frozen=True, slots=True)
class Rules:
    """concurrency: tasks that are sent at the same time. delays: seconds before the second, third, … attempt, the last
    of them from then on. lease: seconds for which a task is a worker's alone, before it asks for more. drain_seconds:
    how long those in hand may take at the end."""

    concurrency: int = 10
    delays: Sequence[float] = (3.0, 15.0)
    attempts: int = ATTEMPTS
    lease: float = 60.0
    drain_seconds: float = 20.0

    def delay(self, attempts: int, chance: float) -> float | None:
        """How long to wait after so many attempts, the last of which has just failed; None: it was the last. chance: at
        random, from 0 to 1."""
        if attempts >= self.attempts:
            return None
        pause = self.delays[min(attempts, len(self.delays)) - 1] if self.delays else 0.0
        return pause * (1 + JITTER * (2 * chance - 1))


@dataclass(slots=True, eq=False)
class _Hand:
    """A task that this worker holds. until: its lease surely runs until then, in the loop's time. sending: the
    transport has it. ending: its end is on its way to the queue. lost: its lease is another's."""

    claimed: Claimed
    until: float
    work: asyncio.Task[None] | None = None
    sending: bool = False
    ending: bool = False
    lost: bool = False


class Figures:
    """Since the start, of this process: tasks that ended, attempts that were put off, and leases that ran out under
    another worker. waiting: tasks without an end, of all, when they were last counted."""

    def __init__(self, metrics: Metrics | None, running: Callable[[], float]) -> None:
        self.succeeded = self.failed = self.retried = self.recovered = self.waiting = 0
        self._seconds = None
        if metrics is not None:
            metrics.counted_by(
                "tasks_attempts",
                "Attempts of tasks of the sending API, by what they came to; lost: claims that ended without a word",
                "outcome",
                {
                    "success": lambda: self.succeeded,
                    "failed": lambda: self.failed,
                    "retry": lambda: self.retried,
                    "lost": lambda: self.recovered,
                },
            )
            self._seconds = metrics.histogram("tasks_attempt_seconds", "Duration of attempts of tasks", buckets=BUCKETS)
            metrics.gauge("tasks_waiting", "Tasks of the sending API without an end", read=lambda: self.waiting)
            metrics.gauge("tasks_running", "Those of them that this process sends now", read=running)

    def lasted(self, seconds: float) -> None:
        """An attempt took so long."""
        if self._seconds is not None:
            self._seconds.observe(seconds)


class Worker:
    """``start``, ``drain``, ``stop`` as runtime.lifecycle.Service has them. The queue stays the caller's; the transport
    is closed at the end. passing: errors of the transport by which it says that it cannot try now. chance: random
    numbers from 0 to 1."""

    def __init__(
        self,
        queue: TaskQueue,
        transport: Transport,
        rules: Rules | None = None,
        *,
        passing: tuple[type[Exception], ...] = (),
        metrics: Metrics | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._passing = passing
        self._queue = queue
        self._transport = transport
        self._rules = rules or Rules()
        self._chance = chance
        self._hands: dict[str, _Hand] = {}
        self._room = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._claiming: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()
        self._away = False
        self.figures = Figures(metrics, lambda: len(self._hands))

    @property
    def running(self) -> int:
        """Tasks in hand."""
        return len(self._hands)

    # -- the life of a process

    async def start(self) -> None:
        self._claiming = asyncio.create_task(self._claim_forever(), name="task claims")
        self._tasks = {
            self._claiming,
            asyncio.create_task(self._every(self._rules.lease / 3, self._extend), name="task leases"),
            asyncio.create_task(self._every(COUNT_SECONDS, self._count), name="task figures"),
            asyncio.create_task(self._every(SWEEP_SECONDS, self._sweep), name="task sweep"),
        }

    async def drain(self) -> None:
        """Claim nothing more; return when what is in hand has ended, or was broken off after ``drain_seconds``."""
        self._ending.set()
        self._room.set()
        deadline = asyncio.get_running_loop().time() + self._rules.drain_seconds
        await self._last_claim()
        while (work := self._work()) and (left := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(work, timeout=left)
        await self._break_off()

    async def stop(self) -> None:
        self._ending.set()
        self._room.set()
        await self._last_claim()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._break_off()
        for work in self._work():
            work.cancel()
        await asyncio.gather(*self._work(), return_exceptions=True)
        await self._transport.close()

    async def _last_claim(self) -> None:
        """A claim that is under way brings what it brings, and that is given back: one that is broken off may bring it
        all the same, to nobody."""
        if self._claiming is not None:
            await asyncio.wait({self._claiming}, timeout=POLL_SECONDS + STOP_SECONDS)

    def _work(self) -> set[asyncio.Task[None]]:
        return {hand.work for hand in self._hands.values() if hand.work is not None}

    async def _break_off(self) -> None:
        """End the attempts in hand: it is not known what came of them, and that is written down."""
        for hand in self._hands.values():
            if hand.work is not None and hand.sending:
                hand.work.cancel()
        if work := self._work():
            await asyncio.wait(work, timeout=STOP_SECONDS)

    # -- claiming

    async def _claim_forever(self) -> None:
        pause = RETRY_MIN
        while not self._ending.is_set():
            room = min(self._rules.concurrency - len(self._hands), CLAIM_MAX)
            if room <= 0:
                self._room.clear()
                await self._room.wait()
                continue
            try:
                # Never more than can begin at once: what is claimed and not begun could only be lost.
                until = asyncio.get_running_loop().time() + self._rules.lease
                claimed = await self._queue.claim(room, self._rules.lease, POLL_SECONDS)
                self._away, pause = False, RETRY_MIN
            except Exception as error:
                self._tell_away(error)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._ending.wait(), pause)
                pause = min(2 * pause, RETRY_MAX)
                continue
            for one in claimed:
                self._begin(one, until)

    def _tell_away(self, error: Exception) -> None:
        if not isinstance(error, Unavailable):
            log.error("claiming tasks", exc_info=error)
        elif not self._away:
            log.warning("the queue of tasks cannot be asked now", reason=str(error))
        self._away = True

    def _begin(self, claimed: Claimed, until: float) -> None:
        known = self._hands.get(claimed.task.id)
        if known is not None:
            # Its lease has run out here, and it was claimed anew: what is done with it goes on, under the new lease.
            known.claimed, known.until, known.lost = claimed, until, False
            return
        hand = self._hands[claimed.task.id] = _Hand(claimed, until)
        hand.work = asyncio.create_task(self._guarded(hand), name="task")

    async def _guarded(self, hand: _Hand) -> None:
        try:
            await self._do(hand)
        except Exception:
            log.exception("a task", task=hand.claimed.task.id)
        finally:
            self._hands.pop(hand.claimed.task.id, None)
            self._room.set()

    # -- one task

    async def _do(self, hand: _Hand) -> None:
        claimed = hand.claimed
        self.figures.recovered += claimed.lost > 0
        if self._ending.is_set():
            await self._settle(hand, lambda one: self._queue.give_back(one))
            return
        if claimed.lost >= LOST_MAX:
            reason = f"{claimed.lost} workers ended without a word while they had it"
            if await self._settle(hand, lambda one: self._queue.fail(one, reason, attempted=False)):
                self.figures.failed += 1
            return
        try:
            content = claimed.content
            if content is None:
                content = await self._queue.content(claimed.task.id)
            if not await self._ours(hand):
                log.warning("a task was another worker's before it was begun", task=claimed.task.id)
                return
        except Refused:
            # Somebody else has ended it.
            return
        except Unavailable as error:
            self._tell_away(error)
            await self._settle(hand, lambda one: self._queue.give_back(one, AWAY_SECONDS))
            return
        try:
            outcome = await self._send(hand, content)
        except asyncio.CancelledError:
            if not hand.lost:
                # The end of this worker, and not that of the loop: there is a moment left to say what is not known.
                await self._settle(hand, lambda one: self._queue.give_back(one, doubtful=True))
            return
        if outcome is None:
            await self._settle(hand, lambda one: self._queue.give_back(one, AWAY_SECONDS))
            return
        await self._write_down(hand, outcome)

    async def _ours(self, hand: _Hand) -> bool:
        """Is it this worker's to send? The queue is asked where its lease may have run out. Raises Unavailable."""
        if not hand.lost and asyncio.get_running_loop().time() >= hand.until:
            await self._extend_these([hand])
        return not hand.lost

    async def _send(self, hand: _Hand, content: bytes) -> Outcome | None:
        """What came of the attempt; None where it could not be made for want of what this server needs."""
        task = hand.claimed.task
        hand.sending = True
        try:
            result = await self._transport.send(_letter(hand.claimed, content))
        except Exception as error:
            if isinstance(error, self._passing):
                log.warning("a task could not be tried", task=task.id, reason=str(error))
                return None
            log.exception("sending a task", task=task.id)
            return BROKEN
        finally:
            hand.sending = False
        self.figures.lasted(result.seconds)
        return _of(result, task.to)

    async def _write_down(self, hand: _Hand, outcome: Outcome) -> None:
        figures, reason, doubtful = self.figures, reason_of(outcome), outcome.doubtful
        if outcome.status is Status.SENT:
            if await self._settle(hand, lambda one: self._queue.succeed(one, doubtful=doubtful)):
                figures.succeeded += 1
            return
        delay = self._rules.delay(hand.claimed.task.attempts + 1, self._chance())
        if is_permanent(outcome) or delay is None:
            if await self._settle(hand, lambda one: self._queue.fail(one, reason, doubtful=doubtful)):
                figures.failed += 1
        elif await self._settle(hand, lambda one: self._queue.retry(one, delay, reason, doubtful=doubtful)):
            figures.retried += 1

    async def _settle(self, hand: _Hand, end: Callable[[Claimed], Awaitable[None]]) -> bool:
        """End the claim, however long the queue is away: while it is, the lease cannot be extended either, and who has
        it then tells the end. False where it was another's."""
        pause = RETRY_MIN
        # That end tells whether it was still ours.
        hand.ending = True
        while not hand.lost:
            try:
                await end(hand.claimed)
            except Unavailable as error:
                self._tell_away(error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, RETRY_MAX)
            except Refused as refused:
                if refused.reason is not Reason.LEASE_LOST:
                    raise
                break
            else:
                return True
        log.warning("a task was another worker's before its end was written down", task=hand.claimed.task.id)
        return False

    # -- upkeep

    async def _every(self, seconds: float, do: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await do()
            except Unavailable as error:
                self._tell_away(error)
            except Exception:
                log.exception("upkeep of tasks")
            await asyncio.sleep(seconds)

    async def _extend(self) -> None:
        await self._extend_these([hand for hand in self._hands.values() if not hand.lost])

    async def _extend_these(self, hands: Sequence[_Hand]) -> None:
        if not hands:
            return
        leases = {hand.claimed.task.id: hand.claimed.lease for hand in hands}
        until = asyncio.get_running_loop().time() + self._rules.lease
        kept = await self._queue.extend(leases, self._rules.lease)
        for hand in hands:
            if hand.claimed.lease != leases[hand.claimed.task.id]:
                continue
            if hand.claimed.task.id in kept:
                hand.until = until
            elif not hand.ending:
                hand.lost = True
                if hand.sending and hand.work is not None:
                    hand.work.cancel()

    async def _count(self) -> None:
        self.figures.waiting = await self._queue.waiting()

    async def _sweep(self) -> None:
        while await self._queue.sweep():
            pass


def _letter(claimed: Claimed, content: bytes) -> Letter:
    task = claimed.task

    async def read(start: int, end: int) -> bytes:
        return content[start:end]

    # RFC 6531 §3.4, RFC 6152 §3: what the message needs of the server is asked for.
    utf8 = {} if task.to.isascii() and claimed.sender.isascii() else {"SMTPUTF8": ""}
    eight = {} if content.isascii() else {"BODY": "8BITMIME"}
    return Letter(
        item=task.id,
        trace=claimed.trace,
        sender=claimed.sender,
        domain=task.to.rpartition("@")[2].lower(),
        recipients=(RemoteRecipient(task.to),),
        size=len(content),
        read=read,
        params={**utf8, **eight},
        account=task.account,
    )


def _of(result: Result, to: str) -> Outcome:
    return result.outcomes.get(to, BROKEN)


def is_permanent(outcome: Outcome) -> bool:
    """Would the next attempt fare the same? A remote server that says so with a 5xx is believed, whatever step it said
    it at: unlike mail in the spool, which waits for whoever mends the settings, a task is to end soon. That there is no
    way to the server may be mended before the next."""
    if outcome.code is not None:
        return outcome.code >= 500
    return outcome.status is Status.FAILED and outcome.phase is not Phase.ROUTE


def reason_of(outcome: Outcome) -> str:
    """Why it was not sent, in one line: who said it, and the reply in its own words."""
    if outcome.status is Status.SENT:
        return ""
    words = " ".join(part for part in (str(outcome.code or ""), outcome.text) if part)
    return f"{outcome.remote}: {words}" if outcome.remote else words
