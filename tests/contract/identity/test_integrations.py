"""Accounts elsewhere through which accounts of ours send: every adapter."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from identity.limits import MAX_INTEGRATIONS, MAX_SEALED
from identity.model import IntegrationSettings, Provider, Security
from identity.port import Reason, Refused

from .conftest import World

SEALED = bytes(range(256))
WORK = IntegrationSettings(
    "work",
    Provider.SMTP,
    "Alice Größe <alice@example.net>",
    "alice",
    "mail.example.net",
    587,
    Security.STARTTLS,
    True,
    "k1",
    SEALED,
)
GMAIL = replace(WORK, name="gmail", provider=Provider.GMAIL, host="", port=0, verify=False, key="k2", sealed=b"\0")


async def test_they_are_kept_in_order_and_the_first_is_the_default(world: World) -> None:
    alice, bob = await world.add("alice"), await world.add("bob")
    assert await world.port.integrations(alice.id) == ()
    work = await world.port.add_integration(alice.id, WORK)
    assert (work.settings, work.account, work.default, work.revision) == (WORK, alice.id, True, 1)
    assert work.created_at == work.changed_at == world.clock.now()
    world.clock.advance(5)
    gmail = await world.port.add_integration(alice.id, GMAIL)
    assert not gmail.default
    await world.reopen()
    assert await world.port.integrations(alice.id) == (work, gmail)
    assert await world.port.integrations(bob.id) == ()
    assert repr(SEALED)[2:-1] not in repr(work)
    assert await world.port.sealed_with() == (("k1", 1), ("k2", 1))


async def test_a_change_is_of_what_was_seen(world: World) -> None:
    alice = await world.add("alice")
    work = await world.port.add_integration(alice.id, WORK)
    gmail = await world.port.add_integration(alice.id, GMAIL)
    world.clock.advance(5)
    new = replace(WORK, name="home", security=Security.TLS, port=465, sealed=b"x")
    changed = await world.port.change_integration(alice.id, work.id, 1, new)
    assert changed == replace(work, settings=new, revision=2, changed_at=world.clock.now())
    assert await world.reason(world.port.change_integration(alice.id, work.id, 1, WORK)) is Reason.IN_USE
    same_name = world.port.change_integration(alice.id, work.id, 2, replace(new, name="gmail"))
    assert await world.reason(same_name) is Reason.ALREADY_EXISTS
    assert await world.port.integrations(alice.id) == (changed, gmail)


async def test_one_is_the_default_or_none(world: World) -> None:
    alice = await world.add("alice")
    work = await world.port.add_integration(alice.id, WORK)
    gmail = await world.port.add_integration(alice.id, GMAIL)
    chosen = await world.port.set_default_integration(alice.id, gmail.id)
    assert chosen == replace(gmail, default=True)
    assert [one.default for one in await world.port.integrations(alice.id)] == [False, True]
    await world.port.remove_integration(alice.id, gmail.id)
    assert await world.port.integrations(alice.id) == (replace(work, default=False),)
    await world.port.remove_integration(alice.id, work.id)
    assert await world.port.integrations(alice.id) == ()
    assert (await world.port.add_integration(alice.id, GMAIL)).default


async def test_nobody_reaches_those_of_others(world: World) -> None:
    alice, bob = await world.add("alice"), await world.add("bob")
    work = await world.port.add_integration(alice.id, WORK)
    own = await world.port.add_integration(bob.id, WORK)
    for id in (work.id, "none", "", "a.b", "$set"):
        assert await world.reason(world.port.remove_integration(bob.id, id)) is Reason.NO_SUCH_INTEGRATION
        assert await world.reason(world.port.set_default_integration(bob.id, id)) is Reason.NO_SUCH_INTEGRATION
        assert await world.reason(world.port.change_integration(bob.id, id, 1, GMAIL)) is Reason.NO_SUCH_INTEGRATION
    assert await world.port.integrations(bob.id) == (own,)
    for call in (
        world.port.integrations("none"),
        world.port.add_integration("none", WORK),
        world.port.change_integration("none", work.id, 1, WORK),
        world.port.set_default_integration("none", work.id),
        world.port.remove_integration("none", work.id),
    ):
        assert await world.reason(call) is Reason.NO_SUCH_ACCOUNT


async def test_what_cannot_be_kept(world: World) -> None:
    alice = await world.add("alice")
    await world.port.add_integration(alice.id, WORK)
    for bad, reason in (
        (WORK, Reason.ALREADY_EXISTS),
        (replace(GMAIL, name=""), Reason.LIMIT),
        (replace(GMAIL, name="x" * 101), Reason.LIMIT),
        (replace(GMAIL, user="a\r\nb"), Reason.LIMIT),
        (replace(GMAIL, host="h" * 513), Reason.LIMIT),
        (replace(GMAIL, port=65536), Reason.LIMIT),
        (replace(GMAIL, sealed=b"x" * (MAX_SEALED + 1)), Reason.LIMIT),
        (replace(GMAIL, from_email="nobody"), Reason.BAD_ADDRESS),
    ):
        assert await world.reason(world.port.add_integration(alice.id, bad)) is reason, bad
    for n in range(1, MAX_INTEGRATIONS):
        await world.port.add_integration(alice.id, replace(GMAIL, name=f"n{n}", sealed=b"x" * MAX_SEALED))
    assert await world.reason(world.port.add_integration(alice.id, GMAIL)) is Reason.LIMIT


async def test_they_go_with_the_account(world: World) -> None:
    await world.admin()
    alice = await world.add("alice")
    await world.port.add_integration(alice.id, WORK)
    await world.port.remove_account(alice.id)
    assert await world.reason(world.port.integrations(alice.id)) is Reason.NO_SUCH_ACCOUNT
    assert await world.port.sealed_with() == ()
    await world.port.finish_removal(alice.id)
    again = await world.add("alice")
    assert await world.port.integrations(again.id) == ()


async def test_of_changes_at_once_one_comes_first(world: World) -> None:
    alice = await world.add("alice")
    work = await world.port.add_integration(alice.id, WORK)
    names = [f"name {n}" for n in range(4)]

    async def change(name: str) -> str:
        try:
            changed = await world.port.change_integration(alice.id, work.id, 1, replace(WORK, name=name))
        except Refused as error:
            if error.reason is not Reason.IN_USE:
                raise
            return ""
        return changed.settings.name

    won = [name for name in await asyncio.gather(*map(change, names)) if name]
    (left,) = await world.port.integrations(alice.id)
    assert won == [left.settings.name]
    assert left.revision == 2
