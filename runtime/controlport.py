"""A port of large values on a control socket: its calls as msgpack, and streams of octets piece by piece.

The control socket carries JSON lines, one call after the other. Here the arguments, and the frames of the answer
(`runtime.portframes`), are octets within such a line, in base64. A method that takes a stream is called once for each
piece, under an id that the caller has chosen, and once without octets, which brings the answer.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Any, Final, TypeVar, cast

import structlog

from runtime.admin import ControlClient, Served
from runtime.ids import new_id
from runtime.portcall import BadCall, Json, PortCodec
from runtime.portframes import LENGTH, BadFrame

P = TypeVar("P")
PIECE_MAX: Final = 256 * 1024
"""Octets of one piece of a stream."""
STREAMS_MAX: Final = 8
"""Streams that are open at a moment; one more is turned away."""
SILENCE_SECONDS: Final = 60.0
"""How long a caller may keep the next piece to itself; after that its stream is given up."""

log = structlog.get_logger("control")


class ServedPacked(Served[P]):
    """A port that the control socket serves as msgpack. `close` is not called from outside."""

    def __init__(self, codec: PortCodec[P], port: P) -> None:
        super().__init__(codec, port)
        self._packed_codec = codec
        self._packed_port = port
        self._methods = codec.methods() - {"close"}
        self._streams: dict[str, _Stream] = {}

    async def answer(self, call: Json) -> Json:
        """{"packed": …}: the frames of the answer, nothing after a piece that others follow. Raises BadCall, and what
        the port raises beyond its errors."""
        method, octets = str(call.get("method")), _octets(call)
        if method not in self._methods:
            raise BadCall(f"there is no {method}")
        if method in self._packed_codec.streams():
            return await self._piece(method, str(call.get("stream")), octets)
        kwargs = self._packed_codec.unpack_call(method, octets)
        return await self._frames(method, getattr(self._packed_port, method)(**kwargs))

    async def _piece(self, method: str, id: str, octets: bytes) -> Json:
        if len(octets) > PIECE_MAX:
            raise BadCall(f"a piece has at most {PIECE_MAX} octets")
        stream = self._streams.get(id)
        if stream is None:
            if len(self._streams) >= STREAMS_MAX:
                raise BadCall("too many bodies are on their way; try again in a minute")
            stream = self._streams[id] = _Stream(getattr(self._packed_port, method))
            stream.doing.add_done_callback(lambda _: self._forget_later(id))
        if await stream.put(octets):
            return {"packed": ""}
        self._streams.pop(id, None)
        return await self._frames(method, stream.doing)

    def _forget_later(self, id: str) -> None:
        """A stream that ended before its last piece waits for the caller to hear so, but not for ever."""
        asyncio.get_running_loop().call_later(SILENCE_SECONDS, self._forget, id)

    def _forget(self, id: str) -> None:
        stream = self._streams.pop(id, None)
        if stream is not None and (error := stream.doing.exception()) is not None:
            log.info("a body was given up on its way", reason=str(error) or type(error).__name__)

    async def _frames(self, method: str, doing: Awaitable[Any]) -> Json:
        try:
            frames = b"".join(self._packed_codec.frames(method, await doing))
        except self._packed_codec.errors as error:
            frames = self._packed_codec.error_frame(error)
        return {"packed": base64.b64encode(frames).decode()}


class _Silence(Exception):
    """The caller of a stream sends nothing more."""


class _Stream:
    """One call that reads a stream while its pieces come."""

    def __init__(self, method: Callable[[AsyncIterable[bytes]], Awaitable[Any]]) -> None:
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue(1)
        self.doing = asyncio.ensure_future(method(self._read()))

    async def put(self, octets: bytes) -> bool:
        """Hand over a piece. False when the answer is there, or comes without more of them."""
        putting = asyncio.ensure_future(self._pieces.put(octets))
        await asyncio.wait({putting, self.doing}, return_when=asyncio.FIRST_COMPLETED)
        if not putting.done():
            putting.cancel()
        return bool(octets) and not self.doing.done()

    async def _read(self) -> AsyncIterator[bytes]:
        while True:
            try:
                async with asyncio.timeout(SILENCE_SECONDS):
                    octets = await self._pieces.get()
            except TimeoutError:
                raise _Silence("nothing more came") from None
            if not octets:
                return
            yield octets


def packed(client: ControlClient, name: str, codec: PortCodec[P]) -> P:
    """The port of that name behind the control socket. Beyond the port's errors its methods raise ControlUnreachable
    and BadCall."""
    return cast(P, _Packed(client, name, codec))


class _Packed:
    def __init__(self, client: ControlClient, name: str, codec: PortCodec[Any]) -> None:
        self._client = client
        self._name = name
        self._codec = codec

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        if method not in self._codec.methods():
            raise AttributeError(method)

        async def call(*args: Any, **kwargs: Any) -> Any:
            if method in self._codec.streams():
                return await self._stream(method, *args, **kwargs)
            return self._result(method, await self._send(method, self._codec.pack_call(method, args, kwargs)))

        return call

    async def close(self) -> None:
        """Nothing: what is behind the socket goes on."""

    async def _stream(self, method: str, chunks: AsyncIterable[bytes]) -> Any:
        id = new_id()
        async for chunk in chunks:
            for at in range(0, len(chunk), PIECE_MAX):
                answer = await self._send(method, chunk[at : at + PIECE_MAX], id)
                if answer:
                    return self._result(method, answer)
        return self._result(method, await self._send(method, b"", id))

    async def _send(self, method: str, octets: bytes, stream: str = "") -> bytes:
        call = {"method": method, "packed": base64.b64encode(octets).decode()}
        answer = await self._client.call(self._name, {**call, "stream": stream} if stream else call)
        if not isinstance(answer, dict) or "packed" not in answer:
            raise BadCall(str(answer.get("problem", "not an answer")) if isinstance(answer, dict) else "not an answer")
        return _octets(answer)

    def _result(self, method: str, frames: bytes) -> Any:
        joiner = self._codec.joiner(method)
        at = 0
        try:
            while not joiner.done and at < len(frames):
                length = int.from_bytes(frames[at : at + LENGTH], "big")
                joiner.feed(frames[at + LENGTH : at + LENGTH + length])
                at += LENGTH + length
        except BadFrame as error:
            raise BadCall(f"{method}: {error}") from None
        if not joiner.done or at != len(frames):
            raise BadCall(f"{method}: the answer is not whole")
        return joiner.result()


def _octets(line: Json) -> bytes:
    with contextlib.suppress(binascii.Error, TypeError, ValueError):
        return base64.b64decode(line.get("packed"), validate=True)
    raise BadCall("there are no octets in the line")
