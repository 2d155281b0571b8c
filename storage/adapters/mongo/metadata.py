"""Annotations of mailboxes and of accounts themselves: read, set, and removed with what they belong to.

One document holds one set (``storage.metadata``): at most 256 KiB. It is there, empty and with modseq 0, before the
account's commit, whose journal item has the set's new state: whoever carries it out writes that over any older one. A
document whose mailbox goes is deleted with it, and by no other reason, so that no set comes back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic

from storage import metadata, rights
from storage.adapters.mongo import acl, queries
from storage.adapters.mongo.accounts import Accounts
from storage.adapters.mongo.database import Database
from storage.adapters.mongo.entries import READ_SECONDS
from storage.adapters.mongo.state import Document, Draft, Item, box_of, is_open
from storage.limits import ANNOTATED_AT_ONCE, ANNOTATED_OCTETS_PER_ACCOUNT, ANNOTATIONS_PER_ACCOUNT
from storage.metadata import Kept, Set
from storage.model import Annotation, Depth, MailboxRef, Operation
from storage.port import Reason, Refused, Unavailable


def set_id(account: str, mailbox: str, owner: str) -> str:
    """The id of the document with what the owner ("" for shared ones) has beside the mailbox ("": the account)."""
    return f"{account}/{mailbox}/{owner}"


def empty(account: str, mailbox: str, owner: str) -> Document:
    """A set before it has anything."""
    of = {"owner": owner} if owner else {}
    return (
        {"_id": set_id(account, mailbox, owner), "account": account, "mailbox": mailbox, "modseq": 0} | of | state({})
    )


def state(entries: Mapping[str, Kept]) -> Document:
    """What a document says of its entries, in their order."""
    names = sorted(entries)
    return {
        "octets": metadata.octets(entries),
        "names": names,
        "modseqs": [entries[name].modseq for name in names],
        "values": [entries[name].value for name in names],
    }


def entries_of(document: Mapping[str, object]) -> Set:
    """What ``state`` made a document of."""
    columns = [document[name] for name in ("names", "values", "modseqs")]
    return {name: Kept(bytes(value), modseq) for name, value, modseq in zip(*columns, strict=True)}


class Annotations:
    """The calls of the port, for the adapter."""

    def __init__(self, database: Database, accounts: Accounts) -> None:
        self._database = database
        self._accounts = accounts

    async def read(
        self, refs: Sequence[MailboxRef], wanted: Sequence[str], depth: Depth, values: bool
    ) -> tuple[Annotation, ...]:
        """``Storage.annotations``."""
        if values and len(refs) > ANNOTATED_AT_ONCE:
            raise Refused(Reason.LIMIT, f"Annotations are read of {ANNOTATED_AT_ONCE} mailboxes at once.")
        names = [metadata.name(entry) for entry in wanted]
        if not refs:
            return ()
        account = refs[0].account
        deadline = monotonic() + READ_SECONDS
        while True:
            doc = await self._accounts.find(account)
            if doc is None or not is_open(doc):
                return ()
            readable = [ref for ref in refs if _may_read(doc, ref)]
            ids = [set_id(account, ref.mailbox, who) for ref in readable for who in (ref.actor or account, "")]
            sets = await self._sets(account, ids, values)
            # A change that was committed meanwhile may be in one of its two sets and not yet in the other.
            if all(one["modseq"] <= doc.get("annotated", 0) for one in sets.values()):
                break
            if monotonic() > deadline:
                raise Unavailable("the annotations change faster than they can be read")
        found: list[Annotation] = []
        for start in range(0, len(ids), 2):
            for one in [sets[id] for id in ids[start : start + 2] if id in sets]:
                contents = one["values"] if values else [None] * len(one["names"])
                found += [
                    Annotation(one["mailbox"], name, modseq, None if value is None else bytes(value))
                    for name, modseq, value in zip(one["names"], one["modseqs"], contents, strict=True)
                    if metadata.is_meant(name, names, depth)
                ]
        return tuple(found)

    async def _sets(self, account: str, ids: Sequence[str], values: bool) -> dict[str, Document]:
        found: dict[str, Document] = {}
        for start in range(0, len(ids), queries.NAMES):
            shape = queries.annotation_sets(account, ids[start : start + queries.NAMES], values=values)
            found.update({one["_id"]: one for one in await self._database.find(shape)})
        return found

    def change(self, op: Operation, ref: MailboxRef, values: Mapping[str, bytes | None]) -> Change:
        """``Storage.set_annotations``. Refused for values that cannot be."""
        return Change(self._database, op, ref, metadata.checked(values, op.actor, account_itself=not ref.mailbox))


class Change:
    """The sets that the values belong to get a new state."""

    def __init__(self, database: Database, op: Operation, ref: MailboxRef, values: Mapping[str, bytes | None]) -> None:
        self._database = database
        self._actor = rights.writer(op, ref.account)
        self._ref = ref
        self._values = values
        self._by_owner = metadata.by_owner(values, op.actor)
        self._at = 0
        self._sets: dict[str, Set] = {}
        self._before = (0, 0)

    async def prepare(self, base: Document) -> None:
        self._check(base)
        account, mailbox = self._ref.account, self._ref.mailbox
        ids = {set_id(account, mailbox, owner): owner for owner in self._by_owner}
        shape = queries.annotation_sets(account, list(ids), values=True)
        found = {one["_id"]: one for one in await self._database.find(shape)}
        missing = [empty(account, mailbox, owner) for id, owner in ids.items() if id not in found]
        if missing:
            await self._database.insert("annotation", missing)
        self._sets = {owner: entries_of(found[id]) if id in found else {} for id, owner in ids.items()}
        self._before = await _counted(self._database, account)
        self._at = base.get("annotated", 0)

    def stands(self, base: Document) -> bool:
        return bool(base.get("annotated", 0) == self._at)

    def commit(self, draft: Draft, item: Item) -> int:
        self._check(draft.doc)
        changes = {owner: metadata.differing(self._sets[owner], some) for owner, some in self._by_owner.items()}
        if not any(changes.values()):
            for owner, some in changes.items():
                metadata.changed(self._sets[owner], some, 0)
            modseq: int = draft.doc["modseq"]
            return modseq
        modseq = draft.next_modseq()
        count, octets = self._before
        for owner, some in changes.items():
            before = self._sets[owner]
            after = metadata.changed(before, some, modseq)
            count += len(after) - len(before)
            octets += metadata.octets(after) - metadata.octets(before)
            if some:
                item.annotate(set_id(self._ref.account, self._ref.mailbox, owner), modseq, state(after))
        _check_room(self._before, (count, octets))
        draft.put(annotated=modseq)
        if self._ref.mailbox:
            # RFC 7162 §3.2
            draft.change(self._ref.mailbox, modseq=modseq)
        return modseq

    def _check(self, doc: Document) -> None:
        if self._ref.mailbox:
            if not is_open(doc):
                raise Refused(Reason.NO_SUCH_MAILBOX)
            metadata.check_write(acl.have(box_of(doc, self._ref), self._actor), self._values)
        elif self._actor is not None:
            raise Refused(Reason.NO_PERMISSION)
        elif not is_open(doc):
            raise Refused(Reason.NO_SUCH_ACCOUNT)


class Copied:
    """The sets of a mailbox for another one of the account, which the same commit makes: what is shared, and what is
    the account's own. target: the other's id. Where that commit is not made, what was prepared for it stays, empty,
    until the account's purge."""

    def __init__(self, database: Database, account: str, source: str, target: str) -> None:
        self._database = database
        self._account = account
        self._source = source
        self._target = target
        self._at = 0
        self._before = (0, 0)
        self._sets: dict[str, Set] = {}

    async def prepare(self, base: Document) -> None:
        """Read what there is to copy."""
        self._at = base.get("annotated", 0)
        if not self._at:
            return
        ids = {set_id(self._account, self._source, owner): owner for owner in ("", self._account)}
        found = await self._database.find(queries.annotation_sets(self._account, list(ids), values=True))
        self._sets = {ids[one["_id"]]: entries_of(one) for one in found if one["names"]}
        if self._sets:
            await self._database.insert(
                "annotation", [empty(self._account, self._target, owner) for owner in self._sets]
            )
            self._before = await _counted(self._database, self._account)

    def stands(self, base: Document) -> bool:
        """Has nothing been annotated since?"""
        return bool(base.get("annotated", 0) == self._at)

    def commit(self, draft: Draft, item: Item, modseq: int) -> None:
        """With the commit that makes the target at ``modseq``. LIMIT."""
        if not self._sets:
            return
        count, octets = self._before
        for owner, have in self._sets.items():
            copy = {entry: Kept(kept.value, modseq) for entry, kept in have.items()}
            count += len(copy)
            octets += metadata.octets(copy)
            item.annotate(set_id(self._account, self._target, owner), modseq, state(copy))
        _check_room(self._before, (count, octets))
        draft.put(annotated=modseq)


