"""BDAT (RFC 3030): the same message as DATA, and every way of doing it wrong."""

from __future__ import annotations

import random

import pytest

from storage.model import INLINE_MAX
from tests.smtp.test_data import split


async def bdat(client, text: bytes, last: bool = True) -> str:
    return await client.say(b"BDAT %d%s\r\n" % (len(text), b" LAST" if last else b"") + text)


async def ready(running, listener: str = "smtp", *recipients: str):
    client = await running.connect(listener)
    await client.hello()
    await client.envelope("a@remote.example", *recipients)
    return client


def stored(running, at: int = -1) -> bytes:
    return split(running.storage.delivered[at][1])[1]


TEXTS = [
    b"A: b\r\n\r\n.\r\n..\r\nbody\r\n",
    b"\r\n",
    b"A: b\r\n\r\n" + b"x" * 900 + b"\r\n",
    b"A: b\r\n\r\n" + (b"y" * 76 + b"\r\n") * 20_000,
    b"A: b\r\n\r\nQUIT\r\n.\r\nMAIL FROM:<x@y.example>\r\n",
]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: str(len(text)))
@pytest.mark.parametrize("pieces", [1, 2, 7])
async def test_the_same_message_as_data(running, text: bytes, pieces: int) -> None:
    client = await ready(running)
    assert (await client.data((b"\r\n" + text).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n")).startswith("250")
    chooser = random.Random(len(text) * pieces)
    cuts = sorted(chooser.randrange(len(text) + 1) for _ in range(pieces - 1))
    await client.envelope()
    for start, end in zip([0, *cuts], cuts, strict=False):
        assert await bdat(client, text[start:end], last=False) == f"250 2.0.0 {end - start} octets received"
    assert (await bdat(client, text[cuts[-1] if cuts else 0 :])).startswith("250 2.0.0 Ok: stored as ")
    assert stored(running, 0) == stored(running, 1) == text
    (by_data, first), (by_chunks, second) = running.storage.delivered
    assert split(first)[0].split(b";")[0].split(b"id ")[0] == split(second)[0].split(b";")[0].split(b"id ")[0]
    assert (by_data.sender, by_data.params) == (by_chunks.sender, by_chunks.params)
    assert [one.prefix for one in by_data.local] == [one.prefix for one in by_chunks.local]


async def test_a_last_chunk_without_octets(running) -> None:
    client = await ready(running)
    assert (await bdat(client, b"A: b\r\n\r\nc\r\n", last=False)).startswith("250")
    assert (await bdat(client, b"")).startswith("250 2.0.0 Ok")
    assert stored(running) == b"A: b\r\n\r\nc\r\n"
    await client.envelope()
    assert (await bdat(client, b"")).startswith("250 2.0.0 Ok")
    assert stored(running) == b""


async def test_a_text_need_not_end_with_a_line_end(running) -> None:
    client = await ready(running)
    assert (await bdat(client, b"A: b\r\n\r\nno end")).startswith("250")
    assert stored(running) == b"A: b\r\n\r\nno end"


async def test_all_in_one_packet(running) -> None:
    client = await running.connect()
    await client.hello()
    await client.send(
        b"MAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\nBDAT 4\r\nA: bBDAT 4\r\n\r\n\r\nBDAT 0 LAST\r\n"
        b"MAIL FROM:<>\r\nRCPT TO:<bob@example.org>\r\nBDAT 2 last\r\n\r\nQUIT\r\n"
    )
    codes = [(await client.reply())[:9] for _ in range(9)]
    assert codes == ["250 2.1.0", "250 2.1.5", *["250 2.0.0"] * 3, "250 2.1.0", "250 2.1.5", "250 2.0.0", "221 2.0.0"]
    assert [stored(running, 0), stored(running, 1)] == [b"A: b\r\n\r\n", b"\r\n"]


async def test_a_big_message_streams(running) -> None:
    client = await ready(running)
    chunk = b"\r\n\r\n" + (b"z" * 98 + b"\r\n") * 5_000
    for _ in range(6):
        assert (await bdat(client, chunk, last=False)).startswith("250")
    assert running.service.handler._budget.used <= 3 * INLINE_MAX
    assert (await bdat(client, b"")).startswith("250 2.0.0 Ok")
    assert stored(running) == chunk * 6
    assert running.service.handler._budget.used == 0


@pytest.mark.parametrize(
    "argument",
    [b"", b"LAST", b"-1", b"x", b"1 2", b"1 LAST x", b"9" * 21, b"50\r LAST", b"50 \xff", b"50\0", b"5" + b" " * 600],
)
async def test_syntax(running, argument: bytes) -> None:
    """How much text follows is not known: none of it is read as commands."""
    client = await ready(running)
    await client.send(b"BDAT %s\r\nRSET\r\nMAIL FROM:<>\r\nRCPT TO:<bob@example.org>\r\n" % argument)
    assert (await client.reply()).startswith("501 5.5.4")
    assert await client.closed() == b""


async def test_chunks_of_few_octets_cost_what_they_take(start) -> None:
    async with start(memory_max=100_000) as running:
        client = await ready(running)
        # 20,000 octets, and some 40 more for each object that holds two of them.
        await client.send(b"BDAT 2\r\nxx" * 10_000)
        replies = [(await client.reply())[:9] for _ in range(10_000)]
        assert replies.count("250 2.0.0") < 2_000
        assert replies[-1] == "452 4.3.1"
        assert running.service.handler._budget.used == 0


async def test_out_of_sequence_chunks_are_taken_and_refused(running) -> None:
    client = await running.connect()
    await client.reply()
    # In each the octets would be commands if they were read as such.
    assert (await bdat(client, b"QUIT\r\n")).startswith("503 5.5.1")
    await client.say("EHLO client.example")
    assert (await bdat(client, b"QUIT\r\n")).startswith("503 5.5.1")
    await client.say("MAIL FROM:<>")
    assert (await bdat(client, b"QUIT\r\n", last=False)).startswith("554 5.5.1")
    assert (await bdat(client, b"QUIT\r\n")).startswith("554 5.5.1")
    # After all recipients were refused MAIL holds on, as after DATA.
    await client.say("RCPT TO:<alice@example.org>")
    assert (await bdat(client, b"A: b\r\n\r\n")).startswith("250")
    assert (await bdat(client, b"QUIT\r\n")).startswith("503 5.5.1")
    assert len(running.storage.delivered) == 1


async def test_before_sign_in(running) -> None:
    client = await running.connect("submission")
    await client.hello()
    assert (await bdat(client, b"QUIT\r\n")).startswith("530 5.7.0")
    assert (await client.say("NOOP")).startswith("250")


async def test_data_does_not_go_with_bdat(running) -> None:
    client = await ready(running)
    assert (await bdat(client, b"A: b\r\n", last=False)).startswith("250")
    for command in ("DATA", "RCPT TO:<bob@example.org>", "MAIL FROM:<>"):
        assert (await client.say(command)).startswith("503 5.5.1"), command
    assert (await client.say("NOOP")).startswith("250")
    assert (await bdat(client, b"\r\n")).startswith("250")
    assert stored(running) == b"A: b\r\n\r\n"
    assert [one.account for one in running.storage.delivered[0][0].local] == ["Aalice"]


@pytest.mark.parametrize("command", ["RSET", "EHLO again.example", "HELO again.example"])
async def test_given_up_in_the_middle(running, until, command: str) -> None:
    client = await ready(running)
    assert (await bdat(client, b"\r\n" * 300_000, last=False)).startswith("250")
    assert (await client.say(command)).startswith("250")
    await until(lambda: running.service.handler._budget.used == 0)
    await client.envelope("a@remote.example", "bob@example.org")
    assert (await bdat(client, b"C: d\r\n\r\n")).startswith("250")
    assert stored(running) == b"C: d\r\n\r\n"
    assert len(running.storage.delivered) == 1
    await until(lambda: bool(running.storage.recorded))
    assert running.storage.recorded[-1].detail["reply"] == "given up by the client"
    assert running.storage.recorded[-1].detail["size"] == 600_000


@pytest.mark.parametrize("octets", [0, 3, 400_000])
async def test_the_connection_is_lost_in_the_middle(running, until, octets: int) -> None:
    client = await ready(running)
    await client.send(b"BDAT 6\r\nA: b\r\nBDAT 500000 LAST\r\n" + (b"x" * 98 + b"\r\n") * (octets // 100))
    assert (await client.reply()).startswith("250")
    client.writer.close()
    await until(lambda: not running.service._door.open)
    assert running.storage.delivered == []
    assert running.service.handler._budget.used == 0


async def test_a_chunk_over_the_limit_is_drained_and_refused_once(start, until) -> None:
    async with start(size_max=1000) as running:
        client = await ready(running)
        assert (await bdat(client, b"x" * 600 + b"\r\n", last=False)).startswith("250")
        assert (await bdat(client, b"QUIT\r\n" * 100, last=False)).startswith("552 5.3.4")
        # What is on its way already goes the same way.
        assert (await bdat(client, b"QUIT\r\n" * 100, last=False)).startswith("552 5.3.4")
        assert (await bdat(client, b"QUIT\r\n")).startswith("552 5.3.4")
        assert (await bdat(client, b"QUIT\r\n")).startswith("503 5.5.1")
        assert running.service.figures.emails_refused == 1
        await until(lambda: bool(running.storage.recorded))
        assert [event.kind for event in running.storage.recorded].count("refused") == 1
        await client.envelope()
        assert (await bdat(client, b"y" * 998 + b"\r\n")).startswith("250 2.0.0 Ok")
        await client.envelope()
        assert (await bdat(client, b"y" * 999 + b"\r\n")).startswith("552 5.3.4")
        await client.envelope()
        assert (await client.say("BDAT 99999999999999999999 LAST")).startswith("552 5.3.4")
        assert await client.closed() == b""
        assert len(running.storage.delivered) == 1


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"A: b\r\n\r\n\0\r\n", "554 5.6.0"),
        (b"A: b\r\n\r\nbare\nline\r\n", "554 5.6.11"),
        (b"A: b\r\n\r\nbare\rline\r\n", "554 5.6.11"),
        (b"A: b\r\n\r\nend\r", "554 5.6.11"),
        (b"A: b\r\n\r\n" + b"x" * 70_000 + b"\r\n", "554 5.6.0"),
    ],
)
async def test_the_rules_of_texts_hold(running, text: bytes, code: str) -> None:
    client = await ready(running)
    assert (await bdat(client, text)).startswith(code)
    await client.envelope()
    half = len(text) // 2
    first = await bdat(client, text[:half], last=False)
    second = await bdat(client, text[half:])
    assert code in {first[: len(code)], second[: len(code)]}
    assert running.storage.delivered == []
    assert (await client.say("NOOP")).startswith("250")


async def test_a_crlf_cut_between_chunks_is_one(running) -> None:
    client = await ready(running)
    assert (await bdat(client, b"A: b\r", last=False)).startswith("250")
    assert (await bdat(client, b"\n\r", last=False)).startswith("250")
    assert (await bdat(client, b"\n")).startswith("250")
    assert stored(running) == b"A: b\r\n\r\n"


async def test_storage_in_trouble(running) -> None:
    from storage.port import Unavailable

    client = await ready(running)
    running.storage.trouble = Unavailable("away")
    assert (await bdat(client, b"A: b\r\n\r\n")).startswith("451 4.3.0")
    running.storage.trouble = None
    await client.envelope()
    assert (await bdat(client, b"A: b\r\n\r\n")).startswith("250")


async def test_a_drain_waits_for_the_last_chunk(running, until) -> None:
    import asyncio

    client = await ready(running)
    assert (await bdat(client, b"A: b\r\n", last=False)).startswith("250")
    draining = asyncio.create_task(running.service.drain())
    await until(lambda: running.service._draining)
    assert (await bdat(client, b"\r\n")).startswith("250 2.0.0 Ok")
    assert (await client.reply()).startswith("421 4.3.2")
    await draining
    assert stored(running) == b"A: b\r\n\r\n"
