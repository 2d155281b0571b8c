from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from identity.guesspolicy import Counter, GuessRules, Rule, charged, forgotten_at, level, place, wait
from tests.hurry import examples

RULE = Rule(free=5, parallel=3, pause=2.0, longest=900.0, forget=300.0)
RULES = GuessRules()


def after(guesses: int, rule: Rule = RULE, now: float = 1000.0) -> Counter | None:
    counter = None
    for _ in range(guesses):
        counter = charged(counter, rule, now, 1.0)
    return counter


def test_the_free_ones_cost_nothing() -> None:
    for guesses in range(5):
        assert wait(after(guesses), RULE, 1000.0, 0) == 0


def test_the_pause_doubles_up_to_the_longest() -> None:
    assert [wait(after(guesses), RULE, 1000.0, 0) for guesses in range(5, 16)] == [
        2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900,
    ]  # fmt: skip


def test_a_pause_passes() -> None:
    counter = after(7)
    assert wait(counter, RULE, 1003.0, 0) == pytest.approx(5)
    assert wait(counter, RULE, 1008.0, 0) == 0


def test_guesses_are_forgotten() -> None:
    counter = after(6)
    assert counter is not None
    assert level(counter, RULE, 1000.0 + 300) == pytest.approx(5)
    assert level(counter, RULE, forgotten_at(counter, RULE)) == 0
    assert forgotten_at(counter, RULE) == 1000.0 + 6 * 300


def test_in_flight() -> None:
    assert wait(None, RULE, 0, 2) == 0
    assert wait(None, RULE, 0, 3) == 1
    assert wait(after(5), RULE, 1003.0, 0) == 0
    assert wait(after(5), RULE, 1003.0, 1) == 1, "past the free ones they come one at a time"


def test_a_clock_set_back_locks_nobody_out_for_longer() -> None:
    counter = after(6, now=10_000_000.0)
    assert wait(counter, RULE, 1000.0, 0) == 4
    assert level(counter, RULE, 1000.0) == 6


def test_steady_guessing_settles_at_one_per_forget() -> None:
    for rule in (RULES.usual, RULES.pair, RULES.account, RULES.place):
        counter, now, tried = None, 0.0, 0
        while now < 30 * 86400:
            now += max(0.001, wait(counter, rule, now, 0))
            counter = charged(counter, rule, now, 1.0)
            tried += 1
        assert tried <= rule.free + rule.forget + now / rule.forget * 1.1
        assert wait(counter, rule, now, 0) <= rule.longest


@given(st.floats(0, 100), st.floats(0, 2e9), st.floats(0, 2e9), st.integers(0, 1000), st.sampled_from([0.05, 1.0]))
@settings(max_examples=examples(200))
def test_any_numbers_give_a_bounded_wait(first: float, at: float, now: float, flying: int, weight: float) -> None:
    for rule in (RULES.usual, RULES.pair, RULES.account, RULES.place):
        counter = charged(Counter(first, at), rule, now, weight)
        assert 0 <= wait(counter, rule, now, flying) <= max(1.0, rule.longest)
        assert 0 <= level(counter, rule, now) <= rule.free + 16
        assert counter.level >= min(weight, rule.free)


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::1"),
        ("", ""),
        ("x" * 100, "x" * 64),
    ],
)
def test_place(address: str, counted: str) -> None:
    assert place(address) == counted
