"""Time-outs that a test lets run out, on a machine that stands still now and then.

    for attempt in attempts():
        with attempt as seconds:
            ...

The first attempt has a time-out so short that nobody waits for it; where it ran out before what is to be shown was
reached, the block fails, and is tried again with a longer one. What the last attempt raises is the test's failure.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

import pytest

PATIENCE = (0.3, 3.0, 30.0)
"""Seconds."""


class Attempt:
    """One of them. seconds: the time-out that it is given."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.good = False

    def __enter__(self) -> float:
        return self.seconds

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.good = error is None
        return isinstance(error, (Exception, pytest.fail.Exception)) and self.seconds != PATIENCE[-1]


def attempts() -> Iterator[Attempt]:
    """As many as are needed, and no more than there are in PATIENCE."""
    for seconds in PATIENCE:
        attempt = Attempt(seconds)
        yield attempt
        if attempt.good:
            return
