"""Guess counters that several processes share, over a store in memory that another process gets in between of."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from identity import guesspolicy as policy
from identity.guesses import Attempt, Guard, Standing
from identity.guesspolicy import Counter, GuessRules
from identity.model import Origin
from identity.port import Reason, Refused, Unavailable
from identity.shared_guesses import SharedGuesses
from runtime.clock import ManualClock

OFFICE = Origin("203.0.113.7", "imap")
PAIR = "p:alice|203.0.113.7"


class Store:
    """Each of its answers takes a turn of the loop."""

    def __init__(self) -> None:
        self.counters: dict[str, Counter] = {}
        self.usual: dict[tuple[str, str], float] = {}
        self.away = False
        self.stubborn = False

    async def standing(self, keys: Sequence[str], name: str, place: str) -> Standing:
        await self._turn()
        known = {key: self.counters[key] for key in keys if key in self.counters}
        return Standing(known, self.usual.get((name, place)))

    async def counter(self, key: str) -> Counter | None:
        await self._turn()
        return self.counters.get(key)

    async def swap(self, key: str, before: Counter | None, after: Counter | None, forgotten_at: float) -> bool:
        await self._turn()
        if self.stubborn or self.counters.get(key) != before:
            return False
        if after is None:
            self.counters.pop(key, None)
        else:
            assert forgotten_at >= after.at
            self.counters[key] = after
        return True

    async def remember(self, name: str, place: str, now: float) -> None:
        await self._turn()
        self.usual[name, place] = now

    async def _turn(self) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("away")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def ports(store: Store, clock: ManualClock) -> list[SharedGuesses]:
    return [SharedGuesses(store, GuessRules(), (), clock) for _ in range(3)]


async def begun(guesses: Guard, print: bytes = b"f", origin: Origin = OFFICE) -> Attempt:
    attempt = await guesses.admit("alice", origin, print)
    try:
        await guesses.charge(attempt)
    except BaseException:
        guesses.end(attempt)
        raise
    return attempt


async def ended(guesses: Guard, attempt: Attempt, *, good: bool) -> None:
    await (guesses.right(attempt) if good else guesses.wrong(attempt))
    guesses.end(attempt)


async def test_a_check_is_charged_before_it_ends_and_given_back_when_right(
    ports: list[SharedGuesses], store: Store
) -> None:
    attempt = await begun(ports[0])
    assert {key: counter.level for key, counter in store.counters.items()} == {
        PAIR: 1,
        "a:alice": 1,
        "n:203.0.113.7": 1,
    }
    await ended(ports[0], attempt, good=True)
    assert store.counters == {}
    assert list(store.usual) == [("alice", "203.0.113.7")]
    attempt = await begun(ports[1])
    assert list(store.counters) == [PAIR], "a usual device"
    await ended(ports[1], attempt, good=False)
    assert store.counters[PAIR].level == 1


async def test_what_others_charged_meanwhile_stays(ports: list[SharedGuesses], store: Store) -> None:
    one, two = await begun(ports[0], b"1"), await begun(ports[1], b"2")
    assert store.counters[PAIR].level == 2
    await ended(ports[0], one, good=True)
    assert store.counters[PAIR].level == 1
    await ended(ports[1], two, good=False)
    assert store.counters[PAIR].level == 1


async def test_a_pause_that_has_passed_does_not_begin_again_for_who_was_right(
    ports: list[SharedGuesses], store: Store, clock: ManualClock
) -> None:
    for n in range(5):
        await ended(ports[n % 3], await begun(ports[n % 3], bytes([n])), good=False)
    before = dict(store.counters)
    with pytest.raises(Refused) as caught:
        await begun(ports[2], b"right")
    assert caught.value.reason is Reason.SLOW_DOWN
    assert caught.value.retry_after == pytest.approx(2)
    clock.advance(2)
    await ended(ports[0], await begun(ports[0], b"right"), good=True)
    assert store.counters == before
    await ended(ports[1], await begun(ports[1], b"right"), good=True)


async def test_one_guess_at_a_time_past_the_free_ones(ports: list[SharedGuesses], clock: ManualClock) -> None:
    for n in range(5):
        await ended(ports[n % 3], await begun(ports[n % 3], bytes([n])), good=False)
    for _ in range(4):
        clock.advance(900)
        answers = await asyncio.gather(
            *(begun(port, bytes([9, n])) for n, port in enumerate(ports)), return_exceptions=True
        )
        # 900 s forget three of five: that many more at most.
        good = [(n, answer) for n, answer in enumerate(answers) if isinstance(answer, Attempt)]
        assert 1 <= len(good) <= 3
        for n, attempt in good:
            await ended(ports[n], attempt, good=False)


async def test_a_refused_charge_leaves_the_other_counters_alone(
    ports: list[SharedGuesses], store: Store, clock: ManualClock
) -> None:
    store.counters["a:alice"] = Counter(20, clock.now() - 100)
    attempt = await ports[0].admit("alice", OFFICE, b"f")
    # Between the question and the charge another process has charged the account.
    store.counters["a:alice"] = Counter(20, clock.now())
    with pytest.raises(Refused):
        await ports[0].charge(attempt)
    ports[0].end(attempt)
    await ports[0].close()
    assert list(store.counters) == ["a:alice"]


async def test_the_same_password_at_once_is_one_guess(ports: list[SharedGuesses], store: Store) -> None:
    attempts = await asyncio.gather(*(begun(ports[0]) for _ in range(10)))
    assert store.counters[PAIR].level == 1
    for attempt in attempts:
        await ended(ports[0], attempt, good=False)
    assert store.counters[PAIR].level == 1
    await ended(ports[0], await begun(ports[0]), good=False)
    assert store.counters[PAIR].level == pytest.approx(1 + policy.REPEATED)


async def test_a_check_that_never_ended_is_given_back(ports: list[SharedGuesses], store: Store) -> None:
    one, two = await begun(ports[0]), await begun(ports[0])
    ports[0].end(one)
    await ports[0].close()
    assert store.counters[PAIR].level == 1, "another still waits for it"
    ports[0].end(two)
    await ports[0].close()
    assert store.counters == {}


async def test_a_store_that_is_away(ports: list[SharedGuesses], store: Store) -> None:
    attempt = await begun(ports[0])
    store.away = True
    with pytest.raises(Unavailable):
        await begun(ports[1])
    await ended(ports[0], attempt, good=True)
    store.away = False
    assert store.counters[PAIR].level == 1, "one guess too many, which is forgotten as all are"


async def test_who_never_wins_is_told_to_try_later(ports: list[SharedGuesses], store: Store) -> None:
    store.stubborn = True
    with pytest.raises(Unavailable):
        await begun(ports[0])
