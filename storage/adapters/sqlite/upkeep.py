"""Upkeep: sweep, purge, scrub, reparse; each in bounded steps between which deliveries come through."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from runtime.clock import Clock
from storage import ingest
from storage.adapters.sqlite import accounts, blobs, events, ids, operations, spool, sweep
from storage.adapters.sqlite.commits import Commits
from storage.adapters.sqlite.intake import Intake
from storage.adapters.sqlite.search_index import SearchIndex
from storage.limits import PURGE_STEPS, SWEEP_ENTRIES, TraceLimits
from storage.model import Operation, SweepReport
from storage.rights import check_rights


class Upkeep:
    def __init__(self, commits: Commits, intake: Intake, index: SearchIndex, clock: Clock, trace: TraceLimits) -> None:
        self._commits = commits
        self._intake = intake
        self._index = index
        self._clock = clock
        self._trace = trace

    async def purge(self, op: Operation, account: str) -> bool:
        """``Storage.purge_account``."""
        check_rights(op, account)
        known = await self._commits.read(lambda conn: operations.find(conn, op, self._clock.now()))
        if known is not None:
            return bool(known[0])
        number = await self._commits.run(lambda conn, now: _begun(accounts.begin_purge(conn, account), account))
        left = number is not None
        for _ in range(PURGE_STEPS):
            if number is None or not left:
                break
            left = await self._purge_step(number)

        def keep(conn: sqlite3.Connection, now: float) -> tuple[None, dict[str, int]]:
            if operations.find(conn, op, now) is None:
                operations.keep(conn, op, [not left], now)
                events.keep(conn, now, op.events)
            return None, {}

        await self._commits.run(keep)
        return not left

    async def _purge_step(self, number: int) -> bool:
        if await self._commits.quiet(lambda conn, now: sweep.drain_account(conn, number)):
            return True
        if await self._free_emails(number):
            return True
        return (await self._commits.quiet(lambda conn, now: sweep.free_blobs(conn, 0.0)))[2]

    async def sweep(self, grace: float) -> SweepReport:
        """``Storage.sweep``: one step of each kind, each a commit of its own."""
        before = self._clock.now() - grace
        drained = await self._commits.quiet(lambda conn, now: sweep.drain_mailbox(conn, now))
        forgotten = await self._commits.quiet(lambda conn, now: sweep.forget_lost(conn, before))
        emails = await self._free_emails(None)
        freed, staged, more = await self._commits.quiet(lambda conn, now: sweep.free_blobs(conn, before))
        expired = await self._commits.quiet(
            lambda conn, now: (
                operations.expire(conn, now, SWEEP_ENTRIES),
                events.expire(conn, now, SWEEP_ENTRIES, self._trace),
            )
        )
        full = SWEEP_ENTRIES
        results = await self._commits.quiet(lambda conn, now: spool.expire_results(conn, now, full))
        more = more or drained or full in (forgotten, emails, results, *expired)
        return SweepReport(emails, freed, staged, *expired, more)

    async def _free_emails(self, account: int | None) -> int:
        unused = await self._commits.read(lambda conn: sweep.unused_emails(conn, account))
        if not unused:
            return 0
        await self._index.remove(unused)
        numbers = [number for _, number in unused]
        return await self._commits.quiet(lambda conn, now: sweep.free_emails(conn, numbers))

    async def scrub(self, after: str, limit: int) -> tuple[str, tuple[str, ...]]:
        """``Storage.scrub``."""
        found = await self._commits.read(lambda conn: blobs.listed(conn, ids.number(after, "B"), limit))
        damaged = [ids.blob(blob.number) for blob in found if not await self._intake.proved(blob)]
        return _last(found, limit), tuple(damaged)

    async def reparse(self, after: str, limit: int) -> str:
        """``Storage.reparse``: a blob at a time, from where it came to before."""
        begin = ids.number(after, "B")

        def look(conn: sqlite3.Connection) -> tuple[int, list[blobs.Kept]]:
            done = blobs.described(conn, ingest.VERSION)
            return done, blobs.listed(conn, max(begin, done), limit)

        # It goes through all that is new, and nobody waits for it: the search index need not either.
        done, found = await self._commits.read(look, background=True)
        for blob in found:
            if blob.version < ingest.VERSION:
                await self._intake.reparse(blob)
        if found and begin <= done:
            last = found[-1].number
            await self._commits.quiet(
                lambda conn, now: blobs.set_described(conn, ingest.VERSION, last), lasting=False, background=True
            )
        return _last(found, limit)


def _last(found: Sequence[blobs.Kept], limit: int) -> str:
    """The id to go on from; "" after the last page."""
    return ids.blob(found[-1].number) if found and len(found) >= limit else ""


def _begun(begun: tuple[int, int] | None, account: str) -> tuple[int | None, dict[str, int]]:
    return (None, {}) if begun is None else (begun[0], {account: begun[1]})
