"""APPEND: what is refused is refused before its octets, and what is large is staged."""

from __future__ import annotations

from typing import Any

import pytest

from imap.commands.append import MESSAGES
from imap.later import COMMAND_OCTETS
from imap.session import House, Limits
from storage.model import INLINE_MAX
from tests.imap.fakes import Client, FakeIdentity, FakeStorage, make_house

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("a APPEND Nowhere", "NO [TRYCREATE]"),
        ("a APPEND INBOX (\\Wrong)", "BAD"),
        ("a APPEND INBOX", "NO [TOOBIG]"),
    ],
)
async def test_refused_before_the_octets(storage: FakeStorage, who: FakeIdentity, line: str, code: str) -> None:
    client = await Client(make_house(storage, who, limits=Limits(message=15))).signed_in()
    assert f"a {code}" in await client(line, MESSAGE if code != "NO [TRYCREATE]" else MESSAGE[:10])
    assert not client.out.literal_taken


async def test_the_limit_itself_is_allowed(storage: FakeStorage, who: FakeIdentity) -> None:
    client = await Client(make_house(storage, who, limits=Limits(message=len(MESSAGE)))).signed_in()
    assert "a OK [APPENDUID" in await client("a APPEND INBOX", MESSAGE)
    assert "a NO [TOOBIG]" in await client("a APPEND INBOX", MESSAGE + b"x")


async def test_over_quota_is_refused_before_the_octets(house: House, who: FakeIdentity) -> None:
    who.quotas["alice"] = len(MESSAGE) * 2
    client = await Client(house).signed_in()
    for _ in range(2):
        assert "a OK" in await client("a APPEND INBOX", MESSAGE)
    assert "a NO [OVERQUOTA]" in await client("a APPEND INBOX", MESSAGE)
    assert not client.out.literal_taken
    who.quotas["alice"] = None
    house.clock.advance(61)  # type: ignore[attr-defined]  # the test's clock
    assert "a OK" in await client("a APPEND INBOX", MESSAGE)


async def test_a_large_message_is_staged_and_comes_back_whole(any_house: House, any_storage: Any) -> None:
    client = await Client(any_house).signed_in()
    big = MESSAGE + b"x" * INLINE_MAX
    assert "a OK [APPENDUID" in await client("a APPEND INBOX (\\Flagged)", big)
    await client("x SELECT INBOX")
    await client.run("x FETCH 1 BODY.PEEK[]")
    assert big in client.out.sent


async def test_several_messages_are_held_up_to_a_limit_and_staged_beyond(alice: Client, storage: FakeStorage) -> None:
    bodies = [b"Subject: %d\r\n\r\n" % n + b"x" * (INLINE_MAX - 20) for n in range(COMMAND_OCTETS // INLINE_MAX + 3)]
    alice.out.more_literals = bodies[1:]
    assert f"1:{len(bodies)}] Appended" in await alice("a APPEND INBOX", bodies[0])
    held = COMMAND_OCTETS // len(bodies[0])
    assert storage.calls.count("stage") == len(bodies) - held
    assert storage.calls.count("append") == 1
    assert [email.raw for email in storage.emails.values()] == bodies


async def test_the_number_of_messages_has_a_limit(alice: Client, storage: FakeStorage) -> None:
    alice.out.more_literals = [MESSAGE] * (MESSAGES - 1)
    assert f"1:{MESSAGES}] Appended" in await alice("a APPEND INBOX", MESSAGE)
    alice.out.more_literals = [MESSAGE] * MESSAGES
    assert "a NO [LIMIT]" in await alice("a APPEND INBOX", MESSAGE)
    assert len(storage.emails) == MESSAGES


async def test_the_quota_counts_all_messages_of_the_command(
    house: House, who: FakeIdentity, storage: FakeStorage
) -> None:
    who.quotas["alice"] = len(MESSAGE) * 2
    client = await Client(house).signed_in()
    client.out.more_literals = [MESSAGE, MESSAGE]
    assert "a NO [OVERQUOTA]" in await client("a APPEND INBOX", MESSAGE)
    assert not storage.emails
