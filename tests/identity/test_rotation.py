"""Rotations of DKIM keys that go on by themselves."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from identity.dkim import DAY, DkimRules, due, new_selector, rotate
from identity.model import DkimAlgorithm, DkimKey, DkimState
from identity.port import Identity
from identity.rotation import rotate_once
from identity.service import IdentityService, always
from identity.settings import IdentitySettings, PasswordSettings
from runtime.clock import ManualClock

RULES = DkimRules(2 * DAY, 7 * DAY)
SETTINGS = IdentitySettings(
    default_domain="one.example",
    passwords=PasswordSettings(memory_kib=64, iterations=1, lanes=1, threads=1),
    dkim=RULES,
)


def key(selector: str, state: DkimState, age: float, algorithm: DkimAlgorithm = DkimAlgorithm.RSA) -> DkimKey:
    return DkimKey("one.example", selector, algorithm, "", "", state, 1e9 - age, 1e9 - age)


def steps(*keys: DkimKey) -> list[tuple[str, str | None]]:
    return [(one.key.selector, one.state and one.state.value) for one in due(keys, 1e9, RULES)]


def test_the_new_key_signs_before_the_old_one_stops() -> None:
    old, new = key("old", DkimState.ACTIVE, 100 * DAY), key("new", DkimState.PUBLISHED, 2 * DAY)
    assert steps(old, new) == [("new", "active"), ("old", "retired")]
    assert steps(old, key("new", DkimState.PUBLISHED, 2 * DAY - 1)) == []
    # Of two that wait the newer one; the other is not published for nothing.
    newer = key("newer", DkimState.PUBLISHED, 2 * DAY)
    assert steps(old, key("new", DkimState.PUBLISHED, 3 * DAY), newer) == [
        ("newer", "active"),
        ("old", "retired"),
        ("new", "retired"),
    ]


def test_one_algorithm_says_nothing_of_the_other() -> None:
    old = key("old", DkimState.ACTIVE, 100 * DAY, DkimAlgorithm.ED25519)
    assert steps(old, key("new", DkimState.PUBLISHED, 3 * DAY)) == [("new", "active")]


def test_a_retired_key_is_forgotten() -> None:
    assert steps(key("a", DkimState.RETIRED, 7 * DAY), key("b", DkimState.RETIRED, 7 * DAY - 1)) == [("a", None)]


def test_selectors_are_names() -> None:
    made = {new_selector(DkimAlgorithm.RSA, 0.0) for _ in range(50)}
    assert len(made) > 40
    assert all(one.startswith("19700101r") and one.isalnum() and len(one) == 13 for one in made)


async def served(folder: Path, clock: ManualClock, published: bool | Exception) -> tuple[IdentityService, list[str]]:
    asked: list[str] = []

    async def there(key: DkimKey) -> bool:
        asked.append(key.domain)
        if isinstance(published, Exception):
            raise published
        return published

    async def purge(account: str) -> bool:
        return True

    service = IdentityService(f"sqlite://{folder}", SETTINGS, purge=purge, clock=clock, published=there)
    await service.start()
    return service, asked


async def states(identity: Identity, domain: str) -> list[str]:
    keys = await identity.dkim_keys(domain)
    return sorted(f"{one.algorithm.value} {one.state.value}" for one in keys)


async def test_a_service_lets_rotations_go_on(tmp_path: Path) -> None:
    clock = ManualClock()
    service, _ = await served(tmp_path, clock, True)
    await service.identity.add_domain("one.example")
    await rotate(service.identity, "one.example")
    clock.advance(DAY)
    await rotate(service.identity, "one.example")
    await service.stop()
    clock.advance(2 * DAY)
    # The next start looks at once.
    service, _ = await served(tmp_path, clock, True)
    wanted = ["ed25519 active", "ed25519 retired", "rsa active", "rsa retired"]
    async with asyncio.timeout(60):
        while await states(service.identity, "one.example") != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await service.stop()


@pytest.mark.parametrize("published", [False, OSError("no answer")])
async def test_without_a_record_in_the_dns_the_old_key_goes_on(tmp_path: Path, published: bool | Exception) -> None:
    clock = ManualClock()
    service, _ = await served(tmp_path, clock, True)
    for domain in ("one.example", "two.example"):
        await service.identity.add_domain(domain)
        await rotate(service.identity, domain)
        await rotate(service.identity, domain)
    await service.drain()
    clock.advance(3 * DAY)
    asked: list[str] = []

    async def there(key: DkimKey) -> bool:
        asked.append(key.domain)
        if key.domain == "two.example":
            return True
        if isinstance(published, Exception):
            raise published
        return published

    async def no() -> bool:
        return False

    await rotate_once(service.identity, RULES, clock, there, turn=no)
    assert asked == []
    await rotate_once(service.identity, RULES, clock, there, turn=always)
    assert set(asked) == {"one.example", "two.example"}
    assert await states(service.identity, "one.example") == [
        "ed25519 active",
        "ed25519 published",
        "rsa active",
        "rsa published",
    ]
    assert await states(service.identity, "two.example") == [
        "ed25519 active",
        "ed25519 retired",
        "rsa active",
        "rsa retired",
    ]
    await service.stop()
