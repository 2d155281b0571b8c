"""Bodies on their way into SQLite: ``storage.intake`` with the tables of ``blobs`` under it."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import AsyncIterable, Sequence
from functools import partial
from io import BytesIO
from typing import Any

from storage import intake
from storage.adapters.sqlite import blobs, ids
from storage.adapters.sqlite.commits import Commits
from storage.ingest import Forms
from storage.limits import CHUNK
from storage.model import StagedBlob


class Intake(intake.Intake):
    """The threads that parse, with the store that bodies are staged in and read back from."""

    def __init__(self, commits: Commits) -> None:
        super().__init__()
        self._commits = commits

    async def staged(self, chunks: AsyncIterable[bytes]) -> StagedBlob:
        """``Storage.stage``."""
        return await self.stage(chunks, _Staged(self, self._commits))

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
        try:
            forms, _ = await self.described(lambda: self.whole(blob.number, blob.codec, blob.size))
        except ValueError:
            return
        await self._commits.quiet(lambda conn, now: blobs.describe(conn, blob.number, blob.sha256, forms))

    async def _read(self, number: int, codec: int, start: int, end: int) -> bytes:
        return await self._commits.read(lambda conn: blobs.read(conn, number, codec, start, end))


class _Staged:
    """One body on its way into the tables: a ``storage.intake.Sink``.

    None of these commits waits for the disk: nobody is told of the message before the one that names the blob, and
    that makes all before it last too.
    """

    def __init__(self, intake: Intake, commits: Commits) -> None:
        self._intake = intake
        self._commits = commits
        self._number: int | None = None

    async def write(self, first: int, pieces: Sequence[bytes]) -> None:
        number = self._number

        def job(conn: sqlite3.Connection, now: float) -> int:
            found = blobs.begin(conn, now) if number is None else number
            blobs.write(conn, found, first, pieces, now)
            return found

        self._number = await self._commits.quiet(job, lasting=False)

    async def whole(self, size: int) -> bytes:
        if self._number is None:
            raise RuntimeError("nothing was written")
        return await self._intake.whole(self._number, blobs.RAW, size)

    async def finish(
        self, first: int, pieces: Sequence[bytes], size: int, sha256: bytes, forms: Forms, more: Any
    ) -> str:
        number = self._number

        def job(conn: sqlite3.Connection, now: float) -> int:
            made = blobs.begin(conn, now) if number is None else number
            if pieces:
                blobs.write(conn, made, first, pieces, now)
            blobs.finish(conn, made, size, sha256, forms, now)
            return made

        return ids.blob(await self._commits.quiet(job, lasting=False))
