"""The whole service over real sockets: imaplib, IMAPClient, many idlers, draining."""

from __future__ import annotations

import asyncio
import imaplib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from imapclient import IMAPClient

from imap.service import ImapService, ImapSettings
from runtime.clock import SystemClock
from runtime.tls import Tls, make_self_signed
from tests.imap.conftest import Deliver
from tests.imap.fakes import FakeIdentity, until

MESSAGE = b"From: a@x.example\r\nSubject: hello\r\n\r\nbody\r\n"


@pytest.fixture
async def service(any_storage: Any, who: FakeIdentity, tmp_path: Path) -> AsyncIterator[ImapService]:
    tls = Tls(*make_self_signed(tmp_path / "tls", ["localhost"]))
    settings = ImapSettings(host="127.0.0.1", port=0, tls_port=0, version="1")
    service = ImapService(settings, identity=who, storage=any_storage, tls=tls.context, clock=SystemClock())  # type: ignore[arg-type]  # the fake has what the door asks
    await service.start()
    yield service
    await service.stop()


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def test_imaplib(service: ImapService) -> None:
    def talk() -> None:
        with imaplib.IMAP4("127.0.0.1", service.ports["imap"]) as client:
            client.starttls(trusting())
            client.login("alice", "secret")
            assert client.append("INBOX", "(\\Flagged)", None, MESSAGE)[0] == "OK"
            assert client.select()[1] == [b"1"]
            assert client.search(None, "FLAGGED")[1] == [b"1"]
            assert client.fetch("1", "(RFC822)")[1][0][1] == MESSAGE  # type: ignore[index]  # imaplib types it loosely
            assert client.copy("1", "Archive")[0] == "OK"
            assert client.store("1", "+FLAGS", "\\Deleted")[0] == "OK"
            assert client.expunge()[1] == [b"1"]
            assert client.list()[0] == "OK"
            assert client.close()[0] == "OK"

    await asyncio.to_thread(talk)


async def test_imapclient(service: ImapService) -> None:
    def talk() -> None:
        with IMAPClient("127.0.0.1", service.ports["imaps"], ssl_context=trusting()) as client:
            client.login("alice", "secret")
            assert client.id_({"name": "test"})[0][:2] == (b"name", b"Homing")
            client.create_folder("Entwürfe/März")
            assert "Entwürfe/März" in [name for _, _, name in client.list_folders()]
            assert client.find_special_folder(b"\\Sent") == "Sent"
            client.append("Entwürfe/März", MESSAGE, flags=["\\Seen", "work"])
            assert client.select_folder("Entwürfe/März")[b"EXISTS"] == 1
            (uid,) = client.search(["SUBJECT", "HELLO"])
            got = client.fetch([uid], ["ENVELOPE", "BODYSTRUCTURE", "BODY[]", "FLAGS", "INTERNALDATE", "RFC822.SIZE"])[
                uid
            ]
            assert got[b"BODY[]"] == MESSAGE
            assert got[b"ENVELOPE"].subject == b"hello"
            assert got[b"RFC822.SIZE"] == len(MESSAGE)
            client.move([uid], "Trash")
            assert client.folder_status("Trash", ["MESSAGES"])[b"MESSAGES"] == 1
            assert client.namespace().personal == (("", "/"),)
            client.unselect_folder()

    await asyncio.to_thread(talk)


