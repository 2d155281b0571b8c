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
from storage.limits import AT_ONCE, BIG_PARSES, BLOB_MAX, INGEST_THREADS, STAGED_IN_MEMORY
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
        """Each body described, or why it is refused: small ones at once, and one hop to a thread for all others."""
        large = [delivery for delivery in batch if _octets(delivery.content) > AT_ONCE]
        described = await self.on_thread(lambda: [_delivery(delivery) for delivery in large]) if large else []
        found: list[Described | Refused] = []
        rest = iter(described)
        for delivery in batch:
            if _octets(delivery.content) > AT_ONCE:
                found.append(next(rest))
                continue
            found.append(_delivery(delivery))
            # Others have their turn after each.
            await asyncio.sleep(0)
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
        async for piece in chunks:
            size += len(piece)
            if len(piece) > INLINE_MAX or size > BLOB_MAX:
                raise Refused(Reason.TOO_BIG)
            _check_nul(piece)
            digest.update(piece)
            buffer += piece
            while len(buffer) >= CHUNK:
                chunk = bytes(buffer[:CHUNK])
                del buffer[:CHUNK]
                number = await self._write(number, written, chunk)
                written += 1
                kept.append(chunk)
            if size > STAGED_IN_MEMORY:
                kept.clear()
        rest = bytes(buffer)
        if size <= STAGED_IN_MEMORY:
            forms, _ = await self.on_thread(lambda: ingest.describe(b"".join((*kept, rest))))
        else:
            number = await self._write(number, written, rest)
            rest = b""
            async with self._big:
                raw = await self.whole(number, blobs.RAW, size)
                forms, _ = await self.on_thread(lambda: ingest.describe(raw))
                del raw

        def finish(conn: sqlite3.Connection, now: float) -> int:
            made = blobs.begin(conn, now) if number is None else number
            if rest:
                blobs.write(conn, made, written, rest, now)
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

    async def _write(self, number: int | None, n: int, chunk: bytes) -> int:
        """Keep chunk number ``n``; the first of a body begins it. The body's number."""

        def job(conn: sqlite3.Connection, now: float) -> int:
            found = blobs.begin(conn, now) if number is None else number
            if chunk:
                blobs.write(conn, found, n, chunk, now)
            return found

        return await self._commits.quiet(job, lasting=False)

    async def _read(self, number: int, codec: int, start: int, end: int) -> bytes:
        return await self._commits.read(lambda conn: blobs.read(conn, number, codec, start, end))


def _octets(content: bytes | StagedBlob) -> int:
    """What has to be looked at now: nothing of a staged body, which was described before."""
    return len(content) if isinstance(content, bytes) else 0


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
