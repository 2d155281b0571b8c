"""Bringing home: what a source has and the account does not, and the flags that have changed at the source since.

The order of a batch: it is noted in the ledger, the store takes it whole or not at all, the ledger says so. Whenever a
run ends in between, the next one looks for the batch in the store, and hands it in again under the same operation id
only where it is not there.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

from connectors.exceptions import MessageError
from connectors.pull.source import Folder, Item, Source
from homing.importing.ledger import Known, Ledger, Noted, Pending, Sent
from runtime.ids import new_id
from storage import ranges
from storage.model import (
    INLINE_MAX,
    SYSTEM,
    FlagMode,
    Mailbox,
    MailboxRef,
    NewMessage,
    Operation,
    Ranges,
    StagedBlob,
    Want,
)
from storage.names import canonical
from storage.port import Reason, Refused, Storage, Unavailable

T = TypeVar("T")
BATCH_MESSAGES: Final = 100
BATCH_OCTETS: Final = INLINE_MAX
"""What is handed to the store at once; a longer message goes by itself, in pieces."""
PAUSES: Final = (1.0, 2.0, 5.0, 10.0, 20.0)
"""Seconds for which a store that cannot answer now is left alone before it is tried again."""
NOT_TAKEN: Final = (Reason.UNKNOWN_CTE, Reason.TOO_BIG, Reason.LIMIT, Reason.BAD_NAME)
"""Refusals that concern one message: it is told of, and the others go on."""


class Show(Protocol):
    """Who watches."""

    def begin(self, what: str, items: str, count: int, octets: int) -> None:
        """Something long begins: so many items and octets of them, 0 where none are counted."""

    def at(self, count: int, octets: int) -> None:
        """So many of them are done."""

    def end(self) -> None:
        """It is done."""

    def say(self, sentence: str) -> None:
        """Something to know."""


@dataclass(slots=True)
class Planned:
    """A folder of the source, where it goes, and what there is to do."""

    folder: Folder
    target: str
    messages: int = 0
    octets: int = 0
    new: int = 0
    new_octets: int = 0
    changed: int = 0
    refused: int = 0


@dataclass(slots=True)
class Done:
    """What a run has done."""

    brought: int = 0
    octets: int = 0
    changed: int = 0
    refused: list[str] = field(default_factory=list)


class Import:
    """One run. ledger: None for a look alone, where nothing was ever brought. quota: octets, None for no limit.

    Errors: those of the source; storage's Unavailable, and Refused where the account or its quota is in the way.
    """

    def __init__(
        self,
        storage: Storage,
        account: str,
        quota: int | None,
        source: Source,
        ledger: Ledger | None,
        show: Show,
    ) -> None:
        self._storage = storage
        self._account = account
        self._quota = quota
        self._source = source
        self._ledger = ledger
        self._show = show

    async def plan(self) -> list[Planned]:
        """Look through the source. Nothing is changed."""
        folders = await asyncio.to_thread(self._source.folders)
        mailboxes = (await self._storage.list_mailboxes(self._account)).mailboxes
        found: list[Planned] = []
        self._show.begin("Looking", "folders", len(folders), 0)
        for number, folder in enumerate(folders, 1):
            noted = None if self._ledger is None else await self._ledger.folder(folder.place, folder.validity)
            there = _target(folder, noted, mailboxes)
            planned = Planned(folder, folder.name if there is None else there.name)
            # What was brought to a mailbox that was deleted since is brought again.
            known_here = (
                noted if noted is not None and there is not None and there.ref.mailbox == noted.mailbox else None
            )
            async for page in pages(self._source.items(folder)):
                await self._look(planned, page, known_here)
            found.append(planned)
            self._show.at(number, 0)
        self._show.end()
        return found

    async def _look(self, planned: Planned, page: Sequence[Item], noted: Noted | None) -> None:
        known: dict[str, Known] = {}
        if noted is not None and self._ledger is not None:
            known = await self._ledger.known(noted.id, [item.key for item in page])
        for item in page:
            planned.messages += 1
            planned.octets += item.size
            before = known.get(item.key)
            if before is None:
                planned.new += 1
                planned.new_octets += item.size
            elif before.uid is None:
                planned.refused += 1
            elif (before.flags, before.keywords) != (item.flags, item.keywords):
                planned.changed += 1

    async def run(self, plan: Sequence[Planned]) -> Done:
        """Bring all that was planned, and what has come meanwhile."""
        assert self._ledger is not None
        done = Done()
        count, octets = sum(one.new for one in plan), sum(one.new_octets for one in plan)
        self._show.begin("Mail", "messages", count, octets)
        await self._annotate(MailboxRef(self._account, ""), None, "The account")
        for planned in plan:
            there = await self._mailbox(planned)
            await self._annotate(there.ref, planned.folder, planned.folder.name)
            noted = await self._ledger.note(planned.folder.place, planned.folder.validity, there.ref.mailbox)
            bringing = _Bringing(
                self._storage,
                self._ledger,
                self._source,
                planned.folder,
                noted.id,
                there,
                self._quota,
                self._show,
                done,
            )
            await bringing.settle()
            async for page in pages(self._source.items(planned.folder)):
                await bringing.page(page)
        self._show.end()
        return done

    async def _mailbox(self, planned: Planned) -> Mailbox:
        """The mailbox that the folder goes to, made and subscribed to where that is not done."""
        assert self._ledger is not None
        folder = planned.folder
        listed = await self._storage.list_mailboxes(self._account)
        noted = await self._ledger.folder(folder.place, folder.validity)
        there = _target(folder, noted, listed.mailboxes)
        if there is None:
            taken = {one.special_use for one in listed.mailboxes}
            use = None if folder.special_use in taken else folder.special_use
            there = await self._storage.create_mailbox(_operation(), self._account, folder.name, use)
        planned.target = there.name
        first = noted is None or noted.mailbox != there.ref.mailbox
        if first and folder.subscribed is not False and there.name not in listed.subscriptions:
            await self._storage.subscribe(_operation(), self._account, there.name, True)
        return there

    async def _annotate(self, ref: MailboxRef, folder: Folder | None, name: str) -> None:
        """Set what the source has; what was set here stays."""
        try:
            values = await asyncio.to_thread(self._source.annotations, folder)
        except MessageError as error:
            self._show.say(f"{name}: its annotations are not brought. {error}")
            return
        if not values:
            return
        here = {one.entry for one in await self._storage.annotations([ref], values=False)}
        new: dict[str, bytes | None] = {entry: value for entry, value in values.items() if entry not in here}
        if not new:
            return
        # Private ones are the account's, which nobody else can set for it.
        try:
            await self._storage.set_annotations(Operation(new_id(), self._account), ref, new)
        except Refused:
            # All of them or none: one that cannot be had here would keep the others out.
            for entry, value in new.items():
                try:
                    await self._storage.set_annotations(Operation(new_id(), self._account), ref, {entry: value})
                except Refused as refusal:
                    self._show.say(f"{name}: the annotation {entry} is not brought. {refusal.text}")


class _Bringing:
    """One folder on its way."""

    def __init__(
        self,
        storage: Storage,
        ledger: Ledger,
        source: Source,
        folder: Folder,
        noted: int,
        there: Mailbox,
        quota: int | None,
        show: Show,
        done: Done,
    ) -> None:
        self._storage = storage
        self._ledger = ledger
        self._source = source
        self._folder = folder
        self._noted = noted
        self._ref = there.ref
        self._above = there.uidnext
        self._quota = quota
        self._show = show
        self._done = done

    async def settle(self) -> None:
        """See whether the store has the batch that an earlier run was killed at."""
        pending = await self._ledger.pending(self._noted)
        if pending is None:
            return
        uids = await _found(self._storage, self._ref, pending)
        if uids is not None:
            await self._ledger.finish(
                self._noted, [one.known(uid) for one, uid in zip(pending.batch, uids, strict=True)]
            )
            return
        # The same operation once more: were it still being done there, it would not be done twice.
        keys = {one.key for one in pending.batch}
        items: list[Item] = []
        async for page in pages(self._source.items(self._folder)):
            items += [item for item in page if item.key in keys]
        if len(items) == len(keys):
            self._above = min(self._above, pending.above)
            await self._batch(items, pending.op)

    async def page(self, page: Sequence[Item]) -> None:
        """Bring what is new of a page, and change the flags of the rest."""
        known = await self._ledger.known(self._noted, [item.key for item in page])
        await self._flags([(item, known[item.key]) for item in page if item.key in known])
        for batch in _batches(item for item in page if item.key not in known):
            await self._batch(batch)

    def _op(self, batch: Sequence[Sent]) -> str:
        """Follows from what is brought, and where to."""
        words = (self._source.name, self._folder.place, self._folder.validity, self._ref.account, self._ref.mailbox)
        octets = "\0".join((*words, *(one.key for one in batch))).encode("utf-8", "surrogatepass")
        return hashlib.sha256(octets).hexdigest()[:32]

    async def _batch(self, items: Sequence[Item], op: str | None = None) -> None:
        try:
            await patiently(lambda: self._put(items, op), self._show)
        except Refused as refusal:
            if refusal.reason not in NOT_TAKEN:
                raise
            if len(items) > 1:
                for item in items:
                    await self._batch([item])
                return
            (item,) = items
            self._done.refused.append(f"{self._folder.name}, message {item.key}: {refusal.text}")
            refused = Known(item.key, None, item.size, 0, item.flags, item.keywords, refusal.text)
            await self._ledger.finish(self._noted, [refused])

    async def _put(self, items: Sequence[Item], op: str | None) -> None:
        batch: list[Sent] = []
        messages: list[NewMessage] = []
        for item, content in await self._contents(items):
            if isinstance(content, StagedBlob):
                size, digest = content.size, content.sha256.hex()
            else:
                size, digest = len(content), hashlib.sha256(content).hexdigest()
            batch.append(Sent(item.key, item.size, size, digest, item.flags, item.keywords, item.internaldate))
            messages.append(NewMessage(content, item.flags, item.keywords, item.internaldate))
        if not messages:
            return
        if op is None or len(messages) < len(items):
            op = self._op(batch)
        await self._ledger.begin(self._noted, Pending(op, self._above, tuple(batch)))
        appended = await self._storage.append(Operation(op, SYSTEM), self._ref, messages, self._quota)
        await self._ledger.finish(self._noted, [one.known(uid) for one, uid in zip(batch, appended.uids, strict=True)])
        self._above = max(self._above, max(appended.uids) + 1)
        self._done.brought += len(batch)
        self._done.octets += sum(one.announced for one in batch)
        self._show.at(self._done.brought, self._done.octets)

    async def _contents(self, items: Sequence[Item]) -> list[tuple[Item, bytes | StagedBlob]]:
        """The messages that are still there; a long one is staged while it is read."""
        if len(items) == 1 and items[0].size > BATCH_OCTETS:
            pieces = self._source.pieces(self._folder, items[0])
            first = await asyncio.to_thread(next, pieces, None)
            return [] if first is None else [(items[0], await self._storage.stage(_all(first, pieces)))]
        loaded = await asyncio.to_thread(self._source.load, self._folder, items)
        found: list[tuple[Item, bytes | StagedBlob]] = []
        for item, octets in zip(items, loaded, strict=True):
            if octets is not None:
                # Some servers announce other sizes than messages have.
                long = len(octets) > INLINE_MAX
                found.append((item, await self._storage.stage(_sliced(octets)) if long else octets))
        return found

    async def _flags(self, known: Iterable[tuple[Item, Known]]) -> None:
        """Do here what was done to flags at the source since; what was done here stays."""
        wanted: dict[tuple[FlagMode, int, tuple[str, ...]], list[int]] = {}
        changed: dict[str, tuple[int, tuple[str, ...]]] = {}
        for item, before in known:
            if before.uid is None or (before.flags, before.keywords) == (item.flags, item.keywords):
                continue
            changed[item.key] = item.flags, item.keywords
            old, new = set(before.keywords), set(item.keywords)
            added = FlagMode.ADD, item.flags & ~before.flags, tuple(sorted(new - old))
            removed = FlagMode.REMOVE, before.flags & ~item.flags, tuple(sorted(old - new))
            for one in (added, removed):
                if one[1] or one[2]:
                    wanted.setdefault(one, []).append(before.uid)
        for (mode, bits, keywords), uids in wanted.items():
            found = ranges.of(sorted(uids))
            await self._storage.store_flags(_operation(), self._ref, found, mode, bits, keywords)
        if changed:
            await self._ledger.changed(self._noted, changed)
            self._done.changed += len(changed)


async def pages(found: Iterator[Sequence[Item]]) -> AsyncIterator[Sequence[Item]]:
    """A source's pages, each read on a thread."""
    while (page := await asyncio.to_thread(next, found, None)) is not None:
        yield page


