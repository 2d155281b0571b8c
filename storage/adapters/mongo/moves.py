"""What COPY, MOVE, EXPUNGE and STORE read and insert before they commit, and how it is committed.

Each reads the messages that it is about first, and commits only to a state in which no flag was changed and no message
expunged in that mailbox since (``touched``): else it begins anew. Messages that came since are not in its set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import getrandbits
from typing import Any

from bson import ObjectId

from mail.flags import ALL, DELETED, SEEN
from storage import names, ranges, rights
from storage.adapters.mongo import acl, queries
from storage.adapters.mongo.database import Database
from storage.adapters.mongo.entries import Entries, made
from storage.adapters.mongo.state import Count, Document, Draft, Item, box_named, box_of, is_open, ranges_of
from storage.adapters.mongo.uidsets import pack
from storage.limits import VANISHED_PER_MAILBOX
from storage.model import ALL_RIGHTS, Copied, Entry, Expunged, Flagged, FlagMode, MailboxRef, Ranges, Rights
from storage.port import Reason, Refused


def unseen_uid() -> int:
    """What stands in for an entry's uid until it has one: below zero, and no other's."""
    return -1 - getrandbits(62)


def marked(entry: Document, given: Rights) -> Document:
    """The message with the flags and keywords that a copy of it has where there are these rights to the target."""
    # RFC 4314 §4: flags without the right to them are left out
    if given == ALL_RIGHTS:
        return entry
    words = entry.get("kw", ()) if given & Rights.WRITE else ()
    return {**entry, "flags": entry["flags"] & rights.flags_allowed(given), "kw": list(words)}


@dataclass(frozen=True, slots=True)
class Chosen:
    """The messages that COPY and MOVE are about. messages: how many of them there must be, None for any number."""

    uids: Ranges
    messages: int | None = None

    def check(self, found: Sequence[Document]) -> None:
        """NO_SUCH_MESSAGE where others are found."""
        if self.messages is not None and len(found) != self.messages:
            raise Refused(Reason.NO_SUCH_MESSAGE, "Some of the messages have been expunged.")


@dataclass(slots=True)
class Removal:
    """Messages that are to leave a mailbox, or to be copied: as they were at the account's modseq ``at``.

    copied: they with the marks that their copies have. copies: unseen entries made of these, in order. vanished: the
    unseen piece of history. cut: (modseq, ranges) of history that is to be forgotten.
    """

    ref: MailboxRef
    at: int
    entries: list[Document]
    copied: list[Document] = field(default_factory=list)
    copies: list[ObjectId] = field(default_factory=list)
    vanished: ObjectId | None = None
    cut: tuple[int, int] | None = None

    def stands(self, base: Mapping[str, Any]) -> bool:
        """Are these messages still what they were?"""
        box = base["mailboxes"].get(self.ref.mailbox)
        return is_open(base) and box is not None and box["touched"] <= self.at

    def take_away(self, draft: Draft, item: Item, modseq: int, now: float) -> None:
        """Make the messages vanish from their mailbox; the account's usage is the caller's to count."""
        if self.vanished is None:
            raise ValueError("no history was prepared")
        gone = ranges_of(self.entries)
        box = draft.doc["mailboxes"][self.ref.mailbox]
        draft.leave(self.ref.mailbox, modseq, Count(self.entries, box["recent_from"]), gone, self.cut)
        item.take_away(self.ref.mailbox, modseq, gone, self.vanished, now, None if self.cut is None else self.cut[0])


class Moves:
    def __init__(self, database: Database, entries: Entries) -> None:
        self.database = database
        self._entries = entries

    async def present(self, base: Document, ref: MailboxRef, uids: Ranges) -> list[Document]:
        """The messages of the set now. NO_SUCH_MAILBOX."""
        if not is_open(base):
            raise Refused(Reason.NO_SUCH_MAILBOX)
        box_of(base, ref)
        found = await self._entries.present(base, ref, uids)
        return [entry for entry in found if "gone" not in entry]

    async def removal(
        self,
        base: Document,
        ref: MailboxRef,
        chosen: Chosen,
        *,
        copies: bool = False,
        leave: bool = True,
        flagged: int = 0,
        op: str = "",
        kept: Rights = ALL_RIGHTS,
    ) -> Removal:
        """Read the messages of the set (those with any of the flags ``flagged``, if it is not 0), and insert what their
        copy and their leaving needs. kept: rights to the target, by which marks go along. NO_SUCH_MESSAGE."""
        found = await self.present(base, ref, chosen.uids)
        chosen.check(found)
        if flagged:
            found = [entry for entry in found if entry["flags"] & flagged]
        removal = Removal(ref, base["modseq"], found)
        if not found:
            return removal
        now = self.database.now()
        if leave:
            gone = ranges_of(found)
            removal.cut = await self._cut(ref, base["mailboxes"][ref.mailbox], len(gone))
            removal.vanished = await self._history(ref, gone, op, now)
        if copies:
            removal.copied = [marked(entry, kept) for entry in found]
            removal.copies = await self._copies(ref.account, removal.copied, op, now)
        return removal

    async def _copies(self, account: str, entries: Sequence[Document], op: str, now: float) -> list[ObjectId]:
        # RFC 8514 §2: the save date is that of the copy.
        copies = [
            {
                "_id": ObjectId(),
                "account": account,
                "uid": unseen_uid(),
                "modseq": 0,
                "flags": entry["flags"],
                "email": entry["email"],
                "size": entry["size"],
                "date": entry["date"],
                "saved": int(now),
                "op": op,
                "pending": now,
            }
            | ({"kw": entry["kw"]} if entry.get("kw") else {})
            for entry in entries
        ]
        await self.database.insert("entry", copies)
        return [copy["_id"] for copy in copies]

    async def _history(self, ref: MailboxRef, gone: Ranges, op: str, now: float) -> ObjectId:
        vanished = ObjectId()
        await self.database.insert(
            "vanished",
            [
                {
                    "_id": vanished,
                    "account": ref.account,
                    "mailbox": ref.mailbox,
                    "modseq": 0,
                    "count": len(gone),
                    "ranges": pack(gone),
                    "op": op,
                    "pending": now,
                }
            ],
        )
        return vanished

    async def _cut(self, ref: MailboxRef, box: Mapping[str, Any], more: int) -> tuple[int, int] | None:
        """Whether and where the mailbox's history is cut, for ``more`` ranges to be added."""
        if not box["vanished"] or box["vanished"] + more <= VANISHED_PER_MAILBOX:
            return None
        excess = box["vanished"] + more - VANISHED_PER_MAILBOX // 2
        forgotten = modseq = 0
        for one in await self.database.find(queries.history(ref.account, ref.mailbox)):
            if forgotten >= excess:
                break
            modseq = one["modseq"]
            forgotten += one["count"]
        return (modseq, forgotten) if forgotten else None


