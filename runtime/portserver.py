"""A port served over HTTP to other services, as `runtime.portwire` says, and nothing without the service token.

A port's own errors are answers. Anything else that it raises is a bug: logged here, told as 500 without details. Rows
are read by the port in pages before the answer begins: a slow reader keeps one page in memory, and nothing open in a
database.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from typing import Any, Final, Generic, TypeVar

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from runtime.limits import Budget
from runtime.portcall import BadCall, PortCodec
from runtime.portframes import LENGTH
from runtime.portwire import (
    ABORTED,
    CONTENT_TYPE,
    NAME_HEADER,
    PATH,
    PIECE_MAX,
    REQUEST_MAX,
    check_token,
    port_name,
)

P = TypeVar("P")
REQUESTS_OCTETS: Final = 256 * 1024 * 1024
"""Octets of all calls that are being read or done at a moment; beyond, a call is told 503 and tries again."""
UNANNOUNCED: Final = 64 * 1024
"""Octets counted for a call that did not announce its length; more of them are counted as they come."""
SILENCE_SECONDS: Final = 60.0
"""How long a caller may keep a part of its call, or the reading of the answer, to itself."""
STREAM_SILENCE_SECONDS: Final = 1800.0
"""The same for a piece of a stream: it comes as fast as the sender of a message sends."""

log = structlog.get_logger("port")


class PortApp(Generic[P]):
    """The ASGI application of one port, and a service of the process: its drain ends the long polls.

    name: of the port. polls: the methods that wait for news. ValueError for a token that is too short.
    """

    def __init__(
        self, codec: PortCodec[P], port: P, token: str, *, name: str, polls: frozenset[str] = frozenset()
    ) -> None:
        check_token(token)
        self._codec = codec
        self._port = port
        self._digest = _digest(token.encode())
        self._name = port_name(name)
        self._polls = polls
        self._streams = codec.streams()
        self._methods = codec.methods() - {"close"}
        self._memory = Budget(REQUESTS_OCTETS)
        self._draining = asyncio.Event()
        self._figures = dict.fromkeys(("calls", "refused", "unavailable", "bugs", "unauthorized", "in_hand"), 0)

    @property
    def codec(self) -> PortCodec[P]:
        return self._codec

    @property
    def port(self) -> P:
        return self._port

    def figures(self) -> dict[str, int]:
        """Since the start: calls done, of them refused, unavailable and bugs; requests without a good token; and the
        calls in hand now."""
        return dict(self._figures)

    async def start(self) -> None:
        """Serves from the moment that it is made."""

    async def drain(self) -> None:
        """End the long polls, and turn away new ones; their callers ask elsewhere, or again."""
        self._draining.set()

    async def stop(self) -> None:
        self._draining.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: Mapping[bytes, bytes] = dict(scope["headers"])
        if not self._authorized(headers.get(b"authorization", b"")):
            self._figures["unauthorized"] += 1
            await self._tell(send, 401, "A service token is needed.", (b"www-authenticate", b"Bearer"))
            return
        if headers.get(NAME_HEADER.lower().encode()) != self._name:
            await self._tell(send, 409, f"Here is {self._name.decode()}.")
            return
        if scope["method"] != "POST":
            await self._tell(send, 405, "A call is a POST.", (b"allow", b"POST"))
            return
        method = str(scope["path"]).removeprefix(f"{PATH}/")
        if method not in self._methods:
            await self._tell(send, 404, "There is no such method.")
            return
        if method in self._polls and self._draining.is_set():
            await self._tell(send, 503, "This process is about to end.")
            return
        self._figures["in_hand"] += 1
        try:
            if method in self._streams:
                await self._serve(method, send, self._stream(method, receive))
            else:
                await self._serve_call(method, headers, receive, send)
        except _Gone:
            # Whoever asked has gone, or is as good as gone: there is nobody to tell.
            log.debug("a caller has gone", method=method)
        finally:
            self._figures["in_hand"] -= 1

    def _authorized(self, given: bytes) -> bool:
        scheme, _, token = given.partition(b" ")
        # Digests of one length: how long the comparison takes tells nothing of the token, nor of its length.
        return hmac.compare_digest(_digest(token), self._digest) and scheme.lower() == b"bearer"

    async def _serve_call(self, method: str, headers: Mapping[bytes, bytes], receive: Receive, send: Send) -> None:
        announced = headers.get(b"content-length", b"")
        length = int(announced) if announced.isdigit() and len(announced) < 16 else None
        if length is not None and length > REQUEST_MAX:
            await self._tell(send, 413, f"A call has at most {REQUEST_MAX} octets.")
            return
        with _Share(self._memory) as share:
            if not share.take(UNANNOUNCED if length is None else length):
                await self._tell(send, 503, "Too much is in hand.")
                return
            body = bytearray()
            async for part in _parts(receive, SILENCE_SECONDS):
                body += part
                if len(body) > REQUEST_MAX:
                    await self._tell(send, 413, f"A call has at most {REQUEST_MAX} octets.")
                    return
                if not share.take(len(body) - share.taken):
                    await self._tell(send, 503, "Too much is in hand.")
                    return
            doing = self.perform(method, bytes(body))
            del body
            await self._serve(method, send, self._polled(doing, receive) if method in self._polls else doing)

    async def perform(self, method: str, body: bytes) -> Any:
        """Do one call. Raises BadCall, and what the port raises."""
        return await getattr(self._port, method)(**self._codec.unpack_call(method, body))

    async def _polled(self, doing: Awaitable[Any], receive: Receive) -> Any:
        """Wait for the call as long as its caller is there and this process goes on."""
        call = asyncio.ensure_future(doing)
        gone = asyncio.ensure_future(receive())
        draining = asyncio.ensure_future(self._draining.wait())
        try:
            await asyncio.wait({call, gone, draining}, return_when=asyncio.FIRST_COMPLETED)
            if call.done():
                return call.result()
            raise _Gone if gone.done() else _Draining
        finally:
            for waiting in (call, gone, draining):
                waiting.cancel()
            await asyncio.gather(call, gone, draining, return_exceptions=True)

    async def _stream(self, method: str, receive: Receive) -> Any:
        # What an early answer leaves unread uvicorn reads and lets go, so that a caller still sending hears it.
        return await getattr(self._port, method)(_pieces(_parts(receive, STREAM_SILENCE_SECONDS)))

    async def _serve(self, method: str, send: Send, doing: Awaitable[Any]) -> None:
        self._figures["calls"] += 1
        try:
            frames = self._codec.frames(method, await doing)
            first = _up_to_a_frame(frames)
        except self._codec.errors as error:
            self._count(error)
            frames, first = iter(()), [self._codec.error_frame(error)]
        except _Draining:
            await self._tell(send, 503, "This process is about to end.")
            return
        except _Aborted:
            await self._tell(send, 400, "The caller has given up.")
            return
        except _Gone:
            raise
        except BadCall as bad:
            log.warning("a call that fits no method", method=method, reason=str(bad))
            await self._tell(send, 400, str(bad))
            return
        except Exception:
            self._figures["bugs"] += 1
            log.exception("a call failed", method=method)
            await self._tell(send, 500, "The server has met an error of its own.")
            return
        await self._answer(method, send, first, frames)

    async def _answer(self, method: str, send: Send, first: list[bytes], rest: Iterator[bytes]) -> None:
        headers = [(b"content-type", CONTENT_TYPE.encode()), self._header()]
        following = next(rest, None)
        body = b"".join(first)
        if following is None:
            headers.append((b"content-length", str(len(body)).encode()))
        await _sent(send, {"type": "http.response.start", "status": 200, "headers": headers})
        while following is not None:
            await _sent(send, {"type": "http.response.body", "body": body, "more_body": True})
            # Others have their turn between two frames.
            await asyncio.sleep(0)
            body, following = following, next(rest, None)
        await _sent(send, {"type": "http.response.body", "body": body})

    def _count(self, error: Exception) -> None:
        kind = type(error).__name__.lower()
        if kind in self._figures:
            self._figures[kind] += 1

    def _header(self) -> tuple[bytes, bytes]:
        return NAME_HEADER.lower().encode(), self._name

    async def _tell(self, send: Send, status: int, detail: str, *more: tuple[bytes, bytes]) -> None:
        body = json.dumps({"detail": detail}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *more]
        if status != 401:
            headers.append(self._header())
        await _sent(send, {"type": "http.response.start", "status": status, "headers": headers})
        await _sent(send, {"type": "http.response.body", "body": body})


def beside(app: ASGIApp, ports: ASGIApp) -> ASGIApp:
    """One application: `/port` and what is below it is `ports`, the rest `app`."""

    async def both(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "") if scope["type"] == "http" else ""
        await (ports if path == PATH or path.startswith(f"{PATH}/") else app)(scope, receive, send)

    return both


class _Gone(Exception):
    """The caller has ended the connection, or the stream."""


class _Aborted(Exception):
    """The caller has given up its stream, and waits to hear that nothing is left of it."""


class _Draining(Exception):
    """The process is about to end, and the call waits for nothing but news."""


class _Share:
    """A part of a budget, given back at the end."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.taken = 0

    def take(self, amount: int) -> bool:
        if amount <= 0:
            return True
        if not self._budget.try_take(amount):
            return False
        self.taken += amount
        return True

    def __enter__(self) -> _Share:
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.give(self.taken)


