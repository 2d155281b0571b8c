"""The storage port: the contract that every adapter keeps and every door builds on.

**Durability.** A writing call returns after its change survives kill -9 and power loss (fsync, or majority write with
journal). **Atomicity.** Each call is one change: all of it is seen, or none. **Order.** modseq is one counter per
account and publication is in order: once anyone has seen uid n or modseq m, nothing at or below it appears later.
Uids rise strictly within a (mailbox, uidvalidity) and are never reused; uidvalidity comes from a counter of the account
that never goes back, so that a mailbox made again under an old name has a new one. **Repeat.** Each writing call
carries an ``Operation``; a repeat of its id within an hour changes nothing and returns the first outcome (lists of
entries in it are read anew). A refusal changed nothing and is not kept: its repeat is tried anew. Nobody repeats an
``Unrepeated`` one, and what a repeat of it would do is not said.
**Rights.** The owner of a mailbox and SYSTEM may do everything. Other accounts may do what the mailbox's access control
list gives them (``Grant``): a writing call checks ``op.actor``, a reading call the ref's ``actor``, in the same
transaction and the same read. Who lacks a right is refused NO_PERMISSION where he may know of the mailbox (he has l or
r), else NO_SUCH_MAILBOX, as if it were not there, and so where there is no such account. Calls that name an account and
no mailbox are its owner's alone. ``read`` is asked by doors for an email that a permitted read has named. **Paging.**
Reads that return many rows return pages of bounded rows and octets, each a short read of its own at one moment; nothing
stays open between pages. **Errors.** Refused and Unavailable, nothing else; anything else that escapes is a bug.
Cancelling the waiting task does not undo a write that has begun.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping, Sequence
from enum import Enum
from typing import Protocol

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


class Reason(Enum):
    """Why a call was refused; doors translate each to their own words."""

    NO_SUCH_ACCOUNT = "no such account"
    NO_SUCH_MAILBOX = "no such mailbox"
    NO_SUCH_MESSAGE = "no such message"
    NO_SUCH_BLOB = "no such staged body"
    NO_SUCH_ITEM = "no such spool item"
    ALREADY_EXISTS = "already exists"
    BAD_NAME = "bad mailbox name"
    CANNOT = "cannot be done to this mailbox"
    NO_PERMISSION = "no permission"
    OVER_QUOTA = "over quota"
    LIMIT = "limit reached"
    TOO_BIG = "too big"
    UNKNOWN_CTE = "binary content"


class Refused(Exception):
    """A permanent no, or the caller's fault. text: one sentence for a person."""

    def __init__(self, reason: Reason, text: str = "") -> None:
        super().__init__(text or reason.value)
        self.reason = reason
        self.text = text or reason.value


