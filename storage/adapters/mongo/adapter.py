"""The storage port on MongoDB: what the port says call by call, put together from the files beside this one."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from dataclasses import replace as replace_fields
from typing import Any

import structlog

from runtime.clock import Clock, SystemClock
from runtime.lifecycle import StartError
from runtime.mongo import Mongo, MongoUnavailable, ensure_indexes
from storage import outcomes, rights
from storage.adapters.mongo import mailboxes, queries, texts
from storage.adapters.mongo import spool as spooled
from storage.adapters.mongo.accounts import Accounts, Plain
from storage.adapters.mongo.append import Append
from storage.adapters.mongo.arrivals import Arrivals
from storage.adapters.mongo.batches import Batches
from storage.adapters.mongo.blobs import Blobs
from storage.adapters.mongo.changes import History
from storage.adapters.mongo.columns import Reader
from storage.adapters.mongo.commits import Commits
from storage.adapters.mongo.copying import Copying
from storage.adapters.mongo.database import Database, OnStep
from storage.adapters.mongo.deliver import Deliveries, Outcome
from storage.adapters.mongo.due import DueDates
from storage.adapters.mongo.entries import Entries, made
from storage.adapters.mongo.events import Trace
from storage.adapters.mongo.indexes import INDEXES
from storage.adapters.mongo.mailboxes import Opening
from storage.adapters.mongo.metadata import Annotations
from storage.adapters.mongo.moves import Chosen, Moves, Store, Stored, stored_again
from storage.adapters.mongo.operations import PATIENCE, Operations
from storage.adapters.mongo.recovery import Recovery
from storage.adapters.mongo.release import Release
from storage.adapters.mongo.replace import Replace
from storage.adapters.mongo.search import Search
from storage.adapters.mongo.sending import Sending
from storage.adapters.mongo.settling import Settling
from storage.adapters.mongo.sharing import Sharing, shown
from storage.adapters.mongo.sharing import change as change_list
from storage.adapters.mongo.spool_work import SpoolWork
from storage.adapters.mongo.state import Draft, Item, is_open
from storage.adapters.mongo.stats import Stats
from storage.adapters.mongo.upkeep import Upkeep
from storage.adapters.mongo.watch import Watch
from storage.hub import Hub
from storage.intake import Intake
from storage.limits import ACCEPT_BATCH, SWEEP_ENTRIES, USAGES_AT_ONCE, TraceLimits
from storage.model import (
    MAIL,
    Accepted,
    Annotation,
    Appended,
    Changes,
    Claimed,
    Columns,
    Copied,
    Delivery,
    Depth,
    Event,
    Expunged,
    FlagMode,
    FlagsStored,
    Found,
    Grant,
    Mailbox,
    MailboxList,
    MailboxRef,
    NewMessage,
    Opened,
    Operation,
    Query,
    Ranges,
    Rights,
    Settlement,
    SpoolAction,
    SpoolDomain,
    SpoolItem,
    SpoolResult,
    StagedBlob,
    StorageStats,
    SweepReport,
    TraceFound,
    Usage,
    Want,
)
from storage.port import Reason, Refused, Unavailable
from storage.rights import check_rights
from storage.transfer import UNFINISHED
from storage.turns import Turns

log = structlog.get_logger("storage")


class MongoStorage:
    """The port. ``open`` before use, ``close`` after it, which closes ``mongo`` too; all calls on one event loop.

    on_step: for tests, see ``database.OnStep``. patience: seconds that a repeat of an operation gives the process that
    began it, before it takes the operation over. trace: how much of it is kept.
    """

    def __init__(
        self,
        mongo: Mongo,
        *,
        clock: Clock | None = None,
        on_step: OnStep | None = None,
        patience: float = PATIENCE,
        trace: TraceLimits = TraceLimits(),  # noqa: B008  # it is frozen
    ) -> None:
        self._mongo = mongo
        self._clock = clock or SystemClock()
        self.database = Database(mongo, self._clock, on_step)
        self._hub = Hub()
        self._appending = Turns()
        self.accounts = Accounts(self.database, self._hub)
        self._operations = Operations(self.database, self.accounts, patience)
        self._commits = Commits(self.database, self.accounts, self._operations)
        self._intake = Intake(texts.read_out)
        self._blobs = Blobs(self.database, self._intake)
        self._entries = Entries(self.database, self.accounts)
        self._history = History(self.database, self.accounts, self._entries)
        self._opening = Opening(self.database, self.accounts, self._entries)
        self._moves = Moves(self.database, self._entries)
        self._copying = Copying(self.database, self.accounts, self._commits, self._entries, self._moves, self._blobs)
        self._annotations = Annotations(self.database, self.accounts)
        dues = DueDates(self.database)
        self._arrivals = Arrivals(self.database, self.accounts, self._operations, self._commits)
        self._deliveries = Deliveries(
            self.database, self.accounts, self._operations, self._commits, self._arrivals, self._blobs, dues
        )
        self._batches = Batches(self._deliveries, self._commits)
        release = Release(self.database)
        self._work = SpoolWork(
            self.database, self._commits, self.accounts, self._deliveries, self._intake, self._blobs, release, dues
        )
        self._sending = Sending(self.database, self._commits, dues, self._work)
        self._settling = Settling(
            self.database,
            self._commits,
            self._operations,
            self.accounts,
            self._intake,
            self._blobs,
            self._work,
            self._sending.bell.ring,
        )
        self._recovery = Recovery(
            self.database, self.accounts, self._operations, self._commits, self._deliveries, self._copying
        )
        self._watch = Watch(self.database, self._hub)
        self._reader = Reader(self.database, self._entries, self._blobs)
        self._search = Search(self.database, self.accounts, self._blobs, self._intake)
        self._sharing = Sharing(self.database, self.accounts)
        self._trace = Trace(self.database, trace)
        self._stats = Stats(self.database)
        self._upkeep = Upkeep(
            self.database,
            self._blobs,
            release,
            self._trace,
            self.accounts,
            self._operations,
            self._recovery,
            self._work,
            self._sharing,
        )
        self._closed = False

    # -- life

    async def open(self) -> None:
        """Make the indexes that are not there. Unavailable, and StartError on the target of an unfinished migration."""
        try:
            await ensure_indexes(self._mongo.database, INDEXES)
        except MongoUnavailable as error:
            raise Unavailable(str(error)) from error
        if await self.database.first(queries.transfer(queries.MARKER)) is not None:
            raise StartError(UNFINISHED)
        await self._upgrade()

    async def recover(self) -> None:
        """Finish what processes that died have committed and not carried out everywhere, while no other process uses
        the store. Accounts are settled when they are read. Unavailable."""
        now = self._clock.now()
        while await self._recovery.finish_undone(now + 1.0, SWEEP_ENTRIES) == SWEEP_ENTRIES:
            continue
        while await self._work.finish_undone(now + 1.0, SWEEP_ENTRIES) == SWEEP_ENTRIES:
            continue
        await self._upgrade()

    async def _upgrade(self) -> None:
        while await self._work.upgrade(SWEEP_ENTRIES) == SWEEP_ENTRIES:
            continue

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._sending.close()
        await self._watch.close()
        await self._intake.close()
        await self._commits.finish()
        self.database.close()
        await self._mongo.close()

    # -- accounts

    async def open_account(self, op: Operation, account: str) -> None:
        check_rights(op, account)
        doc = await self.accounts.find(account)
        if doc is not None:
            _check_not_purged(doc)
        else:
            await self.accounts.make(mailboxes.first_state(account, self._clock.now()))
        if not op.events:
            return

        def change(draft: Draft, item: Item) -> None:
            _check_not_purged(draft.doc)

        await self._commits.once(op, account, lambda: Plain(change), _done, _nothing)

    async def purge_account(self, op: Operation, account: str) -> bool:
        return await self._upkeep.purge(op, account)

    async def usage(self, account: str) -> Usage:
        doc = await self.accounts.find(account)
        return Usage(0, 0) if doc is None else Usage(doc["size"], doc["messages"])

    async def usages(self, accounts: Sequence[str]) -> tuple[Usage, ...]:
        if len(accounts) > USAGES_AT_ONCE:
            raise Refused(Reason.LIMIT, f"What is used is told of {USAGES_AT_ONCE} accounts at once.")
        found = await self.database.find(queries.usages(accounts))
        used = {doc["_id"]: Usage(doc["size"], doc["messages"]) for doc in found}
        return tuple(used.get(account, Usage(0, 0)) for account in accounts)

    # -- mailboxes

    async def list_mailboxes(self, account: str) -> MailboxList:
        return mailboxes.every(await self.accounts.settled(account))

    async def mailbox(self, account: str, name: str, actor: str | None = None) -> Mailbox:
        reader = rights.reader(MailboxRef(account, "", actor))
        if reader is None:
            return mailboxes.by_name(await self.accounts.settled(account), name)
        doc = await self.accounts.find(account)
        if doc is None or not is_open(doc):
            # Of an account that was never opened another learns no more than of one that shares nothing.
            raise Refused(Reason.NO_SUCH_MAILBOX)
        return mailboxes.by_name(doc, name, reader)

    async def create_mailbox(self, op: Operation, account: str, name: str, special_use: str | None = None) -> Mailbox:
        actor = rights.writer(op, account)

        async def again(known: Any) -> Mailbox:
            return outcomes.mailbox_again(account, known, actor)

        return await self._commits.once(
            op,
            account,
            lambda: mailboxes.create(account, name, special_use, self._clock.now, actor),
            outcomes.mailbox,
            again,
            shared=True,
            unknown=Reason.NO_PERMISSION,
        )

    async def delete_mailbox(self, op: Operation, account: str, name: str) -> None:
        actor = rights.writer(op, account)
        await self._commits.once(
            op, account, lambda: mailboxes.delete(name, self._clock.now, actor), _done, _nothing, shared=True
        )

    async def rename_mailbox(self, op: Operation, account: str, name: str, new_name: str) -> None:
        await self._commits.once(
            op,
            account,
            lambda: mailboxes.Rename(self._moves, op.id, account, name, new_name, rights.writer(op, account)),
            _done,
            _nothing,
            shared=True,
        )

    async def subscribe(self, op: Operation, account: str, name: str, on: bool) -> None:
        await self._commits.once(op, account, lambda: mailboxes.subscribe(name, on), _done, _nothing)

    async def open_mailbox(self, op: Operation, ref: MailboxRef, read_write: bool) -> Opened:
        # Who opens it is who reads it.
        ref = replace_fields(ref, actor=rights.writer(op, ref.account))
        found = await self._opening.look(ref)
        idle = not op.events and not (read_write and found.mailbox.recent)
        # Nothing to take is nothing to write, unless the first call of a repeat has taken it.
        if idle and not (read_write and await self._operations.find(op.id) is not None):
            return found

        async def again(known: Any) -> Ranges:
            return _ranges(known)

        taken = await self._commits.once(
            op, ref.account, lambda: self._opening.take(ref, read_write), list, again, shared=True
        )
        found = await self._opening.look(ref)
        return outcomes.with_recent(found, taken) if read_write else found

    # -- sharing

    async def acl(self, ref: MailboxRef) -> tuple[Grant, ...]:
        doc = await self.accounts.find(ref.account)
        if doc is None or not is_open(doc):
            raise Refused(Reason.NO_SUCH_MAILBOX)
        return shown(doc, ref)

    async def set_acl(
        self,
        op: Operation,
        ref: MailboxRef,
        identifier: str,
        rights: Rights,
        mode: FlagMode = FlagMode.REPLACE,
        negative: bool = False,
    ) -> None:
        change = change_list(op, ref, identifier, rights, mode, negative)
        if await self._commits.once(op, ref.account, lambda: Plain(change), bool, _known, shared=True):
            await self._commits.run(self._sharing.tell(identifier))

    async def shared_with(self, account: str) -> tuple[Mailbox, ...]:
        return await self._sharing.shared_with(account)

    # -- annotations

    async def annotations(
        self,
        refs: Sequence[MailboxRef],
        entries: Sequence[str] = ("/private", "/shared"),
        depth: Depth = Depth.ALL,
        values: bool = True,
    ) -> tuple[Annotation, ...]:
        return await self._annotations.read(refs, entries, depth, values)

    async def set_annotations(self, op: Operation, ref: MailboxRef, values: Mapping[str, bytes | None]) -> int:
        async def again(known: Any) -> int:
            return int(known)

        change = self._annotations.change
        return await self._commits.once(op, ref.account, lambda: change(op, ref, values), int, again, shared=True)

    # -- reading messages

    async def columns(self, ref: MailboxRef, uids: Ranges, want: Want, limit: int = 512, lost: bool = False) -> Columns:
        return await self._reader.columns(ref, uids, want, limit, lost)

    async def read(self, account: str, email: str, start: int, end: int) -> bytes:
        return await self._reader.read(account, email, start, end)

    async def search(self, ref: MailboxRef, query: Query) -> Found:
        return await self._search.run(ref, query)

    async def changes(self, ref: MailboxRef, since: int, limit: int = 1024) -> Changes:
        return await self._history.since(ref, since, limit)

    async def watch(self, accounts: Mapping[str, int], wait: float) -> Mapping[str, int]:
        return await self._watch.wait(accounts, wait)

    # -- writing messages

    async def stage(self, chunks: AsyncIterable[bytes]) -> StagedBlob:
        return await self._blobs.stage(chunks)

    async def accept(self, deliveries: Sequence[Delivery]) -> Sequence[Accepted | Refused | Unavailable]:
        found: list[Accepted | Refused | Unavailable] = []
        for start in range(0, len(deliveries), ACCEPT_BATCH):
            batch = deliveries[start : start + ACCEPT_BATCH]
            try:
                ended = await self._accept(batch)
            except Unavailable as unavailable:
                ended = [unavailable] * len(batch)
            for delivery, outcome in zip(batch, ended, strict=True):
                if isinstance(outcome, Accepted | Refused | Unavailable):
                    found.append(outcome)
                elif len(deliveries) == 1:
                    raise outcome
                else:
                    log.error("a delivery failed", trace=delivery.trace, exc_info=outcome)
                    found.append(Unavailable("internal error"))
        return found

    async def _accept(self, batch: Sequence[Delivery]) -> Sequence[Outcome | BaseException]:
        described = await self._intake.deliveries(batch)
        bodies = [body if isinstance(body, Refused) else self._blobs.prepare(body) for body in described]
        try:
            return await self._commits.run(self._batches.accept(list(zip(batch, bodies, strict=True))))
        finally:
            if any(delivery.remote for delivery in batch):
                self._sending.bell.ring()

    async def append(
        self,
        op: Operation,
        ref: MailboxRef,
        messages: Sequence[NewMessage],
        quota: int | None,
        name: str | None = None,
    ) -> Appended:
        actor = rights.writer(op, ref.account)
        async with self._appending.of(ref.mailbox, op.sequence):
            bodies = [self._blobs.prepare(body) for body in await self._intake.messages(messages)]
            return await self._append(
                op,
                ref.account,
                lambda: Append(self.database, self._blobs, op.id, ref, messages, bodies, quota, actor, name),
            )

    async def replace(
        self, op: Operation, ref: MailboxRef, uid: int, target: MailboxRef, message: NewMessage, quota: int | None
    ) -> Appended:
        if target.account != ref.account:
            raise Refused(Reason.CANNOT, "The two mailboxes are of different accounts.")
        actor = rights.writer(op, ref.account)
        bodies = [self._blobs.prepare(body) for body in await self._intake.messages([message])]

        def work() -> Replace:
            append = Append(self.database, self._blobs, op.id, target, [message], bodies, None, actor)
            return Replace(self._moves, append, op.id, ref, uid, bodies[0].size, quota, actor)

        return await self._append(op, ref.account, work)

    async def _append(self, op: Operation, owner: str, work: Callable[[], Append | Replace]) -> Appended:
        async def again(known: Any) -> Appended:
            return Appended(known[0], tuple(known[1]), known[2])

        return await self._commits.once(
            op,
            owner,
            work,
            lambda appended: [appended.uidvalidity, list(appended.uids), appended.modseq],
            again,
            shared=True,
        )

    async def store_flags(
        self,
        op: Operation,
        ref: MailboxRef,
        uids: Ranges,
        mode: FlagMode,
        flags: int,
        keywords: tuple[str, ...] = (),
        unchanged_since: int | None = None,
    ) -> FlagsStored:
        actor = rights.writer(op, ref.account)

        async def again(known: Any) -> Stored:
            return stored_again(made(*await self._entries.page(replace_fields(ref, actor=None), uids)), known)

        stored = await self._commits.once(
            op,
            ref.account,
            lambda: Store(self._moves, ref, uids, mode, flags, keywords, unchanged_since, actor),
            lambda stored: [stored.modified, stored.modseq],
            again,
            shared=True,
        )
        return FlagsStored(stored.shown(), stored.modified, stored.modseq)

    async def copy(
        self,
        op: Operation,
        ref: MailboxRef,
        uids: Ranges,
        target: str,
        quota: int | None,
        to: str | None = None,
        messages: int | None = None,
    ) -> Copied:
        return await self._copying.copy(op, ref, Chosen(uids, messages), target, quota, to)

    async def move(
        self,
        op: Operation,
        ref: MailboxRef,
        uids: Ranges,
        target: str,
        quota: int | None = None,
        to: str | None = None,
        messages: int | None = None,
    ) -> Copied:
        return await self._copying.move(op, ref, Chosen(uids, messages), target, quota, to)

    async def expunge(self, op: Operation, ref: MailboxRef, uids: Ranges) -> Expunged:
        return await self._copying.expunge(op, ref, uids)

    # -- spool

    async def spool(
        self, account: str | None, limit: int = 100, after: str = "", domain: str | None = None
    ) -> tuple[SpoolItem, ...]:
        return await spooled.page(self.database, account, limit, after, domain)

    async def spool_item(self, item: str, account: str | None) -> SpoolItem:
        return spooled.made(await spooled.waiting(self.database, item, account), self.database.now())

    async def spool_domains(self, limit: int = 1000, after: str = "") -> tuple[SpoolDomain, ...]:
        return await spooled.domains(self.database, limit, after)

    async def spool_queued(self, queue: str, account: str | None) -> int:
        return await spooled.queued(self.database, queue, account)

    async def spool_result(self, item: str, account: str | None) -> SpoolResult:
        return await spooled.result(self.database, item, account)

    async def claim(
        self,
        limit: int,
        per_domain: int,
        lease: float,
        wait: float = 0.0,
        skip: frozenset[str] = frozenset(),
        queue: str = MAIL,
    ) -> tuple[Claimed, ...]:
        return await self._sending.claim(limit, per_domain, lease, wait, skip, queue)

    async def extend(self, leases: Mapping[str, str], lease: float) -> frozenset[str]:
        return await self._commits.run(self._sending.extend(leases, lease))

    async def spool_read(self, item: str, start: int, end: int) -> bytes:
        return await spooled.read(self.database, self._blobs, item, start, end)

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Refused | Unavailable | None]:
        return await self._settling.settle(settlements)

    async def change_spool(
        self, op: Operation, items: Sequence[str], action: SpoolAction, route: str | None = None
    ) -> tuple[str, ...]:
        return await self._settling.change(op, items, action, route)

    # -- trace

    async def record(self, events: Sequence[Event]) -> None:
        await self._trace.record(events)

    async def trace(self, trace: str, account: str | None) -> tuple[Event, ...]:
        return await self._trace.find(trace, account)

    async def find_traces(
        self, text: str, account: str | None, since: float = 0.0, limit: int = 100
    ) -> tuple[TraceFound, ...]:
        return await self._trace.find_traces(text, account, since, limit)

    # -- upkeep

    async def sweep(self, grace: float = 3600.0) -> SweepReport:
        return await self._upkeep.sweep(grace)

    async def scrub(self, after: str = "", limit: int = 100) -> tuple[str, tuple[str, ...]]:
        return await self._upkeep.scrub(after, limit)

    async def reparse(self, after: str = "", limit: int = 100) -> str:
        return await self._upkeep.reparse(after, limit)

    async def stats(self) -> StorageStats:
        return await self._stats.totals()


def _check_not_purged(doc: Mapping[str, Any]) -> None:
    if not is_open(doc):
        raise Refused(Reason.NO_SUCH_ACCOUNT, "This account was removed.")


def _done(value: object) -> list[int]:
    """The outcome of an operation that has nothing to tell."""
    return [1]


async def _nothing(known: Any) -> None:
    return None


async def _known(known: Any) -> bool:
    return bool(known)


def _ranges(known: Sequence[Sequence[int]]) -> Ranges:
    return tuple((first, last) for first, last in known)
