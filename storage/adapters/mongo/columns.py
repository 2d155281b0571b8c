"""Reading messages: pages of columns with their stored forms, ranges of octets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from runtime.mongo import Document
from storage import ingest, ranges
from storage.adapters.mongo import queries
from storage.adapters.mongo.blobs import RAW, Blobs, chunk_id, is_id
from storage.adapters.mongo.database import Database
from storage.adapters.mongo.entries import Entries, made
from storage.ingest import keys_of
from storage.limits import PAGE_ENTRIES, PAGE_OCTETS, PAGE_ROWS, UID_MAX
from storage.model import INLINE_MAX, Columns, MailboxRef, Ranges, Want
from storage.port import Reason, Refused

ROWS_AT_ONCE = 256
"""Messages whose forms are asked for together."""

_NUMBERS: tuple[tuple[Want, str, str], ...] = (
    (Want.FLAGS, "flags", "flags"),
    (Want.MODSEQ, "modseqs", "modseq"),
    (Want.EMAIL, "emails", "email"),
    (Want.INTERNALDATE, "internaldates", "date"),
    (Want.SAVEDATE, "savedates", "saved"),
    (Want.SIZE, "sizes", "size"),
)
"""Columns of what an entry's document has."""
_FORMS: tuple[tuple[Want, str, str], ...] = (
    (Want.ENVELOPE, "envelopes", "envelope"),
    (Want.BODY, "bodies", "body"),
    (Want.BODYSTRUCTURE, "bodystructures", "bodystructure"),
    (Want.PARTS, "parts", "parts"),
    (Want.HEADERS, "headers", "headers"),
    (Want.PREVIEW, "previews", "preview"),
    (Want.KEYS, "keys", "keys"),
)
"""And of what a blob's has."""
_OTHERS: tuple[tuple[Want, str, str], ...] = (
    (Want.PREFIX, "prefixes", "prefix"),
    (Want.CONTENT, "contents", "content"),
)
_ANY_FORM = ~(Want.ENTRY | Want.SIZE)
_OF_BLOB = _ANY_FORM & ~Want.PREFIX


class Reader:
    """Columns and octets. What an email or a blob holds never changes, so only the entries must be of one moment."""

    def __init__(self, database: Database, entries: Entries, blobs: Blobs) -> None:
        self._database = database
        self._entries = entries
        self._blobs = blobs

    async def columns(self, ref: MailboxRef, uids: Ranges, want: Want, limit: int, lost: bool) -> Columns:
        """``Storage.columns``."""
        limit = max(1, min(limit, PAGE_ROWS if want & _ANY_FORM else PAGE_ENTRIES))
        while True:
            account, found = await self._entries.page(ref, uids, limit + 1, lost=lost)
            documents, more = found[:limit], len(found) > limit
            kept, parts = documents, list[Document]()
            if want & _ANY_FORM:
                kept, parts, whole = await self._with_forms(ref.account, documents, want)
                more = more or not whole
            if kept or not more:
                return _columns(account, kept, parts, want, more)
            # All of these were swept meanwhile.
            uids = ranges.intersect(uids, ((documents[-1]["uid"] + 1, UID_MAX),))

    async def read(self, account: str, email: str, start: int, end: int) -> bytes:
        """``Storage.read``."""
        found = await self._database.first(queries.email(account, email)) if is_id(account + email) else None
        if found is None:
            raise Refused(Reason.NO_SUCH_MESSAGE)
        blob, size = found["blob"], found["size"] - len(found.get("prefix", b""))
        start = max(0, start)
        try:
            return await self._blobs.octets(blob, RAW, start, min(end, size, start + INLINE_MAX))
        except ValueError:
            kept = await self._database.first(queries.blob(blob))
            if kept is None or kept["size"] < 0:
                # It was expunged a grace ago, and swept just now.
                raise Refused(Reason.NO_SUCH_MESSAGE) from None
            raise

    async def _with_forms(
        self, account: str, documents: Sequence[Document], want: Want
    ) -> tuple[list[Document], list[Document], bool]:
        """The entries up to PAGE_OCTETS of forms, at least one, without those that were swept meanwhile; what was asked
        for of each; and whether these are all."""
        kept: list[Document] = []
        found: list[Document] = []
        total = start = 0
        while start < len(documents) and total <= PAGE_OCTETS:
            stop = _reach(documents, start, PAGE_OCTETS - total) if want & Want.CONTENT else start + ROWS_AT_ONCE
            parts = await self._parts(account, documents[start:stop], want)
            for document, part in zip(documents[start:stop], parts, strict=True):
                if part is None:
                    continue
                total += part[1]
                if total > PAGE_OCTETS and found:
                    return kept, found, False
                kept.append(document)
                found.append(part[0])
            start = stop
        return kept, found, start >= len(documents)

    async def _parts(
        self, account: str, documents: Sequence[Document], want: Want
    ) -> list[tuple[Document, int] | None]:
        """For each entry what was asked for of its email, with its octets; None where it was swept."""
        emails = await _by_id(
            self._database.find, queries.emails, account, [document["email"] for document in documents]
        )
        blobs: dict[str, Document] = {}
        chunks: dict[str, Document] = {}
        if want & _OF_BLOB:
            names = list(dict.fromkeys(email["blob"] for email in emails.values()))
            fields = ["size", *(field for part, _, field in _FORMS if want & part)]
            if want & Want.HEADERS:
                fields.append("version")
            short = []
            if want & Want.CONTENT:
                short = [
                    chunk_id(email["blob"], 0)
                    for email in emails.values()
                    if 0 < email["size"] - len(email.get("prefix", b"")) <= INLINE_MAX
                ]
            kept, held = await asyncio.gather(
                self._database.find(queries.blobs(names, fields)),
                self._database.find(queries.chunks(list(dict.fromkeys(short)))) if short else _nothing(),
            )
            blobs = {blob["_id"]: blob for blob in kept if blob["size"] >= 0}
            chunks = {chunk["_id"]: chunk for chunk in held}
        return [_part(emails.get(document["email"]), blobs, chunks, want) for document in documents]


