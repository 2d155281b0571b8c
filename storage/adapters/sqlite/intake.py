"""Bodies on their way in: described off the event loop, staged in pieces."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import AsyncIterable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from typing import TypeVar

from storage import ingest
from storage.adapters.sqlite import blobs, ids
from storage.adapters.sqlite.commits import Commits
from storage.adapters.sqlite.deliver import Described
from storage.adapters.sqlite.schema import CHUNK
from storage.ingest import Forms
from storage.limits import (
    AT_ONCE,
    AT_ONCE_BOUNDARIES,
    BIG_PARSES,
    BLOB_MAX,
    INGEST_THREADS,
    STAGED_AT_ONCE,
    STAGED_IN_MEMORY,
)
from storage.model import INLINE_MAX, PREFIX_MAX, Delivery, NewMessage, StagedBlob
from storage.port import Reason, Refused, Unavailable

T = TypeVar("T")


class Intake:
    """The threads that parse, and the bound on what they hold."""

    def __init__(self, commits: Commits) -> None:
        self._commits = commits
        self._pool = ThreadPoolExecutor(INGEST_THREADS, thread_name_prefix="storage-ingest")
        self._big = asyncio.Semaphore(BIG_PARSES)
        self._closed = False

    async def deliveries(self, batch: Sequence[Delivery]) -> list[Described | Refused]:
        """Each body described, or why it is refused: small ones at once, and one hop to a thread for the others."""
        heavy = [delivery for delivery in batch if not _light(delivery.content)]
        described = iter(await self.on_thread(lambda: [_delivery(delivery) for delivery in heavy]) if heavy else ())
        found: list[Described | Refused] = []
        for delivery in batch:
            if _light(delivery.content):
                found.append(_delivery(delivery))
                # Others have their turn after each.
                await asyncio.sleep(0)
            else:
                found.append(next(described))
        return found

    async def messages(self, messages: Sequence[NewMessage]) -> list[Described]:
        """Every body described. TOO_BIG, UNKNOWN_CTE."""
        return await self.on_thread(lambda: [_described(message.content) for message in messages])

    async def stage(self, chunks: AsyncIterable[bytes]) -> StagedBlob:
        """Keep a body a chunk at a time while it comes; then describe it, out of memory when it is short.

        None of these commits waits for the disk: nobody is told of the message before the one that names the blob, and
        that makes all before it last too.
        """
        number: int | None = None
        digest = hashlib.sha256()
        size = written = 0
        buffer = bytearray()
        kept: list[bytes] = []
        waiting: list[bytes] = []
        async for piece in chunks:
            size += len(piece)
            if len(piece) > INLINE_MAX or size > BLOB_MAX:
                raise Refused(Reason.TOO_BIG)
            _check_nul(piece)
            buffer += piece
            while len(buffer) >= CHUNK:
                with memoryview(buffer) as octets:
                    chunk = bytes(octets[:CHUNK])
                del buffer[:CHUNK]
                waiting.append(chunk)
                kept.append(chunk)
            if len(waiting) >= STAGED_AT_ONCE:
                number = await self._write(number, written, waiting, digest.update)
                written += len(waiting)
                waiting = []
            if size > STAGED_IN_MEMORY:
                kept.clear()
        if buffer:
            waiting.append(bytes(buffer))
            kept.append(waiting[-1])
        if number is None or size <= STAGED_IN_MEMORY:
            forms = await self.on_thread(partial(_hashed_and_described, digest.update, waiting, kept))
        else:
            if waiting:
                number = await self._write(number, written, waiting, digest.update)
                waiting = []
            kept.clear()
            async with self._big:
                raw = await self.whole(number, blobs.RAW, size)
                forms, _ = await self.on_thread(lambda: ingest.describe(raw))
                del raw

        def finish(conn: sqlite3.Connection, now: float) -> int:
            made = blobs.begin(conn, now) if number is None else number
            if waiting:
                blobs.write(conn, made, written, waiting, now)
            blobs.finish(conn, made, size, digest.digest(), forms, now)
            return made

        made = await self._commits.quiet(finish, lasting=False)
        return StagedBlob(ids.blob(made), size, digest.digest())

    async def whole(self, number: int, codec: int, size: int) -> bytes:
        """All octets of a blob, a chunk a read."""
        found = BytesIO()
        for start in range(0, size, CHUNK):
            found.write(await self._read(number, codec, start, min(size, start + CHUNK)))
        return found.getvalue()

    async def proved(self, blob: blobs.Kept) -> bool:
        """Is the blob still what it was? Reads it a chunk at a time."""
        digest = hashlib.sha256()
        try:
            for start in range(0, blob.size, CHUNK):
                chunk = await self._read(blob.number, blob.codec, start, min(blob.size, start + CHUNK))
                await self.on_thread(partial(digest.update, chunk))
        except ValueError:
            return False
        return digest.digest() == blob.sha256

    async def reparse(self, blob: blobs.Kept) -> None:
        """Describe a blob again; a damaged one keeps what it has."""
        async with self._big:
            try:
                raw = await self.whole(blob.number, blob.codec, blob.size)
            except ValueError:
                return
            forms, _ = await self.on_thread(lambda: ingest.describe(raw))
        await self._commits.quiet(lambda conn, now: blobs.describe(conn, blob.number, blob.sha256, forms))

    async def on_thread(self, work: Callable[[], T]) -> T:
        """Run it on the pool. Unavailable once the pool is closed."""
        if self._closed:
            raise Unavailable("the store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def close(self) -> None:
        self._closed = True
        await asyncio.to_thread(self._pool.shutdown)

    async def _write(
        self, number: int | None, first: int, chunks: Sequence[bytes], digest: Callable[[bytes], None]
    ) -> int:
        """Keep chunks from number ``first`` on, and count them into the digest; the first of a body begin it. The
        body's number."""

        def job(conn: sqlite3.Connection, now: float) -> int:
            found = blobs.begin(conn, now) if number is None else number
            blobs.write(conn, found, first, chunks, now)
            return found

        made, _ = await asyncio.gather(
            self._commits.quiet(job, lasting=False), self.on_thread(partial(_each, digest, chunks))
        )
        return made

    async def _read(self, number: int, codec: int, start: int, end: int) -> bytes:
        return await self._commits.read(lambda conn: blobs.read(conn, number, codec, start, end))


