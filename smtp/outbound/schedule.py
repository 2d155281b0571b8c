"""When a message is tried again, when it is given up, and when its sender is told that it is late. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

JITTER = 0.2
"""The share of a pause by which it is made longer or shorter, so that messages that failed together come apart."""
HOLD = "HOLDUNTIL"
"""The parameter of a message that is not to be sent before a time, in Unix seconds (RFC 4865)."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """delays: seconds before the second, third, … attempt, the last of them from then on. lifetime: seconds for which a
    message is tried. notice: after how many seconds its sender is told once that it is late, 0 for never."""

    delays: Sequence[float]
    lifetime: float
    notice: float

    def expires(self, queued_at: float, params: Mapping[str, str]) -> float:
        """When a message is given up. Its time begins when it may first be sent."""
        return max(queued_at, held_until(params)) + self.lifetime

    def next_attempt(self, now: float, attempts: int, expires: float, chance: float) -> float | None:
        """When to try again after ``attempts`` attempts, the last of which has just failed; None: never again.

        chance: at random, from 0 to 1. The last attempt is made when the message's time is over, not long before.
        """
        # RFC 5321 §4.5.4.1
        if now >= expires:
            return None
        delay = self.delays[min(max(attempts, 1), len(self.delays)) - 1]
        return min(now + delay * (1 + JITTER * (2 * chance - 1)), expires)

    def late(self, now: float, queued_at: float, params: Mapping[str, str], told_at: float | None) -> bool:
        """Is it time to tell the sender that a message waits still?"""
        begun = max(queued_at, held_until(params))
        return self.notice > 0 and told_at is None and now >= begun + self.notice


def held_until(params: Mapping[str, str]) -> float:
    """Until when a message is held by its sender's wish, in Unix seconds; 0.0 for one that is not."""
    try:
        return max(0.0, float(params.get(HOLD, "0")))
    except ValueError:
        return 0.0
