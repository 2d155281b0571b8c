"""Names below "Other Users/", and rights as letters."""

from __future__ import annotations

from unittest.mock import AsyncMock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity.model import Resolution, Target, Verdict
from imap.commands.pattern import MailboxPattern
from imap.places import PREFIX, Place, Places, may_match, quoted, unquoted
from imap.rights import letters_of, rights_of
from runtime.clock import ManualClock
from storage.model import ALL_RIGHTS, Mailbox, MailboxRef, Rights
from storage.port import Reason, Refused
from tests.imap.fakes import Client, FakeIdentity, FakeStorage, make_house


@given(st.text())
def test_an_address_is_one_level_without_wildcards(address: str) -> None:
    level = quoted(address)
    assert not set(level.replace("%25", "").replace("%2F", "").replace("%2A", "")) & set("%*/")
    assert unquoted(level) == address


@given(st.text(alphabet="OtherUs /ax*%", max_size=20), st.sampled_from(("a@x/INBOX", "b/c/d")))
def test_what_a_pattern_may_match_is_looked_for(pattern: str, rest: str) -> None:
    name = PREFIX + rest
    if MailboxPattern("", pattern).matches(name):
        assert may_match(pattern)


@pytest.mark.parametrize("pattern", ["INBOX", "Sent", "Other Userz/*", "Work/*", "O/%"])
def test_what_a_pattern_cannot_match_is_not(pattern: str) -> None:
    assert not may_match(pattern)


@given(st.integers(0, ALL_RIGHTS).map(Rights))
def test_letters_come_back(rights: Rights) -> None:
    told = letters_of(rights)
    # RFC 4314 §2.1.1
    assert ("c" in told) == bool(rights & (Rights.CREATE | Rights.DELETE_MAILBOX))
    assert ("d" in told) == bool(rights & (Rights.DELETE_MESSAGES | Rights.EXPUNGE))
    assert rights_of(told.removesuffix("d").removesuffix("c")) == rights


@pytest.mark.parametrize("letters", ["q", "lrQ", "1", "l r", "ß"])
def test_what_is_no_right(letters: str) -> None:
    assert rights_of(letters) is None


@pytest.fixture
def who() -> FakeIdentity:
    return FakeIdentity(alice="x", bob="x")


@pytest.fixture
def places(who: FakeIdentity) -> Places:
    return Places(who, FakeStorage(), ManualClock())  # type: ignore[arg-type]  # the fakes have what is asked


async def test_where_names_lead(places: Places) -> None:
    assert await places.of("alice", "inbox/x") == Place("alice", "INBOX/x")
    assert await places.of("alice", "Other Users/bob@example.org/inbox") == Place("bob", "INBOX", "alice")
    assert await places.of("alice", "Other Users/bob/A/B") == Place("bob", "A/B", "alice")
    assert await places.of("alice", "Other Users/alice/A") == Place("alice", "A")
    assert await places.of("alice", "other users/bob/A") == Place("alice", "other users/bob/A")
    for name in ("Other Users", "Other Users/", "Other Users/bob", "Other Users/zoe/INBOX", "Other Users//x"):
        with pytest.raises(Refused) as refused:
            await places.of("alice", name)
        assert refused.value.reason is Reason.NO_SUCH_MAILBOX


@pytest.mark.parametrize(
    ("identifier", "resolved"),
    [
        ("zoe@example.org", Resolution(Verdict.UNKNOWN)),
        ("zoe@elsewhere.example", Resolution(Verdict.NOT_OURS)),
        # an alias of several
        ("team@example.org", Resolution(Verdict.LOCAL, (Target("alice", "", None), Target("bob", "", None)))),
        # what but a catch-all takes
        ("any@example.org", Resolution(Verdict.LOCAL, (Target("bob", "", None),))),
        ("-zoe@example.org", Resolution(Verdict.UNKNOWN)),
    ],
)
async def test_all_that_is_no_account_is_told_alike(
    who: FakeIdentity, monkeypatch: pytest.MonkeyPatch, identifier: str, resolved: Resolution
) -> None:
    monkeypatch.setattr(FakeIdentity, "resolve", AsyncMock(return_value=resolved))
    monkeypatch.setattr(FakeIdentity, "may_send_as", AsyncMock(return_value=False), raising=False)
    storage = FakeStorage()
    client = await Client(make_house(storage, who)).signed_in(password="x")
    for command in (f"SETACL INBOX {identifier} lr", f"DELETEACL INBOX {identifier}", f"LISTRIGHTS INBOX {identifier}"):
        assert await client(f"a {command}") == "a NO There is no account of that address\n"
    assert storage.find("alice", "INBOX").acl == ()


async def test_names_as_they_are_told(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await places.name_of("alice", "Other Users/bob/inbox") == "Other Users/bob/inbox"
    seen = Mailbox(MailboxRef("bob", "M1", "alice"), "INBOX", 1, 1, 0, 0, 0, 0, 1, 0, None, Rights.LOOKUP)
    monkeypatch.setattr(FakeStorage, "mailbox", AsyncMock(return_value=seen))
    assert await places.name_of("alice", "Other Users/bob/inbox") == "Other Users/bob@example.org/INBOX"
    assert await places.name_of("alice", "Other Users/alice/Sent") == "Sent"
    assert await places.name_of("alice", "Other Users/zoe/Sent") == "Other Users/zoe/Sent"


async def test_an_alias_of_one_account_is_its_address(who: FakeIdentity, places: Places) -> None:
    bob, alice = Target("bob", "bob@example.org", None), Target("alice", "alice@example.org", None)
    found = {
        "sales@example.org": Resolution(Verdict.LOCAL, (bob,)),
        "all@example.org": Resolution(Verdict.LOCAL, (alice, bob)),
        "out@example.org": Resolution(Verdict.LOCAL, (bob,), ("x@far.example",)),
        "catch@example.org": Resolution(Verdict.LOCAL, (bob,)),
    }

    async def resolve(address: str) -> Resolution:
        return found.get(address, Resolution(Verdict.UNKNOWN))

    async def may_send_as(account: str, address: str) -> bool:
        return not address.startswith("catch")

    who.resolve = resolve  # type: ignore[method-assign]
    who.may_send_as = may_send_as  # type: ignore[attr-defined]
    assert await places.account_of("sales@example.org") == "bob"
    for address in (*list(found)[1:], "nobody@example.org"):
        assert await places.account_of(address) is None
