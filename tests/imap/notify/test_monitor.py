"""What a session that has said NOTIFY is told, and when."""

from __future__ import annotations

import pytest

from imap.notify import monitor
from imap.session import House
from storage.model import INLINE_MAX, Operation
from storage.port import Unavailable
from tests.imap.fakes import Client, FakeIdentity, FakeStorage, make_house, until

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"
ALL = "(MessageNew MessageExpunge FlagChange)"


@pytest.fixture
async def two(house: House) -> tuple[Client, Client]:
    return await Client(house).signed_in(), await Client(house).signed_in()


async def told(client: Client) -> str:
    """What it is told between two commands, once something is."""
    while not client.out.sent:
        await until(lambda: client.out.woken)
        client.out.woken = False
        await client.session.news()
    return client.take()


async def silent(client: Client) -> bool:
    """Whether it is told nothing, of what it has been woken for."""
    while client.out.woken:
        client.out.woken = False
        await client.session.news()
    return not client.take()


async def test_flags_that_are_not_wanted_are_told_when_they_are(two: tuple[Client, Client]) -> None:
    a, b = two
    await a("x APPEND INBOX", MESSAGE)
    await a("x SELECT INBOX")
    await b("x SELECT INBOX")
    assert await b("n NOTIFY SET (selected (MessageNew MessageExpunge))") == "n OK Noted\n"
    await a("a STORE 1 +FLAGS (\\Flagged)")
    await a("a APPEND INBOX", MESSAGE)
    assert (await told(b)).splitlines()[0] == "* 2 EXISTS"
    assert await b("b NOOP") == "b OK Done\n"
    assert "* 1 FETCH (UID 1 FLAGS (\\Flagged" in await b(f"n NOTIFY SET (selected {ALL})")
    await a("a STORE 2 +FLAGS (\\Answered)")
    assert "* 2 FETCH (UID 2 FLAGS (\\Answered" in await told(b)


async def test_modification_sequences_are_not_told_before_what_they_stand_for(two: tuple[Client, Client]) -> None:
    a, b = two
    await a("x APPEND INBOX", MESSAGE)
    await a("x SELECT INBOX")
    await b("x SELECT INBOX (CONDSTORE)")
    view = b.session.selected
    await b("n NOTIFY SET (selected (MessageNew MessageExpunge))")
    settled = view.settled
    await a("a STORE 1 +FLAGS (\\Flagged)")
    await until(lambda: b.out.woken)
    assert await silent(b)
    # RFC 7162 §3.2.7: else the client would never ask for what it was not told
    assert view.settled == settled < view.through


async def test_nothing_is_told_of_the_selected_mailbox_unless_it_is_wanted(two: tuple[Client, Client]) -> None:
    a, b = two
    await b("x APPEND INBOX", MESSAGE)
    await b("x SELECT INBOX")
    await b("n NOTIFY SET (personal (MessageNew MessageExpunge))")
    await a("x APPEND INBOX", MESSAGE)
    assert await b("b NOOP") == "b OK Done\n"
    await a("x APPEND Sent", MESSAGE)
    assert (await b("b NOOP")).startswith("* STATUS Sent (MESSAGES 1 UIDNEXT 2 ")
    # What the client does itself is told.
    await b("b STORE 1 +FLAGS.SILENT (\\Deleted)")
    assert "* 1 EXPUNGE\n" in (await b("b EXPUNGE"))


async def test_own_changes_of_other_mailboxes(two: tuple[Client, Client]) -> None:
    a, b = two
    await b("n NOTIFY SET (personal (MessageNew MessageExpunge))")
    assert (await b("x APPEND Sent", MESSAGE)).startswith("x OK [APPENDUID ")
    assert await b("x NOOP") == "x OK Done\n"
    # Both at once: it is not known whose was which.
    await a("x APPEND Sent", MESSAGE)
    assert "STATUS Sent (MESSAGES 3" in await b("x APPEND Sent", MESSAGE) + await b("x NOOP")


async def test_more_than_can_be_told(two: tuple[Client, Client], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "LINES_MAX", 3)
    a, b = two
    await b("n NOTIFY SET (personal (MailboxName))")
    for n in range(3):
        await a(f"a CREATE new{n}")
    assert (await b("b NOOP")).count("* LIST") == 3
    for n in range(4):
        await a(f"a CREATE more{n}")
    assert (await b("b NOOP")).startswith("* OK [NOTIFICATIONOVERFLOW] ")
    assert not b.out.listening
    await a("a CREATE another")
    assert await b("b NOOP") == "b OK Done\n"


