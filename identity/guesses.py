"""Guess counters: asked before a password is checked, charged after a wrong one. The rules are in `guesspolicy`.

The counters live in the store; this process, their only writer, keeps those in use in memory too. So a charge holds at
once and holds when the disk is full, and asking costs a dictionary.
"""

from __future__ import annotations

import asyncio
from collections import Counter as Multiset
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from identity import guesspolicy as policy
from identity.guesspolicy import Counter, GuessRules, Rule
from identity.model import Origin
from identity.port import Reason, Refused, Unavailable
from runtime.clock import Clock
from runtime.limits import Networks, is_loopback

K = TypeVar("K")
V = TypeVar("V")

REMEMBERED = 20_000
# A good sign-in from a usual device is written this often at most.
REFRESH_SECONDS = 3600.0
_LAST_WRONG = 3


@dataclass(frozen=True, slots=True)
class Charge:
    """One more wrong password on the counter `key`."""

    key: str
    rule: Rule
    weight: float


@dataclass(frozen=True, slots=True)
class Standing:
    """What the store knows for one attempt: the counters there are, and when the account last signed in well from the
    place (Unix seconds, None for never)."""

    counters: Mapping[str, Counter]
    usual_at: float | None


class GuessStore(Protocol):
    """Where counters and usual devices are kept. Raises Unavailable."""

    async def standing(self, keys: Sequence[str], name: str, place: str) -> Standing: ...

    async def charge(self, charges: Sequence[Charge], now: float) -> None:
        """Durable when it returns; counters of now forgotten guesses may be dropped."""
        ...

    async def remember(self, name: str, place: str, now: float) -> None:
        """The account of this name signed in well from there."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Attempt:
    """A sign-in that was let through and is to be ended with `Guard.end`. counters: those that it counts on."""

    name: str | None
    place: str
    counters: tuple[tuple[str, Rule], ...]
    fingerprint: bytes
    usual_at: float | None


class Guard(Protocol):
    """What sign-in asks of the counters."""

    async def admit(self, name: str | None, origin: Origin, fingerprint: bytes) -> Attempt:
        """May this be tried now? name: the key of the name, None when it cannot be anyone's. Raises Refused SLOW_DOWN
        with retry_after, Unavailable."""
        ...

    async def charge(self, attempt: Attempt) -> None:
        """The password is unknown and about to be checked. Raises Refused SLOW_DOWN with retry_after, Unavailable."""
        ...

    async def wrong(self, attempt: Attempt) -> None:
        """The password was wrong: it counts."""
        ...

    async def right(self, attempt: Attempt) -> None:
        """The password was right: the place is one of the account's usual devices from now on."""
        ...

    async def seen(self, name: str, origin: Origin) -> None:
        """The account of this name signed in well from there, by what is no password: the place is one of its usual
        devices from now on."""
        ...

    def end(self, attempt: Attempt) -> None:
        """The attempt is over, whatever came of it. To be called once."""
        ...

    def forget(self, name: str) -> None:
        """The name's account is gone: it has no usual devices any more."""
        ...

    async def close(self) -> None:
        """Wait for the writes in hand."""
        ...


class Counting:
    """Which counters an attempt counts on."""

    def __init__(self, rules: GuessRules, trusted_networks: Sequence[str]) -> None:
        self._rules = rules
        self._trusted = Networks(trusted_networks)

    def keys(self, name: str | None, origin: Origin) -> tuple[str, ...]:
        """Those that it may count on."""
        place = policy.place(origin.address)
        own = () if name is None else (_pair(name, place), _account(name))
        return (*own, *(key for key, _ in self._everyone(origin, place)))

    def attempt(
        self, name: str | None, origin: Origin, fingerprint: bytes, usual_at: float | None, now: float
    ) -> Attempt:
        """The attempt, with those that it does count on. usual_at: when the name last signed in well from there."""
        place = policy.place(origin.address)
        everyone = self._everyone(origin, place)
        if name is None:
            return Attempt(None, place, everyone, fingerprint, None)
        if usual_at is not None and now - usual_at < policy.USUAL_SECONDS:
            return Attempt(name, place, ((_pair(name, place), self._rules.usual),), fingerprint, usual_at)
        own = ((_pair(name, place), self._rules.pair), (_account(name), self._rules.account))
        return Attempt(name, place, (*own, *everyone), fingerprint, None)

    def _everyone(self, origin: Origin, place: str) -> tuple[tuple[str, Rule], ...]:
        if is_loopback(origin.address) or origin.address in self._trusted:
            return ()
        return ((f"n:{place}", self._rules.place),)


def _pair(name: str, place: str) -> str:
    return f"p:{name}|{place}"


def _account(name: str) -> str:
    return f"a:{name}"


