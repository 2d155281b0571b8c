"""The calls by which mail leaves the spool: claimed, tried elsewhere, settled."""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from collections.abc import Callable, Mapping, Sequence

import structlog

from runtime.clock import Clock
from storage.adapters.sqlite import deliver, operations, spool_claims
from storage.adapters.sqlite.commits import Commits
from storage.adapters.sqlite.events import keep as keep_events
from storage.adapters.sqlite.intake import Intake
from storage.hub import Bell
from storage.intake import Described
from storage.limits import ACCEPT_BATCH, CLAIM_POLL, SPOOL_CHANGES, WATCH_MAX
from storage.model import Claimed, Operation, Settlement, SpoolAction
from storage.port import Refused, Unavailable
from storage.spooling import check_number

Delivered = Callable[[Sequence[Described | Refused], Sequence[deliver.Arrival]], None]
"""Is told what reports came to: their bodies and arrivals."""
log = structlog.get_logger("storage")


class Sending:
    """bell: rings when something may be due. delivered: hears of reports once they are durable."""

    def __init__(self, commits: Commits, intake: Intake, clock: Clock, delivered: Delivered) -> None:
        self.bell = Bell()
        self._commits = commits
        self._intake = intake
        self._clock = clock
        self._delivered = delivered
        self._closed = False

    def close(self) -> None:
        """End every wait."""
        self._closed = True
        self.bell.ring()

    async def claim(
        self, limit: int, per_domain: int, lease: float, wait: float, skip: frozenset[str], queue: str
    ) -> tuple[Claimed, ...]:
        """``Storage.claim``."""
        if self._closed:
            raise Unavailable("the store is closed")
        loop = asyncio.get_running_loop()
        until = loop.time() + min(wait, WATCH_MAX)
        name = uuid.uuid4().hex
        while not self._closed:
            rung = self.bell.rung
            # A reader looks first: a claim that finds nothing costs the writer nothing, and is no use of the store for
            # which others would stand back.
            due = await self._commits.read(lambda conn: spool_claims.next_due(conn, skip, queue), background=True)
            now = self._clock.now()
            if due is not None and due <= now:
                claimed = await self._commits.quiet(
                    lambda conn, now: spool_claims.claim(conn, now, limit, per_domain, lease, skip, name, queue)
                )
                if claimed:
                    return claimed
            left = until - loop.time()
            if left <= 0:
                return ()
            soon = due - now if due is not None and due > now else CLAIM_POLL
            await self.bell.wait(rung, min(left, soon, CLAIM_POLL))
        return ()

    async def extend(self, leases: Mapping[str, str], lease: float) -> frozenset[str]:
        """``Storage.extend``."""
        check_number(len(leases), SPOOL_CHANGES)
        return await self._commits.quiet(lambda conn, now: spool_claims.extend(conn, now, leases, lease))

    async def settle(self, settlements: Sequence[Settlement]) -> list[Refused | Unavailable | None]:
        """``Storage.settle``."""
        outcomes: list[Refused | Unavailable | None] = []
        for start in range(0, len(settlements), ACCEPT_BATCH):
            batch = settlements[start : start + ACCEPT_BATCH]
            try:
                outcomes += await self._settle(batch)
            except Unavailable as unavailable:
                outcomes += [unavailable] * len(batch)
            except Exception:
                if len(settlements) == 1:
                    raise
                outcomes += [await self._settle_alone(one) for one in batch]
        return outcomes

    async def _settle_alone(self, settlement: Settlement) -> Refused | Unavailable | None:
        """One of a batch in which something was wrong that nothing should be: the others must not suffer from it."""
        try:
            return (await self._settle([settlement]))[0]
        except Unavailable as unavailable:
            return unavailable
        except Exception:
            log.exception("an attempt could not be settled", item=settlement.item)
            return Unavailable("internal error")

    async def _settle(self, batch: Sequence[Settlement]) -> list[Refused | Unavailable | None]:
        reports = [one.report for one in batch if one.report is not None]
        bodies = await self._intake.deliveries(reports) if reports else []
        described = iter(bodies)
        work = [(one, None if one.report is None else next(described)) for one in batch]

        def job(conn: sqlite3.Connection, now: float) -> tuple[list[spool_claims.Settled], dict[str, int]]:
            settled = spool_claims.settle(conn, work, now)
            modseqs: dict[str, int] = {}
            for one in settled:
                if one.report is not None:
                    modseqs.update(one.report.modseqs)
            return settled, modseqs

        settled = await self._commits.run(job, heard=self._heard)
        arrived = [
            (body, one.report)
            for (_, body), one in zip(work, settled, strict=True)
            if body is not None and one.report is not None
        ]
        if arrived:
            self._delivered([body for body, _ in arrived], [arrival for _, arrival in arrived])
        return [one.outcome for one in settled]

    def _heard(self, settled: Sequence[spool_claims.Settled]) -> None:
        if any(one.left or (one.report is not None and spooled(one.report)) for one in settled):
            self.bell.ring()

    async def change(
        self, op: Operation, items: Sequence[str], action: SpoolAction, route: str | None
    ) -> tuple[str, ...]:
        """``Storage.change_spool``."""
        check_number(len(items), SPOOL_CHANGES)

        def job(conn: sqlite3.Connection, now: float) -> tuple[tuple[str, ...], dict[str, int]]:
            known = operations.find(conn, op, now)
            if known is not None:
                return tuple(known), {}
            done, events = spool_claims.change(conn, op, items, action, route, now)
            operations.keep(conn, op, done, now)
            keep_events(conn, now, [*op.events, *events])
            return done, {}

        return await self._commits.run(job, heard=lambda done: self.bell.ring())


def spooled(arrival: deliver.Arrival) -> bool:
    """Does something wait to be sent on now?"""
    return not isinstance(arrival.outcome, Refused) and bool(arrival.outcome.spooled)
