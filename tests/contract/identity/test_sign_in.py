"""authenticate, app passwords, still_valid, changes_since."""

from __future__ import annotations

import asyncio

import pytest

from identity.checked import Checked
from identity.model import ChangeKind, Changes, NewAccount, Origin, Principal, Role
from identity.port import Reason, Unavailable

D = "test.example"


async def test_whole_address_and_local_part(world):
    alice = await world.add("alice", quota=5)
    for name in ("alice", "ALICE", f"alice@{D}", f"Alice@{D.upper()}"):
        assert await world.sign_in(name) == Principal(alice.id, f"alice@{D}", Role.USER, 5, "password", alice.version)


@pytest.mark.parametrize(
    "name", ["nobody", "", "alice@else.example", "a b", "alice\0", "x" * 5000, "\udcff", "@", "a@b@c"]
)
async def test_unknown_names_cost_a_hash_and_say_the_same(world, name):
    await world.add("alice")
    world.hasher.verified.clear()
    refused = await world.refusal(world.sign_in(name))
    wrong = await world.refusal(world.sign_in("alice", "wrong"))
    assert (refused.reason, refused.text) == (wrong.reason, wrong.text) == (Reason.BAD_CREDENTIALS, wrong.text)
    assert len(world.hasher.verified) == 2


@pytest.mark.parametrize("password", ["", "\0", "secret\0", "x" * 1025, "\ud800", "Secret", "secret "])
async def test_wrong_passwords(world, password):
    await world.add("alice")
    assert await world.reason(world.sign_in("alice", password)) is Reason.BAD_CREDENTIALS


async def test_disabled_is_told_to_the_right_password_only(world):
    alice = await world.add("alice")
    await world.port.update_account(alice.id, enabled=False)
    assert await world.reason(world.sign_in("alice")) is Reason.DISABLED
    assert await world.reason(world.sign_in("alice", "wrong")) is Reason.BAD_CREDENTIALS
    await world.port.update_account(alice.id, enabled=True)
    await world.sign_in("alice")


async def test_ten_sign_ins_at_once_cost_one_hash(world):
    await world.add("alice")
    world.hasher.verified.clear()
    principals = await asyncio.gather(*(world.sign_in("alice", origin=f"192.0.2.{n}") for n in range(10)))
    assert len(set(principals)) == 1
    assert len(world.hasher.verified) == 1
    world.clock.advance(59)
    await world.sign_in("alice")
    assert len(world.hasher.verified) == 1
    world.clock.advance(2)
    await world.sign_in("alice")
    assert len(world.hasher.verified) == 2


async def test_ten_wrong_ones_at_once_cost_one_hash_and_are_not_remembered(world, monkeypatch):
    await world.add("alice")
    world.hasher.verified.clear()
    world.hasher.gate.clear()
    come = 0
    check = Checked.check

    async def counted(*asked):
        nonlocal come
        come += 1
        return await check(*asked)

    monkeypatch.setattr(Checked, "check", counted)
    tasks = [asyncio.create_task(world.reason(world.sign_in("alice", "old"))) for _ in range(10)]
    # the first is held in the hasher until all the others have come to it
    async with asyncio.timeout(30):
        while come < 10:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    world.hasher.gate.set()
    assert set(await asyncio.gather(*tasks)) == {Reason.BAD_CREDENTIALS}
    assert len(world.hasher.verified) == 1
    assert await world.reason(world.sign_in("alice", "old")) is Reason.BAD_CREDENTIALS
    assert len(world.hasher.verified) == 2


async def test_a_cancelled_sign_in_disturbs_no_other(world):
    await world.add("alice")
    world.hasher.gate.clear()
    first = asyncio.create_task(world.sign_in("alice"))
    second = asyncio.create_task(world.sign_in("alice"))
    await asyncio.sleep(0.1)
    first.cancel()
    world.hasher.gate.set()
    assert (await second).address == f"alice@{D}"


async def test_a_new_password_holds_at_once(world):
    alice = await world.add("alice")
    before = await world.sign_in("alice")
    await world.port.set_password(alice.id, "new")
    assert await world.reason(world.sign_in("alice")) is Reason.BAD_CREDENTIALS
    after = await world.sign_in("alice", "new")
    assert after.version == before.version + 1
    assert not await world.port.still_valid(before)
    assert await world.port.still_valid(after)
    assert await world.reason(world.port.set_password(alice.id, "")) is Reason.BAD_PASSWORD
    assert await world.reason(world.port.set_password("none", "x")) is Reason.NO_SUCH_ACCOUNT


async def test_app_passwords(world):
    alice = await world.add("alice")
    bob = await world.add("bob")
    by_password = await world.sign_in("alice")
    phone, secret = await world.port.add_app_password(alice.id, "phone")
    assert len(secret.replace("-", "")) == 24
    assert await world.port.app_passwords(alice.id) == (phone,)
    assert secret not in repr(phone)
    by_app = await world.sign_in("alice", secret)
    assert by_app.credential == f"app:{phone.id}"
    assert (await world.sign_in("alice", secret.upper().replace("-", " "))).credential == by_app.credential
    assert (await world.port.app_passwords(alice.id))[0].last_used == world.clock.now()
    assert await world.reason(world.sign_in("bob", secret)) is Reason.BAD_CREDENTIALS
    assert await world.reason(world.port.add_app_password(alice.id, "phone")) is Reason.ALREADY_EXISTS
    assert await world.reason(world.port.add_app_password(alice.id, "")) is Reason.LIMIT
    assert await world.reason(world.port.add_app_password("none", "x")) is Reason.NO_SUCH_ACCOUNT
    assert await world.reason(world.port.revoke_app_password(bob.id, phone.id)) is Reason.NO_SUCH_CREDENTIAL

    await world.port.set_password(alice.id, "new")
    assert await world.port.still_valid(by_app)
    assert not await world.port.still_valid(by_password)
    await world.sign_in("alice", secret)

    await world.port.revoke_app_password(alice.id, phone.id)
    assert not await world.port.still_valid(by_app)
    assert await world.reason(world.sign_in("alice", secret)) is Reason.BAD_CREDENTIALS
    assert await world.reason(world.port.revoke_app_password(alice.id, phone.id)) is Reason.NO_SUCH_CREDENTIAL
    for n in range(50):
        await world.port.add_app_password(alice.id, f"program {n}")
    assert await world.reason(world.port.add_app_password(alice.id, "one more")) is Reason.LIMIT


