"""A server that speaks just enough of MongoDB's wire protocol to be opened, written to, and to fail as told.

OP_MSG and the handshake's OP_QUERY: https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import bson

Document = dict[str, Any]
OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013
HEADER = struct.Struct("<iiii")


class FakeMongo:
    """hello: what is told beside the usual. answers: by command name, the answer or a function that makes it.

    commands: all that came, but the driver's own looks. While `awake` is not set, nothing is answered.
    """

    def __init__(self, **hello: Any) -> None:
        self.hello = hello
        self.answers: dict[str, Document | Callable[[Document], Document]] = {}
        self.commands: list[Document] = []
        self.awake = asyncio.Event()
        self.awake.set()
        self.port = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def url(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/fake"

    def sent(self, name: str) -> Document:
        """The last command of that name."""
        return [c for c in self.commands if next(iter(c)) == name][-1]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        try:
            while True:
                length, request, _, opcode = HEADER.unpack(await reader.readexactly(HEADER.size))
                body = await reader.readexactly(length - HEADER.size)
                await self.awake.wait()
                if opcode == OP_QUERY:
                    start = body.index(b"\0", 4) + 1 + 8  # flags, collection, skip, limit
                    answer = self._answer(bson.decode(body[start:]))
                    reply = struct.pack("<iqii", 8, 0, 0, 1) + bson.encode(answer)
                    self._send(writer, request, OP_REPLY, reply)
                else:
                    size = struct.unpack_from("<i", body, 5)[0]
                    answer = self._answer(bson.decode(body[5 : 5 + size]))
                    self._send(writer, request, OP_MSG, struct.pack("<IB", 0, 0) + bson.encode(answer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    @staticmethod
    def _send(writer: asyncio.StreamWriter, request: int, opcode: int, body: bytes) -> None:
        writer.write(HEADER.pack(HEADER.size + len(body), 1, request, opcode) + body)

    def _answer(self, command: Document) -> Document:
        name = next(iter(command))
        if name.lower() in ("hello", "ismaster"):
            usual: Document = {"isWritablePrimary": True, "ismaster": True, "helloOk": True, "minWireVersion": 0}
            limits = {"maxWireVersion": 21, "maxBsonObjectSize": 1 << 24, "maxMessageSizeBytes": 48_000_000}
            if "setName" in self.hello:
                here = f"127.0.0.1:{self.port}"
                usual |= {"hosts": [here], "me": here, "primary": here, "logicalSessionTimeoutMinutes": 30}
            return usual | limits | {"maxWriteBatchSize": 100_000, "ok": 1} | self.hello
        self.commands.append(command)
        told = self.answers.get(name, {"ok": 1, "n": 1})
        return told(command) if callable(told) else told

    async def end(self) -> None:
        self.awake.set()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def fake_mongo(**hello: Any) -> AsyncIterator[FakeMongo]:
    fake = FakeMongo(**hello)
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    fake.port = server.sockets[0].getsockname()[1]
    try:
        yield fake
    finally:
        server.close()
        await fake.end()