async def _counted(database: Database, account: str) -> tuple[int, int]:
    """How many the account has, and their octets."""
    sizes = await database.find(queries.annotation_sizes(account))
    return sum(len(one["names"]) for one in sizes), sum(one["octets"] for one in sizes)


def _check_room(before: tuple[int, int], after: tuple[int, int]) -> None:
    """LIMIT where there are too many, and were not ``before``."""
    limits = (ANNOTATIONS_PER_ACCOUNT, ANNOTATED_OCTETS_PER_ACCOUNT)
    if any(now > max(was, limit) for was, now, limit in zip(before, after, limits, strict=True)):
        raise Refused(Reason.LIMIT, "The account has too many annotations.")


def _may_read(doc: Document, ref: MailboxRef) -> bool:
    if ref.account != doc["_id"]:
        return False
    if not ref.mailbox:
        return rights.reader(ref) is None
    box = doc["mailboxes"].get(ref.mailbox)
    return box is not None and metadata.may_read(acl.have(box, rights.reader(ref)))


async def forget_mailbox(database: Database, account: str, mailbox: str) -> int:
    """A mailbox has been deleted: how many sets it had."""
    return await database.delete(queries.annotations_of_mailbox(account, mailbox))


async def forget_account(database: Database, account: str) -> int:
    """An account is purged: how many sets its mailboxes and itself had, and it on mailboxes of others."""
    mine = await database.delete(queries.annotations_of_account(account))
    return mine + await database.delete(queries.annotations_of_owner(account))