async def patiently(work: Callable[[], Awaitable[T]], show: Show) -> T:
    """Do what can be done again until the store is there for it; Unavailable when it is not, or has no room."""
    for pause in PAUSES:
        try:
            return await work()
        except Unavailable as error:
            if error.full:
                raise
            show.say(f"{error}: going on in {pause:.0f} s")
            await asyncio.sleep(pause)
    return await work()


async def _found(storage: Storage, ref: MailboxRef, pending: Pending) -> list[int] | None:
    """The uids of a batch that the store has, which it gave them in one go; None where it has not."""
    wanted = [(one.size, one.internaldate) for one in pending.batch]
    seen: deque[tuple[int, str, tuple[int, int | None]]] = deque(maxlen=len(wanted))
    left: Ranges = ((pending.above, 0xFFFF_FFFF),)
    while left:
        page = await storage.columns(ref, left, Want.EMAIL | Want.SIZE | Want.INTERNALDATE)
        for uid, email, size, date in zip(page.uids, page.emails, page.sizes, page.internaldates, strict=True):
            seen.append((uid, email, (size, date)))
            if len(seen) < len(wanted) or not all(map(_alike, (one[2] for one in seen), wanted)):
                continue
            if await _same(storage, ref, [one[1] for one in seen], pending.batch):
                return [one[0] for one in seen]
        left = ranges.after(left, page.uids[-1]) if page.more else ()
    return None


