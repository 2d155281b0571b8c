"""Accounts: read, committed to, and the journal carried out by whoever meets an item of it.

Writers of one process queue up in the account's *lane*, so that only processes race. Each commit starts from the
account as this process knows it (the last that it committed or read): that is right far more often than not, and where
it is not, the compare-and-set fails, and the account is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final, Generic, Protocol, TypeVar

from storage.adapters.mongo import queries
from storage.adapters.mongo.acl import check_reader
from storage.adapters.mongo.apply import carry_out
from storage.adapters.mongo.database import Database
from storage.adapters.mongo.state import PURGING, Document, Draft, Item, box_of, is_open, new_account
from storage.hub import Hub
from storage.model import MailboxRef
from storage.port import Reason, Refused, Unavailable

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

COMMIT_SECONDS: Final = 20.0
"""Seconds for which a change is tried while other processes are always quicker; then it is Unavailable."""
BEHIND_SECONDS: Final = 5.0
"""Seconds for which a read waits for a database that is behind what this process has seen of the account."""
KNOWN_MAX: Final = 2_000
KNOWN_MAILBOXES: Final = 50_000
"""Accounts of which the last state is kept in memory, and their mailboxes together (1 KiB each, about)."""
PAUSE: Final = 0.002
PAUSE_MAX: Final = 0.1
"""Seconds, at random between none and this, before a commit that lost is tried again: first and longest."""


class Work(Protocol[T_co]):
    """A change that needs more than the account document: what it reads and what it inserts, unseen, beforehand."""

    async def prepare(self, base: Document) -> None:
        """Read and insert what the commit to this state of the account needs."""
        ...

    def stands(self, base: Document) -> bool:
        """Is what was prepared right for this later state too?"""
        ...

    def commit(self, draft: Draft, item: Item) -> T_co:
        """The change itself: the outcome. May be called several times, each with a draft of its own. Refused."""
        ...


class Plain(Generic[T]):
    """A change of the account document alone."""

    def __init__(self, change: Callable[[Draft, Item], T]) -> None:
        self._change = change

    async def prepare(self, base: Document) -> None:
        return None

    def stands(self, base: Document) -> bool:
        return True

    def commit(self, draft: Draft, item: Item) -> T:
        return self._change(draft, item)


@dataclass(slots=True)
class Known:
    """The last state of an account that this process has seen. carried_out: its journal is."""

    doc: Document
    carried_out: bool


class Lane:
    """Where the writers of one account in this process wait for each other."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


Check = Callable[[int], Awaitable[bool]]
"""Given the epoch of the account: False where it is the one that was read before the operation was claimed; else asks
whether the operation is still one's own (raises when not): True, and what was inserted before may be gone."""