def _each(take: Callable[[bytes], None], pieces: Sequence[bytes]) -> None:
    for piece in pieces:
        take(piece)


def _hashed_and_described(take: Callable[[bytes], None], rest: Sequence[bytes], all_of: Sequence[bytes]) -> Forms:
    _each(take, rest)
    return ingest.describe(b"".join(all_of))[0]


def _light(content: bytes | StagedBlob) -> bool:
    """Is it described in well under a millisecond? A staged body was described before."""
    return isinstance(content, StagedBlob) or (len(content) <= AT_ONCE and content.count(b"\n--") <= AT_ONCE_BOUNDARIES)


def _delivery(delivery: Delivery) -> Described | Refused:
    try:
        for recipient in delivery.local:
            if len(recipient.prefix) > PREFIX_MAX:
                raise Refused(Reason.TOO_BIG, f"A recipient's own header has at most {PREFIX_MAX} octets.")
            _check_nul(recipient.prefix)
        return _described(delivery.content)
    except Refused as refusal:
        return refusal


def _described(content: bytes | StagedBlob) -> Described:
    if isinstance(content, StagedBlob):
        return Described(content, content.sha256, None)
    if len(content) > INLINE_MAX:
        raise Refused(Reason.TOO_BIG, f"A body over {INLINE_MAX} octets is staged first.")
    _check_nul(content)
    forms, part = ingest.describe(content)
    return Described(content, blobs.digest(content), forms, part)


def _check_nul(content: bytes) -> None:
    # RFC 3501 §9: CHAR8 has no NUL; RFC 3516 §4.1: such content is refused with UNKNOWN-CTE
    if b"\0" in content:
        raise Refused(Reason.UNKNOWN_CTE, "The message holds NUL octets.")
