"""A storage and an identity in memory, as their ports' contracts say, and a client that speaks to a session."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import identity.port
from identity.limits import MAX_QUOTA
from identity.model import Account, Origin, Principal, Resolution, Role, Verdict
from identity.model import Changes as IdentityChanges
from imap.commands import table
from imap.dialogue import Gone, Peer, Tls
from imap.hub import Hub
from imap.session import House, Limits, PlainSignIn, Session
from imap.signins import SignIns
from imap.wire.parser import parsed
from mail import flags as flag_bits
from mail import words
from mail.ingestform import Described, describe
from mail.text import fold
from runtime.clock import ManualClock
from storage import metadata, model, ranges
from storage.ingest import keys_json, keys_of
from storage.model import (
    INBOX,
    INLINE_MAX,
    Annotation,
    Appended,
    Changes,
    Columns,
    Copied,
    Depth,
    Entry,
    Expunged,
    Flagged,
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
    Row,
    StagedBlob,
    Usage,
    Want,
)
from storage.names import canonical, checked, is_under, superiors
from storage.port import Reason, Refused, Unavailable
from storage.rights import changed

SAVED = 1_700_000_000
"""When all messages came to be where they are: 14-Nov-2023 22:13:20 UTC."""
SPECIAL = {name: f"\\{name}" for name in ("Drafts", "Sent", "Trash", "Junk", "Archive")}


@dataclass
class Email:
    id: str
    raw: bytes
    prefix: bytes
    described: Described


@dataclass
class Box:
    ref: MailboxRef
    name: str | None
    uidvalidity: int
    modseq: int
    special_use: str | None = None
    uidnext: int = 1
    recent_from: int = 1
    entries: dict[int, Entry] = field(default_factory=dict)
    lost: dict[int, Entry] = field(default_factory=dict)
    vanished: dict[int, int] = field(default_factory=dict)
    acl: tuple[Grant, ...] = ()


class FakeStorage:
    """One event loop, no await inside a change: each is atomic."""

    def __init__(self) -> None:
        self.modseqs: dict[str, int] = {}
        self.uidvalidity = 1000
        self.boxes: dict[str, Box] = {}
        self.emails: dict[str, Email] = {}
        self.subscriptions: dict[str, set[str]] = {}
        self.staged: dict[str, bytes] = {}
        self.sets: dict[tuple[str, str, str], metadata.Set] = {}
        self.annotated: dict[str, int] = {}
        self.down = False
        self.calls: list[str] = []
        self.before: dict[str, Callable[[], None]] = {}
        self._news = asyncio.Event()

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("_") or not asyncio.iscoroutinefunction(found):
            return found

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            hook = self.before.pop(name, None)
            if hook is not None:
                hook()
            if self.down:
                raise Unavailable("down")
            await asyncio.sleep(0)
            return await found(*args, **kwargs)

        return call

    # -- accounts and mailboxes

    def bump(self, account: str) -> int:
        self.modseqs[account] += 1
        self._news.set()
        return self.modseqs[account]

    def make(self, account: str, name: str, special_use: str | None = None) -> Box:
        self.uidvalidity += 1
        ref = MailboxRef(account, f"m{self.uidvalidity}")
        box = self.boxes[ref.mailbox] = Box(ref, name, self.uidvalidity, self.bump(account), special_use)
        return box

    async def open_account(self, op: Operation, account: str) -> None:
        if account not in self.modseqs:
            self.modseqs[account] = 0
            self.make(account, INBOX)
            for name, use in SPECIAL.items():
                self.make(account, name, use)
            self.subscriptions[account] = {INBOX, *SPECIAL}

    def named(self, account: str) -> dict[str, Box]:
        return {b.name: b for b in self.boxes.values() if b.ref.account == account and b.name is not None}

    def find(self, account: str, name: str) -> Box:
        box = self.named(account).get(canonical(name))
        if box is None:
            raise Refused(Reason.NO_SUCH_MAILBOX)
        return box

    def by(self, ref: MailboxRef) -> Box:
        box = self.boxes.get(ref.mailbox)
        if box is None or box.name is None:
            raise Refused(Reason.NO_SUCH_MAILBOX)
        return box

    def show(self, box: Box) -> Mailbox:
        entries = box.entries.values()
        return Mailbox(
            box.ref,
            box.name or "",
            box.uidvalidity,
            box.uidnext,
            box.modseq,
            len(entries),
            sum(not e.flags & flag_bits.SEEN for e in entries),
            sum(bool(e.flags & flag_bits.DELETED) for e in entries),
            sum(e.uid >= box.recent_from for e in entries),
            sum(self.size(e) for e in entries),
            box.special_use,
        )

    def size(self, entry: Entry) -> int:
        email = self.emails[entry.email]
        return len(email.prefix) + len(email.raw)

    async def usage(self, account: str) -> Usage:
        entries = [e for b in self.named(account).values() for e in b.entries.values()]
        return Usage(sum(map(self.size, entries)), len(entries))

    async def list_mailboxes(self, account: str) -> MailboxList:
        boxes = sorted(self.named(account).values(), key=lambda b: (b.name != INBOX, b.name))
        annotated = self.annotated.get(account, 0)
        return MailboxList(tuple(map(self.show, boxes)), frozenset(self.subscriptions[account]), annotated)

    async def mailbox(self, account: str, name: str, actor: str | None = None) -> Mailbox:
        if actor not in (None, account):
            # this one shares nothing: what is shared is for the real ones
            raise Refused(Reason.NO_SUCH_MAILBOX)
        return self.show(self.find(account, name))

    async def acl(self, ref: MailboxRef) -> tuple[Grant, ...]:
        return self.by(ref).acl

    async def set_acl(
        self,
        op: Operation,
        ref: MailboxRef,
        identifier: str,
        rights: Rights,
        mode: FlagMode = FlagMode.REPLACE,
        negative: bool = False,
    ) -> None:
        if identifier == ref.account:
            raise Refused(Reason.CANNOT, "The owner always has all rights.")
        self.by(ref).acl = changed(self.by(ref).acl, identifier, rights, mode, negative)
        self.bump(ref.account)

    async def create_mailbox(self, op: Operation, account: str, name: str, special_use: str | None = None) -> Mailbox:
        name = checked(name)
        if name in self.named(account):
            raise Refused(Reason.ALREADY_EXISTS)
        if special_use is not None and any(b.special_use == special_use for b in self.named(account).values()):
            raise Refused(Reason.CANNOT)
        for above in superiors(name):
            if above not in self.named(account):
                self.make(account, above)
        return self.show(self.make(account, name, special_use))

    async def delete_mailbox(self, op: Operation, account: str, name: str) -> None:
        if canonical(name) == INBOX:
            raise Refused(Reason.CANNOT)
        box = self.find(account, name)
        box.name, box.modseq = None, self.bump(account)

    async def rename_mailbox(self, op: Operation, account: str, name: str, new_name: str) -> None:
        old, new = canonical(name), checked(new_name)
        if new in self.named(account):
            raise Refused(Reason.ALREADY_EXISTS)
        if old == INBOX:
            target, inbox = self.make(account, new), self.find(account, INBOX)
            for owner in ("", account):
                kept = self.sets.get((account, inbox.ref.mailbox, owner), {})
                self.sets[account, target.ref.mailbox, owner] = dict(kept)
            self._move(inbox, tuple(inbox.entries), target)
            return
        if is_under(new, old):
            raise Refused(Reason.CANNOT)
        moved = [b for n, b in self.named(account).items() if n == old or is_under(n, old)]
        if not moved:
            raise Refused(Reason.NO_SUCH_MAILBOX)
        for above in superiors(new):
            if above not in self.named(account):
                self.make(account, above)
        for box in moved:
            box.name = new + str(box.name)[len(old) :]
        self.bump(account)

    async def subscribe(self, op: Operation, account: str, name: str, on: bool) -> None:
        if (canonical(name) in self.subscriptions[account]) != on:
            (self.subscriptions[account].add if on else self.subscriptions[account].discard)(canonical(name))
            self.bump(account)

    async def open_mailbox(self, op: Operation, ref: MailboxRef, read_write: bool) -> Opened:
        box = self.by(ref)
        shown = self.show(box)
        uids = sorted(box.entries)
        recent = [uid for uid in uids if uid >= box.recent_from]
        if read_write:
            box.recent_from = box.uidnext
        unseen = next((u for u in uids if not box.entries[u].flags & flag_bits.SEEN), None)
        keywords = sorted({k for b in self.named(ref.account).values() for e in b.entries.values() for k in e.keywords})
        return Opened(shown, ranges.of(uids), ranges.of(recent), unseen, tuple(keywords))

    async def shared_with(self, account: str) -> tuple[Mailbox, ...]:
        return ()

    # -- annotations

    async def annotations(
        self,
        refs: Sequence[MailboxRef],
        entries: Sequence[str] = ("/private", "/shared"),
        depth: Depth = Depth.ALL,
        values: bool = True,
    ) -> tuple[Annotation, ...]:
        names = [metadata.name(entry) for entry in entries]
        return tuple(
            Annotation(ref.mailbox, entry, kept.modseq, kept.value if values else None)
            for ref in refs
            if not ref.mailbox or self.boxes[ref.mailbox].name is not None
            for owner in (ref.actor or ref.account, "")
            for entry, kept in sorted(self.sets.get((ref.account, ref.mailbox, owner), {}).items())
            if metadata.is_meant(entry, names, depth)
        )

    async def set_annotations(self, op: Operation, ref: MailboxRef, values: Mapping[str, bytes | None]) -> int:
        checked = metadata.checked(values, op.actor, account_itself=not ref.mailbox)
        changed: dict[tuple[str, str, str], metadata.Set] = {}
        modseq = self.modseqs[ref.account] + 1
        for owner, some in metadata.by_owner(checked, op.actor).items():
            key = (ref.account, ref.mailbox, owner)
            have = self.sets.get(key, {})
            if metadata.differing(have, some):
                changed[key] = metadata.changed(have, metadata.differing(have, some), modseq)
        if changed:
            self.sets.update(changed)
            self.annotated[ref.account] = self.bump(ref.account)
            if ref.mailbox:
                self.by(ref).modseq = modseq
        return self.modseqs[ref.account]

    # -- reading

    def pick(self, entries: Mapping[int, Entry], uids: Ranges) -> list[Entry]:
        return [entries[u] for u in sorted(entries) if any(low <= u <= high for low, high in uids)]

    async def columns(self, ref: MailboxRef, uids: Ranges, want: Want, limit: int = 512, lost: bool = False) -> Columns:
        box = self.by(ref)
        there = [e for e in self.pick(box.lost if lost else box.entries, uids) if e.email in self.emails]
        page = there[: min(limit, 7)]
        rows = [self._row(e, Want(1023)) for e in page]
        found: dict[Want, dict[str, list[Any]]] = {
            Want.FLAGS: {
                "flags": [e.flags for e in page],
                "keywords": [(e.uid, e.keywords) for e in page if e.keywords],
            },
            Want.MODSEQ: {"modseqs": [e.modseq for e in page]},
            Want.EMAIL: {"emails": [e.email for e in page]},
            Want.INTERNALDATE: {"internaldates": [e.internaldate for e in page]},
            Want.SAVEDATE: {"savedates": [e.savedate for e in page]},
        }
        names = Columns._fields[Columns._fields.index("sizes") :]
        for part, name, place in zip(Want, names, range(1, 11), strict=False):
            found[part] = {name: [row[place] for row in rows]}
        wanted = {name: column for part in Want if want & part for name, column in found[part].items()}
        through = max([e.modseq for e in page], default=0)
        return Columns([e.uid for e in page], len(there) > len(page), through, **wanted)

    def _row(self, entry: Entry, want: Want) -> Row:
        email = self.emails[entry.email]
        d = email.described
        return Row(
            entry,
            self.size(entry) if want & Want.SIZE else None,
            email.prefix if want & Want.PREFIX else None,
            d.envelope if want & Want.ENVELOPE else None,
            d.body if want & Want.BODY else None,
            d.bodystructure if want & Want.BODYSTRUCTURE else None,
            d.parts if want & Want.PARTS else None,
            d.usual if want & Want.HEADERS else None,
            d.preview if want & Want.PREVIEW else None,
            keys_of(keys_json(d.keys), entry.internaldate) if want & Want.KEYS else None,
            email.raw if want & Want.CONTENT and len(email.raw) <= INLINE_MAX else None,
        )

    async def read(self, account: str, email: str, start: int, end: int) -> bytes:
        if email not in self.emails:
            raise Refused(Reason.NO_SUCH_MESSAGE)
        return self.emails[email].raw[start : min(end, start + INLINE_MAX)]

    async def search(self, ref: MailboxRef, query: Query) -> Found:
        box = self.by(ref)
        return Found(ranges.of(u for u in sorted(box.entries) if self._matches(box.entries[u], query)), box.modseq)

    def _matches(self, e: Entry, query: Query) -> bool:
        d = self.emails[e.email].described
        match query:
            case model.All():
                return True
            case model.And(keys):
                return all(self._matches(e, key) for key in keys)
            case model.Or(keys):
                return any(self._matches(e, key) for key in keys)
            case model.Not(key):
                return not self._matches(e, key)
            case model.Uids(uids):
                return any(low <= e.uid <= high for low, high in uids)
            case model.HasFlags(bits):
                return e.flags & bits == bits
            case model.HasKeyword(keyword):
                return keyword.lower() in [k.lower() for k in e.keywords]
            case model.SizeRange(larger, smaller):
                size = self.size(e)
                return (larger is None or size > larger) and (smaller is None or size < smaller)
            case model.DateRange(which, start, end):
                at = {"sent": d.keys.sent, "internaldate": e.internaldate, "savedate": e.savedate}[which.value]
                return at is not None and (start is None or at >= start) and (end is None or at < end)
            case model.ModseqFrom(modseq):
                return e.modseq >= modseq
            case model.HeaderContains(name, text):
                fields = d.part.fields
                assert fields is not None
                return any(fold(text) in fold(words.decode(v)) for v in fields.all(name.upper().encode()))
            case model.BodyContains(text):
                return fold(text) in fold("".join(p.text for p in d.search_text() if p.where == "body"))
            case model.TextContains(text):
                return any(
                    fold(text) in fold("".join(p.text for p in d.search_text() if p.where == w))
                    for w in ("header", "body")
                )
        raise AssertionError(query)

    async def changes(self, ref: MailboxRef, since: int, limit: int = 1024) -> Changes:
        box = self.boxes[ref.mailbox]
        if box.name is None:
            return Changes((), (), self.modseqs[ref.account], False, gone=True)
        entries = [e for e in box.entries.values() if e.modseq > since]
        vanished = [(m, u) for u, m in box.vanished.items() if m > since]
        steps = sorted({e.modseq for e in entries} | {m for m, _ in vanished})
        more = len(steps) > 3
        through = steps[2] if more else max(since, self.modseqs[ref.account])
        return Changes(
            tuple(sorted((e for e in entries if e.modseq <= through), key=lambda e: (e.modseq, e.uid))),
            ranges.of(sorted(u for m, u in vanished if m <= through)),
            through,
            more,
        )

    async def watch(self, accounts: Mapping[str, int], wait: float) -> Mapping[str, int]:
        end = time.monotonic() + wait
        while True:
            self._news.clear()
            news = {a: self.modseqs[a] for a, m in accounts.items() if self.modseqs.get(a, 0) > m}
            left = end - time.monotonic()
            if news or left <= 0:
                return news
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), left)

    # -- writing

    def add(self, box: Box, email: Email, flags: int, keywords: tuple[str, ...], date: int, modseq: int) -> int:
        uid = box.uidnext
        box.uidnext += 1
        box.entries[uid] = Entry(uid, modseq, flags, tuple(sorted(keywords)), email.id, date, SAVED)
        box.modseq = modseq
        return uid

    def deliver(self, account: str, raw: bytes, prefix: bytes = b"", name: str = INBOX) -> int:
        """As `accept` would."""
        return self.add(self.find(account, name), self.keep(raw, prefix), 0, (), 1_700_000_000, self.bump(account))

    def keep(self, raw: bytes, prefix: bytes = b"") -> Email:
        email = Email(f"e{len(self.emails) + 1}", raw, prefix, describe(raw))
        self.emails[email.id] = email
        return email

    async def stage(self, chunks: AsyncIterable[bytes]) -> StagedBlob:
        data = b"".join([chunk async for chunk in chunks])
        blob = StagedBlob(f"b{len(self.staged)}", len(data), hashlib.sha256(data).digest())
        self.staged[blob.id] = data
        return blob

    async def append(
        self,
        op: Operation,
        ref: MailboxRef,
        messages: Sequence[NewMessage],
        quota: int | None,
        name: str | None = None,
    ) -> Appended:
        box = self.by(ref)
        if name not in (None, box.name):
            raise Refused(Reason.NO_SUCH_MAILBOX)
        contents = [m.content if isinstance(m.content, bytes) else self.staged.pop(m.content.id) for m in messages]
        if any(b"\0" in content for content in contents):
            raise Refused(Reason.UNKNOWN_CTE)
        if quota is not None and (await self.usage(ref.account)).size + sum(map(len, contents)) > quota:
            raise Refused(Reason.OVER_QUOTA)
        modseq = self.bump(ref.account)
        uids = [
            self.add(box, self.keep(c), m.flags, m.keywords, m.internaldate or 1_700_000_000, modseq)
            for c, m in zip(contents, messages, strict=True)
        ]
        return Appended(box.uidvalidity, tuple(uids), modseq)

    async def replace(
        self, op: Operation, ref: MailboxRef, uid: int, target: MailboxRef, message: NewMessage, quota: int | None
    ) -> Appended:
        box = self.by(ref)
        if uid not in box.entries:
            raise Refused(Reason.NO_SUCH_MESSAGE)
        used, more = (await self.usage(ref.account)).size, message.content
        more = (len(more) if isinstance(more, bytes) else more.size) - self.size(box.entries[uid])
        if quota is not None and more > 0 and used + more > quota:
            raise Refused(Reason.OVER_QUOTA)
        done = await self.append(op, target, [message], None)
        self.vanish(box, [uid], done.modseq)
        return done

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
        box = self.by(ref)
        chosen = self.pick(box.entries, uids)
        modified = [e.uid for e in chosen if unchanged_since is not None and e.modseq > unchanged_since]
        changed: list[Entry] = []
        for e in chosen:
            if e.uid in modified:
                continue
            if mode is FlagMode.REPLACE:
                new = (flags, tuple(sorted(keywords)))
            elif mode is FlagMode.ADD:
                new = (e.flags | flags, tuple(sorted({*e.keywords, *keywords})))
            else:
                new = (e.flags & ~flags, tuple(sorted({*e.keywords} - {*keywords})))
            if new != (e.flags, e.keywords):
                changed.append(e._replace(flags=new[0], keywords=new[1]))
        modseq = self.bump(ref.account) if changed else self.modseqs[ref.account]
        for e in changed:
            box.entries[e.uid] = e._replace(modseq=modseq)
            box.modseq = modseq
        return FlagsStored(tuple(Flagged(*box.entries[e.uid][:4]) for e in chosen), ranges.of(modified), modseq)

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
        return self._copy(self.by(ref), uids, self.find(to or ref.account, target), messages)

    def _copy(self, box: Box, uids: Ranges, to: Box, messages: int | None = None) -> Copied:
        chosen = self.pick(box.entries, uids)
        if messages is not None and len(chosen) != messages:
            raise Refused(Reason.NO_SUCH_MESSAGE, "Some of the messages have been expunged.")
        modseq = self.bump(box.ref.account)
        new = [self.add(to, self.emails[e.email], e.flags, e.keywords, e.internaldate, modseq) for e in chosen]
        return Copied(to.uidvalidity, ranges.of(e.uid for e in chosen), ranges.of(new), modseq)

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
        box, place = self.by(ref), self.find(to or ref.account, target)
        return self._move(box, tuple(e.uid for e in self.pick(box.entries, uids)), place, messages)

    def _move(self, box: Box, uids: tuple[int, ...], to: Box, messages: int | None = None) -> Copied:
        copied = self._copy(box, ranges.of(uids), to, messages)
        self.vanish(box, uids, copied.modseq)
        return copied

    def vanish(self, box: Box, uids: Sequence[int], modseq: int) -> None:
        for uid in uids:
            box.lost[uid] = box.entries.pop(uid)
            box.vanished[uid] = modseq
            box.modseq = modseq

    async def expunge(self, op: Operation, ref: MailboxRef, uids: Ranges) -> Expunged:
        box = self.by(ref)
        gone = [e.uid for e in self.pick(box.entries, uids) if e.flags & flag_bits.DELETED]
        modseq = self.bump(ref.account) if gone else self.modseqs[ref.account]
        self.vanish(box, gone, modseq)
        return Expunged(ranges.of(gone), modseq)


class FakeIdentity:
    """Accounts by name, and a list of changes."""

    def __init__(self, **passwords: str) -> None:
        self.passwords = passwords
        self.versions = dict.fromkeys(passwords, 1)
        self.quotas: dict[str, int | None] = {}
        self.roles: dict[str, Role] = {}
        self.masks: dict[str, tuple[str, ...]] = {}
        self.seq = 1
        self.down = False
        self.origins: list[Origin] = []
        self._news = asyncio.Event()
        self._changes: list[Any] = []

    async def authenticate(self, name: str, password: str, origin: Origin) -> Principal:
        self.origins.append(origin)
        if self.down:
            raise identity.port.Unavailable("down")
        if password == "too fast":
            raise identity.port.Refused(identity.port.Reason.SLOW_DOWN, retry_after=7.2)
        user = name.partition("@")[0]
        if user not in self.passwords or self.passwords[user] != password:
            raise identity.port.Refused(identity.port.Reason.BAD_CREDENTIALS)
        return self._principal(user)

    def _principal(self, user: str) -> Principal:
        return Principal(
            user,
            f"{user}@example.org",
            self.roles.get(user, Role.USER),
            self.quotas.get(user),
            "password",
            self.versions[user],
            self.masks.get(user, ()),
        )

    async def authenticate_token(self, name: str, access: str, origin: Origin) -> Principal:
        user = name.partition("@")[0]
        if user not in self.passwords or access != f"token-of-{user}":
            raise identity.port.Refused(identity.port.Reason.BAD_CREDENTIALS)
        return self._principal(user)

    async def account(self, account: str) -> Account:
        if account not in self.passwords:
            raise identity.port.Refused(identity.port.Reason.NO_SUCH_ACCOUNT)
        role = self.roles.get(account, Role.USER)
        return Account(account, f"{account}@example.org", "", role, self.quotas.get(account), True, 1, 0.0)

    async def find_account(self, address: str) -> Account:
        return await self.account(address.removesuffix("@example.org"))

    async def resolve(self, address: str) -> Resolution:
        return Resolution(Verdict.UNKNOWN)

    async def update_account(self, account: str, *, quota: int | None = None, no_quota: bool = False) -> Account:
        if quota is not None and quota > MAX_QUOTA:
            raise identity.port.Refused(identity.port.Reason.LIMIT, f"a quota is 0 to {MAX_QUOTA} octets")
        self.quotas[account] = None if no_quota else quota
        return await self.account(account)

    async def still_valid(self, principal: Principal) -> bool:
        return self.versions[principal.account] == principal.version

    def change_password(self, user: str, password: str) -> None:
        self.passwords[user] = password
        self.versions[user] += 1
        self.seq += 1
        from identity.model import Change, ChangeKind

        self._changes.append(Change(self.seq, user, ChangeKind.CREDENTIALS, ("password",)))
        self._news.set()

    async def close(self) -> None:
        """Nothing is held."""

    async def changes_since(self, seq: int, wait: float) -> IdentityChanges:
        if seq and not any(c.seq > seq for c in self._changes):
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), wait)
        return IdentityChanges(self.seq, tuple(c for c in self._changes if seq and c.seq > seq))


PLAIN = Peer("127.0.0.1", 40000, "127.0.0.1", 2143, None)


class FakeOut:
    """The connection's side of a session, in memory."""

    def __init__(self, peer: Peer = PLAIN, has_certificate: bool = True) -> None:
        self.peer = peer
        self.has_certificate = has_certificate
        self.sent = bytearray()
        self.lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.literal_octets: bytes | None = None
        self.behind_literal = b""
        self.more_literals: list[bytes] = []
        # what stands before the lengths of these, and behind the last one
        self.heads: list[bytes] = []
        self.ending = b""
        self.compressed = False
        self.literal_taken = False
        self.waiting = False
        self.is_signed_in = False
        self.said_bye: str | None = None
        self.is_closed = False
        self.drains = 0
        self.listening = self.idling = self.woken = False
        self.largest_write = 0

    @property
    def can_start_tls(self) -> bool:
        return self.has_certificate and self.peer.tls is None

    def write(self, data: bytes) -> None:
        self.sent += data
        self.largest_write = max(self.largest_write, len(data))

    async def drain(self) -> None:
        self.drains += 1
        await asyncio.sleep(0)

    async def continuation(self, text: bytes = b"") -> bytes:
        self.write(b"+ " + text + b"\r\n")
        line = await self.lines.get()
        if line is None:
            raise Gone
        return line

    async def line_or_wake(self) -> bytes | None:
        self.idling = True
        try:
            return await self.lines.get()
        finally:
            self.idling = False

    def notify(self) -> None:
        if self.listening and not self.idling:
            self.woken = True
        else:
            self.lines.put_nowait(None)

    def listen(self, on: bool) -> None:
        self.listening = on

    async def literal(self) -> AsyncIterator[bytes]:
        assert self.literal_octets is not None
        self.literal_taken = True
        for at in range(0, len(self.literal_octets), 100_000):
            yield self.literal_octets[at : at + 100_000]
        self.behind_literal = self.ending
        if self.more_literals:
            self.literal_octets = self.more_literals.pop(0)
            head = self.heads.pop(0) if self.heads else b" "
            self.behind_literal = head + b"{%d}" % len(self.literal_octets)

    async def start_tls(self, go_ahead: bytes) -> None:
        self.write(go_ahead)
        self.peer = replace(self.peer, tls=Tls("TLSv1.3", "TLS_AES_256_GCM_SHA384"))

    def compress(self, go_ahead: bytes) -> None:
        self.write(go_ahead)
        self.compressed = True

    def signed_in(self) -> None:
        self.is_signed_in = True

    def bye(self, text: str, code: str | None = None) -> None:
        if self.said_bye is None:
            self.said_bye = text
            self.write(b"* BYE " + text.encode() + b"\r\n")
            self.is_closed = True

    def close(self) -> None:
        self.is_closed = True


