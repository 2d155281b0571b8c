"""TLS, pipelining and the socket."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct

import pytest


async def test_starttls_drops_what_was_pipelined_behind(running) -> None:
    client = await running.connect()
    await client.hello()
    injected = b"MAIL FROM:<evil@remote.example>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n"
    await client.send(b"STARTTLS\r\n" + injected)
    assert (await client.reply()).startswith("220 2.0.0")
    await client.writer.start_tls(running.client_tls)
    # Had the injected commands been kept, their answers would come first.
    assert (await client.say("RCPT TO:<alice@example.org>")).startswith("503 5.5.1 Send EHLO")
    await client.say("EHLO again.example")
    assert (await client.say("RCPT TO:<alice@example.org>")).startswith("503 5.5.1 Send MAIL")
    assert running.storage.delivered == []


async def test_starttls_forgets_the_sign_in_and_the_transaction(running) -> None:
    client = await running.connect()
    await client.hello()
    await client.sign_in()
    await client.envelope("alice@example.org")
    assert (await client.say("STARTTLS")).startswith("220")
    await client.writer.start_tls(running.client_tls)
    await client.say("EHLO c.example")
    assert (await client.say("DATA")).startswith("503")
    await client.envelope("whoever@remote.example")
    assert (await client.data(b"A: b\r\n\r\n.\r\n")).startswith("250")
    blob = running.storage.delivered[0][1]
    assert b"with ESMTPS (TLSv1.3 TLS_" in blob


async def test_big_message_over_tls(running) -> None:
    client = await running.connect("submissions")
    await client.hello()
    await client.sign_in()
    await client.envelope("alice@example.org")
    assert (await client.data(b"A: b\r\n\r\n" + b"y" * 76 + b"\r\nzz\r\n" * 500_000 + b".\r\n")).startswith("250")
    delivery, blob = running.storage.delivered[0]
    assert blob.endswith(b"\r\nzz\r\n")
    assert b"with ESMTPSA (" in blob
    connect = delivery.op.events[0]
    assert connect.detail["auth"] == "alice@example.org"
    assert str(connect.detail["tls"]).startswith("TLS")


async def test_no_tls_handshake_but_garbage(running, until) -> None:
    client = await running.connect()
    await client.hello()
    await client.say("STARTTLS")
    await client.send(b"EHLO in the clear\r\n" * 10)
    await client.closed()
    await until(lambda: not running.service._door.open)


async def test_tls_facts_are_those_of_the_connection(running) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    client = await running.connect()
    await client.hello()
    await client.say("STARTTLS")
    await client.writer.start_tls(old)
    await client.say("EHLO c.example")
    await client.envelope()
    await client.data(b".\r\n")
    assert b"(TLSv1.2 ECDHE-" in running.storage.delivered[0][1]


async def test_pipelined_replies_leave_in_one_write(running) -> None:
    client = await running.connect()
    await client.hello()
    await client.send(b"MAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\nRCPT TO:<nobody@example.org>\r\nDATA\r\n")
    chunk = await client.reader.read(65536)
    assert [line[:3] for line in chunk.splitlines()] == [b"250", b"250", b"550", b"354"]


async def test_whole_sessions_in_one_write(running) -> None:
    client = await running.connect()
    await client.reply()
    one = b"MAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\nA: b\r\n\r\n..\r\n.\r\n"
    await client.send(b"EHLO c.example\r\n" + one * 50 + b"QUIT\r\n")
    text = (await client.closed()).decode()
    assert text.count("250 2.0.0 Ok: stored") == 50
    assert text.endswith("221 2.0.0 Bye\r\n")
    assert len(running.storage.delivered) == 50


async def test_helo_session(running) -> None:
    client = await running.connect()
    await client.reply()
    assert await client.say("HELO old.example") == "250 mx.example.org"
    await client.envelope()
    assert (await client.data(b"A: b\r\n\r\n.\r\n")).startswith("250")
    assert b"with SMTP\r\n" in running.storage.delivered[0][1]


async def test_utf8smtp(running) -> None:
    client = await running.connect()
    await client.hello()
    await client.say("MAIL FROM:<ä@remote.example> SMTPUTF8 BODY=8BITMIME")
    await client.say("RCPT TO:<alice@example.org>")
    await client.data(b"A: b\r\n\r\n.\r\n")
    delivery, blob = running.storage.delivered[0]
    assert b"with UTF8SMTP\r\n" in blob
    assert delivery.local[0].prefix.startswith("Return-Path: <ä@remote.example>\r\n".encode())


@pytest.mark.parametrize("name", ["a(b)", "x);evil", "[127.0.0.1]", "a;b", "_x", "a<b>"])
async def test_helo_names_cannot_break_the_header(running, name: str) -> None:
    client = await running.connect()
    await client.hello(name)
    await client.envelope()
    assert (await client.data(b"A: b\r\n\r\n.\r\n")).startswith("250")
    head = running.storage.delivered[0][1].split(b"\r\n\tby ")[0]
    assert head.count(b"(") == head.count(b")") == 1
    assert b";" not in head


async def test_ehlo_with_bad_names(running) -> None:
    client = await running.connect()
    await client.reply()
    for name in ("", "a b", "é", "x" * 256):
        assert (await client.say(f"EHLO {name}")).startswith("501 5.5.4")


async def test_server_side_has_nodelay(running, until) -> None:
    client = await running.connect()
    await client.reply()
    (connection,) = running.service._door.open
    sock = connection.transport.get_extra_info("socket")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


async def test_connections_leave_nothing_behind(running, until) -> None:
    for _ in range(50):
        client = await running.connect()
        await client.hello()
        client.writer.transport.abort()
    await until(lambda: not running.service._door.open)
    assert running.service._connections._addresses.total == 0
    others = [task for task in asyncio.all_tasks() if "_handle_client" in repr(task)]
    assert others == []


async def test_a_lost_client_leaves_what_is_being_committed_alone(running, until) -> None:
    running.storage.gate = asyncio.Event()
    client = await running.connect()
    await client.hello()
    await client.envelope()
    await client.say("DATA")
    await client.send(b"A: b\r\n\r\n.\r\n")
    await until(lambda: running.storage.batches == [1])
    try:
        # A reset, not an orderly end: that would be waited for.
        sock = client.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.writer.transport.abort()
        await until(lambda: not running.service._door.open)
    finally:
        running.storage.gate.set()
    await running.service.reception.drain()
    assert len(running.storage.delivered) == 1
    # It was stored, so nothing says that it was refused.
    await asyncio.sleep(0)
    assert not list(running.service._journal._waiting)
