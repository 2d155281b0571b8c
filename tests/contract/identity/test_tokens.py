"""Bearer tokens."""

from __future__ import annotations

import asyncio

from identity.model import ChangeKind, Role
from identity.port import Reason

D = "test.example"


async def test_a_token_stands_for_its_account(world):
    alice = await world.add("alice", quota=3)
    token = await world.port.issue_token(await world.sign_in("alice"))
    assert token.account == alice.id
    assert token.expires_at == world.clock.now() + 3600
    principal = await world.port.verify_token(token.access)
    assert (principal.account, principal.address, principal.role, principal.quota) == (
        alice.id,
        f"alice@{D}",
        Role.USER,
        3,
    )
    assert principal.credential.startswith("token:")
    assert await world.port.still_valid(principal)
    await world.reopen()
    assert await world.port.verify_token(token.access) == principal
    for bad in ("", "x", token.refresh, token.access + "x", "x" * 100_000, "\udcff"):
        assert await world.reason(world.port.verify_token(bad)) is Reason.BAD_CREDENTIALS
        assert await world.reason(world.port.refresh_token(bad if bad != token.refresh else "y")) is (
            Reason.BAD_CREDENTIALS
        )


async def test_it_ends_with_its_time(world):
    await world.add("alice")
    token = await world.port.issue_token(await world.sign_in("alice"))
    world.clock.advance(3599)
    await world.port.verify_token(token.access)
    world.clock.advance(1)
    assert await world.reason(world.port.verify_token(token.access)) is Reason.BAD_CREDENTIALS
    again = await world.port.refresh_token(token.refresh)
    await world.port.verify_token(again.access)
    world.clock.advance(30 * 86400)
    assert await world.reason(world.port.refresh_token(again.refresh)) is Reason.BAD_CREDENTIALS


async def test_refresh_ends_the_old_pair_and_reuse_ends_the_family(world):
    alice = await world.add("alice")
    first = await world.port.issue_token(await world.sign_in("alice"))
    other = await world.port.issue_token(await world.sign_in("alice"))
    second = await world.port.refresh_token(first.refresh)
    assert await world.reason(world.port.verify_token(first.access)) is Reason.BAD_CREDENTIALS
    principal = await world.port.verify_token(second.access)
    third = await world.port.refresh_token(second.refresh)
    assert (await world.port.verify_token(third.access)).credential == principal.credential
    seq = (await world.port.changes_since(0, 0)).seq
    assert await world.reason(world.port.refresh_token(first.refresh)) is Reason.BAD_CREDENTIALS
    assert await world.reason(world.port.verify_token(third.access)) is Reason.BAD_CREDENTIALS
    assert await world.reason(world.port.refresh_token(third.refresh)) is Reason.BAD_CREDENTIALS
    assert not await world.port.still_valid(principal)
    (change,) = (await world.port.changes_since(seq, 0)).changes
    assert (change.account, change.kind, change.revoked) == (
        alice.id,
        ChangeKind.CREDENTIALS,
        (principal.credential,),
    )
    await world.port.verify_token(other.access)


async def test_two_refreshes_at_once_give_one_pair_or_end_the_family(world):
    await world.add("alice")
    token = await world.port.issue_token(await world.sign_in("alice"))
    answers = await asyncio.gather(
        world.port.refresh_token(token.refresh), world.port.refresh_token(token.refresh), return_exceptions=True
    )
    assert sum(not isinstance(answer, BaseException) for answer in answers) <= 1


async def test_revocation(world):
    await world.add("alice")
    token = await world.port.issue_token(await world.sign_in("alice"))
    await world.port.revoke_token(token.access)
    await world.port.revoke_token(token.access)
    await world.port.revoke_token("never was")
    assert await world.reason(world.port.verify_token(token.access)) is Reason.BAD_CREDENTIALS
    assert await world.reason(world.port.refresh_token(token.refresh)) is Reason.BAD_CREDENTIALS


async def test_tokens_end_with_what_they_came_from(world):
    alice = await world.add("alice")
    phone, secret = await world.port.add_app_password(alice.id, "phone")
    by_password = await world.port.issue_token(await world.sign_in("alice"))
    by_app = await world.port.issue_token(await world.sign_in("alice", secret))
    # one that came from a token ends with what that token came from
    child = await world.port.issue_token(await world.port.verify_token(by_app.access))
    await world.port.set_password(alice.id, "new")
    assert await world.reason(world.port.verify_token(by_password.access)) is Reason.BAD_CREDENTIALS
    await world.port.verify_token(by_app.access)
    await world.port.revoke_app_password(alice.id, phone.id)
    for token in (by_app, child):
        assert await world.reason(world.port.verify_token(token.access)) is Reason.BAD_CREDENTIALS


async def test_no_token_for_what_no_longer_holds(world):
    alice = await world.add("alice")
    principal = await world.sign_in("alice")
    await world.port.set_password(alice.id, "new")
    assert await world.reason(world.port.issue_token(principal)) is Reason.BAD_CREDENTIALS


async def test_disabled_and_demoted(world):
    await world.admin()
    boss = await world.add("boss", role=Role.ADMIN)
    token = await world.port.issue_token(await world.sign_in("boss"))
    await world.port.update_account(boss.id, role=Role.USER)
    assert (await world.port.verify_token(token.access)).role is Role.USER
    await world.port.update_account(boss.id, enabled=False)
    assert await world.reason(world.port.verify_token(token.access)) is Reason.BAD_CREDENTIALS
    await world.port.update_account(boss.id, enabled=True)
    assert await world.reason(world.port.verify_token(token.access)) is Reason.BAD_CREDENTIALS
    assert await world.reason(world.port.refresh_token(token.refresh)) is Reason.BAD_CREDENTIALS


async def test_the_oldest_of_too_many_ends(world):
    await world.add("alice")
    principal = await world.sign_in("alice")
    tokens = []
    for _ in range(101):
        tokens.append(await world.port.issue_token(principal))
        world.clock.advance(1)
    assert await world.reason(world.port.verify_token(tokens[0].access)) is Reason.BAD_CREDENTIALS
    await world.port.verify_token(tokens[1].access)
    await world.port.verify_token(tokens[100].access)
