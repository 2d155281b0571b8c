"""Counts of several processes beside each other."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from identity.limiting import tallies
from identity.limiting.rates import Rate
from identity.limiting.tallies import Limit, Tallies
from identity.model import RateCharge, RateCount

NOW = 1_700_000_000.0 // 3600 * 3600
TEN = Rate(10, 3600)


class Shared:
    """What identity does with charges."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, int, int]] = Counter()

    def charge(self, charges: list[RateCharge]) -> list[RateCount]:
        told = []
        for one in charges:
            self.counts[one.key, one.window, one.slot] += one.amount
            told.append(
                RateCount(self.counts[one.key, one.window, one.slot - 1], self.counts[one.key, one.window, one.slot])
            )
        return told

    def exchange(self, of: Tallies) -> None:
        charges = of.take()
        of.told(charges, self.charge(charges))


def let_through(of: Tallies, limits: list[Limit], now: float, tries: int) -> int:
    return sum(of.charge(limits, now) is None for _ in range(tries))


def test_a_process_never_goes_beyond_the_rate_by_itself() -> None:
    one = Tallies()
    assert let_through(one, [Limit("address", "a", TEN)], NOW, 50) == 10
    over = one.charge([Limit("address", "a", TEN)], NOW)
    assert over is not None
    assert over.limit.by == "address"
    # the window's end, and then a tenth of the next
    assert over.wait == pytest.approx(3600 + 360)
    assert let_through(one, [Limit("address", "b", TEN)], NOW, 50) == 10


def test_all_or_none_are_counted() -> None:
    one = Tallies()
    strict, wide = Limit("sender", "s", Rate(3, 60)), Limit("address", "a", TEN)
    assert let_through(one, [wide, strict], NOW, 20) == 3
    assert let_through(one, [wide], NOW, 20) == 7


def test_others_are_known_after_an_exchange() -> None:
    shared, processes = Shared(), [Tallies() for _ in range(3)]
    limit = [Limit("address", "a", TEN)]
    assert [let_through(one, limit, NOW, 3) for one in processes] == [3, 3, 3]
    for one in processes:
        shared.exchange(one)
    # the first two were told before the others had added theirs: they learn it with their next charge
    passed = 0
    for _ in range(10):
        for one in processes:
            passed += let_through(one, limit, NOW, 1)
            shared.exchange(one)
    assert 1 <= passed <= 3


def test_the_overshoot_of_many_processes_is_what_they_let_through_between_exchanges() -> None:
    shared, processes, limit = Shared(), [Tallies() for _ in range(8)], [Limit("address", "a", Rate(100, 3600))]
    dice, passed = random.Random(7), 0
    for step in range(3000):
        passed += let_through(dice.choice(processes), limit, NOW + step / 10, 1)
        if step % 8 == 0:
            for one in processes:
                shared.exchange(one)
    assert 100 <= passed <= 100 + 8 * 8


def test_what_could_not_be_added_waits_and_counts_here() -> None:
    shared, one, limit = Shared(), Tallies(), [Limit("address", "a", TEN)]
    assert let_through(one, limit, NOW, 4) == 4
    charges = one.take()
    assert one.take() == []
    one.put_back(charges, NOW)
    assert let_through(one, limit, NOW, 2) == 2
    shared.exchange(one)
    assert shared.counts["address:a", 3600, TEN.slot(NOW)] == 6
    assert let_through(one, limit, NOW, 20) == 4
    shared.exchange(one)
    # of no more use
    one.put_back([RateCharge("address:a", 60, 1, 5)], NOW)
    assert one.take() == []


def test_windows_follow_each_other() -> None:
    shared, one, limit = Shared(), Tallies(), [Limit("address", "a", TEN)]
    assert let_through(one, limit, NOW + 3599, 20) == 10
    shared.exchange(one)
    assert let_through(one, limit, NOW + 3600, 20) == 0
    assert let_through(one, limit, NOW + 3600 + 1800, 20) == 5
    shared.exchange(one)
    assert let_through(one, limit, NOW + 3 * 3600, 20) == 10
    # a clock that was set back
    assert let_through(one, limit, NOW, 20) == 10


def test_counts_of_a_window_that_ended_before_they_were_added() -> None:
    shared, one, limit = Shared(), Tallies(), [Limit("address", "a", TEN)]
    assert let_through(one, limit, NOW + 3599, 6) == 6
    assert let_through(one, limit, NOW + 3600, 20) == 4
    shared.exchange(one)
    assert shared.counts["address:a", 3600, TEN.slot(NOW)] == 6
    assert let_through(one, limit, NOW + 3601, 20) == 0


def test_a_process_that_begins_again_knows_after_an_exchange() -> None:
    shared, one, limit = Shared(), Tallies(), [Limit("address", "a", TEN)]
    let_through(one, limit, NOW, 8)
    shared.exchange(one)
    again = Tallies()
    assert again.charge(limit, NOW) is None
    assert again.fresh
    shared.exchange(again)
    assert not again.fresh
    assert let_through(again, limit, NOW, 20) == 1


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallies, "KEYS_MAX", 100)
    monkeypatch.setattr(tallies, "PENDING_MAX", 150)
    one = Tallies()
    for n in range(1000):
        assert one.charge([Limit("address", str(n), TEN)], NOW) is None
    assert len(one) == 100
    assert len(one.take()) == 150
