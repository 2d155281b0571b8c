"""Comparing a store with what it was copied into, record by record, and every body with its SHA-256."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from storage.migrate import BATCH_OCTETS, PAGE, RANGES, SETS, Told, every_account, every_item, pieces
from storage.transfer import (
    AccountRecord,
    AnnotationsRecord,
    BlobRecord,
    EmailRecord,
    EntryRecord,
    EventsRecord,
    InMailbox,
    MailboxRecord,
    SpoolRecord,
    Transfer,
    VanishedRecord,
)

PROBLEMS: Final = 100
"""Differences that are told in words; more are counted."""
_DIGEST_BITS: Final = 128


class _Comparable(Protocol):
    def __lt__(self, other: Any, /) -> bool: ...


T = TypeVar("T")
K = TypeVar("K", bound=_Comparable)


class Row(NamedTuple):
    """One thing that was counted or digested in both."""

    what: str
    source: str
    target: str

    @property
    def same(self) -> bool:
        return self.source == self.target


@dataclass(slots=True)
class Report:
    """What a comparison has found. problems: a sentence each, the first PROBLEMS of ``count``. damaged_before: bodies
    that are damaged in the source, and were copied as they are. bodies: of the target, each hashed."""

    rows: tuple[Row, ...] = ()
    problems: list[str] = field(default_factory=list)
    count: int = 0
    damaged_before: list[str] = field(default_factory=list)
    bodies: int = 0

    def problem(self, sentence: str) -> None:
        self.count += 1
        if len(self.problems) < PROBLEMS:
            self.problems.append(sentence)


class _Tally:
    """What one side has: counts of records that were really read, not of counters; digests over them in order."""

    def __init__(self) -> None:
        self.accounts = self.mailboxes = self.shares = self.messages = self.octets = self.lost = self.vanished = 0
        self.spool = self.recipients = self.events = self.annotations = 0
        self.states = hashlib.sha256()
        self.flags = hashlib.sha256()
        self.contents = hashlib.sha256()
        # Of what has no order of its own: sums of digests.
        self.spool_sum = self.event_sum = 0

    def rows(self) -> tuple[tuple[str, str], ...]:
        return (
            ("accounts with mail", f"{self.accounts:,}"),
            ("mailboxes", f"{self.mailboxes:,}"),
            ("entries of access control lists", f"{self.shares:,}"),
            ("messages", f"{self.messages:,}"),
            ("octets of messages", f"{self.octets:,}"),
            ("expunged within the grace", f"{self.lost:,}"),
            ("ranges of expunged uids", f"{self.vanished:,}"),
            ("annotations", f"{self.annotations:,}"),
            ("messages to be sent on", f"{self.spool:,}"),
            ("their recipients", f"{self.recipients:,}"),
            ("trace events", f"{self.events:,}"),
            ("digest of accounts and mailboxes", self.states.hexdigest()[:16]),
            ("digest of uids, modseqs and flags", self.flags.hexdigest()[:16]),
            ("digest of contents", self.contents.hexdigest()[:16]),
            ("digest of the spool", f"{self.spool_sum:032x}"[:16]),
            ("digest of the trace", f"{self.event_sum:032x}"[:16]),
        )

    def account(self, record: AccountRecord) -> None:
        self.accounts += record.open
        self.mailboxes += len(record.mailboxes)
        self.shares += sum(len(mailbox.acl) for mailbox in record.mailboxes)
        self.states.update(_octets(record))

    def annotated(self, some: AnnotationsRecord) -> None:
        self.annotations += len(some.entries)
        self.states.update(_octets(some))

    def entry(self, entry: EntryRecord, email: EmailRecord | None, blob: BlobRecord | None) -> None:
        if entry.lost is None:
            self.messages += 1
            self.octets += entry.size
        else:
            self.lost += 1
        self.flags.update(_octets(entry[:4]))
        if email is not None and blob is not None:
            self.contents.update(email.prefix + blob.sha256)

    def change(self, change: VanishedRecord) -> None:
        self.vanished += len(change.ranges)
        self.flags.update(_octets(change))

    def item(self, item: SpoolRecord) -> None:
        self.spool += 1
        self.recipients += len(item.recipients)
        params = [sorted(one.items()) for one in (item.params, *(to.params for to in item.recipients))]
        plain = (item.id, item.trace, item.account, item.sender, item.blob, item.size, item.queued_at)
        state = (item.next_attempt, item.attempts, item.claims, item.held, item.route, item.told_at, item.last)
        to = (item.domain, [one.address for one in item.recipients])
        self.spool_sum = _sum(self.spool_sum, (plain, state, to, params))

    def event(self, kept: EventsRecord) -> None:
        for event in kept.events:
            self.events += 1
            detail = json.dumps(dict(event.detail), sort_keys=True)
            self.event_sum = _sum(self.event_sum, (event.trace, event.at, event.kind, event.account, detail))


async def compare(source: Transfer, target: Transfer, told: Told) -> Report:
    """Read both and tell what differs. ``told`` hears of messages compared."""
    comparison = _Comparison(source, target, told)
    await comparison.run()
    return comparison.report


class _Comparison:
    def __init__(self, source: Transfer, target: Transfer, told: Told) -> None:
        self._source = source
        self._target = target
        self._told = told
        self._old = _Tally()
        self._new = _Tally()
        self.report = Report()

    async def run(self) -> None:
        async for old, new in _merged(every_account(self._source), every_account(self._target), lambda one: one.id):
            await self._account(old, new)
        for store, tally in ((self._source, self._old), (self._target, self._new)):
            async for item in every_item(store):
                tally.item(item)
            after = ""
            while page := await store.events(after, PAGE):
                for kept in page:
                    tally.event(kept)
                after = page[-1].place
        await self._bodies()
        self.report.rows = tuple(
            Row(what, source, target)
            for (what, source), (_, target) in zip(self._old.rows(), self._new.rows(), strict=True)
        )
        for row in self.report.rows:
            if not row.same and not self.report.problems:
                self.report.problem(f"{row.what}: {row.source} and {row.target}")

    # -- accounts

    async def _account(self, old: AccountRecord | None, new: AccountRecord | None) -> None:
        for record, tally in ((old, self._old), (new, self._new)):
            if record is not None:
                tally.account(record)
        found = old or new
        if found is None:
            return
        if old is None or new is None:
            self.report.problem(f"account {found.id}: {'missing' if new is None else 'not in the source'}")
        elif old != new:
            self._differing(f"account {found.id}", old, new, apart=("mailboxes",))
        await self._annotations(found.id, old, new)
        mailboxes = {one.id: (one, None) for one in (old.mailboxes if old is not None else ())}
        both: dict[str, tuple[MailboxRecord | None, MailboxRecord | None]] = dict(mailboxes)
        for one in new.mailboxes if new is not None else ():
            both[one.id] = (both.get(one.id, (None, None))[0], one)
        for id, (before, after) in sorted(both.items()):
            what = f"mailbox {(before or after or ('', id))[1]} of {found.id}"
            if before is None or after is None:
                self.report.problem(f"{what}: {'missing' if after is None else 'not in the source'}")
            elif before != after:
                self._differing(what, before, after)
            await self._mailbox(InMailbox(found.id, id), what, before, after)

    async def _annotations(self, account: str, old: AccountRecord | None, new: AccountRecord | None) -> None:
        sides = _annotations(self._source, account, old), _annotations(self._target, account, new)
        async for before, after in _merged(*sides, lambda one: (one.mailbox, one.owner)):
            if before is not None:
                self._old.annotated(before)
            if after is not None:
                self._new.annotated(after)
            if before != after:
                mailbox = (before or after or ("",))[0]
                self.report.problem(f"account {account}: annotations of {mailbox or 'itself'} differ")

    async def _mailbox(self, at: InMailbox, what: str, old: MailboxRecord | None, new: MailboxRecord | None) -> None:
        begun = self._new.messages
        for lost in (False, True):
            sides = (_entries(self._source, at, old, lost), _entries(self._target, at, new, lost))
            pairs: list[tuple[EntryRecord | None, EntryRecord | None]] = []
            async for pair in _merged(*sides, lambda one: one.uid):
                pairs.append(pair)
                if len(pairs) == PAGE:
                    await self._messages(at.account, what, pairs)
                    pairs = []
            await self._messages(at.account, what, pairs)
        if new is not None and self._new.messages - begun != new.messages:
            self.report.problem(f"{what}: it counts {new.messages} messages and has {self._new.messages - begun}")
        histories = _history(self._source, at, old), _history(self._target, at, new)
        async for before, after in _merged(*histories, lambda one: one.modseq):
            if before is not None:
                self._old.change(before)
            if after is not None:
                self._new.change(after)
            if before != after:
                self.report.problem(f"{what}: the history of expunges differs at modseq {(before or after or [0])[0]}")

    # -- messages

    async def _messages(
        self, account: str, what: str, pairs: Sequence[tuple[EntryRecord | None, EntryRecord | None]]
    ) -> None:
        if not pairs:
            return
        old = await _Named.read(self._source, account, [one for one, _ in pairs if one is not None])
        new = await _Named.read(self._target, account, [one for _, one in pairs if one is not None])
        for before, after in pairs:
            if before is not None:
                self._old.entry(before, *old.of(before))
            if after is not None:
                self._new.entry(after, *new.of(after))
            self._message(what, before, after, old, new)
        self._told(self._new.messages, self._new.octets)
        # Others have their turn: comparing a page takes milliseconds.
        await asyncio.sleep(0)

    def _message(
        self, what: str, before: EntryRecord | None, after: EntryRecord | None, old: _Named, new: _Named
    ) -> None:
        if before is None or after is None:
            uid = (before or after or [0])[0]
            self.report.problem(f"{what}: uid {uid} is {'missing' if after is None else 'not in the source'}")
            return
        which = f"{what}, uid {before.uid}"
        # By which change it was expunged is told by the history; where that was cut, a store may not know it.
        if before._replace(gone=0) != after._replace(gone=0):
            self._differing(which, before._replace(gone=0), after._replace(gone=0))
            return
        (email, blob), (new_email, new_blob) = old.of(before), new.of(after)
        if email is None or new_email is None or blob is None or new_blob is None:
            self.report.problem(f"{which}: the message itself is missing")
        elif email != new_email:
            self._differing(which, email, new_email)
        elif (blob.size, blob.sha256) != (new_blob.size, new_blob.sha256):
            self.report.problem(f"{which}: its body is another")
        elif blob.forms.version == new_blob.forms.version and blob.forms != new_blob.forms:
            self._differing(which, blob.forms, new_blob.forms)

    # -- bodies

    async def _bodies(self) -> None:
        """Every body of the target against its SHA-256."""
        after = ""
        while page := await self._target.bodies(after, PAGE):
            left = list(page)
            while left:
                blobs = await self._target.blobs(left, BATCH_OCTETS)
                for blob in blobs:
                    self.report.bodies += 1
                    if await _hash(self._target, blob) != blob.sha256:
                        await self._damaged(blob)
                left = left[left.index(blobs[-1].id) + 1 :] if blobs else []
            after = page[-1]

    async def _damaged(self, blob: BlobRecord) -> None:
        before = await self._source.blobs((blob.id,), 0)
        if before and await _hash(self._source, before[0]) != before[0].sha256:
            self.report.damaged_before.append(blob.id)
        else:
            self.report.problem(f"body {blob.id}: it is not what its SHA-256 says")

    def _differing(self, what: str, old: Any, new: Any, apart: tuple[str, ...] = ()) -> None:
        """Say which fields differ; what is counted apart is told apart."""
        names = getattr(old, "_fields", None) or tuple(old.__dataclass_fields__)
        for name in names:
            before, after = getattr(old, name), getattr(new, name)
            if name not in apart and before != after:
                self.report.problem(f"{what}: {name} is {_short(after)}, not {_short(before)}")


class _Named(NamedTuple):
    """The emails and bodies that a page of entries names."""

    emails: dict[str, EmailRecord]
    blobs: dict[str, BlobRecord]

    @classmethod
    async def read(cls, store: Transfer, account: str, entries: Sequence[EntryRecord]) -> _Named:
        found = await store.emails(account, {entry.email for entry in entries}) if entries else ()
        emails = {one.id: one for one in found}
        wanted = sorted({email.blob for email in emails.values()})
        return cls(emails, {one.id: one for one in await store.blobs(wanted, 0)} if wanted else {})

    def of(self, entry: EntryRecord) -> tuple[EmailRecord | None, BlobRecord | None]:
        email = self.emails.get(entry.email)
        return email, self.blobs.get(email.blob) if email is not None else None


async def _annotations(store: Transfer, account: str, record: AccountRecord | None) -> AsyncIterator[AnnotationsRecord]:
    after = ("", "")
    while record is not None and record.annotated and (page := await store.annotations(account, after, SETS)):
        for one in page:
            yield one
        after = (page[-1].mailbox, page[-1].owner)


async def _entries(
    store: Transfer, at: InMailbox, mailbox: MailboxRecord | None, lost: bool
) -> AsyncIterator[EntryRecord]:
    after = 0
    while mailbox is not None and mailbox.uidnext > 1 and (page := await store.entries(at, after, PAGE, lost=lost)):
        for entry in page:
            yield entry
        after = page[-1].uid


async def _history(store: Transfer, at: InMailbox, mailbox: MailboxRecord | None) -> AsyncIterator[VanishedRecord]:
    after = 0
    while mailbox is not None and mailbox.uidnext > 1 and (page := await store.vanished(at, after, RANGES)):
        for change in page:
            yield change
        after = page[-1].modseq


async def _merged(
    old: AsyncIterator[T], new: AsyncIterator[T], key: Callable[[T], K]
) -> AsyncIterator[tuple[T | None, T | None]]:
    """What two streams in order of the key have, side by side; None where one lacks it."""
    before, after = await anext(old, None), await anext(new, None)
    while before is not None or after is not None:
        if after is None or (before is not None and key(before) < key(after)):
            yield before, None
            before = await anext(old, None)
        elif before is None or key(after) < key(before):
            yield None, after
            after = await anext(new, None)
        else:
            yield before, after
            before, after = await anext(old, None), await anext(new, None)


async def _hash(store: Transfer, blob: BlobRecord) -> bytes:
    """SHA-256 of the octets that are really there."""
    digest = hashlib.sha256()
    if blob.content is not None:
        digest.update(blob.content)
        return digest.digest()
    async for piece in pieces(store, blob):
        await asyncio.to_thread(digest.update, piece)
    return digest.digest()


def _octets(record: object) -> bytes:
    return repr(record).encode("utf-8", "surrogatepass")


def _sum(total: int, record: object) -> int:
    """Add a record's digest: the sum does not depend on the order."""
    digest = hashlib.sha256(_octets(record)).digest()
    return (total + int.from_bytes(digest[: _DIGEST_BITS // 8])) % (1 << _DIGEST_BITS)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
