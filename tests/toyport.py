"""A port made for the tests of serving and calling one over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from runtime.portcall import PortCodec
from runtime.portclient import PortClient
from runtime.portserver import PortApp
from runtime.portwire import CONTENT_TYPE, PIECE_MAX
from tests.served import TOKEN

NAME = "toy/1"


class No(Exception):
    def __init__(self, text: str, size: int = 0) -> None:
        super().__init__(text)
        self.text = text
        self.size = size


class Away(Exception):
    """Try later."""


@dataclass(frozen=True, slots=True)
class Box:
    name: str
    lines: tuple[bytes, ...]


class Toy(Protocol):
    async def add(self, one: int, other: int = 1) -> int: ...
    async def refuse(self, text: str) -> None: ...
    async def away(self) -> None: ...
    async def fail(self) -> None: ...
    async def lie(self) -> int: ...
    async def lines(self, count: int, size: int) -> tuple[bytes, ...]: ...
    async def box(self, lines: Sequence[bytes]) -> Box: ...
    async def hold(self) -> int: ...
    async def wait(self, seconds: float) -> bool: ...
    async def keep(self, pieces: AsyncIterable[bytes]) -> int: ...
    async def close(self) -> None: ...


class RealToy:
    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.held = self.held_most = self.added = self.waiting = self.kept = 0
        self.keep_ended: list[str] = []

    async def add(self, one: int, other: int = 1) -> int:
        self.added += 1
        return one + other

    async def refuse(self, text: str) -> None:
        raise No(text, 7)

    async def away(self) -> None:
        raise Away("the disk is full")

    async def fail(self) -> None:
        raise ZeroDivisionError("inside")

    async def lie(self) -> int:
        return cast(int, object())

    async def lines(self, count: int, size: int) -> tuple[bytes, ...]:
        return tuple(bytes(size) for _ in range(count))

    async def box(self, lines: Sequence[bytes]) -> Box:
        return Box("box", tuple(lines))

    async def hold(self) -> int:
        self.held += 1
        self.held_most = max(self.held, self.held_most)
        await self.gate.wait()
        self.held -= 1
        self.added += 1
        return self.added

    async def wait(self, seconds: float) -> bool:
        self.waiting += 1
        try:
            async with asyncio.timeout(seconds):
                await self.gate.wait()
            return True
        except TimeoutError:
            return False
        finally:
            self.waiting -= 1

    async def keep(self, pieces: AsyncIterable[bytes]) -> int:
        self.kept = 0
        try:
            async for piece in pieces:
                assert len(piece) <= PIECE_MAX
                self.kept += len(piece)
                if b"\0" in piece[:1]:
                    raise No("nothing with NUL")
        except BaseException as error:
            self.keep_ended.append(type(error).__name__)
            raise
        self.keep_ended.append("whole")
        return self.kept

    async def close(self) -> None:
        """Never called from afar."""
        raise AssertionError


def codec() -> PortCodec[Toy]:
    return PortCodec(Toy, [No, Away])


def app_of(toy: Toy) -> PortApp[Toy]:
    return PortApp(codec(), toy, TOKEN, name="toy", polls=frozenset({"wait"}))


def client_of(url: str, token: str = TOKEN, **how: Any) -> PortClient[Toy]:
    repeatable = frozenset({"add", "lines", "box", "wait", "refuse", "fail"})
    given = {"timeout": 10.0, "repeatable": repeatable, **how}
    return PortClient(url, codec(), name="toy", token=token, unavailable=Away, **given)


async def until(true: Callable[[], object], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110  # nothing tells when it becomes true
            await asyncio.sleep(0.005)


async def answering(answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> asyncio.Server:
    """A server that reads a request and answers as told."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            await answer(reader, writer)
            await writer.drain()
        writer.close()

    return await asyncio.start_server(talk, "127.0.0.1", 0)


def url_of(server: asyncio.Server) -> str:
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def head(*lines: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Type: {CONTENT_TYPE}", *lines, "", ""]).encode()


async def asked(
    app: Any, method: str, path: str, token: str | None, name: str = NAME, body: bytes = b"\x92\x01\x02"
) -> tuple[int, dict[bytes, bytes], bytes]:
    headers = [(b"homing-port", name.encode())]
    if token is not None:
        headers.append((b"authorization", token.encode()))
    sent: list[dict[str, Any]] = []
    parts = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if parts:
            return parts.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app({"type": "http", "method": method, "path": path, "headers": headers}, receive, send)
    octets = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], dict(sent[0]["headers"]), octets


async def pieces_of(pieces: Sequence[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
