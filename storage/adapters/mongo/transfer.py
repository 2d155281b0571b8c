"""``storage.transfer.Transfer`` over MongoDB.

Without transactions, what makes a batch safe to take twice is that every document has its ``_id`` from the record: the
second time it is there already. Bodies come before what names them, each body's own document after its chunks, and the
place after all of the batch. ``transfer`` {_id: "marker", source, place, highest} is the mark of an unfinished move;
{_id: "highest", M, E, B, S} stays for good: the highest numbers of ids that came from a store that numbers its rows.

Of what a message says for searches nothing is moved: the upkeep reads it out of the bodies again, and until it has, a
search reads the bodies themselves.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterable, Collection, Mapping, Sequence
from typing import Any, Final

from bson import ObjectId

from runtime.clock import Clock
from runtime.mongo import Document, Mongo, MongoUnavailable, ensure_indexes, open_mongo, told_unavailable
from storage.adapters.mongo import acl, events, metadata, queries, shared_notes, spool, spool_queries, texts
from storage.adapters.mongo.adapter import MongoStorage
from storage.adapters.mongo.blobs import RAW, chunk_id, count
from storage.adapters.mongo.database import Change, OnStep
from storage.adapters.mongo.due import DueDates, earliest
from storage.adapters.mongo.indexes import INDEXES
from storage.adapters.mongo.state import OPEN, PURGING, is_open, new_account
from storage.adapters.mongo.uidsets import pack, unpack
from storage.ingest import Forms
from storage.limits import CHUNK
from storage.metadata import Kept
from storage.model import INLINE_MAX, Event, Grant, Rights
from storage.port import Unavailable
from storage.transfer import (
    AccountRecord,
    AnnotationsRecord,
    Batch,
    BlobRecord,
    EmailRecord,
    EntryRecord,
    EventsRecord,
    InMailbox,
    MailboxRecord,
    Marker,
    SpoolRecord,
    TransferRefused,
    VanishedRecord,
)

_LETTERS: Final = ("M", "E", "B", "S")
_APART: Final = ("id", "name", "special_use", "acl")
"""Fields of a mailbox's record that are kept under another name, or not always."""
_CHANGES: Final = 200
"""Documents of history that are read at once: each may hold thousands of ranges."""
_HEADS: Final = 64
"""Bodies that are looked up at once, each with kilobytes of what was read out of it."""
_FORMS: Final = tuple(name for name in Forms._fields if name != "message_id")
"""What of ``Forms`` is kept."""


