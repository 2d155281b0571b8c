"""Reading messages with their stored forms: pages of rows, ranges of octets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from runtime.mongo import Document
from storage import ranges
from storage.adapters.mongo import queries
from storage.adapters.mongo.blobs import RAW, Blobs, chunk_id, is_id
from storage.adapters.mongo.database import Database
from storage.adapters.mongo.entries import Entries, made
from storage.ingest import keys_of
from storage.limits import PAGE_OCTETS, PAGE_ROWS, UID_MAX
from storage.model import INLINE_MAX, Entry, MailboxRef, Ranges, Row, Want
from storage.port import Reason, Refused

ROWS_AT_ONCE = 256
"""Messages whose forms are asked for together."""

_FORMS: tuple[tuple[Want, str], ...] = (
    (Want.ENVELOPE, "envelope"),
    (Want.BODY, "body"),
    (Want.BODYSTRUCTURE, "bodystructure"),
    (Want.PARTS, "parts"),
    (Want.HEADERS, "headers"),
    (Want.PREVIEW, "preview"),
    (Want.KEYS, "keys"),
)
_OF_BLOB = ~(Want.SIZE | Want.PREFIX)


class Reader:
    """Rows and octets. What an email or a blob holds never changes, so only the entries must be of one moment."""

    def __init__(self, database: Database, entries: Entries, blobs: Blobs) -> None:
        self._database = database
        self._entries = entries
        self._blobs = blobs

    async def rows(self, ref: MailboxRef, uids: Ranges, want: Want, limit: int) -> tuple[Row, ...]:
        """``Storage.rows``."""
        return await self._page(ref, uids, want, limit, lost=False)

    async def lost_rows(self, ref: MailboxRef, uids: Ranges, want: Want, limit: int) -> tuple[Row, ...]:
        """``Storage.lost_rows``."""
        return await self._page(ref, uids, want, limit, lost=True)

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

    async def _page(self, ref: MailboxRef, uids: Ranges, want: Want, limit: int, *, lost: bool) -> tuple[Row, ...]:
        limit = max(1, min(limit, PAGE_ROWS))
        while True:
            account, documents = await self._entries.page(ref, uids, limit, lost=lost)
            if not documents:
                return ()
            rows = await self._rows(ref.account, documents, made(account, documents), want)
            if rows:
                return rows
            # All of these were swept meanwhile: an empty page would say that there are no more.
            uids = ranges.intersect(uids, ((documents[-1]["uid"] + 1, UID_MAX),))

    async def _rows(
        self, account: str, documents: Sequence[Document], entries: Sequence[Entry], want: Want
    ) -> tuple[Row, ...]:
        """Rows up to PAGE_OCTETS of forms, at least one; without those that were swept meanwhile."""
        found: list[Row] = []
        total = start = 0
        while start < len(documents) and total <= PAGE_OCTETS:
            stop = _reach(documents, start, PAGE_OCTETS - total) if want & Want.CONTENT else start + ROWS_AT_ONCE
            parts = await self._parts(account, documents[start:stop], want)
            for document, entry, part in zip(documents[start:stop], entries[start:stop], parts, strict=True):
                if part is None:
                    continue
                total += part[1]
                if total > PAGE_OCTETS and found:
                    return tuple(found)
                found.append(_row(entry, document, part[0], want))
            start = stop
        return tuple(found)

    async def _parts(
        self, account: str, documents: Sequence[Document], want: Want
    ) -> list[tuple[Document, int] | None]:
        """For each entry what was asked for beside its size, with its octets; None where it was swept."""
        if not want & ~Want.SIZE:
            return [({}, 0)] * len(documents)
        emails = await _by_id(
            self._database.find, queries.emails, account, [document["email"] for document in documents]
        )
        blobs: dict[str, Document] = {}
        chunks: dict[str, Document] = {}
        if want & _OF_BLOB:
            names = list(dict.fromkeys(email["blob"] for email in emails.values()))
            fields = ["size", *(name for part, name in _FORMS if want & part)]
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
    octets += sum([len(part[name]) for wanted, name in _FORMS if want & wanted and name in part])
    if want & Want.CONTENT and blob["size"] <= INLINE_MAX:
        chunk = chunks.get(chunk_id(email["blob"], 0))
        content = chunk["data"] if chunk is not None else b""
        # A damaged one is not given out: ``read`` tells that it is.
        if len(content) == blob["size"]:
            part["content"] = content
            octets += len(content)
    return part, octets


def _row(entry: Entry, document: Document, part: Document, want: Want) -> Row:
    get: Callable[[str], Any] = part.get
    return Row(
        entry,
        document["size"] if want & Want.SIZE else None,
        get("prefix"),
        get("envelope"),
        get("body"),
        get("bodystructure"),
        get("parts"),
        get("headers"),
        get("preview"),
        keys_of(part["keys"], entry.internaldate) if "keys" in part else None,
        get("content"),
    )


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
