"""Turns: what is of one sequence and about one thing is done in the order of asking. For one event loop."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext
from weakref import WeakValueDictionary


class Turns:
    """One lock for each thing and sequence that somebody holds or waits for."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def of(self, thing: str, sequence: str) -> AbstractAsyncContextManager[None]:
        """The turn of the one who enters it now: after all who did before in this sequence. Who is in none ("") has no
        need to wait."""
        if not sequence:
            return nullcontext()
        lock = self._locks.get((thing, sequence))
        if lock is None:
            lock = self._locks[thing, sequence] = asyncio.Lock()
        return lock