class Guesses:
    """See the module. The `Guard` of a process that has its store for itself."""

    def __init__(self, store: GuessStore, rules: GuessRules, trusted_networks: Sequence[str], clock: Clock) -> None:
        self._store = store
        self._counting = Counting(rules, trusted_networks)
        self._clock = clock
        self._counters: Recent[str, Counter | None] = Recent(REMEMBERED)
        self._usual: Recent[tuple[str, str], float | None] = Recent(REMEMBERED)
        self._wrong = LastWrong()
        self._in_flight: dict[str, Multiset[bytes]] = {}
        self._writes: set[asyncio.Task[None]] = set()

    async def admit(self, name: str | None, origin: Origin, fingerprint: bytes) -> Attempt:
        place = policy.place(origin.address)
        await self._load(self._counting.keys(name, origin), name or "", place)
        usual_at = None if name is None else self._usual.get((name, place), None)
        attempt = self._counting.attempt(name, origin, fingerprint, usual_at, self._clock.now())
        self._enter(attempt)
        return attempt

    async def charge(self, attempt: Attempt) -> None:
        """Nothing yet: this process knows what is in flight, and charges what was wrong."""

    def _enter(self, attempt: Attempt) -> None:
        now = self._clock.now()
        pause = 0.0
        for key, rule in attempt.counters:
            flying = self._in_flight.get(key, _NONE)
            others = len(flying) - (attempt.fingerprint in flying)
            pause = max(pause, policy.wait(self._counters.get(key, None), rule, now, others))
        if pause > 0:
            raise Refused(Reason.SLOW_DOWN, retry_after=pause)
        for key, _ in attempt.counters:
            self._in_flight.setdefault(key, Multiset())[attempt.fingerprint] += 1

    def end(self, attempt: Attempt) -> None:
        for key, _ in attempt.counters:
            flying = self._in_flight[key]
            flying[attempt.fingerprint] -= 1
            if not flying[attempt.fingerprint]:
                del flying[attempt.fingerprint]
                if not flying:
                    del self._in_flight[key]

    async def wrong(self, attempt: Attempt) -> None:
        now = self._clock.now()
        weight = self._wrong.weight(attempt)
        self._wrong.add(attempt)
        charges = [Charge(key, rule, weight) for key, rule in attempt.counters]
        for charge in charges:
            # One that has left the memory meanwhile is charged in the store, and read from there the next time.
            if charge.key in self._counters:
                counter = self._counters.get(charge.key, None)
                self._counters.put(charge.key, policy.charged(counter, charge.rule, now, weight))
        try:
            await self._store.charge(charges, now)
        except Unavailable:
            # It counts in memory, and a wrong password stays one when the disk is full.
            return

    async def right(self, attempt: Attempt) -> None:
        now = self._clock.now()
        if attempt.name is None or (attempt.usual_at is not None and now - attempt.usual_at < REFRESH_SECONDS):
            return
        self._remember(attempt.name, attempt.place, now)

    async def seen(self, name: str, origin: Origin) -> None:
        self._remember(name, policy.place(origin.address), self._clock.now())

    def _remember(self, name: str, place: str, now: float) -> None:
        if now - (self._usual.get((name, place), None) or 0.0) >= REFRESH_SECONDS:
            self._usual.put((name, place), now)
            self._write(self._store.remember(name, place, now))

    def forget(self, name: str) -> None:
        self._usual.drop(lambda pair: pair[0] == name)

    async def close(self) -> None:
        await asyncio.gather(*self._writes, return_exceptions=True)

    async def _load(self, keys: Sequence[str], name: str, place: str) -> None:
        if (name, place) in self._usual and all(key in self._counters for key in keys):
            return
        standing = await self._store.standing(keys, name, place)
        # What was charged while the store was read is newer, and stays.
        for key in keys:
            if key not in self._counters:
                self._counters.put(key, standing.counters.get(key))
        if (name, place) not in self._usual:
            self._usual.put((name, place), standing.usual_at)

    def _write(self, write: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(write, name="usual device")
        self._writes.add(task)
        task.add_done_callback(self._written)

    def _written(self, task: asyncio.Task[None]) -> None:
        self._writes.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, Unavailable):
            raise error


_NONE: Multiset[bytes] = Multiset()


class Recent(Generic[K, V]):
    """The `limit` entries used last."""

    def __init__(self, limit: int) -> None:
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._limit = limit

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def get(self, key: K, default: V) -> V:
        if key not in self._entries:
            return default
        self._entries.move_to_end(key)
        return self._entries[key]

    def put(self, key: K, value: V) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)

    def drop(self, which: Callable[[K], bool]) -> None:
        for key in [key for key in self._entries if which(key)]:
            del self._entries[key]


class LastWrong:
    """The last wrong passwords of each name and place, by their fingerprints in this process."""

    def __init__(self) -> None:
        self._recent: Recent[tuple[str | None, str], tuple[bytes, ...]] = Recent(REMEMBERED)

    def weight(self, attempt: Attempt) -> float:
        """What the attempt counts when it is wrong."""
        return policy.REPEATED if attempt.fingerprint in self._recent.get(_who(attempt), ()) else 1.0

    def add(self, attempt: Attempt) -> None:
        """It was wrong."""
        before = self._recent.get(_who(attempt), ())
        if attempt.fingerprint not in before:
            self._recent.put(_who(attempt), (*before, attempt.fingerprint)[-_LAST_WRONG:])


def _who(attempt: Attempt) -> tuple[str | None, str]:
    return attempt.name, attempt.place
