"""Who is signed in here: how many sessions an account has, and their end when what they signed in with ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from identity.model import Principal
from identity.port import Identity, Unavailable
from imap.errors import No

WAIT_SECONDS = 30.0
RETRY_SECONDS = 1.0

End = Callable[[str], None]
"""Ends a session, with a sentence for its client."""


class SignIns:
    """All signed-in sessions of the process. `start` and `stop` by the service; the rest by sessions."""

    def __init__(self, identity: Identity, per_account: int) -> None:
        self._identity = identity
        self._per_account = per_account
        self._sessions: dict[str, dict[End, Principal]] = {}
        self._seq = 0
        self._task: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("imap")

    @property
    def sessions(self) -> int:
        """How many are signed in."""
        return sum(len(sessions) for sessions in self._sessions.values())

    @property
    def mark(self) -> int:
        """Take it before a password is checked, and give it to `enter`."""
        return self._seq

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="imap sign-ins")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def enter(self, principal: Principal, end: End, mark: int) -> None:
        """Count a session whose password was good. Raises No where the account has too many, or where what it signed in
        with has ended since `mark`."""
        sessions = self._sessions.setdefault(principal.account, {})
        if len(sessions) >= self._per_account:
            raise No("Too many connections of this account", "LIMIT")
        sessions[end] = principal
        try:
            valid = mark == self._seq or await self._identity.still_valid(principal)
        except BaseException:
            # an identity that is away is no sign-in, and no session may stay counted for it
            self.leave(principal.account, end)
            raise
        if not valid:
            self.leave(principal.account, end)
            raise No("What you signed in with has just been changed", "AUTHENTICATIONFAILED")

    def leave(self, account: str, end: End) -> None:
        """The session has ended. May be repeated."""
        sessions = self._sessions.get(account)
        if sessions is not None:
            sessions.pop(end, None)
            if not sessions:
                del self._sessions[account]

    async def _run(self) -> None:
        review_all = False
        while True:
            asked = self._seq
            try:
                changes = await self._identity.changes_since(asked, 0.0 if review_all else WAIT_SECONDS)
                # from here on a new session checks itself in `enter`; those that are in are looked at below
                self._seq = changes.seq
                # asked from 0 the answer begins "now": what happened before it is not in it
                review_all = review_all or changes.reset or not asked
                for account in tuple(self._sessions) if review_all else {c.account for c in changes.changes}:
                    await self._review(account)
                review_all = False
                if not changes.seq:
                    await asyncio.sleep(RETRY_SECONDS)
            except Unavailable:
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:
                self._log.exception("changes of identity")
                review_all = True
                await asyncio.sleep(RETRY_SECONDS)

    async def _review(self, account: str) -> None:
        """End those sessions whose credential no longer holds; waits for an identity that is away."""
        for end, principal in tuple(self._sessions.get(account, {}).items()):
            while True:
                try:
                    valid = await self._identity.still_valid(principal)
                    break
                except Unavailable:
                    await asyncio.sleep(RETRY_SECONDS)
            if not valid:
                end("Signed out: what you signed in with has been changed")
