"""How much may be sent to whom at once: destinations that are quick, slow, unknown and down, and who is next.

Everything here is counted and decided without input or output; times are monotonic seconds and handed in.

A destination is *quick* once it has answered in time. Attempts to quick ones have ``concurrency`` slots. All others
(not yet known, slow, asked whether they are up again) are counted *apart*, with half as many, so that they are never in
the way of the quick ones. An attempt that lasts leaves its slot to others while it waits, to whomever it goes. What is
claimed for a destination that is down is not tried (``suspended``).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, TypeVar

T = TypeVar("T")

START = 1
"""Attempts at the same time to a destination about which nothing is known."""
SLOW_WINDOW = 2
"""And to one that is slow."""
SLOW_SECONDS = 5.0
"""An attempt that lasts longer says that the destination is slow."""
DOWN_MAX = 1800.0
"""Seconds between two attempts to a destination that is down, at most."""
KNOWN_MAX = 20_000
"""Destinations that are remembered."""
FORGET_SECONDS = 3600.0
FORGET_STEP = 4
AHEAD = 16
"""So many times what may be sent to a quick destination at once is kept in hand at most."""
LOW = 8
"""More of it is claimed when less than so many times that is in hand."""
ASKED_SECONDS = 1.0
"""A destination that is down is tried so long after it was tried last where somebody asks for it: long enough for many
messages that are retried together to make one attempt, too short for a person to come a second time."""
REFUSED_SECONDS = 5.0
"""For so long nothing more is claimed of a destination for which there was no room."""
DOMAINS_MAX = 5000
"""Domains that are remembered as those of one destination (a relay)."""


@dataclass(slots=True)
class Limits:
    """As the settings of the same names. ``interval``: seconds between two messages to a destination, 0 for none."""

    concurrency: int
    per_destination: int
    interval: float
    down_pause: float

    @property
    def apart(self) -> int:
        """Slots for what is not quick."""
        return max(1, self.concurrency // 2)

    @property
    def total(self) -> int:
        """Attempts of all kinds, those that last included."""
        return 3 * self.concurrency


@dataclass(slots=True)
class Attempt:
    """One under way. apart: counted apart. aged: it lasts, and has left its slot."""

    began: float
    apart: bool
    aged: bool = False


@dataclass(slots=True, eq=False)
class Destination(Generic[T]):
    """One, by the route or the domain that names it. waiting: in hand and not begun. window: attempts at the same time
    as far as its answers have shown. aged: attempts that last. failures: how often in a row it was down. why: what was
    told then. down_at: when that was seen last. refused_until: nothing more of it is taken in hand before."""

    name: str
    domains: set[str] = field(default_factory=set)
    waiting: deque[T] = field(default_factory=deque)
    running: set[int] = field(default_factory=set)
    window: float = START
    quick: bool = False
    aged: int = 0
    failures: int = 0
    down_until: float = 0.0
    down_at: float = 0.0
    why: object = None
    next_start: float = 0.0
    refused_until: float = 0.0
    used: float = 0.0

    @property
    def apart(self) -> bool:
        """Do its attempts count apart?"""
        return not self.quick or self.aged > 0 or self.failures > 0


class Destinations(Generic[T]):
    """All of them. ``T`` is what waits: whoever asks gets it back from ``next``."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._all: OrderedDict[str, Destination[T]] = OrderedDict()
        # Those of which something is in hand, or nothing may be.
        self._busy: dict[str, Destination[T]] = {}
        # Those of more domains than one.
        self._relays: dict[str, Destination[T]] = {}
        self._ready: OrderedDict[str, Destination[T]] = OrderedDict()
        self._ready_apart: OrderedDict[str, Destination[T]] = OrderedDict()
        self._attempts: dict[int, tuple[Destination[T], Attempt]] = {}
        self._number = 0
        self._apart = 0
        self._quick = 0
        self._paced: list[Destination[T]] = []

    @property
    def running(self) -> int:
        """Attempts under way."""
        return len(self._attempts)

    @property
    def down(self) -> int:
        """Destinations that are down."""
        return sum(1 for one in self._all.values() if one.failures)

    def of(self, name: str, domain: str, now: float) -> Destination[T]:
        """The destination of this name, which mail for the domain goes to."""
        found = self._all.get(name)
        if found is None:
            self._forget(now)
            found = self._all[name] = Destination(name)
        else:
            self._all.move_to_end(name)
        found.used = now
        if len(found.domains) < DOMAINS_MAX:
            found.domains.add(domain)
        if len(found.domains) > 1:
            self._relays[name] = found
        return found

    def _forget(self, now: float) -> None:
        """Those not used for longest, a few at a time."""
        for name in tuple(islice(self._all, FORGET_STEP)):
            oldest = self._all[name]
            if oldest.waiting or oldest.running:
                self._all.move_to_end(name)
            elif len(self._all) >= KNOWN_MAX or now - oldest.used >= FORGET_SECONDS:
                del self._all[name]
                self._busy.pop(name, None)
                self._relays.pop(name, None)
            else:
                return

    # -- what to claim

    def suspended(self, one: Destination[T], now: float, *, asked_for: bool = False) -> bool:
        """Is it down, and not time yet to try it again? asked_for: somebody wants it tried now."""
        if asked_for and now - one.down_at >= ASKED_SECONDS:
            return False
        return one.failures > 0 and now < one.down_until

    def room(self, one: Destination[T], now: float) -> int:
        """How many more messages for it are of use in hand now; where that is none it is to be ``refuse``d."""
        waiting, running = len(one.waiting), len(one.running)
        if one.failures:
            return 0 if waiting or running else 1
        if self.limits.interval > 1.0:
            return 0 if waiting or one.next_start > now else 1
        if not one.apart:
            return max(0, AHEAD * self._window(one) - waiting)
        if self._apart >= self.limits.apart and len(self._ready_apart) >= self.limits.apart:
            return 0
        return max(0, self._window(one) + 1 - waiting - running)

    def refuse(self, one: Destination[T], now: float) -> None:
        """Something of it was claimed and given back."""
        self._busy[one.name] = one
        if not one.waiting and not one.running:
            one.refused_until = max(one.next_start, now + REFUSED_SECONDS)

    def skip(self, now: float) -> frozenset[str]:
        """The domains of which nothing more should be claimed now."""
        found: set[str] = set()
        for name, one in tuple(self._busy.items()):
            if not (one.waiting or one.running or one.next_start > now or one.refused_until > now):
                del self._busy[name]
            elif self.suspended(one, now):
                continue
            elif one.refused_until > now or self._enough(one, now):
                found |= one.domains
        return frozenset(found)

    def most(self, limit: int, now: float) -> int:
        """How many of ``limit`` items are of use: a quick destination of many domains (a relay) has room for few of
        what is due of all of them, and what it has no room for would only go back."""
        for one in self._relays.values():
            if one.apart or one.refused_until > now or self._enough(one, now):
                continue
            limit = min(limit, max(1, self.room(one, now)))
        return limit

    def _enough(self, one: Destination[T], now: float) -> bool:
        if one.apart or self.limits.interval > 1.0:
            return self.room(one, now) == 0
        return len(one.waiting) >= LOW * self._window(one)

    # -- whose turn it is

    def add(self, one: Destination[T], waiting: T) -> None:
        """One more waits."""
        one.waiting.append(waiting)
        self._busy[one.name] = one
        self.again(one)

    def again(self, one: Destination[T]) -> None:
        """Its time may have come."""
        if one.waiting:
            (self._ready_apart if one.apart else self._ready).setdefault(one.name, one)

    def next(self, now: float) -> tuple[int, Destination[T], T] | None:
        """The number of an attempt that begins now, its destination, and what waited; destinations take turns."""
        for ready, apart in ((self._ready, False), (self._ready_apart, True)):
            while ready and self._slot(apart):
                name, one = ready.popitem(last=False)
                if one.apart is not apart:
                    self.again(one)
                elif one.waiting and one.next_start > now:
                    self._paced.append(one)
                elif one.waiting and len(one.running) < self._window(one):
                    waiting = one.waiting.popleft()
                    if one.waiting:
                        ready[name] = one
                    return self._begin(one, apart, now), one, waiting
                # Else it comes back when one of its attempts ends.
        return None

    def paced(self) -> tuple[Destination[T], ...]:
        """Those that the rate has kept back since the last call: ``again`` when their ``next_start`` has come."""
        found, self._paced = tuple(self._paced), []
        return found

    def _begin(self, one: Destination[T], apart: bool, now: float) -> int:
        self._number += 1
        self._attempts[self._number] = one, Attempt(now, apart)
        one.running.add(self._number)
        if apart:
            self._apart += 1
        else:
            self._quick += 1
        if self.limits.interval:
            one.next_start = max(one.next_start, now) + self.limits.interval
        return self._number

    def _slot(self, apart: bool) -> bool:
        if len(self._attempts) >= self.limits.total:
            return False
        return self._apart < self.limits.apart if apart else self._quick < self.limits.concurrency

    def _leave(self, attempt: Attempt) -> None:
        """Its slot is free."""
        if attempt.aged:
            return
        if attempt.apart:
            self._apart -= 1
        else:
            self._quick -= 1

    def _window(self, one: Destination[T]) -> int:
        if one.failures:
            return 1
        return min(int(one.window), self.limits.per_destination)

    # -- what came of it

    def age(self, now: float) -> None:
        """Let the attempts that last leave their slots; to be called every second or so."""
        for one, attempt in self._attempts.values():
            # They stand in the order of their beginning.
            if now - attempt.began < SLOW_SECONDS:
                break
            if not attempt.aged:
                self._leave(attempt)
                attempt.aged = True
                one.aged += 1
                one.window = min(one.window, SLOW_WINDOW)

    def end(self, number: int, now: float, *, reached: bool | None) -> tuple[T, ...]:
        """An attempt has ended. reached: was the destination spoken to? If not, it is down from now on, and what waited
        for it is returned. None: nothing is known of it."""
        one, attempt = self._attempts.pop(number)
        one.running.discard(number)
        one.used = now
        self._leave(attempt)
        one.aged -= attempt.aged
        if reached is False:
            return self._found_down(one, now)
        if reached:
            slow = now - attempt.began >= SLOW_SECONDS
            one.failures, one.why, one.down_until = 0, None, 0.0
            one.quick = not slow
            one.window = SLOW_WINDOW if slow else min(one.window + 1, self.limits.per_destination)
        self.again(one)
        return ()

    def _found_down(self, one: Destination[T], now: float) -> tuple[T, ...]:
        one.down_at = now
        # Attempts that began together fail together: they count once.
        if now >= one.down_until:
            one.failures += 1
            one.down_until = now + min(self.limits.down_pause * 2 ** min(one.failures - 1, 10), DOWN_MAX)
        one.quick, one.window = False, START
        left = tuple(one.waiting)
        one.waiting.clear()
        return left

    def take_waiting(self) -> tuple[T, ...]:
        """All that waits, which waits no more."""
        left = tuple(waiting for one in self._busy.values() for waiting in one.waiting)
        for one in self._busy.values():
            one.waiting.clear()
        self._ready.clear()
        self._ready_apart.clear()
        return left
