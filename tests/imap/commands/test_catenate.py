"""CATENATE: octets put together as they are, in bounded memory, and refused before they are asked for."""

from __future__ import annotations

import random
from typing import Any

from imap.later import COMMAND_OCTETS
from imap.session import House, Limits
from imap.wire.imapurl import URL_MAX
from storage.model import INLINE_MAX
from tests.imap.fakes import Client, FakeIdentity, FakeStorage, make_house

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"


async def catenate(client: Client, *parts: bytes | str, mailbox: str = "Sent") -> str:
    """URLs (str) and texts as one message."""
    lines = [b"a APPEND %b CATENATE (" % mailbox.encode()]
    texts: list[bytes] = []
    space = b""
    for part in parts:
        if isinstance(part, str):
            lines[-1] += space + b'URL "%b"' % part.encode()
        else:
            lines[-1] += space + b"TEXT "
            texts.append(part)
            lines.append(b"")
        space = b" "
    client.out.heads, client.out.ending = lines[1:-1], lines[-1] + b")"
    if not texts:
        return await client(lines[0] + b")")
    client.out.more_literals = texts[1:]
    return await client(lines[0].removesuffix(b" "), texts[0])


async def newest(client: Client, storage: Any) -> bytes:
    """The message that came last to Sent."""
    mailbox = await storage.mailbox("alice", "Sent")
    await client("x EXAMINE Sent")
    await client.run(f"x UID FETCH {mailbox.uidnext - 1} BODY.PEEK[]")
    said = bytes(client.out.sent)
    client.take()
    start = said.index(b"}\r\n") + 3
    size = int(said[said.rindex(b"{", 0, start) + 1 : start - 3])
    return said[start : start + size]


async def test_octets_are_put_together_as_they_are(any_house: House, any_storage: Any) -> None:
    client = await Client(any_house).signed_in()
    chance = random.Random(9)
    sources = [MESSAGE + bytes(chance.choices(range(1, 256), k=size)) for size in (1, 1000, INLINE_MAX + 70_000)]
    for source in sources:
        assert "x OK" in await client("x APPEND INBOX", source)
    for _ in range(12):
        wanted = b""
        parts: list[bytes | str] = []
        for _ in range(chance.randrange(1, 7)):
            if chance.random() < 0.5:
                text = bytes(chance.choices(range(1, 256), k=chance.choice((0, 1, 500))))
                parts.append(text)
                wanted += text
                continue
            uid = chance.randrange(3)
            start, count = chance.randrange(len(sources[uid])), chance.choice((1, 400, 200_000))
            parts.append(f"/INBOX/;UID={uid + 1}/;PARTIAL={start}.{count}")
            wanted += sources[uid][start : start + count]
        answer = await catenate(client, *parts)
        if not wanted:
            assert "a NO A message without octets" in answer
            continue
        assert "a OK [APPENDUID" in answer
        assert await newest(client, any_storage) == wanted


async def test_what_grows_large_is_staged_on_its_way(alice: Client, storage: FakeStorage) -> None:
    big = MESSAGE + b"x" * (INLINE_MAX - len(MESSAGE))
    await alice("x APPEND INBOX", big)
    copies = COMMAND_OCTETS // len(big) + 2
    assert "a OK [APPENDUID" in await catenate(alice, *["/INBOX/;UID=1"] * copies)
    assert storage.calls.count("stage") == 1
    assert storage.emails["e2"].raw == big * copies


async def test_the_limit_of_a_message_holds_for_what_is_put_together(storage: FakeStorage, who: FakeIdentity) -> None:
    client = await Client(make_house(storage, who, limits=Limits(message=2 * len(MESSAGE)))).signed_in()
    await client("x APPEND INBOX", MESSAGE)
    assert "a OK" in await catenate(client, "/INBOX/;UID=1", "/INBOX/;UID=1")
    assert "a NO [TOOBIG]" in await catenate(client, "/INBOX/;UID=1", "/INBOX/;UID=1/;PARTIAL=0.1", "/INBOX/;UID=1")
    assert "a NO [TOOBIG]" in await catenate(client, "/INBOX/;UID=1", MESSAGE + b"x")
    # what is too much is so before the client sends it
    assert not client.out.literal_taken
    assert "a OK" in await catenate(client, "/INBOX/;UID=1", MESSAGE)


async def test_the_quota_holds_for_what_is_put_together(house: House, who: FakeIdentity) -> None:
    who.quotas["alice"] = 3 * len(MESSAGE)
    client = await Client(house).signed_in()
    await client("x APPEND INBOX", MESSAGE)
    assert "a NO [OVERQUOTA]" in await catenate(client, *["/INBOX/;UID=1"] * 3)
    assert "a OK" in await catenate(client, *["/INBOX/;UID=1"] * 2)


async def test_no_flag_is_set_by_reading(alice: Client, storage: FakeStorage) -> None:
    await alice("x APPEND INBOX", MESSAGE)
    await alice("x SELECT INBOX")
    assert "a OK" in await catenate(alice, ";UID=1/;SECTION=TEXT", "/INBOX/;UID=1")
    assert "FLAGS (\\Recent)" in await alice("x FETCH 1 FLAGS")
    assert storage.emails["e2"].raw == b"body\r\n" + MESSAGE


async def test_what_a_url_cannot_be(alice: Client, storage: FakeStorage) -> None:
    await alice("x APPEND INBOX", MESSAGE)
    assert "a NO [BADURL ;UID=1]" in await catenate(alice, ";UID=1")
    assert "a NO [BADURL /INBOX/;UID=2]" in await catenate(alice, b"before", "/INBOX/;UID=1", "/INBOX/;UID=2")
    alice.out.ending = b")"
    assert "a NO [TOOBIG]" in await alice("a APPEND Sent CATENATE (URL", b"/" + b"x" * URL_MAX)
    assert not alice.out.literal_taken
    assert len(storage.emails) == 1