def _alike(here: tuple[int, int | None], wanted: tuple[int, int | None]) -> bool:
    # A message without a date got that of its coming.
    return here == wanted or (wanted[1] is None and here[0] == wanted[0])


async def _same(storage: Storage, ref: MailboxRef, emails: Sequence[str], batch: Sequence[Sent]) -> bool:
    for email, one in zip(emails, batch, strict=True):
        digest = hashlib.sha256()
        for at in range(0, one.size, INLINE_MAX):
            digest.update(await storage.read(ref.account, email, at, min(one.size, at + INLINE_MAX)))
        if digest.hexdigest() != one.sha256:
            return False
    return True


def _target(folder: Folder, noted: Noted | None, mailboxes: Sequence[Mailbox]) -> Mailbox | None:
    """The mailbox that the folder went to before, that is for the same, or that has its name."""
    for mailbox in mailboxes:
        if noted is not None and mailbox.ref.mailbox == noted.mailbox:
            return mailbox
    for mailbox in mailboxes:
        if folder.special_use is not None and mailbox.special_use == folder.special_use:
            return mailbox
    name = canonical(folder.name)
    return next((mailbox for mailbox in mailboxes if mailbox.name == name), None)


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    batch: list[Item] = []
    octets = 0
    for item in items:
        if batch and (octets + item.size > BATCH_OCTETS or len(batch) == BATCH_MESSAGES):
            yield batch
            batch, octets = [], 0
        batch.append(item)
        octets += item.size
    if batch:
        yield batch


async def _all(first: bytes, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    piece: bytes | None = first
    while piece is not None:
        yield piece
        piece = await asyncio.to_thread(next, pieces, None)


async def _sliced(octets: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(octets), INLINE_MAX):
        yield octets[at : at + INLINE_MAX]


def _operation() -> Operation:
    return Operation(new_id(), SYSTEM)
