"""What sessions on one mailbox see of each other (RFC 3501 §5.2, §7.4.1, RFC 2177, RFC 2180)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from imap.session import House
from mail.flags import DELETED
from storage.model import FlagMode, Operation
from tests.imap.fakes import Client, FakeStorage, until

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"


@pytest.fixture
async def two(any_house: House) -> tuple[Client, Client]:
    """Two clients of one account, both with INBOX of three messages selected."""
    a, b = await Client(any_house).signed_in(), await Client(any_house).signed_in()
    for _ in range(3):
        await a("x APPEND INBOX", MESSAGE)
    await a("x SELECT INBOX")
    await b("x SELECT INBOX")
    return a, b


async def idling(client: Client) -> asyncio.Task[str]:
    task = asyncio.create_task(client("i IDLE"))
    await until(lambda: b"+ idling" in client.out.sent)
    return task


async def heard(client: Client, text: bytes) -> None:
    await until(lambda: text in client.out.sent)


async def test_what_one_did_the_other_sees_at_noop(two: tuple[Client, Client]) -> None:
    a, b = two
    assert "OK [APPENDUID" in await a("a APPEND INBOX", MESSAGE)
    assert (await b("b NOOP")).splitlines()[0] == "* 4 EXISTS"
    await a("a STORE 2 +FLAGS (\\Flagged hot)")
    said = await b("b NOOP")
    assert said.splitlines()[-2:] == ["* 2 FETCH (UID 2 FLAGS (\\Flagged hot))", "b OK Done"]
    assert said.startswith("* FLAGS (")
    await a("a STORE 1,3 +FLAGS.SILENT (\\Deleted)")
    assert await a("a EXPUNGE") == "* 3 EXPUNGE\n* 1 EXPUNGE\na OK Expunged\n"
    assert await b("b CHECK") == "* 3 EXPUNGE\n* 1 EXPUNGE\nb OK Done\n"


async def test_changes_by_imap_are_told_with_any_command(two: tuple[Client, Client]) -> None:
    a, b = two
    await a("a STORE 3 +FLAGS (\\Answered)")
    assert await b("b SEARCH ANSWERED") == "* SEARCH 3\n* 3 FETCH (UID 3 FLAGS (\\Answered))\nb OK Searched\n"


async def test_expunge_is_not_told_while_numbers_are_in_use(two: tuple[Client, Client]) -> None:
    a, b = two
    await a("a STORE 1 +FLAGS (\\Deleted)")
    await a("a EXPUNGE")
    # RFC 2180 §4.1.2: and the message can still be read
    assert await b("b FETCH 1 (BODY.PEEK[TEXT])") == "* 1 FETCH (BODY[TEXT] {6}\nbody\n)\nb OK Fetched\n"
    assert await b("b FETCH 1:2 (UID FLAGS)") in (
        "* 2 FETCH (UID 2 FLAGS ())\n* 1 FETCH (UID 1 FLAGS (\\Deleted))\nb OK Fetched\n",
    )
    assert (await b("b STORE 1:2 +FLAGS (\\Seen)")).splitlines() == [
        "* 2 FETCH (FLAGS (\\Seen))",
        "b NO [EXPUNGEISSUED] Some of the messages have been expunged",
    ]
    assert "b NO [EXPUNGEISSUED]" in await b("b COPY 1:2 Archive")
    assert "* SEARCH 2 3\n" in await b("b SEARCH ALL")
    # RFC 3501 §7.4.1: UID FETCH may carry it
    said = await b("b UID FETCH 3 (FLAGS)")
    assert said.endswith("* 1 EXPUNGE\nb OK Fetched\n")
    assert await b("b FETCH 1 (UID)") == "* 1 FETCH (UID 2)\nb OK Fetched\n"


@pytest.mark.parametrize("command", ["COPY", "MOVE"])
async def test_what_another_process_expunged_is_not_copied_silently(
    two: tuple[Client, Client], any_house: House, command: str
) -> None:
    # RFC 9051 §6.4.7, RFC 2180 §4.4.1: nobody has told this process of it when the command comes
    _, b = two
    storage, ref = any_house.storage, b.session.selected.ref
    await storage.store_flags(Operation("1", ref.account), ref, ((2, 2),), FlagMode.ADD, DELETED)
    await storage.expunge(Operation("2", ref.account), ref, ((2, 2),))
    for numbers in ("1:3", "2"):
        said = (await b(f"b {command} {numbers} Archive")).splitlines()
        assert said[-1] == "b NO [EXPUNGEISSUED] Some of the messages have been expunged", said
    assert "(MESSAGES 0)" in await b("b STATUS Archive (MESSAGES)")
    await b("b NOOP")
    assert "[COPYUID " in await b(f"b {command} 1:2 Archive")
    # of UIDs, those that are there
    assert await b(f"b UID {command} 2 Archive") == "b OK Nothing to do\n"


async def test_annotations_are_news_by_notify_alone(two: tuple[Client, Client]) -> None:
    # RFC 5464 §4.1: whether ENABLE METADATA has changes told is the server's to say; ours says that it has not
    a, b = two
    assert await b("b ENABLE METADATA") == "* ENABLED\nb OK Done\n"
    await a('a SETMETADATA INBOX (/shared/comment "1")')
    assert await b("b NOOP") == "b OK Done\n"
    await b("b NOTIFY SET (PERSONAL (MailboxMetadataChange))")
    await a('a SETMETADATA INBOX (/shared/comment "2")')
    assert await b("b NOOP") == "* METADATA INBOX /shared/comment\nb OK Done\n"


async def test_silent_store_tells_what_others_changed(two: tuple[Client, Client]) -> None:
    a, b = two
    await a("a STORE 1 +FLAGS (\\Flagged)")
    # b was not told of \Flagged: without the answer it would believe in \Seen alone
    assert await b("b STORE 1:2 +FLAGS.SILENT (\\Seen)") == "* 1 FETCH (UID 1 FLAGS (\\Flagged \\Seen))\nb OK Stored\n"
    assert "FETCH" not in await b("b NOOP")
    assert "* 1 FETCH (UID 1 FLAGS (\\Flagged \\Seen \\Recent))" in await a("a NOOP")


async def test_fetching_a_body_sets_seen_and_tells_both(two: tuple[Client, Client]) -> None:
    a, b = two
    assert (await a("a FETCH 1:2 BODY[TEXT]")).count("FLAGS (\\Seen") == 2
    assert await a("a NOOP") == "a OK Done\n"
    assert (await b("b NOOP")).count("FLAGS (\\Seen)") == 2


async def test_recent_belongs_to_one_session(any_house: House) -> None:
    a, b = await Client(any_house).signed_in(), await Client(any_house).signed_in()
    await a("x APPEND INBOX", MESSAGE)
    assert "* 1 RECENT" in await a("a EXAMINE INBOX")
    assert "* 1 RECENT" in await a("a SELECT INBOX")
    assert "* 0 RECENT" in await b("b SELECT INBOX")
    assert "(\\Recent)" in await a("a FETCH 1 FLAGS")
    assert "()" in await b("b FETCH 1 FLAGS")
    await a("x APPEND INBOX", MESSAGE)
    await a("x UNSELECT")
    assert "* 0 RECENT" in await a("a SELECT INBOX")


async def test_a_delivery_reaches_an_idling_client(two: tuple[Client, Client], deliver: Any) -> None:
    a, b = two
    task = await idling(b)
    await deliver("alice", MESSAGE)
    await heard(b, b"* 4 EXISTS")
    await a("a NOOP")
    await a("a STORE 4 +FLAGS (\\Deleted)")
    await heard(b, b"* 4 FETCH (UID 4 FLAGS (\\Deleted")
    await a("a EXPUNGE")
    await heard(b, b"* 4 EXPUNGE")
    b.out.lines.put_nowait(b"DONE")
    assert (await task).endswith("i OK Idled\n")


async def test_what_happened_before_idle_is_told_at_its_begin(two: tuple[Client, Client]) -> None:
    a, b = two
    await a("a APPEND INBOX", MESSAGE)
    task = await idling(b)
    await heard(b, b"* 4 EXISTS")
    b.out.lines.put_nowait(b"DONE")
    await task


async def test_a_deleted_mailbox_ends_the_sessions_in_it(any_house: House) -> None:
    a, b = await Client(any_house).signed_in(), await Client(any_house).signed_in()
    await a("a CREATE Shortlived")
    await a("a SELECT Shortlived")
    await b("b SELECT Shortlived")
    task = await idling(b)
    # its own session knows, and goes on
    assert "a OK" in await a("a DELETE Shortlived")
    assert "a OK" in await a("a NOOP")
    await heard(b, b"* BYE")
    b.out.lines.put_nowait(b"DONE")
    await task
    assert b.out.is_closed


async def test_renamed_inbox_leaves_its_sessions_in_an_empty_one(two: tuple[Client, Client]) -> None:
    a, b = two
    assert "* 3 EXPUNGE\n* 2 EXPUNGE\n* 1 EXPUNGE\na OK" in await a("a RENAME INBOX Old")
    assert "* 3 EXPUNGE" in await b("b NOOP")
    assert "* 3 EXISTS" in await a("a SELECT Old")


async def test_moves_between_sessions(two: tuple[Client, Client]) -> None:
    a, b = two
    assert "* 2 EXPUNGE" in await a("a MOVE 2 Archive")
    # b still believes in three, and its numbers mean what they meant
    assert "* 3 FETCH (UID 3)" in await b("b FETCH 3 (UID)")
    assert "* 2 EXPUNGE" in await b("b NOOP")
    assert "* 2 FETCH (UID 3)" in await b("b FETCH 2 (UID)")


async def test_without_news_a_command_asks_storage_nothing(house: House, storage: FakeStorage) -> None:
    client = await Client(house).signed_in()
    await client("x APPEND INBOX", MESSAGE)
    await client("x SELECT INBOX")
    await client("x NOOP")
    storage.calls.clear()
    await client("x FETCH 1 FLAGS")
    await client("x SEARCH ALL")
    await client("x STORE 1 +FLAGS.SILENT (\\Seen)")
    assert [c for c in storage.calls if c != "watch"] == ["columns", "search", "store_flags"]


async def test_messages_swept_meanwhile_are_said_to_be_expunged(house: House, storage: FakeStorage) -> None:
    client = await Client(house).signed_in()
    await client("x APPEND INBOX", MESSAGE)
    await client("x SELECT INBOX")
    box = storage.find("alice", "INBOX")
    storage.vanish(box, [1], storage.bump("alice"))
    box.lost.clear()
    assert "x NO [EXPUNGEISSUED]" in await client("x FETCH 1 FLAGS")
    assert "x OK" in await client("x UID FETCH 1 FLAGS")


async def in_a_deleted_mailbox(a: Client, b: Client) -> Client:
    """The one that has it selected."""
    await a("a CREATE Work")
    await a("a COPY 1 Work")
    await b("b SELECT Work")
    await a("a DELETE Work")
    return b


@pytest.mark.parametrize(
    "command", ["FETCH 1 (FLAGS)", "FETCH 1 (ENVELOPE)", "STORE 1 +FLAGS (x)", "SEARCH ALL", "COPY 1 INBOX", "EXPUNGE"]
)
async def test_a_mailbox_deleted_by_another_session_ends_this_one(two: tuple[Client, Client], command: str) -> None:
    b = await in_a_deleted_mailbox(*two)
    said = await b("b " + command)
    assert "* BYE The mailbox is no longer there\n" in said
    assert said.splitlines()[-1].startswith(("b NO", "b OK"))
    assert b.out.is_closed


@pytest.mark.parametrize("command", ["COPY 1 INBOX", "UID COPY 1 INBOX", "MOVE 1 INBOX", "UID MOVE 1 INBOX"])
async def test_where_the_source_is_gone_no_target_is_to_be_made(two: tuple[Client, Client], command: str) -> None:
    b = await in_a_deleted_mailbox(*two)
    assert "b NO [NONEXISTENT] No such mailbox\n" in await b("b " + command)


async def test_closing_a_mailbox_deleted_by_another_session(two: tuple[Client, Client]) -> None:
    a, b = two
    await a("a CREATE Work")
    await b("b SELECT Work")
    await a("a DELETE Work")
    # RFC 3501 §6.4.2
    assert await b("b CLOSE") == "b OK Closed\n"
    assert "b BAD" in await b("b CHECK")
    assert "b OK" in await b("b SELECT INBOX")


async def test_a_refusal_alone_ends_nothing(two: tuple[Client, Client]) -> None:
    _, b = two
    assert await b("b COPY 1 Nowhere") == "b NO [TRYCREATE] There is no mailbox of that name\n"
    assert "b OK" in await b("b FETCH 1 (FLAGS)")
