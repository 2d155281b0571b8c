"""What DATA takes, byte for byte, and what it refuses without disturbing anybody."""

from __future__ import annotations

import asyncio
import hashlib
import random

import pytest

from storage.model import INLINE_MAX, Operation, StagedBlob
from storage.port import Unavailable

PRINTABLE = bytes(32 + octet % 95 for octet in range(256))
MESSAGE = b"From: a@remote.example\r\nSubject: x\r\n\r\nbody\r\n"


def split(blob: bytes) -> tuple[bytes, bytes]:
    """(our Received field, what came in)."""
    end = blob.index(b"\r\n", blob.index(b";")) + 2
    while blob[end : end + 1] == b"\t":
        end = blob.index(b"\r\n", end) + 2
    return blob[:end], blob[end:]


async def test_kept_byte_for_byte_behind_our_received(running) -> None:
    client = await running.connect()
    await client.hello("client.example")
    await client.envelope("a@remote.example", "alice@example.org", "bob@example.org")
    reply = await client.data(b"Subject: x\r\n\r\n..dot\r\n...\r\n\xff\xfe 8bit\r\n\r\n.\r\n")
    assert reply.startswith("250 2.0.0 Ok")
    delivery, blob = running.storage.delivered[0]
    head, body = split(blob)
    assert body == b"Subject: x\r\n\r\n.dot\r\n..\r\n\xff\xfe 8bit\r\n\r\n"
    assert head.startswith(b"Received: from client.example ([127.0.0.1])\r\n\tby mx.example.org with ESMTP")
    assert delivery.trace.encode() in head
    assert b" for " not in head
    assert [one.prefix for one in delivery.local] == [
        b"Return-Path: <a@remote.example>\r\nDelivered-To: alice@example.org\r\n",
        b"Return-Path: <a@remote.example>\r\nDelivered-To: bob@example.org\r\n",
    ]
    kinds = [event.kind for event in delivery.op.events]
    assert kinds == ["connect", "mail", "rcpt", "rcpt", "data"]
    assert all(event.trace == delivery.trace for event in delivery.op.events)


@pytest.mark.parametrize(
    "size", [0, 1, 1000, INLINE_MAX - 400, INLINE_MAX - 150, INLINE_MAX, INLINE_MAX + 1, 5_000_000]
)
async def test_sizes_around_the_staging_limit(running, size: int) -> None:
    chooser = random.Random(size)
    lines = []
    left = size
    while left > 0:
        line = chooser.randbytes(min(76, left)).translate(PRINTABLE)
        lines.append(line)
        left -= len(line) + 2
    body = b"Subject: big\r\n\r\n" + b"\r\n".join(lines) + b"\r\n"
    stuffed = b"\r\n".join(b"." + line if line.startswith(b".") else line for line in body.split(b"\r\n"))
    client = await running.connect()
    await client.hello()
    await client.envelope()
    assert (await client.data(stuffed + b".\r\n")).startswith("250")
    delivery, blob = running.storage.delivered[0]
    assert hashlib.sha256(split(blob)[1]).digest() == hashlib.sha256(body).digest()
    assert isinstance(delivery.content, StagedBlob) == (len(blob) > INLINE_MAX)
    assert running.service._budget.used == 0
    assert (await client.say("NOOP")).startswith("250")


BARE = [
    b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\n.\r", b"\r.\n", b"\r\r\n.\r\r\n",
    b"\n\n.\n\n", b"\r\n.\r\r\n", b"\r\n\n.\r\n", b"\r\n.\0\r\n", b"\r\0\n.\r\n",
]  # fmt: skip


@pytest.mark.parametrize("end", BARE, ids=repr)
@pytest.mark.parametrize("cut", [None, 1])
async def test_no_smuggling(running, end: bytes, cut: int | None) -> None:
    client = await running.connect()
    await client.hello()
    await client.envelope()
    assert (await client.say("DATA")).startswith("354")
    smuggled = b"MAIL FROM:<evil@remote.example>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\nevil\r\n"
    stream = b"Subject: x\r\n\r\ntext" + end + smuggled + b".\r\n"
    if cut:
        for at in range(0, len(stream), cut):
            await client.send(stream[at : at + cut])
            await asyncio.sleep(0)
    else:
        await client.send(stream)
    reply = await client.reply()
    assert reply.startswith(("554 5.6.11", "554 5.6.0"))
    # One text, one reply, and the session is where it was.
    assert (await client.say("NOOP")).startswith("250")
    assert running.storage.delivered == []
    await client.envelope()
    assert (await client.data(MESSAGE + b".\r\n")).startswith("250")


