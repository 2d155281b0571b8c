"""What a client is told while a command takes long: ``* OK [INPROGRESS …]`` (RFC 9585 §4).

The time between two of them is the house's clock's. A timer of the event loop looks at it, for commands that wait for
one answer of storage, and commands that go on in pages look themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from imap.dialogue import Out
from imap.wire import writer
from runtime.clock import Clock

PERIOD = 10.0
"""Seconds before a client is told, and told again (RFC 9585 §4)."""


class Progress:
    """Of one session's running command. half_written: whether a response line is, so that no other can begin."""

    __slots__ = ("_clock", "_done", "_goal", "_half_written", "_out", "_since", "_tag", "_timer")

    def __init__(self, out: Out, clock: Clock, half_written: Callable[[], bool]) -> None:
        self._out = out
        self._clock = clock
        self._half_written = half_written
        self._tag = ""
        self._since = 0.0
        self._goal: int | None = None
        self._done: int | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, tag: str) -> None:
        """A command begins, of which nothing is known."""
        self._tag = tag
        self._since = self._clock.monotonic()
        self._goal = self._done = None
        if self._timer is None:
            self._arm()

    def end(self) -> None:
        """It has ended. (RFC 9585 §4: with the tagged response there is no more to tell.)"""
        self._tag = ""

    def close(self) -> None:
        """The session is over."""
        self.end()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def of(self, goal: int) -> None:
        """The command has so many messages to go through."""
        self._goal, self._done = goal, 0

    def reached(self, done: int) -> None:
        """It has gone through so many of them."""
        self._done = done
        self.look()

    def look(self) -> None:
        """Tell the client, if it is time, and if it is not the server that waits for it."""
        if not self._tag or self._half_written() or self._out.waiting:
            return
        done, goal = self._done, self._goal
        if done is not None and goal is not None and done >= goal:
            # RFC 9585 §4: the goal is never told as reached
            return
        now = self._clock.monotonic()
        if now - self._since < PERIOD:
            return
        self._since = now
        tag = writer.string(self._tag).decode("ascii")
        if done is None or goal is None:
            # RFC 9585 §4: a sign of life
            self._out.write(writer.untagged("OK", "Still at it", f"INPROGRESS ({tag} NIL NIL)"))
        else:
            self._out.write(writer.untagged("OK", f"{done} of {goal} done", f"INPROGRESS ({tag} {done} {goal})"))

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(PERIOD, self._time_to_look)

    def _time_to_look(self) -> None:
        # one timer for all commands that came meanwhile: it goes on only while there is one
        self._timer = None
        if self._tag:
            self.look()
            self._arm()
