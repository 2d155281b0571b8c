"""What one session is told of its own accord: all that happens in the mailbox selected, while commands run; and once
its client has said NOTIFY, what it wants, also between them (RFC 5465 §3.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from imap.notify.teller import Teller
from imap.uidonly import searches_numbers
from imap.wire.forms import Command
from storage.port import Refused, Unavailable

if TYPE_CHECKING:
    from imap.session import Session

log = structlog.get_logger("imap")


class Listening:
    """Belongs to a session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._monitor: Teller | None = None

    def begin(self, monitor: Teller) -> None:
        """From now on the client is told what it has asked for."""
        self.close()
        self._monitor = monitor
        self._session.out.listen(monitor.listens)
        # what has happened since it asked
        self._session.out.notify()

    def close(self) -> None:
        """Nothing more is told."""
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None

    def wrote(self, owner: str, modseq: int) -> None:
        """A change of the owner's mail is the session's own."""
        if self._monitor is not None:
            self._monitor.wrote(owner, modseq)

    async def tell(self, ask: bool, may_expunge: bool, command: Command | None = None) -> None:
        """Tell what is news at the end of a command; None: of one that is refused for what is news."""
        if command is not None and searches_numbers(command.form):
            # RFC 7162 §3.2.10.2: not during a UID SEARCH with numbers in it
            may_expunge = False
        if self._monitor is None:
            await self._session.tell_news(ask, may_expunge)
        elif command is None:
            await self._monitor.tell(ask, may_expunge)
        else:
            await self._monitor.tell(ask, may_expunge, command.name, command.form)
        self._tell_reached()

    async def wake(self) -> None:
        """Tell what is news in IDLE (RFC 2177 §3)."""
        if self._monitor is None:
            await self._session.tell_news(ask=True, may_expunge=True)
        else:
            await self._monitor.tell(ask=True, may_expunge=True)
        if self._monitor is None or self._monitor.fetches:
            self._tell_reached()

    def _tell_reached(self) -> None:
        """`View.reached`, behind what may have told of newer changes."""
        view = self._session.view
        if view is not None and (line := view.reached()):
            self._session.out.write(line)

    async def between(self) -> None:
        """Tell what is news between two commands. Not being able to is no failure: later will do."""
        if self._monitor is None:
            return
        try:
            await self._monitor.between()
            if self._monitor is not None and self._monitor.fetches:
                self._tell_reached()
        except (Refused, Unavailable) as error:
            log.info("news cannot be told", reason=str(error))
            if self._session.in_line:
                # the client counts a literal's octets: only the connection's end tells it that some are missing
                self._session.out.close()
