"""SCRAM-SHA-256 and bearer tokens in a door's sign-in: every adapter alike."""

from __future__ import annotations

import asyncio
import base64
import itertools
from dataclasses import replace

import pytest

from identity.guesspolicy import USUAL_SECONDS
from identity.model import ChangeKind, NewAccount, Origin, Principal, Role, ScramSigned
from identity.port import Reason, Refused
from tests.contract.identity.conftest import DOMAIN, HOME, World
from tests.scram import ScramClient

AFAR = Origin("192.0.2.7", "imap")
NONCES = itertools.count(1)
ELSEWHERE = Origin("203.0.113.9", "imap")


@pytest.fixture
async def scram(world: World) -> World:
    await world.port.close()
    world.settings = replace(world.settings, scram=True, scram_iterations=4096)
    await world.open()
    return world


async def proven(world: World, name: str, password: str = "secret", origin: Origin = HOME) -> ScramSigned:
    """The exchange as a door has it, without its lines."""
    client = ScramClient(name, password)
    salt = await world.port.scram_start(name, origin)
    told = f"r={client.nonce}{next(NONCES)},s={base64.b64encode(salt.salt).decode()},i={salt.iterations}"
    client.final(told.encode())
    signed = await world.port.scram_finish(name, client.message, client.proof, origin)
    assert signed.signature == client.server_signature
    return signed


async def test_a_proof_signs_in(scram: World) -> None:
    account = await scram.add("alice", quota=1000)
    for name in (f"alice@{DOMAIN}", "alice", f"ALICE@{DOMAIN.upper()}"):
        signed = await proven(scram, name)
        assert signed.principal == Principal(account.id, account.address, Role.USER, 1000, "password", account.version)
    assert await scram.port.still_valid(signed.principal)


async def test_wrong_password_unknown_name_and_foreign_proof(scram: World) -> None:
    await scram.add("alice")
    await scram.add("bob", "other")
    for name, password in (("alice", "wrong"), ("nobody", "secret"), ("", "x"), ("a@b@c", "x"), ("alice", "other")):
        assert await scram.reason(proven(scram, name, password)) is Reason.BAD_CREDENTIALS
    await scram.add("carol")
    for name in ("carol", "absent"):
        for proof in (b"", b"x" * 31, b"x" * 33, bytes(32)):
            assert await scram.reason(scram.port.scram_finish(name, b"message", proof, HOME)) is Reason.BAD_CREDENTIALS


async def test_names_have_a_salt_each_whether_they_are_or_not(scram: World) -> None:
    before = await scram.port.scram_start("alice", HOME)
    await scram.add("alice")
    asked = {name: await scram.port.scram_start(name, HOME) for name in ("alice", "nobody", "x y", "a@b@c")}
    assert len({one.salt for one in asked.values()}) == 4
    assert {(len(one.salt), one.iterations) for one in asked.values()} == {(16, 4096)}
    # It does not tell when an account came to be, and it is that of the name however it is written.
    assert asked["alice"] == before == await scram.port.scram_start(f"Alice@{DOMAIN}", AFAR)
    await scram.reopen()
    assert asked == {name: await scram.port.scram_start(name, HOME) for name in asked}


async def test_app_passwords_prove_too_with_and_without_hyphens(scram: World) -> None:
    account = await scram.add("alice")
    made, secret = await scram.port.add_app_password(account.id, "phone")
    other, more = await scram.port.add_app_password(account.id, "tablet")
    assert (await proven(scram, "alice", secret)).principal.credential == f"app:{made.id}"
    assert (await proven(scram, "alice", more.replace("-", ""))).principal.credential == f"app:{other.id}"
    assert (await proven(scram, "alice")).principal.credential == "password"
    assert (await scram.port.app_passwords(account.id))[0].last_used == scram.clock.now()
    await scram.port.revoke_app_password(account.id, made.id)
    assert await scram.reason(proven(scram, "alice", secret)) is Reason.BAD_CREDENTIALS
    assert (await proven(scram, "alice", more)).principal.credential == f"app:{other.id}"


async def test_a_password_as_saslprep_makes_it_and_as_it_is(scram: World) -> None:
    # RFC 4013 §3: U+00AA becomes a, U+00AD goes; U+0007 is forbidden, and such a password is taken as it is.
    await scram.add("alice", "\u00aa\u00ad1")
    await scram.add("bob", "bell\u0007")
    await proven(scram, "alice", "a1")
    await proven(scram, "alice", "\u00aa\u00ad1")
    await proven(scram, "bob", "bell\u0007")
    # What signs in by its text stays what was given.
    assert await scram.reason(scram.sign_in("alice", "a1")) is Reason.BAD_CREDENTIALS


