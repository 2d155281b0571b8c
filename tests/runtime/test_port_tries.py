"""Calls of a port over HTTP while answers are lost, servers end, and callers go."""

from __future__ import annotations

import asyncio
import socket

import pytest

from runtime.portclient import PortClient
from tests.cutting import CuttingProxy
from tests.patience import attempts
from tests.served import Keeper
from tests.toyport import (
    Away,
    RealToy,
    Toy,
    answering,
    app_of,
    client_of,
    head,
    pieces_of,
    until,
    url_of,
)


@pytest.mark.parametrize(
    "sent",
    [
        head("Content-Length: 4") + b"\xff\xff\xff\xff",
        head("Content-Length: 9") + b"\0\0\0\x05abcde",
        head("Content-Length: 4") + b"\0\0\0\x05",
        head("Content-Length: 2") + b"\0\0",
        head("Content-Length: 0"),
        head("Content-Length: 500") + b"\0\0\0\x06\x92\xa3end\x01",
        head("Content-Length: 11") + b"\0\0\0\x06\x92\xa3end\x01" + b"x",
        head("Transfer-Encoding: chunked") + b"a\r\n\0\0\0\x06\x92\xa3end",
        head("Transfer-Encoding: chunked") + b"0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 20",
        b"nonsense\r\n\r\n",
        b"",
    ],
)
async def test_an_answer_that_is_not_whole_is_unavailable(sent: bytes) -> None:
    asked = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        writer.write(sent)

    async with await answering(answer) as server:
        for attempt in attempts():
            with attempt as seconds:
                client, asked = client_of(url_of(server), timeout=seconds), 0
                with pytest.raises(Away, match="toy is away"):
                    await client.call("add", 1)
                assert asked > 1
                asked = 0
                with pytest.raises(Away, match="not known whether it was done"):
                    await client.call("hold")
                assert asked == 1
                await client.close()


@pytest.mark.parametrize(
    "status",
    ["301 Moved Permanently\r\nLocation: /elsewhere", "403 Forbidden", "404 Not Found", "500 Internal Server Error"],
)
async def test_another_server_at_the_url_is_unavailable_at_once(status: str) -> None:
    asked = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nhi".encode())

    async with await answering(answer) as server:
        client = client_of(url_of(server))
        with pytest.raises(Away, match="does not know this process or call"):
            await client.call("add", 1)
        assert asked == 1
        await client.close()


# -- tries


async def test_a_cut_answer_is_asked_for_again(keeper: Keeper, toy: RealToy) -> None:
    async with CuttingProxy(keeper.rest.port) as proxy:
        client = client_of(proxy.url)
        for cuts in (["before"], ["head"], ["body"], ["body", "before", "head", "before"]):
            proxy.cuts.extend(cuts)  # type: ignore[arg-type]  # they are
            toy.added = 0
            assert await client.call("add", 4) == 5
            assert toy.added == len(cuts) + 1
            assert not proxy.cuts
        await client.close()


async def test_what_may_not_be_done_twice_is_sent_once(keeper: Keeper, toy: RealToy) -> None:
    toy.gate.set()
    async with CuttingProxy(keeper.rest.port) as proxy:
        client = client_of(proxy.url)
        for number, cut in enumerate(("before", "head", "body"), 1):
            proxy.cuts.append(cut)  # type: ignore[arg-type]  # it is
            with pytest.raises(Away, match="not known whether it was done"):
                await client.call("hold")
            assert toy.added == number
        assert await client.call("hold") == 4
        await client.close()


async def test_a_call_outlasts_a_restart(toy: RealToy) -> None:
    async with Keeper(app_of(toy)) as keeper:
        port = keeper.rest.port
        client = client_of(keeper.url)
        assert await client.call("add", 1) == 2
    # One that may not be done twice too: it was not begun.
    toy.gate.set()
    calls = [asyncio.create_task(client.call(*call)) for call in (("add", 2), ("hold",))]
    keeping = asyncio.create_task(client.stream("keep", pieces_of([b"abc"])))
    await asyncio.sleep(0.3)
    assert not any(call.done() for call in (*calls, keeping))
    async with Keeper(app_of(toy), port) as keeper:
        assert await calls[0] == 3
        assert await calls[1] > 0
        assert await keeping == 3
        assert await client.call("add", 3) == 4
        await client.close()


async def test_after_its_time_a_call_is_unavailable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        client = client_of(f"http://127.0.0.1:{taken.getsockname()[1]}", timeout=0.5)
        loop = asyncio.get_running_loop()
        for _ in range(20):
            start = loop.time()
            with pytest.raises(Away, match=r"toy is away: ") as told:
                await client.call("hold")
            assert 0.4 < loop.time() - start < 30
            # Where its time is over in the middle of a try, it is not known of that one.
            if "not known" not in str(told.value):
                break
        else:
            pytest.fail("it is known that nobody was there to do it")
        await client.close()