class Accounts:
    def __init__(self, database: Database, hub: Hub) -> None:
        self._database = database
        self._hub = hub
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._known_mailboxes = 0
        self._lanes: dict[str, Lane] = {}

    # -- reading

    async def find(self, account: str) -> Document | None:
        """The account with its journal carried out: the state at its modseq, in which nothing below appears later.
        None when it was never opened."""
        seen = self._known.get(account)
        least = 0 if seen is None else seen.doc["rev"]
        deadline = monotonic() + BEHIND_SECONDS
        while True:
            doc = await self._database.first(queries.account(account))
            if doc is None:
                return None
            if doc["rev"] >= least:
                return await self.settle(doc)
            # A new primary may for a moment answer from before what the old one had acknowledged.
            if monotonic() > deadline:
                self._forget(account)
                raise Unavailable("the database is behind what it has told before")
            await asyncio.sleep(PAUSE_MAX)

    async def settle(self, doc: Document) -> Document:
        """The same state with its journal carried out."""
        account = doc["_id"]
        known = self._known.get(account)
        if doc["journal"] and not (known is not None and known.carried_out and known.doc["rev"] == doc["rev"]):
            for item in doc["journal"]:
                await carry_out(self._database, account, item)
            await self._empty(doc)
        self._learn(doc, carried_out=True)
        return {**doc, "journal": []}

    async def settled(self, account: str) -> Document:
        """The same of an account that is open. NO_SUCH_ACCOUNT."""
        doc = await self.find(account)
        if doc is None or not is_open(doc):
            raise Refused(Reason.NO_SUCH_ACCOUNT)
        return doc

    async def know(self, accounts: Collection[str]) -> dict[str, Document]:
        """Some state of each of these accounts, of now or earlier; unknown ones are left out."""
        found = {account: doc for account in accounts if (doc := self.known(account)) is not None}
        missing = [account for account in accounts if account not in found]
        for doc in await self._database.find(queries.accounts(missing)) if missing else ():
            found[doc["_id"]] = await self.settle(doc)
        return found

    async def place(self, ref: MailboxRef) -> tuple[Document, Document]:
        """The account of a ref and its mailbox, for a reading call. NO_SUCH_MAILBOX, also where there is no such
        account; NO_PERMISSION."""
        doc = await self.find(ref.account)
        if doc is None or not is_open(doc):
            raise Refused(Reason.NO_SUCH_MAILBOX)
        box = box_of(doc, ref)
        check_reader(box, ref)
        return doc, box

    async def was_cut(self, ref: MailboxRef, box: Mapping[str, Any], after: int) -> bool:
        """Asked when the mailbox's history after that modseq has been read: had some of it been forgotten by then?
        box: as it was before."""
        if not box["vanished"]:
            return False
        now = await self._database.first(queries.history_from(ref.account, ref.mailbox)) or {}
        return bool(now.get("mailboxes", {}).get(ref.mailbox, box).get("history_from", 0) > after)

    # -- committing

    def known(self, account: str) -> Document | None:
        """The last state that this process has seen, carried out; None when there is none."""
        known = self._known.get(account)
        return known.doc if known is not None and known.carried_out else None

    async def epoch(self, account: str) -> int:
        """An epoch of the account that is not later than now; 0 where there is no such account."""
        doc = self.known(account) or await self.find(account)
        epoch: int = doc["epoch"] if doc is not None else 0
        return epoch

    @contextlib.asynccontextmanager
    async def lane(self, account: str) -> AsyncIterator[Lane]:
        """Wait for one's turn among the account's writers in this process."""
        lane = self._lanes.setdefault(account, Lane())
        lane.users += 1
        try:
            async with lane.lock:
                yield lane
        finally:
            lane.users -= 1
            if not lane.users:
                self._lanes.pop(account, None)

    async def commit(self, account: str, work: Work[T], check: Check | None = None) -> T:
        """Commit the work and carry it out; in the account's lane. check: called before each attempt. Raises what it
        raises and what the work refuses, NO_SUCH_ACCOUNT, Unavailable (of a commit that was under way, nobody knows
        then whether it happened). The journal is left for ``empty``."""
        base, fresh = self.known(account), False
        prepared = False
        deadline = monotonic() + COMMIT_SECONDS
        pause = PAUSE
        while True:
            if base is None:
                base, fresh = await self.find(account), True
                if base is None:
                    raise Refused(Reason.NO_SUCH_ACCOUNT)
            if check is not None and await check(base["epoch"]):
                prepared = False
            try:
                if not (prepared and work.stands(base)):
                    prepared = False
                    await work.prepare(base)
                    prepared = True
                draft, item = Draft(base), Item()
                value = work.commit(draft, item)
                update, after = draft.update(item.document)
            except Refused:
                if fresh:
                    raise
                # What was known of the account may be of yesterday.
                base = None
                continue
            if await self._swap(account, base["rev"], update):
                break
            if monotonic() > deadline:
                raise Unavailable("the account is changed by too many at once")
            await asyncio.sleep(random.uniform(0, pause))
            pause = min(2 * pause, PAUSE_MAX)
            base = None
        self._learn(after, carried_out=not after["journal"])
        # It is committed, and nobody reads the account without carrying it out first: so it need not be done here.
        with contextlib.suppress(Unavailable):
            for found in after["journal"]:
                await carry_out(self._database, account, found)
            self._learn(after, carried_out=True)
        self._hub.publish({account: after["modseq"]})
        return value

    async def empty(self, account: str) -> None:
        """Take out of the journal what is carried out, so that no reader need do it again."""
        known = self._known.get(account)
        if known is not None and known.carried_out and known.doc["journal"]:
            # The change is made, and its writer is told so; who comes next may do this.
            with contextlib.suppress(Unavailable):
                await self._empty(known.doc)

    async def change(self, account: str, change: Callable[[Draft], T]) -> T:
        """A change that is nobody's operation. ``change`` may be called several times, each with a draft of its own."""
        async with self.lane(account):
            return await self.commit(account, Plain(lambda draft, item: change(draft)))

    async def fence(self, account: str) -> int:
        """Shut out all writers that began before: the epoch from now on. What they had committed is carried out. 0
        where there is no such account."""

        def change(draft: Draft) -> int:
            draft.put(epoch=draft.doc["epoch"] + 1)
            epoch: int = draft.doc["epoch"]
            return epoch

        # Not in the lane: a writer that holds it may be the one that is waited for.
        try:
            return await self.commit(account, Plain(lambda draft, item: change(draft)))
        except Refused:
            return 0

    async def begin_purge(self, account: str) -> None:
        """Close the account for good; its mailboxes are the sweep's from now on."""
        if await self._database.first(queries.account(account)) is None:
            # The id is taken all the same, so that a delivery in flight cannot open it afterwards.
            await self._database.insert("account", [new_account(account, PURGING)])

        def change(draft: Draft, item: Item) -> None:
            if not is_open(draft.doc):
                return
            draft.next_modseq()
            for mailbox in list(draft.doc["mailboxes"]):
                draft.drop(mailbox)
                item.remove(mailbox, 0.0)
            draft.put(
                state=PURGING,
                epoch=draft.doc["epoch"] + 1,
                size=0,
                messages=0,
                keywords=[],
                subscriptions=[],
            )

        async with self.lane(account):
            await self.commit(account, Plain(change))
            await self.empty(account)

    async def make(self, doc: Document) -> None:
        """Insert a new account, unless it is there already."""
        if not await self._database.insert("account", [doc]):
            self._learn(doc, carried_out=True)
            self._hub.publish({doc["_id"]: doc["modseq"]})

    async def _swap(self, account: str, rev: int, update: Mapping[str, Any]) -> bool:
        try:
            return await self._database.swap(queries.account_at(account, rev), update)
        except BaseException:
            # Whether it is committed, nobody knows here: what comes next reads the account.
            self._forget(account)
            raise

    async def _empty(self, doc: Document) -> None:
        changed = await self._database.swap(queries.account_at(doc["_id"], doc["rev"]), {"$set": {"journal": []}})
        known = self._known.get(doc["_id"])
        if changed and known is not None and known.doc["rev"] == doc["rev"]:
            known.doc = {**known.doc, "journal": []}

    def _learn(self, doc: Document, *, carried_out: bool) -> None:
        known = self._known.get(doc["_id"])
        if known is not None and known.doc["rev"] > doc["rev"]:
            return
        carried_out = carried_out or (known is not None and known.doc["rev"] == doc["rev"] and known.carried_out)
        self._forget(doc["_id"])
        self._known[doc["_id"]] = Known(doc, carried_out)
        self._known_mailboxes += len(doc["mailboxes"])
        while len(self._known) > KNOWN_MAX or (self._known_mailboxes > KNOWN_MAILBOXES and len(self._known) > 1):
            self._forget(next(iter(self._known)))

    def _forget(self, account: str) -> None:
        known = self._known.pop(account, None)
        if known is not None:
            self._known_mailboxes -= len(known.doc["mailboxes"])
