"""Commands whose answer waits for storage while the client's next ones are taken in (RFC 3501 §5.5).

A client that sends one APPEND behind the other need not have each on the disk before the next is looked at: storage
keeps their order, and may commit several at once. The answers go out in the order of the commands.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from imap.session import Entry, Reply
    from imap.wire.forms import Command
    from storage.model import Appended

COMMANDS = 64
"""Commands of one session that are open at a time."""
OCTETS = 4 * 1024 * 1024
"""Octets of messages that these and the command which begins hold in memory."""
COMMAND_OCTETS = 2 * 1024 * 1024
"""Octets of its messages that one command holds in memory until all have come; what comes beyond is staged."""


@dataclass(frozen=True, slots=True)
class Later:
    """How a command ends that has handed its work to storage. told: its reply, once the work is done; raises No, Bad
    and the ports' errors. octets: what it holds until then. owner: whose mail the work changes."""

    work: asyncio.Task[Appended]
    told: Callable[[Any], Awaitable[Reply]]
    octets: int
    owner: str


class _Open(NamedTuple):
    command: Command
    entry: Entry[Any]
    later: Later


class Open:
    """The open commands of one session, in their order.

    sequence: the session's operations are of it, since its commands take place one after the other.
    """

    def __init__(self) -> None:
        self.sequence = uuid.uuid4().hex
        self._open: deque[_Open] = deque()
        self._octets = 0

    def __bool__(self) -> bool:
        return bool(self._open)

    @property
    def is_full(self) -> bool:
        """Whether some are to be answered before another comes, which may hold as much as one command can."""
        return len(self._open) >= COMMANDS or self._octets > OCTETS - COMMAND_OCTETS

    def add(self, command: Command, entry: Entry[Any], later: Later) -> None:
        self._open.append(_Open(command, entry, later))
        self._octets += later.octets

    def take(self) -> tuple[Command, Entry[Any], Awaitable[Reply]]:
        """The first one, and its reply to wait for."""
        command, entry, later = self._open.popleft()
        self._octets -= later.octets
        return command, entry, later.told(later.work)

    async def changes(self) -> set[tuple[str, int]]:
        """What these commands have changed, once storage has done their work: (whose mail, modification sequence)."""
        works = [(one.later.owner, one.later.work) for one in self._open]
        if works:
            await asyncio.wait([work for _, work in works])
        done = [(owner, work) for owner, work in works if not work.cancelled() and work.exception() is None]
        return {(owner, work.result().modseq) for owner, work in done}

    def close(self) -> None:
        """Nobody waits any more; what storage has in hand takes place all the same."""
        while self._open:
            work = self._open.popleft().later.work
            if not work.cancel() and not work.cancelled():
                # it is over, and how is of no interest any more
                work.exception()