async def test_a_call_that_takes_too_long_is_not_sent_again(keeper: Keeper, toy: RealToy) -> None:
    for seconds in (0.3, 3.0, 30.0):
        client = client_of(keeper.url, timeout=seconds)
        with pytest.raises(Away) as told:
            await client.call("hold")
        await client.close()
        # Where it has not come there in the time, on a machine that stands still now and then, it gets more.
        if toy.held:
            break
    assert f"no answer within {seconds:g} seconds; it is not known" in str(told.value)
    assert (toy.held, toy.held_most) == (1, 1)


async def test_several_places_take_turns_and_stand_in_for_each_other(
    toy: RealToy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Keeper(app_of(toy)) as one:
        async with Keeper(app_of(toy)) as other:
            client = client_of(f"{one.url},{other.url.removeprefix('http://')}")
            for _ in range(10):
                await client.call("add", 1)
            assert one.app.figures()["calls"] == other.app.figures()["calls"] == 5
        begun: list[str] = []
        attempt = client._try

        async def counted(session: object, place: str, *call: object) -> object:
            begun.append(place)
            return await attempt(session, place, *call)

        monkeypatch.setattr(client, "_try", counted)
        monkeypatch.setattr("runtime.portclient.AWAY_SECONDS", 600.0)
        for _ in range(50):
            await client.call("add", 1)
        # The one that is away is passed over once that is known.
        assert begun.count(other.url) <= 1
        await client.close()


# -- the pool, and who stops waiting


async def test_the_pool_bounds_the_calls_and_not_the_polls(keeper: Keeper, toy: RealToy) -> None:
    client = client_of(keeper.url, pool=2)
    polls = [asyncio.create_task(client.poll("wait", 30.0, wait=30.0, idle=None)) for _ in range(5)]
    await until(lambda: toy.waiting == 5)
    assert await client.call("add", 1) == 2
    holds = [asyncio.create_task(client.call("hold")) for _ in range(6)]
    await until(lambda: toy.held == 2)
    await asyncio.sleep(0.1)
    assert toy.held == 2
    kept = await client.stream("keep", pieces_of([b"abc"] * 3))
    assert kept == 9
    toy.gate.set()
    assert sorted(await asyncio.gather(*holds)) == [2, 3, 4, 5, 6, 7]
    assert await asyncio.gather(*polls) == [True] * 5
    assert toy.held_most == 2
    await client.close()


async def test_who_stops_waiting_does_not_stop_the_call(keeper: Keeper, toy: RealToy, client: PortClient[Toy]) -> None:
    call = asyncio.create_task(client.call("hold"))
    await until(lambda: toy.held)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.sleep(0.05)
    toy.gate.set()
    await until(lambda: toy.added == 1)
    assert await client.call("add", 1) == 2


async def test_a_poll_ends_with_its_caller(keeper: Keeper, toy: RealToy, client: PortClient[Toy]) -> None:
    poll = asyncio.create_task(client.poll("wait", 30.0, wait=30.0, idle=None))
    await until(lambda: toy.waiting)
    poll.cancel()
    with pytest.raises(asyncio.CancelledError):
        await poll
    await until(lambda: not toy.waiting and keeper.app.figures()["in_hand"] == 0)
    assert await client.poll("wait", 0.0, wait=0.0, idle=None) is False


async def test_closing_ends_polls_with_nothing_new(keeper: Keeper, toy: RealToy, client: PortClient[Toy]) -> None:
    poll = asyncio.create_task(client.poll("wait", 30.0, wait=30.0, idle="nothing"))
    calls = [asyncio.create_task(client.call("hold")), asyncio.create_task(client.call("wait", 30.0))]
    await until(lambda: toy.waiting == 2 and toy.held)
    await client.close()
    assert await poll == "nothing"
    async with asyncio.timeout(30):
        for call in calls:
            with pytest.raises(Away):
                await call
    with pytest.raises(Away, match="closed"):
        await client.call("add", 1)
    with pytest.raises(Away, match="closed"):
        await client.poll("wait", 1.0, wait=1.0, idle=None)
    with pytest.raises(Away, match="closed"):
        await client.stream("keep", pieces_of([b"x"]))


async def test_a_drain_ends_polls_and_they_go_elsewhere(toy: RealToy) -> None:
    async with Keeper(app_of(toy)) as other, Keeper(app_of(toy)) as ending:
        client = client_of(f"{ending.url},{other.url.removeprefix('http://')}")
        polls = [asyncio.create_task(client.poll("wait", 30.0, wait=30.0, idle=None)) for _ in range(4)]
        await until(lambda: toy.waiting == 4)
        async with asyncio.timeout(30):
            await ending.app.drain()
            await ending.rest.drain()
        await until(lambda: toy.waiting == 4)
        toy.gate.set()
        assert await asyncio.gather(*polls) == [True] * 4
        await client.close()


async def test_both_ends_send_without_delay(keeper: Keeper, client: PortClient[Toy]) -> None:
    """With Nagle's algorithm each call would wait 40 ms for an acknowledgement."""
    await client.call("add", 1)
    (theirs,) = keeper.rest._server.server_state.connections  # type: ignore[union-attr]  # it has been started
    ((ours, _),) = [one for kept in client._calls.connector._conns.values() for one in kept]  # type: ignore[union-attr]
    for end in (ours, theirs):
        assert end.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
