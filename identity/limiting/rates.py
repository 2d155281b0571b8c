"""How much of something is allowed in how long: pure arithmetic over counts.

Time is cut into windows of the rate's length. What counts is what came in the present window, and of the window before
the part that a window ending now would still cover: where 100 an hour are allowed, 80 came in the last hour and a
quarter of this one has passed, 60 of them count. So there is never more than the amount in any stretch of the window's
length, as far as what came in the window before came evenly; and to count means to add two numbers, which any number of
processes may do in any order.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from identity.limits import CHARGES_AT_ONCE, MAX_RATE_KEY
from identity.model import RateCharge
from identity.port import Reason, Refused

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_FORM = re.compile(r"\s*(\d{1,10})\s*/\s*(\d{0,7})\s*([smhd])\s*", re.IGNORECASE)
WINDOW_MAX = 31 * 86400
AMOUNT_MAX = 10**9
SLOT_MAX = 2**40
OFF = ("", "off", "none", "unlimited")


@dataclass(frozen=True, slots=True)
class Rate:
    """amount: at most so many; window: in so many seconds, 1 to WINDOW_MAX."""

    amount: int
    window: int

    def __str__(self) -> str:
        for unit in "dhms":
            if self.window % _UNITS[unit] == 0:
                return f"{self.amount}/{self.window // _UNITS[unit]}{unit}"
        raise AssertionError("every window is whole seconds")

    def slot(self, now: float) -> int:
        """The number of the window that the time (Unix seconds) is in."""
        return int(now // self.window)


def parse(text: str) -> Rate | None:
    """A rate such as "100/1h", "5/30s", "2000/d"; None for "off" and for nothing. ValueError for anything else."""
    if text.strip().lower() in OFF:
        return None
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError('is not a rate such as "100/1h" (s, m, h or d), or "off"')
    rate = Rate(int(found[1]), int(found[2] or 1) * _UNITS[found[3].lower()])
    if not 1 <= rate.window <= WINDOW_MAX or not 1 <= rate.amount <= AMOUNT_MAX:
        raise ValueError("is a rate of 1 to 1,000,000,000, in at least a second and at most 31 days")
    return rate


def used(rate: Rate, before: int, present: int, now: float) -> float:
    """How much counts. before, present: what came in the window before the one of `now`, and in that."""
    return before * (1.0 - (now % rate.window) / rate.window) + present


def wait(rate: Rate, before: int, present: int, now: float, more: int) -> float:
    """Seconds until so many more are allowed: 0 for now. What is over the rate by itself waits one window."""
    room = rate.amount - more
    if used(rate, before, present, now) <= room:
        return 0.0
    if room < 0:
        return float(rate.window)
    into = now % rate.window
    if present <= room:
        # Before has to shrink to what is left beside the present, and is > 0 since it is what is in the way.
        return max(rate.window * (1.0 - (room - present) / before) - into, 0.0)
    # In the next window, when the present one has shrunk to the room.
    return rate.window - into + rate.window * (1.0 - room / present)


def over_at(window: int, slot: int) -> float:
    """When the count of a window is of no more use (Unix seconds)."""
    return float((slot + 2) * window)


def check(charges: Sequence[RateCharge]) -> None:
    """Raises Refused LIMIT for more than a store takes at once, and for what is no charge."""
    if len(charges) > CHARGES_AT_ONCE:
        raise Refused(Reason.LIMIT, f"at most {CHARGES_AT_ONCE} charges at once")
    for one in charges:
        if not (0 < len(one.key) <= MAX_RATE_KEY and 1 <= one.window <= WINDOW_MAX):
            raise Refused(Reason.LIMIT, "a charge's key or window is out of bounds")
        if not (0 <= one.amount <= AMOUNT_MAX and 0 <= one.slot <= SLOT_MAX):
            raise Refused(Reason.LIMIT, "a charge's amount or slot is out of bounds")
