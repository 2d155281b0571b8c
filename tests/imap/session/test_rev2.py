"""IMAP4rev2 and UTF8=ACCEPT in a session: what ENABLE changes, at once and for the mailbox that is open."""

from __future__ import annotations

import pytest

from imap.session import House
from storage.port import Reason, Refused
from tests.imap.conftest import Deliver
from tests.imap.fakes import Client, FakeStorage

RAW = b"Subject: x\r\n\r\nhi\r\n"


async def test_enabled_with_a_mailbox_open(any_house: House, deliver: Deliver) -> None:
    client = await Client(any_house).signed_in()
    await deliver("alice", RAW)
    said = await client("s SELECT INBOX")
    assert "* 1 RECENT" in said
    assert "[UNSEEN 1]" in said
    assert "\\Recent" in await client("f FETCH 1 FLAGS")
    assert "* ENABLED IMAP4rev2\n" in await client("e ENABLE imap4REV2")
    await deliver("alice", RAW)
    # RFC 9051 Appendix A: nothing is said of \Recent any more
    assert await client("n NOOP") == "* 2 EXISTS\nn OK Done\n"
    assert "Recent" not in await client("f FETCH 1:2 FLAGS")
    assert "Recent" not in await client("f FETCH 1:2 (FLAGS ENVELOPE)")
    assert "Recent" not in await client("f STORE 1:2 +FLAGS (\\Seen)")
    # asked for, it is told as ever
    assert await client("q SEARCH RECENT") == '* ESEARCH (TAG "q") ALL 1:2\nq OK Searched\n'
    assert "(RECENT 1)" in await client("q STATUS INBOX (RECENT)")


async def test_select(any_house: House) -> None:
    client = await Client(any_house).signed_in()
    await client("e ENABLE IMAP4rev2")
    await client("c CREATE Sent/2024")
    said = await client("s SELECT Sent")
    assert '* LIST (\\HasChildren \\Sent) "/" Sent\n' in said
    assert "RECENT" not in said
    assert "UNSEEN" not in said
    said = await client("s EXAMINE Sent/2024")
    assert said.startswith("* OK [CLOSED] ")
    assert '* LIST (\\HasNoChildren) "/" Sent/2024\n' in said


async def test_capabilities_stay(any_house: House) -> None:
    client = await Client(any_house).signed_in()
    before = await client("c CAPABILITY")
    await client("e ENABLE IMAP4rev2 UTF8=ACCEPT")
    # RFC 9051 §6.3.1
    assert await client("c CAPABILITY") == before
    assert await client("e ENABLE IMAP4rev2") == "* ENABLED\ne OK Done\n"


async def test_one_name_however_it_is_spelt(any_house: House) -> None:
    client = await Client(any_house).signed_in()
    # by those who have not enabled anything too; they are told nothing that they would not know
    assert (await client('c CREATE "Cafe\u0301"')).startswith("c OK")
    assert "ALREADYEXISTS" in await client("c CREATE Caf&AOk-")
    assert "LIST" not in await client('s SELECT "Cafe\u0301"')
    assert '* LIST (\\HasNoChildren) "/" Caf&AOk-\n' in await client('l LIST "" "Cafe\u0301"')
    await client("e ENABLE UTF8=ACCEPT")
    assert '* STATUS "Caf\u00e9" (MESSAGES 0)\n' in await client('s STATUS "Cafe\u0301" (MESSAGES)')
    # IMAP4rev1 with UTF-8 has no OLDNAME either
    assert "OLDNAME" not in await client('s SELECT "Cafe\u0301"')
    await client("e ENABLE IMAP4rev2")
    assert '* LIST (\\HasNoChildren) "/" "Caf\u00e9" ("OLDNAME" ("Cafe\u0301"))\n' in await client(
        's SELECT "Cafe\u0301"'
    )
    assert "OK [COPYUID" not in await client('y UID COPY 1:* "Cafe\u0301"')


async def test_no_room_for_keywords(storage: FakeStorage, alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.deliver("alice", RAW)
    await alice("s SELECT INBOX")

    async def full(*args: object, **kwargs: object) -> None:
        raise Refused(Reason.LIMIT, "Too many keywords.")

    monkeypatch.setattr(storage, "store_flags", full)
    said = await alice("k STORE 1 +FLAGS (one)")
    # RFC 9051 §7.1
    assert "* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)]" in said
    assert said.endswith("k NO [LIMIT] Too many keywords\n")
