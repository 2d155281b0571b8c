"""Quotas: whose root is whose, who sets them, and what is told when others fill a mailbox."""

from __future__ import annotations

from pathlib import Path

import pytest

from identity.model import Role
from imap.session import House
from storage.connect import connect
from storage.model import Operation, Rights
from tests.imap.fakes import Client, FakeIdentity, FakeStorage, make_house

MESSAGE = b"Subject: x\r\n\r\n" + b"b" * 1000


async def test_an_administrator_sets_and_sees_those_of_others(house: House, who: FakeIdentity) -> None:
    who.roles["bob"] = Role.ADMIN
    alice, bob = await Client(house).signed_in(), await Client(house).signed_in("bob")
    assert "QUOTASET" in await bob("c CAPABILITY")
    assert "QUOTASET" not in await alice("c CAPABILITY")
    assert "a OK" in await alice("a APPEND INBOX", MESSAGE)
    said = await bob("b SETQUOTA alice@example.org (STORAGE 3)")
    assert said == "* QUOTA alice@example.org (STORAGE 1 3)\nb OK Done\n"
    assert who.quotas["alice"] == 3072
    assert "QUOTA alice@example.org (STORAGE 1 3)" in await bob("b GETQUOTA alice@example.org")
    assert "b NO" in await bob("b GETQUOTA carol@example.org")
    # the limit holds when what was known of it is old
    house.clock.advance(61)  # type: ignore[attr-defined]  # the test's clock
    assert "a OK" in await alice("a APPEND INBOX", MESSAGE)
    assert "a OK" in await alice("a APPEND INBOX", MESSAGE)
    assert "a NO [OVERQUOTA]" in await alice("a APPEND INBOX", MESSAGE)
    assert "b OK" in await bob("b SETQUOTA alice@example.org ()")
    assert who.quotas["alice"] is None


async def test_ones_own_new_quota_holds_at_once(house: House, who: FakeIdentity) -> None:
    who.roles["alice"] = Role.ADMIN
    alice = await Client(house).signed_in()
    assert "a OK" in await alice("a APPEND INBOX", MESSAGE)
    assert "a OK" in await alice("a SETQUOTA alice@example.org (STORAGE 1)")
    assert "a NO [OVERQUOTA]" in await alice("a APPEND INBOX", MESSAGE)


async def test_a_mailbox_that_others_fill_beyond_its_quota(
    house: House, who: FakeIdentity, storage: FakeStorage
) -> None:
    who.quotas["alice"] = len(MESSAGE)
    alice = await Client(house).signed_in()
    await alice("a SELECT INBOX")
    storage.deliver("alice", MESSAGE)
    assert "OVERQUOTA" not in await alice("a NOOP")
    storage.deliver("alice", MESSAGE)
    said = await alice("a NOOP")
    # RFC 9208 §4.3.1
    assert "* NO [OVERQUOTA] " in said
    assert said.index("EXISTS") < said.index("OVERQUOTA") < said.index("a OK")
    storage.deliver("alice", MESSAGE)
    assert "OVERQUOTA" not in await alice("a NOOP"), "it is told once"
    await alice("a STORE 1:3 +FLAGS.SILENT (\\Deleted)")
    await alice("a EXPUNGE")
    storage.deliver("alice", MESSAGE)
    assert "OVERQUOTA" not in await alice("a NOOP")
    storage.deliver("alice", MESSAGE)
    assert "* NO [OVERQUOTA] " in await alice("a NOOP"), "and again when it was below meanwhile"


async def test_without_a_selected_mailbox_nothing_is_told(
    house: House, who: FakeIdentity, storage: FakeStorage
) -> None:
    who.quotas["alice"] = 10
    alice = await Client(house).signed_in()
    storage.deliver("alice", MESSAGE)
    assert await alice("a NOOP") == "a OK Done\n"


async def test_the_owners_root_of_a_shared_mailbox(who: FakeIdentity, tmp_path: Path) -> None:
    who.quotas = {"alice": 64 * 1024, "bob": 2 * 1024}
    store = await connect(f"sqlite://{tmp_path}")
    try:
        house = make_house(store, who)
        alice, bob = await Client(house).signed_in(), await Client(house).signed_in("bob")
        await bob("b CREATE shared")
        assert "a NO There is no such quota root" in await alice("a GETQUOTA bob@example.org")
        shared = (await store.mailbox("bob", "shared")).ref
        op = Operation("o", "bob")
        await store.set_acl(op, shared, "alice", Rights.LOOKUP | Rights.READ | Rights.INSERT)
        name = '"Other Users/bob@example.org/shared"'
        said = await alice(f"a GETQUOTAROOT {name}")
        assert f"* QUOTAROOT {name} bob@example.org\n* QUOTA bob@example.org (STORAGE 0 2)\n" in said
        assert "* QUOTA bob@example.org (STORAGE 0 2)" in await alice("a GETQUOTA bob@example.org")
        assert "a NO [NOPERM]" in await alice("a SETQUOTA bob@example.org ()")
        # what is put there counts for its owner
        assert "a OK" in await alice(f"a APPEND {name}", MESSAGE)
        assert "a OK" in await alice(f"a APPEND {name}", MESSAGE)
        assert "a NO [OVERQUOTA]" in await alice(f"a APPEND {name}", MESSAGE)
        assert "(STORAGE 2 2)" in await bob("b GETQUOTA bob@example.org")
        # RFC 8508: between accounts nothing is replaced
        await alice("a APPEND Drafts", MESSAGE)
        await alice("a SELECT Drafts")
        assert "a NO" in await alice(f"a REPLACE 1 {name}", b"new")
        assert "a OK" in await alice("a FETCH 1 (UID)")
        # a URL reads what may be read
        assert "a OK" in await alice(
            'a APPEND Sent CATENATE (URL "/Other%20Users/bob@example.org/shared/;UID=1/;SECTION=TEXT")'
        )
        await store.set_acl(Operation("p", "bob"), shared, "alice", Rights.LOOKUP)
        assert "a NO" in await alice(f"a GETQUOTAROOT {name}")
        assert "a NO [BADURL" in await alice(
            'a APPEND Sent CATENATE (URL "/Other%20Users/bob@example.org/shared/;UID=1")'
        )
    finally:
        await store.close()


@pytest.mark.parametrize("flags", [(), (1,), (1, 2), (1, 2, 3)])
async def test_what_expunge_would_free(house: House, storage: FakeStorage, flags: tuple[int, ...]) -> None:
    alice = await Client(house).signed_in()
    for size in (100, 20, 3):
        await alice("a APPEND INBOX", b"x" * size)
    await alice("a SELECT INBOX")
    for number in flags:
        await alice(f"a STORE {number} +FLAGS.SILENT (\\Deleted)")
    freed = sum((100, 20, 3)[number - 1] for number in flags)
    assert f"(DELETED {len(flags)} DELETED-STORAGE {freed})" in await alice("a STATUS INBOX (DELETED DELETED-STORAGE)")
