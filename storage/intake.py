"""Bodies on their way in: described off the event loop, staged in pieces of bounded memory.

What a store does with the pieces is its own: it gives a ``Sink``.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

from mail.structure import Part
from storage import ingest
from storage.ingest import Forms
from storage.limits import (
    AT_ONCE,
    AT_ONCE_BOUNDARIES,
    BIG_PARSES,
    BLOB_MAX,
    CHUNK,
    INGEST_THREADS,
    STAGED_AT_ONCE,
    STAGED_IN_MEMORY,
    TOGETHER,
)
from storage.model import INLINE_MAX, PREFIX_MAX, Delivery, NewMessage, StagedBlob
from storage.port import Reason, Refused, Unavailable

T = TypeVar("T")
B = TypeVar("B", Delivery, NewMessage)
_UNDER_LOCK = 2047
"""Octets up to which hashlib keeps the interpreter's lock. It lets it go for more; and while other threads work,
getting it back takes longer than it takes to hash a short message."""
ReadOut = Callable[[bytes, Part], Any]
"""What a store reads out of a message beside its forms, on the same thread: (octets, structure) → anything."""


class Described(NamedTuple):
    """A body as ingest leaves it: inline with its digest and forms, or staged, where both are stored already.

    more: what the store's ``ReadOut`` made of it.
    """

    content: bytes | StagedBlob
    sha256: bytes
    forms: Forms | None
    part: Part | None = None
    more: Any = None

    @property
    def size(self) -> int:
        return self.content.size if isinstance(self.content, StagedBlob) else len(self.content)


class Sink(Protocol):
    """Where one staged body goes. Pieces have CHUNK octets; the last may be shorter."""

    async def write(self, first: int, pieces: Sequence[bytes]) -> None:
        """Keep pieces from number ``first`` on; the first call begins the body. Refused(NO_SUCH_BLOB) once swept."""

    async def whole(self, size: int) -> bytes:
        """All octets written so far, which are ``size``."""

    async def finish(
        self, first: int, pieces: Sequence[bytes], size: int, sha256: bytes, forms: Forms, more: Any
    ) -> str:
        """Keep the last pieces, and that the body is whole and described; its id. Refused(NO_SUCH_BLOB) once swept."""


class Intake:
    """The threads that parse, and the bound on what they hold."""

    def __init__(self, read_out: ReadOut | None = None) -> None:
        self._read_out = read_out
        self._pool = ThreadPoolExecutor(INGEST_THREADS, thread_name_prefix="storage-ingest")
        self._big = asyncio.Semaphore(BIG_PARSES)
        self._closed = False

    async def deliveries(self, batch: Sequence[Delivery]) -> list[Described | Refused]:
        """Each body described, or why it is refused: small ones at once, and one hop to a thread for the others."""
        return await self._all_of(batch, self._deliveries)

    async def messages(self, messages: Sequence[NewMessage]) -> list[Described]:
        """Every body described, in the same way. TOO_BIG, UNKNOWN_CTE."""
        return await self._all_of(messages, self._messages)

    async def _all_of(self, batch: Sequence[B], work: Callable[[Sequence[B]], list[T]]) -> list[T]:
        light = [_light(one.content) for one in batch]
        heavy = [one for one, here in zip(batch, light, strict=True) if not here]
        others = iter(await self.on_thread(lambda: work(heavy)) if heavy else ())
        few = [one for one, here in zip(batch, light, strict=True) if here]
        found: list[T] = []
        for start in range(0, len(few), TOGETHER):
            if start:
                # Others have their turn.
                await asyncio.sleep(0)
            found += work(few[start : start + TOGETHER])
        done = iter(found)
        return [next(done if here else others) for here in light]

    async def stage(self, chunks: AsyncIterable[bytes], sink: Sink) -> StagedBlob:
        """Hand a body to the sink a piece at a time while it comes; then describe it, out of memory when it is short.

        TOO_BIG, UNKNOWN_CTE.
        """
        digest = hashlib.sha256()
        size = written = 0
        buffer = bytearray()
        kept: list[bytes] = []
        waiting: list[bytes] = []

        async def write() -> None:
            nonlocal written, waiting
            await asyncio.gather(sink.write(written, waiting), self.on_thread(partial(_each, digest.update, waiting)))
            written += len(waiting)
            waiting = []

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
                await write()
            if size > STAGED_IN_MEMORY:
                kept.clear()
        if buffer:
            waiting.append(bytes(buffer))
            kept.append(waiting[-1])
        if not written or size <= STAGED_IN_MEMORY:
            forms, more = await self.on_thread(partial(self._hashed_and_described, digest.update, waiting, kept))
        else:
            if waiting:
                await write()
            kept.clear()
            forms, more = await self.described(lambda: sink.whole(size))
        sha256 = digest.digest()
        return StagedBlob(await sink.finish(written, waiting, size, sha256, forms, more), size, sha256)

    async def described(self, whole: Callable[[], Awaitable[bytes]]) -> tuple[Forms, Any]:
        """A body of any length described, with what the store reads out of it. At most BIG_PARSES are held at a time,
        so ``whole`` brings the octets when it is this one's turn; what it raises is raised."""
        return await self.with_whole(whole, self._forms)

    async def with_whole(self, whole: Callable[[], Awaitable[bytes]], work: Callable[[bytes], T]) -> T:
        """The same for any work on a thread that needs a body whole."""
        async with self._big:
            raw = await whole()
            return await self.on_thread(lambda: work(raw))

    async def on_thread(self, work: Callable[[], T]) -> T:
        """Run it on the pool. Unavailable once the pool is closed."""
        if self._closed:
            raise Unavailable("the store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def close(self) -> None:
        self._closed = True
        await asyncio.to_thread(self._pool.shutdown)

    def _hashed_and_described(
        self, take: Callable[[bytes], None], rest: Sequence[bytes], all_of: Sequence[bytes]
    ) -> tuple[Forms, Any]:
        _each(take, rest)
        return self._forms(b"".join(all_of))

    def _forms(self, raw: bytes) -> tuple[Forms, Any]:
        forms, part = ingest.describe(raw)
        return forms, self._more(raw, part)

    def _more(self, raw: bytes, part: Part) -> Any:
        return None if self._read_out is None else self._read_out(raw, part)

    def _deliveries(self, batch: Sequence[Delivery]) -> list[Described | Refused]:
        refused = [_refusal(delivery) for delivery in batch]
        taken = [delivery for delivery, refusal in zip(batch, refused, strict=True) if refusal is None]
        # What nobody here will read is not taken apart.
        described = iter(self._described([(delivery.content, bool(delivery.local)) for delivery in taken]))
        return [next(described) if refusal is None else refusal for refusal in refused]

    def _messages(self, batch: Sequence[NewMessage]) -> list[Described]:
        for message in batch:
            _check(message.content)
        return self._described([(message.content, True) for message in batch])

    def _described(self, bodies: Sequence[tuple[bytes | StagedBlob, bool]]) -> list[Described]:
        """Each body, and whether somebody will read it."""
        taken_apart = iter(ingest.describe_all([body for body, read in bodies if read and isinstance(body, bytes)]))
        found: list[Described] = []
        for body, read in bodies:
            if isinstance(body, StagedBlob):
                found.append(Described(body, body.sha256, None))
            elif not read:
                found.append(Described(body, digest_of(body), ingest.named(body)))
            else:
                forms, part = next(taken_apart)
                found.append(Described(body, digest_of(body), forms, part, self._more(body, part)))
        return found


def digest_of(content: bytes) -> bytes:
    """SHA-256, by which a blob is proved whole."""
    if len(content) > AT_ONCE:
        return hashlib.sha256(content).digest()
    digest = hashlib.sha256()
    for start in range(0, len(content), _UNDER_LOCK):
        digest.update(content[start : start + _UNDER_LOCK])
    return digest.digest()


def _each(take: Callable[[bytes], None], pieces: Sequence[bytes]) -> None:
    for piece in pieces:
        take(piece)


def _light(content: bytes | StagedBlob) -> bool:
    """Is it described in well under a millisecond? A staged body was described before."""
    if isinstance(content, StagedBlob):
        return True
    if len(content) > AT_ONCE:
        return False
    # Most messages have few hyphens at all, and from one to the next is the fastest way through them.
    hyphens, at = 0, content.find(b"-")
    while at >= 0 and hyphens < 2 * AT_ONCE_BOUNDARIES:
        hyphens, at = hyphens + 1, content.find(b"-", at + 1)
    return at < 0 or content.count(b"\n--") <= AT_ONCE_BOUNDARIES


def _refusal(delivery: Delivery) -> Refused | None:
    try:
        for recipient in delivery.local:
            if len(recipient.prefix) > PREFIX_MAX:
                raise Refused(Reason.TOO_BIG, f"A recipient's own header has at most {PREFIX_MAX} octets.")
            _check_nul(recipient.prefix)
        _check(delivery.content)
    except Refused as refusal:
        return refusal
    return None


def _check(content: bytes | StagedBlob) -> None:
    if isinstance(content, StagedBlob):
        return
    if len(content) > INLINE_MAX:
        raise Refused(Reason.TOO_BIG, f"A body over {INLINE_MAX} octets is staged first.")
    _check_nul(content)


def _check_nul(content: bytes) -> None:
    # RFC 3501 §9: CHAR8 has no NUL; RFC 3516 §4.1: such content is refused with UNKNOWN-CTE
    if b"\0" in content:
        raise Refused(Reason.UNKNOWN_CTE, "The message holds NUL octets.")