class MongoTransfer:
    """mongo: closed with this. on_step: for tests, see ``database.OnStep``."""

    def __init__(self, mongo: Mongo, clock: Clock | None = None, on_step: OnStep | None = None) -> None:
        self._mongo = mongo
        self._storage = MongoStorage(mongo, clock=clock, on_step=on_step)
        self._database = self._storage.database

    async def open(self) -> None:
        """Make the indexes that are not there, and finish what services that died have left half done. Unavailable."""
        await self._make_indexes()
        await self._storage.recover()

    async def _make_indexes(self) -> None:
        try:
            await ensure_indexes(self._mongo.database, INDEXES)
        except MongoUnavailable as error:
            raise Unavailable(str(error)) from error

    async def close(self) -> None:
        await self._storage.close()

    # -- giving

    async def highest(self) -> Mapping[str, int]:
        found = await self._database.first(queries.transfer(queries.HIGHEST)) or {}
        return {letter: found.get(letter, 0) for letter in _LETTERS}

    async def accounts(self, after: str, limit: int) -> tuple[AccountRecord, ...]:
        found = await self._database.find(queries.whole_accounts_after(after, limit))
        return tuple([_account(await self._storage.accounts.settle(doc)) for doc in found])

    async def annotations(self, account: str, after: tuple[str, str], limit: int) -> tuple[AnnotationsRecord, ...]:
        there = await self._database.first(queries.account(account)) or {}
        keys = sorted(
            (one["mailbox"], one.get("owner", ""))
            for one in await self._database.find(queries.annotations_kept(account))
            if one["names"] and (not one["mailbox"] or one["mailbox"] in there.get("mailboxes", {}))
        )
        wanted = [key for key in keys if key > after][:limit]
        names = {key: metadata.set_id(account, *key) for key in wanted}
        shape = queries.annotation_sets(account, list(names.values()), values=True)
        found = {one["_id"]: metadata.entries_of(one) for one in await self._database.find(shape)} if names else {}
        return tuple(
            AnnotationsRecord(
                *key, tuple((entry, kept.modseq, kept.value) for entry, kept in sorted(found[name].items()))
            )
            for key, name in names.items()
        )

    async def entries(self, at: InMailbox, after: int, limit: int, *, lost: bool) -> tuple[EntryRecord, ...]:
        shape = queries.entries_lost_after if lost else queries.entries_after
        found = await self._database.find(shape(at.account, at.mailbox, after, limit))
        return tuple(
            EntryRecord(
                one["uid"],
                one["modseq"],
                one["flags"],
                tuple(one.get("kw", ())),
                one["email"],
                one["size"],
                one["date"],
                one["saved"],
                one.get("lost"),
                one.get("gone", 0),
            )
            for one in found
        )

    async def vanished(self, at: InMailbox, after: int, limit: int) -> tuple[VanishedRecord, ...]:
        shape = queries.vanished_after(at.account, at.mailbox, after, None, min(limit, _CHANGES))
        return tuple(VanishedRecord(one["modseq"], unpack(one["ranges"])) for one in await self._database.find(shape))

    async def emails(self, account: str, ids: Collection[str]) -> tuple[EmailRecord, ...]:
        found = await self._named(list(ids), lambda names: queries.emails_moved(account, names))
        return tuple(
            EmailRecord(one["_id"], account, one["blob"], one["size"], one["saved"], one.get("prefix", b""))
            for one in found
        )

    async def blobs(self, ids: Sequence[str], octets: int) -> tuple[BlobRecord, ...]:
        records: list[BlobRecord] = []
        total = 0
        for start in range(0, len(ids), _HEADS):
            wanted = ids[start : start + _HEADS]
            found = {
                one["_id"]: one
                for one in await self._database.find(queries.blobs(wanted, ("size", "codec", "sha256", *_FORMS)))
            }
            heads = [_blob(found[id]) for id in wanted if id in found and found[id]["size"] >= 0]
            if not octets:
                records += heads
                continue
            taken: list[BlobRecord] = []
            for head in heads:
                total += head.size if head.size <= INLINE_MAX else 0
                if taken and total > octets:
                    break
                taken.append(head)
            if taken:
                return await self._with_content(taken)
        return tuple(records)

    async def _with_content(self, heads: Sequence[BlobRecord]) -> tuple[BlobRecord, ...]:
        """The same with the octets of those that are short."""
        short = [chunk_id(head.id, 0) for head in heads if 0 < head.size <= INLINE_MAX]
        found = {one["_id"]: one["data"] for one in await self._database.find(queries.chunks(short))} if short else {}
        return tuple(
            BlobRecord(head.id, head.size, head.sha256, head.forms, found.get(chunk_id(head.id, 0), b""))
            if head.size <= INLINE_MAX
            else head
            for head in heads
        )

    async def octets(self, id: str, start: int, end: int) -> bytes:
        names = [chunk_id(id, n) for n in range(start // CHUNK, max(start, end - 1) // CHUNK + 1)]
        found = {one["_id"]: one["data"] for one in await self._database.find(queries.chunks(names))}
        skip = start % CHUNK
        return b"".join([found.get(name, b"") for name in names])[skip : skip + end - start]

    async def bodies(self, after: str, limit: int) -> tuple[str, ...]:
        return tuple(one["_id"] for one in await self._database.find(queries.blobs_after(after, limit)))

    async def spool(self, after: str, limit: int) -> tuple[SpoolRecord, ...]:
        return tuple(_item(one) for one in await self._database.find(spool_queries.spool_page(None, after, limit)))

    async def events(self, after: str, limit: int) -> tuple[EventsRecord, ...]:
        return tuple(
            EventsRecord(
                one["_id"],
                one["trace"],
                one["kept"],
                tuple([Event(one["trace"], *rest) for rest in json.loads(one["data"])]),
            )
            for one in await self._database.find(queries.events_after(after, limit))
        )

    # -- taking

    async def marker(self) -> Marker | None:
        found = await self._database.first(queries.transfer(queries.MARKER))
        return None if found is None else Marker(found["source"], found["place"])

    async def begin(self, source: str, highest: Mapping[str, int]) -> None:
        full = [await self.accounts("", 1), await self.bodies("", 1), await self.spool("", 1)]
        if any(full) or await self.marker() is not None:
            raise TransferRefused(f"The database {self._mongo.database.name} is not empty.")
        # Of services that ran here, and had no accounts.
        await self._drop_all()
        kept = {one: highest.get(one, 0) for one in _LETTERS}
        await self._database.insert(
            "transfer", [{"_id": queries.MARKER, "source": source, "place": "", "highest": kept}]
        )

    async def lacking_emails(self, account: str, ids: Collection[str]) -> set[str]:
        found = await self._named(list(ids), lambda names: queries.emails_moved(account, names))
        return set(ids) - {one["_id"] for one in found}

    async def lacking_blobs(self, ids: Collection[str]) -> set[str]:
        found = await self._named(list(ids), lambda names: queries.blobs(names, ("size",)))
        return set(ids) - {one["_id"] for one in found if one["size"] >= 0}

    async def put_body(self, blob: BlobRecord, chunks: AsyncIterable[bytes]) -> None:
        names = [chunk_id(blob.id, n) for n in range(count(blob.size))]
        for start in range(0, len(names), queries.NAMES):
            await self._database.delete(queries.chunks(names[start : start + queries.NAMES]))
        buffer = bytearray()
        written = 0
        async for piece in chunks:
            buffer += piece
            while len(buffer) >= CHUNK:
                await self._database.insert(
                    "chunk", [{"_id": chunk_id(blob.id, written), "data": bytes(buffer[:CHUNK])}]
                )
                del buffer[:CHUNK]
                written += 1
        if buffer:
            await self._database.insert("chunk", [{"_id": chunk_id(blob.id, written), "data": bytes(buffer)}])
        await self._database.insert("blob", [_blob_document(blob)])

    async def put(self, batch: Batch, place: str) -> None:
        content = [{"_id": chunk_id(blob.id, 0), "data": blob.content} for blob in batch.blobs if blob.content]
        for collection, documents in (
            ("account", [_account_document(one) for one in batch.accounts]),
            ("shared", [note for one in batch.accounts for note in _notes(one)]),
            ("annotation", [_annotations_document(*one) for one in batch.annotations]),
            ("chunk", content),
            ("blob", [_blob_document(one) for one in batch.blobs]),
            ("email", [_email_document(one) for one in batch.emails]),
            ("entry", [_entry_document(*one) for one in batch.entries]),
            ("vanished", [_vanished_document(*one) for one in batch.vanished]),
            ("spool", [_item_document(one) for one in batch.spool]),
            ("event", [_event_document(one) for one in batch.events]),
        ):
            await self._database.insert(collection, documents)
        due = [(item.domain, item.next_attempt) for item in batch.spool if not item.held]
        await DueDates(self._database).lower(earliest(due))
        await self._database.update([Change(queries.transfer(queries.MARKER), {"$set": {"place": place}})])

    async def renamed(self) -> Mapping[str, int]:
        # Any id can be kept here.
        return dict.fromkeys(_LETTERS, 0)

    async def finish(self) -> None:
        marker = await self._database.first(queries.transfer(queries.MARKER))
        if marker is not None:
            await self._database.insert("transfer", [{"_id": queries.HIGHEST} | marker["highest"]])
            await self._database.delete(queries.transfer(queries.MARKER))

    async def erase(self) -> None:
        if await self.marker() is None:
            raise TransferRefused(f"The database {self._mongo.database.name} holds no unfinished migration.")
        await self._drop_all()

    async def _drop_all(self) -> None:
        """Empty the store. The marker goes last: what is killed on the way is erased by the next attempt."""
        for collection in (*INDEXES, "text", "transfer"):
            with told_unavailable(Unavailable):
                await self._mongo.database.drop_collection(collection)
        await self._make_indexes()

    async def _named(self, ids: Sequence[str], shape: Any) -> list[Document]:
        found: list[Document] = []
        for start in range(0, len(ids), queries.NAMES):
            found += await self._database.find(shape(ids[start : start + queries.NAMES]))
        return found


async def open_transfer(url: str, clock: Clock | None = None) -> MongoTransfer:
    """The store at a MongoDB URL, to be moved from or to. ValueError, Unavailable."""
    try:
        transfer = MongoTransfer(await open_mongo(url, app="homing-migrate"), clock)
    except MongoUnavailable as error:
        raise Unavailable(str(error)) from error
    try:
        await transfer.open()
    except BaseException:
        await transfer.close()
        raise
    return transfer


# -- records and documents


def _account(doc: Document) -> AccountRecord:
    if not is_open(doc):
        return AccountRecord(doc["_id"], False, 0, 0, 0, 0)
    mailboxes = sorted(
        MailboxRecord(
            id,
            box["name"],
            box["use"],
            box["uidvalidity"],
            box["uidnext"],
            box["modseq"],
            box["messages"],
            box["unseen"],
            box["deleted"],
            box["recent"],
            box["recent_from"],
            box["size"],
            box["vanished"],
            box["history_from"],
            tuple((one["who"], one["negative"], one["rights"]) for one in box.get("acl", ())),
        )
        for id, box in doc["mailboxes"].items()
    )
    return AccountRecord(
        doc["_id"],
        True,
        doc["modseq"],
        doc["uidvalidity"],
        doc["size"],
        doc["messages"],
        tuple(doc["keywords"]),
        tuple(sorted(doc["subscriptions"])),
        tuple(mailboxes),
        doc.get("annotated", 0),
    )


def _notes(record: AccountRecord) -> list[Document]:
    grantees = {who for mailbox in record.mailboxes for who, *_ in mailbox.acl}
    return [shared_notes.document(record.id, who, ObjectId()) for who in sorted(grantees)]


def _account_document(record: AccountRecord) -> Document:
    mailboxes = {
        one.id: {
            "name": one.name,
            "use": one.special_use,
            # A later change of what a copy has read: none yet is as late as the mailbox itself.
            "touched": one.modseq,
            **{name: value for name, value in one._asdict().items() if name not in _APART},
            **({"acl": acl.packed([Grant(who, Rights(given), no) for who, no, given in one.acl])} if one.acl else {}),
        }
        for one in record.mailboxes
    }
    fields = {
        "modseq": record.modseq,
        "uidvalidity": record.uidvalidity,
        "size": record.size,
        "messages": record.messages,
        "keywords": list(record.keywords),
        "subscriptions": list(record.subscriptions),
        "mailboxes": mailboxes,
        "annotated": record.annotated,
    }
    return new_account(record.id, OPEN if record.open else PURGING) | (fields if record.open else {})


def _annotations_document(account: str, record: AnnotationsRecord) -> Document:
    entries = {entry: Kept(value, modseq) for entry, modseq, value in record.entries}
    latest = max(kept.modseq for kept in entries.values())
    return metadata.empty(account, record.mailbox, record.owner) | {"modseq": latest} | metadata.state(entries)


def _entry_document(at: InMailbox, record: EntryRecord) -> Document:
    document = {
        "_id": _object_id("entry", *at, record.uid),
        "account": at.account,
        "mailbox": at.mailbox,
        "uid": record.uid,
        "modseq": record.modseq,
        "flags": record.flags,
        "email": record.email,
        "size": record.size,
        "date": record.internaldate,
        "saved": record.savedate,
        "op": "migration",
    }
    if record.keywords:
        document["kw"] = list(record.keywords)
    if record.lost is not None:
        document |= {"lost": record.lost, "gone": record.gone}
    return document


def _vanished_document(at: InMailbox, record: VanishedRecord) -> Document:
    return {
        "_id": _object_id("vanished", *at, record.modseq),
        "account": at.account,
        "mailbox": at.mailbox,
        "modseq": record.modseq,
        "op": "migration",
        "count": len(record.ranges),
        "ranges": pack(record.ranges),
    }


def _email_document(record: EmailRecord) -> Document:
    document = {"_id": record.id, "account": record.account, "blob": record.blob, "size": record.size}
    return document | {"saved": record.saved} | ({"prefix": record.prefix} if record.prefix else {})


def _blob(doc: Document) -> BlobRecord:
    if doc["codec"] != RAW:
        raise TransferRefused(f"Body {doc['_id']} is kept in a form that this release does not know.")
    # What a message has not is no field.
    forms: dict[str, Any] = {name: doc.get(name) for name in _FORMS}
    return BlobRecord(doc["_id"], doc["size"], bytes(doc["sha256"]), Forms(**forms))


def _blob_document(record: BlobRecord) -> Document:
    read_out = {name: value for name in _FORMS if (value := getattr(record.forms, name)) is not None}
    return {
        "_id": record.id,
        "size": record.size,
        "codec": RAW,
        "sha256": record.sha256,
        "form": texts.NO_FORM,
    } | read_out


def _item(doc: Document) -> SpoolRecord:
    item = spool.made(doc, 0.0)
    return SpoolRecord(
        item.id,
        item.trace,
        item.account,
        item.sender,
        item.domain,
        item.recipients,
        doc["blob"],
        item.size,
        item.queued_at,
        item.next_attempt,
        item.attempts,
        item.claims,
        item.held,
        item.route,
        item.told_at,
        item.last,
        item.params,
    )


def _item_document(record: SpoolRecord) -> Document:
    fields: Document = {
        "_id": record.id,
        "op": "migration",
        "rev": ObjectId(),
        "trace": record.trace,
        "account": record.account,
        "sender": json.dumps(record.sender),
        "domain": record.domain,
        "recipients": spool.packed(record.recipients),
        "blob": record.blob,
        "size": record.size,
        "queued": record.queued_at,
        "next": record.next_attempt,
        "due": None if record.held else record.next_attempt,
        "attempts": record.attempts,
        "claims": record.claims,
        "held": 1 if record.held else None,
        "route": None if record.route is None else json.dumps(record.route),
        "told": record.told_at,
        "last": json.dumps(record.last),
        "params": json.dumps(dict(record.params)),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _event_document(record: EventsRecord) -> Document:
    # The rows of a store that numbers them stay in their order, and before what comes later.
    id = f"0:{int(record.place):020}" if record.place.isdigit() else record.place
    return events.document(id, record.trace, record.kept, record.events)


def _object_id(*parts: str | int) -> ObjectId:
    """An id that the same record has each time."""
    return ObjectId(hashlib.sha256("\0".join(map(str, parts)).encode()).digest()[:12])
