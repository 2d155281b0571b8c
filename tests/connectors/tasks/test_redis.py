"""The Redis behind tasks: what it must be set to, and that it keeps what was accepted when it is killed."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Iterator

import pytest
import redis

from connectors.tasks.adapters.redis import open_redis
from connectors.tasks.connect import connect
from connectors.tasks.model import NewTask, Status
from connectors.tasks.port import Unavailable
from tests.redisserver import DURABLE, Server

Start = Callable[..., Server]


@pytest.fixture
def start() -> Iterator[Start]:
    begun: list[Server] = []

    def one(*options: str) -> Server:
        begun.append(Server(*options))
        return begun[-1]

    yield one
    for server in begun:
        server.close()


def task(to: str = "x@far.example") -> NewTask:
    return NewTask("ann", "ann@example.org", to, b"Subject: x\r\n\r\nHello\r\n", "trace-1")


async def test_one_that_would_lose_tasks_is_refused_and_told_why(start: Start) -> None:
    server = start()
    with redis.Redis.from_url(server.url) as admin:
        for changed, words in (
            ({}, ["appendonly is no", "appendfsync is everysec", "appendonly yes", "appendfsync always"]),
            ({"appendonly": "yes"}, ["appendfsync is everysec"]),
            ({"appendfsync": "always", "maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}, ["allkeys-lru"]),
        ):
            for name, value in changed.items():
                admin.config_set(name, value)
            with pytest.raises(ValueError, match=r"queue\.url") as refused:
                await open_redis(server.url)
            assert all(word in str(refused.value) for word in words)
        admin.config_set("maxmemory-policy", "noeviction")
        await (await open_redis(server.url)).close()
        admin.execute_command("ACL", "SETUSER", "worker", "on", ">s3cret", "~*", "+@all", "-config")
    with pytest.raises(ValueError, match="CONFIG GET") as refused:
        await open_redis(server.url.replace("//", "//worker:s3cret@"))
    assert "s3cret" not in str(refused.value)


async def test_what_was_accepted_survives_its_kill(start: Start) -> None:
    server = start(*DURABLE)
    queue = await open_redis(server.url)
    try:
        put = {await queue.put(task(f"x{n}@far.example"), uuid.uuid4().hex) for n in range(50)}
        sent, held, *_ = await queue.claim(10, 60.0)
        await queue.succeed(sent)
        await queue.retry(held, 0.0, "not now")
        server.kill()
        with pytest.raises(Unavailable):
            await queue.put(task(), "k")
        await server.start_in_thread()
        assert (await queue.task(sent.task.id, None)).status is Status.SUCCESS
        assert (await queue.task(held.task.id, None)).attempts == 1
        assert await queue.waiting() == 49
        found = {one.task.id for one in await queue.claim(100, 60.0)}
        assert len(found) == 41
        assert found | {sent.task.id} <= put
        assert held.task.id in found
    finally:
        await queue.close()


async def test_one_that_comes_back_and_would_lose_tasks_is_given_nothing(start: Start) -> None:
    server = start(*DURABLE)
    queue = await open_redis(server.url)
    try:
        id = await queue.put(task(), "before")
        server.kill()
        server.options = ("--appendonly", "yes", "--appendfsync", "everysec")
        await server.start_in_thread()
        with pytest.raises(Unavailable):
            # on the connection that has ended
            await queue.put(task(), "after")
        with pytest.raises(Unavailable, match="appendfsync is everysec"):
            await queue.put(task(), "after")
        with pytest.raises(Unavailable, match="would lose accepted tasks"):
            await queue.claim(1, 60.0)
        with redis.Redis.from_url(server.url) as admin:
            admin.config_set("appendfsync", "always")
        await queue.put(task(), "after")
        assert id in {one.task.id for one in await queue.claim(2, 60.0)}
    finally:
        await queue.close()


async def test_puts_under_kills_are_there_once(start: Start) -> None:
    """A put whose answer was lost is put again under its key."""
    server = start(*DURABLE)
    queue = await open_redis(server.url)
    acknowledged: dict[str, str] = {}
    stop = asyncio.Event()

    async def putting(who: int) -> None:
        number = 0
        while not stop.is_set():
            key = f"{who}-{number}"
            try:
                acknowledged[key] = await queue.put(task(f"{key}@far.example"), key)
            except Unavailable:
                await asyncio.sleep(0.01)
            else:
                number += 1

    loads = [asyncio.create_task(putting(who)) for who in range(4)]
    for _ in range(3):
        before = len(acknowledged)
        async with asyncio.timeout(30):
            while True:
                await asyncio.sleep(0.01)
                if len(acknowledged) >= before + 40:
                    break
        server.kill()
        await server.start_in_thread()
    stop.set()
    await asyncio.gather(*loads)
    found: list[str] = []
    while some := await queue.claim(100, 60.0):
        found += [one.task.id for one in some]
    await queue.close()
    assert len(found) == len(set(found))
    assert set(acknowledged.values()) <= set(found)
    # Those whose answers were lost at the end.
    assert len(found) <= len(acknowledged) + len(loads)


async def test_one_that_was_emptied_is_made_ready_again(start: Start) -> None:
    server = start(*DURABLE)
    tasks = await open_redis(server.url)
    with redis.Redis.from_url(server.url) as admin:
        admin.flushall()
    id = await tasks.put(task(), "key")
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(Unavailable):
                (claimed,) = await tasks.claim(1, 60.0)
                break
            await asyncio.sleep(0.01)
    assert claimed.task.id == id
    await tasks.succeed(claimed)
    await tasks.close()


async def test_a_redis_that_is_not_there() -> None:
    with pytest.raises(Unavailable):
        await open_redis("redis://127.0.0.1:1/0")
    with pytest.raises(ValueError, match=r"queue\.url"):
        await connect("amqp://localhost", None)  # type: ignore[arg-type]


async def test_a_waiting_claim_ends_with_its_queue(start: Start) -> None:
    queue = await open_redis(start(*DURABLE).url)
    waiting = asyncio.create_task(queue.claim(1, 60.0, 50.0))
    await asyncio.sleep(0)
    await queue.close()
    with pytest.raises(Unavailable):
        async with asyncio.timeout(20):
            await waiting
