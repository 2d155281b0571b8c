"""What is refused again and again has a trace too: one for each address in a while, however often it comes."""

from __future__ import annotations

from identity.guesspolicy import place
from runtime.clock import Clock
from runtime.ids import new_id
from smtp.journal import Journal
from smtp.session import Session, connect_event
from smtp.wire.replies import Reply
from storage.model import Event

TOLD_SECONDS = 60.0
"""An address is told of again after so long."""
TOLD_MAX = 10_000
"""Addresses of which it is remembered when they were told of; then all are forgotten."""


class TurnedAway:
    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._told: dict[str, float] = {}

    def worth_telling(self, what: str, session: Session) -> bool:
        """True once in TOLD_SECONDS for this and the session's address: a client that goes on costs neither a write
        nor the room of what others are told."""
        now, key = self._clock.monotonic(), f"{what} {place(session.peer)}"
        if now - self._told.get(key, -TOLD_SECONDS) < TOLD_SECONDS:
            return False
        if len(self._told) >= TOLD_MAX:
            self._told.clear()
        self._told[key] = now
        return True

    def note(self, session: Session, reply: Reply) -> None:
        """The connection was sent away with the reply."""
        if not self.worth_telling("connect", session):
            return
        trace = new_id()
        refused = Event(trace, self._clock.now(), "refused", None, {"reply": str(reply), "size": 0})
        self._journal.add((connect_event(session, trace), refused))
