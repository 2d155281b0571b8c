"""Reads and writes: a write runs once, whoever stops waiting; its news goes out after the commit."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Mapping
from typing import TypeVar

from runtime.clock import Clock
from runtime.sqlite import Database, DatabaseUnavailable
from storage.adapters.sqlite import events, operations
from storage.hub import Hub
from storage.model import Operation
from storage.port import Reason, Refused, Unavailable
from storage.rights import check_rights
from storage.rights import told as told_refused

T = TypeVar("T")
Modseqs = Mapping[str, int]
Job = Callable[[sqlite3.Connection, float], tuple[T, Modseqs]]
"""A job of the writer: (connection, now) → its value and the new modseq of each account that it changed."""


class Commits:
    def __init__(self, database: Database, hub: Hub, clock: Clock) -> None:
        self._database = database
        self._hub = hub
        self._clock = clock

    async def run(
        self,
        job: Job[T],
        *,
        lasting: bool = True,
        background: bool = False,
        heard: Callable[[T], None] | None = None,
    ) -> T:
        """The job's value once it is durable (``lasting`` and ``background`` as in ``Database.write``). Raises what the
        job raises, or Unavailable. heard: is given the value too, whether or not the caller still waits."""

        def tell(done: tuple[T, Modseqs]) -> None:
            value, modseqs = done
            self._hub.publish(modseqs)
            if heard is not None:
                heard(value)

        try:
            value, _ = await self._database.write(
                lambda conn: job(conn, self._clock.now()), lasting=lasting, background=background, heard=tell
            )
        except DatabaseUnavailable as error:
            raise told(error) from error
        return value

    async def quiet(
        self, job: Callable[[sqlite3.Connection, float], T], *, lasting: bool = True, background: bool = False
    ) -> T:
        """The same for a job that is no news to anybody."""
        return await self.run(lambda conn, now: (job(conn, now), {}), lasting=lasting, background=background)

    async def read(self, job: Callable[[sqlite3.Connection], T], *, background: bool = False) -> T:
        """What a short read sees (``background`` as in ``Database.read``). Raises what the job raises, or
        Unavailable."""
        try:
            return await self._database.read(job, background=background)
        except DatabaseUnavailable as error:
            raise told(error) from error

    async def once(
        self,
        op: Operation,
        owner: str,
        job: Callable[[sqlite3.Connection, float], tuple[T, int | Modseqs]],
        plain: Callable[[T], operations.Outcome],
        again: Callable[[sqlite3.Connection, operations.Outcome], T],
        *,
        shared: bool = False,
        unknown: Reason = Reason.NO_SUCH_MAILBOX,
    ) -> T:
        """An operation on the owner's mail. job: → (value, the account's modseq or 0; or those of all that it
        changes). plain: the outcome as JSON. again: the value of a repeat out of that JSON. shared: the job itself sees
        to the rights of others than the owner; else NO_PERMISSION. unknown: why these are refused where there is no
        such owner."""
        if not shared:
            check_rights(op, owner)

        def run(conn: sqlite3.Connection, now: float) -> tuple[T, Modseqs]:
            known = operations.find(conn, op, now)
            if known is not None:
                return again(conn, known), {}
            try:
                value, modseq = job(conn, now)
            except Refused as refusal:
                raise told_refused(refusal, op, owner, unknown) from None
            operations.keep(conn, op, plain(value), now)
            events.keep(conn, now, op.events)
            return value, {owner: modseq} if isinstance(modseq, int) else modseq

        return await self.run(run)

    async def finish(self) -> None:
        """Wait for what has begun: jobs run in the order in which they were handed in."""
        with contextlib.suppress(DatabaseUnavailable):
            await self._database.write(lambda conn: None, lasting=False)


def told(error: DatabaseUnavailable) -> Unavailable:
    """The same in the port's words."""
    return Unavailable(str(error), full=error.full)
