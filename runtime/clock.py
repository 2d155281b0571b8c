"""Time as a value that is handed in, so that tests need not wait for it."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What asks for the time takes one of these."""

    def now(self) -> float:
        """Seconds since 1970-01-01 UTC, as the wall shows them (may jump)."""
        ...

    def monotonic(self) -> float:
        """Seconds that only ever go forward; for durations and deadlines."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._now = now
        self._monotonic = 0.0

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Move both readings forward."""
        if seconds < 0:
            raise ValueError("time goes forward")
        self._now += seconds
        self._monotonic += seconds
