"""Moving a whole store: its records as plain data, and what each kind of store does to give and to take them.

No door and no service uses this; ``storage.migrate`` does, on a store that nothing else has open. What crosses is what
the port shows and what it remembers for later: accounts with their counters, mailboxes, messages and those that were
expunged within the grace, the history of expunges, bodies with what was read out of them, the spool and the trace. What
does not cross: bodies that nothing names (staged, or about to be swept), the outcomes of operations (nobody who could
repeat one is left), what became of items that have ended (it would be kept for a day), and the search index, which the
new store builds by itself.

Ids of mailboxes (RFC 8474 MAILBOXID), emails (EMAILID), bodies and spool items are kept where the new store can name a
row so; where it cannot, it gives the row an id of its own and remembers the old one until the move is finished. All ids
that a ``Transfer`` takes or gives are those of the store that the records came from.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from storage.ingest import Forms
from storage.model import Event, Ranges, RemoteRecipient

UNFINISHED: Final = (
    "The store is the target of an unfinished migration: run `homing migrate` again, which goes on where it stopped."
)
"""Why no service starts on it: the StartError of who opens it for that."""


class TransferRefused(Exception):
    """The store cannot be moved from, or to. The text is one sentence for the administrator."""


class MailboxRecord(NamedTuple):
    """A mailbox with its counters. recent_from: the first uid that no read-write open has taken. history_from: the
    modseq below which the history of expunges was cut. vanished: ranges in that history. acl: identifier, whether it is
    negative, and rights of each entry, in order."""

    id: str
    name: str
    special_use: str | None
    uidvalidity: int
    uidnext: int
    modseq: int
    messages: int
    unseen: int
    deleted: int
    recent: int
    recent_from: int
    size: int
    vanished: int
    history_from: int
    acl: tuple[tuple[str, bool, int], ...] = ()


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """An account and all that it has but messages. open: False once its purge has begun; nothing but the id is left of
    such a one, so that it is never used again. keywords: by their numbers. subscriptions: sorted. mailboxes: by id.
    annotated: as in ``storage.model.MailboxList``."""

    id: str
    open: bool
    modseq: int
    uidvalidity: int
    size: int
    messages: int
    keywords: tuple[str, ...] = ()
    subscriptions: tuple[str, ...] = ()
    mailboxes: tuple[MailboxRecord, ...] = ()
    annotated: int = 0


class AnnotationsRecord(NamedTuple):
    """The annotations of a mailbox ("": of the account itself) that one account set for itself, or ("") that are
    shared. entries: (entry, modseq, value) in order, at least one."""

    mailbox: str
    owner: str
    entries: tuple[tuple[str, int, bytes], ...]


class EntryRecord(NamedTuple):
    """A message in a mailbox. keywords: sorted numbers of the account's. lost: when it was expunged, None while it is
    there; gone: the modseq of that, 0 while it is there. modseq and flags of a lost one are those it last had."""

    uid: int
    modseq: int
    flags: int
    keywords: tuple[int, ...]
    email: str
    size: int
    internaldate: int
    savedate: int
    lost: float | None = None
    gone: int = 0


class VanishedRecord(NamedTuple):
    """What one change expunged from a mailbox."""

    modseq: int
    ranges: Ranges


class EmailRecord(NamedTuple):
    """One message of one account. size: of blob and prefix."""

    id: str
    account: str
    blob: str
    size: int
    saved: float
    prefix: bytes


@dataclass(frozen=True, slots=True)
class BlobRecord:
    """A body and what was read out of it. content: its octets where it has at most INLINE_MAX and they were asked for,
    else None."""

    id: str
    size: int
    sha256: bytes
    forms: Forms
    content: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class SpoolRecord:
    """A message on its way to one domain: as ``storage.model.SpoolItem``, with its body. Leases do not cross: whoever
    had one is gone, and an attempt whose outcome he has not told shows in ``claims``."""

    id: str
    trace: str
    account: str | None
    sender: str
    domain: str
    recipients: tuple[RemoteRecipient, ...]
    blob: str
    size: int
    queued_at: float
    next_attempt: float
    attempts: int
    claims: int
    held: bool
    route: str | None
    told_at: float | None
    last: str
    params: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class EventsRecord:
    """Events of one trace that were kept together. place: where reading goes on after them."""

    place: str
    trace: str
    kept: float
    events: tuple[Event, ...]


class InMailbox(NamedTuple):
    """The mailbox that a record belongs to, by ids."""

    account: str
    mailbox: str


@dataclass(slots=True)
class Batch:
    """Records that are taken together, and the place in the move that is reached with them.

    What a record names is in the store already, or earlier in this order: accounts, annotations (with the account's
    id), blobs (with their content), emails, entries, vanished, spool, events.
    """

    accounts: list[AccountRecord] = field(default_factory=list)
    annotations: list[tuple[str, AnnotationsRecord]] = field(default_factory=list)
    blobs: list[BlobRecord] = field(default_factory=list)
    emails: list[EmailRecord] = field(default_factory=list)
    entries: list[tuple[InMailbox, EntryRecord]] = field(default_factory=list)
    vanished: list[tuple[InMailbox, VanishedRecord]] = field(default_factory=list)
    spool: list[SpoolRecord] = field(default_factory=list)
    events: list[EventsRecord] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Marker:
    """What the new store remembers of an unfinished move. source: the state of the old store when it began, as a
    digest. place: as ``put`` last kept it, "" at the beginning."""

    source: str
    place: str


class Transfer(Protocol):
    """A store as something to be moved. Reading calls return pages in the order told; the store must not be in use.

    Errors: TransferRefused, and the port's Unavailable.
    """

    # -- giving

    async def highest(self) -> Mapping[str, int]:
        """For each letter of ids (M, E, B, S) the highest number that an id of the form "letter, hexadecimal number"
        has ever had, 0 for none: a store that numbers its rows gives new ones higher numbers."""

    async def accounts(self, after: str, limit: int) -> tuple[AccountRecord, ...]:
        """The next accounts, in order of id."""

    async def annotations(self, account: str, after: tuple[str, str], limit: int) -> tuple[AnnotationsRecord, ...]:
        """The next sets of annotations of an account after the mailbox and owner given, in order of both."""

    async def entries(self, at: InMailbox, after: int, limit: int, *, lost: bool) -> tuple[EntryRecord, ...]:
        """The next messages of a mailbox above the uid, in order of uid: those there, or (lost) those expunged within
        the grace."""

    async def vanished(self, at: InMailbox, after: int, limit: int) -> tuple[VanishedRecord, ...]:
        """The next changes above the modseq, in order of modseq, until about ``limit`` ranges; () at the end."""

    async def emails(self, account: str, ids: Collection[str]) -> tuple[EmailRecord, ...]:
        """These emails of an account, in any order; those that are not there are left out."""

    async def blobs(self, ids: Sequence[str], octets: int) -> tuple[BlobRecord, ...]:
        """The first of these bodies, in order, until their content passes ``octets`` (at least one, while there is
        one); with ``octets`` 0 all of them, without content. Those that are not there, or not whole, are left out."""

    async def octets(self, id: str, start: int, end: int) -> bytes:
        """Octets [start, end) of a body; fewer where some are missing."""

    async def bodies(self, after: str, limit: int) -> tuple[str, ...]:
        """The ids of the next whole bodies after the one given ("" for the beginning), in the store's own order."""

    async def spool(self, after: str, limit: int) -> tuple[SpoolRecord, ...]:
        """The next items, in the store's own order, after the id given."""

    async def events(self, after: str, limit: int) -> tuple[EventsRecord, ...]:
        """The next events after the place given, in the order in which they were kept."""

    # -- taking

    async def marker(self) -> Marker | None:
        """The unfinished move to this store, if there is one."""

    async def begin(self, source: str, highest: Mapping[str, int]) -> None:
        """Mark the store as the target of a move. TransferRefused when it holds anything, or a marker."""

    async def lacking_emails(self, account: str, ids: Collection[str]) -> set[str]:
        """Those of the account's emails that have not been taken yet."""

    async def lacking_blobs(self, ids: Collection[str]) -> set[str]:
        """Those of the bodies that have not been taken whole yet."""

    async def put_body(self, blob: BlobRecord, chunks: AsyncIterable[bytes]) -> None:
        """Take a body that is too long for a batch, in pieces of any length. What an attempt that died has left of it
        is thrown away."""

    async def put(self, batch: Batch, place: str) -> None:
        """Take the batch and remember the place. A batch that was taken in part, or whole, by an attempt that died
        before it heard so, is taken again without doubling anything."""

    async def renamed(self) -> Mapping[str, int]:
        """For each letter of ids how many rows could not keep theirs; for an unfinished move."""

    async def finish(self) -> None:
        """All is there: forget the marker and the old ids. From now on services start on the store."""

    async def erase(self) -> None:
        """Remove all that an unfinished move has brought, marker included. TransferRefused when there is none."""

    async def close(self) -> None:
        """Let go of the store."""
