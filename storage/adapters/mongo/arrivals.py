"""Messages that arrive in an account: all that wait for its turn are committed together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bson import ObjectId

from storage import outcomes
from storage.adapters.mongo import events
from storage.adapters.mongo.accounts import Accounts
from storage.adapters.mongo.commits import Commits
from storage.adapters.mongo.database import Database
from storage.adapters.mongo.operations import Claim, ClaimLost, Operations
from storage.adapters.mongo.state import Count, Document, Draft, Item, box_named
from storage.limits import UID_MAX
from storage.model import INBOX, Event, StoredAt
from storage.port import Reason, Refused

COMBINED: Final = 256
"""Messages that are committed to one account together."""
EVENTS_OCTETS: Final = 1024 * 1024
"""Octets of their events, about; those of one message may be more."""


@dataclass(slots=True, kw_only=True)
class Arrival:
    """One message for one account. claim, path: the operation that it belongs to, and the field of its document that
    tells the end. mailbox: canonical name; INBOX where there is none of that name. entry: the unseen one. about: what
    its event says of the message. stored: where it is, once it is there; or why it is not (Refused, ClaimLost,
    Unavailable)."""

    claim: Claim
    path: str
    trace: str
    account: str
    address: str
    mailbox: str
    entry: ObjectId
    email: str
    flags: int
    size: int
    about: Mapping[str, str]
    events: Sequence[Event] = ()
    stored: asyncio.Future[StoredAt] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @classmethod
    def of_part(cls, claim: Claim, path: str, trace: str, part: Mapping[str, Any], about: Mapping[str, str]) -> Arrival:
        """A part of a delivery to several."""
        return cls(
            claim=claim,
            path=path,
            trace=trace,
            account=part["account"],
            address=part["address"],
            mailbox=part["mailbox"],
            entry=part["entry"],
            email=part["email"],
            flags=part["flags"],
            size=part["size"],
            about=about,
        )

    @property
    def key(self) -> str:
        """What the ids of its events are made of."""
        return self.claim.op if self.path == "outcome" else f"{self.claim.op}/1.{int(self.path.split('.')[1]):06}"


class Arrivals:
    def __init__(self, database: Database, accounts: Accounts, operations: Operations, commits: Commits) -> None:
        self._database = database
        self._accounts = accounts
        self._operations = operations
        self._commits = commits
        self._waiting: dict[str, list[Arrival]] = {}

    def add(self, arrival: Arrival) -> None:
        """Have the message committed with the next ones of its account; see its ``stored``."""
        waiting = self._waiting.get(arrival.account)
        if waiting is not None:
            waiting.append(arrival)
            return
        self._waiting[arrival.account] = [arrival]
        self._commits.begin(self._commit_all(arrival.account))

    async def _commit_all(self, account: str) -> None:
        taken: list[Arrival] = []
        try:
            async with self._accounts.lane(account):
                while waiting := self._waiting[account]:
                    end = _reach(waiting)
                    taken, self._waiting[account] = waiting[:end], waiting[end:]
                    await self._commit(account, taken)
                del self._waiting[account]
                await self._accounts.empty(account)
        except BaseException as error:
            # Whoever waits is told; nobody waits for this task.
            for arrival in (*taken, *self._waiting.pop(account, ())):
                _tell(arrival, error)
            if not isinstance(error, Exception):
                raise

    async def _commit(self, account: str, taken: Sequence[Arrival]) -> None:
        together = _Together(self._database, self._operations, account, taken)
        failed: Exception | None = None
        try:
            await self._accounts.commit(account, together, together.check)
        except Exception as error:
            failed = error
        for arrival in taken:
            ended = together.ended.get(arrival.entry) if failed is None else together.refused.get(arrival.entry, failed)
            if isinstance(ended, StoredAt):
                arrival.stored.set_result(ended)
            else:
                _tell(arrival, ended or RuntimeError("an arrival came to nothing"))


class _Together:
    """The commit of several arrivals in one account. ended: where each was stored, or why not. refused: those of them
    that were not."""

    def __init__(self, database: Database, operations: Operations, account: str, arrivals: Sequence[Arrival]) -> None:
        self._database = database
        self._operations = operations
        self._account = account
        self._arrivals = arrivals
        self._lost: dict[ObjectId, Exception] = {}
        self.refused: dict[ObjectId, Exception] = {}
        self.ended: dict[ObjectId, StoredAt | Exception] = {}

    async def check(self, epoch: int) -> bool:
        """Find out whose operations others have taken over."""
        for arrival in self._arrivals:
            if arrival.entry not in self._lost:
                try:
                    await self._operations.check(arrival.claim, self._account, epoch)
                except ClaimLost as lost:
                    self._lost[arrival.entry] = lost
        return False

    async def prepare(self, base: Document) -> None:
        return None

    def stands(self, base: Document) -> bool:
        return True

    def commit(self, draft: Draft, item: Item) -> None:
        self.refused, self.ended = dict(self._lost), dict(self._lost)
        now = self._database.now()
        for arrival in self._arrivals:
            if arrival.entry in self._lost:
                continue
            try:
                self.ended[arrival.entry] = self._enter(arrival, draft, item, now)
            except Refused as refusal:
                self.refused[arrival.entry] = self.ended[arrival.entry] = refusal
        if len(self.refused) == len(self._arrivals):
            raise next(iter(self.refused.values()))
        draft.count_saved(len(self._arrivals) - len(self.refused), now)

    def _enter(self, arrival: Arrival, draft: Draft, item: Item, now: float) -> StoredAt:
        draft.check_open()
        mailbox, box = place(draft.doc, arrival.mailbox)
        if box["uidnext"] > UID_MAX:
            raise Refused(Reason.LIMIT, "The mailbox has no uid left.")
        modseq = draft.next_modseq(size=arrival.size, messages=1)
        uid = draft.enter(mailbox, modseq, Count([{"flags": arrival.flags, "size": arrival.size}]))
        item.enter(mailbox, modseq, uid, [arrival.entry])
        stored = StoredAt(arrival.account, mailbox, box["uidvalidity"], uid, arrival.email)
        detail: dict[str, str | int] = {
            "address": arrival.address,
            "mailbox": mailbox,
            "uid": uid,
            "email": arrival.email,
            **arrival.about,
        }
        told = [*arrival.events, Event(arrival.trace, now, "stored", arrival.account, detail)]
        plain: Any = outcomes.stored(stored)
        value = json.dumps([[plain], []] if arrival.path == "outcome" else plain)
        item.end(arrival.claim.op, arrival.claim.nonce, arrival.path, value, events.documents(told, now, arrival.key))
        return stored


def place(doc: Mapping[str, Any], name: str) -> tuple[str, Document]:
    """The mailbox of that name, INBOX where there is none."""
    try:
        return box_named(doc, name)
    except Refused:
        return box_named(doc, INBOX)


def _reach(waiting: Sequence[Arrival]) -> int:
    """How many of those that wait are committed together."""
    octets = 0
    for n, arrival in enumerate(waiting[:COMBINED]):
        octets += sum([len(str(value)) for event in arrival.events for value in event.detail.values()])
        if octets > EVENTS_OCTETS:
            return max(n, 1)
    return min(len(waiting), COMBINED)


def _tell(arrival: Arrival, error: BaseException) -> None:
    if not arrival.stored.done():
        arrival.stored.set_exception(error)
