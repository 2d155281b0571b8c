"""Every quantity at its limit and one past it."""

from __future__ import annotations

import asyncio
import time

import pytest

from smtp.wire import ehlo


async def test_command_lines(running) -> None:
    client = await running.connect()
    await client.hello()
    for _ in range(5):
        # The limit does not grow with repeated EHLO.
        await client.say("EHLO client.example")
    assert (await client.say("NOOP " + "x" * (512 - 7))).startswith("250")
    assert (await client.say("NOOP " + "x" * (512 - 6))).startswith("500 5.5.2")
    pad = " " * (ehlo.MAIL_LINE_MAX - len("MAIL FROM:<>\r\n"))
    assert (await client.say(f"MAIL FROM:<>{pad}")).startswith("250")
    await client.say("RSET")
    assert (await client.say(f"MAIL FROM:<>{pad} ")).startswith("500 5.5.2")
    for length in (12_288, 13_000, 100_000, 1_000_000):
        assert (await client.say("NOOP " + "x" * length)).startswith("500 5.5.2")
    assert (await client.say("NOOP")).startswith("250")


async def test_auth_line(running) -> None:
    client = await running.connect()
    await client.hello()
    assert (await client.say("AUTH PLAIN")).startswith("334")
    assert (await client.say("A" * 12_289)).startswith("500 5.5.6")
    assert (await client.say("AUTH PLAIN")).startswith("334")
    assert (await client.say("A" * 200_000)).startswith("500 5.5.6")
    assert (await client.sign_in()).startswith("235")


async def test_a_thousand_commands_at_once(running) -> None:
    client = await running.connect()
    await client.hello()
    await client.send(b"NOOP\r\n" * 500 + b"RSET\r\n" * 500)
    for _ in range(1000):
        assert (await client.reply()).startswith("250")


async def test_errors_end_the_connection(start) -> None:
    async with start(errors_max=10) as running:
        client = await running.connect()
        await client.hello()
        await client.send(b"BOGUS\r\n" * 1000)
        answers = (await client.closed()).decode().splitlines()
        assert [line[:3] for line in answers] == ["500"] * 10 + ["421"]


async def test_twelve_thousand_recipients(running) -> None:
    client = await running.connect()
    await client.hello()
    await client.say("MAIL FROM:<>")
    await client.send(b"".join(b"RCPT TO:<alice+%d@example.org>\r\n" % n for n in range(12_000)))
    answers = [await client.reply() for _ in range(12_000)]
    assert {answer[:9] for answer in answers[:1000]} == {"250 2.1.5"}
    assert {answer[:9] for answer in answers[1000:]} == {"452 4.5.3"}
    assert running.identity.resolved == 1000
    assert (await client.data(b"A: b\r\n\r\n.\r\n")).startswith("250")
    assert len(running.storage.delivered[0][0].local) == 1


async def test_connections_of_one_address(start) -> None:
    async with start(connections_per_address=3, exempt_networks=()) as running:
        clients = [await running.connect() for _ in range(3)]
        for client in clients:
            assert (await client.reply()).startswith("220")
        fourth = await running.connect()
        assert (await fourth.reply()).startswith("421 4.7.0")
        assert await fourth.closed() == b""
        other = await running.connect(source="127.0.0.2")
        assert (await other.reply()).startswith("220")
        await clients[0].say("QUIT")
        await clients[0].closed()
        again = await running.connect()
        assert (await again.reply()).startswith("220")


async def test_loopback_is_exempt(start) -> None:
    async with start(connections_per_address=3) as running:
        clients = [await running.connect() for _ in range(100)]
        for client in clients:
            assert (await client.reply()).startswith("220")
        for client in clients:
            client.writer.close()


async def test_all_connections(start) -> None:
    async with start(connections_max=2) as running:
        clients = [await running.connect() for _ in range(2)]
        for client in clients:
            assert (await client.reply()).startswith("220")
        third = await running.connect()
        assert (await third.reply()).startswith("421 4.3.2")


@pytest.mark.parametrize("text", [b"", b"E", b"EHLO client.exam"])
async def test_a_slow_command_line_is_ended(start, text: bytes) -> None:
    async with start(command_timeout=0.3) as running:
        client = await running.connect()
        await client.reply()
        await client.send(text)
        assert (await client.reply()).startswith("421 4.4.2")
        assert await client.closed() == b""


async def test_one_octet_after_another_does_not_renew_a_command(start) -> None:
    async with start(command_timeout=0.4) as running:
        client = await running.connect()
        await client.reply()
        begun = time.perf_counter()
        while not client.reader.at_eof() and time.perf_counter() - begun < 30:
            try:
                await client.send(b"x")
            except ConnectionError:
                break
            try:
                async with asyncio.timeout(0.05):
                    assert (await client.reply()).startswith("421 4.4.2")
                    break
            except TimeoutError:
                continue
        assert time.perf_counter() - begun < 30


async def test_a_slow_text_is_ended(start) -> None:
    async with start(data_timeout=0.4) as running:
        client = await running.connect()
        await client.hello()
        await client.envelope()
        await client.say("DATA")
        begun = time.perf_counter()
        reply = asyncio.create_task(client.reply())
        while not reply.done() and time.perf_counter() - begun < 30:
            await client.send(b"x")
            await asyncio.sleep(0.03)
        assert (await reply).startswith("421 4.4.2")
        assert running.storage.delivered == []
        assert running.service._budget.used == 0


async def test_a_steady_text_is_not_ended(start, until) -> None:
    async with start(data_timeout=60) as running:
        client = await running.connect()
        await client.hello()
        await client.envelope()
        await client.say("DATA")
        (connection,) = running.service._door.open
        for _ in range(8):
            # It is given its time anew: how long that is says nothing, on a machine that stands still now and then.
            until_when = connection._deadline
            # The loop's clock goes in steps of a thousandth.
            await asyncio.sleep(0.005)
            await client.send(b"x" * 76 + b"\r\n" + b"yyyyyy\r\n" * 3000)
            await until(lambda before=until_when: connection._deadline > before)
        await client.send(b".\r\n")
        assert (await client.reply()).startswith("250")


async def test_a_client_that_reads_nothing_is_cut(start, until) -> None:
    async with start(command_timeout=0.3) as running:
        client = await running.connect()
        await client.reply()
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]  # no public way to stop reading
        with pytest.raises((ConnectionError, TimeoutError)):  # noqa: PT012  # the cut comes at some write
            async with asyncio.timeout(30):
                while True:
                    await client.send(b"HELP\r\n" * 20_000)
        await until(lambda: not running.service._door.open)
