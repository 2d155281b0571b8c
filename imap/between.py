"""What a connection does between two commands: it has open answers given before it waits for the client, and news told
that it hears of (RFC 5465 §3.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, Protocol

from imap.dialogue import Dialogue
from imap.wire.framer import Event


class News:
    """In place of a command: somebody has called `Out.notify`."""


NEWS: Final = News()


class _Connection(Protocol):
    _dialogue: Dialogue | None
    _ending: bool
    _listens: bool
    _loop: asyncio.AbstractEventLoop
    _news: bool
    _task: asyncio.Task[None] | None
    _waits_for_line: bool

    def _serve(self, dialogue: Dialogue, event: News) -> Coroutine[Any, Any, None]: ...

    def _take_event(self) -> Event | None: ...

    def _tell_between(self) -> None: ...

    def _wake(self) -> None: ...


class Between:
    """Part of `imap.connection.ImapConnection`."""

    __slots__ = ()

    _task: asyncio.Task[None] | None

    async def _event_or_settled(self: _Connection) -> Event | None:
        """The next event; where none is here, the one that has come when the open answers are given."""
        event = self._take_event()
        if event is None and self._dialogue is not None and await self._dialogue.settle():
            event = self._take_event()
        return event

    def notify(self: _Connection) -> None:
        """There is news."""
        self._news = True
        if self._waits_for_line:
            self._wake()
        else:
            self._tell_between()

    def listen(self: _Connection, on: bool) -> None:
        """Whether news are told between commands."""
        self._listens = on

    def _tell_between(self: _Connection) -> None:
        """Where nothing runs now; else it is called again when that has ended."""
        if self._listens and self._news and self._task is None and not self._ending and self._dialogue is not None:
            self._news = False
            self._task = self._loop.create_task(self._serve(self._dialogue, NEWS))
