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


@dataclass(frozen=True, slots=True)
class Attempt:
    """A sign-in that was let through and is to be ended with `Guesses.end`. counters: those that it counts on."""

    name: str | None
    place: str
    counters: tuple[tuple[str, Rule], ...]
    fingerprint: bytes
    usual_at: float | None


class Guesses:
    """See the module."""

    def __init__(self, store: GuessStore, rules: GuessRules, trusted_networks: Sequence[str], clock: Clock) -> None:
        self._store = store
        self._rules = rules
        self._trusted = Networks(trusted_networks)
        self._clock = clock
        self._counters: _Recent[str, Counter | None] = _Recent(REMEMBERED)
        self._usual: _Recent[tuple[str, str], float | None] = _Recent(REMEMBERED)
        self._wrong: _Recent[tuple[str | None, str], tuple[bytes, ...]] = _Recent(REMEMBERED)
        self._in_flight: dict[str, Multiset[bytes]] = {}
        self._writes: set[asyncio.Task[None]] = set()

    async def admit(self, name: str | None, origin: Origin, fingerprint: bytes) -> Attempt:
        """May this be tried now? name: the key of the name, None when it cannot be anyone's. Raises Refused SLOW_DOWN
        with retry_after."""
        place = policy.place(origin.address)
        everyone = () if self._is_trusted(origin.address) else ((f"n:{place}", self._rules.place),)
        if name is None:
            await self._load([key for key, _ in everyone], "", place)
            attempt = Attempt(None, place, everyone, fingerprint, None)
        else:
            pair, all_places = f"p:{name}|{place}", f"a:{name}"
            await self._load([pair, all_places, *(key for key, _ in everyone)], name, place)
            usual_at = self._usual.get((name, place), None)
            if usual_at is not None and self._clock.now() - usual_at < policy.USUAL_SECONDS:
                attempt = Attempt(name, place, ((pair, self._rules.usual),), fingerprint, usual_at)
            else:
                counters = ((pair, self._rules.pair), (all_places, self._rules.account), *everyone)
                attempt = Attempt(name, place, counters, fingerprint, None)
        self._enter(attempt)
        return attempt

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
        """The attempt is over, whatever came of it. To be called once."""
        for key, _ in attempt.counters:
            flying = self._in_flight[key]
            flying[attempt.fingerprint] -= 1
            if not flying[attempt.fingerprint]:
                del flying[attempt.fingerprint]
                if not flying:
                    del self._in_flight[key]

    async def wrong(self, attempt: Attempt) -> None:
        """The password was wrong: charge, durably where the store can."""
        now = self._clock.now()
        pair = (attempt.name, attempt.place)
        before = self._wrong.get(pair, ())
        weight = policy.REPEATED if attempt.fingerprint in before else 1.0
        if weight == 1.0:
            self._wrong.put(pair, (*before, attempt.fingerprint)[-_LAST_WRONG:])
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

    def right(self, attempt: Attempt) -> None:
        """The password was right: the place is one of the account's usual devices from now on."""
        now = self._clock.now()
        if attempt.name is None or (attempt.usual_at is not None and now - attempt.usual_at < REFRESH_SECONDS):
            return
        if now - (self._usual.get((attempt.name, attempt.place), None) or 0.0) < REFRESH_SECONDS:
            return
        self._usual.put((attempt.name, attempt.place), now)
        self._write(self._store.remember(attempt.name, attempt.place, now))

    def forget(self, name: str) -> None:
        """The name's account is gone: it has no usual devices any more."""
        self._usual.drop(lambda pair: pair[0] == name)

    async def close(self) -> None:
        """Wait for the writes in hand."""
        await asyncio.gather(*self._writes, return_exceptions=True)

    def _is_trusted(self, address: str) -> bool:
        return is_loopback(address) or address in self._trusted

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


class _Recent(Generic[K, V]):
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
