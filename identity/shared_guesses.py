"""Guess counters that several processes share: charged *before* a password is checked, given back when it was right.

Nothing of a counter is kept in memory, and what is in flight counts already, in whatever process it is. So processes
together allow no more guesses than one would. Two things are known to each process alone, and let through no guess that
one process would not: that the same password for the same name and place is being checked right now (it joins that
check), and that it was wrong just before (it counts little; a client that goes on with an old password counts as a new
guess once in each process that it comes to).

A counter changes by compare-and-set, from what was read to what it is with the charge. Giving back restores the counter
as it was when nobody else has charged it meanwhile, else takes the charge off it. A process that dies in between leaves
one guess too many, which is forgotten as all are.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from identity import guesspolicy as policy
from identity.guesses import REFRESH_SECONDS, REMEMBERED, Attempt, Counting, LastWrong, Recent, Standing
from identity.guesspolicy import Counter, GuessRules, Rule
from identity.model import Origin
from identity.port import Reason, Refused, Unavailable
from runtime.clock import Clock

TRIES = 50
"""Compare-and-sets of one charge before sign-in is unavailable; each that is lost is another process's charge."""
_PAUSE = 0.005
_STRIPES = 64


class SharedGuessStore(Protocol):
    """Where counters and usual devices are kept. Raises Unavailable."""

    async def standing(self, keys: Sequence[str], name: str, place: str) -> Standing: ...

    async def counter(self, key: str) -> Counter | None: ...

    async def swap(self, key: str, before: Counter | None, after: Counter | None, forgotten_at: float) -> bool:
        """Replace one counter (None: there is none), durably. False: it is not what was read before."""
        ...

    async def remember(self, name: str, place: str, now: float) -> None:
        """The account of this name signed in well from there."""
        ...


@dataclass(frozen=True, slots=True)
class _Paid:
    key: str
    rule: Rule
    before: Counter | None
    after: Counter
    weight: float


@dataclass(slots=True, eq=False)
class _Check:
    """One password that is being checked, charged once for all the attempts that try it at the same time."""

    charged: asyncio.Task[list[_Paid]]
    attempts: int = 0
    decided: bool = False


_Who = tuple[str | None, str, bytes]


