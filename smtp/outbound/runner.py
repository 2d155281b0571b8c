"""The runner of the spool: it claims what is due, has it sent, and settles what came of it.

Any number of runners in any number of processes share one spool: an item belongs to the runner that has its lease. What
came of an attempt is written down in one change (`Settlement`), as soon as the transport has told it. A runner that is
killed leaves leases that run out; the next one tries those items again, and the trace says that it is not known what
came of the attempt before.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import structlog

import identity.port
from identity.port import Identity
from mail.dsn import About
from runtime.clock import Clock
from runtime.ids import new_id
from runtime.limits import Budget
from runtime.metrics import Metrics
from smtp.outbound import letters
from smtp.outbound.ahead import Ahead
from smtp.outbound.destinations import AHEAD, LOW, Destination, Destinations, Limits
from smtp.outbound.figures import OutboundFigures
from smtp.outbound.hands import Hand, Hands
from smtp.outbound.letters import Signs
from smtp.outbound.notices import Notices, Subject, Told
from smtp.outbound.schedule import Schedule, held_until
from smtp.outbound.settings import OutboundSettings
from smtp.outbound.settling import RETRY_MAX as SETTLE_RETRY_MAX
from smtp.outbound.settling import Settler
from smtp.outbound.transport import Outcome, Phase, Result, Status, Transport
from smtp.outbound.verdicts import Verdict, judge
from storage.model import SYSTEM, Claimed, Event, Operation, Settlement, SpoolItem
from storage.port import Reason, Refused, Storage, Unavailable

CLAIM_MAX = 200
"""Items of one claim."""
HANDS = 8
"""So many times what may be sent at once is in hand at most, what is being settled included."""
POLL_SECONDS = 1.0
"""How long a claim waits for something to be due. A process that ends, or is killed, has what it claims then."""
RETRY_MIN = 0.2
RETRY_MAX = 5.0
"""Seconds between two tries of what storage or identity could not do."""
OTHERS_SECONDS = SETTLE_RETRY_MAX + 1.0
"""After storage was away for so long that leases may have run out, nothing is claimed for so long: first is told what
other processes know of what they had in hand."""
AWAY_SECONDS = 30.0
"""A message that could not be tried for want of storage or identity waits so long."""
GATHER_SECONDS = 0.005
TICK_SECONDS = 0.5
COUNT_SECONDS = 10.0
"""How often the spool is counted for the metrics."""
PLANNED_MAX = 20_000
"""Items of which it is remembered what was settled of them."""
STOP_SECONDS = 2.0

BROKEN = Outcome(Status.DEFERRED, Phase.ROUTE, "4.3.0", "This server met an error of its own; it will try again")
STOPPED = Outcome(
    Status.DEFERRED, Phase.TEXT, "4.3.2", "This server was stopped while it sent the message", doubtful=True
)

NOBODY = Told(None, ())
"""There is nobody to be told."""

log = structlog.get_logger("outbound")


class Runner:
    """``start``, ``drain``, ``stop`` as runtime.lifecycle.Service has them. chance: random numbers from 0 to 1."""

    def __init__(
        self,
        settings: OutboundSettings,
        *,
        storage: Storage,
        identity: Identity,
        transport: Transport,
        signer: Signs | None,
        clock: Clock,
        metrics: Metrics,
        hostname: str,
        domain: str,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._storage = storage
        self._transport = transport
        self._clock = clock
        self._chance = chance
        self._routes = settings.table
        self.notices = Notices(
            identity, storage, clock, hostname=hostname, domain=domain, return_max=settings.return_max
        )
        self._destinations: Destinations[Hand] = Destinations(_limits(settings))
        self._schedule = _schedule(settings)
        self._hands = Hands(storage, settings.lease)
        self._ahead = Ahead(storage, signer, clock)
        self._budget = Budget(settings.memory_max)
        self._settler = Settler(storage)
        self.figures = OutboundFigures(metrics, lambda: self.running, lambda: self.down)
        self._queued = self._held = 0
        self._oldest: float | None = None
        metrics.gauge("outbound_queue", "Messages to other domains that wait", read=lambda: self._queued)
        metrics.gauge("outbound_queue_held", "Those of them that are held", read=lambda: self._held)
        metrics.gauge("outbound_queue_oldest_seconds", "How long the oldest of them has waited", read=self._age)
        self._wake = asyncio.Event()
        self._spread = 2
        self._claiming: asyncio.Task[None] | None = None
        self._poll: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._work: set[asyncio.Task[None]] = set()
        self._ending = False
        self._away = False
        self._answered = clock.monotonic()
        self._asked: set[asyncio.Future[None]] = set()
        self._planned: OrderedDict[str, float] = OrderedDict()

    # -- the life of a process

    async def start(self) -> None:
        self._claiming = asyncio.create_task(self._claim_forever(), name="outbound claims")
        self._tasks = {self._claiming, asyncio.create_task(self._tick_forever(), name="outbound upkeep")}

    async def drain(self) -> None:
        """Claim nothing more; what has not begun goes back to the spool; return when all else is settled, or broken off
        after ``drain_seconds``."""
        self._ending = True
        self._wake.set()
        self._give_back(self._destinations.take_waiting())
        deadline = asyncio.get_running_loop().time() + self._settings.drain_seconds
        # A claim that is under way brings what it brings, and that goes back.
        if claims := [task for task in (self._claiming, self._poll) if task is not None]:
            await asyncio.wait(claims, timeout=self._settings.drain_seconds)
        while self._work and (left := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(tuple(self._work), timeout=left, return_when=asyncio.FIRST_COMPLETED)
        await self._break_off()

    async def stop(self) -> None:
        self._ending = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, self._ahead.stop(), return_exceptions=True)
        self._give_back(self._destinations.take_waiting())
        if self._poll is not None:
            self._poll.cancel()
            await asyncio.wait({self._poll})
        await self._break_off()
        for task in self._work:
            task.cancel()
        # What was sent is still to be settled, if storage can be told.
        if self._work:
            await asyncio.wait(tuple(self._work), timeout=STOP_SECONDS)
        await self._settler.stop()
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        await self._transport.close()

    async def _break_off(self) -> None:
        """End the attempts in hand: it is not known what came of them, and that is settled."""
        for hand in self._hands:
            if hand.task is not None and hand.sending:
                hand.task.cancel()
        if self._work:
            await asyncio.wait(tuple(self._work), timeout=STOP_SECONDS)

    def apply(self, settings: OutboundSettings) -> None:
        """Put in force what is live of these."""
        self._settings = settings
        self._schedule = _schedule(settings)
        self._destinations.limits = _limits(settings)
        if not settings.enabled:
            self._give_back(self._destinations.take_waiting())
        self._wake.set()

    @property
    def in_hand(self) -> int:
        """Items that are claimed and not settled."""
        return len(self._hands)

    @property
    def running(self) -> int:
        """Messages being sent."""
        return self._destinations.running

    @property
    def down(self) -> int:
        """Destinations that cannot be reached."""
        return self._destinations.down

    def _age(self) -> float:
        return 0.0 if self._oldest is None else max(0.0, self._clock.now() - self._oldest)

    # -- claiming

    async def _claim_forever(self) -> None:
        """Claims follow each other at once while they bring something; else one waits at storage, and what becomes free
        here in the meantime is claimed beside it."""
        while not self._ending:
            self._wake.clear()
            if self._room() > 0 and self._settings.enabled:
                if await self._claim(0.0):
                    continue
                if self._poll is None and not self._ending:
                    self._poll = asyncio.create_task(self._wait_for_more(), name="outbound claim")
            await self._wake.wait()
            # What becomes free at about the same time is claimed together.
            await asyncio.sleep(GATHER_SECONDS)

    async def _wait_for_more(self) -> None:
        try:
            await self._claim(POLL_SECONDS)
        finally:
            self._poll = None
            self._wake.set()

    def _room(self) -> int:
        return min(CLAIM_MAX, HANDS * self._settings.concurrency - len(self._hands))

    async def _claim(self, wait: float) -> bool:
        """True when it brought something."""
        if self._away and not await self._others_first():
            return False
        try:
            return await self._brought(wait)
        except Exception as error:
            await self._pause(error)
            return False

    async def _brought(self, wait: float) -> bool:
        now = self._clock.monotonic()
        skip = self._destinations.skip(now)
        asked = asyncio.get_running_loop().create_future()
        self._asked.add(asked)
        try:
            limit = self._destinations.most(max(1, self._room()), now)
            claimed = await self._storage.claim(limit, self._spread, self._settings.lease, wait, skip)
            self._away, self._answered = False, self._clock.monotonic()
            self._take(claimed, now)
            return bool(claimed)
        finally:
            self._asked.discard(asked)
            asked.set_result(None)

    async def _others_first(self) -> bool:
        """False while storage is still away, and at the end of the process. What was sent meanwhile and not settled may
        have lost its lease: it would be sent again if it were claimed before it is settled."""
        try:
            await self._storage.stats()
        except Exception as error:
            await self._pause(error)
            return False
        if self._clock.monotonic() - self._answered > self._settings.lease / 2:
            for _ in range(math.ceil(OTHERS_SECONDS / TICK_SECONDS)):
                if self._ending:
                    break
                await asyncio.sleep(TICK_SECONDS)
        return not self._ending

    async def _pause(self, error: Exception) -> None:
        if not isinstance(error, Unavailable):
            log.error("claiming from the spool", exc_info=error)
        elif not self._away:
            log.warning("the spool cannot be asked now", reason=error.text)
        self._away = True
        await asyncio.sleep(POLL_SECONDS)

    def _take(self, claimed: Sequence[Claimed], asked_at: float) -> None:
        now = self._clock.monotonic()
        surplus: list[Hand] = []
        added: list[Hand] = []
        for one in claimed:
            hand = self._hands.take(one, asked_at)
            if hand is None:
                continue
            to = self._to(hand, now)
            if self._ending or not self._settings.enabled:
                surplus.append(hand)
            elif (until := held_until(hand.item.params)) > self._clock.now():
                # RFC 4865 §4.3: not before, whoever wants it sent now.
                self._begin(hand, self._back(hand, next_attempt=until))
            elif self._destinations.suspended(to, now, asked_for=self._asked_for(hand.item)):
                self._begin(hand, self._suspend(hand, to))
            elif self._destinations.room(to, now) > 0:
                self._destinations.add(to, hand)
                added.append(hand)
            else:
                self._destinations.refuse(to, now)
                surplus.append(hand)
        self._give_back(surplus)
        # Of domains about which nothing is known yet a few items are enough; of those that take all, many.
        if surplus:
            self._spread = max(2, self._spread // 2)
        elif claimed:
            self._spread = min(2 * self._spread, max(2, (AHEAD - LOW) * self._settings.per_destination))
        self._ahead.begin(added)
        self._dispatch()

    def _asked_for(self, item: SpoolItem) -> bool:
        """Is it due before the time that was settled here? An administrator wants it tried now."""
        return item.next_attempt < self._planned.get(item.id, 0.0) - 1.0

    def _to(self, hand: Hand, now: float) -> Destination[Hand]:
        return self._destinations.of(letters.destination_of(hand.item, self._routes), hand.item.domain, now)

    def _dispatch(self) -> None:
        """Begin all that may begin now."""
        now = self._clock.monotonic()
        while not self._ending and self._budget.used < self._budget.limit:
            turn = self._destinations.next(now)
            if turn is None:
                break
            number, to, hand = turn
            # Never more than is left: a message that takes all of it goes alone. Taken here, not when the attempt comes
            # to run: by then all the others would have begun.
            memory = min(letters.memory_of(hand.item.size), self._budget.limit - self._budget.used)
            self._budget.try_take(memory)
            self._begin(hand, self._attempt(hand, number, to, memory))
        for paced in self._destinations.paced():
            asyncio.get_running_loop().call_later(paced.next_start - now, self._due, paced)

    def _due(self, to: Destination[Hand]) -> None:
        """The rate lets the next message to it go."""
        self._destinations.again(to)
        self._dispatch()
        self._wake.set()

    def _begin(self, hand: Hand, work: Awaitable[None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except Exception:
                # Its lease runs out, and it is tried again: nothing is lost.
                log.exception("an attempt could not be ended", item=hand.item.id, trace=hand.item.trace)
            finally:
                self._hands.drop(hand)
                if hand.again is not None:
                    claimed, asked_at = hand.again
                    self._take((claimed,), asked_at)
                self._wake.set()

        hand.task = asyncio.create_task(guarded(), name="outbound attempt")
        self._work.add(hand.task)
        hand.task.add_done_callback(self._work.discard)

    # -- an attempt

    async def _attempt(self, hand: Hand, number: int, to: Destination[Hand], memory: int) -> None:
        """memory: what was taken of the budget for it."""
        text = self._ahead.text(hand)
        result: Result | str | None = None
        try:
            result = await self._send(hand, text)
        finally:
            self._budget.give(memory)
            now = self._clock.monotonic()
            if isinstance(result, Result) and result.destination_down:
                to.why = next(iter(result.outcomes.values()), BROKEN)
            for other in self._destinations.end(number, now, reached=_reached(result)):
                self._begin(other, self._suspend(other, to))
            self._dispatch()
            self._wake.set()
        if isinstance(result, Result):
            self.figures.lasted(result.seconds)
            await self._settle(hand, result, text.read)
        elif result is not None:
            await self._back(hand, result, self._clock.now() + AWAY_SECONDS)

    async def _send(self, hand: Hand, text: letters.Text) -> Result | str | None:
        """What came of it; why it could not be tried, and has to go back to the spool; None where it is another's."""
        began = self._clock.monotonic()
        item = hand.item
        try:
            letter = letters.letter_of(item, text.read, await self._ahead.head(hand, text.read))
            if not await self._hands.ours(hand, self._clock.monotonic()):
                log.warning("a message was another's before its turn came", item=item.id, trace=item.trace)
                return None
            hand.sending = True
            return await self._transport.send(letter)
        except (Unavailable, identity.port.Unavailable) as error:
            return f"It could not be tried: {str(error) or 'storage is away'}"
        except Refused as error:
            # It is gone: another runner had it after our lease, or an administrator took it away.
            log.warning("a message could not be read", item=item.id, trace=item.trace, reason=error.text)
        except asyncio.CancelledError:
            if not hand.sending:
                return "This server was stopped before it could be tried"
            if not hand.lost:
                return self._same(item, STOPPED, began)
        except Exception:
            log.exception("sending a message", item=item.id, trace=item.trace, domain=item.domain)
            return self._same(item, BROKEN, began)
        finally:
            hand.sending = False
        return None

    def _same(self, item: SpoolItem, outcome: Outcome, began: float) -> Result:
        seconds = self._clock.monotonic() - began
        return Result({recipient.address: outcome for recipient in item.recipients}, seconds)

    async def _suspend(self, hand: Hand, to: Destination[Hand]) -> None:
        """Its destination is down, as another message has just found: it waits like that one."""
        why = to.why if isinstance(to.why, Outcome) else BROKEN
        outcome = Outcome(Status.DEFERRED, why.phase, why.enhanced, why.text, why.code, why.remote)
        text = self._ahead.text(hand)
        await self._settle(hand, self._same(hand.item, outcome, self._clock.monotonic()), text.read)

    # -- what came of it

    async def _settle(self, hand: Hand, result: Result, read: letters.Read) -> None:
        item = hand.item
        now = self._clock.now()
        verdict = judge(item, result, self._schedule, now, self._chance())
        self._count(item, result)
        events = (*self._unsettled(item, now), *verdict.events)
        told = await self._tell(item, verdict.about, read) if verdict.about else NOBODY
        self._planned[item.id] = verdict.next_attempt
        if len(self._planned) > PLANNED_MAX:
            self._planned.popitem(last=False)
        refused = await self._end(hand, self._settlement(hand, verdict, events, told))
        if refused is not None and told.delivery is not None:
            # The notice could not be accepted, or the item is gone: the second try tells which.
            log.warning("a notice was refused", item=item.id, trace=item.trace, reason=refused.text)
            told = Told(None, _not_told(item, verdict.about, refused.text, now))
            refused = await self._end(hand, self._settlement(hand, verdict, events, told))
        if refused is not None:
            log.warning("an attempt could not be settled", item=item.id, trace=item.trace, reason=refused.text)
        elif told.delivery is not None:
            for action in {one.action.value for one in verdict.about}:
                self.figures.told(action)

    def _settlement(self, hand: Hand, verdict: Verdict, events: tuple[Event, ...], told: Told) -> Settlement:
        return Settlement(
            op=Operation(new_id(), SYSTEM, (*events, *told.events)),
            item=hand.item.id,
            lease=hand.claimed.lease,
            finished=verdict.finished,
            next_attempt=verdict.next_attempt,
            told=verdict.late,
            last=verdict.last,
            report=told.delivery,
        )

    async def _end(self, hand: Hand, settlement: Settlement) -> Refused | None:
        """Settle it; the refusal, if it was refused."""
        hand.ending = True
        refused = await self._settler.settle(settlement)
        while refused is not None and refused.reason is Reason.NO_SUCH_ITEM:
            if hand.again is None and self._asked:
                # A claim whose news is still under way may be what took it.
                await asyncio.wait(tuple(self._asked))
            if hand.again is None:
                break
            # The lease had run out, and this process has it anew: what came of the attempt is told under that one.
            (claimed, asked_at), hand.again = hand.again, None
            self._hands.renew(hand, claimed, asked_at)
            op = Operation(new_id(), SYSTEM, settlement.op.events)
            settlement = replace(settlement, op=op, lease=claimed.lease)
            refused = await self._settler.settle(settlement)
        return refused

    async def _tell(self, item: SpoolItem, about: Sequence[About], read: letters.Read) -> Told:
        """The notice, however long identity and storage are away. Where none can be made the attempt is settled all the
        same: it would be made again else."""
        subject = Subject(
            trace=item.trace,
            sender=item.sender,
            arrived=item.queued_at,
            size=item.size,
            read=read,
            item=item.id,
            account=item.account,
            params=item.params,
        )
        pause = RETRY_MIN
        while True:
            try:
                return await self.notices.tell(subject, about)
            except (Unavailable, identity.port.Unavailable):
                await asyncio.sleep(pause)
                pause = min(2 * pause, RETRY_MAX)
            except Refused as error:
                log.warning("a notice could not be made", item=item.id, trace=item.trace, reason=error.text)
                return Told(None, _not_told(item, about, error.text, self._clock.now()))
            except Exception:
                log.exception("making a notice", item=item.id, trace=item.trace)
                return Told(None, _not_told(item, about, "an error of this server", self._clock.now()))

    def _unsettled(self, item: SpoolItem, now: float) -> tuple[Event, ...]:
        """An earlier attempt ended without its outcome being known. It is told once: a settled attempt makes ``claims``
        as many as ``attempts``."""
        if item.claims - 1 <= item.attempts:
            return ()
        return (Event(item.trace, now, "unsettled", item.account, {"item": item.id, "attempt": item.attempts + 1}),)

    def _count(self, item: SpoolItem, result: Result) -> None:
        for recipient in item.recipients:
            outcome = result.outcomes.get(recipient.address)
            if outcome is not None:
                self.figures.outcome(outcome, 1)

    def _give_back(self, hands: Sequence[Hand]) -> None:
        """As if they had not been claimed."""
        for hand in hands:
            self._begin(hand, self._back(hand))

    async def _back(self, hand: Hand, last: str = "", next_attempt: float = 0.0) -> None:
        """To the spool, as if it had not been claimed; not tried before ``next_attempt``."""
        settlement = Settlement(
            op=Operation(new_id(), SYSTEM),
            item=hand.item.id,
            lease=hand.claimed.lease,
            next_attempt=next_attempt,
            attempted=False,
            last=last,
        )
        refused = await self._end(hand, settlement)
        if refused is not None:
            log.warning(
                "a message could not be given back", item=hand.item.id, trace=hand.item.trace, reason=refused.text
            )

    # -- what has to be done from time to time

    async def _tick_forever(self) -> None:
        counted = -COUNT_SECONDS
        while True:
            try:
                now = self._clock.monotonic()
                self._destinations.age(now)
                self._dispatch()
                self._wake.set()
                for hand in await self._hands.extend(now):
                    log.warning("a lease was lost", item=hand.item.id, trace=hand.item.trace)
                    if hand.task is not None and hand.sending:
                        hand.task.cancel()
                if now - counted >= COUNT_SECONDS:
                    counted = now
                    await self._look()
            except Unavailable:
                pass
            except Exception:
                log.exception("looking after what is being sent")
            await asyncio.sleep(TICK_SECONDS)

    async def _look(self) -> None:
        stats = await self._storage.stats()
        self._queued, self._held, self._oldest = stats.spool, stats.spool_held, stats.spool_oldest


def _reached(result: Result | str | None) -> bool | None:
    """Does the result say that the destination can be spoken to? None: it says nothing of that."""
    if not isinstance(result, Result) or any(outcome in (BROKEN, STOPPED) for outcome in result.outcomes.values()):
        return None
    return not result.destination_down


def _not_told(item: SpoolItem, about: Sequence[About], why: str, now: float) -> tuple[Event, ...]:
    return tuple(
        Event(item.trace, now, "suppressed", item.account, {"item": item.id, "about": one.address, "why": why})
        for one in about
    )


def _limits(settings: OutboundSettings) -> Limits:
    return Limits(
        concurrency=settings.concurrency,
        per_destination=settings.per_destination,
        interval=60.0 / settings.rate if settings.rate else 0.0,
        down_pause=settings.down_pause,
    )


def _schedule(settings: OutboundSettings) -> Schedule:
    return Schedule(settings.delays, settings.lifetime, settings.delay_notice)
