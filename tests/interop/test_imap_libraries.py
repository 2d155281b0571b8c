"""aioimaplib and imap-tools: libraries that watch mailboxes and handle mail from scripts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aioimaplib import IMAP4_SSL
from imap_tools import AND, MailBox, MailMessageFlags
from imap_tools.errors import MailboxLoginError

from tests.interop.trusted import SECONDS, Trusted
from tests.live import DOMAIN, PASSWORD

pytestmark = pytest.mark.interop

MAIL = (
    b"From: =?utf-8?q?J=C3=B6rg?= <x@elsewhere.example>\r\nTo: alice@test.example\r\n"
    b"Date: Wed, 1 May 2024 12:30:15 +0200\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n'
    b"Content-Transfer-Encoding: 8bit\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n--b\r\n"
    b'Content-Type: application/octet-stream; name="a.bin"\r\nContent-Disposition: attachment; filename="a.bin"\r\n'
    b"Content-Transfer-Encoding: base64\r\n\r\nAAEC/w==\r\n--b--\r\n"
)


@asynccontextmanager
async def aioimap(server: Trusted, user: str) -> AsyncIterator[IMAP4_SSL]:
    client = IMAP4_SSL(server.host, server.imaps, timeout=SECONDS, ssl_context=server.context())
    await client.wait_hello_from_server()
    assert (await client.login(f"{user}@{DOMAIN}", PASSWORD)).result == "OK"
    yield client
    assert (await client.logout()).result == "OK"


async def pushed(client: IMAP4_SSL, wanted: bytes) -> list[bytes]:
    """What the server says until it says this."""
    said: list[bytes] = []
    while not any(wanted in line for line in said):
        said += await client.wait_server_push(timeout=SECONDS)
    return said


async def test_aioimaplib_idles(server: Trusted) -> None:
    """It is told of mail, of flags that another session sets and of what that removes, in one IDLE."""
    async with aioimap(server, "alice") as client:
        assert client.has_capability("IDLE")
        await client.select("INBOX")
        idle = await client.idle_start(timeout=SECONDS)
        for count in (1, 2):
            await asyncio.to_thread(server.deliver, "alice", MAIL)
            await pushed(client, b"%d EXISTS" % count)
        with server.imap("alice") as other:
            other.select("INBOX")
            other.store("2", "+FLAGS", "(\\Flagged)")
            said = await pushed(client, b"FETCH")
            assert [line for line in said if line.startswith(b"2 FETCH") and b"\\Flagged" in line]
            other.store("1", "+FLAGS", "(\\Deleted)")
            other.expunge()
            assert b"1 EXPUNGE" in await pushed(client, b"EXPUNGE")
        client.idle_done()
        assert (await asyncio.wait_for(idle, SECONDS)).result == "OK"
        fetched = await client.fetch("1", "(UID FLAGS BODY.PEEK[])")
        assert fetched.result == "OK"
        assert bytes(fetched.lines[1]).endswith(MAIL)
        assert b"\\Flagged" in fetched.lines[0] + fetched.lines[2]


async def test_aioimaplib_daily_work(server: Trusted) -> None:
    async with aioimap(server, "bob") as client, aioimap(server, "bob") as second:
        assert (await client.create("Lists")).result == "OK"
        appended = await client.append(MAIL, "Lists", flags="\\Seen")
        assert any(b"APPENDUID" in line for line in appended.lines)
        await client.select("Lists")
        await second.select("Lists")
        assert (await client.uid_search("SUBJECT", '"Grüße"', charset="utf-8")).lines[0] == b"1"
        assert (await client.uid("store", "1", "+FLAGS", "($Forwarded)")).result == "OK"
        moved = await client.move("1:1", "INBOX")
        assert moved.result == "OK"
        assert any(b"COPYUID" in line for line in moved.lines)
        status = await client.status("INBOX", "(MESSAGES UIDNEXT)")
        assert b"MESSAGES 1" in status.lines[0]
        assert (await client.id(name="test")).result == "OK"
        # What a MOVE has taken away the others are told.
        assert b"1 EXPUNGE" in (await second.noop()).lines
    assert server.stored("bob") == {MAIL: {b"\\Seen", b"$Forwarded"}}


def test_imap_tools(server: Trusted) -> None:
    name = "Projekte/Größe & Maß"
    with MailBox(server.host, server.imaps, ssl_context=server.context()).login(f"carol@{DOMAIN}", PASSWORD) as box:
        flags = {folder.name: folder.flags for folder in box.folder.list()}
        assert "\\Sent" in flags["Sent"]
        assert "\\Trash" in flags["Trash"]
        box.folder.create(name)
        assert box.folder.exists(name)
        for number in range(3):
            box.append(MAIL.replace(b"AAEC", b"AAE%d" % number), name, flag_set=[MailMessageFlags.SEEN])
        assert box.folder.status(name)["MESSAGES"] == 3
        box.folder.set(name)
        assert box.folder.get() == name

        messages = list(box.fetch(AND(subject="GRÜSSE", seen=True), mark_seen=False, charset="utf-8", bulk=True))
        assert [message.uid for message in messages] == ["1", "2", "3"]
        first = messages[0]
        assert first.subject == "Grüße"
        assert first.from_values is not None
        assert first.from_values.name == "Jörg"
        assert first.text.rstrip() == "Grüße"
        assert first.attachments[0].payload == b"\x00\x01\x34\xff"
        assert first.size_rfc822 == len(MAIL)
        assert set(first.flags) == {"\\Seen", "\\Recent"}

        box.flag(["1", "3"], [MailMessageFlags.FLAGGED, "$Label1"], True)
        assert box.uids(AND(flagged=True, keyword="$Label1")) == ["1", "3"]
        box.flag("3", MailMessageFlags.FLAGGED, False)
        assert box.uids(AND(flagged=True)) == ["1"]
        box.move("1", "Archive")
        box.copy("2", "Archive")
        box.delete("3")
        assert box.uids() == ["2"]
        assert box.folder.status("Archive")["MESSAGES"] == 2
        box.folder.rename(name, "Projekte/Alt")
        box.folder.set("INBOX")
        box.folder.delete("Projekte/Alt")
        assert not box.folder.exists("Projekte/Alt")
    kept = server.stored("carol", "Archive")
    assert kept[MAIL.replace(b"AAEC", b"AAE0")] == {b"\\Seen", b"\\Flagged", b"$Label1"}
    assert kept[MAIL.replace(b"AAEC", b"AAE1")] == {b"\\Seen"}


def test_imap_tools_idles(server: Trusted) -> None:
    with MailBox(server.host, server.imaps, ssl_context=server.context()).login(f"dora@{DOMAIN}", PASSWORD) as box:
        with box.idle as idle:
            sender = threading.Thread(target=server.deliver, args=("dora", MAIL))
            sender.start()
            said = idle.poll(timeout=SECONDS)
            sender.join()
        assert b"* 1 EXISTS" in said
        (message,) = box.fetch(AND(seen=False))
        assert message.obj.as_bytes().replace(b"\n", b"\r\n").endswith(MAIL.partition(b"MIME-Version")[2])
        assert box.uids(AND(seen=True)) == [message.uid]


def test_imap_tools_wrong_password(server: Trusted) -> None:
    box = MailBox(server.host, server.imaps, ssl_context=server.context())
    try:
        with pytest.raises(MailboxLoginError):
            box.login(f"dora@{DOMAIN}", "wrong")
    finally:
        box.client.shutdown()
