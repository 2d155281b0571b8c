"""The wall between a session and what `imap.notify` does for it. Types alone."""

from __future__ import annotations

from typing import Protocol

from imap.wire.forms import Form


class Teller(Protocol):
    """What stands between a session and its news, once the client has said what it wants to hear (`imap.notify`)."""

    @property
    def listens(self) -> bool:
        """Whether it is to be asked between commands too."""

    @property
    def fetches(self) -> bool:
        """Whether FETCH responses are among what is told."""

    async def tell(self, ask: bool, may_expunge: bool, command: str = "", form: Form | None = None) -> None:
        """At the end of a command, or (command "") when the client is woken in IDLE."""

    async def between(self) -> None:
        """Between two commands."""

    def wrote(self, account: str, modseq: int) -> None:
        """A change is the session's own."""

    def close(self) -> None:
        """The end of it."""