async def test_refusals_of_content(start) -> None:
    async with start(size_max=10_000, line_max=1000) as running:
        client = await running.connect()
        await client.hello()
        for text, code in (
            (b"Subject: \0\r\n\r\n", "554 5.6.0"),
            (b"a\nb\r\n", "554 5.6.11"),
            (b"a\rb\r\n", "554 5.6.11"),
            (b"a" * 999 + b"\r\n", "554 5.6.0"),
            (b"a" * 998 + b"\r\n", "250 2.0.0"),
            ((b"a" * 98 + b"\r\n") * 100, "250 2.0.0"),
            ((b"a" * 98 + b"\r\n") * 100 + b"\r\n", "552 5.3.4"),
            (b"Received: x\r\n" * 99 + b"\r\n", "250 2.0.0"),
            (b"RECEIVED: x\r\n" * 100 + b"\r\n", "554 5.4.6"),
            (b"\r\n" + b"Received: x\r\n" * 200, "250 2.0.0"),
        ):
            await client.envelope()
            assert (await client.data(text + b".\r\n")).startswith(code), (text[:30], code)
        assert running.service._budget.used == 0


async def test_header_without_end(running) -> None:
    client = await running.connect()
    await client.hello()
    await client.envelope()
    assert (await client.data(b"X: yyyyyyyyyyyyy\r\n" * 20_000 + b".\r\n")).startswith("554 5.6.0")
    await client.envelope()
    assert (await client.data(b"Received: x\r\n" * 150 + b"\r\n" + b"y\r\n" * 200_000 + b".\r\n")).startswith(
        "554 5.4.6"
    )


async def test_storage_away_and_back(running) -> None:
    client = await running.connect()
    await client.hello()
    for trouble, code in (
        (Unavailable("database away"), "451 4.3.0"),
        (Unavailable("no room", full=True), "452 4.3.1"),
    ):
        for body in (MESSAGE, b"A: b\r\n\r\n" + b"x\r\n" * 200_000):
            running.storage.trouble = trouble
            await client.envelope()
            assert (await client.data(body + b".\r\n")).startswith(code)
            running.storage.trouble = None
            await client.envelope()
            assert (await client.data(body + b".\r\n")).startswith("250")


async def test_a_bug_is_told_without_details(running) -> None:
    running.storage.trouble = ZeroDivisionError("secret detail")
    client = await running.connect()
    await client.hello()
    await client.envelope()
    reply = await client.data(MESSAGE + b".\r\n")
    assert reply.startswith("451 4.3.0")
    assert "secret" not in reply
    running.storage.trouble = None
    await client.envelope()
    assert (await client.data(MESSAGE + b".\r\n")).startswith("250")


async def test_client_gone_in_the_middle_of_data(running, until) -> None:
    other = await running.connect()
    await other.hello()
    for text in (b"Subject: half\r\n\r\nhal", b"A: b\r\n\r\n" + b"x\r\n" * 300_000):
        client = await running.connect()
        await client.hello()
        await client.envelope()
        await client.say("DATA")
        await client.send(text)
        client.writer.transport.abort()
    await until(lambda: len(running.service._door.open) == 1)
    await until(lambda: running.service._budget.used == 0)
    assert running.storage.delivered == []
    assert (await other.say("NOOP")).startswith("250")


async def test_end_of_input_behind_the_last_command_still_delivers(running, until) -> None:
    client = await running.connect()
    await client.send(
        b"EHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\nSubject: x\r\n\r\n.\r\nQUIT\r\n"
    )
    client.writer.write_eof()
    answers = (await client.closed()).decode()
    assert "\r\n250 2.0.0 Ok: stored" in answers
    assert answers.endswith("221 2.0.0 Bye\r\n")
    assert len(running.storage.delivered) == 1


async def test_memory_budget(start) -> None:
    async with start(memory_max=100_000) as running:
        first, second = await running.connect(), await running.connect()
        for client in (first, second):
            await client.hello()
            await client.envelope()
            assert (await client.say("DATA")).startswith("354")
        await first.send(b"A: b\r\n\r\n" + b"x" * 78 + b"\r\n" + b"y\r\n" * 25_000)
        await second.send(b"A: b\r\n\r\n" + b"y\r\n" * 25_000 + b".\r\n")
        assert (await second.reply()).startswith("452 4.3.1")
        await first.send(b".\r\n")
        assert (await first.reply()).startswith("250")
        assert running.service._budget.used == 0
        await second.envelope()
        assert (await second.data(MESSAGE + b".\r\n")).startswith("250")


async def test_one_account_named_twice_gets_one_copy(running) -> None:
    running.identity.aliases["team@example.org"] = ("alice@example.org", "bob@example.org", "x@elsewhere.example")
    client = await running.connect()
    await client.hello()
    await client.envelope(
        "a@remote.example", "alice@example.org", "ALICE@example.org", "alice+list@example.org", "team@example.org"
    )
    assert (await client.data(MESSAGE + b".\r\n")).startswith("250")
    delivery, _ = running.storage.delivered[0]
    assert [one.account for one in delivery.local] == ["Aalice", "Abob"]
    # The alias is ours, so what it leads to outside is sent on whoever wrote.
    assert [one.address for one in delivery.remote] == ["x@elsewhere.example"]
    assert delivery.op.actor == "system"