class Copy:
    """COPY, or with ``move`` MOVE."""

    # RFC 3501 §6.4.7, RFC 6851 §3.3

    def __init__(
        self,
        moves: Moves,
        op: str,
        ref: MailboxRef,
        chosen: Chosen,
        target: str,
        quota: int | None,
        *,
        move: bool,
        actor: str | None = None,
    ) -> None:
        """actor: another than the owner, who acts."""
        self._actor = actor
        self._given = ALL_RIGHTS
        self._moves = moves
        self._op = op
        self._ref = ref
        self._chosen = chosen
        self._target = names.searchable(target)
        self._quota = quota
        self._move = move
        self._removal: Removal | None = None

    async def prepare(self, base: Document) -> None:
        if not is_open(base):
            raise Refused(Reason.NO_SUCH_MAILBOX)
        _, _, self._given = self._place(base)
        self._removal = await self._moves.removal(
            base, self._ref, self._chosen, copies=True, leave=self._move, op=self._op, kept=self._given
        )

    def stands(self, base: Document) -> bool:
        return self._removal is not None and self._removal.stands(base) and self._place(base)[2] == self._given

    def commit(self, draft: Draft, item: Item) -> Copied:
        if self._removal is None:
            raise ValueError("nothing was prepared")
        now = self._moves.database.now()
        entries = self._removal.entries
        target, to, _ = self._place(draft.doc)
        if not entries:
            return Copied(to["uidvalidity"], (), (), to["modseq"])
        count = Count(self._removal.copied)
        if self._move:
            modseq = draft.next_modseq()
        else:
            draft.check_quota(count.size, self._quota)
            modseq = draft.next_modseq(size=count.size, messages=count.messages)
        first = draft.enter(target, modseq, count)
        item.enter(target, modseq, first, self._removal.copies)
        if self._move:
            self._removal.take_away(draft, item, modseq, now)
        draft.count_saved(len(entries), now)
        return Copied(to["uidvalidity"], ranges_of(entries), ((first, first + len(entries) - 1),), modseq)

    def _place(self, doc: Mapping[str, Any]) -> tuple[str, Document, Rights]:
        """The target, and what may be done to it."""
        # RFC 6851 §4.4: what COPY, STORE and EXPUNGE together need
        leaving = Rights.DELETE_MESSAGES | Rights.EXPUNGE if self._move else Rights.NONE
        acl.check(box_of(doc, self._ref), self._actor, Rights.READ | leaving)
        target, to = box_named(doc, self._target)
        return target, to, acl.check(to, self._actor, Rights.INSERT)


