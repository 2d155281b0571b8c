"""The life of a process: start in order, say ready, drain on a signal, stop in reverse."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

DRAIN_SECONDS = 30.0


class StartError(Exception):
    """The process cannot start, and why, in one sentence for the person who started it. `exit_code` is the status."""

    def __init__(self, sentence: str, *, exit_code: int = 1) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class Service(Protocol):
    """A part of the process that has a life of its own."""

    async def start(self) -> None:
        """Return once it serves. Raises StartError when it cannot."""
        ...

    async def drain(self) -> None:
        """Take no new work, and return when the work in hand is finished. Cancelled at the deadline."""
        ...

    async def stop(self) -> None:
        """Let go of everything at once. Called once after every `start` that returned, drained or not."""
        ...
