"""What came of an attempt, and what an administrator does: see ``sending`` for how an item is changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from runtime.mongo import Document
from storage.adapters.mongo import events, queries, reports, spool, spool_queries
from storage.adapters.mongo.accounts import Accounts
from storage.adapters.mongo.blobs import Blobs, is_id
from storage.adapters.mongo.commits import Commits
from storage.adapters.mongo.database import Database
from storage.adapters.mongo.deliver import no_place
from storage.adapters.mongo.operations import Operations
from storage.adapters.mongo.spool_work import Commit, SpoolWork
from storage.intake import Intake
from storage.limits import ACCEPT_BATCH, SPOOL_CHANGES
from storage.model import MAIL, Operation, Settlement, SpoolAction, StagedBlob
from storage.port import Reason, Refused, Unavailable
from storage.queues import queue_of
from storage.spooling import check_number, check_settlement, check_settler, may_change, queue_event

Settled = Refused | Unavailable | None
DONE: Final = "[1]"
"""The outcome of an operation that has nothing to tell."""
_LEASE: Final = ("lease", "leased")
log = structlog.get_logger("storage")


@dataclass(slots=True)
class _Job:
    """A settlement on its way."""

    settlement: Settlement
    done: bool = False
    outcome: Settled = None

    def end(self, outcome: Settled = None) -> None:
        self.done, self.outcome = True, outcome


class Settling:
    """heard: is called after each change, by which something may have become due."""

    def __init__(
        self,
        database: Database,
        commits: Commits,
        operations: Operations,
        accounts: Accounts,
        intake: Intake,
        blobs: Blobs,
        work: SpoolWork,
        heard: Callable[[], None],
    ) -> None:
        self._database = database
        self._commits = commits
        self._operations = operations
        self._accounts = accounts
        self._intake = intake
        self._blobs = blobs
        self._work = work
        self._heard = heard

    # -- what came of an attempt

    async def settle(self, settlements: Sequence[Settlement]) -> list[Settled]:
        """``Storage.settle``."""
        outcomes: list[Settled] = []
        for start in range(0, len(settlements), ACCEPT_BATCH):
            batch = settlements[start : start + ACCEPT_BATCH]
            try:
                outcomes += await self._commits.run(self._settle(batch))
            except Unavailable as unavailable:
                outcomes += [unavailable] * len(batch)
            except Exception:
                if len(settlements) == 1:
                    raise
                outcomes += [await self._settle_alone(one) for one in batch]
        return outcomes

    async def _settle_alone(self, settlement: Settlement) -> Settled:
        """One of a batch in which something was wrong that nothing should be: the others must not suffer from it."""
        try:
            return (await self._commits.run(self._settle([settlement])))[0]
        except Unavailable as unavailable:
            return unavailable
        except Exception:
            log.exception("an attempt could not be settled", item=settlement.item)
            return Unavailable("internal error")

    async def _settle(self, batch: Sequence[Settlement]) -> list[Settled]:
        jobs: dict[str, _Job] = {}
        for settlement in batch:
            jobs.setdefault(settlement.op.id, _Job(settlement))
        ops = list(jobs)
        await self._commits.begin_alone(ops)
        try:
            refusals = await self._refused_reports(batch)
            while left := [job for job in jobs.values() if not job.done]:
                await self._attempt(left, refusals)
        finally:
            self._commits.end_alone(ops)
            self._heard()
        return [jobs[settlement.op.id].outcome for settlement in batch]

    async def _refused_reports(self, batch: Sequence[Settlement]) -> dict[str, Refused]:
        """Why ``accept`` would refuse the reports of these settlements now, by their operations."""
        deliveries = [(one.op.id, one.report) for one in batch if one.report is not None]
        if not deliveries:
            return {}
        known = await self._accounts.know({to.account for _, report in deliveries for to in report.local})
        described = await self._intake.deliveries([report for _, report in deliveries])
        refused: dict[str, Refused] = {}
        for (op, report), body in zip(deliveries, described, strict=True):
            why = body if isinstance(body, Refused) else no_place(report, known)
            if why is None and isinstance(report.content, StagedBlob):
                # Found out by the same question as when it is accepted.
                (why,) = await self._blobs.name([report.content])
            if why is not None:
                refused[op] = why
        return refused

    async def _attempt(self, jobs: Sequence[_Job], refusals: Mapping[str, Refused]) -> None:
        """Carry on with settlements that have no outcome; those whose items have changed meanwhile are left so."""
        names = {job.settlement.item for job in jobs if is_id(job.settlement.item)}
        items = {one["_id"]: one for one in await self._database.find(spool_queries.spool_named(list(names)))}
        # After the items: the outcome is there before the item goes.
        known = await self._operations.ended([job.settlement.op.id for job in jobs])
        trying: list[tuple[_Job, Commit]] = []
        unfinished: list[Document] = []
        for job in jobs:
            settlement, item = job.settlement, items.get(job.settlement.item)
            if settlement.op.id in known:
                job.end()
            elif item is not None and "todo" in item:
                unfinished.append(item)
            elif item is None or "going" in item or item.get("lease") != settlement.lease:
                job.end(Refused(Reason.NO_SUCH_ITEM, "The item is gone, or under another lease."))
            elif settlement.op.id in refusals:
                job.end(refusals[settlement.op.id])
            else:
                try:
                    check_settlement(settlement)
                    check_settler(settlement.op, item.get("account"))
                except Refused as refusal:
                    job.end(refusal)
                    continue
                # One of two of the same item finds it changed, and looks again.
                trying.append((job, self._change(settlement, item)))
        await self._finish_others(jobs, unfinished)
        if not trying:
            return
        committed = await self._work.commit([one for _, one in trying])
        mine = [(job, item) for (job, _), item in zip(trying, committed, strict=True) if item is not None]
        waiting = await self._work.finish([item for _, item in mine])
        for job, item in mine:
            job.end(waiting.get(item["_id"]))

    async def _finish_others(self, jobs: Sequence[_Job], items: Sequence[Document]) -> None:
        """Carry out what is left of earlier changes of these items, which may be the very settlements."""
        waiting = await self._work.finish(list({item["_id"]: item for item in items}.values()))
        for job in jobs:
            if not job.done and (unavailable := waiting.get(job.settlement.item)) is not None:
                job.end(unavailable)

    def _change(self, settlement: Settlement, item: Document) -> Commit:
        now = self._database.now()
        finished = set(settlement.finished)
        before = spool.unpacked(item)
        left = [one for one in before if one.address not in finished]
        todo: Document = {
            "op": settlement.op.id,
            "outcome": DONE,
            "events": events.documents(settlement.op.events, now, settlement.op.id),
        }
        if settlement.report is not None:
            todo["report"] = reports.document(settlement.report)
        if not left:
            if settlement.result is not None:
                todo["result"] = spool.result_document(item, now, settlement.result, attempted=settlement.attempted)
            return Commit(item, {"going": True}, (*_LEASE, "due"), todo)
        attempted = settlement.attempted
        given = settlement.next_attempt
        set_: Document = {
            "next": given if attempted else max(item["next"], given),
            "attempts": item["attempts"] + (1 if attempted else 0),
            "claims": item["attempts"] + 1 if attempted else item["claims"] - 1,
        }
        if len(left) != len(before):
            set_["recipients"] = spool.packed(left)
        if settlement.told:
            set_["told"] = now
        if attempted or settlement.last:
            set_["last"] = json.dumps(settlement.last)
        if "held" in item:
            return Commit(item, set_, (*_LEASE, "due"), todo)
        return Commit(item, set_ | {"due": set_["next"]}, _LEASE, todo)

    # -- what an administrator does

    async def change(
        self, op: Operation, items: Sequence[str], action: SpoolAction, route: str | None
    ) -> tuple[str, ...]:
        """``Storage.change_spool``: an item at a time. A repeat that finds it half done by a process that died does the
        rest."""
        check_number(len(items), SPOOL_CHANGES)
        return await self._commits.run(self._change_all(op, list(dict.fromkeys(items)), action, route))

    async def _change_all(
        self, op: Operation, items: Sequence[str], action: SpoolAction, route: str | None
    ) -> tuple[str, ...]:
        await self._commits.begin_alone([op.id])
        try:
            known = await self._operations.ended([op.id])
            if op.id in known:
                return tuple(json.loads(known[op.id]))
            event_of = {item: f"{op.id}/{item}" for item in items if is_id(item)}
            done = await self._done(event_of)
            left = [item for item in event_of if item not in done]
            while left:
                left = await self._change_some(op, left, action, route, event_of)
            done = await self._done(event_of)
            outcome = [item for item in items if item in done]
            await self._database.insert("event", events.documents(op.events, self._database.now(), op.id))
            await self._work.end_operation(op.id, json.dumps(outcome))
            return tuple(outcome)
        finally:
            self._commits.end_alone([op.id])
            self._heard()

    async def _done(self, event_of: Mapping[str, str]) -> set[str]:
        """Those of the items that the operation has changed: each has its event."""
        named = {f"{event}:0000": item for item, event in event_of.items()}
        found = await self._database.find(queries.events_named(list(named))) if named else []
        return {named[one["_id"]] for one in found}

    async def _change_some(
        self,
        op: Operation,
        items: Sequence[str],
        action: SpoolAction,
        route: str | None,
        event_of: Mapping[str, str],
    ) -> list[str]:
        """Change those of the items that are there: those that were changed by somebody else meanwhile."""
        batch, rest = items[:ACCEPT_BATCH], items[ACCEPT_BATCH:]
        found = await self._database.find(spool_queries.spool_named(batch))
        unfinished = [item for item in found if "todo" in item]
        if unfinished:
            waiting = await self._work.finish(unfinished)
            for unavailable in waiting.values():
                raise unavailable
        now = self._database.now()
        commits: list[Commit] = []
        for item in found:
            # What is not seen yet is not there, nor what is at its end.
            if "todo" in item or "pending" in item or "going" in item or not may_change(op, item.get("account")):
                continue
            change = _changed(item, action, route, now)
            if change is not None:
                event = queue_event(op, item["trace"], item.get("account"), item["_id"], action, route, now)
                kept = events.documents([event], now, event_of[item["_id"]])
                todo: Document = {"events": kept}
                if action is SpoolAction.DROP and queue_of(item["domain"]) != MAIL:
                    todo["result"] = spool.result_document(item, now, None)
                commits.append(Commit(item, *change, todo))
        committed = await self._work.commit(commits) if commits else []
        waiting = await self._work.finish([item for item in committed if item is not None])
        for unavailable in waiting.values():
            raise unavailable
        lost = [one.item["_id"] for one, item in zip(commits, committed, strict=True) if item is None]
        return [*(item["_id"] for item in unfinished), *lost, *rest]


def _changed(
    item: Document, action: SpoolAction, route: str | None, now: float
) -> tuple[Mapping[str, Any], Sequence[str]] | None:
    """Fields to set, and to take away; None where it is refused."""
    leased = item.get("leased", 0.0)
    if action is SpoolAction.DROP:
        return None if leased > now else ({"going": True}, ("due", *_LEASE))
    if action is SpoolAction.RETRY:
        return {"next": now} | ({} if "held" in item else {"due": max(now, leased)}), ()
    if action is SpoolAction.HOLD:
        return {"held": 1}, ("due",)
    if action is SpoolAction.RELEASE:
        return {"due": max(item["next"], leased)}, ("held",)
    if route is None:
        return {}, ("route",)
    return {"route": json.dumps(route)}, ()
