"""Copying a whole store into another one, of whatever kinds the two are: page by page, and on from where it stopped.

The new store keeps, with every batch of records, the place that is reached with it. A run that died is thus followed by
one that goes on from the last batch; what was taken of the next one is found there and not taken twice. That holds only
while the old store stays as it is: its state is looked at before and after, and kept with the place as a digest.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final, NamedTuple

from storage import ingest
from storage.model import INLINE_MAX
from storage.transfer import (
    AccountRecord,
    Batch,
    BlobRecord,
    InMailbox,
    MailboxRecord,
    SpoolRecord,
    Transfer,
    TransferRefused,
)

PAGE: Final = 500
"""Entries, spool items or rows of events that are read at once."""
ACCOUNTS: Final = 50
"""Accounts (with up to thousands of mailboxes each) that are read at once."""
BATCH_RECORDS: Final = 500
"""Records after which a batch is handed over."""
BATCH_OCTETS: Final = 4 * 1024 * 1024
"""Octets of bodies after which a batch is handed over; so much of them is read at once, too."""
SETS: Final = 8
"""Sets of annotations (256 KiB each at most) that are read at once."""
RANGES: Final = 10_000
"""Ranges of expunged uids that are read at once."""

Told = Callable[[int, int], None]
"""Is told how many messages are done, and how many octets of them."""


@dataclass(frozen=True, slots=True)
class Survey:
    """A store before it is moved. state: a digest of all that changes when the store is used. octets: the sum of
    RFC822.SIZE over messages; a body that several share counts each time."""

    state: str
    accounts: int
    mailboxes: int
    messages: int
    octets: int


class Stage(IntEnum):
    ACCOUNTS = 0
    SPOOL = 1
    EVENTS = 2
    COPIED = 3


class Part(IntEnum):
    """Of a mailbox, in the order in which they are copied."""

    HERE = 0
    LOST = 1
    VANISHED = 2


class Place(NamedTuple):
    """How far a copy has come. after: the last account, item or row that is finished. The account after it: begun when
    its record is there; its mailboxes below ``mailbox`` are finished, in that one the parts below ``part``, in that
    part all up to ``within`` (a uid or modseq). messages, octets: done so far. annotated: mailbox and owner of the
    account's last set of annotations that is finished."""

    stage: int = Stage.ACCOUNTS
    after: str = ""
    begun: bool = False
    mailbox: str = ""
    part: int = Part.HERE
    within: int = 0
    messages: int = 0
    octets: int = 0
    annotated: tuple[str, str] = ("", "")

    def text(self) -> str:
        """As the new store keeps it."""
        return json.dumps(self)

    @classmethod
    def of(cls, text: str) -> Place:
        if not text:
            return cls()
        place = cls(*json.loads(text))
        return place._replace(annotated=(place.annotated[0], place.annotated[1]))


async def survey(source: Transfer) -> Survey:
    """Count the store, and take the digest of its state."""
    digest = hashlib.sha256()
    accounts = mailboxes = messages = octets = 0
    async for account in every_account(source):
        digest.update(repr(account).encode("utf-8", "surrogatepass"))
        accounts += account.open
        mailboxes += len(account.mailboxes)
        messages += account.messages
        octets += account.size
    async for item in every_item(source):
        digest.update(repr(item).encode("utf-8", "surrogatepass"))
    return Survey(digest.hexdigest(), accounts, mailboxes, messages, octets)


async def copy(source: Transfer, target: Transfer, found: Survey, told: Told) -> None:
    """Copy all that is not copied yet. ``found``: the source's survey of this moment.

    TransferRefused when the target holds anything else, when the source has changed since the copying began, also while
    it was copied, or when what it holds does not fit together.
    """
    marker = await target.marker()
    if marker is None:
        await target.begin(found.state, await source.highest())
    elif marker.source != found.state:
        raise TransferRefused(
            "The target holds an unfinished migration from another source, or from this one before it was used again."
        )
    copier = _Copier(source, target, told, Place.of(marker.place if marker is not None else ""))
    await copier.run()
    if (await survey(source)).state != found.state:
        raise TransferRefused("The source was used while it was copied.")


