"""Mailboxes: listed, made, deleted, renamed, subscribed to, opened. Changes of the account document alone, but that
renaming INBOX moves its messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

from mail.flags import ALL, SEEN
from storage import names, rights
from storage.adapters.mongo import acl, ids, metadata, queries
from storage.adapters.mongo.accounts import Accounts, Plain, Work
from storage.adapters.mongo.database import Database
from storage.adapters.mongo.entries import READ_SECONDS, Entries
from storage.adapters.mongo.moves import Chosen, Moves, Removal
from storage.adapters.mongo.state import OPEN, Count, Document, Draft, Item, box_named, box_of, mailbox_of, new_account
from storage.limits import SUBSCRIPTIONS_PER_ACCOUNT
from storage.model import ALL_UIDS, INBOX, Mailbox, MailboxList, MailboxRef, Opened, Ranges, Rights
from storage.port import Reason, Refused, Unavailable

_UNSEEN = tuple(flags for flags in range(ALL + 1) if not flags & SEEN)


def every(doc: Mapping[str, Any]) -> MailboxList:
    """All mailboxes by name with INBOX first, and the names subscribed to."""
    found = [mailbox_of(doc["_id"], mailbox, box) for mailbox, box in doc["mailboxes"].items()]
    found.sort(key=lambda mailbox: (mailbox.name != INBOX, mailbox.name))
    return MailboxList(tuple(found), frozenset(doc["subscriptions"]), doc.get("annotated", 0))


def by_name(doc: Mapping[str, Any], name: str, actor: str | None = None) -> Mailbox:
    """actor: another than the owner, for whom it is looked up. NO_SUCH_MAILBOX."""
    mailbox, box = box_named(doc, names.searchable(name))
    acl.visible(box, actor)
    return mailbox_of(doc["_id"], mailbox, box, actor)


def first_state(account: str, now: float) -> Document:
    """A new account with its mailboxes."""
    draft = Draft(new_account(account, OPEN))
    modseq = draft.next_modseq()
    for name, special_use in names.FIRST_MAILBOXES:
        draft.new_mailbox(name, special_use, modseq, now)
    draft.put(subscriptions=[name for name, _ in names.FIRST_MAILBOXES])
    return draft.doc


def create(
    account: str, name: str, special_use: str | None, now: Callable[[], float], actor: str | None = None
) -> Work[Mailbox]:
    """actor: another than the owner, who acts."""
    # RFC 3501 §6.3.3
    name = names.checked(name)

    def change(draft: Draft, item: Item) -> Mailbox:
        draft.check_open()
        if actor is not None:
            _check_above(draft.doc, name, actor)
            if special_use is not None:
                raise Refused(Reason.NO_PERMISSION, "The owner alone gives a mailbox its special use.")
        if name in draft.names():
            raise Refused(Reason.ALREADY_EXISTS)
        if special_use is not None and any(box["use"] == special_use for box in draft.doc["mailboxes"].values()):
            # RFC 6154 §3: at most one mailbox has a use.
            raise Refused(Reason.CANNOT, f"Another mailbox has the use {special_use}.")
        draft.make(draft.superiors(name), None, now())
        mailbox, _ = draft.make([name], special_use, now())
        return mailbox_of(account, mailbox, draft.doc["mailboxes"][mailbox], actor)

    return Plain(change)


def _check_above(doc: Mapping[str, Any], name: str, actor: str) -> None:
    """Refused for another than the owner unless he may make mailboxes under the nearest one above the name."""
    # RFC 4314 §4
    boxes = {box["name"]: box for box in doc["mailboxes"].values()}
    above = next((boxes[superior] for superior in reversed(names.superiors(name)) if superior in boxes), None)
    # Whether there is one above that he may not know of is not told.
    if above is None or not acl.have(above, actor) & Rights.CREATE:
        raise Refused(Reason.NO_PERMISSION)


def delete(name: str, now: Callable[[], float], actor: str | None = None) -> Work[None]:
    """Take the name away at once; the sweep carries the messages off."""
    # RFC 3501 §6.3.4

    def change(draft: Draft, item: Item) -> None:
        draft.check_open()
        mailbox, box = box_named(draft.doc, names.searchable(name))
        acl.check(box, actor, Rights.DELETE_MAILBOX)
        if box["name"] == INBOX:
            raise Refused(Reason.CANNOT, "INBOX cannot be deleted.")
        draft.next_modseq(size=-box["size"], messages=-box["messages"])
        draft.drop(mailbox)
        item.remove(mailbox, now())

    return Plain(change)


def subscribe(name: str, on: bool) -> Work[None]:
    # RFC 3501 §6.3.6, §6.3.7
    def change(draft: Draft, item: Item) -> None:
        draft.check_open()
        have: list[str] = draft.doc["subscriptions"]
        if not on:
            asked = names.searchable(name)
            if asked in have:
                draft.next_modseq()
                draft.put(subscriptions=[one for one in have if one != asked])
            return
        asked = names.checked(name)
        if asked in have:
            return
        if len(have) >= SUBSCRIPTIONS_PER_ACCOUNT:
            raise Refused(Reason.LIMIT, f"An account subscribes to at most {SUBSCRIPTIONS_PER_ACCOUNT} names.")
        draft.next_modseq()
        draft.put(subscriptions=[*have, asked])
        draft.check_room()

    return Plain(change)


class Rename:
    """A mailbox and all under it get other names. Of INBOX a new mailbox is made, and the messages move there."""

    # RFC 3501 §6.3.5

    def __init__(self, moves: Moves, op: str, account: str, name: str, new_name: str, actor: str | None = None) -> None:
        """actor: another than the owner, who acts."""
        self._actor = actor
        self._old, self._new = names.searchable(name), names.checked(new_name)
        self._moves = moves
        self._op = op
        self._account = account
        self._removal: Removal | None = None
        self._made = ids.mailbox()
        self._copied: metadata.Copied | None = None

    async def prepare(self, base: Document) -> None:
        if self._actor is not None:
            self._check(base, self._actor)
        if self._old == INBOX:
            inbox = box_named(base, INBOX)[0]
            if any(box["name"] == self._new for box in base["mailboxes"].values()):
                raise Refused(Reason.ALREADY_EXISTS)
            ref = MailboxRef(self._account, inbox)
            self._removal = await self._moves.removal(base, ref, Chosen(ALL_UIDS), copies=True, op=self._op)
            # RFC 5464 §4.1
            self._copied = metadata.Copied(self._moves.database, self._account, inbox, self._made)
            await self._copied.prepare(base)

    def stands(self, base: Document) -> bool:
        removal, copied = self._removal, self._copied
        return (removal is None or removal.stands(base)) and (copied is None or copied.stands(base))

    def commit(self, draft: Draft, item: Item) -> None:
        draft.check_open()
        if self._actor is not None:
            self._check(draft.doc, self._actor)
        taken = draft.names()
        moved = [found for found in taken if found == self._old or names.is_under(found, self._old)]
        if not moved:
            raise Refused(Reason.NO_SUCH_MAILBOX)
        if self._new in taken:
            raise Refused(Reason.ALREADY_EXISTS)
        if self._removal is not None and self._copied is not None:
            self._empty_inbox(draft, item, self._removal, self._copied)
            return
        if names.is_under(self._new, self._old):
            raise Refused(Reason.CANNOT, "A mailbox cannot be moved under itself.")
        renamed = {found: names.checked(self._new + found[len(self._old) :]) for found in moved}
        # A name that moves away itself is free: "a/a" may become "a" and "a/a/a" then "a/a".
        if not taken.difference(moved).isdisjoint(renamed.values()):
            raise Refused(Reason.ALREADY_EXISTS)
        draft.make(draft.superiors(self._new), None, self._moves.database.now())
        draft.next_modseq()
        for mailbox, box in list(draft.doc["mailboxes"].items()):
            if box["name"] in renamed:
                draft.change(mailbox, name=renamed[box["name"]])
        draft.check_room()

    def _check(self, doc: Mapping[str, Any], actor: str) -> None:
        # RFC 4314 §4
        given = acl.check(box_named(doc, self._old)[1], actor, Rights.DELETE_MAILBOX)
        if self._old == INBOX:
            raise rights.lacking(given)
        _check_above(doc, self._new, actor)

    def _empty_inbox(self, draft: Draft, item: Item, removal: Removal, copied: metadata.Copied) -> None:
        made, now = [*draft.superiors(self._new), self._new], self._moves.database.now()
        mailbox, modseq = draft.make(made, None, now, self._made)
        copied.commit(draft, item, modseq)
        if removal.entries:
            first = draft.enter(mailbox, modseq, Count(removal.entries))
            item.enter(mailbox, modseq, first, removal.copies)
            removal.take_away(draft, item, modseq, now)
            draft.count_saved(len(removal.entries), now)


class Opening:
    """What SELECT shows, and takes."""

    def __init__(self, database: Database, accounts: Accounts, entries: Entries) -> None:
        self._database = database
        self._accounts = accounts
        self._entries = entries

    @staticmethod
    def take(ref: MailboxRef, read_write: bool) -> Work[Ranges]:
        """Take the recent messages, where it is read-write."""

        def change(draft: Draft, item: Item) -> Ranges:
            if draft.doc["state"] != OPEN:
                raise Refused(Reason.NO_SUCH_MAILBOX)
            acl.check_reader(box_of(draft.doc, ref), ref)
            return draft.take_recent(ref.mailbox) if read_write else ()

        return Plain(change)

    async def look(self, ref: MailboxRef) -> Opened:
        """What is there, with the recent messages not yet taken. NO_SUCH_MAILBOX."""
        deadline = monotonic() + READ_SECONDS
        while True:
            doc, box = await self._accounts.place(ref)
            present = await self._entries.all_uids(doc, ref)
            first_unseen: int | None = None
            if box["unseen"]:
                first_unseen = await self._first_unseen(ref, box)
                if await self._changed(ref, doc["modseq"]):
                    if monotonic() > deadline:
                        raise Unavailable("the mailbox changes faster than it can be read")
                    continue
            recent = tuple(
                (max(first, box["recent_from"]), last) for first, last in present if last >= box["recent_from"]
            )
            # What words the owner uses elsewhere is not for others.
            words = tuple(sorted(doc["keywords"])) if rights.reader(ref) is None else ()
            seen = mailbox_of(ref.account, ref.mailbox, box, rights.reader(ref))
            return Opened(seen, present, recent, first_unseen, words)

    async def _first_unseen(self, ref: MailboxRef, box: Mapping[str, Any]) -> int | None:
        uids = {"$gte": 1, "$lt": box["uidnext"]}
        found = await self._database.first(queries.unseen(ref.account, ref.mailbox, uids, _UNSEEN))
        return None if found is None else found["uid"]

    async def _changed(self, ref: MailboxRef, modseq: int) -> bool:
        """Were flags changed or messages expunged after the modseq?"""
        _, box = await self._accounts.place(ref)
        return bool(box["touched"] > modseq)
