"""Blobs: the bytes of messages in chunks, what ingest read out of them, and their text for searches.

- A *chunk* ``<blob>:<n>`` holds CHUNK octets (the last may hold fewer). All chunks and texts of a blob are known from
  its own document, so that they are read and deleted by ``_id`` alone.
- A blob's ``size`` is PARTIAL while a staged body is being written, LEAVING from the moment on at which the sweep has
  decided that nobody names it. It never comes back from there, and nobody can name it any more.
- ``staged`` is the time from which the grace of a staged body counts; see ``release`` for what becomes of it.
  ``named`` is when a message last named a staged body: whoever names one first inserts the document that names it, then
  sets this; whoever would free it reads this, looks who names it, then sets LEAVING unless this has changed. So one of
  the two sees the other.
- ``chunks`` says how many chunks there are, at most, while the size does not; ``more`` how many texts beside the first.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from typing import Any, Final

from runtime.mongo import Document
from storage.adapters.mongo import ids, queries, texts
from storage.adapters.mongo.database import Change, Database
from storage.ingest import Forms
from storage.intake import Described, Intake
from storage.limits import CHUNK
from storage.model import StagedBlob
from storage.port import Reason, Refused
from storage.search.document import FORM

RAW: Final = 0
"""The codec of bytes as they are: the one there is."""
PARTIAL: Final = -1
LEAVING: Final = -2


@dataclass(frozen=True, slots=True)
class PreparedBlob:
    """A body that is ready to be inserted. size: octets, without any prefix. staged: what it is, where its documents
    are stored already."""

    id: str
    size: int
    staged: StagedBlob | None
    described: Described

    def renewed(self) -> PreparedBlob:
        """The same under a new id, for another attempt; a staged one keeps its own."""
        return self if self.staged is not None else replace(self, id=ids.blob())


class Blobs:
    """Bodies going in and coming out."""

    def __init__(self, database: Database, intake: Intake) -> None:
        self._database = database
        self._intake = intake

    # -- in

    @staticmethod
    def prepare(described: Described) -> PreparedBlob:
        content = described.content
        if isinstance(content, StagedBlob):
            # What cannot be an id is refused by ``name``; until then another that none can have stands for it.
            return PreparedBlob(content.id if is_id(content.id) else "-", content.size, content, described)
        return PreparedBlob(ids.blob(), len(content), None, described)

    async def insert(self, blobs: Sequence[PreparedBlob]) -> None:
        """Insert what is not staged: blobs, then chunks and texts. Repeated, it changes nothing."""
        new = [blob for blob in blobs if blob.staged is None]
        if not new:
            return
        await self._database.insert("blob", [_document(blob) for blob in new])
        chunks = [chunk for blob in new for chunk in _inline_chunks(blob)]
        read = [blob for blob in new if blob.described.more is not None]
        text = [one for blob in read for one in texts.documents(blob.id, blob.described.more)]
        # Both end before this does: nothing of a call may come after its answer.
        ended = await asyncio.gather(
            self._database.insert("chunk", chunks), self._database.insert("text", text), return_exceptions=True
        )
        for outcome in ended:
            if isinstance(outcome, BaseException):
                raise outcome

    async def name(self, staged: Sequence[StagedBlob]) -> list[Refused | None]:
        """Whether each staged body is there, now that what names it was inserted: NO_SUCH_BLOB when it was swept, is
        not whole, or is another. From here on the sweep leaves it alone while it is named."""
        found: list[Refused | None] = []
        for blob in staged:
            # Asked one by one: a bulk update does not tell which of its updates found nothing.
            there = is_id(blob.id) and await self._database.update(
                [Change(queries.blob_whole(blob.id, blob.size, blob.sha256), {"$set": {"named": self._database.now()}})]
            )
            found.append(None if there else Refused(Reason.NO_SUCH_BLOB))
        return found

    async def name_again(self, blobs: Sequence[str]) -> bool:
        """The same for whole bodies that other messages name too, now that what names them again was inserted: False
        when one of them had been swept."""
        now = self._database.now()
        named = await self._database.update([Change(queries.blob_there(id), {"$set": {"named": now}}) for id in blobs])
        return named == len(blobs)

    async def stage(self, chunks: AsyncIterable[bytes]) -> StagedBlob:
        """``Storage.stage``."""
        return await self._intake.stage(chunks, _Staged(self._database, self))

    async def describe(self, blob: Document) -> None:
        """Describe a blob again (its ``_id``, ``size``, ``codec``, ``form``, ``more``), and renew its text where that
        is of another form; a damaged one keeps what it has."""
        id, size, more = blob["_id"], blob["size"], blob.get("more", 0)
        try:
            forms, text = await self._intake.described(lambda: self.whole(id, size, blob["codec"]))
        except ValueError:
            return
        if blob["form"] == FORM:
            await self._database.update([Change(queries.blob_sized(id, size), _described_again(forms, more))])
            return
        # The blob always tells of all its texts: who deletes it meanwhile leaves none over.
        kept = max(texts.more_of(text), more)
        await self._database.update([Change(queries.blob_sized(id, size), {"$set": {"more": kept}})])
        await self._database.delete(queries.texts(texts.ids_of([(id, kept)])))
        await self._database.insert("text", texts.documents(id, text))
        update = _described_again(forms, texts.more_of(text))
        if not await self._database.update([Change(queries.blob_sized(id, size), update)]):
            # It was swept meanwhile, and perhaps before the text came.
            await self._database.delete(queries.texts(texts.ids_of([(id, kept)])))

    # -- out

    async def octets(self, blob: str, codec: int, start: int, end: int) -> bytes:
        """Octets [start, end) of a blob that is at least ``end`` long. ValueError where a chunk is not whole."""
        if codec != RAW:
            raise ValueError(f"blob {blob} has the unknown codec {codec}")
        if start >= end:
            return b""
        numbers = range(start // CHUNK, (end - 1) // CHUNK + 1)
        found = {
            one["_id"]: one["data"]
            for one in await self._database.find(queries.chunks([chunk_id(blob, n) for n in numbers]))
        }
        pieces: list[bytes] = []
        for n in numbers:
            data = found.get(chunk_id(blob, n), b"")
            piece = data[max(start - n * CHUNK, 0) : min(end - n * CHUNK, CHUNK)]
            if len(piece) != min(end, (n + 1) * CHUNK) - max(start, n * CHUNK):
                raise ValueError(f"chunk {n} of blob {blob} is not whole")
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def each(self, blob: str, size: int, codec: int = RAW) -> AsyncIterator[bytes]:
        """All octets of a blob, a chunk at a time. ValueError as above."""
        for start in range(0, size, CHUNK):
            yield await self.octets(blob, codec, start, min(size, start + CHUNK))

    async def whole(self, blob: str, size: int, codec: int = RAW) -> bytes:
        """All octets of a blob together. ValueError as above."""
        found = BytesIO()
        async for piece in self.each(blob, size, codec):
            found.write(piece)
        return found.getvalue()

    async def is_whole(self, blob: Document) -> bool:
        """Is the blob (its ``_id``, ``size``, ``codec``, ``sha256``) still what it was? Reads it a chunk at a time."""
        digest = hashlib.sha256()
        try:
            async for piece in self.each(blob["_id"], blob["size"], blob["codec"]):
                await self._intake.on_thread(partial(digest.update, piece))
        except ValueError:
            return False
        return digest.digest() == bytes(blob["sha256"])


class _Staged:
    """One body on its way in: a ``storage.intake.Sink``."""

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs
        self._id = ids.blob()
        self._begun = False

    async def write(self, first: int, pieces: Sequence[bytes]) -> None:
        await self._announce(first + len(pieces), 0)
        await self._database.insert("chunk", _chunks(self._id, first, pieces))

    async def whole(self, size: int) -> bytes:
        return await self._blobs.whole(self._id, size)

    async def finish(
        self, first: int, pieces: Sequence[bytes], size: int, sha256: bytes, forms: Forms, more: Any
    ) -> str:
        through, rest = first + len(pieces), texts.more_of(more)
        await self._announce(through, rest)
        await self._database.insert("chunk", _chunks(self._id, first, pieces))
        await self._database.insert("text", texts.documents(self._id, more))
        described = _described(forms) | {"size": size, "sha256": sha256, "staged": self._database.now()}
        # The sweep may have begun on a body that waited too long.
        if not await self._partial({"$set": described, "$unset": {"chunks": 1}}):
            await self._database.delete(queries.texts(texts.ids_of([(self._id, rest)])))
            await self._swept(through)
        return self._id

    async def _announce(self, chunks: int, more: int) -> None:
        """Tell what is there when the next documents are in, so that whoever sweeps the body finds them."""
        told = {"staged": self._database.now(), "chunks": chunks, "more": more}
        if not self._begun:
            await self._database.insert("blob", [{"_id": self._id, "size": PARTIAL, "codec": RAW} | told])
            self._begun = True
        # A slow sender's body is not a forgotten one.
        elif not await self._partial({"$set": told}):
            await self._swept(chunks)

    async def _partial(self, update: Document) -> bool:
        return await self._database.update([Change(queries.blob_sized(self._id, PARTIAL), update)]) > 0

    async def _swept(self, chunks: int) -> None:
        """The sweep took the body while it came: what came after the sweep had looked goes too."""
        names = [chunk_id(self._id, n) for n in range(chunks)]
        for start in range(0, chunks, queries.NAMES):
            await self._database.delete(queries.chunks(names[start : start + queries.NAMES]))
        raise Refused(Reason.NO_SUCH_BLOB)


def chunk_id(blob: str, n: int) -> str:
    return f"{blob}:{n:04}"


def count(size: int) -> int:
    """How many chunks so many octets take."""
    return -(-size // CHUNK)


def is_id(text: str) -> bool:
    """Can the text be an id at all? What is not ASCII is none, and half a surrogate pair cannot even be asked for."""
    return text.isascii() and "\0" not in text


def _document(blob: PreparedBlob) -> Document:
    described = blob.described
    if described.forms is None:
        raise ValueError("an inline body comes described")
    document = {"_id": blob.id, "size": blob.size, "codec": RAW, "sha256": described.sha256}
    more = texts.more_of(described.more)
    about: Document = {"more": more} if more else {} if described.more is not None else {"form": texts.NO_FORM}
    return document | _described(described.forms) | about


def _inline_chunks(blob: PreparedBlob) -> list[Document]:
    content = blob.described.content
    return _chunks(blob.id, 0, [content]) if isinstance(content, bytes) and content else []


def _chunks(blob: str, first: int, pieces: Sequence[bytes]) -> list[Document]:
    return [{"_id": chunk_id(blob, n), "data": piece} for n, piece in enumerate(pieces, first)]


def _described(forms: Forms) -> Document:
    """What was read out, as fields; what a message has not takes no room."""
    return {name: value for name, value in _fields(forms).items() if value is not None}


def _described_again(forms: Forms, more: int) -> Document:
    """The update that makes these the fields of a blob."""
    fields = _fields(forms) | {"more": more or None}
    missing = {name: 1 for name, value in fields.items() if value is None}
    update: Document = {"$set": {name: value for name, value in fields.items() if value is not None}}
    return update | {"$unset": missing} if missing else update


def _fields(forms: Forms) -> Document:
    return {
        "version": forms.version,
        "sent": forms.sent,
        "sent_day": forms.sent_day,
        "envelope": forms.envelope,
        "body": forms.body,
        "bodystructure": forms.bodystructure,
        "parts": forms.parts,
        "headers": forms.headers,
        "preview": forms.preview,
        "keys": forms.keys,
        "form": FORM,
    }