async def every_account(store: Transfer, after: str = "") -> AsyncIterator[AccountRecord]:
    """The accounts after the id, in order."""
    while page := await store.accounts(after, ACCOUNTS):
        for account in page:
            yield account
        after = page[-1].id


async def every_item(store: Transfer, after: str = "") -> AsyncIterator[SpoolRecord]:
    """The spool's items after the id, in the store's order."""
    while page := await store.spool(after, PAGE):
        for item in page:
            yield item
        after = page[-1].id


class _Copier:
    """One run. The batch in hand and the place belong together: they are handed over as one."""

    def __init__(self, source: Transfer, target: Transfer, told: Told, place: Place) -> None:
        self._source = source
        self._target = target
        self._told = told
        self._place = place
        self._batch = Batch()
        self._records = 0
        self._octets = 0
        self._emails: set[str] = set()
        self._blobs: set[str] = set()

    async def run(self) -> None:
        self._told(self._place.messages, self._place.octets)
        if self._place.stage == Stage.ACCOUNTS:
            async for account in every_account(self._source, self._place.after):
                await self._account(account)
            self._next(Stage.SPOOL)
        if self._place.stage == Stage.SPOOL:
            await self._spool()
            self._next(Stage.EVENTS)
        if self._place.stage == Stage.EVENTS:
            await self._events()
            self._next(Stage.COPIED)
            await self._hand_over()

    def _next(self, stage: Stage) -> None:
        self._place = Place(stage, messages=self._place.messages, octets=self._place.octets)

    # -- the stages

    async def _account(self, account: AccountRecord) -> None:
        if not self._place.begun:
            self._batch.accounts.append(account)
            self._place = self._place._replace(begun=True)
            await self._counted(1 + len(account.mailboxes) + len(account.subscriptions))
        if account.annotated:
            await self._annotations(account.id)
        for mailbox in account.mailboxes:
            # A mailbox that never had a message has no history either.
            if mailbox.id >= self._place.mailbox and mailbox.uidnext > 1:
                await self._mailbox(account.id, mailbox)
        self._place = Place(Stage.ACCOUNTS, account.id, messages=self._place.messages, octets=self._place.octets)

    async def _annotations(self, account: str) -> None:
        while page := await self._source.annotations(account, self._place.annotated, SETS):
            self._batch.annotations.extend((account, one) for one in page)
            self._place = self._place._replace(annotated=(page[-1].mailbox, page[-1].owner))
            self._octets += sum(len(value) for one in page for _, _, value in one.entries)
            await self._counted(sum(len(one.entries) for one in page))

    async def _mailbox(self, account: str, mailbox: MailboxRecord) -> None:
        if mailbox.id > self._place.mailbox:
            self._place = self._place._replace(mailbox=mailbox.id, part=Part.HERE, within=0)
        at = InMailbox(account, mailbox.id)
        for part in Part:
            if part < self._place.part:
                continue
            if part > self._place.part:
                self._place = self._place._replace(part=part, within=0)
            if part is Part.VANISHED:
                await self._history(at)
            else:
                await self._messages(at, lost=part is Part.LOST)

    async def _messages(self, at: InMailbox, *, lost: bool) -> None:
        while page := await self._source.entries(at, self._place.within, PAGE, lost=lost):
            await self._bring_emails({entry.email for entry in page}, at)
            for entry in page:
                self._batch.entries.append((at, entry))
            messages, octets = (0, 0) if lost else (len(page), sum(entry.size for entry in page))
            self._place = self._place._replace(
                within=page[-1].uid,
                messages=self._place.messages + messages,
                octets=self._place.octets + octets,
            )
            await self._counted(len(page))

    async def _history(self, at: InMailbox) -> None:
        while page := await self._source.vanished(at, self._place.within, RANGES):
            self._batch.vanished.extend((at, change) for change in page)
            self._place = self._place._replace(within=page[-1].modseq)
            await self._counted(sum(len(change.ranges) for change in page))

    async def _spool(self) -> None:
        while page := await self._source.spool(self._place.after, PAGE):
            await self._bring_blobs({item.blob for item in page}, "the spool")
            self._batch.spool.extend(page)
            self._place = self._place._replace(after=page[-1].id)
            await self._counted(sum(1 + len(item.recipients) for item in page))

    async def _events(self) -> None:
        while page := await self._source.events(self._place.after, PAGE):
            self._batch.events.extend(page)
            self._place = self._place._replace(after=page[-1].place)
            await self._counted(len(page))

    # -- what they name

    async def _bring_emails(self, ids: set[str], at: InMailbox) -> None:
        """Have these emails, and their bodies, in the batch or in the target."""
        wanted = await self._target.lacking_emails(at.account, ids - self._emails)
        if not wanted:
            return
        found = await self._source.emails(at.account, wanted)
        if len(found) != len(wanted):
            raise TransferRefused(f"The source is damaged: messages of mailbox {at.mailbox} of {at.account} are gone.")
        await self._bring_blobs({email.blob for email in found}, f"mailbox {at.mailbox} of {at.account}")
        self._batch.emails.extend(found)
        self._emails.update(wanted)
        self._records += len(found)

    async def _bring_blobs(self, ids: set[str], what: str) -> None:
        """Have these bodies in the batch or in the target."""
        wanted = sorted(await self._target.lacking_blobs(ids - self._blobs))
        while wanted:
            page = await self._source.blobs(wanted, BATCH_OCTETS)
            if not page or page[0].id != wanted[0]:
                raise TransferRefused(f"The source is damaged: body {wanted[0]}, which {what} names, is gone.")
            for blob in page:
                if blob.id != wanted[0]:
                    break
                wanted.pop(0)
                await self._bring(blob)
            if self._octets >= BATCH_OCTETS:
                await self._hand_over()

    async def _bring(self, blob: BlobRecord) -> None:
        if blob.content is None:
            await self._bring_large(blob)
            return
        if blob.forms.version not in (ingest.VERSION, ingest.UNREAD):
            forms, _ = await asyncio.to_thread(ingest.describe, blob.content)
            blob = replace(blob, forms=forms)
        self._batch.blobs.append(blob)
        self._blobs.add(blob.id)
        self._records += 1
        self._octets += blob.size

    async def _bring_large(self, blob: BlobRecord) -> None:
        """A body that is too long for a batch: in pieces, and whole in memory only where it is to be read anew."""
        if blob.forms.version not in (ingest.VERSION, ingest.UNREAD):
            whole = b"".join([piece async for piece in pieces(self._source, blob)])
            forms, _ = await asyncio.to_thread(ingest.describe, whole)
            blob = replace(blob, forms=forms)
        await self._target.put_body(blob, pieces(self._source, blob))

    # -- handing over

    async def _counted(self, records: int) -> None:
        self._records += records
        if self._records >= BATCH_RECORDS or self._octets >= BATCH_OCTETS:
            await self._hand_over()

    async def _hand_over(self) -> None:
        await self._target.put(self._batch, self._place.text())
        self._batch = Batch()
        self._records = self._octets = 0
        self._emails.clear()
        self._blobs.clear()
        self._told(self._place.messages, self._place.octets)


async def pieces(store: Transfer, blob: BlobRecord) -> AsyncIterator[bytes]:
    """A body's octets, INLINE_MAX at a time; it ends early where some are missing."""
    for start in range(0, blob.size, INLINE_MAX):
        piece = await store.octets(blob.id, start, min(blob.size, start + INLINE_MAX))
        if piece:
            yield piece
