"""Guess counters, as the doors see them."""

from __future__ import annotations

import asyncio

import pytest

from identity.model import Origin
from identity.port import Reason, Refused
from tests.hurry import THOROUGH

OFFICE = "203.0.113.7"


async def guess(world, name, password, origin):
    """The reason, and how long to wait."""
    with pytest.raises(Refused) as caught:
        await world.sign_in(name, password, origin)
    return caught.value.reason, caught.value.retry_after


async def guess_until_slowed(world, name, origin, limit=200):
    for n in range(limit):
        reason, wait = await guess(world, name, f"guess {n} from {origin}", origin)
        if reason is Reason.SLOW_DOWN:
            return n, wait
    raise AssertionError("never slowed")


async def test_a_stranger_is_slowed_and_pauses_grow(world):
    await world.add("alice")
    count, wait = await guess_until_slowed(world, "alice", OFFICE)
    assert count == 5
    waits = []
    for n in range(6):
        waits.append(wait)
        reason, left = await guess(world, "alice", "secret", OFFICE)
        assert reason is Reason.SLOW_DOWN, "the right password opens nothing during a pause"
        assert left == pytest.approx(wait)
        world.clock.advance(wait)
        assert (await guess(world, "alice", f"more {n}", OFFICE))[0] is Reason.BAD_CREDENTIALS
        _, wait = await guess(world, "alice", "secret", OFFICE)
    assert waits == sorted(waits)
    assert waits[-1] > 20
    world.clock.advance(wait)
    await world.sign_in("alice", origin=OFFICE)


async def test_unknown_names_are_slowed_alike(world):
    await world.add("alice")
    assert await guess_until_slowed(world, "alice", OFFICE) == await guess_until_slowed(world, "nobody", "203.0.113.9")


async def test_others_guesses_do_not_slow_the_usual_device(world):
    await world.add("alice")
    await world.sign_in("alice", origin=OFFICE)
    # a net of attackers, each from a place of its own, until the account is slowed everywhere
    for n in range(20):
        await guess(world, "alice", f"guess {n}", f"198.18.0.{n}")
    assert (await guess(world, "alice", "secret", "198.18.1.1"))[0] is Reason.SLOW_DOWN
    await world.sign_in("alice", origin=OFFICE)
    await world.reopen()
    assert (await guess(world, "alice", "secret", "198.18.1.1"))[0] is Reason.SLOW_DOWN
    await world.sign_in("alice", origin=OFFICE)


async def test_the_usual_device_has_its_own_counter(world):
    await world.add("alice")
    await world.sign_in("alice", origin=OFFICE)
    count, _ = await guess_until_slowed(world, "alice", OFFICE)
    assert count == 10
    await world.sign_in("alice", origin="192.0.2.1")


async def test_a_device_is_usual_for_thirty_days(world):
    await world.add("alice")
    await world.sign_in("alice", origin=OFFICE)
    world.clock.advance(29 * 86400)
    assert (await guess_until_slowed(world, "alice", OFFICE))[0] == 10
    world.clock.advance(2 * 86400)
    assert (await guess_until_slowed(world, "alice", OFFICE))[0] == 5


async def test_one_address_guessing_at_many_accounts(world):
    for n in range(31):
        reason, _ = await guess(world, f"name{n}", "summer2026", OFFICE)
        assert reason is (Reason.BAD_CREDENTIALS if n < 30 else Reason.SLOW_DOWN)
    assert (await guess(world, "other", "summer2026", "203.0.113.8"))[0] is Reason.BAD_CREDENTIALS


@pytest.mark.parametrize("origin", ["127.0.0.1", "::1", "127.8.9.10", "", "198.51.100.200", "::ffff:198.51.100.1"])
async def test_loopback_and_trusted_networks_are_never_counted_per_address(world, origin):
    await world.add("alice")
    # An address that is counted has thirty guesses free.
    for n in range(50 if THOROUGH else 20):
        assert (await guess(world, f"name{n}", "x", origin))[0] is Reason.BAD_CREDENTIALS
        assert (await guess(world, f"not a name {n}", "x", origin))[0] is Reason.BAD_CREDENTIALS
    assert (await guess_until_slowed(world, "alice", origin))[0] == 5


async def test_ipv6_counts_by_64(world):
    await world.add("alice")
    for n in range(5):
        await guess(world, "alice", f"guess {n}", f"2001:db8:1:2::{n}")
    assert (await guess(world, "alice", "secret", "2001:db8:1:2:ffff::1"))[0] is Reason.SLOW_DOWN
    assert (await guess(world, "alice", "x", "2001:db8:1:3::1"))[0] is Reason.BAD_CREDENTIALS
    assert (await guess(world, "alice", "x", "::ffff:203.0.113.9"))[0] is Reason.BAD_CREDENTIALS


async def test_a_phone_with_the_old_password_does_not_lock_the_laptop_beside_it(world):
    await world.add("alice", "new")
    for _ in range(30):
        assert (await guess(world, "alice", "old", OFFICE))[0] is Reason.BAD_CREDENTIALS
        world.clock.advance(10)
    await world.sign_in("alice", "new", OFFICE)


async def test_guesses_at_once_are_bounded(world):
    await world.add("alice")
    outcomes = await asyncio.gather(*(guess(world, "alice", f"guess {n}", OFFICE) for n in range(100)))
    assert sum(reason is Reason.BAD_CREDENTIALS for reason, _ in outcomes) <= 5
    assert all(wait is not None and wait > 0 for reason, wait in outcomes if reason is Reason.SLOW_DOWN)


async def test_counters_outlive_the_process_and_are_forgotten(world):
    await world.add("alice")
    await guess_until_slowed(world, "alice", OFFICE)
    await world.reopen()
    assert (await guess(world, "alice", "secret", OFFICE))[0] is Reason.SLOW_DOWN
    world.clock.advance(5 * 300)
    assert (await guess_until_slowed(world, "alice", OFFICE))[0] == 5


async def test_a_removed_account_leaves_no_usual_device(world):
    await world.admin()
    alice = await world.add("alice")
    await world.sign_in("alice", origin=OFFICE)
    await world.port.remove_account(alice.id)
    await world.add("alice", "another")
    assert (await guess_until_slowed(world, "alice", OFFICE))[0] == 5


async def test_every_door_counts(world):
    await world.add("alice")
    for n, door in enumerate(("smtp", "imap", "rest", "smtp", "imap")):
        with pytest.raises(Refused):
            await world.port.authenticate("alice", f"guess {n}", Origin(OFFICE, door))
    assert (await guess(world, "alice", "secret", OFFICE))[0] is Reason.SLOW_DOWN