async def _pieces(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A stream's pieces out of the parts of a body. Raises _Aborted, _Gone for a caller that has gone, BadCall for
    what is no stream."""
    buffer = bytearray()

    async def exactly(size: int) -> bytes:
        while len(buffer) < size:
            part = await anext(parts, None)
            if part is None:
                raise BadCall("a stream ends with a piece of no octets")
            buffer.extend(part)
        with memoryview(buffer) as octets:
            taken = bytes(octets[:size])
        del buffer[:size]
        return taken

    while length := int.from_bytes(await exactly(LENGTH), "big"):
        if length == ABORTED:
            raise _Aborted
        if length > PIECE_MAX:
            raise BadCall(f"a piece has at most {PIECE_MAX} octets")
        yield await exactly(length)


async def _parts(receive: Receive, silence: float) -> AsyncIterator[bytes]:
    """The parts of a body as they come. Raises _Gone, also after so many seconds of silence."""
    more = True
    while more:
        try:
            async with asyncio.timeout(silence):
                message = await receive()
        except TimeoutError:
            raise _Gone from None
        if message["type"] == "http.disconnect":
            raise _Gone
        more = message.get("more_body", False)
        if part := message.get("body", b""):
            yield part


async def _sent(send: Send, message: dict[str, Any]) -> None:
    """Raises _Gone for a reader that does not read."""
    try:
        async with asyncio.timeout(SILENCE_SECONDS):
            await send(message)
    except TimeoutError:
        raise _Gone from None


def _up_to_a_frame(frames: Iterator[bytes]) -> list[bytes]:
    """The first frames, as many as go in one write."""
    found: list[bytes] = []
    size = 0
    for frame in frames:
        found.append(frame)
        size += len(frame)
        if size >= PIECE_MAX:
            break
    return found


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
