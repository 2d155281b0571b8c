"""What nobody may learn of the mailboxes and addresses of others, on the real store."""

from __future__ import annotations

import pytest

from identity.model import Resolution, Target, Verdict
from imap.session import House
from tests.imap.fakes import Client, FakeIdentity, until

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"

pytestmark = pytest.mark.parametrize("any_storage", ["sqlite"], indirect=True)


@pytest.fixture
async def two(any_house: House) -> tuple[Client, Client]:
    return await Client(any_house).signed_in(), await Client(any_house).signed_in("bob")


async def news(client: Client) -> str:
    while not client.out.sent:
        await until(lambda: client.out.woken)
        client.out.woken = False
        await client.session.news()
    return client.take()


async def test_notify_counts_nothing_in_a_mailbox_that_may_only_be_looked_up(two: tuple[Client, Client]) -> None:
    # RFC 5465 §5.9, RFC 4314 §4
    alice, bob = two
    await alice("x CREATE Team")
    await alice("x APPEND Team", MESSAGE)
    await alice("x CREATE Read")
    await alice("x APPEND Read", MESSAGE)
    await bob('n NOTIFY SET (subtree "Other Users" (MessageNew MessageExpunge FlagChange MailboxName))')
    await alice("x SETACL Team bob@example.org l")
    said = await bob("x NOOP")
    assert '\\NoAccess) "/" "Other Users/alice@example.org/Team"' in said
    assert "STATUS" not in said
    # who may read is told
    await alice("x SETACL Read bob@example.org lr")
    assert '* STATUS "Other Users/alice@example.org/Read" (MESSAGES 1 ' in await bob("x NOOP")


@pytest.mark.parametrize("name", ["INBOX", "Sent", "nowhere"])
async def test_rename_does_not_tell_who_has_an_account(two: tuple[Client, Client], name: str) -> None:
    _, bob = two
    for line in (
        f'x RENAME Archive "Other Users/%s/{name}"',
        f'x RENAME "Other Users/%s/{name}" Mine',
        f'x RENAME "Other Users/%s/{name}" "Other Users/%s/x"',
    ):
        of_alice = await bob(line.replace("%s", "alice@example.org"))
        assert of_alice.startswith("x NO "), of_alice
        assert of_alice == await bob(line.replace("%s", "nobody@example.org"))


async def test_an_alias_is_not_told_to_be_one(two: tuple[Client, Client], who: FakeIdentity) -> None:
    async def resolve(address: str) -> Resolution:
        if address != "info@example.org":
            return Resolution(Verdict.UNKNOWN)
        return Resolution(Verdict.LOCAL, (Target("alice", "alice@example.org", None),))

    async def may_send_as(account: str, address: str) -> bool:
        return (account, address) == ("alice", "info@example.org")

    who.resolve, who.may_send_as = resolve, may_send_as  # type: ignore[method-assign,attr-defined]
    alice, bob = two
    await alice("x CREATE Team")
    await bob('x SUBSCRIBE "Other Users/info@example.org/Team"')
    assert "alice" not in await bob('x LSUB "" *')
    assert "alice" not in await bob('x RENAME "Other Users/info@example.org/Team" x')
    await bob('x UNSUBSCRIBE "Other Users/info@example.org/Team"')
    assert "Team" not in await bob('x LSUB "" *')
    await alice("x SETACL Team bob@example.org l")
    await bob('x SUBSCRIBE "Other Users/info@example.org/Team"')
    assert '"Other Users/alice@example.org/Team"' in await bob('x LSUB "" *')
