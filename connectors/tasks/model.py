"""The plain data of the task queue. Times are Unix seconds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

CONTENT_MAX: Final = 192 * 1024
"""Octets of one task's message."""
WAITING_MAX: Final = 1000
"""Tasks of one account that wait or are being sent, where the settings say nothing else."""
REASON_MAX: Final = 1000
"""Characters of a reason that are kept."""
KEY_SECONDS: Final = 3600.0
"""For how long, at least, the key of a task that was put is known."""
RESULT_SECONDS: Final = 86400.0
"""For how long what became of a task can be asked."""
WAIT_MAX: Final = 60.0
"""Seconds that one claim waits at most."""
CLAIM_MAX: Final = 100
"""Tasks of one claim."""


class Status(Enum):
    """PENDING: waiting, or being sent. The others are ends, and a task has one of them for good."""

    PENDING = "pending"
    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class NewTask:
    """A message to one address, whole and ready to be sent. account: whose task it is. sender: reverse-path. content:
    at most CONTENT_MAX octets. trace: id of its trace. digest: tells it from other tasks put under the same key."""

    account: str
    sender: str
    to: str
    content: bytes
    trace: str
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """What is known of a task. attempts: those whose outcome is known. reason: why the last of them failed, "".

    doubtful: after at least one attempt it was not seen whether the remote server has taken the message (its 250 was
    lost, or the worker was killed), so that it may have been sent more often than once, or, where it failed, once.
    """

    id: str
    account: str
    to: str
    status: Status
    attempts: int
    reason: str = ""
    doubtful: bool = False
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A task that the caller alone may try while its lease runs. lease: names this claim. lost: claims before this one
    that ended without a word, by which ``task.doubtful`` is true. content: the message where the adapter has it at
    hand; None: to be asked for."""

    task: Task
    lease: str
    sender: str
    trace: str
    size: int
    lost: int = 0
    content: bytes | None = None
