"""Sharing: lists changed and shown, and what is shared with an account. For the notes see ``shared_notes``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bson import ObjectId

from storage import rights
from storage.adapters.mongo import acl, queries
from storage.adapters.mongo.accounts import Accounts
from storage.adapters.mongo.database import Database
from storage.adapters.mongo.state import Document, Draft, Item, box_of, is_open, mailbox_of
from storage.limits import SHARED_MAILBOXES
from storage.model import ANYONE, FlagMode, Grant, Mailbox, MailboxRef, Operation, Rights
from storage.port import Reason, Refused


def shown(doc: Mapping[str, Any], ref: MailboxRef) -> tuple[Grant, ...]:
    """``Storage.acl``."""
    box = box_of(doc, ref)
    acl.check(box, rights.reader(ref), Rights.ADMINISTER)
    return acl.grants(box)


def change(
    op: Operation, ref: MailboxRef, identifier: str, given: Rights, mode: FlagMode, negative: bool
) -> Callable[[Draft, Item], bool]:
    """``Storage.set_acl``: whether it changes anything."""

    def commit(draft: Draft, item: Item) -> bool:
        if not is_open(draft.doc):
            raise Refused(Reason.NO_SUCH_MAILBOX)
        box = box_of(draft.doc, ref)
        acl.check(box, rights.writer(op, ref.account), Rights.ADMINISTER)
        if identifier == ref.account:
            raise Refused(Reason.CANNOT, "The owner always has all rights.")
        before = acl.grants(box)
        after = rights.changed(before, identifier, given, mode, negative)
        if after == before:
            return False
        draft.next_modseq()
        draft.change(ref.mailbox, acl=acl.packed(after))
        rights.check_entries(len(before), len(after), acl.count(draft.doc["mailboxes"].values()))
        if len(after) > len(before):
            draft.check_room()
        if has_entry(draft.doc, identifier):
            item.share(identifier, ObjectId())
        return True

    return commit


def has_entry(doc: Mapping[str, Any], identifier: str) -> bool:
    """Do the account's lists have an entry of this identifier?"""
    return is_open(doc) and any(identifier in acl.identifiers(box) for box in doc["mailboxes"].values())


def identifiers(doc: Mapping[str, Any]) -> set[str]:
    """Those that the account's lists have entries of."""
    return {who for box in doc["mailboxes"].values() for who in acl.identifiers(box)}


class Sharing:
    def __init__(self, database: Database, accounts: Accounts) -> None:
        self._database = database
        self._accounts = accounts

    async def shared_with(self, account: str) -> tuple[Mailbox, ...]:
        """``Storage.shared_with``."""
        notes = await self._database.find(queries.shared_with((account, ANYONE), 2 * SHARED_MAILBOXES))
        owners = sorted({one["owner"] for one in notes} - {account})
        found: list[Mailbox] = []
        for start in range(0, len(owners), queries.NAMES):
            for doc in await self._read(owners[start : start + queries.NAMES], notes):
                found += seen_by(doc, account)
                if len(found) >= SHARED_MAILBOXES:
                    return tuple(found[:SHARED_MAILBOXES])
        return tuple(found)

    async def tell(self, account: str) -> None:
        """Let the account, where there is one, hear that something is shared with it or is no more. In a commit of its
        own, after that of the list; who repeats an operation that was broken off between them tells it."""

        def change(draft: Draft) -> None:
            if is_open(draft.doc):
                draft.next_modseq()

        if await self._accounts.find(account) is not None:
            await self._accounts.change(account, change)

    async def forget_owner(self, account: str) -> None:
        """Nothing of this account is shared any more."""
        await self._database.delete(queries.shared_by(account))

    async def forget_grantee(self, account: str) -> None:
        """Nothing is shared with this account any more."""

        def change(draft: Draft) -> None:
            for mailbox, box in list(draft.doc["mailboxes"].items()):
                if account in acl.identifiers(box):
                    left = [grant for grant in acl.grants(box) if grant.identifier != account]
                    draft.change(mailbox, acl=acl.packed(left))

        while notes := await self._database.find(queries.shared_with((account,), queries.NAMES)):
            for one in notes:
                doc = await self._accounts.find(one["owner"])
                if doc is not None and has_entry(doc, account):
                    await self._accounts.change(one["owner"], change)
                await self._drop(one)

    async def _read(self, owners: Sequence[str], notes: Sequence[Document]) -> list[Document]:
        """The accounts, in their order; notes that turn out to be of nothing go."""
        docs: dict[str, Document] = {}
        for doc in await self._database.find(queries.accounts(owners)):
            known = self._accounts.known(doc["_id"])
            if known is not None and known["rev"] > doc["rev"]:
                # A new primary may for a moment answer from before what was told already.
                doc = await self._accounts.find(doc["_id"]) or doc
            docs[doc["_id"]] = await self._accounts.settle(doc)
        for one in notes:
            if one["owner"] in owners and not (one["owner"] in docs and has_entry(docs[one["owner"]], one["grantee"])):
                await self._drop(one)
        return [docs[owner] for owner in owners if owner in docs]

    async def _drop(self, noted: Document) -> None:
        await self._database.delete(queries.shared_noted(noted["_id"], noted["grantee"], noted["token"]))


def seen_by(doc: Mapping[str, Any], account: str) -> list[Mailbox]:
    """The mailboxes of an account that another may look up, by name."""
    if not is_open(doc):
        return []
    found = [
        mailbox_of(doc["_id"], mailbox, box, account)
        for mailbox, box in doc["mailboxes"].items()
        if box.get("acl") and acl.have(box, account) & Rights.LOOKUP
    ]
    return sorted(found, key=lambda mailbox: mailbox.name)