async def test_a_password_that_looks_like_an_app_password(world):
    await world.add("alice", "abcd-efgh-ijkl-mnop-qrst-uvwx")
    assert (await world.sign_in("alice", "abcd-efgh-ijkl-mnop-qrst-uvwx")).credential == "password"
    assert await world.reason(world.sign_in("alice", "abcdefghijklmnopqrstuvwx")) is Reason.BAD_CREDENTIALS


async def test_still_valid(world):
    await world.admin()
    boss = await world.add("boss", role=Role.ADMIN)
    principal = await world.sign_in("boss")
    assert await world.port.still_valid(principal)
    await world.port.update_account(boss.id, role=Role.USER)
    assert not await world.port.still_valid(principal), "it was an administrator's"
    principal = await world.sign_in("boss")
    await world.port.update_account(boss.id, role=Role.ADMIN)
    assert await world.port.still_valid(principal), "it may do less than the account"
    await world.port.update_account(boss.id, enabled=False)
    assert not await world.port.still_valid(principal)
    await world.port.update_account(boss.id, enabled=True)
    assert await world.port.still_valid(principal)
    for credential in ("", "app:x", "token:x", "nonsense"):
        other = Principal(boss.id, boss.address, Role.USER, None, credential, 99)
        assert not await world.port.still_valid(other)
    await world.port.remove_account(boss.id)
    assert not await world.port.still_valid(principal)


async def test_changes_are_told_in_order_and_once(world):
    await world.admin()
    alice = await world.add("alice")
    begin = await world.port.changes_since(0, 60)
    assert begin.changes == ()
    assert begin.seq > 0
    phone, _ = await world.port.add_app_password(alice.id, "phone")
    await world.port.set_password(alice.id, "new")
    await world.port.revoke_app_password(alice.id, phone.id)
    await world.port.update_account(alice.id, display_name="told to nobody")
    await world.port.update_account(alice.id, enabled=False)
    await world.port.remove_account(alice.id)
    changes = await world.port.changes_since(begin.seq, 60)
    assert [(c.kind, c.revoked) for c in changes.changes] == [
        (ChangeKind.CREDENTIALS, ("password",)),
        (ChangeKind.CREDENTIALS, (f"app:{phone.id}",)),
        (ChangeKind.DISABLED, ()),
        (ChangeKind.REMOVED, ()),
    ]
    assert {c.account for c in changes.changes} == {alice.id}
    assert changes.seq == changes.changes[-1].seq
    assert not changes.reset
    assert await world.port.changes_since(changes.seq, 0) == type(changes)(changes.seq, ())
    second = changes.changes[1].seq
    assert (await world.port.changes_since(second, 0)).changes == changes.changes[2:]
    await world.reopen()
    assert (await world.port.changes_since(second, 0)).changes == changes.changes[2:]


async def test_who_waits_is_woken_at_once(world):
    alice = await world.add("alice")
    seq = (await world.port.changes_since(0, 0)).seq
    waiting = [asyncio.create_task(world.port.changes_since(seq, 300)) for _ in range(3)]
    await asyncio.sleep(0.02)
    assert not any(task.done() for task in waiting)
    await world.port.set_password(alice.id, "new")
    for changes in await asyncio.wait_for(asyncio.gather(*waiting), 30):
        assert [c.kind for c in changes.changes] == [ChangeKind.CREDENTIALS]
    assert (await world.port.changes_since(changes.seq, 0.01)).changes == ()


@pytest.mark.parametrize("turns", [1, 3, 50])
async def test_who_waits_is_let_go_by_closing(world, turns):
    """However far it has come."""
    seq = (await world.port.changes_since(0, 0)).seq
    waiting = asyncio.create_task(world.port.changes_since(seq, 300))
    for _ in range(turns):
        await asyncio.sleep(0)
    await world.port.close()
    async with asyncio.timeout(30):
        (outcome,) = await asyncio.gather(waiting, return_exceptions=True)
    assert outcome == Changes(seq, ()) or isinstance(outcome, Unavailable)


async def test_a_position_that_the_history_does_not_know(world):
    seq = (await world.port.changes_since(0, 0)).seq
    ahead = await world.port.changes_since(seq + 1000, 60)
    assert ahead.reset
    assert ahead.seq == seq


async def test_demotion_ends_connections(world):
    await world.admin()
    boss = await world.add("boss", role=Role.ADMIN)
    seq = (await world.port.changes_since(0, 0)).seq
    await world.port.update_account(boss.id, role=Role.USER)
    (change,) = (await world.port.changes_since(seq, 0)).changes
    assert (change.account, change.kind, change.revoked) == (boss.id, ChangeKind.CREDENTIALS, ())


async def test_no_secret_in_a_refusal(world):
    await world.add("alice")
    refused = await world.refusal(world.sign_in("alice", "hunter2-hunter2", Origin("192.0.2.1", "smtp")))
    assert "hunter2" not in str(refused) + repr(refused)
    new = NewAccount("nonsense", "hunter2-hunter2")
    assert "hunter2" not in repr(new) + str(await world.refusal(world.port.add_account(new)))
