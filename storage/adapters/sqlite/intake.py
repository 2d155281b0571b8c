"""Bodies on their way in: described off the event loop, staged in pieces."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import AsyncIterable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from storage import ingest
from storage.adapters.sqlite import blobs, ids
from storage.adapters.sqlite.commits import Commits
from storage.adapters.sqlite.deliver import Described
from storage.adapters.sqlite.schema import CHUNK
from storage.limits import BIG_PARSES, BLOB_MAX, INGEST_THREADS, STAGE_OCTETS
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
        """Each body described, or why it is refused: one hop to a thread for all of them."""
        return await self.on_thread(lambda: [_delivery(delivery) for delivery in batch])

    async def messages(self, messages: Sequence[NewMessage]) -> list[Described]:
        """Every body described. TOO_BIG, UNKNOWN_CTE."""
        return await self.on_thread(lambda: [_described(message.content) for message in messages])

    async def stage(self, chunks: AsyncIterable[bytes]) -> StagedBlob:
        """Keep a body as it comes, in steps of STAGE_OCTETS; then describe it."""
        number: int | None = None
        digest = hashlib.sha256()
        size = written = 0
        buffer = bytearray()
        async for chunk in chunks:
            size += len(chunk)
            if len(chunk) > INLINE_MAX or size > BLOB_MAX:
                raise Refused(Reason.TOO_BIG)
            _check_nul(chunk)
            buffer += chunk
            if len(buffer) >= STAGE_OCTETS:
                whole = len(buffer) - len(buffer) % CHUNK
                number = await self._write(number, written, bytes(buffer[:whole]), digest.update)
                written += whole // CHUNK
                del buffer[:whole]
        rest = bytes(buffer)
        del buffer
        if number is None:
            # Short enough to be described from memory and kept in one commit.
            await self.on_thread(partial(digest.update, rest))
            forms, _ = await self.on_thread(lambda: ingest.describe(rest))
        else:
            number = await self._write(number, written, rest, digest.update)
            async with self._big:
                raw = await self.whole(number, blobs.RAW, size)
                forms, _ = await self.on_thread(lambda: ingest.describe(raw))
                del raw

        def finish(conn: sqlite3.Connection, now: float) -> int:
            made = number
            if made is None:
                made = blobs.begin(conn, now)
                blobs.write(conn, made, 0, _chunks(rest), now)
            blobs.finish(conn, made, size, digest.digest(), forms, now)
            return made

        return StagedBlob(ids.blob(await self._commits.quiet(finish)), size, digest.digest())

    async def whole(self, number: int, codec: int, size: int) -> bytes:
        """All octets of a blob, a chunk a read."""
        pieces: list[bytes] = []
        for start in range(0, size, CHUNK):
            end = min(size, start + CHUNK)
            pieces.append(await self._read(number, codec, start, end))
        return b"".join(pieces)

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

    async def _write(self, number: int | None, first: int, data: bytes, digest: Callable[[bytes], None]) -> int:
        """Keep chunks from number ``first`` on; the first of a body begin it. The body's number."""
        await self.on_thread(partial(digest, data))

        def job(conn: sqlite3.Connection, now: float) -> int:
            found = blobs.begin(conn, now) if number is None else number
            blobs.write(conn, found, first, _chunks(data), now)
            return found

        return await self._commits.quiet(job)

    async def _read(self, number: int, codec: int, start: int, end: int) -> bytes:
        return await self._commits.read(lambda conn: blobs.read(conn, number, codec, start, end))


def _chunks(data: bytes) -> list[bytes]:
    return [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]


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
