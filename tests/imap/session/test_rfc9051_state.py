"""Requirements of RFC 9051 on the connection, sign-in and ENABLE that no transcript shows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from homing.settings import Imap
from identity.sasl.passwords import Login
from imap.capability import Standing, capabilities
from imap.commands import table
from imap.dialogue import Tls
from imap.limits import ConnectionLimits
from imap.service import ImapSettings
from imap.session import House
from tests.imap.fakes import PLAIN, Client, FakeIdentity, FakeOut, FakeStorage, until

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"


async def test_a_tag_may_be_used_again(house: House) -> None:
    # RFC 9051 §2.2.1
    client = Client(house)
    assert await client("a NOOP") == await client("a NOOP") == "a OK Done\n"


async def test_a_word_too_many_or_too_few_is_an_error(alice: Client) -> None:
    # RFC 9051 §2.2.1
    for line in (
        "a  NOOP",
        "a STATUS INBOX  (MESSAGES)",
        "a STATUS INBOX",
        "a CLOSE x",
        "a LIST (SUBSCRIBED)",
    ):
        assert " BAD " in await alice(line), line


async def test_starttls_within_tls_is_bad(house: House) -> None:
    # RFC 9051 §6.2.1
    client = Client(house, FakeOut(replace(PLAIN, tls=Tls("TLSv1.3", "x"))))
    assert "STARTTLS" not in await client("a CAPABILITY")
    assert (await client("a STARTTLS")).startswith("a BAD ")


@pytest.mark.parametrize("said", ["=AAA", "AAA=BBB", "AGFsaWNl$", "A", "AGFsaWNlAHNlY3JldA=", "\xe9"])
async def test_what_is_no_base64_is_bad(house: House, said: str) -> None:
    # RFC 9051 §6.2.2: in the initial response, and in one that was asked for
    client = Client(house)
    assert "a BAD " in await client(f"a AUTHENTICATE PLAIN {said}")
    client.out.lines.put_nowait(said.encode())
    assert "a BAD " in await client("a AUTHENTICATE PLAIN")
    assert not client.out.is_signed_in


async def test_an_initial_response_where_the_server_speaks_first_is_bad(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    # RFC 9051 §6.2.2: no mechanism that is offered is of that kind
    monkeypatch.setattr(Login, "client_first", False)
    client = Client(house)
    assert (await client("a AUTHENTICATE LOGIN YWxpY2U=")).startswith("a BAD ")


async def test_an_empty_initial_response(house: House) -> None:
    # RFC 9051 §6.2.2: it is there, so that nothing is asked for; and it is no message of PLAIN
    client = Client(house)
    said = await client("a AUTHENTICATE PLAIN =")
    assert said.startswith("a BAD ")
    assert "+" not in said


async def test_without_an_initial_response(house: House) -> None:
    # RFC 9051 §6.2.2
    client = Client(house)
    client.out.lines.put_nowait(b"AGFsaWNlAHNlY3JldA==")
    said = await client("a AUTHENTICATE PLAIN")
    assert said.startswith("+ \na OK ")
    assert client.out.is_signed_in


async def test_what_need_not_be_enabled_is_ignored(alice: Client) -> None:
    # RFC 9051 §6.3.1: extensions that are known, and others
    assert await alice("a ENABLE IDLE MOVE X-GOOD-IDEA STARTTLS") == "* ENABLED\na OK Done\n"
    assert await alice("a ENABLE IDLE IMAP4rev2 X-GOOD-IDEA") == "* ENABLED IMAP4rev2\na OK Done\n"


async def test_enabled_for_the_connection(house: House, alice: Client) -> None:
    # RFC 9051 §6.3.1: through whatever follows, and for no other connection
    await alice("a ENABLE IMAP4rev2")
    for line in ("a SELECT INBOX", "a CLOSE", "a NOOP", "a SELECT Sent"):
        await alice(line)
    assert "* ESEARCH" in await alice("a SEARCH ALL")
    other = await Client(house).signed_in()
    await other("a SELECT INBOX")
    assert "* SEARCH" in await other("a SEARCH ALL")


async def test_capabilities_come_once_and_whole(house: House) -> None:
    # RFC 9051 §6.1.1, §7.2.2
    client = Client(house)
    for before in ("a NOOP", "a LOGIN alice secret", "a SELECT INBOX"):
        await client(before)
        said = (await client("a CAPABILITY")).splitlines()
        assert [line.split()[:2] for line in said] == [["*", "CAPABILITY"], ["a", "OK"]]
        assert "IMAP4rev2" in said[0].split()


def test_a_silent_client_has_half_an_hour() -> None:
    # RFC 9051 §5.4
    assert ConnectionLimits().idle >= 1800
    assert ImapSettings(host="127.0.0.1", port=0).idle_seconds >= 1800
    with pytest.raises(ValidationError):
        Imap(idle_seconds=1799)


async def test_nothing_is_expunged_between_commands(house: House, storage: FakeStorage) -> None:
    # RFC 9051 §7.5.1: nor while a command is still being received; what is told is told at a command's end
    a, b = await Client(house).signed_in(), await Client(house).signed_in()
    await a("x APPEND INBOX (\\Deleted)", MESSAGE)
    await a("x SELECT INBOX")
    await b("x SELECT INBOX")
    assert "* 1 EXPUNGE" in await a("x EXPUNGE")
    await until(lambda: house.hub.modseq("alice") >= storage.modseqs["alice"])
    await b.session.news()
    assert b.take() == ""
    assert "EXPUNGE" not in await b("x SEARCH ALL")
    assert "* 1 EXPUNGE" in await b("x NOOP")


async def test_only_responses_of_the_protocol_itself_are_sent_unasked(house: House) -> None:
    # RFC 9051 §6.5: to who has enabled IMAP4rev2 and no extension
    a, b = await Client(house).signed_in(), await Client(house).signed_in()
    await a("x ENABLE IMAP4rev2")
    said = await a("x SELECT INBOX")
    await b("x SELECT INBOX")
    for line in ("x APPEND INBOX (\\Deleted)", "x APPEND INBOX"):
        await b(line, MESSAGE)
    said += await a("x NOOP")
    await b("x NOOP")
    await b("x STORE 2 +FLAGS (\\Flagged new)")
    said += await a("x NOOP")
    await b("x EXPUNGE")
    said += await a("x NOOP") + await a('x LIST "" *') + await a("x STATUS INBOX (MESSAGES)") + await a("x SEARCH ALL")
    names = {
        line.split()[2] if line.split()[1].isdigit() else line.split()[1]
        for line in said.splitlines()
        if line[0] == "*"
    }
    assert names == {"FLAGS", "OK", "EXISTS", "LIST", "FETCH", "EXPUNGE", "STATUS", "ESEARCH"}
    assert "MODSEQ (" not in said


async def test_responses_are_those_of_rev1_until_rev2_is_enabled(house: House, who: FakeIdentity) -> None:
    # RFC 9051 §7.2.2
    client = Client(house)
    assert {"IMAP4rev1", "IMAP4rev2"} <= set((await client("a CAPABILITY")).split())
    await client.signed_in()
    await client("a CREATE Caf&AOk-")
    said = await client("a SELECT Caf&AOk-")
    assert "* 0 RECENT\n" in said
    assert "LIST" not in said
    assert '"/" Caf&AOk-\n' in await client('a LIST "" C*')
    assert await client("a SEARCH ALL") == "* SEARCH\na OK Searched\n"


def test_each_command_of_an_extension_has_its_capability() -> None:
    # RFC 9051 §6.5; LSUB and CHECK are IMAP4rev1's
    base = """CAPABILITY NOOP LOGOUT STARTTLS AUTHENTICATE LOGIN ENABLE SELECT EXAMINE CREATE DELETE RENAME SUBSCRIBE
        UNSUBSCRIBE LIST NAMESPACE STATUS APPEND IDLE CLOSE UNSELECT EXPUNGE SEARCH FETCH STORE COPY MOVE LSUB CHECK"""
    entries = table()
    offered = set(capabilities(Standing(True, False, ()), (e.capability for e in entries.values() if e.capability)))
    for name in {name.removeprefix("UID ") for name in entries}.difference(base.split()):
        assert entries[name].capability in offered or any(one.startswith(f"{name}=") for one in offered), name
