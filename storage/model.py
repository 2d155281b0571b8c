"""The plain data that crosses the storage port: frozen values, no behaviour, no driver types.

Ids are opaque strings made by storage (but account ids, which identity makes); they are compared, never parsed, and
consist of letters, digits, ``-`` and ``_`` (RFC 8474 §4). Times are Unix seconds (int for what a client set or sees,
float for events). Uids, modification sequences and sizes are ints. Sets of uids are ``Ranges``: sorted, disjoint,
non-adjacent ``(first, last)`` pairs, both ends included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from storage.access import ALL_RIGHTS as ALL_RIGHTS
from storage.access import ANYONE as ANYONE
from storage.access import Grant as Grant
from storage.access import Rights as Rights
from storage.columns import Columns as Columns
from storage.columns import Entry as Entry
from storage.columns import Flagged as Flagged
from storage.columns import Keys as Keys
from storage.columns import Row as Row
from storage.columns import Want as Want
from storage.criteria import All as All
from storage.criteria import And as And
from storage.criteria import BodyContains as BodyContains
from storage.criteria import DateField as DateField
from storage.criteria import DateRange as DateRange
from storage.criteria import Found as Found
from storage.criteria import HasFlags as HasFlags
from storage.criteria import HasKeyword as HasKeyword
from storage.criteria import HeaderContains as HeaderContains
from storage.criteria import ModseqFrom as ModseqFrom
from storage.criteria import Not as Not
from storage.criteria import Or as Or
from storage.criteria import Query as Query
from storage.criteria import SizeRange as SizeRange
from storage.criteria import TextContains as TextContains
from storage.criteria import Uids as Uids
from storage.ranges import ALL_UIDS as ALL_UIDS
from storage.ranges import Ranges as Ranges

SYSTEM = "system"
"""The acting account of what no user asked for: deliveries, sweeps, the administrator's command line."""

MAIL = ""
"""The queue of all that is sent on as mail: what the runner of the spool claims."""
TASKS = "tasks"
"""The queue of the asynchronous sending API."""
QUEUES = frozenset({TASKS})
"""Those beside MAIL."""
QUEUE_MARK = "§"
"""Before the name of a queue, in place of an item's domain: no domain has it, for they are ASCII."""

DELIMITER = "/"
INBOX = "INBOX"

INLINE_MAX = 256 * 1024
"""Octets of message content that one call may carry; a longer body is staged first and then named."""
PREFIX_MAX = 1024
"""Octets of a recipient's own trace headers (Return-Path, Delivered-To) before the shared blob."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a message's trace: what happened, when, in a form that a sentence can be made of.

    trace: id shared by all events of one message or refused attempt. at: Unix seconds. kind: a short word
    ("connect", "rcpt", "stored", "spooled", "refused", ...). account: whose trace it is shown in, or None.
    detail: plain values only; never a secret, never message content.
    """

    trace: str
    at: float
    kind: str
    account: str | None = None
    detail: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TraceFound:
    """One trace that was found. started, ended: of its first and last event that is shown. events: how many."""

    trace: str
    started: float
    ended: float
    events: int


@dataclass(frozen=True, slots=True)
class Operation:
    """Names one logical write. Every writing call takes one.

    id: unique for the logical call (``runtime.ids`` makes them). A call whose id was seen in the last hour changes
    nothing and returns the first outcome. actor: the account in whose name it is done, or SYSTEM; storage checks its
    rights in the same transaction. events: trace events, kept in the same commit. sequence: what is one of the same
    sequence (unique; "" for one by itself) may count on the order of asking, where a call says so.
    """

    id: str
    actor: str
    events: tuple[Event, ...] = ()
    sequence: str = ""


class Unrepeated(Operation):
    """One whose caller never asks for it again, so that a store in the same process need not keep how it ended.

    It crosses to another process as a plain one: on its way there a call may be sent twice.
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class MailboxRef:
    """A mailbox of an account: the owner's account id and the mailbox id (RFC 8474 MAILBOXID).

    actor: the account for which a reading call asks, whose right to read (r) is checked in that read; None for the
    owner. Writing calls go by ``Operation.actor``.
    """

    account: str
    mailbox: str
    actor: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A mailbox and its counters, all read at one moment.

    name: Unicode, levels divided by "/", INBOX in capitals. special_use: RFC 6154 attribute ("\\\\Sent") or None.
    recent: messages that no read-write session has been told of (uid >= the mailbox's recent_from).
    highest_modseq: the account's modseq of the last change of this mailbox, at least 1 (RFC 7162 §3.1.2.1).
    size: sum of RFC822.SIZE. deleted: messages flagged \\\\Deleted. rights: of who asked.
    """

    ref: MailboxRef
    name: str
    uidvalidity: int
    uidnext: int
    highest_modseq: int
    messages: int
    unseen: int
    deleted: int
    recent: int
    size: int
    special_use: str | None = None
    rights: Rights = ALL_RIGHTS