async def test_a_new_password_has_new_keys_and_the_old_none(scram: World) -> None:
    account = await scram.add("alice")
    await scram.port.set_password(account.id, "newer")
    assert await scram.reason(proven(scram, "alice")) is Reason.BAD_CREDENTIALS
    await proven(scram, "alice", "newer")
    assert await scram.port.scram_ready()


async def test_disabled_is_told_with_the_right_password_alone(scram: World) -> None:
    account = await scram.add("alice")
    await scram.port.update_account(account.id, enabled=False)
    assert await scram.reason(proven(scram, "alice")) is Reason.DISABLED
    assert await scram.reason(proven(scram, "alice", "wrong")) is Reason.BAD_CREDENTIALS


async def test_a_removed_account_proves_nothing(scram: World) -> None:
    await scram.admin()
    account = await scram.add("alice")
    await scram.port.remove_account(account.id)
    assert await scram.reason(proven(scram, "alice")) is Reason.BAD_CREDENTIALS
    assert await scram.port.scram_ready()


async def test_ready_while_no_enabled_account_lacks_keys(scram: World) -> None:
    assert await scram.port.scram_ready()
    await scram.add("alice")
    assert await scram.port.scram_ready()
    hash = (await scram.port.export_accounts())[0].password_hash
    moved = await scram.port.add_account(NewAccount(f"moved@{DOMAIN}", password_hash=hash))
    assert not await scram.port.scram_ready()
    assert await scram.reason(proven(scram, "moved")) is Reason.BAD_CREDENTIALS
    await scram.port.update_account(moved.id, enabled=False)
    assert await scram.port.scram_ready()
    await scram.port.update_account(moved.id, enabled=True)
    assert not await scram.port.scram_ready()
    # A sign-in with the password itself makes the keys.
    principal = await scram.sign_in("moved")
    assert await scram.port.scram_ready()
    assert (await proven(scram, "moved")).principal == principal
    # Nothing that was signed in has ended by that.
    assert (await scram.port.account(moved.id)).version == principal.version


async def test_ready_after_an_import_with_passwords(scram: World) -> None:
    rows = [NewAccount(f"user{number}@{DOMAIN}", f"password {number}") for number in range(5)]
    await scram.port.import_accounts(rows)
    assert await scram.port.scram_ready()
    await proven(scram, "user3", "password 3")


async def test_what_was_there_before_it_was_switched_on(world: World) -> None:
    account = await world.add("alice")
    app, secret = await world.port.add_app_password(account.id, "phone")
    assert not await world.port.scram_ready()
    assert await world.reason(world.port.scram_start("alice", HOME)) is Reason.BAD_CREDENTIALS
    assert await world.reason(world.port.scram_finish("alice", b"m", bytes(32), HOME)) is Reason.BAD_CREDENTIALS
    await world.port.close()
    world.settings = replace(world.settings, scram=True, scram_iterations=4096)
    await world.open()
    assert not await world.port.scram_ready()
    await world.sign_in("alice")
    # The phone has not signed in yet, and would take SCRAM if it were offered.
    assert not await world.port.scram_ready()
    await world.sign_in("alice", secret.upper())
    assert await world.port.scram_ready()
    assert (await proven(world, "alice", secret)).principal.credential == f"app:{app.id}"
    assert (await proven(world, "alice")).principal.credential == "password"
    # With another count, all is to be made again.
    await world.port.close()
    world.settings = replace(world.settings, scram_iterations=5000)
    await world.open()
    assert not await world.port.scram_ready()
    assert await world.reason(proven(world, "alice")) is Reason.BAD_CREDENTIALS
    await world.sign_in("alice")
    await world.port.revoke_app_password(account.id, app.id)
    assert await world.port.scram_ready()
    await proven(world, "alice")


