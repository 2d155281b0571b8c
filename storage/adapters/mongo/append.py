"""New messages: what is inserted, unseen, before they are committed, and APPEND."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bson import ObjectId

from mail.flags import ALL
from storage import rights
from storage.adapters.mongo import acl, ids
from storage.adapters.mongo.blobs import Blobs, PreparedBlob
from storage.adapters.mongo.database import Database
from storage.adapters.mongo.moves import unseen_uid
from storage.adapters.mongo.release import UNSEEN_AGE, Release
from storage.adapters.mongo.state import Count, Document, Draft, Item, box_of, is_open
from storage.model import ALL_RIGHTS, Appended, MailboxRef, NewMessage, Rights
from storage.port import Reason, Refused, Unavailable

INSERT_SECONDS: Final = UNSEEN_AGE / 2
"""Seconds within which all that one change needs is inserted."""


@dataclass(frozen=True, slots=True)
class Unseen:
    """One message of one account, as it is inserted before its commit: parents last, so that whatever is left of a
    writer that dies is found from the entry on."""

    entry: Document
    email: Document

    @property
    def id(self) -> ObjectId:
        found: ObjectId = self.entry["_id"]
        return found


def unseen(
    account: str,
    blob: PreparedBlob,
    op: str,
    now: float,
    *,
    flags: int,
    date: int,
    prefix: bytes = b"",
    words: Sequence[int] = (),
) -> Unseen:
    """The documents of one message."""
    email, size = ids.email(), blob.size + len(prefix)
    entry = {
        "_id": ObjectId(),
        "account": account,
        "uid": unseen_uid(),
        "modseq": 0,
        "flags": flags & ALL,
        "email": email,
        "size": size,
        "date": date,
        "saved": int(now),
        "op": op,
        "pending": now,
    }
    if words:
        entry["kw"] = list(words)
    kept: Document = {"_id": email, "account": account, "blob": blob.id, "size": size, "saved": now}
    if prefix:
        kept["prefix"] = prefix
    return Unseen(entry, kept)


async def insert(
    database: Database,
    blobs: Blobs,
    messages: Sequence[Unseen],
    spool: Sequence[Document],
    bodies: Sequence[PreparedBlob],
) -> None:
    """Insert all of them, unseen. Unavailable when it took so long that the sweep may have taken the first of them for
    left behind before the last was inserted: then they go again."""
    begun = database.now()
    entries = [message.entry for message in messages]
    if messages:
        await database.insert("entry", entries)
        await database.insert("email", [message.email for message in messages])
    if spool:
        await database.insert("spool", spool)
    await blobs.insert(bodies)
    if database.now() - begun > INSERT_SECONDS:
        await Release(database).abandoned(entries, spool, bodies)
        raise Unavailable("the database was too slow")


class Append:
    """All of them or none."""

    # RFC 3501 §6.3.11, RFC 3502

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        op: str,
        ref: MailboxRef,
        messages: Sequence[NewMessage],
        bodies: Sequence[PreparedBlob],
        quota: int | None,
        actor: str | None = None,
        name: str | None = None,
    ) -> None:
        """actor: another than the owner, who acts. name: of the mailbox, if it is to have that still."""
        self._actor = actor
        self._name = name
        self._given = ALL_RIGHTS
        self._database = database
        self._blobs = blobs
        self._op = op
        self._ref = ref
        self._messages = messages
        self._bodies = bodies
        self._quota = quota
        self._unseen: list[Unseen] = []
        self._words: list[str] = []

    async def prepare(self, base: Document) -> None:
        # What is refused anyway is not inserted first.
        draft = Draft(base)
        self._check(draft)
        self._words = draft.doc["keywords"]
        now = self._database.now()
        self._bodies = [body.renewed() for body in self._bodies]
        self._unseen = [
            unseen(
                self._ref.account,
                body,
                self._op,
                now,
                flags=message.flags & rights.flags_allowed(self._given),
                date=int(now) if message.internaldate is None else message.internaldate,
                words=draft.keywords(self._keywords(message), make=True),
            )
            for message, body in zip(self._messages, self._bodies, strict=True)
        ]
        self._words = draft.doc["keywords"]
        await insert(self._database, self._blobs, self._unseen, (), self._bodies)
        staged = [body.staged for body in self._bodies if body.staged is not None]
        for refusal in await self._blobs.name(list({blob.id: blob for blob in staged}.values())):
            if refusal is not None:
                raise refusal

    def stands(self, base: Document) -> bool:
        # The entries hold numbers of keywords: others may have been made meanwhile.
        have = base["keywords"]
        words = any(self._keywords(message) for message in self._messages)
        if self._actor is not None and acl.have(box_of(base, self._ref), self._actor) != self._given:
            return False
        return self._words[: len(have)] == have or not words

    def commit(self, draft: Draft, item: Item) -> Appended:
        box = self._check(draft)
        for message in self._messages:
            draft.keywords(self._keywords(message), make=True)
        count = Count([message.entry for message in self._unseen])
        modseq = draft.next_modseq(size=count.size, messages=count.messages)
        first = draft.enter(self._ref.mailbox, modseq, count)
        item.enter(self._ref.mailbox, modseq, first, [message.id for message in self._unseen])
        draft.count_saved(len(self._unseen), self._database.now())
        return Appended(box["uidvalidity"], tuple(range(first, first + len(self._unseen))), modseq)

    def _keywords(self, message: NewMessage) -> tuple[str, ...]:
        # RFC 4314 §4: flags without the right to them are left out
        return message.keywords if self._given & Rights.WRITE else ()

    def _check(self, draft: Draft) -> Mapping[str, Any]:
        if not is_open(draft.doc):
            raise Refused(Reason.NO_SUCH_MAILBOX)
        box = box_of(draft.doc, self._ref)
        if self._name not in (None, box["name"]):
            raise Refused(Reason.NO_SUCH_MAILBOX)
        self._given = acl.check(box, self._actor, Rights.INSERT)
        draft.check_quota(sum(body.size for body in self._bodies), self._quota)
        return box