class Expunge:
    """Messages flagged \\Deleted leave."""

    # RFC 3501 §6.4.3, RFC 4315 §2.1

    def __init__(
        self,
        moves: Moves,
        op: str,
        ref: MailboxRef,
        uids: Ranges,
        actor: str | None = None,
        *,
        needed: Rights = Rights.EXPUNGE,
        flagged: int = DELETED,
    ) -> None:
        """actor: another than the owner, who acts. needed: his rights. flagged: 0 for messages with any flags."""
        self._actor = actor
        self._needed = needed
        self._flagged = flagged
        self._moves = moves
        self._op = op
        self._ref = ref
        self._chosen = Chosen(uids)
        self._removal: Removal | None = None

    async def prepare(self, base: Document) -> None:
        if is_open(base):
            acl.check(box_of(base, self._ref), self._actor, self._needed)
        self._removal = await self._moves.removal(base, self._ref, self._chosen, flagged=self._flagged, op=self._op)

    def stands(self, base: Document) -> bool:
        return self._removal is not None and self._removal.stands(base)

    def commit(self, draft: Draft, item: Item) -> Expunged:
        if self._removal is None:
            raise ValueError("nothing was prepared")
        entries = self._removal.entries
        box = box_of(draft.doc, self._ref)
        acl.check(box, self._actor, self._needed)
        if not entries:
            return Expunged((), box["modseq"])
        modseq = draft.next_modseq(size=-sum(entry["size"] for entry in entries), messages=-len(entries))
        self._removal.take_away(draft, item, modseq, self._moves.database.now())
        return Expunged(ranges_of(entries), modseq)


@dataclass(frozen=True, slots=True)
class Stored:
    """What a STORE came to; ``shown`` is as long as the set, and so made once, after the commit."""

    modified: Ranges
    modseq: int
    shown: Callable[[], tuple[Flagged, ...]]


@dataclass(frozen=True, slots=True)
class _Changes:
    """What a STORE of these keywords (numbers) makes of the messages that were read. groups: what messages get (flags,
    keywords), and which. modified: see ``FlagsStored``. unseen, deleted: what it adds to these counters."""

    chosen: frozenset[int]
    groups: list[tuple[int, tuple[int, ...], Ranges]]
    changed: dict[int, tuple[int, tuple[int, ...]]]
    modified: Ranges
    unseen: int
    deleted: int


