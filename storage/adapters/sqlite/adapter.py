"""The storage port over SQLite: what the port says call by call, put together from the files beside this one."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from dataclasses import replace as replace_fields
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from runtime.clock import Clock, SystemClock
from runtime.lifecycle import StartError
from runtime.sqlite import Database, DatabaseUnavailable
from storage import outcomes, rights
from storage.adapters.sqlite import (
    accounts,
    changes,
    columns,
    copy_move,
    deliver,
    entries,
    expunge,
    mailboxes,
    operations,
    sharing,
    spool,
    stats,
    transfer_tables,
)
from storage.adapters.sqlite.commits import Commits, told
from storage.adapters.sqlite.events import find as find_events
from storage.adapters.sqlite.events import find_traces
from storage.adapters.sqlite.events import keep as keep_events
from storage.adapters.sqlite.flags import again as stored_again
from storage.adapters.sqlite.flags import store as store_flags
from storage.adapters.sqlite.intake import Intake
from storage.adapters.sqlite.metadata import Annotations
from storage.adapters.sqlite.query import run as run_query
from storage.adapters.sqlite.replace import replace
from storage.adapters.sqlite.schema import CACHE_KIB, MIGRATIONS, PAGE_SIZE
from storage.adapters.sqlite.search_index import SearchIndex
from storage.adapters.sqlite.sending import Sending, spooled
from storage.adapters.sqlite.stats import Usages
from storage.adapters.sqlite.upkeep import Upkeep
from storage.hub import Hub
from storage.intake import Described
from storage.limits import ACCEPT_BATCH, EVENTS_PER_CALL, WATCH_MAX, TraceLimits
from storage.model import (
    MAIL,
    Accepted,
    Appended,
    Changes,
    Claimed,
    Columns,
    Copied,
    Delivery,
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
    Want,
)
from storage.port import Reason, Refused, Unavailable
from storage.ranges import count
from storage.rights import check_rights
from storage.transfer import UNFINISHED
from storage.turns import Turns

T = TypeVar("T")
log = structlog.get_logger("storage")


class SqliteStorage(Annotations, Usages):
    """The port. ``open`` before use, ``close`` after it; all calls on one event loop.

    folder: where storage.db and search.db are. on_step: for tests, see ``runtime.sqlite.Database``. trace: how much
    of it is kept.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        clock: Clock | None = None,
        on_step: Callable[[str], None] | None = None,
        trace: TraceLimits = TraceLimits(),  # noqa: B008  # it is frozen
    ) -> None:
        self._clock = clock or SystemClock()
        self.database = Database(
            Path(folder) / "storage.db",
            migrations=MIGRATIONS,
            page_size=PAGE_SIZE,
            cache_kib=CACHE_KIB,
            on_step=on_step,
        )
        self.index = SearchIndex(Path(folder) / "search.db", self.database, self._clock)
        self._hub = Hub()
        self._commits = Commits(self.database, self._hub, self._clock)
        self._intake = Intake(self._commits)
        self._appending = Turns()
        self._sending = Sending(self._commits, self._intake, self._clock, self._delivered)
        self._upkeep = Upkeep(self._commits, self._intake, self.index, self._clock, trace)
        self._closed = False

    # -- life

    async def open(self, *, index: bool = True) -> None:
        """Open or make the databases; ``index``: keep the search index up in the background. Unavailable, and
        StartError on the target of an unfinished migration."""
        try:
            await self.database.open()
        except DatabaseUnavailable as error:
            raise told(error) from error
        try:
            if await self.database.read(transfer_tables.is_marked):
                raise StartError(UNFINISHED)
            await self.index.open()
        except BaseException:
            await self.database.close()
            raise
        if index:
            self.index.start()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._hub.close()
        self._sending.close()
        await self._intake.close()
        await self._commits.finish()
        await self.index.close()
        await self.database.close()

    # -- accounts

    async def open_account(self, op: Operation, account: str) -> None:
        check_rights(op, account)
        if await self._read(lambda conn: accounts.is_open(conn, account)) and not op.events:
            return

        def job(conn: sqlite3.Connection, now: float) -> tuple[None, int]:
            return None, 0 if accounts.is_open(conn, account) else accounts.make(conn, account, now)

        await self._commits.once(op, account, job, _done, _nothing)

    async def purge_account(self, op: Operation, account: str) -> bool:
        return await self._upkeep.purge(op, account)

    # -- mailboxes

    async def list_mailboxes(self, account: str) -> MailboxList:
        return await self._read(lambda conn: mailboxes.every(conn, account))

    async def mailbox(self, account: str, name: str, actor: str | None = None) -> Mailbox:
        reader = rights.reader(MailboxRef(account, "", actor))
        return await self._read(lambda conn: mailboxes.by_name(conn, account, name, reader))

    async def create_mailbox(self, op: Operation, account: str, name: str, special_use: str | None = None) -> Mailbox:
        return await self._commits.once(
            op,
            account,
            lambda conn, now: mailboxes.create(conn, account, name, special_use, now, rights.writer(op, account)),
            outcomes.mailbox,
            lambda conn, known: outcomes.mailbox_again(account, known, rights.writer(op, account)),
            shared=True,
            unknown=Reason.NO_PERMISSION,
        )

    async def delete_mailbox(self, op: Operation, account: str, name: str) -> None:
        actor = rights.writer(op, account)
        await self._commits.once(
            op,
            account,
            lambda conn, now: (None, mailboxes.delete(conn, account, name, now, actor)),
            _done,
            _nothing,
            shared=True,
        )

    async def rename_mailbox(self, op: Operation, account: str, name: str, new_name: str) -> None:
        def job(conn: sqlite3.Connection, now: float) -> tuple[None, int]:
            modseq, new_home = mailboxes.rename(conn, account, name, new_name, now, rights.writer(op, account))
            if new_home is not None:
                copy_move.empty_inbox(conn, account, new_home, modseq, now)
            return None, modseq

        await self._commits.once(op, account, job, _done, _nothing, shared=True)

    async def subscribe(self, op: Operation, account: str, name: str, on: bool) -> None:
        def job(conn: sqlite3.Connection, now: float) -> tuple[None, int]:
            return None, mailboxes.subscribe(conn, account, name, on)

        await self._commits.once(op, account, job, _done, _nothing)

    async def open_mailbox(self, op: Operation, ref: MailboxRef, read_write: bool) -> Opened:
        # Who opens it is who reads it.
        ref = replace_fields(ref, actor=rights.writer(op, ref.account))
        found, known = await self._read(
            lambda conn: (mailboxes.opened(conn, ref), operations.find(conn, op, self._clock.now()))
        )
        if known is None and not op.events and not (read_write and found.mailbox.recent):
            # There is nothing to take and so nothing to write.
            return found

        def job(conn: sqlite3.Connection, now: float) -> tuple[Ranges, int]:
            return mailboxes.take_recent(conn, ref) if read_write else (), 0

        taken = await self._commits.once(
            op, ref.account, job, _plain_ranges, lambda conn, known: _ranges(known), shared=True
        )
        # Read after the take, and off the writer: a large mailbox must not keep deliveries waiting.
        found = await self._read(lambda conn: mailboxes.opened(conn, ref))
        return outcomes.with_recent(found, taken) if read_write else found

    # -- sharing

    async def acl(self, ref: MailboxRef) -> tuple[Grant, ...]:
        return await self._read(lambda conn: sharing.shown(conn, ref))

    async def set_acl(
        self,
        op: Operation,
        ref: MailboxRef,
        identifier: str,
        rights: Rights,
        mode: FlagMode = FlagMode.REPLACE,
        negative: bool = False,
    ) -> None:
        def job(conn: sqlite3.Connection, now: float) -> tuple[None, dict[str, int]]:
            return None, sharing.change(conn, ref, op, identifier, rights, mode, negative)

        await self._commits.once(op, ref.account, job, _done, _nothing, shared=True)

    async def shared_with(self, account: str) -> tuple[Mailbox, ...]:
        return await self._read(lambda conn: sharing.shared_with(conn, account))

    # -- reading messages

    async def columns(self, ref: MailboxRef, uids: Ranges, want: Want, limit: int = 512, lost: bool = False) -> Columns:
        return await self._read(lambda conn: columns.page(conn, "lost" if lost else "entry", ref, uids, want, limit))

    async def read(self, account: str, email: str, start: int, end: int) -> bytes:
        return await self._read(lambda conn: entries.octets(conn, account, email, start, end))

    async def search(self, ref: MailboxRef, query: Query) -> Found:
        try:
            return await run_query(self.database, self.index, ref, query)
        except DatabaseUnavailable as error:
            raise told(error) from error

    async def changes(self, ref: MailboxRef, since: int, limit: int = 1024) -> Changes:
        return await self._read(lambda conn: changes.since(conn, ref, since, limit))

    async def watch(self, accounts: Mapping[str, int], wait: float) -> Mapping[str, int]:
        if self._closed:
            raise Unavailable("the store is closed")
        unknown = self._hub.unknown(accounts)
        if unknown:
            self._hub.learn(unknown, await self._read(lambda conn: _modseqs(conn, unknown)))
        return await self._hub.wait(accounts, min(wait, WATCH_MAX))

    # -- writing messages

    async def stage(self, chunks: AsyncIterable[bytes]) -> StagedBlob:
        return await self._intake.staged(chunks)

    async def accept(self, deliveries: Sequence[Delivery]) -> Sequence[Accepted | Refused | Unavailable]:
        outcomes: list[Accepted | Refused | Unavailable] = []
        for start in range(0, len(deliveries), ACCEPT_BATCH):
            batch = deliveries[start : start + ACCEPT_BATCH]
            try:
                outcomes += await self._accept(batch)
            except Unavailable as unavailable:
                outcomes += [unavailable] * len(batch)
            except Exception:
                if len(deliveries) == 1:
                    raise
                outcomes += [await self._accept_alone(delivery) for delivery in batch]
        return outcomes

    async def _accept_alone(self, delivery: Delivery) -> Accepted | Refused | Unavailable:
        """One of a batch in which something was wrong that nothing should be: the others must not suffer from it."""
        try:
            return (await self._accept([delivery]))[0]
        except Unavailable as unavailable:
            return unavailable
        except Exception:
            log.exception("a delivery failed", trace=delivery.trace)
            return Unavailable("internal error")

    async def _accept(self, batch: Sequence[Delivery]) -> list[Accepted | Refused | Unavailable]:
        described = await self._intake.deliveries(batch)

        def job(conn: sqlite3.Connection, now: float) -> tuple[list[deliver.Arrival], dict[str, int]]:
            arrivals = deliver.accept(conn, list(zip(batch, described, strict=True)), now)
            modseqs: dict[str, int] = {}
            for arrival in arrivals:
                modseqs.update(arrival.modseqs)
            return arrivals, modseqs

        arrivals = await self._commits.run(job, heard=self._heard)
        self._delivered(described, arrivals)
        return [arrival.outcome for arrival in arrivals]

    def _heard(self, arrivals: Sequence[deliver.Arrival]) -> None:
        if any(map(spooled, arrivals)):
            self._sending.bell.ring()

    def _delivered(self, described: Sequence[Described | Refused], arrivals: Sequence[deliver.Arrival]) -> None:
        for body, arrival in zip(described, arrivals, strict=True):
            if arrival.blob is not None and isinstance(body, Described):
                self._indexed_soon(arrival.blob, body)
        if made := sum(len(arrival.modseqs) for arrival in arrivals):
            self.index.wake(made)

    async def append(
        self,
        op: Operation,
        ref: MailboxRef,
        messages: Sequence[NewMessage],
        quota: int | None,
        name: str | None = None,
    ) -> Appended:
        async with self._appending.of(ref.mailbox, op.sequence):
            described = await self._intake.messages(messages)

        # It is handed to the writer before the next one has its turn.
        def job(conn: sqlite3.Connection, now: float) -> tuple[Appended, list[int]]:
            return deliver.append(conn, ref, messages, described, quota, now, rights.writer(op, ref.account), name)

        return await self._append(op, ref.account, described, job)

    async def replace(
        self, op: Operation, ref: MailboxRef, uid: int, target: MailboxRef, message: NewMessage, quota: int | None
    ) -> Appended:
        if target.account != ref.account:
            raise Refused(Reason.CANNOT, "The two mailboxes are of different accounts.")
        (body,) = described = await self._intake.messages([message])

        def job(conn: sqlite3.Connection, now: float) -> tuple[Appended, list[int]]:
            return replace(conn, ref, uid, target, message, body, quota, now, rights.writer(op, ref.account))

        return await self._append(op, ref.account, described, job)

    async def _append(
        self,
        op: Operation,
        owner: str,
        described: Sequence[Described],
        job: Callable[[sqlite3.Connection, float], tuple[Appended, list[int]]],
    ) -> Appended:
        """job: → the outcome and the new blobs, in the order of ``described``; it sees to the rights."""
        made: list[int] = []

        def run(conn: sqlite3.Connection, now: float) -> tuple[Appended, int]:
            appended, made[:] = job(conn, now)
            return appended, appended.modseq

        outcome = await self._commits.once(
            op,
            owner,
            run,
            lambda appended: [appended.uidvalidity, appended.uids, appended.modseq],
            lambda conn, known: Appended(known[0], tuple(known[1]), known[2]),
            shared=True,
        )
        for number, body in zip(made, described, strict=False):
            self._indexed_soon(number, body)
        self.index.wake(len(made))
        return outcome

    def _indexed_soon(self, blob: int, body: Described) -> None:
        if isinstance(body.content, bytes) and body.part is not None:
            self.index.hand(blob, body.content, body.part)

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
        def job(conn: sqlite3.Connection, now: float) -> tuple[FlagsStored, int]:
            actor = rights.writer(op, ref.account)
            stored = store_flags(conn, ref, uids, mode, flags, keywords, unchanged_since, actor)
            return stored, stored.modseq

        return await self._commits.once(
            op,
            ref.account,
            job,
            lambda stored: [stored.modified, stored.modseq],
            lambda conn, known: stored_again(conn, ref, uids, known),
            shared=True,
        )

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
        return await self._copy_or_move(copy_move.copy, op, ref, uids, target, quota, to, messages)

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
        return await self._copy_or_move(copy_move.move, op, ref, uids, target, quota, to, messages)

    async def _copy_or_move(
        self,
        job: copy_move.Job,
        op: Operation,
        ref: MailboxRef,
        uids: Ranges,
        target: str,
        quota: int | None,
        to: str | None,
        messages: int | None,
    ) -> Copied:
        there = ref.account if to is None else to
        place = copy_move.Target(there, target, quota, rights.writer(op, there))
        actor = rights.writer(op, ref.account)
        copied = await self._commits.once(
            op,
            ref.account,
            lambda conn, now: job(conn, ref, uids, messages, place, now, actor),
            lambda copied: [copied.uidvalidity, copied.source, copied.target, copied.modseq],
            lambda conn, known: Copied(known[0], _ranges(known[1]), _ranges(known[2]), known[3]),
            shared=True,
        )
        if there != ref.account:
            # Emails that are new to the account.
            self.index.wake(count(copied.target))
        return copied

    async def expunge(self, op: Operation, ref: MailboxRef, uids: Ranges) -> Expunged:
        def job(conn: sqlite3.Connection, now: float) -> tuple[Expunged, int]:
            expunged = expunge.expunge(conn, ref, uids, now, rights.writer(op, ref.account))
            return expunged, expunged.modseq

        return await self._commits.once(
            op,
            ref.account,
            job,
            lambda expunged: [expunged.uids, expunged.modseq],
            lambda conn, known: Expunged(_ranges(known[0]), known[1]),
            shared=True,
        )

    # -- spool

    async def spool(
        self, account: str | None, limit: int = 100, after: str = "", domain: str | None = None
    ) -> tuple[SpoolItem, ...]:
        now = self._clock.now()
        return await self._read(lambda conn: spool.page(conn, account, limit, after, domain, now))

    async def spool_item(self, item: str, account: str | None) -> SpoolItem:
        now = self._clock.now()
        return await self._read(lambda conn: spool.one(conn, item, account, now))

    async def spool_domains(self, limit: int = 1000, after: str = "") -> tuple[SpoolDomain, ...]:
        return await self._read(lambda conn: spool.by_domain(conn, limit, after))

    async def spool_queued(self, queue: str, account: str | None) -> int:
        return await self._read(lambda conn: spool.queued(conn, queue, account))

    async def spool_result(self, item: str, account: str | None) -> SpoolResult:
        now = self._clock.now()
        return await self._read(lambda conn: spool.result(conn, item, account, now))

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
        return await self._sending.extend(leases, lease)

    async def spool_read(self, item: str, start: int, end: int) -> bytes:
        return await self._read(lambda conn: spool.read(conn, item, start, end))

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Refused | Unavailable | None]:
        return await self._sending.settle(settlements)

    async def change_spool(
        self, op: Operation, items: Sequence[str], action: SpoolAction, route: str | None = None
    ) -> tuple[str, ...]:
        return await self._sending.change(op, items, action, route)

    # -- trace

    async def record(self, events: Sequence[Event]) -> None:
        for start in range(0, len(events), EVENTS_PER_CALL):
            together = events[start : start + EVENTS_PER_CALL]
            await self._commits.quiet(partial(keep_events, events=together))

    async def trace(self, trace: str, account: str | None) -> tuple[Event, ...]:
        return await self._read(lambda conn: find_events(conn, trace, account))

    async def find_traces(
        self, text: str, account: str | None, since: float = 0.0, limit: int = 100
    ) -> tuple[TraceFound, ...]:
        return await self._read(lambda conn: find_traces(conn, text, account, since, limit))

    # -- upkeep

    async def sweep(self, grace: float = 3600.0) -> SweepReport:
        return await self._upkeep.sweep(grace)

    async def scrub(self, after: str = "", limit: int = 100) -> tuple[str, tuple[str, ...]]:
        return await self._upkeep.scrub(after, limit)

    async def reparse(self, after: str = "", limit: int = 100) -> str:
        return await self._upkeep.reparse(after, limit)

    async def stats(self) -> StorageStats:
        totals = await self._read(lambda conn: stats.totals(conn, self._clock.now()))
        try:
            return stats.told(totals, await self.index.lag())
        except DatabaseUnavailable as error:
            raise told(error) from error

    async def _read(self, job: Callable[[sqlite3.Connection], T]) -> T:
        return await self._commits.read(job)


def _done(value: object) -> list[int]:
    """The outcome of an operation that has nothing to tell."""
    return [1]


def _nothing(conn: sqlite3.Connection, known: operations.Outcome) -> None:
    return None


def _plain_ranges(ranges: Ranges) -> operations.Outcome:
    return ranges


def _ranges(known: Sequence[Sequence[int]]) -> Ranges:
    return tuple((first, last) for first, last in known)


def _modseqs(conn: sqlite3.Connection, accounts_: Sequence[str]) -> dict[str, int]:
    rows = conn.execute(
        "SELECT a.id, a.modseq FROM json_each(?) AS j CROSS JOIN account AS a ON a.id = j.value",
        (json.dumps(accounts_),),
    ).fetchall()
    return dict(rows)
