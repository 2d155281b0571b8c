"""Changes of the spool's items: committed together, and carried out, by whoever, any number of times.

A ``todo`` says what is left of one change: ``events`` (documents to keep), ``op`` and ``outcome`` (an operation that
ended), ``report`` (a delivery to be accepted under an operation of its own), ``publish`` (items that were made unseen),
``result`` (what is kept of an item that ends).
An item at its end is ``going`` from its last commit on: it names its body no more, and goes when its ``todo`` is
carried out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from bson import ObjectId

from runtime.mongo import Document
from storage.adapters.mongo import ids, queries, reports, spool, spool_queries
from storage.adapters.mongo.accounts import Accounts
from storage.adapters.mongo.blobs import Blobs, PreparedBlob
from storage.adapters.mongo.commits import Commits
from storage.adapters.mongo.database import Change, Database
from storage.adapters.mongo.deliver import Deliveries, Outcome
from storage.adapters.mongo.due import DueDates, earliest
from storage.adapters.mongo.release import Release
from storage.domains import by_domain
from storage.intake import Intake
from storage.limits import OPERATION_AGE
from storage.model import Delivery
from storage.port import Refused, Unavailable

log = structlog.get_logger("storage")


@dataclass(frozen=True, slots=True)
class Commit:
    """A change of one item, as it was read. set, unset: of its fields. todo: what it leaves to do, without its id."""

    item: Document
    set: Mapping[str, Any]
    unset: Sequence[str]
    todo: Mapping[str, Any]


class SpoolWork:
    def __init__(
        self,
        database: Database,
        commits: Commits,
        accounts: Accounts,
        deliveries: Deliveries,
        intake: Intake,
        blobs: Blobs,
        release: Release,
        dues: DueDates,
    ) -> None:
        self._database = database
        self._commits = commits
        self._accounts = accounts
        self._deliveries = deliveries
        self._intake = intake
        self._blobs = blobs
        self._release = release
        self._dues = dues

    # -- committing

    async def commit(self, commits: Sequence[Commit]) -> list[Document | None]:
        """Make those of the changes whose items are as they were read: the item after it, with its ``todo``, for each,
        or None."""
        now = self._database.now()
        names = [ObjectId() for _ in commits]
        await self._database.update(
            Change(
                spool_queries.spool_at(one.item["_id"], one.item.get("rev")),
                {"$set": {**one.set, "rev": ObjectId(), "undone": now, "todo": {**one.todo, "id": name}}}
                | ({"$unset": dict.fromkeys(one.unset, "")} if one.unset else {}),
            )
            for one, name in zip(commits, names, strict=True)
        )
        found = await self._database.find(spool_queries.spool_named([one.item["_id"] for one in commits]))
        there = {item["todo"]["id"]: item for item in found if "todo" in item}
        return [there.get(name) for name in names]

    # -- carrying out

    async def carry_out(self, items: Sequence[str]) -> None:
        """What is left to do of these items, as far as it can be done now."""
        found = await self._database.find(spool_queries.spool_named(items))
        await self.finish([item for item in found if "todo" in item])

    async def finish_undone(self, before: float, limit: int) -> int:
        """The same with items that were committed before that time; how many were carried out."""
        found = await self._database.find(spool_queries.spool_undone(before, limit))
        waiting = await self._commits.run(self.finish(found)) if found else {}
        for item, unavailable in waiting.items():
            log.warning("an item of the spool waits to be finished", item=item, reason=str(unavailable))
        return len(found) - len(waiting)

    async def finish(self, items: Sequence[Document]) -> dict[str, Unavailable]:
        """Carry out the ``todo`` of each of these items: those whose report could not be accepted now, by their ids.
        When this raises, it can be done again."""
        if not items:
            return {}
        waiting = await self._accept([item for item in items if "report" in item["todo"]])
        ready = [item for item in items if item["_id"] not in waiting]
        await self._tell_all(ready)
        await self._end(ready)
        return waiting

    async def _accept(self, items: Sequence[Document]) -> dict[str, Unavailable]:
        if not items:
            return {}
        all_of = {item["_id"]: reports.delivery(item["todo"]["report"]) for item in items}
        accepted = await self._accepted([report.op.id for report in all_of.values()])
        left = {id: report for id, report in all_of.items() if report.op.id not in accepted}
        described = await self._intake.deliveries(list(left.values()))
        bodies = [body if isinstance(body, Refused) else self._blobs.prepare(body) for body in described]
        outcomes = await self._delivered(list(zip(left.values(), bodies, strict=True)))
        waiting: dict[str, Unavailable] = {}
        for (id, report), outcome in zip(left.items(), outcomes, strict=True):
            if isinstance(outcome, Unavailable):
                waiting[id] = outcome
            elif isinstance(outcome, Refused):
                # It was looked at before the commit: what refuses it came after, and would have removed it too.
                log.warning("a report was refused after its commit", trace=report.trace, reason=outcome.text)
        return waiting

    async def _accepted(self, ops: Sequence[str]) -> set[str]:
        """Those of the operations that have been done, whenever: as long as an item says that its report is to be
        accepted, that it was is not forgotten (``upkeep``)."""
        known = await self._database.find(queries.operations(ops))
        begun = {account for doc in known if "outcome" not in doc for account in doc["accounts"]}
        if begun:
            # The commit may stand in the account alone: whoever reads that carries it out.
            for account in sorted(begun):
                await self._accounts.find(account)
            known = await self._database.find(queries.operations(ops))
        return {doc["_id"] for doc in known if "outcome" in doc}

    async def _delivered(self, batch: Sequence[tuple[Delivery, PreparedBlob | Refused]]) -> Sequence[Outcome]:
        """What the reports came to."""
        try:
            return await self._deliveries.accept(batch, self._database.now() + OPERATION_AGE / 2) if batch else []
        except Unavailable as unavailable:
            return [unavailable] * len(batch)
        except Exception as error:
            if len(batch) > 1:
                # The others must not suffer from the one in which something is wrong that nothing should be.
                return [outcome for one in batch for outcome in await self._delivered([one])]
            log.exception("a report failed", trace=batch[0][0].trace, exc_info=error)
            return [Unavailable("internal error")]

    async def _tell_all(self, items: Sequence[Document]) -> None:
        todos = [item["todo"] for item in items]
        now = self._database.now()
        events = [event for todo in todos for event in todo.get("events", ())]
        ended = [_ended(todo["op"], todo["outcome"], now) for todo in todos if "op" in todo]
        results = [todo["result"] for todo in todos if "result" in todo]
        published = [
            Change(spool_queries.spool_unpublished(one["id"]), {"$unset": {"pending": ""}, "$set": {"due": one["due"]}})
            for todo in todos
            for one in todo.get("publish", ())
        ]
        work = [
            self._database.insert("event", events) if events else None,
            self._database.insert("operation", ended) if ended else None,
            self._database.insert("result", results) if results else None,
            self._database.update(published) if published else None,
        ]
        # All of them end before this does: nothing of a change may come after its answer.
        outcomes = await asyncio.gather(*[one for one in work if one is not None], return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        dues = [(item["domain"], item["due"]) for item in items if "due" in item]
        dues += [(one["domain"], one["due"]) for todo in todos for one in todo.get("publish", ())]
        await self._dues.lower(earliest(dues))

    async def _end(self, items: Sequence[Document]) -> None:
        left = [item for item in items if "going" not in item]
        if left:
            await self._database.update(
                Change(
                    spool_queries.spool_todo(item["_id"], item["todo"]["id"]), {"$unset": {"todo": "", "undone": ""}}
                )
                for item in left
            )
        await self._release.spool([item for item in items if "going" in item])

    async def end_operation(self, op: str, outcome: str) -> None:
        """Keep the outcome (JSON) of an operation that was carried out item by item."""
        await self._database.insert("operation", [_ended(op, outcome, self._database.now())])

    # -- of an earlier release

    async def upgrade(self, limit: int) -> int:
        """Give items of a release that sent nothing on their domain, an item for each; how many there were."""
        found = await self._database.find(spool_queries.spool_without_domain(limit))
        for item in found:
            await self._commits.run(self._split(item))
        return len(found)

    async def _split(self, item: Document) -> None:
        now = self._database.now()
        domains = list(by_domain(spool.unpacked(item)).items()) or [(".", [])]
        (domain, first), *others = domains
        claims = item["attempts"]
        shared = {name: value for name, value in item.items() if name not in ("_id", "recipients", "rev", "op")}
        made = [
            {
                **shared,
                "_id": ids.spool(),
                # Of no operation that anybody could finish: what is not published is swept.
                "op": f"{item['_id']}/{ObjectId()}",
                "rev": ObjectId(),
                "pending": now,
                "domain": name,
                "claims": claims,
                "recipients": spool.packed(recipients),
            }
            for name, recipients in others
        ]
        if made:
            await self._database.insert("spool", made)
        # An item without recipients is at its end.
        state = {"due": item["next"]} if first else {"going": True}
        published = [{"id": one["_id"], "domain": one["domain"], "due": one["next"]} for one in made]
        todo = {"id": ObjectId(), "publish": published}
        change = {
            "domain": domain,
            "claims": claims,
            "recipients": spool.packed(first),
            "rev": ObjectId(),
            "undone": now,
            "todo": todo,
        }
        if await self._database.swap(spool_queries.spool_to_upgrade(item["_id"]), {"$set": change | state}):
            await self.finish([item | change | state])
        elif made:
            # Another was quicker.
            await self._release.spool(made)


def _ended(op: str, outcome: str, now: float) -> Document:
    """The document of an operation that was committed with an item."""
    nonce = ObjectId()
    return {"_id": op, "nonce": nonce, "claim": nonce, "created": now, "accounts": [], "outcome": outcome}
