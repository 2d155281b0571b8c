"""DKIM keys of our domains: every adapter."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from identity.dkim import DAY, DkimRules, advance, due, first_keys, rotate
from identity.limits import MAX_DKIM_KEYS
from identity.model import DkimAlgorithm, DkimKey, DkimState
from identity.port import Reason

from .conftest import DOMAIN, World

RSA, ED25519 = DkimAlgorithm.RSA, DkimAlgorithm.ED25519
PUBLISHED, ACTIVE, RETIRED = DkimState.PUBLISHED, DkimState.ACTIVE, DkimState.RETIRED


def by_state(keys: tuple[DkimKey, ...]) -> list[tuple[str, str]]:
    return sorted((key.algorithm.value, key.state.value) for key in keys)


async def test_a_key_is_kept_and_its_two_halves_fit(world: World) -> None:
    rsa_key = await world.port.add_dkim_key(DOMAIN, RSA, ACTIVE)
    world.clock.advance(1)
    other = await world.port.add_dkim_key("TEST.example", ED25519)
    await world.reopen()
    assert await world.port.dkim_keys("Test.Example") == (rsa_key, other)
    assert (other.domain, other.state, other.created_at) == (DOMAIN, PUBLISHED, world.clock.now())
    assert rsa_key.selector != other.selector

    private = serialization.load_pem_private_key(rsa_key.private_key.encode(), None)
    assert isinstance(private, rsa.RSAPrivateKey)
    assert private.key_size == 2048
    public = serialization.load_der_public_key(base64.b64decode(rsa_key.public_key))
    assert public == private.public_key()

    second = serialization.load_pem_private_key(other.private_key.encode(), None)
    assert isinstance(second, ed25519.Ed25519PrivateKey)
    raw = base64.b64decode(other.public_key)
    assert raw == second.public_key().public_bytes_raw()
    assert "PRIVATE" not in repr((rsa_key, other))


async def test_states_change_and_say_since_when(world: World) -> None:
    key = await world.port.add_dkim_key(DOMAIN, ED25519)
    world.clock.advance(5)
    active = await world.port.set_dkim_state(DOMAIN, key.selector, ACTIVE)
    assert (active.state, active.changed_at, active.created_at) == (ACTIVE, world.clock.now(), key.created_at)
    world.clock.advance(5)
    assert await world.port.set_dkim_state(DOMAIN, key.selector, ACTIVE) == active
    assert await world.port.dkim_keys(DOMAIN) == (active,)
    await world.port.remove_dkim_key(DOMAIN, key.selector)
    assert await world.port.dkim_keys(DOMAIN) == ()


@pytest.mark.parametrize("selector", ["none", "", "a b", "ü", "a\0b", "\ud800", "x" * 64, "a.b"])
async def test_a_selector_that_is_not_there(world: World, selector: str) -> None:
    if selector == "\ud800" and world.make.__name__ in ("called", "http"):
        pytest.skip("no JSON or msgpack carries it")
    await world.port.add_dkim_key(DOMAIN, ED25519)
    assert await world.reason(world.port.set_dkim_state(DOMAIN, selector, ACTIVE)) is Reason.NO_SUCH_KEY
    assert await world.reason(world.port.remove_dkim_key(DOMAIN, selector)) is Reason.NO_SUCH_KEY
    assert len(await world.port.dkim_keys(DOMAIN)) == 1


async def test_other_domains(world: World) -> None:
    for domain, reason in (("none.example", Reason.NO_SUCH_DOMAIN), ("not a domain", Reason.BAD_ADDRESS)):
        assert await world.reason(world.port.dkim_keys(domain)) is reason
        assert await world.reason(world.port.add_dkim_key(domain, ED25519)) is reason
        assert await world.reason(world.port.set_dkim_state(domain, "s", ACTIVE)) is reason
        assert await world.reason(world.port.remove_dkim_key(domain, "s")) is reason
    await world.port.add_domain("zwei.example")
    key = await world.port.add_dkim_key("zwei.example", ED25519)
    assert await world.reason(world.port.remove_dkim_key(DOMAIN, key.selector)) is Reason.NO_SUCH_KEY


async def test_keys_go_with_their_domain_and_do_not_come_again(world: World) -> None:
    await world.port.add_domain("münchen.example")
    await world.port.add_dkim_key("münchen.example", ED25519, ACTIVE)
    await world.port.remove_domain("xn--mnchen-3ya.example")
    assert await world.reason(world.port.dkim_keys("münchen.example")) is Reason.NO_SUCH_DOMAIN
    await world.port.add_domain("münchen.example")
    assert await world.port.dkim_keys("münchen.example") == ()


async def test_a_domain_has_so_many(world: World) -> None:
    selectors = {(await world.port.add_dkim_key(DOMAIN, ED25519)).selector for _ in range(MAX_DKIM_KEYS)}
    assert len(selectors) == MAX_DKIM_KEYS
    assert await world.reason(world.port.add_dkim_key(DOMAIN, ED25519)) is Reason.LIMIT


async def test_a_selector_that_is_taken_is_not_taken_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = iter(["s1", "s1", "s1", "s2"])
    for store in ("sqlite", "mongo"):
        monkeypatch.setattr(f"identity.adapters.{store}.dkim.new_selector", lambda algorithm, now: next(chosen))
    first = await world.port.add_dkim_key(DOMAIN, ED25519)
    second = await world.port.add_dkim_key(DOMAIN, ED25519)
    assert (first.selector, second.selector) == ("s1", "s2")
    assert {key.public_key for key in await world.port.dkim_keys(DOMAIN)} == {first.public_key, second.public_key}


async def test_a_rotation_overlaps(world: World) -> None:
    rules = DkimRules(activate=2 * DAY, retire=7 * DAY)
    first = await first_keys(world.port, DOMAIN)
    assert by_state(first) == [("ed25519", "active"), ("rsa", "active")]
    assert await first_keys(world.port, DOMAIN) == tuple(sorted(first, key=lambda k: (k.created_at, k.selector)))
    world.clock.advance(DAY)
    new = await rotate(world.port, DOMAIN)
    assert by_state(new) == [("ed25519", "published"), ("rsa", "published")]
    assert await world.reason(rotate(world.port, DOMAIN)) is Reason.IN_USE
    world.clock.advance(DAY)
    assert await advance(world.port, DOMAIN, world.clock.now(), rules) == ()
    world.clock.advance(DAY)

    async def only_ed25519(key: DkimKey) -> bool:
        return key.algorithm is ED25519

    # The record of the RSA key is not in the DNS yet: the old one goes on.
    await advance(world.port, DOMAIN, world.clock.now(), rules, only_ed25519)
    assert by_state(await world.port.dkim_keys(DOMAIN)) == [
        ("ed25519", "active"),
        ("ed25519", "retired"),
        ("rsa", "active"),
        ("rsa", "published"),
    ]
    await advance(world.port, DOMAIN, world.clock.now(), rules)
    states = {key.selector: key.state for key in await world.port.dkim_keys(DOMAIN)}
    assert {states[key.selector] for key in first} == {RETIRED}
    assert {states[key.selector] for key in new} == {ACTIVE}
    world.clock.advance(7 * DAY)
    await advance(world.port, DOMAIN, world.clock.now(), rules)
    assert {key.selector for key in await world.port.dkim_keys(DOMAIN)} == {key.selector for key in new}
    assert due(await world.port.dkim_keys(DOMAIN), world.clock.now() + 365 * DAY, rules) == ()