class Line:
    """A client of lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def signed_in(cls, service: ImapService) -> Line:
        client = cls(*await asyncio.open_connection("127.0.0.1", service.ports["imap"]))
        await client.until(b"* OK")
        await client.say(b"l LOGIN alice secret")
        return client

    async def say(self, line: bytes, mark: bytes = b"") -> bytes:
        self.writer.write(line + b"\r\n")
        return await self.until(mark or line[: line.index(b" ")])

    async def until(self, mark: bytes) -> bytes:
        heard = b""
        async with asyncio.timeout(60):
            while not (line := await self.reader.readline()).startswith(mark):
                assert line, heard
                heard += line
        return heard + line


async def test_many_idlers_hear_of_a_delivery(service: ImapService, deliver: Deliver) -> None:
    clients = [await Line.signed_in(service) for _ in range(20)]
    for client in clients:
        await client.say(b"s SELECT INBOX")
        await client.say(b"i IDLE", b"+")
    assert service.stats.active_sessions == service.stats.active_connections == 20
    await deliver("alice", MESSAGE)
    for client in clients:
        await client.until(b"* 1 EXISTS")
        assert b"i OK" in await client.say(b"DONE ", b"i ")
        client.writer.close()
    await until(lambda: service.stats.active_connections == 0)
    assert service.stats.active_sessions == 0


async def test_idle_and_done_in_quick_succession_amid_deliveries(service: ImapService, deliver: Deliver) -> None:
    clients = [await Line.signed_in(service) for _ in range(3)]
    delivered = 0

    async def play(client: Line) -> None:
        nonlocal delivered
        for step in range(15):
            await client.say(b"s SELECT INBOX")
            await client.say(b"i IDLE", b"+")
            if step % 2:
                await deliver("alice", MESSAGE)
                delivered += 1
            assert b"i OK" in await client.say(b"DONE ", b"i ")

    await asyncio.gather(*map(play, clients))
    for client in clients:
        await client.say(b"n NOOP")
        assert b"(MESSAGES %d)" % delivered in await client.say(b"t STATUS INBOX (MESSAGES)")
        client.writer.close()


@pytest.mark.parametrize("size", [1000, 600_000])
async def test_an_append_that_goes_wrong_keeps_nothing(service: ImapService, size: int) -> None:
    client = await Line.signed_in(service)
    octets = b"x" * size
    client.writer.write(b"a APPEND INBOX {%d+}\r\n" % size + octets + b"garbage\r\n")
    assert b"a BAD" in await client.until(b"a ")
    broken = await Line.signed_in(service)
    broken.writer.write(b"a APPEND INBOX {%d+}\r\n" % size + octets[:-1])
    await broken.writer.drain()
    broken.writer.close()
    await until(lambda: service.stats.active_connections == 1)
    assert b"(MESSAGES 0)" in await client.say(b"t STATUS INBOX (MESSAGES)")
    client.writer.write(b"a APPEND INBOX {%d+}\r\n" % size + octets + b"\r\n")
    assert b"a OK" in await client.until(b"a ")
    assert b"(MESSAGES 1)" in await client.say(b"t STATUS INBOX (MESSAGES)")
    client.writer.close()


async def test_a_client_gone_amid_a_large_fetch_disturbs_nobody(service: ImapService) -> None:
    client, other = await Line.signed_in(service), await Line.signed_in(service)
    octets = b"x" * 5_000_000
    client.writer.write(b"a APPEND INBOX {%d+}\r\n" % len(octets) + octets + b"\r\n")
    await client.until(b"a OK")
    await client.say(b"s SELECT INBOX")
    client.writer.write(b"f FETCH 1 BODY[]\r\n")
    await client.reader.readline()
    client.writer.transport.abort()
    await until(lambda: service.stats.active_sessions == 1)
    assert b"n OK" in await other.say(b"n NOOP")
    other.writer.close()


async def test_draining_says_bye(service: ImapService) -> None:
    client = await Line.signed_in(service)
    await client.say(b"i IDLE", b"+")
    drained = asyncio.create_task(service.drain())
    await client.until(b"* BYE")
    assert await client.reader.read() == b""
    await drained
    with pytest.raises(OSError, match=r"refused|Connect"):
        await asyncio.open_connection("127.0.0.1", service.ports["imap"])


async def test_a_new_password_ends_connections(service: ImapService, who: FakeIdentity) -> None:
    client = await Line.signed_in(service)
    await client.say(b"s SELECT INBOX")
    who.change_password("alice", "new")
    await client.until(b"* BYE")
    assert await client.reader.read() == b""
