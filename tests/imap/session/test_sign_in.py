"""Signing in, its limits, and its end."""

from __future__ import annotations

from dataclasses import replace

import pytest

import identity.port
from identity.model import Principal
from imap.dialogue import Peer, Tls
from imap.session import House, Limits, PlainSignIn
from tests.imap.fakes import PLAIN, Client, FakeIdentity, FakeOut, FakeStorage, make_house, until

AFAR = Peer("192.0.2.7", 4000, "192.0.2.1", 143, None)
SECURE = replace(AFAR, tls=Tls("TLSv1.3", "x"))


@pytest.mark.parametrize(
    ("rule", "peer", "allowed"),
    [
        (PlainSignIn.LOOPBACK, PLAIN, True),
        (PlainSignIn.LOOPBACK, AFAR, False),
        (PlainSignIn.LOOPBACK, SECURE, True),
        (PlainSignIn.NEVER, PLAIN, False),
        (PlainSignIn.NEVER, SECURE, True),
        (PlainSignIn.ALWAYS, AFAR, True),
    ],
)
async def test_where_a_password_may_be_sent(
    storage: FakeStorage, who: FakeIdentity, rule: PlainSignIn, peer: Peer, allowed: bool
) -> None:
    client = Client(make_house(storage, who, plain_sign_in=rule), FakeOut(peer))
    offered = (await client("a CAPABILITY")).split()
    assert ("AUTH=PLAIN" in offered) is allowed
    assert ("LOGINDISABLED" in offered) is not allowed
    assert ("STARTTLS" in offered) is (peer.tls is None)
    for line in ("a LOGIN alice secret", "a AUTHENTICATE PLAIN AGFsaWNlAHNlY3JldA=="):
        if not allowed:
            assert "a NO [PRIVACYREQUIRED]" in await client(line)
    assert len(who.origins) == 0
    if allowed:
        assert "a OK [CAPABILITY" in await client("a LOGIN alice secret")
        assert client.out.is_signed_in


async def test_starttls_opens_sign_in(house: House) -> None:
    client = Client(house, FakeOut(AFAR))
    assert "LOGINDISABLED" in await client("a CAPABILITY")
    assert (await client("a STARTTLS")) == "a OK Begin the TLS handshake\n"
    assert "AUTH=PLAIN" in await client("a CAPABILITY")


async def test_where_it_comes_from_is_told_to_identity(house: House, who: FakeIdentity) -> None:
    client = Client(house)
    await client('a ID ("name" "Thunderbird")')
    await client("a LOGIN alice secret")
    assert who.origins[0].address == "127.0.0.1"
    assert who.origins[0].door == "imap"
    assert who.origins[0].device == "Thunderbird"


async def test_identity_or_storage_away(house: House, storage: FakeStorage, who: FakeIdentity) -> None:
    client = Client(house)
    who.down = True
    assert "a NO [UNAVAILABLE]" in await client("a LOGIN alice secret")
    who.down, storage.down = False, True
    assert "a NO [UNAVAILABLE]" in await client("a LOGIN alice secret")
    assert house.sign_ins.sessions == 0
    storage.down = False
    assert "a OK" in await client("a LOGIN alice secret")


async def test_too_many_guesses_end_the_connection(storage: FakeStorage, who: FakeIdentity) -> None:
    client = Client(make_house(storage, who, limits=Limits(failed_sign_ins=3)))
    for _ in range(2):
        assert "BYE" not in await client("a LOGIN alice wrong")
    assert "* BYE" in await client("a LOGIN alice wrong")


async def test_sessions_of_an_account_are_limited(storage: FakeStorage, who: FakeIdentity) -> None:
    house = make_house(storage, who, sessions=2)
    first, _ = await Client(house).signed_in(), await Client(house).signed_in()
    third = Client(house)
    assert "a NO [LIMIT]" in await third("a LOGIN alice secret")
    assert "a OK" in await Client(house)("a LOGIN bob secret")
    first.session.closed()
    assert "a OK" in await third("a LOGIN alice secret")


async def test_a_changed_password_ends_its_sessions_and_no_others(house: House, who: FakeIdentity) -> None:
    alice, bob = await Client(house).signed_in(), await Client(house).signed_in("bob")
    await until(lambda: house.sign_ins.mark)
    who.change_password("alice", "new")
    renewed = await Client(house).signed_in("alice", "new")
    await until(lambda: alice.out.said_bye)
    assert bob.out.said_bye is None
    assert renewed.out.said_bye is None


async def test_a_password_changed_in_the_midst_of_the_sign_in(house: House, who: FakeIdentity) -> None:
    await until(lambda: house.sign_ins.mark)
    mark = house.sign_ins.mark
    real = house.storage.open_account

    async def slow(*args: object) -> None:
        await real(*args)  # type: ignore[arg-type]  # handed through
        who.change_password("alice", "new")
        await until(lambda: house.sign_ins.mark != mark)

    object.__setattr__(house.storage, "open_account", slow)
    client = Client(house)
    assert "a NO [AUTHENTICATIONFAILED]" in await client("a LOGIN alice secret")
    assert house.sign_ins.sessions == 0


async def test_identity_away_after_the_password_was_good(house: House, who: FakeIdentity) -> None:
    await until(lambda: house.sign_ins.mark)
    mark = house.sign_ins.mark
    real = house.storage.open_account

    async def slow(*args: object) -> None:
        await real(*args)  # type: ignore[arg-type]  # handed through
        who.change_password("bob", "new")
        await until(lambda: house.sign_ins.mark != mark)

    async def away(principal: Principal) -> bool:
        raise identity.port.Unavailable("down")

    object.__setattr__(house.storage, "open_account", slow)
    object.__setattr__(who, "still_valid", away)
    client = Client(house)
    assert "a NO [UNAVAILABLE]" in await client("a LOGIN alice secret")
    # RFC 3501 §3.1: it is not authenticated, and takes nobody's place
    assert house.sign_ins.sessions == 0
    assert "a BAD" in await client("a SELECT INBOX")


async def test_many_bad_commands_end_the_connection(storage: FakeStorage, who: FakeIdentity) -> None:
    client = Client(make_house(storage, who, limits=Limits(bad_commands=3)))
    await client("a BOGUS")
    await client("a BOGUS")
    await client("a NOOP")
    await client("a BOGUS")
    assert "BYE" not in await client("a BOGUS")
    assert "* BYE" in await client("a BOGUS")


async def test_a_closed_session_leaves_nothing_behind(house: House) -> None:
    client = await Client(house).signed_in()
    await client("a SELECT INBOX")
    assert house.hub.modseq("alice")
    client.session.closed()
    assert house.sign_ins.sessions == 0
    assert house.hub.modseq("alice") == 0
