"""Answers kept until something changes."""

from __future__ import annotations

from enum import Enum
from typing import Final, Generic, Literal, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class _Missing(Enum):
    MISSING = 0


MISSING: Final = _Missing.MISSING


class Memo(Generic[K, V]):
    """At most `limit` answers, the oldest going first. `clear` after every commit that could change one.

    An answer read from the database may be older than the last `clear`: whoever reads takes `generation` first and
    hands it to `put`, which then knows.
    """

    def __init__(self, limit: int) -> None:
        self._answers: dict[K, V] = {}
        self._limit = limit
        self.generation = 0

    def get(self, key: K) -> V | Literal[_Missing.MISSING]:
        """The answer, or MISSING."""
        return self._answers.get(key, MISSING)

    def put(self, key: K, answer: V, generation: int) -> None:
        """Keep an answer whose reading began in `generation`; dropped when that has passed."""
        if generation != self.generation:
            return
        if len(self._answers) >= self._limit:
            del self._answers[next(iter(self._answers))]
        self._answers[key] = answer

    def clear(self) -> None:
        self._answers.clear()
        self.generation += 1
