"""What the doors of a process ask: rates and bans over a real store, shared by several of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from identity.adapters.sqlite.adapter import SqliteIdentity, open_sqlite
from identity.limiting import gate as gate_module
from identity.limiting.gate import Gate
from identity.limiting.rates import Rate
from identity.limiting.rules import BanRules, Offence, RateRules
from identity.limiting.tallies import Limit
from identity.model import BannedBy, NewAccount, NewBan, Origin
from identity.port import Unavailable
from identity.settings import IdentitySettings, PasswordSettings
from runtime.clock import ManualClock
from runtime.metrics import Metrics

STRANGER = "203.0.113.7"
FIVE = Rate(5, 3600)
LIMIT = [Limit("address", STRANGER, FIVE)]
DEADLINE = 30.0
SETTINGS = IdentitySettings(
    default_domain="test.example",
    trusted_networks=("198.51.100.0/24",),
    passwords=PasswordSettings(memory_kib=64, iterations=1, lanes=1, threads=1),
)
RULES = BanRules({Offence.SIGN_IN: FIVE, Offence.UNKNOWN_RECIPIENT: FIVE, Offence.ABUSE: Rate(2, 3600)}, 600, 86400)


class Away:
    """Identity, which can be away."""

    def __init__(self, identity: SqliteIdentity) -> None:
        self.identity = identity
        self.away = False
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., object]:
        async def call(*args: object) -> object:
            self.calls.append(name)
            if self.away:
                raise Unavailable("away")
            return await getattr(self.identity, name)(*args)

        return call


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FLUSH_SECONDS", "FRESH_SECONDS", "REFRESH_SECONDS"):
        monkeypatch.setattr(gate_module, name, 0.01)
    monkeypatch.setattr(gate_module, "START_SECONDS", DEADLINE)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def identity(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Away]:
    opened = await open_sqlite(tmp_path / "identity.db", SETTINGS, clock)
    yield Away(opened)
    await opened.close()


@pytest.fixture
async def make(identity: Away, clock: ManualClock) -> AsyncIterator[Callable[[], Gate]]:
    gates: list[Gate] = []

    def making() -> Gate:
        made = Gate(
            identity,  # type: ignore[arg-type]  # passes all calls on
            RateRules(connections=Rate(3, 60)),
            RULES,
            trusted=("198.51.100.0/24",),
            clock=clock,
            metrics=Metrics("homing"),
        )
        gates.append(made)
        return made

    yield making
    for one in gates:
        await one.stop()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.005)


def passed(gate: Gate, tries: int = 20) -> int:
    return sum(gate.charge(LIMIT) is None for _ in range(tries))


# -- rates


async def test_asking_costs_no_call(make: Callable[[], Gate], identity: Away) -> None:
    gate = make()
    await gate.start()
    before = len(identity.calls)
    assert passed(gate, 1000) == 5
    assert gate.ban_of(STRANGER) is None
    assert identity.calls[before:] == []


async def test_rates_are_kept_over_a_restart(make: Callable[[], Gate]) -> None:
    first = make()
    await first.start()
    assert passed(first) == 5
    await first.stop()
    second = make()
    await second.start()
    # One is let through before the others' count is known; then none.
    assert second.charge(LIMIT) is None
    await until(lambda: second.charge(LIMIT) is not None)
    assert passed(second) == 0


async def test_processes_share_a_rate(make: Callable[[], Gate]) -> None:
    one, other = make(), make()
    await one.start()
    await other.start()
    through = 0
    for _ in range(20):
        for gate in (one, other):
            through += gate.charge(LIMIT) is None
        # Each adds what it counted, and hears of the sum, before the next.
        await until(lambda: not any(count.own for gate in (one, other) for count in gate._tallies._counts.values()))
    assert 5 <= through <= 7


async def test_an_identity_that_is_away_holds_nothing_up_and_loses_nothing(
    make: Callable[[], Gate], identity: Away
) -> None:
    gate = make()
    identity.away = True
    await gate.start()
    assert gate.charge(LIMIT) is None
    await until(lambda: identity.calls.count("charge") >= 2)
    assert passed(gate) == 4
    identity.away = False
    await gate.stop()
    again = make()
    await again.start()
    again.charge(LIMIT)
    await until(lambda: again.charge(LIMIT) is not None)


async def test_connections_are_counted_per_door_and_not_of_trusted_networks(make: Callable[[], Gate]) -> None:
    gate = make()
    assert [gate.connect("smtp", STRANGER) is None for _ in range(5)] == [True, True, True, False, False]
    assert gate.connect("imap", STRANGER) is None
    for address in ("127.0.0.1", "", "::1", "198.51.100.77", "::ffff:198.51.100.77"):
        assert all(gate.connect("smtp", address) is None for _ in range(10))
    gate.rates = RateRules()
    assert gate.connect("smtp", STRANGER) is None


# -- bans


async def test_a_ban_is_known_to_all_and_lifted_for_all(make: Callable[[], Gate], identity: Away) -> None:
    one, other = make(), make()
    await one.start()
    await other.start()
    made = await identity.identity.ban(NewBan("203.0.113.0/24", "", BannedBy.ADMINISTRATOR))
    await until(lambda: one.ban_of(STRANGER) == made == other.ban_of(STRANGER))
    assert one.ban_of("203.0.114.1") is None
    await identity.identity.lift_ban(made.id)
    await until(lambda: one.ban_of(STRANGER) is None and other.ban_of(STRANGER) is None)


async def test_bans_are_known_from_the_start_and_held_while_identity_is_away(
    make: Callable[[], Gate], identity: Away, clock: ManualClock
) -> None:
    await identity.identity.ban(NewBan(STRANGER, "", BannedBy.ADMINISTRATOR, 60))
    gate = make()
    await gate.start()
    assert gate.ban_of(STRANGER) is not None
    identity.away = True
    await until(lambda: "bans_since" in identity.calls[-3:])
    assert gate.ban_of(STRANGER) is not None
    clock.advance(61)
    assert gate.ban_of(STRANGER) is None


async def test_hits_are_told(make: Callable[[], Gate], identity: Away) -> None:
    made = await identity.identity.ban(NewBan(STRANGER, "", BannedBy.ADMINISTRATOR))
    gate = make()
    await gate.start()
    identity.away = True
    for _ in range(3):
        gate.refused(made, "smtp")
    await until(lambda: "hit_bans" in identity.calls)
    identity.away = False
    gate.refused(made, "imap")
    await gate.stop()
    assert [one.hits for one in await identity.identity.bans()] == [4]


async def test_different_offences_lead_to_a_ban_and_the_same_again_does_not(
    make: Callable[[], Gate], identity: Away
) -> None:
    gate = make()
    await gate.start()
    for _ in range(100):
        gate.offend(Offence.SIGN_IN, STRANGER, "alice", "the old password")
    for n in range(4):
        gate.offend(Offence.SIGN_IN, STRANGER, "alice", f"guess {n}")
    await asyncio.sleep(0.05)
    assert gate.ban_of(STRANGER) is None
    gate.offend(Offence.SIGN_IN, STRANGER, "alice", "one more")
    await until(lambda: gate.ban_of(STRANGER) is not None)
    (made,) = await identity.identity.bans()
    assert made.by is BannedBy.RULE
    assert made.until == made.since + 600
    assert made.reason == "failed sign-ins: more than 5 in an hour"


async def test_offences_of_all_processes_count_together_and_are_remembered(make: Callable[[], Gate]) -> None:
    for n in range(6):
        gate = make()
        await gate.start()
        gate.offend(Offence.UNKNOWN_RECIPIENT, STRANGER, f"name{n}@test.example")
        await gate.stop()
    last = make()
    await last.start()
    last.offend(Offence.UNKNOWN_RECIPIENT, STRANGER, "more@test.example")
    # It has been told then how many there are of all.
    await until(lambda: all(count.shared for count in last._tallies._counts.values()))
    last.offend(Offence.UNKNOWN_RECIPIENT, STRANGER, "one more@test.example")
    await until(lambda: last.ban_of(STRANGER) is not None)


async def test_rules_never_ban_loopback_or_trusted_networks(make: Callable[[], Gate], identity: Away) -> None:
    gate = make()
    await gate.start()
    for address in ("127.0.0.1", "::1", "", "198.51.100.9", "not an address"):
        for n in range(50):
            gate.offend(Offence.SIGN_IN, address, f"guess {n}")
            gate.offend(Offence.ABUSE, address)
    await asyncio.sleep(0.05)
    assert await identity.identity.bans() == ()


async def test_a_network_that_came_to_be_trusted_is_free_of_the_bans_of_rules(
    make: Callable[[], Gate], identity: Away
) -> None:
    gate = make()
    by_rule = NewBan("198.51.101.9", "", BannedBy.RULE, 600)
    await identity.identity.ban(by_rule)
    await gate.start()
    assert gate.ban_of("198.51.101.9") is not None
    gate._exempt = gate_module.Networks(("198.51.101.0/24",))
    assert gate.ban_of("198.51.101.9") is None
    await identity.identity.ban(NewBan("198.51.101.9", "", BannedBy.ADMINISTRATOR))
    await until(lambda: gate.ban_of("198.51.101.9") is not None)


async def test_who_signed_in_well_from_there_is_spared(make: Callable[[], Gate], identity: Away) -> None:
    gate = make()
    await identity.identity.add_domain("test.example")
    await identity.identity.add_account(NewAccount("alice@test.example", "secret"))
    await identity.identity.authenticate("alice", "secret", Origin(STRANGER, "imap"))
    async with asyncio.timeout(DEADLINE):
        # Usual devices are written behind the sign-in.
        while not await identity.identity.signed_in_from(STRANGER):  # noqa: ASYNC110  # likewise
            await asyncio.sleep(0.005)
    assert await gate.spared(STRANGER)
    assert not await gate.spared("203.0.113.8")
    # remembered for a while
    assert identity.calls.count("signed_in_from") == 2
    assert not await gate.spared("203.0.113.8")
    assert identity.calls.count("signed_in_from") == 2
    identity.away = True
    assert await gate.spared("203.0.113.9"), "where nobody can be asked, sign-in is offered"


async def test_one_thing_is_worth_telling_now_and_then(make: Callable[[], Gate], clock: ManualClock) -> None:
    gate = make()
    assert gate.worth_telling("a")
    assert not gate.worth_telling("a")
    assert gate.worth_telling("b")
    clock.advance(gate_module.TOLD_SECONDS)
    assert gate.worth_telling("a")
