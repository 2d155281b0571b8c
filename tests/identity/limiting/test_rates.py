"""Rates: their text, and the arithmetic of sliding windows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity.limiting import rates
from identity.limiting.rates import Rate, parse

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/1h", Rate(100, 3600)),
        ("100/h", Rate(100, 3600)),
        (" 5 / 30 S ", Rate(5, 30)),
        ("2000/1d", Rate(2000, 86400)),
        ("1/31d", Rate(1, rates.WINDOW_MAX)),
        ("", None),
        ("off", None),
        ("None", None),
    ],
)
def test_texts(text: str, rate: Rate | None) -> None:
    assert parse(text) == rate


@pytest.mark.parametrize("text", ["100", "h", "-1/h", "1.5/h", "0/h", "1/0s", "1/32d", "100 per hour", "5/1w", "1/h x"])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match="a rate"):
        parse(text)


@given(amount=st.integers(1, 10**9), window=st.integers(1, rates.WINDOW_MAX))
def test_a_rate_is_read_as_it_is_written(amount: int, window: int) -> None:
    rate = Rate(amount, window)
    assert parse(str(rate)) == rate


RATE = st.builds(Rate, st.integers(1, 1000), st.integers(1, 100_000))
COUNT = st.integers(0, 3000)
TIME = st.floats(NOW, NOW + 200_000)


@given(rate=RATE, before=COUNT, present=COUNT, now=TIME, more=st.integers(1, 1200))
def test_who_waits_as_long_as_is_told_gets_through_and_nobody_sooner(
    rate: Rate, before: int, present: int, now: float, more: int
) -> None:
    pause = rates.wait(rate, before, present, now, more)
    assert 0.0 <= pause <= 2 * rate.window
    if more > rate.amount:
        assert pause > 0
        return

    def fits(at: float) -> bool:
        passed = rate.slot(at) - rate.slot(now)
        old, new = ((before, present), (present, 0), (0, 0))[min(passed, 2)]
        return rates.used(rate, old, new, at) + more <= rate.amount + 1e-6

    slack = max(1e-3, rate.window * 1e-6)
    assert fits(now + pause + slack)
    if pause > 2 * slack:
        assert not fits(now + pause / 2) or rates.wait(rate, before, present, now, more) == pause
        assert not fits(now)


@given(rate=RATE, arrivals=st.lists(st.floats(0, 5, allow_nan=False), min_size=1, max_size=200))
def test_no_stretch_of_a_window_has_more_than_twice_the_amount_and_no_window_more_than_it(
    rate: Rate, arrivals: list[float]
) -> None:
    at = sorted(NOW + share * rate.window for share in arrivals)
    counts: dict[int, int] = {}
    taken: list[float] = []
    for time in at:
        slot = rate.slot(time)
        if rates.wait(rate, counts.get(slot - 1, 0), counts.get(slot, 0), time, 1) == 0:
            counts[slot] = counts.get(slot, 0) + 1
            taken.append(time)
    assert all(count <= rate.amount for count in counts.values())
    for start in taken:
        assert sum(start <= time < start + rate.window for time in taken) <= 2 * rate.amount
