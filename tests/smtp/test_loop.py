"""The loop never waits, and everybody is served."""

from __future__ import annotations

import asyncio

from blockbuster import blockbuster_ctx

MESSAGE = b"From: a@remote.example\r\nSubject: x\r\n\r\nbody\r\n.\r\n"


async def test_nothing_blocks(running) -> None:
    with blockbuster_ctx("smtp"):
        client = await running.connect("submissions")
        await client.hello()
        await client.sign_in()
        await client.envelope("alice@example.org", "bob@example.org", "x@elsewhere.example")
        assert (await client.data(MESSAGE)).startswith("250")
        await client.envelope("alice@example.org")
        assert (await client.data(b"A: b\r\n\r\n" + b"y" * 70 + b"\r\n" * 300_000 + b".\r\n")).startswith("250")
        await running.service.restart()


async def test_others_are_answered_while_big_messages_arrive(running) -> None:
    """How late the loop is meanwhile is measured by ``python -m bench.loop_lag``."""
    block = (b"x" * 76 + b"\r\n") * 800
    other = await running.connect()
    await other.hello()
    senders = [await running.connect() for _ in range(2)]
    for client in senders:
        await client.hello()
        await client.envelope()
        await client.say("DATA")
        await client.send(b"A: b\r\n\r\n")
    for number in range(10 * 1024 * 1024 // len(block)):
        for client in senders:
            await client.send(block)
        if number % 20 == 0:
            assert (await other.say("NOOP")).startswith("250")
    for client in senders:
        await client.send(b".\r\n")
        assert (await client.reply()).startswith("250")
    assert running.service._budget.used == 0


async def test_a_flood_of_commands_leaves_room_for_others(running) -> None:
    flood, other = await running.connect(), await running.connect()
    await flood.hello()
    await other.hello()

    async def drown() -> None:
        await flood.send(b"RSET\r\n" * 40_000)
        for _ in range(40_000):
            await flood.reply()

    drowning = asyncio.create_task(drown())
    async with asyncio.timeout(60):
        for _ in range(20):
            assert (await other.say("NOOP")).startswith("250")
    await drowning


async def test_many_clients_at_once(running) -> None:
    async def one() -> None:
        client = await running.connect()
        await client.hello()
        for _ in range(5):
            await client.envelope()
            assert (await client.data(MESSAGE)).startswith("250")
        await client.say("QUIT")
        client.writer.close()

    await asyncio.gather(*(one() for _ in range(100)))
    assert len(running.storage.delivered) == 500
    assert len({delivery.trace for delivery, _ in running.storage.delivered}) == 500