def _part(
    email: Document | None, blobs: dict[str, Document], chunks: dict[str, Document], want: Want
) -> tuple[Document, int] | None:
    if email is None:
        return None
    part: Document = {}
    octets = 0
    if want & Want.PREFIX:
        part["prefix"] = email.get("prefix", b"")
        octets += len(part["prefix"])
    if not want & _OF_BLOB:
        return part, octets
    blob = blobs.get(email["blob"])
    if blob is None:
        return None
    part.update(blob)
    if want & Want.HEADERS and blob["version"] < ingest.USUAL_SINCE:
        part["headers"] = None
    octets += sum([len(part[field]) for wanted, _, field in _FORMS if want & wanted and part.get(field)])
    if want & Want.CONTENT and blob["size"] <= INLINE_MAX:
        chunk = chunks.get(chunk_id(email["blob"], 0))
        content = chunk["data"] if chunk is not None else b""
        # A damaged one is not given out: ``read`` tells that it is.
        if len(content) == blob["size"]:
            part["content"] = content
            octets += len(content)
    return part, octets


def _columns(
    account: Document, documents: Sequence[Document], parts: Sequence[Document], want: Want, more: bool
) -> Columns:
    found: dict[str, Sequence[Any]] = {}
    for wanted, name, field in _NUMBERS:
        if want & wanted:
            found[name] = [document[field] for document in documents]
    for wanted, name, field in (*_FORMS, *_OTHERS):
        if want & wanted:
            found[name] = [part.get(field) for part in parts]
    if want & Want.FLAGS:
        entries = made(account, [document for document in documents if document.get("kw")])
        found["keywords"] = [(entry.uid, entry.keywords) for entry in entries if entry.keywords]
    if want & Want.KEYS:
        found["keys"] = [
            keys_of(keys, document["date"]) for keys, document in zip(found["keys"], documents, strict=True)
        ]
    through = max([document["modseq"] for document in documents], default=0)
    return Columns([document["uid"] for document in documents], more, through, **found)


def _reach(documents: Sequence[Document], start: int, room: int) -> int:
    """How far entries with their whole contents go into the room, one at least."""
    stop = start
    while stop < len(documents) and stop - start < ROWS_AT_ONCE:
        size = documents[stop]["size"]
        room -= size if size <= INLINE_MAX else 0
        if room < 0 and stop > start:
            break
        stop += 1
    return stop


async def _by_id(
    find: Callable[[queries.Shape], Awaitable[list[Document]]],
    shape: Callable[[str, Sequence[str]], queries.Shape],
    account: str,
    names: Sequence[str],
) -> dict[str, Document]:
    return {one["_id"]: one for one in await find(shape(account, list(dict.fromkeys(names))))}


async def _nothing() -> list[Document]:
    return []
