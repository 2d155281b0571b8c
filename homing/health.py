"""Is what a service depends on there? Asked in the background, so that whoever asks for its health never waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from connectors.tasks.port import TaskQueue
from identity.port import Identity
from identity.port import Unavailable as IdentityUnavailable
from storage.port import Storage
from storage.port import Unavailable as StorageUnavailable

EVERY_SECONDS = 1.0
TIMEOUT_SECONDS = 2.0
OK = "ok"
NOBODY = "nobody"

log = structlog.get_logger("health")


@dataclass(frozen=True, slots=True)
class Check:
    """A question whose answer shows that something is there. needed: without it the service is not ready."""

    ask: Callable[[], Awaitable[Any]]
    needed: bool = True


def identity_check(identity: Identity, *, needed: bool = True) -> Check:
    """Does identity answer, its store included?"""
    return Check(lambda: identity.changes_since(0, 0.0), needed)


def storage_check(storage: Storage, *, needed: bool = True) -> Check:
    """Does storage answer, its store included?"""
    return Check(lambda: storage.usage(NOBODY), needed)


def queue_check(queue: TaskQueue, *, needed: bool = True) -> Check:
    """Does the queue of tasks answer?"""
    return Check(queue.waiting, needed)


class Health:
    """The state of each dependency by name: "ok", or a sentence that tells nothing of what lies behind it."""

    def __init__(
        self, checks: Mapping[str, Check], *, every: float = EVERY_SECONDS, timeout: float = TIMEOUT_SECONDS
    ) -> None:
        self._checks = dict(checks)
        self._every = every
        self._timeout = timeout
        self._states = dict.fromkeys(checks, "not asked yet")
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._forever(name, check), name=f"health of {name}")
            for name, check in self._checks.items()
        ]

    async def drain(self) -> None:
        return None

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def states(self) -> dict[str, str]:
        """As they were at the last look."""
        return dict(self._states)

    @property
    def good(self) -> bool:
        """Is all there that is needed?"""
        return all(self._states[name] == OK for name, check in self._checks.items() if check.needed)

    async def _forever(self, name: str, check: Check) -> None:
        while True:
            state, reason = await self._look(check)
            if state != self._states[name]:
                (log.info if state == OK else log.warning)("dependency", name=name, state=state, reason=reason)
            self._states[name] = state
            await asyncio.sleep(self._every)

    async def _look(self, check: Check) -> tuple[str, str]:
        try:
            async with asyncio.timeout(self._timeout):
                await check.ask()
        except TimeoutError:
            return f"no answer within {self._timeout:g} s", ""
        except (IdentityUnavailable, StorageUnavailable) as error:
            return "cannot answer now", str(error)
        except Exception:
            log.exception("a look at a dependency failed")
            return "met an error of its own", ""
        return OK, ""
