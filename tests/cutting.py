"""A proxy before a server that cuts answers as it is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Literal

Cut = Literal["before", "head", "body"]
"""Where an answer is cut: before its first octet (but after it was made), within its head, or within its body."""


class CuttingProxy:
    """Forwards to 127.0.0.1:`port`. cuts: what happens to the next answers; empty, they pass. done: answers cut."""

    def __init__(self, port: int) -> None:
        self._behind = port
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()
        self.cuts: deque[Cut] = deque()
        self.done = 0

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> CuttingProxy:
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", self._behind)
        asked = asyncio.create_task(_copy(reader, behind_writer))
        try:
            while octets := await behind_reader.read(65536):
                if self.cuts:
                    await self._cut(self.cuts.popleft(), octets, behind_reader, writer)
                    self.done += 1
                    return
                writer.write(octets)
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            # Cancelled by the end of the proxy alone; asyncio's streams do not expect a cancelled talk.
            return
        finally:
            asked.cancel()
            for one in (writer, behind_writer):
                one.transport.abort()
            self._talks.discard(task)

    async def _cut(self, cut: Cut, octets: bytes, behind: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if cut == "before":
            return
        while (end := octets.find(b"\r\n\r\n")) < 0 or len(octets) == end + 4:
            octets += await behind.read(65536)
        writer.write(octets[: end // 2] if cut == "head" else octets[: end + 4 + (len(octets) - end - 4) // 2])
        await writer.drain()
        # An end, not a reset: a reset could take away what was sent before it.
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while octets := await reader.read(65536):
            writer.write(octets)
            await writer.drain()
