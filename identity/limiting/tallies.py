"""Counts of one process beside those of the others: no input or output, one dictionary to ask.

A key is counted here at once. What was counted is taken out now and then, added to the counts that all processes share,
and what those are is told back. So a key may be charged, by all processes together, beyond its rate by what they let
through between two such exchanges; each by itself never goes beyond the rate.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from identity.limiting import rates
from identity.limiting.rates import Rate
from identity.model import RateCharge, RateCount

KEYS_MAX = 50_000
"""Keys that a process remembers; the one used longest ago gives way, and is asked for again when it comes back."""
PENDING_MAX = 100_000
"""Counts that wait for a keeper that is away; beyond them new ones are known to this process alone."""
BATCH_MAX = 1000


@dataclass(frozen=True, slots=True)
class Limit:
    """One count that a step adds to. by: what it is told as ("address", "account", …); key: who."""

    by: str
    key: str
    rate: Rate

    @property
    def name(self) -> str:
        """Of the shared count."""
        return f"{self.by}:{self.key}"


@dataclass(frozen=True, slots=True)
class Over:
    """What stands in the way, and for how many seconds."""

    limit: Limit
    wait: float


@dataclass(slots=True)
class _Count:
    """before: of the window before `slot`; shared: in `slot`, of all processes as last told; own: in `slot`, of this
    process and not in `shared` yet."""

    slot: int
    before: int = 0
    shared: int = 0
    own: int = 0

    def move(self, slot: int) -> None:
        if slot != self.slot:
            # A clock that was set back begins anew too.
            self.before = self.shared + self.own if slot == self.slot + 1 else 0
            self.slot, self.shared, self.own = slot, 0, 0


class Tallies:
    """See the module. All times are Unix seconds."""

    def __init__(self) -> None:
        self._counts: OrderedDict[tuple[str, int], _Count] = OrderedDict()
        self._pending: dict[tuple[str, int, int], int] = {}
        self.fresh = False
        """Is there a key whose shared count has never been asked for?"""

    def __len__(self) -> int:
        return len(self._counts)

    def charge(self, limits: Sequence[Limit], now: float, amount: int = 1) -> Over | None:
        """Count on all of them, or on none and say which one is in the way for longest."""
        over: Over | None = None
        found: list[tuple[str, int, _Count]] = []
        for limit in limits:
            name, rate = limit.name, limit.rate
            count = self._count(name, rate, now)
            found.append((name, rate.window, count))
            present = count.shared + count.own
            # All of the window before counts at most: mostly there is room even so.
            if count.before + present + amount <= rate.amount:
                continue
            pause = rates.wait(rate, count.before, present, now, amount)
            if pause > 0 and (over is None or pause > over.wait):
                over = Over(limit, pause)
        if over is not None:
            return over
        for name, window, count in found:
            count.own += amount
            key = (name, window, count.slot)
            if key in self._pending or len(self._pending) < PENDING_MAX:
                self._pending[key] = self._pending.get(key, 0) + amount
        return None

    def take(self) -> list[RateCharge]:
        """What is to be added to the shared counts, up to BATCH_MAX; for `told` or `put_back`."""
        self.fresh = False
        taken = list(self._pending.items())[:BATCH_MAX]
        for key, _ in taken:
            del self._pending[key]
        return [RateCharge(name, window, slot, amount) for (name, window, slot), amount in taken]

    def told(self, charges: Sequence[RateCharge], counts: Sequence[RateCount]) -> None:
        """The charges are in the shared counts, which are these now."""
        for charge, shared in zip(charges, counts, strict=True):
            count = self._counts.get((charge.key, charge.window))
            if count is None:
                continue
            if count.slot == charge.slot:
                count.before, count.shared = shared.before, shared.present
                count.own -= charge.amount
            elif count.slot == charge.slot + 1:
                late = self._pending.get((charge.key, charge.window, charge.slot), 0)
                count.before = shared.present + late

    def put_back(self, charges: Sequence[RateCharge], now: float) -> None:
        """They could not be added: they wait, as long as they are of use."""
        for charge in charges:
            key = (charge.key, charge.window, charge.slot)
            if rates.over_at(charge.window, charge.slot) > now and (
                key in self._pending or len(self._pending) < PENDING_MAX
            ):
                self._pending[key] = self._pending.get(key, 0) + charge.amount

    def _count(self, name: str, rate: Rate, now: float) -> _Count:
        key, slot = (name, rate.window), rate.slot(now)
        count = self._counts.get(key)
        if count is None:
            count = self._counts[key] = _Count(slot)
            self.fresh = True
            if len(self._counts) > KEYS_MAX:
                self._counts.popitem(last=False)
        else:
            self._counts.move_to_end(key)
            count.move(slot)
        return count
