"""COPY from one account to another: emails of its own for the other, of the same bodies, in a commit of that account.

A body that is named again must not be on its way out: its new emails are inserted first, then it is marked as named
(see ``blobs``), and a copy whose body had left by then is not made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bson import ObjectId

from storage import names, rights
from storage.adapters.mongo import acl, ids, queries
from storage.adapters.mongo.append import Unseen, insert
from storage.adapters.mongo.blobs import Blobs
from storage.adapters.mongo.database import Change, Database
from storage.adapters.mongo.entries import Entries
from storage.adapters.mongo.moves import Chosen, unseen_uid
from storage.adapters.mongo.state import Count, Document, Draft, Item, box_named, box_of, is_open, names_of, ranges_of
from storage.model import Copied, MailboxRef, Operation, Rights
from storage.port import Reason, Refused, Unavailable


class CarryOver:
    """All of them or none. needed: what who is not the owner of the source must be allowed to do there. leave: they are
    to be gone from the source after it, and whoever finds this operation ended sees to that."""

    # RFC 3501 §6.4.7

    def __init__(
        self,
        database: Database,
        entries: Entries,
        blobs: Blobs,
        op: Operation,
        ref: MailboxRef,
        chosen: Chosen,
        to: str,
        target: str,
        quota: int | None,
        needed: Rights,
        *,
        leave: bool,
    ) -> None:
        self._database = database
        self._entries = entries
        self._blobs = blobs
        self._op = op.id
        self._actor = op.actor
        self._from_actor = rights.writer(op, ref.account)
        self._to_actor = rights.writer(op, to)
        self._ref = replace(ref, actor=self._from_actor)
        self._chosen = chosen
        self._to = to
        self._target = names.searchable(target)
        self._quota = quota
        self._needed = needed
        self._leave = leave
        self._source: list[Document] = []
        self._unseen: list[Unseen] = []
        self._words: list[str] = []
        self._used: list[str] = []
        self._given = Rights.NONE

    async def prepare(self, base: Document) -> None:
        draft = Draft(base)
        _, _, self._given = self._place(draft.doc)
        doc, self._source = await self._entries.page(self._ref, self._chosen.uids)
        acl.check(box_of(doc, self._ref), self._from_actor, self._needed)
        self._chosen.check(self._source)
        draft.check_quota(sum(entry["size"] for entry in self._source), self._quota)
        self._unseen = await self._copies(doc, draft)
        self._words = draft.doc["keywords"]
        await insert(self._database, self._blobs, self._unseen, (), ())
        held = {one.email["blob"] for one in self._unseen}
        if not await self._blobs.name_again(list(held)):
            # It was expunged a grace ago, or its mailbox purged, and it is being swept just now.
            raise Unavailable("a message left while it was copied")
        if self._leave:
            noted = {"id": ObjectId(), "account": self._ref.account, "mailbox": self._ref.mailbox, "actor": self._actor}
            update = {"$set": {"undone": self._database.now(), "leave": noted}}
            await self._database.update([Change(queries.operation(self._op), update)])

    async def _copies(self, doc: Mapping[str, Any], draft: Draft) -> list[Unseen]:
        now = self._database.now()
        wanted = list(dict.fromkeys(entry["email"] for entry in self._source))
        had: dict[str, Document] = {}
        for start in range(0, len(wanted), queries.NAMES):
            some = wanted[start : start + queries.NAMES]
            had.update({one["_id"]: one for one in await self._database.find(queries.emails(self._ref.account, some))})
        if len(had) != len(wanted):
            raise Unavailable("a message left while it was copied")
        made = {
            id: {"_id": ids.email(), "account": self._to, "blob": one["blob"], "size": one["size"], "saved": now}
            | ({"prefix": one["prefix"]} if "prefix" in one else {})
            for id, one in had.items()
        }
        allowed = rights.flags_allowed(self._given)
        self._used = []
        found: list[Unseen] = []
        for entry in self._source:
            email = made[entry["email"]]
            # RFC 4314 §4: flags without the right to them are left out
            words = names_of(doc, entry.get("kw", ())) if self._given & Rights.WRITE else ()
            self._used += words
            # RFC 8514 §2: the save date is that of the copy.
            copy = {
                "_id": ObjectId(),
                "account": self._to,
                "uid": unseen_uid(),
                "modseq": 0,
                "flags": entry["flags"] & allowed,
                "email": email["_id"],
                "size": entry["size"],
                "date": entry["date"],
                "saved": int(now),
                "op": self._op,
                "pending": now,
            }
            if words:
                copy["kw"] = draft.keywords(words, make=True)
            found.append(Unseen(copy, email))
        return found

    def stands(self, base: Document) -> bool:
        # The entries hold numbers of keywords: others may have been made meanwhile.
        have = base["keywords"]
        return self._place(base)[2] == self._given and (self._words[: len(have)] == have or not self._used)

    def commit(self, draft: Draft, item: Item) -> Copied:
        mailbox, box, _ = self._place(draft.doc)
        if not self._unseen:
            return Copied(box["uidvalidity"], (), (), box["modseq"])
        draft.keywords(self._used, make=True)
        count = Count([one.entry for one in self._unseen])
        draft.check_quota(count.size, self._quota)
        modseq = draft.next_modseq(size=count.size, messages=count.messages)
        first = draft.enter(mailbox, modseq, count)
        item.enter(mailbox, modseq, first, [one.id for one in self._unseen])
        draft.count_saved(len(self._unseen), self._database.now())
        target = ((first, first + len(self._unseen) - 1),)
        return Copied(box["uidvalidity"], ranges_of(self._source), target, modseq)

    def _place(self, doc: Mapping[str, Any]) -> tuple[str, Document, Rights]:
        """The target, and what may be done to it."""
        if not is_open(doc):
            raise Refused(Reason.NO_SUCH_MAILBOX)
        mailbox, box = box_named(doc, self._target)
        return mailbox, box, acl.check(box, self._to_actor, Rights.INSERT)