@dataclass(frozen=True, slots=True)
class MailboxList:
    """All mailboxes of an account by name, and the names subscribed to (which need not exist, RFC 3501 §6.3.9).
    annotated: the account's modseq of the last change of an annotation of any of them or its own, 0 before the first.
    """

    mailboxes: tuple[Mailbox, ...]
    subscriptions: frozenset[str]
    annotated: int = 0


ANNOTATION_OCTETS = 32 * 1024
"""Octets of one annotation's value."""


class Depth(Enum):
    """Which annotations the name of an entry stands for (RFC 5464 §4.2.2)."""

    ENTRY = "0"
    CHILDREN = "1"
    ALL = "infinity"


@dataclass(frozen=True, slots=True)
class Annotation:
    """A named value that a client keeps beside a mailbox (RFC 5464 §3).

    mailbox: its id, "" for one of the account itself. entry: in lower case, "/shared/…" for all who may read the
    mailbox, or "/private/…" for the account alone that set it. modseq: of its last change. value: None where it was not
    asked for.
    """

    mailbox: str
    entry: str
    modseq: int
    value: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Opened:
    """What a SELECT or EXAMINE shows, read at one moment.

    uids: of all messages. recent: the uids that are \\\\Recent for this session alone: a read-write open takes them
    atomically, so that no second read-write open gets them; a read-only open sees and leaves them.
    first_unseen_uid: lowest uid without \\\\Seen, or None. keywords: in use in the account, for FLAGS; ()
    for another than the owner.
    """

    mailbox: Mailbox
    uids: Ranges
    recent: Ranges
    first_unseen_uid: int | None
    keywords: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened in a mailbox after modseq ``since``, in order of modseq, up to and including ``through``.

    entries: the latest state of messages that appeared or whose flags changed. vanished: uids expunged or moved
    away. A uid stands in one of the two at most. more: call again with since=through. gone: the mailbox itself was
    deleted, or the ref's actor may no longer read it (the session ends with BYE or CLOSE). through never passes a
    change that a later call could still show; on the last page it is the account's modseq of that moment, so that
    ``watch`` from there is silent until more happens. rights: of who asked, at that moment.
    """

    entries: tuple[Entry, ...]
    vanished: Ranges
    through: int
    more: bool
    gone: bool = False
    rights: Rights = ALL_RIGHTS


class FlagMode(Enum):
    """How STORE combines flags (RFC 3501 §6.4.6)."""

    REPLACE = "replace"
    ADD = "add"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class FlagsStored:
    """entries: the state afterwards of every message of the set that exists, in uid order (unchanged ones too).
    modified: uids not touched because their modseq was above unchanged_since (RFC 7162 §3.1.3)."""

    entries: tuple[Flagged, ...]
    modified: Ranges
    modseq: int


@dataclass(frozen=True, slots=True)
class Copied:
    """RFC 4315 §3 COPYUID: source and target have the same number of uids, paired in ascending order. modseq: of the
    target's account; of the source's where messages were moved."""

    uidvalidity: int
    source: Ranges
    target: Ranges
    modseq: int


@dataclass(frozen=True, slots=True)
class Expunged:
    uids: Ranges
    modseq: int


@dataclass(frozen=True, slots=True)
class Appended:
    """RFC 4315 §3 APPENDUID: the uids of the messages in the order given."""

    uidvalidity: int
    uids: tuple[int, ...]
    modseq: int


@dataclass(frozen=True, slots=True)
class StagedBlob:
    """A body kept under an id before any message names it. One that no message names within the grace is swept."""

    id: str
    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message for APPEND. content: whole, at most INLINE_MAX octets, else a StagedBlob."""

    content: bytes | StagedBlob
    flags: int = 0
    keywords: tuple[str, ...] = ()
    internaldate: int | None = None


@dataclass(frozen=True, slots=True)
class LocalRecipient:
    """One account that gets a delivery. prefix: its own trace headers, at most PREFIX_MAX octets, CRLF-ended.
    mailbox: name; INBOX where no mailbox of that name exists. address: as in RCPT, for the trace."""

    account: str
    address: str
    prefix: bytes = b""
    mailbox: str = INBOX
    flags: int = 0


