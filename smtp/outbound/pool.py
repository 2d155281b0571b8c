"""Sessions that are open and have nothing to do: kept for a moment, for the next message to the same server."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Hashable

from smtp.outbound.session import Endpoint, Session

IDLE_SECONDS = 5.0
"""How long a session waits for the next message."""
IDLE_MAX = 200
"""Sessions that wait, all servers together."""
IDLE_PER_SERVER = 20
MESSAGES_MAX = 500
"""Messages of one session; servers end sessions that never end."""
AGE_MAX = 300.0
"""Seconds after which a session takes no further message: addresses and policies are looked up again."""
KNOWN_MAX = 2000
KNOWN_SECONDS = 30.0
"""How long a destination's last good server is taken again without looking anything up."""
CLOSE_SECONDS = 1.0


class Pool:
    """For one event loop. Destinations are any hashable values; equal ones lead to the same servers."""

    def __init__(self) -> None:
        self._idle: dict[Endpoint, deque[Session]] = {}
        self._count = 0
        self._known: OrderedDict[Hashable, tuple[Endpoint, float]] = OrderedDict()
        self._parting: set[asyncio.Future[None]] = set()
        self._closed = False

    def __len__(self) -> int:
        return self._count

    def take(self, endpoint: Endpoint) -> Session | None:
        """An idle session with the server, or None."""
        waiting = self._idle.get(endpoint)
        while waiting:
            # The one that waited least is the least likely to be closed.
            session = waiting.pop()
            self._out(session)
            if session.reusable:
                return session
            self.part(session)
        return None

    def take_known(self, destination: Hashable) -> Session | None:
        """An idle session with the server that took the destination's mail a moment ago, or None."""
        known = self._known.get(destination)
        if known is None:
            return None
        endpoint, until = known
        if until < asyncio.get_running_loop().time():
            del self._known[destination]
            return None
        return self.take(endpoint)

    def give(self, session: Session, destination: Hashable) -> None:
        """Back after a message. One that cannot take another is ended."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        waiting = self._idle.get(session.endpoint)
        if (
            self._closed
            or not session.reusable
            or session.messages >= MESSAGES_MAX
            or now - session.opened > AGE_MAX
            or self._count >= IDLE_MAX
            or (waiting is not None and len(waiting) >= IDLE_PER_SERVER)
        ):
            self.part(session)
            return
        if waiting is None:
            waiting = self._idle[session.endpoint] = deque()
        waiting.append(session)
        self._count += 1
        session.timer = loop.call_later(IDLE_SECONDS, self._remove, session)
        session.connection.idle = lambda: self._remove(session)
        if destination not in self._known:
            self._known[destination] = (session.endpoint, now + KNOWN_SECONDS)
            if len(self._known) > KNOWN_MAX:
                self._known.popitem(last=False)

    def forget(self, destination: Hashable) -> None:
        """Look the destination up at its next message."""
        self._known.pop(destination, None)

    def part(self, session: Session) -> None:
        """QUIT, in the background."""
        connection = session.connection
        if not connection.gone.done():
            self._parting.add(connection.gone)
            connection.gone.add_done_callback(self._parting.discard)
        connection.part()

    async def close(self) -> None:
        """End what is idle, and from now on everything that is given back."""
        self._closed = True
        for waiting in list(self._idle.values()):
            for session in list(waiting):
                self._remove(session)
        if self._parting:
            await asyncio.wait(tuple(self._parting), timeout=CLOSE_SECONDS)

    def _remove(self, session: Session) -> None:
        waiting = self._idle.get(session.endpoint)
        if waiting is None or session not in waiting:
            return
        waiting.remove(session)
        self._out(session)
        self.part(session)

    def _out(self, session: Session) -> None:
        """It waits no more."""
        self._count -= 1
        session.connection.idle = None
        if session.timer is not None:
            session.timer.cancel()
            session.timer = None
        if not self._idle[session.endpoint]:
            del self._idle[session.endpoint]
