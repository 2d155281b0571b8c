"""One message on its way in: kept in memory while it is small, streamed to storage once it is not, and never more of
it in memory than was asked for first."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator

from runtime.limits import Budget
from smtp import traceheaders
from smtp.wire import replies
from smtp.wire.replies import Reply
from storage.model import INLINE_MAX, StagedBlob
from storage.port import Storage

BEGINNING_MAX = 64 * 1024
PIECE_OCTETS = 64
"""What a piece of text takes beside its octets: a client may send pieces of a few."""
_WAITING_MAX = 1
_BODY = b"\r\n\r\n"


class Streams:
    """How many messages stream to storage at once. ``limit``, and the seconds that another one waits for its turn
    (``timeout``), may be changed while running."""

    def __init__(self, limit: int, timeout: float) -> None:
        self.limit = limit
        self.timeout = timeout
        self._used = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> bool:
        """True and one more is counted (pair with ``leave``); False when no turn came in time."""
        deadline = asyncio.get_running_loop().time() + self.timeout
        while self._used >= self.limit:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                async with asyncio.timeout_at(deadline):
                    await turn
            except TimeoutError:
                return False
            except asyncio.CancelledError:
                if turn.done():
                    self._wake()
                raise
        self._used += 1
        return True

    def leave(self) -> None:
        self._used -= 1
        self._wake()

    def _wake(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return


class Intake:
    """Takes a message's text with ``add``; ``finish`` gives what storage is to keep; ``close`` lets go of all, always.

    head: our Received field, which goes before the text. refusal: set once something speaks against the message; what
    comes afterwards is dropped, and the reply waits for the end of the text (RFC 5321 §4.1.1.4). beginning: the first
    octets of what storage keeps, at most BEGINNING_MAX, once there is a message.
    """

    def __init__(self, head: bytes, *, size_max: int, budget: Budget, streams: Streams, storage: Storage) -> None:
        self._chunks: list[bytes] = [head]
        self._size_max = size_max
        self._budget = budget
        self._streams = streams
        self._storage = storage
        self._held = 0
        self._stream: _Stream | None = None
        self._head = len(head)
        self.size = 0
        self.beginning = b""
        self.refusal: Reply | None = None

    def refuse(self, reply: Reply) -> None:
        """The first reason counts. Memory is given back at once."""
        if self.refusal is None:
            self.refusal = reply
            self._chunks.clear()
            self._give_back()

    def take(self, text: bytes) -> bool:
        """Keep text in memory; True when ``spill`` is to be awaited before more comes."""
        self.size += len(text)
        if self.refusal is not None:
            return False
        if self.size > self._size_max:
            self.refuse(replies.MESSAGE_TOO_BIG)
            return False
        if self._stream is None and not self._take_memory(len(text) + PIECE_OCTETS):
            self.refuse(replies.NO_MEMORY)
            return False
        self._chunks.append(text)
        return self._stream is not None or self._head + self.size > INLINE_MAX

    async def spill(self) -> None:
        """Hand what is in memory to storage, as fast as it takes it. Raises storage's Refused and Unavailable."""
        if self._stream is None:
            whole = b"".join(self._chunks)
            self.beginning = whole[:BEGINNING_MAX]
            self._judge_header(whole)
            if self.refusal is not None:
                return
            # One piece waits in the pipe while storage has another.
            if not (self._take_memory(INLINE_MAX) and await self._streams.enter()):
                self.refuse(replies.NO_MEMORY)
                return
            self._stream = _Stream(self._storage, self._streams)
            self._chunks = [whole[at : at + INLINE_MAX] for at in range(0, len(whole), INLINE_MAX)]
        for chunk in self._chunks:
            await self._stream.put(chunk)
        self._chunks.clear()

    async def finish(self) -> bytes | StagedBlob:
        """The whole message. Ask ``refusal`` first, and again afterwards. Raises storage's Refused and Unavailable."""
        if self._stream is not None:
            return await self._stream.end()
        whole = b"".join(self._chunks)
        self.beginning = whole[:BEGINNING_MAX]
        self._chunks.clear()
        self._judge_header(whole)
        return whole

    async def close(self) -> None:
        """Give back memory and end the stream; what was staged and never named is swept by storage."""
        self._chunks.clear()
        self._give_back()
        if self._stream is not None:
            await self._stream.abandon()

    def _take_memory(self, amount: int) -> bool:
        if not self._budget.try_take(amount):
            return False
        self._held += amount
        return True

    def _give_back(self) -> None:
        self._budget.give(self._held)
        self._held = 0

    def _judge_header(self, whole: bytes) -> None:
        """Looks at the first INLINE_MAX octets at most: a header that is longer is refused."""
        begin = self._head
        end = whole.find(_BODY, max(begin - 2, 0))
        if end < 0 and len(whole) > INLINE_MAX:
            self.refuse(replies.HEADER_TOO_BIG)
        # RFC 5321 §6.3
        elif traceheaders.hops(whole[begin : len(whole) if end < 0 else end]) >= traceheaders.HOPS_MAX:
            self.refuse(replies.ROUTING_LOOP)


class _Stream:
    """A bounded pipe into ``storage.stage``."""

    def __init__(self, storage: Storage, streams: Streams) -> None:
        self._waiting: deque[bytes] = deque()
        self._ended = False
        self._changed = asyncio.Event()
        self._streams = streams
        self._task = asyncio.create_task(storage.stage(self._chunks()), name="smtp stage")
        self._task.add_done_callback(self._done)

    def _done(self, _task: asyncio.Task[StagedBlob]) -> None:
        self._streams.leave()
        self._changed.set()

    async def put(self, chunk: bytes) -> None:
        while len(self._waiting) >= _WAITING_MAX and not self._task.done():
            self._changed.clear()
            await self._changed.wait()
        if self._task.done():
            self._task.result()
        self._waiting.append(chunk)
        self._changed.set()

    async def end(self) -> StagedBlob:
        self._ended = True
        self._changed.set()
        return await asyncio.shield(self._task)

    async def abandon(self) -> None:
        if not self._task.done():
            self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await self._task

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            while self._waiting:
                chunk = self._waiting.popleft()
                self._changed.set()
                yield chunk
            if self._ended:
                return
            self._changed.clear()
            await self._changed.wait()