async def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until the condition holds; TimeoutError after the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        await asyncio.sleep(0.001)


class Client:
    """Says a line to a session of its own and returns all that came back."""

    def __init__(self, house: House, out: FakeOut | None = None) -> None:
        self.out = out or FakeOut()
        self.session = Session(house, self.out)
        self.house = house

    async def __call__(self, line: str | bytes, literal: bytes | None = None) -> str:
        await self.run(line, literal)
        return self.take()

    async def run(self, line: str | bytes, literal: bytes | None = None) -> None:
        data = line if isinstance(line, bytes) else line.encode()
        if literal is not None:
            data += b" {%d}" % len(literal)
        self.out.literal_octets = literal
        self.out.literal_taken = False
        await self.session.run(parsed(data, utf8=self.session.utf8))
        await self.session.settle()

    def take(self) -> str:
        said = self.out.sent.decode("utf-8", "surrogateescape")
        self.out.sent.clear()
        return said.replace("\r\n", "\n")

    async def signed_in(self, user: str = "alice", password: str = "secret") -> Client:
        assert " OK " in await self(f"l LOGIN {user} {password}")
        return self


def make_house(storage: Any, who: Any, **settings: Any) -> House:
    settings = {"limits": Limits(), "plain_sign_in": PlainSignIn.LOOPBACK} | settings
    sessions = settings.pop("sessions", 10)
    return House(who, storage, Hub(storage), SignIns(who, sessions), ManualClock(), table(), **settings)
