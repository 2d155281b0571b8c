"""The task queue: the contract that every adapter keeps.

**Durability.** A call that changes something returns after the change survives kill -9 and power loss. **Atomicity.**
Each call is one change: all of it is seen, or none. **Once.** A task has one end, for good: success, failed or
cancelled; who does not hold its lease ends nothing. **Any number** of processes put and claim at the same time.
**Errors.** Refused and Unavailable, nothing else; anything else that escapes is a bug. A call that met Unavailable may
have been done, its answer lost: its repeat, with the same arguments, does no harm.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Protocol

from connectors.tasks.model import Claimed, NewTask, Task


class Reason(Enum):
    """Why a call was refused."""

    NO_SUCH_TASK = "no such task"
    LEASE_LOST = "not under this lease"
    BEING_SENT = "being sent"
    ENDED = "ended already"
    TOO_MANY = "too many tasks wait"
    TOO_BIG = "too big"


class Refused(Exception):
    """A permanent no. text: one sentence for a person."""

    def __init__(self, reason: Reason, text: str = "") -> None:
        super().__init__(text or reason.value)
        self.reason = reason
        self.text = text or reason.value


class Unavailable(Exception):
    """The queue cannot answer now: try later."""


class TaskQueue(Protocol):
    """See the module's docstring for what holds for every call."""

    async def put(self, task: NewTask, key: str) -> str:
        """Keep a task until a worker takes it: its id. key: the same for repeats of one wish, and unlike all others; a
        repeat within KEY_SECONDS makes nothing and returns the first id, whatever else it says. TOO_BIG; TOO_MANY when
        the account has as many as the queue was opened for (a few more may come in at the same moment, and a repeat may
        be refused so too)."""

    async def task(self, id: str, account: str | None) -> Task:
        """What is known of a task; with an account only its own. One that has ended is known for RESULT_SECONDS after.
        NO_SUCH_TASK."""

    async def cancel(self, id: str, account: str | None) -> None:
        """End a task that waits, before the first attempt or between two. A repeat does no harm. NO_SUCH_TASK,
        BEING_SENT while a worker holds it, ENDED."""

    async def waiting(self) -> int:
        """How many tasks have no end yet."""

    async def claim(self, limit: int, lease: float, wait: float = 0.0) -> tuple[Claimed, ...]:
        """Take up to ``limit`` tasks that are due and under no lease that runs, those due longest about first. Each is
        the caller's alone for ``lease`` seconds, and is claimed again after. Without any it waits until one may be due,
        at most ``wait`` seconds, and then perhaps returns ()."""

    async def extend(self, leases: Mapping[str, str], lease: float) -> frozenset[str]:
        """Let the leases of these tasks (id → lease) run ``lease`` seconds from now: those that are still the
        caller's."""

    async def content(self, id: str) -> bytes:
        """The message of a task without an end. NO_SUCH_TASK."""

    async def succeed(self, claimed: Claimed, *, doubtful: bool = False) -> None:
        """The attempt has sent it: the end. Its message is forgotten. LEASE_LOST."""

    async def fail(self, claimed: Claimed, reason: str, *, attempted: bool = True, doubtful: bool = False) -> None:
        """It will never be sent: the end. attempted: whether one more attempt counts. LEASE_LOST."""

    async def retry(self, claimed: Claimed, delay: float, reason: str, *, doubtful: bool = False) -> None:
        """The attempt has failed, and counts: due again in ``delay`` seconds. LEASE_LOST."""

    async def give_back(self, claimed: Claimed, delay: float = 0.0, *, doubtful: bool = False) -> None:
        """No attempt counts: due again in ``delay`` seconds. doubtful: one was broken off. LEASE_LOST."""

    async def sweep(self) -> bool:
        """Forget some of the ends that are older than RESULT_SECONDS. True while there may be more."""

    async def close(self) -> None:
        """Let go of what is behind; waiting claims end."""