async def test_guesses_count_as_those_of_passwords(scram: World) -> None:
    await scram.add("alice")
    # One that the owner has used lately, and a stranger's.
    await proven(scram, "alice", origin=ELSEWHERE)
    for _ in range(5):
        assert await scram.reason(proven(scram, "alice", "wrong", AFAR)) is Reason.BAD_CREDENTIALS
    refusal = await scram.refusal(proven(scram, "alice", "secret", AFAR))
    assert refusal.reason is Reason.SLOW_DOWN
    assert refusal.retry_after is not None
    # They are the same counters, so a password is slowed as well.
    assert await scram.reason(scram.sign_in("alice", origin=AFAR)) is Reason.SLOW_DOWN
    # The owner is not, where SCRAM has made the device a usual one.
    for _ in range(5):
        assert await scram.reason(proven(scram, "alice", "wrong", Origin("192.0.2.8", "imap"))) in (
            Reason.BAD_CREDENTIALS,
            Reason.SLOW_DOWN,
        )
    await proven(scram, "alice", origin=ELSEWHERE)
    assert await scram.port.signed_in_from(ELSEWHERE.address)
    scram.clock.advance(refusal.retry_after)
    await proven(scram, "alice", origin=AFAR)


async def test_a_token_signs_in(world: World) -> None:
    account = await world.add("alice", quota=5)
    token = await world.port.issue_token(await world.sign_in("alice"))
    for name in ("", "alice", f"alice@{DOMAIN}", f"Alice@{DOMAIN}"):
        principal = await world.port.authenticate_token(name, token.access, AFAR)
        assert (principal.account, principal.address, principal.quota) == (account.id, account.address, 5)
        assert principal.credential.startswith("token:")
    assert await world.port.still_valid(principal)
    seq = (await world.port.changes_since(0, 0.0)).seq
    await world.port.revoke_token(token.access)
    # What was signed in by it hears that it has ended.
    assert not await world.port.still_valid(principal)
    changes = (await world.port.changes_since(seq, 5.0)).changes
    assert [(one.kind, one.revoked) for one in changes] == [(ChangeKind.CREDENTIALS, (principal.credential,))]
    assert await world.reason(world.port.authenticate_token("", token.access, AFAR)) is Reason.BAD_CREDENTIALS


async def test_a_token_is_its_own_accounts_alone(world: World) -> None:
    await world.add("alice")
    await world.add("bob")
    token = await world.port.issue_token(await world.sign_in("alice"))
    for name, access in (
        ("bob", token.access),
        ("nobody", token.access),
        ("a@b@c", token.access),
        ("alice", token.refresh),
        ("alice", "secret"),
        ("alice", ""),
        ("alice", "x" * 10_000),
    ):
        assert await world.reason(world.port.authenticate_token(name, access, HOME)) is Reason.BAD_CREDENTIALS
    world.clock.advance(3601)
    assert await world.reason(world.port.authenticate_token("", token.access, HOME)) is Reason.BAD_CREDENTIALS


async def test_bad_tokens_slow_their_address_and_nobodys_account(world: World) -> None:
    await world.add("alice")
    token = await world.port.issue_token(await world.sign_in("alice"))
    refused = [
        await world.reason(world.port.authenticate_token("alice", f"bad {number}", AFAR)) for number in range(40)
    ]
    assert refused[:20] == [Reason.BAD_CREDENTIALS] * 20
    assert refused[-1] is Reason.SLOW_DOWN
    # A good one is let in: who guesses behind the same address holds nobody back who has one.
    await world.port.authenticate_token("alice", token.access, AFAR)
    assert await world.reason(world.port.authenticate_token("bob", token.access, AFAR)) is Reason.SLOW_DOWN
    # Others of the account, from elsewhere, know nothing of it; and loopback is not counted by its address.
    await world.sign_in("alice", origin=ELSEWHERE)
    await world.port.authenticate_token("alice", token.access, Origin("203.0.113.10", "imap"))
    for number in range(40):
        assert await world.reason(world.port.authenticate_token("", f"{number}", HOME)) is Reason.BAD_CREDENTIALS


async def test_a_token_makes_a_device_usual(world: World) -> None:
    await world.add("alice")
    token = await world.port.issue_token(await world.sign_in("alice"))
    assert not await world.port.signed_in_from(ELSEWHERE.address)
    await world.port.authenticate_token("alice", token.access, ELSEWHERE)
    async with asyncio.timeout(60):
        # It may be written behind the answer.
        while not await world.port.signed_in_from(ELSEWHERE.address):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    world.clock.advance(USUAL_SECONDS + 1)
    assert not await world.port.signed_in_from(ELSEWHERE.address)


async def test_a_disabled_accounts_token_is_none(world: World) -> None:
    account = await world.add("alice")
    token = await world.port.issue_token(await world.sign_in("alice"))
    await world.port.update_account(account.id, enabled=False)
    with pytest.raises(Refused):
        await world.port.authenticate_token("", token.access, HOME)
