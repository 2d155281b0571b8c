"""Notes in memory."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.clock import Clock
from smtp.outbound.notes import PAGE_MAX, Note


class FakeNotes:
    """`smtp.outbound.notes.Notes`. error: raised by each call while it is set."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.kept: dict[tuple[str, str], tuple[str, float]] = {}
        self.error: Exception | None = None

    async def get(self, space: str, key: str) -> str | None:
        self._check()
        found = self.kept.get((space, key))
        return found[0] if found is not None and found[1] > self._clock.now() else None

    async def put(self, space: str, key: str, text: str, until: float) -> None:
        self._check()
        self.kept[space, key] = (text, until)

    async def first(self, space: str, key: str, text: str, until: float) -> str:
        there = await self.get(space, key)
        if there is not None:
            return there
        await self.put(space, key, text, until)
        return text

    async def page(self, space: str, after: str = "", limit: int = PAGE_MAX) -> tuple[Note, ...]:
        self._check()
        now = self._clock.now()
        found = sorted(
            (key, text) for (of, key), (text, until) in self.kept.items() if of == space and key > after and until > now
        )
        return tuple(Note(key, text) for key, text in found[:limit])

    async def remove(self, space: str, keys: Sequence[str]) -> None:
        self._check()
        for key in keys:
            self.kept.pop((space, key), None)

    async def close(self) -> None:
        return None

    def _check(self) -> None:
        if self.error is not None:
            raise self.error
