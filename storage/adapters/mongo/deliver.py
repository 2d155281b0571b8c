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

from storage import outcomes, tracekeys
from storage.adapters.mongo import events, queries, spool_queries
from storage.adapters.mongo.accounts import Accounts
from storage.adapters.mongo.append import Unseen, insert, unseen
from storage.adapters.mongo.arrivals import Arrival, Arrivals, place
from storage.adapters.mongo.blobs import Blobs, PreparedBlob
from storage.adapters.mongo.commits import Commits
from storage.adapters.mongo.database import Change, Database
from storage.adapters.mongo.due import DueDates, earliest
from storage.adapters.mongo.operations import Claim, ClaimLost, Ended, Operations
from storage.adapters.mongo.spool import documents as spool_documents
from storage.adapters.mongo.spool import spooled_events
from storage.adapters.mongo.state import Document, is_open
from storage.ingest import message_id_of
from storage.limits import UID_MAX
from storage.model import Accepted, Delivery, StoredAt
from storage.names import encodable
from storage.port import Reason, Refused, Unavailable

Outcome = Accepted | Refused | Unavailable


@dataclass(slots=True)
class _Job:
    """A delivery on its way. about: what its events say of the message. messages: one for each local recipient; items:
    of the spool."""

    delivery: Delivery
    body: PreparedBlob
    outcome: Outcome | None = None
    claim: Claim | None = None
    messages: list[Unseen] = field(default_factory=list)
    items: list[Document] = field(default_factory=list)
    about: Mapping[str, str] = field(default_factory=dict)

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
        dues: DueDates,
    ) -> None:
        self._database = database
        self._accounts = accounts
        self._operations = operations
        self._commits = commits
        self._arrivals = arrivals
        self._blobs = blobs
        self._dues = dues

    async def accept(
        self, batch: Sequence[tuple[Delivery, PreparedBlob | Refused]], not_after: float = float("inf")
    ) -> list[Outcome]:
        """One outcome for each, in order. Raises Unavailable where it concerns all. not_after: what is not begun by
        then is not begun any more, for its operation may have been done, and forgotten since."""
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
                await self._attempt(left, not_after)
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
        about = json.loads(doc.get("about", "{}"))
        arrivals = [
            Arrival.of_part(claim, f"parts.{n}.at", doc["trace"], part, about)
            for n, part in doc["parts"].items()
            if "at" not in part
        ]
        for arrival in arrivals:
            self._arrivals.add(arrival)
        items = doc.get("items", [])
        if items:
            await self._database.update(
                Change(
                    spool_queries.spool_unpublished(one["id"]), {"$unset": {"pending": ""}, "$set": {"due": one["due"]}}
                )
                for one in items
            )
            await self._dues.lower(earliest((one["domain"], one["due"]) for one in items))
        elif doc.get("item") is not None:
            # Of a release that sent nothing on: the item gets its domain by an upgrade of its own.
            published = {"$unset": {"pending": ""}}
            await self._database.update([Change(spool_queries.spool_unpublished(doc["item"]), published)])
            items = [{"id": doc["item"]}]
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
        outcome = [[at[str(n)] for n in range(len(at))], [one["id"] for one in items]]
        if doc["events"]:
            await self._database.insert("event", doc["events"])
        gone = {"parts": "", "undone": "", "events": "", "items": "", "item": "", "trace": "", "about": ""}
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

    async def _attempt(self, jobs: Sequence[_Job], not_after: float) -> None:
        """Carry on with deliveries that have no outcome; those that others have taken over are left without one."""
        for job in jobs:
            job.claim = None
        known = await self._accounts.know({account for job in jobs for account in job.accounts})
        for job in jobs:
            job.outcome = no_place(job.delivery, known)
        jobs = [job for job in jobs if job.outcome is None]
        epochs = {account: doc["epoch"] for account, doc in known.items()}
        claims = await self._operations.claim_all([(job.delivery.op.id, job.accounts) for job in jobs], epochs)
        for job, claim in zip(jobs, claims, strict=True):
            if isinstance(claim, Ended):
                job.outcome = outcomes.accepted(json.loads(claim.outcome))
            elif self._database.now() > not_after:
                await self._operations.release([claim])
                job.outcome = Unavailable("this took too long")
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
            job.items = spool_documents(delivery, job.body.id, job.body.size, now)
        await insert(
            self._database,
            self._blobs,
            [message for job in jobs for message in job.messages],
            [item for job in jobs for item in job.items],
            [job.body for job in jobs if job.messages or job.items],
        )
        for job in jobs:
            if job.body.staged is not None and (job.messages or job.items):
                (refusal,) = await self._blobs.name([job.body.staged])
                if refusal is not None:
                    await self._refused(job, refusal)
            job.about = tracekeys.about(job.delivery.sender, await self._message_id(job.body), job.delivery.queue)

    async def _message_id(self, body: PreparedBlob) -> str:
        if body.described.forms is not None:
            return body.described.forms.message_id
        doc = await self._database.first(queries.blobs([body.id], ["keys"]))
        return message_id_of(doc["keys"]) if doc is not None and doc.get("keys") else ""

    async def _end(self, job: _Job, claim: Claim) -> None:
        try:
            if claim.parts is not None:
                doc = await self._database.first(queries.operation(claim.op))
                if doc is None or "parts" not in doc:
                    raise ClaimLost
                job.outcome = await self.finish(claim, doc)
            elif len(job.messages) == 1 and not job.items:
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
            about=job.about,
            events=job.delivery.op.events,
        )
        self._arrivals.add(arrival)
        return Accepted((await arrival.stored,))

    async def _several(self, job: _Job, claim: Claim) -> Accepted:
        delivery = job.delivery
        now = self._database.now()
        kept = events.documents(delivery.op.events, now, f"{claim.op}/0")
        if job.items:
            kept += events.documents(spooled_events(delivery, job.items, now, job.about), now, f"{claim.op}/2")
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
            # As JSON, which knows half a surrogate pair.
            "about": json.dumps(job.about),
            "undone": now,
            "trace": delivery.trace,
            "items": [{"id": item["_id"], "domain": item["domain"], "due": item["next"]} for item in job.items],
            "events": kept,
        }
        if not await self._database.swap(queries.claimed(claim.op, claim.mine), {"$set": doc}):
            raise ClaimLost
        return await self.finish(claim, doc)

    async def _refused(self, job: _Job, refusal: Refused) -> None:
        if job.claim is not None:
            await self._operations.release([job.claim])
        job.outcome = refusal


def no_place(delivery: Delivery, known: Mapping[str, Document]) -> Refused | None:
    """Why it cannot be delivered to all its local recipients, as these accounts are."""
    for recipient in delivery.local:
        doc = known.get(recipient.account)
        if doc is None or not is_open(doc):
            return Refused(Reason.NO_SUCH_ACCOUNT, f"{recipient.account} has no mailboxes here.")
        if place(doc, encodable(recipient.mailbox))[1]["uidnext"] > UID_MAX:
            return Refused(Reason.LIMIT, "The mailbox has no uid left.")
    return None
