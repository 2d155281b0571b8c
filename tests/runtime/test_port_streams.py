"""Streams of octets to a port over HTTP."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from runtime.portclient import PortClient
from runtime.portframes import LENGTH
from runtime.portwire import ABORTED, NAME_HEADER, PIECE_MAX
from tests.cutting import CuttingProxy
from tests.served import TOKEN, Keeper
from tests.toyport import NAME, Away, No, RealToy, Toy, answering, app_of, asked, client_of, pieces_of, until, url_of


async def test_a_stream_arrives_whole(toy: RealToy, client: PortClient[Toy]) -> None:
    for pieces in ([], [b"x"], [b"", b"x", b""], [b"y" * PIECE_MAX] * 5, [b"z"] * 1000):
        assert await client.stream("keep", pieces_of(pieces)) == sum(map(len, pieces))
    assert toy.keep_ended == ["whole"] * 5


async def test_a_stream_that_is_refused_ends_early(toy: RealToy, client: PortClient[Toy]) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"\0" * 100_000

    with pytest.raises(No, match="nothing with NUL"):
        async with asyncio.timeout(30):
            await client.stream("keep", endless())
    assert taken < 100
    assert await client.stream("keep", pieces_of([b"x"])) == 1


async def test_a_stream_whose_source_breaks_raises_what_it_raised(toy: RealToy, client: PortClient[Toy]) -> None:
    async def broken() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x" * 100_000
        raise LookupError("the sender has gone")

    with pytest.raises(LookupError, match="the sender has gone"):
        await client.stream("keep", broken())
    # The other side has heard of it before the caller goes on.
    assert toy.keep_ended == ["_Aborted"]
    assert toy.kept == 500_000


async def test_a_stream_whose_caller_is_cancelled_ends(keeper: Keeper, toy: RealToy, client: PortClient[Toy]) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    task = asyncio.create_task(client.stream("keep", slow()))
    await until(lambda: toy.kept == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: toy.keep_ended == ["_Gone"])


async def test_a_stream_with_a_lost_answer_is_unavailable(keeper: Keeper, toy: RealToy) -> None:
    async with CuttingProxy(keeper.rest.port) as proxy:
        client = client_of(proxy.url)
        for cut in ("before", "head", "body"):
            proxy.cuts.append(cut)  # type: ignore[arg-type]  # it is
            with pytest.raises(Away):
                await client.stream("keep", pieces_of([b"x" * 1000] * 10))
        await client.close()
    assert toy.keep_ended == ["whole"] * 3


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"\0\0\0\x01x\0\0\0\0", 200),
        (ABORTED.to_bytes(LENGTH, "big"), 400),
        ((PIECE_MAX + 1).to_bytes(LENGTH, "big"), 400),
    ],
)
async def test_pieces_are_bounded_and_ended(toy: RealToy, body: bytes, status: int) -> None:
    assert (await asked(app_of(toy), "POST", "/port/keep", f"Bearer {TOKEN}", body=body))[0] == status


@pytest.mark.parametrize("body", [b"", b"\0\0", b"\0\0\0\x05xx", b"\0\0\0\x01x"])
async def test_a_stream_without_its_end_is_none(toy: RealToy, body: bytes) -> None:
    assert (await asked(app_of(toy), "POST", "/port/keep", f"Bearer {TOKEN}", body=body))[0] == 400
    assert toy.keep_ended == ["BadCall"]


async def test_a_stream_that_is_cut_is_none(keeper: Keeper, toy: RealToy) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", keeper.rest.port)
    lines = (f"Authorization: Bearer {TOKEN}", f"{NAME_HEADER}: {NAME}", "Transfer-Encoding: chunked", "", "")
    writer.write("\r\n".join(["POST /port/keep HTTP/1.1", "Host: h", *lines]).encode())
    writer.write(b"5\r\n\0\0\0\x01x\r\n")
    await until(lambda: toy.kept == 1)
    writer.close()
    await until(lambda: toy.keep_ended == ["_Gone"])


async def test_fifty_megabytes_take_little_memory(toy: RealToy, client: PortClient[Toy]) -> None:
    piece = b"x" * PIECE_MAX

    async def long() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield piece

    await client.stream("keep", pieces_of([b"x"]))
    tracemalloc.start()
    try:
        assert await client.stream("keep", long()) == 200 * PIECE_MAX
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Client and server together.
    assert peak < 6 * 1024 * 1024


async def test_a_stream_that_nobody_reads_is_unavailable() -> None:
    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * PIECE_MAX

    async with await answering(nothing) as server:
        client = client_of(url_of(server), timeout=0.3)
        loop = asyncio.get_running_loop()
        start = loop.time()
        with pytest.raises(Away, match="it reads no more"):
            await client.stream("keep", endless())
        assert loop.time() - start < 30
        await client.close()
