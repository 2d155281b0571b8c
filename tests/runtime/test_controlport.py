"""A port of octets and streams on a control socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from runtime import controlport
from runtime.admin import ControlClient, ControlServer
from runtime.controlport import PIECE_MAX, ServedPacked, packed
from runtime.portcall import BadCall, PortCodec
from tests.patience import attempts


class No(Exception):
    pass


@dataclass(frozen=True, slots=True)
class Parcel:
    octets: bytes
    words: tuple[str, ...]


class Port(Protocol):
    async def twice(self, parcels: tuple[Parcel, ...], more: int = 2) -> tuple[Parcel, ...]:
        """Each so many times."""

    async def take(self, chunks: AsyncIterable[bytes]) -> bytes:
        """All of it, or No at an x."""

    async def close(self) -> None:
        """Not from outside."""


class Real:
    def __init__(self) -> None:
        self.closed = False
        self.ended = asyncio.Event()

    async def twice(self, parcels: tuple[Parcel, ...], more: int = 2) -> tuple[Parcel, ...]:
        if not parcels:
            raise No("nothing")
        return parcels * more

    async def take(self, chunks: AsyncIterable[bytes]) -> bytes:
        found = b""
        try:
            async for chunk in chunks:
                assert 0 < len(chunk) <= PIECE_MAX
                if b"x" in chunk:
                    raise No("an x")
                found += chunk
        finally:
            self.ended.set()
        return found

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
async def real() -> Real:
    return Real()


@pytest.fixture
async def client(real: Real, tmp_path: Path) -> AsyncIterator[ControlClient]:
    server = ControlServer(tmp_path, {"port": ServedPacked(PortCodec(Port, [No]), real)})
    await server.start()
    async with ControlClient(tmp_path) as made:
        yield made
    await server.stop()


@pytest.fixture
def port(client: ControlClient) -> Any:
    return packed(client, "port", PortCodec(Port, [No]))


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for one in given:
        yield one


async def test_values_and_errors_cross(port: Any, real: Real) -> None:
    parcel = Parcel(bytes(range(256)) * 1000, ("ü", ""))
    assert await port.twice((parcel,)) == (parcel, parcel)
    assert await port.twice((parcel,), more=5) == (parcel,) * 5
    with pytest.raises(No, match="nothing"):
        await port.twice(())
    with pytest.raises(AttributeError):
        port.nothing()
    await port.close()
    assert not real.closed


async def test_streams_of_any_length(port: Any) -> None:
    assert await port.take(pieces()) == b""
    assert await port.take(pieces(b"a", b"", b"b" * (PIECE_MAX + 1), b"c")) == b"a" + b"b" * (PIECE_MAX + 1) + b"c"
    first, second = await asyncio.gather(port.take(pieces(b"1", b"2", b"3")), port.take(pieces(b"4", b"5")))
    assert (first, second) == (b"123", b"45")


async def test_a_stream_that_is_refused_on_its_way(port: Any) -> None:
    sent = 0

    async def many() -> AsyncIterator[bytes]:
        nonlocal sent
        for number in range(1000):
            sent += 1
            yield b"x" if number == 2 else b"a"

    with pytest.raises(No, match="an x"):
        await port.take(many())
    assert sent < 10
    with pytest.raises(No, match="an x"):
        await port.take(pieces(b"x"))


async def test_a_caller_that_falls_silent(port: Any, real: Real, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"a"
        raise RuntimeError("the source is gone")

    for attempt in attempts():
        with attempt as seconds:
            real.ended.clear()
            with monkeypatch.context() as patched:
                patched.setattr(controlport, "SILENCE_SECONDS", seconds)
                with pytest.raises(RuntimeError, match="gone"):
                    await port.take(broken())
                async with asyncio.timeout(60):
                    await real.ended.wait()
    assert await port.take(pieces(b"b")) == b"b"


async def test_too_many_streams(client: ControlClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controlport, "STREAMS_MAX", 2)
    call = {"method": "take", "packed": "YQ=="}
    for id in ("1", "2"):
        assert await client.call("port", {**call, "stream": id}) == {"packed": ""}
    assert "too many" in (await client.call("port", {**call, "stream": "3"}))["problem"]


@pytest.mark.parametrize(
    "call",
    [
        {"method": "close", "packed": ""},
        {"method": "twice", "packed": "no base64"},
        {"method": "twice"},
        {"method": "twice", "packed": "YQ=="},
        {"method": ["twice"], "packed": ""},
        {},
    ],
    ids=json.dumps,
)
async def test_what_is_no_call(client: ControlClient, port: Any, call: dict[str, Any]) -> None:
    assert "own" not in (await client.call("port", call))["problem"]
    assert await port.twice((Parcel(b"", ()),), 1) == (Parcel(b"", ()),)


async def test_an_answer_that_is_none(client: ControlClient) -> None:
    with pytest.raises(BadCall, match="no such port"):
        await packed(client, "other", PortCodec(Port, [No])).take(pieces(b"a"))
