"""A port served over HTTP: what crosses, who may call, and the bounds."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from runtime import portclient, portserver
from runtime.portcall import BadCall, PortCodec
from runtime.portclient import PortBug, PortClient
from runtime.portserver import PortApp
from runtime.portwire import NAME_HEADER, PIECE_MAX
from tests.served import TOKEN, Keeper
from tests.toyport import (
    NAME,
    Away,
    Box,
    No,
    RealToy,
    Toy,
    app_of,
    asked,
    client_of,
    codec,
    until,
)

# -- answers and errors


async def test_calls_answers_and_errors_cross(client: PortClient[Toy], keeper: Keeper) -> None:
    assert await client.call("add", 1, other=2) == 3
    assert await client.call("add", 1) == 2
    assert await client.call("box", [b"a", b"b"]) == Box("box", (b"a", b"b"))
    with pytest.raises(No) as no:
        await client.call("refuse", "not so")
    assert (no.value.text, no.value.size) == ("not so", 7)
    with pytest.raises(Away, match=r"^the disk is full$"):
        await client.call("away")
    assert keeper.app.figures() == {
        "calls": 5,
        "refused": 0,
        "unavailable": 0,
        "bugs": 0,
        "unauthorized": 0,
        "in_hand": 0,
    }


@pytest.mark.parametrize("method", ["fail", "lie"])
async def test_a_bug_is_told_without_details_and_once(
    client: PortClient[Toy], keeper: Keeper, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(PortBug) as bug:
        await client.call(method)
    assert "inside" not in str(bug.value)
    assert keeper.app.figures()["bugs"] == keeper.app.figures()["calls"] == 1


async def test_what_does_not_fit_is_a_bad_call(client: PortClient[Toy], keeper: Keeper) -> None:
    with pytest.raises(BadCall):
        await client.call("add", "one")
    with pytest.raises(BadCall):
        await client.call("nothing")
    with pytest.raises(TypeError):
        await client.call("add", 1, 2, 3)
    assert keeper.app.figures()["calls"] <= 1


async def test_long_answers_come_in_frames_and_whole(client: PortClient[Toy]) -> None:
    assert await client.call("lines", 0, 0) == ()
    assert await client.call("lines", 5_000, 1_000) == tuple(bytes(1_000) for _ in range(5_000))
    assert await client.call("lines", 2, 3 * PIECE_MAX) == (bytes(3 * PIECE_MAX),) * 2
    assert len((await client.call("box", [b"x" * 1000] * 1000)).lines) == 1000


# -- who may


@pytest.mark.parametrize("path", ["/port", "/port/", "/port/add", "/port/close", "/port/nothing", "/port/../port/add"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"])
@pytest.mark.parametrize(
    "token", [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", TOKEN]
)
async def test_without_the_token_nothing_is_told(toy: RealToy, path: str, method: str, token: str | None) -> None:
    status, headers, body = await asked(app_of(toy), method, path, token)
    assert status == 401
    assert body == b'{"detail": "A service token is needed."}'
    assert set(headers) == {b"content-type", b"content-length", b"www-authenticate"}
    assert toy.added == 0


@pytest.mark.parametrize(
    ("method", "path", "name", "body", "status"),
    [
        ("POST", "/port/add", NAME, b"\x92\x01\x02", 200),
        ("POST", "/port/add", NAME, b"\x91\x01", 200),
        ("POST", "/port/add", NAME, b"\x90", 400),
        ("POST", "/port/add", NAME, b"", 400),
        ("POST", "/port/add", NAME, b"\x92\xa11\x02", 400),
        ("POST", "/port/nothing", NAME, b"\x90", 404),
        ("POST", "/port/close", NAME, b"\x90", 404),
        ("POST", "/port/_check", NAME, b"\x90", 404),
        ("POST", "/port", NAME, b"\x90", 404),
        ("GET", "/port/add", NAME, b"", 405),
        ("POST", "/port/add", "toy/2", b"\x92\x01\x02", 409),
        ("POST", "/port/add", "storage/1", b"\x92\x01\x02", 409),
        ("POST", "/port/add", "", b"\x92\x01\x02", 409),
    ],
)
async def test_with_the_token(toy: RealToy, method: str, path: str, name: str, body: bytes, status: int) -> None:
    found, headers, _ = await asked(app_of(toy), method, path, f"Bearer {TOKEN}", name, body)
    assert found == status
    assert headers[NAME_HEADER.lower().encode()] == NAME.encode()


async def test_a_token_must_be_long_enough(toy: RealToy) -> None:
    for bad in ("", "x" * 15, "é" * 20, "a b" * 10, "a\r\n" * 10):
        with pytest.raises(ValueError, match="service token"):
            PortApp(codec(), toy, bad, name="toy")
        with pytest.raises(ValueError, match="service token"):
            client_of("http://127.0.0.1:1", bad)


@pytest.mark.parametrize(
    "url",
    [
        "https://h:1",
        "http://h",
        "http://:1",
        "http://h:x",
        "http://h:1/path",
        "http://h:1?q",
        "http://a:b@h:1",
        "http://h:1,",
        "http://h:1,k",
        "http://",
        "h:1",
    ],
)
async def test_a_url_names_host_and_port(url: str) -> None:
    with pytest.raises(ValueError, match=r"^the URL of a service looks like http://host:port$"):
        client_of(url)


async def test_a_wrong_token_is_unavailable_and_logged(
    keeper: Keeper, toy: RealToy, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(portclient.log, "error", lambda event, **more: told.append(more), raising=False)
    client = client_of(keeper.url, "another-service-token")
    for _ in range(3):
        with pytest.raises(Away, match="does not know this process"):
            await client.call("add", 1)
    await client.close()
    assert toy.added == 0
    assert [one["status"] for one in told] == [401]
    assert keeper.app.figures()["unauthorized"] == 3


async def test_what_is_not_below_port_is_the_other_application(keeper: Keeper) -> None:
    async with aiohttp.ClientSession() as session:
        for path in ("/", "/ports", "/api/health"):
            async with session.get(keeper.url + path) as answer:
                assert await answer.text() == "beside"


# -- bounds


async def test_requests_are_bounded(keeper: Keeper, toy: RealToy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portserver, "REQUEST_MAX", 1000)
    client = client_of(keeper.url)
    assert len((await client.call("box", [b"x" * 900])).lines) == 1
    with pytest.raises(BadCall, match="413"):
        await client.call("box", [b"x" * 1000])
    headers = {"Authorization": f"Bearer {TOKEN}", NAME_HEADER: NAME}

    async def parts(count: int) -> AsyncIterator[bytes]:
        yield b"\x91\x9a"
        for _ in range(count):
            yield b"\xc4\x60" + b"x" * 96

    async with aiohttp.ClientSession(headers=headers) as session:
        for count, status in ((10, 200), (11, 413)):
            async with session.post(keeper.url + "/port/box", data=parts(count)) as answer:
                assert answer.status == status
    monkeypatch.setattr(portclient, "REQUEST_MAX", 500)
    with pytest.raises(BadCall, match="500 octets"):
        await client.call("box", [b"x" * 900])
    await client.close()


async def test_calls_in_hand_share_a_bounded_memory(toy: RealToy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portserver, "REQUESTS_OCTETS", 10_000)
    async with Keeper(app_of(toy)) as keeper:
        client = client_of(keeper.url, pool=50)
        # Each fits alone; together they wait for their turn.
        boxes = await asyncio.gather(*(client.call("box", [b"x" * 9_000]) for _ in range(20)))
        assert len(boxes) == 20
        monkeypatch.setattr(portclient, "TRIES_MAX", 2)
        hasty = client_of(keeper.url)
        with pytest.raises(Away, match=r"503 .*Too much"):
            await hasty.call("box", [b"x" * 10_000])
        await hasty.close()
        await client.close()


async def test_a_slow_reader_holds_back_the_frames(
    keeper: Keeper, client: PortClient[Toy], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0
    real = PortCodec.frames

    def counted(self: Any, method: str, result: Any) -> Any:
        nonlocal made
        for frame in real(self, method, result):
            made += 1
            yield frame

    monkeypatch.setattr(PortCodec, "frames", counted)
    call = codec().pack_call("lines", (400, 200_000), {})
    request = (
        f"POST /port/lines HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {TOKEN}\r\n{NAME_HEADER}: {NAME}\r\n"
        f"Content-Length: {len(call)}\r\n\r\n"
    ).encode() + call
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        slow.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(slow, ("127.0.0.1", keeper.rest.port))
        await loop.sock_sendall(slow, request)
        await until(lambda: made)
        before = -1
        while before != made:
            before = made
            await asyncio.sleep(0.2)
        # 80 MB are asked for; the sockets between take a few.
        assert made < 100
        assert await client.call("add", 1) == 2
    await until(lambda: keeper.app.figures()["in_hand"] == 0)


async def test_a_reader_that_never_reads_is_let_go(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portserver, "SILENCE_SECONDS", 0.3)
    call = codec().pack_call("lines", (400, 200_000), {})
    reader, writer = await asyncio.open_connection("127.0.0.1", keeper.rest.port, limit=1000)
    writer.write(
        f"POST /port/lines HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {TOKEN}\r\n{NAME_HEADER}: {NAME}\r\n"
        f"Content-Length: {len(call)}\r\n\r\n".encode()
        + call
    )
    await until(lambda: keeper.app.figures()["in_hand"] == 1)
    await until(lambda: keeper.app.figures()["in_hand"] == 0)
    writer.close()
    del reader