async def test_a_refused_list_adds_nobody(running, monkeypatch: pytest.MonkeyPatch) -> None:
    running.identity.aliases["team@example.org"] = ("alice@example.org", "bob@example.org")
    opened = running.storage.open_account

    async def open_some(op: Operation, account: str) -> None:
        if account == "Abob":
            raise Unavailable("away")
        await opened(op, account)

    monkeypatch.setattr(running.storage, "open_account", open_some)
    client = await running.connect()
    await client.hello()
    await client.say("MAIL FROM:<>")
    assert (await client.say("RCPT TO:<root@example.org>")).startswith("250")
    assert (await client.say("RCPT TO:<team@example.org>")).startswith("451")
    assert (await client.data(MESSAGE + b".\r\n")).startswith("250")
    assert [one.account for one in running.storage.delivered[0][0].local] == ["Aroot"]


async def test_list_with_one_full_mailbox(running) -> None:
    running.identity.aliases["team@example.org"] = ("alice@example.org", "bob@example.org")
    running.identity.quotas["alice@example.org"] = 1
    running.storage.used["Aalice"] = 1
    client = await running.connect()
    await client.hello()
    await client.envelope("a@remote.example", "team@example.org")
    assert (await client.say("RCPT TO:<alice@example.org>")).startswith("452 4.2.2")
    assert (await client.data(MESSAGE + b".\r\n")).startswith("250")
    assert len(running.storage.delivered[0][0].local) == 2


async def test_over_quota(running) -> None:
    running.identity.quotas["alice@example.org"] = 1000
    running.storage.used["Aalice"] = 900
    client = await running.connect()
    await client.hello()
    assert (await client.say("MAIL FROM:<> SIZE=200")).startswith("250")
    assert (await client.say("RCPT TO:<alice@example.org>")).startswith("452 4.2.2")
    assert (await client.say("RCPT TO:<bob@example.org>")).startswith("250")
    await client.say("RSET")
    await client.envelope("")
    assert (await client.data(MESSAGE * 3 + b".\r\n")).startswith("250")
    # What was just delivered counts at once.
    assert (await client.say("MAIL FROM:<>")).startswith("250")
    assert (await client.say("RCPT TO:<alice@example.org>")).startswith("452 4.2.2")


async def test_identity_away(running) -> None:
    client = await running.connect()
    await client.hello()
    assert (await client.say("MAIL FROM:<>")).startswith("250")
    running.identity.away = True
    assert (await client.say("RCPT TO:<alice@example.org>")).startswith("451 4.3.0")
    running.identity.away = False
    assert (await client.say("RCPT TO:<alice@example.org>")).startswith("250")


async def test_refused_attempts_leave_a_trace(running, until) -> None:
    client = await running.connect()
    await client.hello()
    await client.say("MAIL FROM:<spam@remote.example>")
    await client.say("RCPT TO:<nobody@example.org>")
    await client.say("QUIT")
    await until(lambda: len(running.storage.recorded) == 4)
    connect, mail, rcpt, refused = running.storage.recorded
    assert [connect.kind, mail.kind, rcpt.kind, refused.kind] == ["connect", "mail", "rcpt", "refused"]
    assert mail.detail == {"address": "spam@remote.example", "reply": "250 2.1.0 Sender ok"}
    assert rcpt.detail["address"] == "nobody@example.org"
    assert str(rcpt.detail["reply"]).startswith("550 5.1.1")
    assert len({connect.trace, mail.trace, rcpt.trace, refused.trace}) == 1


async def test_what_is_refused_before_rcpt_leaves_a_trace(running, until) -> None:
    client = await running.connect("submission")
    await client.hello()
    assert (await client.sign_in(password="wrong")).startswith("535")
    assert (await client.sign_in()).startswith("235")
    assert (await client.say("MAIL FROM:<bob@example.org> SIZE=5")).startswith("553 5.7.1")
    await until(lambda: len(running.storage.recorded) >= 5)
    auth, refused = running.storage.recorded[:2], running.storage.recorded[2:]
    assert [event.kind for event in auth] == ["connect", "auth"]
    assert auth[1].detail == {
        "name": "alice@example.org",
        "mechanism": "PLAIN",
        "reply": "535 5.7.8 Authentication credentials invalid",
    }
    assert [event.kind for event in refused] == ["connect", "mail", "refused"]
    assert refused[1].detail["address"] == "bob@example.org"
    assert refused[1].detail["size"] == 5
    assert str(refused[2].detail["reply"]).startswith("553 5.7.1")
    assert {event.account for event in refused} == {"Aalice"}
    assert len({event.trace for event in refused}) == 1
    assert auth[0].trace != refused[0].trace
