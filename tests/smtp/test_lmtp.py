"""LMTP (RFC 2033): one reply for each recipient, each of them true."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from runtime.listener import BindError, bind_unix
from storage.model import Delivery
from storage.port import Reason, Refused, Unavailable
from tests.smtp.conftest import Client

TEXT = b"Subject: x\r\n\r\nbody\r\n"


@pytest.fixture
async def lmtp(start):
    async with start(lmtp_port=0) as running:
        yield running


async def connected(running) -> Client:
    client = await running.connect("lmtp")
    assert await client.reply() == "220 mx.example.org LMTP Homing"
    answer = await client.say("LHLO client.example")
    assert {"250-PIPELINING", "250-8BITMIME", "250-ENHANCEDSTATUSCODES", "250-CHUNKING"} <= set(answer.split("\n"))
    assert "AUTH" not in answer
    return client


async def recipients(client: Client, *addresses: str) -> list[str]:
    assert (await client.say("MAIL FROM:<a@remote.example>")).startswith("250")
    return [(await client.say(f"RCPT TO:<{address}>"))[:9] for address in addresses]


async def data(client: Client, times: int, text: bytes = TEXT) -> list[str]:
    assert (await client.say("DATA")).startswith("354")
    await client.send(text + b".\r\n")
    return [(await client.reply())[:9] for _ in range(times)]


async def test_each_recipient_has_its_reply(lmtp) -> None:
    client = await connected(lmtp)
    said = await recipients(client, "alice@example.org", "nobody@example.org", "bob@example.org", "bob+tag@example.org")
    assert said == ["250 2.1.5", "550 5.1.1", "250 2.1.5", "250 2.1.5"]
    assert await data(client, 3) == ["250 2.0.0"] * 3
    (delivery, blob) = lmtp.storage.delivered[0]
    # One commit, and each account once.
    assert [one.account for one in delivery.local] == ["Aalice", "Abob"]
    assert b"with LMTP\r\n" in blob
    assert delivery.op.events[0].detail["listener"] == "lmtp"
    assert (await client.say("NOOP")).startswith("250 2.0.0")


async def test_commands_of_smtp_that_are_not_there(lmtp) -> None:
    client = await lmtp.connect("lmtp")
    await client.reply()
    # RFC 2033 §4.1
    assert (await client.say("EHLO client.example")).startswith("500 5.5.1")
    assert (await client.say("HELO client.example")).startswith("500 5.5.1")
    assert (await client.say("MAIL FROM:<>")).startswith("503 5.5.1 Send LHLO first")
    assert (await client.say("LHLO")).startswith("501 5.5.4 Syntax: LHLO")
    await client.say("LHLO client.example")
    assert (await client.say("AUTH PLAIN AGEAYg==")).startswith("502 5.5.1")
    # RFC 2033 §4.2
    await client.say("MAIL FROM:<>")
    assert (await client.say("DATA")).startswith("503 5.5.1")
    assert "LHLO" in await client.say("HELP")
    smtp = await lmtp.connect()
    await smtp.reply()
    assert (await smtp.say("LHLO client.example")).startswith("500 5.5.1")


async def test_it_never_relays(lmtp) -> None:
    client = await connected(lmtp)
    said = await recipients(client, "x@elsewhere.example", "x%elsewhere.example@example.org", "x@[192.0.2.1]")
    assert [one[:3] for one in said] == ["550"] * 3


async def test_a_full_mailbox_among_others(lmtp) -> None:
    """What is known at RCPT (no size is announced) and what the size shows after the text."""
    lmtp.identity.quotas = {"alice@example.org": 1000, "root@example.org": 15}
    lmtp.storage.used = {"Aalice": 990}
    client = await connected(lmtp)
    await recipients(client, "alice@example.org", "bob@example.org", "root@example.org")
    assert await data(client, 3) == ["452 4.2.2", "250 2.0.0", "552 5.2.3"]
    delivery = lmtp.storage.delivered[0][0]
    assert [one.account for one in delivery.local] == ["Abob"]
    told = [event.detail for event in delivery.op.events if event.kind == "rcpt"]
    assert [str(one["reply"])[:9] for one in told] == ["250 2.1.5"] * 3 + ["452 4.2.2", "552 5.2.3"]
    await recipients(client, "alice@example.org", "alice@example.org")
    assert await data(client, 2) == ["452 4.2.2"] * 2
    assert len(lmtp.storage.delivered) == 1
    assert lmtp.service.figures.emails_refused == 1


async def test_an_account_that_was_removed_meanwhile(lmtp) -> None:
    """The group is refused whole by storage; then each is asked for alone."""
    lmtp.identity.aliases = {"team@example.org": ("alice@example.org", "bob@example.org")}
    client = await connected(lmtp)
    await recipients(client, "bob@example.org", "root@example.org", "team@example.org", "alice@example.org")
    lmtp.storage.accounts.discard("Abob")
    assert await data(client, 4) == ["451 4.3.0", "250 2.0.0", "451 4.3.0", "250 2.0.0"]
    stored = [one.account for delivery, _ in lmtp.storage.delivered for one in delivery.local]
    assert stored == ["Aroot", "Aalice"]


async def test_a_big_message_for_several_after_a_refusal(lmtp, monkeypatch: pytest.MonkeyPatch) -> None:
    """The staged body is named again for each recipient."""
    seen: list[Delivery] = []

    def accept(delivery: Delivery):
        seen.append(delivery)
        if len(delivery.local) > 1:
            return Refused(Reason.NO_SUCH_ACCOUNT)
        lmtp.storage.staged.setdefault(delivery.content.id, b"")
        return kept(delivery)

    kept = lmtp.storage._accept
    monkeypatch.setattr(lmtp.storage, "_accept", accept)
    client = await connected(lmtp)
    await recipients(client, "alice@example.org", "bob@example.org")
    assert await data(client, 2, TEXT + (b"x" * 98 + b"\r\n") * 5000) == ["250 2.0.0"] * 2
    assert [len(delivery.local) for delivery in seen] == [2, 1, 1]
    assert len({delivery.op.id for delivery in seen}) == 3


async def test_storage_in_trouble(lmtp) -> None:
    client = await connected(lmtp)
    await recipients(client, "alice@example.org", "bob@example.org")
    lmtp.storage.trouble = Unavailable("away")
    assert await data(client, 2) == ["451 4.3.0"] * 2
    lmtp.storage.trouble = None
    await recipients(client, "alice@example.org")
    assert await data(client, 1, b"bare\nline\r\n") == ["554 5.6.1"]


async def test_a_bug_is_told_of_each_recipient_too(lmtp, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await connected(lmtp)
    await recipients(client, "alice@example.org", "bob@example.org")

    async def broken(*_args: object) -> bool:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(lmtp.service.handler._quota, "has_room", broken)
        assert await data(client, 2) == ["451 4.3.0"] * 2
    await recipients(client, "alice@example.org")
    assert await data(client, 1) == ["250 2.0.0"]


async def test_bdat(lmtp) -> None:
    client = await connected(lmtp)
    await recipients(client, "alice@example.org", "bob@example.org")
    # RFC 2033 §4.3
    await client.send(b"BDAT 4\r\nA: bBDAT 4 LAST\r\n\r\n\r\nNOOP\r\n")
    assert [(await client.reply())[:9] for _ in range(4)] == ["250 2.0.0"] * 4
    assert len(lmtp.storage.delivered[0][0].local) == 2
    # No recipient, no reply.
    await client.send(b"MAIL FROM:<>\r\nRCPT TO:<nobody@example.org>\r\nBDAT 4 LAST\r\nA: bRSET\r\n")
    assert [(await client.reply())[:9] for _ in range(3)] == ["250 2.1.0", "550 5.1.1", "250 2.0.0"]
    assert (await client.say(b"BDAT 1 LAST\r\nx")).startswith("503 5.5.1")


async def test_pipelined_chunks_after_a_refused_one(start) -> None:
    async with start(lmtp_port=0, size_max=1000) as running:
        client = await connected(running)
        await recipients(client, "alice@example.org", "bob@example.org")
        chunk = b"x" * 998 + b"\r\n"
        await client.send(b"".join(b"BDAT 1000%s\r\n%s" % (word, chunk) for word in (b"", b"", b"", b" LAST")))
        codes = [(await client.reply())[:9] for _ in range(5)]
        assert codes == ["250 2.0.0", *["552 5.3.4"] * 4]
        assert (await client.say("NOOP")).startswith("250")


async def test_only_named_networks(start) -> None:
    async with start(lmtp_port=0, lmtp_networks=("127.0.0.2/32",)) as running:
        client = await running.connect("lmtp")
        assert (await client.reply()).startswith("554 5.7.1")
        assert await client.closed() == b""
        other = await running.connect("lmtp", source="127.0.0.2")
        assert (await other.reply()).startswith("220")


async def test_over_a_unix_socket(start, tmp_path: Path) -> None:
    path = tmp_path / "lmtp"
    # One that a killed process has left is replaced.
    bind_unix(path, what="LMTP").close()
    async with start(lmtp_socket=str(path), lmtp_networks=()) as running:
        assert path.stat().st_mode & 0o777 == 0o660
        assert running.service.ports["lmtp-socket"] == 0
        client = Client(*await asyncio.open_unix_connection(str(path)))
        assert (await client.reply()).startswith("220")
        assert "STARTTLS" not in await client.say("LHLO client.example")
        await recipients(client, "alice@example.org")
        assert await data(client, 1) == ["250 2.0.0"]
        with pytest.raises(BindError, match="in use by another program"):
            bind_unix(path, what="LMTP")
        await running.service.restart()
        again = Client(*await asyncio.open_unix_connection(str(path)))
        assert (await again.reply()).startswith("220")
    assert not path.exists()
    path.write_text("no socket")
    with pytest.raises(BindError, match="or is no socket"):
        bind_unix(path, what="LMTP")
    assert path.read_text() == "no socket"