@dataclass(frozen=True, slots=True)
class RemoteRecipient:
    """One address of another domain, with its RCPT parameters as given (RFC 3461 §4: NOTIFY, ORCPT)."""

    address: str
    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message on its way in: to mailboxes and spool in one commit, or not at all.

    sender: reverse-path, "" for the null sender. params: MAIL parameters that concern the way on (BODY, SMTPUTF8,
    RET, ENVID). trace: id of its trace; a "stored" or "spooled" event per recipient is added by storage.
    An account stands once in ``local`` at most. queue: one of QUEUES for a task: all its remote recipients are one item
    of that queue, which is never taken for mail.
    """

    op: Operation
    content: bytes | StagedBlob
    sender: str
    received_at: float
    trace: str
    local: tuple[LocalRecipient, ...] = ()
    remote: tuple[RemoteRecipient, ...] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    queue: str = MAIL


@dataclass(frozen=True, slots=True)
class StoredAt:
    """Where one account's copy of a delivery is."""

    account: str
    mailbox: str
    uidvalidity: int
    uid: int
    email: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """stored: one for each local recipient, in order. spooled: ids of the spool items, one for each domain among the
    remote recipients, in the order in which the domains first stand there."""

    stored: tuple[StoredAt, ...]
    spooled: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SpoolItem:
    """One message on its way to one domain; a message to several domains is several items with one trace.

    domain: of all its recipients, A-labels in lower case (an address literal as it is, "[192.0.2.1]"). recipients:
    those still without an outcome, in order. size: octets. queued_at: when the message was accepted. next_attempt: not
    tried before (Unix seconds). attempts: those whose outcome was settled. claims: as many as ``attempts`` once an
    attempt was settled, and one more with each claim after that; more than ``attempts`` outside a lease says that an
    attempt ended without its outcome being known. leased_until: 0 while nobody has it. held: not tried until released.
    route: where to send instead of where its domain leads, or None. told_at: when the sender was last told of the
    delay, or None. last: the reply or reason of the last attempt, "". params: MAIL parameters as in ``Delivery``.
    An item of a queue has the queue and its account as ``domain``, marked by QUEUE_MARK; see ``queue``.
    """

    id: str
    trace: str
    account: str | None
    sender: str
    domain: str
    recipients: tuple[RemoteRecipient, ...]
    size: int
    queued_at: float
    next_attempt: float
    attempts: int = 0
    claims: int = 0
    leased_until: float = 0.0
    held: bool = False
    route: str | None = None
    told_at: float | None = None
    last: str = ""
    params: Mapping[str, str] = field(default_factory=dict)

    @property
    def queue(self) -> str:
        """MAIL, or one of QUEUES."""
        return self.domain[1:].partition("/")[0] if self.domain.startswith(QUEUE_MARK) else MAIL


@dataclass(frozen=True, slots=True)
class SpoolResult:
    """What became of an item that has ended, kept for a day where its end asked for that.

    queue, account: of the item. recipients: those that it had at its end. attempts: those whose outcome was settled,
    the last included. claims: as in SpoolItem, at the end. ended_at: Unix seconds. dropped: it was dropped, and not
    settled. text: as the settlement gave it; of one that was dropped "".
    """

    item: str
    queue: str
    account: str | None
    recipients: tuple[RemoteRecipient, ...]
    attempts: int
    claims: int
    ended_at: float
    dropped: bool
    text: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """An item that the caller alone may try, until its ``leased_until``. lease: names this claim in ``settle``. text:
    the whole message where the adapter has it at hand (it does for short ones); None: to be read by ``spool_read``."""

    item: SpoolItem
    lease: str
    text: bytes | None = None


@dataclass(frozen=True, slots=True)
class Settlement:
    """What one attempt came to: the end of a claim.

    op: its events go into the item's trace in the same commit. item, lease: of the claim. finished: addresses of
    recipients that are done with, sent or failed for good; the item is gone when none is left. next_attempt: for the
    others. attempted: False gives the item back as if it had not been claimed (``claims`` too). told: the sender was
    told of the delay now. last: as in SpoolItem. report: a delivery status notification to be accepted in the same
    change, or None. result: when none is left, what is kept for a day of the item (a ``SpoolResult``'s text), in the
    same change; None for nothing.
    """

    op: Operation
    item: str
    lease: str
    finished: tuple[str, ...] = ()
    next_attempt: float = 0.0
    attempted: bool = True
    told: bool = False
    last: str = ""
    report: Delivery | None = None
    result: str | None = None


class SpoolAction(Enum):
    """What an administrator does to waiting items."""

    RETRY = "retry"
    HOLD = "hold"
    RELEASE = "release"
    DROP = "drop"
    ROUTE = "route"


@dataclass(frozen=True, slots=True)
class SpoolDomain:
    """What waits for one domain. oldest: the earliest ``queued_at``; next_attempt: the earliest of those not held, or
    None."""

    domain: str
    items: int
    held: int
    size: int
    oldest: float
    next_attempt: float | None


@dataclass(frozen=True, slots=True)
class Usage:
    """size: sum of RFC822.SIZE over entries (a copy counts again); messages: number of entries."""

    size: int
    messages: int


@dataclass(frozen=True, slots=True)
class IndexHealth:
    """The search index: emails not yet in it, seconds since the oldest of them came, CPU seconds spent, last error."""

    lag: int
    lag_seconds: float
    cpu_seconds: float
    error: str | None


@dataclass(frozen=True, slots=True)
class StorageStats:
    """Totals of the store. emails_today: entries saved since midnight UTC. spool: items that wait, held ones too.
    spool_oldest: the earliest ``queued_at`` among them, or None."""

    accounts: int
    emails: int
    size: int
    emails_today: int
    spool: int
    index: IndexHealth
    spool_held: int = 0
    spool_oldest: float | None = None


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What one bounded round of the background sweep freed; more: another round would find something."""

    emails: int
    blobs: int
    staged: int
    operations: int
    events: int
    more: bool
