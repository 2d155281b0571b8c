"""Deliveries: many in one batch, and those for one account in one commit.

A delivery to one account is a change of that account's document. One to several accounts, or to the spool as well, is
committed when its parts are written into the document of its operation: from then on it will be in all its mailboxes,
each by a commit to its account that tells the part's end in the same stroke. Whoever finds such a delivery of a writer
that died takes the operation over and goes on with the parts that have no end.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from storage import outcomes
from storage.adapters.mongo import events, queries
from storage.adapters.mongo.accounts import Accounts
from storage.adapters.mongo.append import Unseen, insert, unseen
from storage.adapters.mongo.arrivals import Arrival, Arrivals, place
from storage.adapters.mongo.blobs import Blobs, PreparedBlob
from storage.adapters.mongo.commits import Commits
from storage.adapters.mongo.database import Change, Database
from storage.adapters.mongo.operations import Claim, ClaimLost, Ended, Operations
from storage.adapters.mongo.spool import document as spool_document
from storage.adapters.mongo.spool import spooled_events
from storage.adapters.mongo.state import Document, is_open
from storage.limits import UID_MAX
from storage.model import Accepted, Delivery, StoredAt
from storage.names import encodable
from storage.port import Reason, Refused, Unavailable

Outcome = Accepted | Refused | Unavailable


@dataclass(slots=True)
class _Job:
    """A delivery on its way. messages: one for each local recipient; item: of the spool."""

    delivery: Delivery
    body: PreparedBlob
    outcome: Outcome | None = None
    claim: Claim | None = None
    messages: list[Unseen] = field(default_factory=list)
    item: Document | None = None

    @property
    def accounts(self) -> list[str]:
        return [recipient.account for recipient in self.delivery.local]


class Deliveries:
    def __init__(
        self,
        database: Database,
        accounts: Accounts,
        operations: Operations,
        commits: Commits,
        arrivals: Arrivals,
        blobs: Blobs,
    ) -> None:
        self._database = database
        self._accounts = accounts
        self._operations = operations
        self._commits = commits
        self._arrivals = arrivals
        self._blobs = blobs

    async def accept(self, batch: Sequence[tuple[Delivery, PreparedBlob | Refused]]) -> list[Outcome]:
        """One outcome for each, in order. Raises Unavailable where it concerns all."""
        jobs: dict[str, _Job | Refused] = {}
        for delivery, body in batch:
            if len({recipient.account for recipient in delivery.local}) != len(delivery.local):
                raise ValueError("an account stands twice among the recipients of one delivery")
            jobs.setdefault(delivery.op.id, body if isinstance(body, Refused) else _Job(delivery, body))
        todo = [job for job in jobs.values() if isinstance(job, _Job)]
        names = [job.delivery.op.id for job in todo]
        await self._commits.begin_alone(names)
        try:
            while left := [job for job in todo if job.outcome is None]:
                await self._attempt(left)
        finally:
            for job in todo:
                if job.claim is not None and not isinstance(job.outcome, Accepted):
                    self._operations.give_up(job.claim)
            self._commits.end_alone(names)
        found: list[Outcome] = []
        for delivery, _ in batch:
            ended = jobs[delivery.op.id]
            outcome = ended.outcome if isinstance(ended, _Job) else ended
            if outcome is None:
                raise RuntimeError("a delivery came to nothing")
            found.append(outcome)
        return found

    async def finish(self, claim: Claim, doc: Mapping[str, Any]) -> Accepted:
        """Go on with a delivery that is committed: put what has no end yet into its mailboxes."""
        arrivals = [
            Arrival.of_part(claim, f"parts.{n}.at", doc["trace"], part)
            for n, part in doc["parts"].items()
            if "at" not in part
        ]
        for arrival in arrivals:
            self._arrivals.add(arrival)
        if doc["item"] is not None:
            published = {"$unset": {"pending": ""}}
            await self._database.update([Change(queries.spool_unpublished(doc["item"]), published)])
        ended = await asyncio.gather(*[arrival.stored for arrival in arrivals], return_exceptions=True)
        at = {n: json.loads(part["at"]) for n, part in doc["parts"].items() if "at" in part}
        for arrival, stored in zip(arrivals, ended, strict=True):
            if isinstance(stored, Refused) and stored.reason is Reason.NO_SUCH_ACCOUNT:
                # The account was removed after the commit, and the message with it.
                stored = StoredAt(arrival.account, "", 0, 0, arrival.email)
            elif isinstance(stored, Refused):
                # What is committed is no longer refused: it waits until there is room for it.
                raise Unavailable(stored.text) from stored
            elif isinstance(stored, BaseException):
                raise stored
            at[arrival.path.split(".")[1]] = outcomes.stored(stored)
        outcome = [[at[str(n)] for n in range(len(at))], doc["item"]]
        if doc["events"]:
            await self._database.insert("event", doc["events"])
        gone = {"parts": "", "undone": "", "events": "", "item": "", "trace": ""}
        await self._database.update(
            [
                Change(
                    queries.not_ended(claim.op, claim.nonce, "outcome"),
                    {"$set": {"outcome": json.dumps(outcome)}, "$unset": gone},
                )
            ]
        )
        return outcomes.accepted(outcome)

    # -- an attempt

    async def _attempt(self, jobs: Sequence[_Job]) -> None:
        """Carry on with deliveries that have no outcome; those that others have taken over are left without one."""
        for job in jobs:
            job.claim = None
        known = await self._accounts.know({account for job in jobs for account in job.accounts})
        for job in jobs:
            job.outcome = _no_place(job, known)
        jobs = [job for job in jobs if job.outcome is None]
        epochs = {account: doc["epoch"] for account, doc in known.items()}
        claims = await self._operations.claim_all([(job.delivery.op.id, job.accounts) for job in jobs], epochs)
        for job, claim in zip(jobs, claims, strict=True):
            if isinstance(claim, Ended):
                job.outcome = outcomes.accepted(json.loads(claim.outcome))
            else:
                job.claim = claim
        await self._insert([job for job in jobs if job.claim is not None and job.claim.parts is None])
        ended = await asyncio.gather(
            *[self._end(job, job.claim) for job in jobs if job.outcome is None and job.claim is not None],
            return_exceptions=True,
        )
        for error in ended:
            if error is not None:
                raise error

    async def _insert(self, jobs: Sequence[_Job]) -> None:
        """Insert all that the deliveries need, unseen."""
        now = self._database.now()
        for job in jobs:
            delivery = job.delivery
            job.body = job.body.renewed()
            job.messages = [
                unseen(
                    recipient.account,
                    job.body,
                    delivery.op.id,
                    now,
                    flags=recipient.flags,
                    date=int(delivery.received_at),
                    prefix=recipient.prefix,
                )
                for recipient in delivery.local
            ]
            job.item = spool_document(delivery, job.body.id, job.body.size, now) if delivery.remote else None
        await insert(
            self._database,
            self._blobs,
            [message for job in jobs for message in job.messages],
            [job.item for job in jobs if job.item is not None],
            [job.body for job in jobs if job.messages or job.item is not None],
        )
        for job in jobs:
            if job.body.staged is not None and (job.messages or job.item is not None):
                (refusal,) = await self._blobs.name([job.body.staged])
                if refusal is not None:
                    await self._refused(job, refusal)

    async def _end(self, job: _Job, claim: Claim) -> None:
        try:
            if claim.parts is not None:
                doc = await self._database.first(queries.operation(claim.op))
                if doc is None or "parts" not in doc:
                    raise ClaimLost
                job.outcome = await self.finish(claim, doc)
            elif len(job.messages) == 1 and job.item is None:
                job.outcome = await self._one(job, claim)
            else:
                job.outcome = await self._several(job, claim)
        except ClaimLost:
            return
        except Refused as refusal:
            await self._refused(job, refusal)
        except Unavailable as unavailable:
            job.outcome = unavailable

    async def _one(self, job: _Job, claim: Claim) -> Accepted:
        recipient, message = job.delivery.local[0], job.messages[0]
        arrival = Arrival(
            claim=claim,
            path="outcome",
            trace=job.delivery.trace,
            account=recipient.account,
            address=recipient.address,
            mailbox=encodable(recipient.mailbox),
            entry=message.id,
            email=message.entry["email"],
            flags=message.entry["flags"],
            size=message.entry["size"],
            events=job.delivery.op.events,
        )
        self._arrivals.add(arrival)
        return Accepted((await arrival.stored,), None)

    async def _several(self, job: _Job, claim: Claim) -> Accepted:
        delivery = job.delivery
        now = self._database.now()
        kept = events.documents(delivery.op.events, now, f"{claim.op}/0")
        if job.item is not None:
            kept += events.documents(spooled_events(delivery, job.item["_id"], now), now, f"{claim.op}/2")
        parts: Document = {
            str(n): {
                "account": recipient.account,
                "address": recipient.address,
                "mailbox": encodable(recipient.mailbox),
                "entry": message.id,
                "email": message.entry["email"],
                "flags": message.entry["flags"],
                "size": message.entry["size"],
            }
            for n, (recipient, message) in enumerate(zip(delivery.local, job.messages, strict=True))
        }
        doc = {
            "parts": parts,
            "undone": now,
            "trace": delivery.trace,
            "item": None if job.item is None else job.item["_id"],
            "events": kept,
        }
        if not await self._database.swap(queries.claimed(claim.op, claim.mine), {"$set": doc}):
            raise ClaimLost
        return await self.finish(claim, doc)

    async def _refused(self, job: _Job, refusal: Refused) -> None:
        if job.claim is not None:
            await self._operations.release([job.claim])
        job.outcome = refusal


def _no_place(job: _Job, known: Mapping[str, Document]) -> Refused | None:
    for recipient in job.delivery.local:
        doc = known.get(recipient.account)
        if doc is None or not is_open(doc):
            return Refused(Reason.NO_SUCH_ACCOUNT, f"{recipient.account} has no mailboxes here.")
        if place(doc, encodable(recipient.mailbox))[1]["uidnext"] > UID_MAX:
            return Refused(Reason.LIMIT, "The mailbox has no uid left.")
    return None
