"""Masks of capabilities: of accounts and of app passwords, and what a sign-in comes to have of them."""

from __future__ import annotations

import pytest

from identity.limits import MAX_MASK
from identity.port import Reason


async def test_an_account_and_its_app_password_mask_together(world):
    alice = await world.add("alice")
    assert alice.mask == ()
    changed = await world.port.update_account(alice.id, mask=("uidonly", "ID", "UIDONLY"))
    assert changed.mask == ("ID", "UIDONLY")
    assert (await world.port.account(alice.id)).mask == ("ID", "UIDONLY")
    assert (await world.port.find_account("alice")).mask == ("ID", "UIDONLY")
    made, secret = await world.port.add_app_password(alice.id, "phone", ("compress=deflate", "ID"))
    assert made.mask == ("COMPRESS=DEFLATE", "ID")
    assert await world.port.app_passwords(alice.id) == (made,)
    assert (await world.sign_in("alice")).mask == ("ID", "UIDONLY")
    assert (await world.sign_in("alice", secret)).mask == ("COMPRESS=DEFLATE", "ID", "UIDONLY")


async def test_a_token_has_the_mask_of_what_it_began_with(world):
    alice = await world.add("alice")
    _, secret = await world.port.add_app_password(alice.id, "phone", ("IDLE",))
    by_app = await world.port.issue_token(await world.sign_in("alice", secret))
    by_password = await world.port.issue_token(await world.sign_in("alice"))
    await world.port.update_account(alice.id, mask=("MOVE",))
    assert (await world.port.verify_token(by_app.access)).mask == ("IDLE", "MOVE")
    assert (await world.port.verify_token(by_password.access)).mask == ("MOVE",)
    child = await world.port.issue_token(await world.port.verify_token(by_app.access))
    assert (await world.port.verify_token(child.access)).mask == ("IDLE", "MOVE")


async def test_a_mask_is_changed_and_taken_away(world):
    alice = await world.add("alice")
    made, secret = await world.port.add_app_password(alice.id, "phone")
    assert (await world.sign_in("alice", secret)).mask == ()
    before = await world.port.account(alice.id)
    changed = await world.port.mask_app_password(alice.id, made.id, ["UIDONLY"])
    assert (changed.id, changed.name, changed.mask) == (made.id, "phone", ("UIDONLY",))
    assert (await world.sign_in("alice", secret)).mask == ("UIDONLY",)
    # what is signed in already stays: nothing of its credentials has changed
    assert (await world.port.account(alice.id)).version == before.version
    assert (await world.port.mask_app_password(alice.id, made.id, ())).mask == ()
    assert (await world.sign_in("alice", secret)).mask == ()
    await world.port.update_account(alice.id, mask=("MOVE",))
    await world.port.update_account(alice.id, display_name="Alice")
    assert (await world.sign_in("alice")).mask == ("MOVE",)
    await world.port.update_account(alice.id, mask=())
    assert (await world.sign_in("alice")).mask == ()


@pytest.mark.parametrize(
    "mask", [["A B"], ["X" * 65], [""], ["ID)"], ["\u0130D"], [f"X{n}" for n in range(MAX_MASK + 1)]]
)
async def test_what_is_no_mask(world, mask):
    alice = await world.add("alice")
    made, _ = await world.port.add_app_password(alice.id, "phone")
    assert await world.reason(world.port.update_account(alice.id, mask=mask)) is Reason.LIMIT
    assert await world.reason(world.port.add_app_password(alice.id, "other", mask)) is Reason.LIMIT
    assert await world.reason(world.port.mask_app_password(alice.id, made.id, mask)) is Reason.LIMIT
    full = [f"X{n:063}"[:64] for n in range(MAX_MASK)]
    assert len((await world.port.update_account(alice.id, mask=full)).mask) == MAX_MASK


async def test_a_mask_for_what_is_not_there(world):
    alice, bob = await world.add("alice"), await world.add("bob")
    made, _ = await world.port.add_app_password(alice.id, "phone")
    assert await world.reason(world.port.mask_app_password(bob.id, made.id, ())) is Reason.NO_SUCH_CREDENTIAL
    assert await world.reason(world.port.mask_app_password(alice.id, "none", ())) is Reason.NO_SUCH_CREDENTIAL
    assert await world.reason(world.port.mask_app_password("none", made.id, ())) is Reason.NO_SUCH_ACCOUNT
