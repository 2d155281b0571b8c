"""Starting, draining, restarting, and settings that change while running."""

from __future__ import annotations

import asyncio

import pytest

from runtime.listener import BindError
from smtp.settings import LiveSettings

MESSAGE = b"Subject: x\r\n\r\n.\r\n"


async def test_the_listeners_that_are_asked_for(start) -> None:
    async with start(submission_port=None) as running:
        assert sorted(running.service.ports) == ["smtp", "submissions"]
        assert running.service.running


async def test_a_port_in_use(start) -> None:
    async with start() as running:
        with pytest.raises(BindError, match="in use"):
            async with start(port=running.service.ports["smtp"]):
                raise AssertionError


async def test_drain_ends_idle_connections_and_finishes_transactions(running) -> None:
    idle, busy = await running.connect(), await running.connect()
    await idle.hello()
    await busy.hello()
    await busy.envelope()
    await busy.say("DATA")
    await busy.send(b"Subject: half\r\n")
    draining = asyncio.create_task(running.service.drain())
    assert (await idle.reply()).startswith("421 4.3.2")
    assert await idle.closed() == b""
    with pytest.raises(ConnectionError):
        await running.connect()
    assert not draining.done()
    await busy.send(b"\r\n.\r\n")
    assert (await busy.reply()).startswith("250")
    assert (await busy.reply()).startswith("421 4.3.2")
    async with asyncio.timeout(30):
        await draining
    assert len(running.storage.delivered) == 1


async def test_drain_does_not_wait_for_a_transaction_without_text(running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smtp.service.TRANSACTION_SECONDS", 0.2)
    lazy, busy = await running.connect(), await running.connect()
    for client in (lazy, busy):
        await client.hello()
        await client.envelope()
    await busy.say("DATA")
    draining = asyncio.create_task(running.service.drain())
    assert (await lazy.reply()).startswith("421 4.3.2")
    assert await lazy.closed() == b""
    assert not draining.done()
    await busy.send(MESSAGE)
    assert (await busy.reply()).startswith("250")
    assert (await busy.reply()).startswith("421 4.3.2")
    async with asyncio.timeout(30):
        await draining
    assert len(running.storage.delivered) == 1


async def test_a_transaction_that_goes_on_is_finished_in_a_drain(running) -> None:
    client = await running.connect()
    await client.hello()
    await client.envelope()
    draining = asyncio.create_task(running.service.drain())
    await asyncio.sleep(0)
    assert (await client.data(MESSAGE)).startswith("250")
    assert (await client.reply()).startswith("421 4.3.2")
    await draining


async def test_restart_loses_nothing_in_the_middle_of_data(running) -> None:
    idle, busy = await running.connect(), await running.connect()
    await idle.hello()
    await busy.hello()
    await busy.envelope()
    await busy.say("DATA")
    await busy.send(b"Subject: half\r\n")
    ports = dict(running.service.ports)
    await running.service.restart()
    assert running.service.ports == ports
    assert (await idle.reply()).startswith("421 4.3.2")
    fresh = await running.connect()
    await fresh.hello()
    await busy.send(b"\r\n.\r\n")
    assert (await busy.reply()).startswith("250")
    assert len(running.storage.delivered) == 1
    assert (await fresh.say("NOOP")).startswith("250")


async def test_stop_answers_what_is_being_committed(start, until) -> None:
    async with start() as running:
        running.storage.gate = asyncio.Event()
        client, waiting = await running.connect(), await running.connect()
        await client.hello()
        await client.envelope()
        await client.say("DATA")
        await client.send(MESSAGE)
        await until(lambda: running.storage.batches == [1])
        await waiting.hello()
        await waiting.envelope()
        await waiting.say("DATA")
        stopping = asyncio.create_task(running.service.stop())
        assert (await waiting.reply()).startswith("421")
        running.storage.gate.set()
        assert (await client.reply()).startswith("250")
        await stopping
        assert len(running.storage.delivered) == 1


async def test_enabled(running) -> None:
    before = await running.connect()
    await before.hello()
    running.service.apply(LiveSettings(enabled=False))
    refused = await running.connect()
    assert (await refused.reply()).startswith("421 4.3.2")
    assert await refused.closed() == b""
    # Who is in stays.
    await before.envelope()
    assert (await before.data(MESSAGE)).startswith("250")
    running.service.apply(LiveSettings(enabled=True))
    again = await running.connect()
    assert (await again.reply()).startswith("220")


async def test_live_settings(running) -> None:
    service = running.service
    service.apply(LiveSettings(max_workers=9, pool_size=3, timeout=1.5))
    assert service.live() == LiveSettings(max_workers=9, pool_size=3, timeout=1.5, enabled=True)
    assert service.reception.max_workers == 9
    assert service._streams.limit == 3
    assert service.reception.timeout == 1.5


async def test_waited_too_long(start, until) -> None:
    async with start(max_workers=1, timeout=0.3) as running:
        running.storage.gate = asyncio.Event()
        first, second = [await running.connect() for _ in range(2)]
        for client in (first, second):
            await client.hello()
            await client.envelope()
            await client.say("DATA")
            await client.send(MESSAGE)
            await until(lambda: running.storage.batches == [1])
        assert (await second.reply()).startswith("451 4.3.2")
        running.storage.gate.set()
        assert (await first.reply()).startswith("250")
        assert len(running.storage.delivered) == 1


async def test_queue_full(start, until) -> None:
    async with start(max_workers=1, queue_max=1) as running:
        running.storage.gate = asyncio.Event()
        clients = [await running.connect() for _ in range(3)]
        for number, client in enumerate(clients):
            await client.hello()
            await client.envelope()
            await client.say("DATA")
            await client.send(MESSAGE)
            if number == 0:
                await until(lambda: running.storage.batches == [1])
            elif number == 1:
                await until(lambda: running.service.reception.emails_in_queue == 2)
        assert (await clients[2].reply()).startswith("452 4.3.1")
        running.storage.gate.set()
        for client in clients[:2]:
            assert (await client.reply()).startswith("250")
        assert len(running.storage.delivered) == 2


async def test_big_messages_wait_for_the_pool(start, until) -> None:
    async with start(pool_size=1, timeout=0.3) as running:
        first, second = await running.connect(), await running.connect()
        for client in (first, second):
            await client.hello()
            await client.envelope()
            await client.say("DATA")
        big = b"A: b\r\n\r\n" + b"y\r\n" * 100_000
        await first.send(big)
        await until(lambda: running.service._streams._used == 1)
        await second.send(big + b".\r\n")
        assert (await second.reply()).startswith("452 4.3.1")
        await first.send(b".\r\n")
        assert (await first.reply()).startswith("250")
        await second.envelope()
        assert (await second.data(big + b".\r\n")).startswith("250")