class SharedGuesses:
    """See the module. The `guesses.Guard` of a process beside others."""

    def __init__(
        self, store: SharedGuessStore, rules: GuessRules, trusted_networks: Sequence[str], clock: Clock
    ) -> None:
        self._store = store
        self._counting = Counting(rules, trusted_networks)
        self._clock = clock
        self._wrong = LastWrong()
        self._standings: dict[Attempt, Standing] = {}
        self._checks: dict[_Who, _Check] = {}
        self._of: dict[Attempt, _Check] = {}
        # Charges of this process for one counter come one after the other.
        self._turns = [asyncio.Lock() for _ in range(_STRIPES)]
        # When a sign-in without a password was written last.
        self._seen: Recent[tuple[str, str], float] = Recent(REMEMBERED)
        self._writes: set[asyncio.Task[None]] = set()

    async def admit(self, name: str | None, origin: Origin, fingerprint: bytes) -> Attempt:
        place = policy.place(origin.address)
        standing = await self._store.standing(self._counting.keys(name, origin), name or "", place)
        now = self._clock.now()
        attempt = self._counting.attempt(name, origin, fingerprint, standing.usual_at, now)
        if _who(attempt) not in self._checks:
            for key, rule in attempt.counters:
                _refuse_early(standing.counters.get(key), rule, now)
        self._standings[attempt] = standing
        return attempt

    async def charge(self, attempt: Attempt) -> None:
        check = self._checks.get(_who(attempt))
        if check is None:
            charging = self._charge_all(attempt, self._standings[attempt])
            check = _Check(asyncio.create_task(charging, name="guess charge"))
            self._checks[_who(attempt)] = check
        check.attempts += 1
        self._of[attempt] = check
        # The charge is made, or refused, for all who joined, also when the first of them has gone.
        await asyncio.shield(check.charged)

    async def wrong(self, attempt: Attempt) -> None:
        self._wrong.add(attempt)
        self._decide(attempt)

    async def right(self, attempt: Attempt) -> None:
        check = self._decide(attempt)
        if check is not None:
            await self._give_back(check)
        now = self._clock.now()
        if attempt.name is not None and (attempt.usual_at is None or now - attempt.usual_at >= REFRESH_SECONDS):
            await self._remember(attempt.name, attempt.place, now)

    async def seen(self, name: str, origin: Origin) -> None:
        place, now = policy.place(origin.address), self._clock.now()
        if now - self._seen.get((name, place), 0.0) >= REFRESH_SECONDS:
            self._seen.put((name, place), now)
            await self._remember(name, place, now)

    async def _remember(self, name: str, place: str, now: float) -> None:
        try:
            await self._store.remember(name, place, now)
        except Unavailable:
            # It is asked for again with a later good sign-in.
            return

    def end(self, attempt: Attempt) -> None:
        self._standings.pop(attempt, None)
        check = self._of.get(attempt)
        if check is not None:
            check.attempts -= 1
            if not check.attempts and self._decide(attempt) is not None:
                # Neither wrong nor right: it was not checked to the end.
                self._write(self._give_back(check))
            del self._of[attempt]

    def forget(self, name: str) -> None:
        """The store forgets with the account; here is only when it was told last."""
        self._seen.drop(lambda pair: pair[0] == name)

    async def close(self) -> None:
        await asyncio.gather(*self._writes, return_exceptions=True)

    def _decide(self, attempt: Attempt) -> _Check | None:
        """It is known what the password is: whoever tries it from now on is charged anew. None when it was before."""
        check = self._of.get(attempt)
        if check is None or check.decided:
            return None
        check.decided = True
        self._checks.pop(_who(attempt), None)
        return check

    async def _charge_all(self, attempt: Attempt, standing: Standing) -> list[_Paid]:
        weight = self._wrong.weight(attempt)
        charges = await asyncio.gather(
            *(self._charge_one(key, rule, standing.counters.get(key), weight) for key, rule in attempt.counters),
            return_exceptions=True,
        )
        paid = [charge for charge in charges if not isinstance(charge, BaseException)]
        for charge in charges:
            if isinstance(charge, BaseException):
                await asyncio.gather(*(self._take_off(other) for other in paid))
                raise charge
        return paid

    async def _charge_one(self, key: str, rule: Rule, before: Counter | None, weight: float) -> _Paid:
        async with self._turns[hash(key) % _STRIPES]:
            for _ in range(TRIES):
                now = self._clock.now()
                _refuse_early(before, rule, now)
                after = policy.charged(before, rule, now, weight)
                if await self._store.swap(key, before, after, policy.forgotten_at(after, rule)):
                    return _Paid(key, rule, before, after, weight)
                await asyncio.sleep(_PAUSE * random.random())
                before = await self._store.counter(key)
        raise Unavailable("too many sign-ins at once")

    async def _give_back(self, check: _Check) -> None:
        try:
            await asyncio.gather(*(self._take_off(paid) for paid in await check.charged))
        except (Refused, Unavailable):
            # Not charged; or it stays one guess too many, and is forgotten as all are.
            return

    async def _take_off(self, paid: _Paid) -> None:
        before: Counter | None = paid.after
        after = paid.before
        for _ in range(TRIES):
            forgotten_at = 0.0 if after is None else policy.forgotten_at(after, paid.rule)
            if await self._store.swap(paid.key, before, after, forgotten_at):
                return
            before = await self._store.counter(paid.key)
            if before is None:
                return
            after = Counter(max(0.0, before.level - paid.weight), before.at)

    def _write(self, write: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(write, name="guess given back")
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)


def _refuse_early(counter: Counter | None, rule: Rule, now: float) -> None:
    pause = policy.wait(counter, rule, now, 0)
    if pause > 0:
        raise Refused(Reason.SLOW_DOWN, retry_after=pause)


def _who(attempt: Attempt) -> _Who:
    return attempt.name, attempt.place, attempt.fingerprint