class Unavailable(Exception):
    """The store cannot answer now (disk full, database away, shutting down): nothing was changed, try later.

    full: for want of room, so that doors need not read the text.
    """

    def __init__(self, text: str = "", *, full: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.full = full


class Storage(Protocol):
    """See the module's docstring for what holds for every call."""

    # -- accounts

    async def open_account(self, op: Operation, account: str) -> None:
        """Make the account's mailboxes if it has none: INBOX and Drafts, Sent, Trash, Junk, Archive with their
        special use, all subscribed, in one commit. Idempotent and cheap when it exists. NO_SUCH_ACCOUNT for an
        account whose purge has begun: ids are never used again."""

    async def purge_account(self, op: Operation, account: str) -> bool:
        """Remove all that the account has, in bounded steps. True when nothing is left; else call again (with a new
        operation id). From the first step on the account cannot be opened. Its spool items stay until they are sent
        (they were accepted for others), trace events until they are old."""

    async def usage(self, account: str) -> Usage:
        """What counts against the quota. An unknown account uses nothing."""

    async def usages(self, accounts: Sequence[str]) -> tuple[Usage, ...]:
        """The same of many, in their order: of at most USAGES_AT_ONCE, else LIMIT."""

    # -- mailboxes

    async def list_mailboxes(self, account: str) -> MailboxList:
        """All of them with their counters, read at one moment, by name with INBOX first."""

    async def mailbox(self, account: str, name: str, actor: str | None = None) -> Mailbox:
        """One by name (INBOX in any case), as another account sees it where ``actor`` is one: with its rights, and its
        id in the ref. NO_SUCH_MAILBOX, also where the actor has no right at all: what else it may know is for the
        caller to judge by ``rights``."""

    async def create_mailbox(self, op: Operation, account: str, name: str, special_use: str | None = None) -> Mailbox:
        """RFC 3501 §6.3.3. Superior names are made too. Each gets the access control list of the mailbox above it
        (RFC 4314 §4). Another than the owner needs k on the nearest mailbox above, and gives no special use
        (NO_PERMISSION). ALREADY_EXISTS, BAD_NAME (empty level, control characters,
        over 1024 octets of UTF-8 or 64 levels), LIMIT (mailboxes per account, entries of its lists). special_use is
        taken by one mailbox at a time: CANNOT when another has it."""

    async def delete_mailbox(self, op: Operation, account: str, name: str) -> None:
        """RFC 3501 §6.3.4: messages go with it; inferior names stay (their superior is then a name without a
        mailbox). INBOX: CANNOT. NO_SUCH_MAILBOX. Another than the owner needs x. The access control list goes with the
        mailbox."""

    async def rename_mailbox(self, op: Operation, account: str, name: str, new_name: str) -> None:
        """RFC 3501 §6.3.5: inferior names move along, uidvalidity and mailbox ids stay. A superior that exists only
        by its inferiors can be renamed. INBOX: its messages move to the new mailbox, INBOX stays and its inferiors
        too; its shared annotations and the account's own private ones stay and are the new mailbox's as well (RFC 5464
        §4.1; LIMIT). ALREADY_EXISTS, BAD_NAME, NO_SUCH_MAILBOX, CANNOT (into its own inferior). Access control lists
        stay with their mailboxes. Another than the owner needs x on the mailbox and k on the nearest one above the new
        name, and cannot rename INBOX, nor a name without a mailbox."""

    async def subscribe(self, op: Operation, account: str, name: str, on: bool) -> None:
        """Add or remove a name in the account's set; the mailbox need not exist. The account's modseq rises where that
        changes anything. LIMIT."""

    async def open_mailbox(self, op: Operation, ref: MailboxRef, read_write: bool) -> Opened:
        """What SELECT shows; a read-write open takes the recent messages. Another than the owner needs r.
        NO_SUCH_MAILBOX."""

    # -- sharing

    async def acl(self, ref: MailboxRef) -> tuple[Grant, ...]:
        """The access control list in order of identifier, the negative entry of one behind the other. Needs a.
        NO_SUCH_MAILBOX."""

    async def set_acl(
        self,
        op: Operation,
        ref: MailboxRef,
        identifier: str,
        rights: Rights,
        mode: FlagMode = FlagMode.REPLACE,
        negative: bool = False,
    ) -> None:
        """Change the entry of an identifier (RFC 4314 §3.1); one that is left without rights is gone (§3.2). Needs a.
        The account's modseq rises, so that ``watch`` and ``changes`` tell whoever has the mailbox open, and that of the
        account which the entry is about (not those of all for ANYONE), so that it hears of it. CANNOT for the owner's
        own id, LIMIT (entries of a mailbox, of an account), NO_SUCH_MAILBOX. That the identifier is an
        account's is the caller's to know."""

    async def shared_with(self, account: str) -> tuple[Mailbox, ...]:
        """The mailboxes of other accounts that this one may look up (l), with its rights and its id in the refs, by
        owner and then by name; the first SHARED_MAILBOXES of them. () for an unknown account."""

    # -- annotations

    async def annotations(
        self,
        refs: Sequence[MailboxRef],
        entries: Sequence[str] = ("/private", "/shared"),
        depth: Depth = Depth.ALL,
        values: bool = True,
    ) -> tuple[Annotation, ...]:
        """The annotations of mailboxes of one account, or (mailbox "") of the account itself, in the order of refs and
        then of entries: those of the names given and, as ``depth`` says, of what is below them. Private ones are those
        of the refs' actor. Mailboxes that are not there, or on which the actor lacks l, or has none of r, s, w, i and p
        (RFC 5464 §3.3), are left out. With values at most ANNOTATED_AT_ONCE refs: LIMIT. BAD_NAME."""

    async def set_annotations(self, op: Operation, ref: MailboxRef, values: Mapping[str, bytes | None]) -> int:
        """Set, and with None remove, annotations: all of them or none. Private ones are the actor's. The modseq of the
        change, the mailbox's highest from then on; the account's where nothing changes. They stay with their mailbox
        when it is renamed and go when it is deleted; an account's purge takes those that it set on mailboxes of others
        too. Another than the owner needs l and any of r, s, w, i and p, for shared ones w. BAD_NAME, TOO_BIG (over
        ANNOTATION_OCTETS), LIMIT (entries of a mailbox, octets of an account), CANNOT (shared ones of an account
        itself, private ones of SYSTEM), NO_SUCH_MAILBOX."""

    # -- reading messages

    async def columns(self, ref: MailboxRef, uids: Ranges, want: Want, limit: int = 512, lost: bool = False) -> Columns:
        """The first messages of the set in uid order: at most ``limit`` (16,384; with stored forms 2,048) and of stored
        forms about 1 MiB, at least one message while there is one. While the page says ``more`` (with stored forms
        perhaps once too often), ask again from its last uid + 1. lost: of those that were expunged or moved away but
        are still within the grace: a session that was not told yet may still fetch them (RFC 2180 §4.1.2); their flags
        are those they last had. NO_SUCH_MAILBOX."""

    async def read(self, account: str, email: str, start: int, end: int) -> bytes:
        """Octets [start, end) of the email's blob (without the prefix), at most INLINE_MAX of them, fewer only at
        the blob's end. NO_SUCH_MESSAGE once it was swept."""

    async def search(self, ref: MailboxRef, query: Query) -> Found:
        """Exactly the messages that match, whatever the index has or lacks. NO_SUCH_MAILBOX."""

    async def changes(self, ref: MailboxRef, since: int, limit: int = 1024) -> Changes:
        """What happened in the mailbox after modseq ``since`` (a mailbox's highest_modseq, or an earlier
        ``through``). A mailbox that is not there, or that the ref's actor may not read: gone=True. What shares a modseq
        stays in one page, so one change of many messages makes a page longer than ``limit``. Where the history of
        expunges was cut, ``vanished`` holds every uid that is not there (RFC 7162 §3.2.6 allows it)."""

    async def watch(self, accounts: Mapping[str, int], wait: float) -> Mapping[str, int]:
        """The accounts whose modseq is above the one given, with their modseq now; at once if there are any, else
        after a change or ``wait`` seconds, then perhaps {}; a store that is closed meanwhile ends the wait with {} or
        Unavailable. One call per process serves all its sessions. A hint: what happened is read with ``changes``."""

    # -- writing messages

    async def stage(self, chunks: AsyncIterable[bytes]) -> StagedBlob:
        """Keep a body of any length, read in pieces of at most INLINE_MAX octets. TOO_BIG over the store's limit,
        UNKNOWN_CTE for one with NUL."""

    async def accept(self, deliveries: Sequence[Delivery]) -> Sequence[Accepted | Refused | Unavailable]:
        """Deliver: each message to its mailboxes and the spool in one commit of its own, many in one batch. One
        outcome per delivery, in order; a refused one disturbs no other. Quota is not looked at: it was decided
        when the recipient was accepted. NO_SUCH_ACCOUNT for an account never opened or being purged, UNKNOWN_CTE
        (content with NUL), TOO_BIG (content over INLINE_MAX that was not staged, prefix over PREFIX_MAX),
        NO_SUCH_BLOB."""

    async def append(
        self,
        op: Operation,
        ref: MailboxRef,
        messages: Sequence[NewMessage],
        quota: int | None,
        name: str | None = None,
    ) -> Appended:
        """RFC 3501 §6.3.11, RFC 3502: all of them or none. quota: octets the account may use, None for no limit. name:
        NO_SUCH_MAILBOX unless the mailbox has it still.
        OVER_QUOTA, NO_SUCH_MAILBOX, NO_SUCH_BLOB, UNKNOWN_CTE (content with NUL), TOO_BIG (content over INLINE_MAX
        that was not staged), LIMIT (keywords), BAD_NAME (a keyword that is no atom). Another than the owner needs i;
        flags for which it lacks s, t or w are left out. Calls for one mailbox whose operations are of one sequence,
        begun one after the other without waiting, take place in that order; they keep no others waiting."""

    async def replace(
        self, op: Operation, ref: MailboxRef, uid: int, target: MailboxRef, message: NewMessage, quota: int | None
    ) -> Appended:
        """RFC 8508 §3.2: append the message to ``target``, a mailbox of the same account (perhaps ``ref`` itself; of
        another one: CANNOT), and expunge the message ``uid`` of ``ref``, flagged \\Deleted or not, in one change with
        one modseq. quota: as for ``append``, and only what the account comes to use more counts. NO_SUCH_MESSAGE when
        the old one is not there; else refuses as ``append`` and ``expunge`` do. Another than the owner needs i on the
        target, r, t and e on the source."""

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
        """RFC 3501 §6.4.6. All changed messages get one new modseq; those that would not change keep theirs.
        LIMIT (keywords per account), NO_SUCH_MAILBOX. Another than the owner needs s for \\Seen, t for \\Deleted, w for
        the rest: what it has no right to is left as it is (RFC 4314 §4), and refused where it has none of the rights
        that the flags named (with REPLACE: that any flag) would need."""

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
        """RFC 3501 §6.4.7: all or none, with flags, keywords and INTERNALDATE; the email is shared within an account,
        the body always. ``target`` is a mailbox name of the account ``to``, None for the source's own, whose quota
        is given. NO_SUCH_MAILBOX when the target is missing, OVER_QUOTA. Uids that are gone are left out; () when none
        is left (uidvalidity still the target's): where ``messages`` says how many there are to be, any other number is
        NO_SUCH_MESSAGE instead. Another than the owner needs r on the source and i on the target; flags for which it
        lacks s, t or w there are left out."""

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
        """RFC 6851: copy and expunge in one change; the target may be the source, where the messages get new uids. As
        ``copy``; the quota is that of ``to``, within an account it is not looked at. Another than the owner of the
        source needs t and e on it as well. Between accounts in MongoDB it is two changes, first the copy; what was
        broken off between them is finished by who repeats the operation, and else by ``sweep``."""

    async def expunge(self, op: Operation, ref: MailboxRef, uids: Ranges) -> Expunged:
        """Remove the messages of the set that are flagged \\Deleted (RFC 3501 §6.4.3, RFC 4315 §2.1). Another than
        the owner needs e."""

    # -- spool

    async def spool(
        self, account: str | None, limit: int = 100, after: str = "", domain: str | None = None
    ) -> tuple[SpoolItem, ...]:
        """Waiting mail in order of id, of one account or (None) of all, of one domain or all, after the id given."""

    async def spool_item(self, item: str, account: str | None) -> SpoolItem:
        """One waiting item, of the mail or of a queue; with an account only its own. NO_SUCH_ITEM."""

    async def spool_domains(self, limit: int = 1000, after: str = "") -> tuple[SpoolDomain, ...]:
        """The mail that waits, by domain in order of name, after the name given."""

    async def spool_queued(self, queue: str, account: str | None) -> int:
        """How many items of one of QUEUES wait, or are being tried: of one account, or (None) of all."""

    async def spool_result(self, item: str, account: str | None) -> SpoolResult:
        """What became of an item that has ended, for SPOOL_RESULT_AGE; with an account only its own. Who does not find
        the item finds this at once. NO_SUCH_ITEM where there is none, or no more."""

    async def claim(
        self,
        limit: int,
        per_domain: int,
        lease: float,
        wait: float = 0.0,
        skip: frozenset[str] = frozenset(),
        queue: str = MAIL,
    ) -> tuple[Claimed, ...]:
        """Take up to ``limit`` items that are due (not held, next_attempt reached, without a lease that runs), those
        due longest first, at most ``per_domain`` of one domain and none of the domains in ``skip``. Each is the
        caller's alone for ``lease`` seconds, whatever process asks, and is claimed again after. Without any it waits
        until one may be due, at most ``wait`` seconds, and then perhaps returns (). queue: mail alone, or the items of
        that queue alone, of which those of one account count as of one domain."""

    async def extend(self, leases: Mapping[str, str], lease: float) -> frozenset[str]:
        """Let the leases of these items (item → lease) run ``lease`` seconds from now. The items that are still the
        caller's."""

    async def spool_read(self, item: str, start: int, end: int) -> bytes:
        """Octets [start, end) of the item's message, at most INLINE_MAX of them. NO_SUCH_ITEM."""

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Refused | Unavailable | None]:
        """End claims: each in one change of its own with its events and its report, many in one batch; one outcome
        each, in order. A repeat of an operation id changes nothing and returns the first outcome. NO_SUCH_ITEM when
        the item is gone or no longer under this lease: nothing was changed, its report too was not accepted. TOO_BIG
        for a result over SPOOL_RESULT characters, NO_PERMISSION for who is neither the item's owner nor SYSTEM. What
        ``accept`` would refuse of the report is refused the same, and nothing is changed."""

    async def change_spool(
        self, op: Operation, items: Sequence[str], action: SpoolAction, route: str | None = None
    ) -> tuple[str, ...]:
        """Do to each of at most 1,000 items: RETRY (due now), HOLD, RELEASE, DROP (gone without a word to its sender;
        not while it is leased; of an item of a queue a ``SpoolResult`` stays), ROUTE (send to ``route`` from now on,
        None for where its domain leads). An attempt in hand goes on. The op's actor is its owner or SYSTEM; others'
        items are as if they were not there. An event
        "queue" with the action goes into the trace of each. The ids that were there and not refused."""

    # -- trace

    async def record(self, events: Sequence[Event]) -> None:
        """Keep events that belong to no write, in a bounded log; batches are welcome."""

    async def trace(self, trace: str, account: str | None) -> tuple[Event, ...]:
        """The events of one trace in order of time; with an account only those shown to it."""

    async def find_traces(
        self, text: str, account: str | None, since: float = 0.0, limit: int = 100
    ) -> tuple[TraceFound, ...]:
        """Traces by a Message-ID (with or without <>), an address of sender or recipient (any case), the peer's IP
        address where no message was taken, or a trace id itself (also written as a UUID): the latest first, none that
        ended before ``since``, with an account only those that show it an event which holds the text. "" finds all. At
        most ``limit`` (at most 1,000) of those that newly came to something; a bounded number of events is looked at,
        from the newest back."""

    # -- upkeep

    async def sweep(self, grace: float = 3600.0) -> SweepReport:
        """One bounded round: free emails without entries and blobs without emails that have been so for ``grace``
        seconds, forgotten staged bodies, operations over an hour old, results over SPOOL_RESULT_AGE, events over their
        age or number."""

    async def scrub(self, after: str = "", limit: int = 100) -> tuple[str, tuple[str, ...]]:
        """Compare up to ``limit`` blobs after the id with their SHA-256: (last id looked at or "" at the end, ids of
        damaged blobs)."""

    async def reparse(self, after: str = "", limit: int = 100) -> str:
        """Describe again up to ``limit`` emails whose stored forms have an older version: the last id, "" at the
        end."""

    async def stats(self) -> StorageStats:
        """Totals; cheap enough to be asked every second."""

    async def close(self) -> None:
        """Finish what has begun, refuse the rest as Unavailable, release the store."""