class Store:
    """STORE: flags and keywords of many messages in one change; those that change get one new modseq.

    What it makes of the messages is worked out once: the moment between reading the account and the commit, in which
    other processes may be quicker, is as short for ten thousand messages as for one.
    """

    # RFC 3501 §6.4.6

    def __init__(
        self,
        moves: Moves,
        ref: MailboxRef,
        uids: Ranges,
        mode: FlagMode,
        flags: int,
        words: tuple[str, ...],
        unchanged_since: int | None,
        actor: str | None = None,
    ) -> None:
        """actor: another than the owner, who acts."""
        self._actor = actor
        self._given = ALL_RIGHTS
        self._moves = moves
        self._ref = ref
        self._uids = uids
        self._mode = mode
        self._flags = flags & ALL
        self._words = words
        self._since = unchanged_since
        self._read: Removal | None = None
        self._changes: _Changes | None = None

    async def prepare(self, base: Document) -> None:
        self._changes = None
        if is_open(base):
            self._check(box_of(base, self._ref))
        self._read = Removal(self._ref, base["modseq"], await self._moves.present(base, self._ref, self._uids))

    def stands(self, base: Document) -> bool:
        return self._read is not None and self._read.stands(base)

    def commit(self, draft: Draft, item: Item) -> Stored:
        if self._read is None:
            raise ValueError("nothing was prepared")
        box = box_of(draft.doc, self._ref)
        given = self._check(box)
        named = self._words if given & Rights.WRITE else ()
        chosen = frozenset(draft.keywords(named, make=self._mode is not FlagMode.REMOVE))
        if self._changes is None or self._changes.chosen != chosen or given != self._given:
            self._given = given
            self._changes = self._decide(self._read.entries, chosen)
        changes, entries, doc = self._changes, self._read.entries, draft.doc
        if not changes.groups:
            return Stored(changes.modified, box["modseq"], lambda: _flagged(made(doc, entries)))
        modseq = draft.next_modseq()
        for flags, words, uids in changes.groups:
            item.flag(self._ref.mailbox, modseq, flags, words, uids)
        draft.change(
            self._ref.mailbox,
            modseq=modseq,
            touched=modseq,
            unseen=box["unseen"] + changes.unseen,
            deleted=box["deleted"] + changes.deleted,
        )
        return Stored(changes.modified, modseq, lambda: _flagged(made(doc, _changed(entries, changes.changed, modseq))))

    def _check(self, box: Document) -> Rights:
        given = acl.have(box, self._actor)
        rights.check_flags(given, self._mode, self._flags, bool(self._words))
        return given

    def _decide(self, entries: Sequence[Document], chosen: frozenset[int]) -> _Changes:
        modified: list[int] = []
        groups: dict[tuple[int, tuple[int, ...]], list[int]] = {}
        changed: dict[int, tuple[int, tuple[int, ...]]] = {}
        unseen = deleted = 0
        for entry in entries:
            if self._since is not None and entry["modseq"] > self._since:
                # RFC 7162 §3.1.3: left alone, though it may have the flags already
                modified.append(entry["uid"])
                continue
            had = (entry["flags"], tuple(entry.get("kw", ())))
            new = self._combine(*had, chosen)
            if new != had:
                changed[entry["uid"]] = new
                groups.setdefault(new, []).append(entry["uid"])
                unseen += (not new[0] & SEEN) - (not had[0] & SEEN)
                deleted += bool(new[0] & DELETED) - bool(had[0] & DELETED)
        told = [(flags, words, ranges.of(uids)) for (flags, words), uids in groups.items()]
        return _Changes(chosen, told, changed, ranges.of(modified), unseen, deleted)

    def _combine(self, flags: int, words: tuple[int, ...], chosen: frozenset[int]) -> tuple[int, tuple[int, ...]]:
        # RFC 4314 §4: what the actor has no right to stays as it is
        mine = rights.flags_allowed(self._given)
        asked = self._flags & mine
        if self._mode is FlagMode.REPLACE:
            return (flags & ~mine) | asked, tuple(sorted(chosen)) if self._given & Rights.WRITE else words
        if self._mode is FlagMode.ADD:
            return flags | asked, tuple(sorted(chosen.union(words))) if chosen else words
        return flags & ~asked, tuple(word for word in words if word not in chosen)


def _changed(
    entries: Sequence[Document], changed: Mapping[int, tuple[int, tuple[int, ...]]], modseq: int
) -> list[Document]:
    return [
        {**entry, "flags": new[0], "kw": new[1], "modseq": modseq}
        if (new := changed.get(entry["uid"])) is not None
        else entry
        for entry in entries
    ]


def _flagged(entries: Iterable[Entry]) -> tuple[Flagged, ...]:
    return tuple([Flagged(*entry[:4]) for entry in entries])


def stored_again(entries: tuple[Entry, ...], known: Any) -> Stored:
    """The outcome of a repeat: what it was, with the messages' state read anew."""
    modified, modseq = known
    return Stored(tuple((first, last) for first, last in modified), modseq, lambda: _flagged(entries))