async def test_more_new_messages_than_can_be_fetched(
    two: tuple[Client, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "NEW_MAX", 2)
    a, b = two
    await b("x SELECT INBOX")
    await b("n NOTIFY SET (selected (MessageNew (uid envelope) MessageExpunge))")
    for _ in range(2):
        await a("x APPEND INBOX", MESSAGE)
    assert (await b("x NOOP")).count("ENVELOPE") == 2
    for _ in range(3):
        await a("x APPEND INBOX", MESSAGE)
    said = await b("x NOOP")
    assert "* 5 EXISTS" in said
    assert "ENVELOPE" not in said
    assert "[NOTIFICATIONOVERFLOW]" in said


async def test_what_is_fetched_is_not_seen(two: tuple[Client, Client], storage: FakeStorage) -> None:
    a, b = two
    await b("x SELECT INBOX")
    await b("n NOTIFY SET (selected (MessageNew (body[text] rfc822.size) MessageExpunge))")
    await a("x APPEND INBOX", MESSAGE)
    assert "FETCH (UID 1 BODY[TEXT] {6}\nbody\n RFC822.SIZE 20)" in await told(b)
    assert not storage.find("alice", "INBOX").entries[1].flags


@pytest.mark.parametrize("elsewhere", ["", " (personal (MessageNew MessageExpunge))"])
async def test_own_messages_are_not_fetched(two: tuple[Client, Client], elsewhere: str) -> None:
    # RFC 5465 §5.2
    a, b = two
    await b("x SELECT INBOX")
    await b(f"n NOTIFY SET (selected (MessageNew (uid) MessageExpunge)){elsewhere}")
    for number, line in enumerate(("APPEND INBOX", "COPY 1 INBOX", "REPLACE 1 INBOX"), 1):
        said = await b(f"b {line}", *([] if line.startswith("COPY") else [MESSAGE]))
        assert "EXISTS" in said, said
        assert " FETCH " not in said, (number, said)
    await a("x APPEND INBOX", MESSAGE)
    assert "FETCH (UID 4)" in await told(b)
    monitored = b.session.listening._monitor
    assert isinstance(monitored, monitor.Monitor)
    # what has been told is forgotten
    assert elsewhere or not monitored._own


async def test_a_busy_mailbox_costs_few_looks(two: tuple[Client, Client], storage: FakeStorage) -> None:
    a, b = two
    await b("n NOTIFY SET (personal (MessageNew MessageExpunge))")
    await a("x APPEND Sent", MESSAGE)
    await told(b)
    storage.calls.clear()
    for _ in range(20):
        await a("x APPEND Sent", MESSAGE)
        if b.out.woken:
            b.out.woken = False
            await b.session.news()
    said = b.take()
    while "MESSAGES 21 " not in said:
        said += await told(b)
    assert storage.calls.count("list_mailboxes") < 20


async def test_one_look_serves_all_sessions(house: House, storage: FakeStorage) -> None:
    clients = [await Client(house).signed_in() for _ in range(5)]
    for client in clients[1:]:
        await client("n NOTIFY SET (personal (MessageNew MessageExpunge))")
    await clients[0]("x APPEND Sent", MESSAGE)
    for client in clients[1:]:
        assert "STATUS Sent" in await told(client)
    before = storage.calls.count("annotations")
    # Annotations are read where some have changed, and only then.
    await clients[0]('x SETMETADATA INBOX (/shared/a "1")')
    assert await clients[1]("x NOOP") == "x OK Done\n"
    await clients[0]("x APPEND Sent", MESSAGE)
    await clients[1]("x NOOP")
    assert storage.calls.count("annotations") == before + 1


async def test_changes_of_another_process(house: House, storage: FakeStorage, who: FakeIdentity) -> None:
    here = await Client(house).signed_in()
    there = await Client(make_house(storage, who)).signed_in()
    await here("n NOTIFY SET (subtree Lists (MessageNew MessageExpunge MailboxName))")
    await there("x CREATE Lists/one")
    assert await told(here) == ('* LIST (\\HasChildren) "/" Lists\n* LIST (\\HasNoChildren) "/" Lists/one\n')
    await there("x APPEND Lists/one", MESSAGE)
    assert (await told(here)).startswith("* STATUS Lists/one (MESSAGES 1 UIDNEXT 2 ")


async def test_a_store_that_is_away_is_asked_later(two: tuple[Client, Client], storage: FakeStorage) -> None:
    a, b = two
    await b("n NOTIFY SET (personal (MessageNew MessageExpunge))")
    await a("x APPEND Sent", MESSAGE)
    storage.down = True
    await b.session.news()
    assert not b.take()
    storage.down = False
    assert "STATUS Sent (MESSAGES 1" in await b("b NOOP")
    storage.down = True
    assert "UNAVAILABLE" in await b("n NOTIFY SET (personal (MailboxName))")
    storage.down = False
    # What held before holds on.
    await a("x APPEND Sent", MESSAGE)
    assert "STATUS Sent (MESSAGES 2" in await b("b NOOP")


async def test_a_mailbox_made_again(two: tuple[Client, Client], storage: FakeStorage) -> None:
    a, b = two
    await a("x CREATE old")
    await b(f"n NOTIFY SET (mailboxes old {ALL})")
    await storage.delete_mailbox(Operation("1", "alice"), "alice", "old")
    await storage.create_mailbox(Operation("2", "alice"), "alice", "old")
    assert "* STATUS old (MESSAGES 0 UIDNEXT 1 UIDVALIDITY " in await b("b NOOP")


async def test_who_leaves_is_forgotten(two: tuple[Client, Client], house: House) -> None:
    for client in two:
        await client("x SELECT INBOX")
        await client("n NOTIFY SET (selected (MessageNew MessageExpunge)) (personal (MailboxName))")
        await client("n NOTIFY SET (personal (MailboxName))")
    two[0].session.closed()
    assert await two[1]("n NOTIFY NONE") == "n OK Noted\n"
    two[1].session.closed()
    assert house.hub.modseq("alice") == 0
    with pytest.raises(KeyError):
        await house.hub.snapshots.fresh("alice", None, house.hub.modseq)


async def test_a_new_message_that_cannot_be_read_is_told_without_its_text(
    two: tuple[Client, Client], storage: FakeStorage
) -> None:
    a, b = two
    await b("x SELECT INBOX")
    await b("n NOTIFY SET (selected (MessageNew (uid body.peek[]) MessageExpunge))")
    await a("x APPEND INBOX", MESSAGE)

    def away() -> None:
        raise Unavailable("away")

    def looked_up() -> None:
        storage.before["columns"] = away

    storage.before["columns"] = looked_up
    assert await b("b NOOP") == "* 1 EXISTS\n* 1 RECENT\nb OK Done\n"


async def test_a_client_that_was_told_half_a_line_is_left(two: tuple[Client, Client], storage: FakeStorage) -> None:
    a, b = two
    large = b"Subject: x\r\n\r\n" + b"x" * INLINE_MAX
    await b("x SELECT INBOX")
    await b("n NOTIFY SET (selected (MessageNew (uid body.peek[]) MessageExpunge))")
    await a("x APPEND INBOX", large)
    storage.emails[storage.find("alice", "INBOX").entries[1].email].raw = large

    def away() -> None:
        raise Unavailable("away")

    storage.before["read"] = away
    assert "FETCH (UID 1 BODY[] {" in await told(b)
    assert b.out.is_closed


async def test_new_messages_are_fetched_by_uid_where_there_are_no_numbers(two: tuple[Client, Client]) -> None:
    a, b = two
    await b("e ENABLE UIDONLY")
    await b("x SELECT INBOX")
    await b("n NOTIFY SET (selected (MessageNew (rfc822.size) MessageExpunge))")
    await a("x APPEND INBOX", MESSAGE)
    # RFC 9586 §3.3
    assert await told(b) == "* 1 EXISTS\n* 1 RECENT\n* 1 UIDFETCH (RFC822.SIZE 20)\n"
    await a("x SELECT INBOX")
    await a("x STORE 1 +FLAGS.SILENT (\\Deleted)")
    await a("x EXPUNGE")
    assert await told(b) == "* VANISHED 1\n"


async def test_the_selected_mailbox_is_gone_whatever_is_wanted(two: tuple[Client, Client]) -> None:
    a, b = two
    for wanted in ("NONE", "SET (personal (MessageNew MessageExpunge))"):
        await a("x CREATE mine")
        await b("x SELECT mine")
        await b(f"n NOTIFY {wanted}")
        assert await b("b NOOP") == "b OK Done\n"
        assert b.out.said_bye is None
        await a("x DELETE mine")
        await b("b NOOP")
        assert b.out.said_bye == "The mailbox is no longer there"
        b.out.said_bye = None
