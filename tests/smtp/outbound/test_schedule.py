"""When a message is tried again, given up, and told as late."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp.outbound.schedule import JITTER, Schedule, held_until

SCHEDULE = Schedule((300.0, 900.0, 3600.0), 5 * 86400.0, 4 * 3600.0)
QUEUED = 1_000_000.0


def test_the_pauses_follow_the_list_and_stay_at_its_last() -> None:
    expires = SCHEDULE.expires(QUEUED, {})
    pauses = [SCHEDULE.next_attempt(QUEUED, number, expires, 0.5) for number in (1, 2, 3, 4, 100)]
    assert pauses == [QUEUED + pause for pause in (300, 900, 3600, 3600, 3600)]


@given(st.integers(0, 1000), st.floats(0, 1), st.floats(0, 6 * 86400))
def test_it_comes_later_within_the_jitter_and_never_after_the_end(attempts: int, chance: float, age: float) -> None:
    expires = SCHEDULE.expires(QUEUED, {})
    now = QUEUED + age
    again = SCHEDULE.next_attempt(now, attempts, expires, chance)
    if now >= expires:
        assert again is None
        return
    assert again is not None
    assert now < again <= expires
    delay = SCHEDULE.delays[min(max(attempts, 1), 3) - 1]
    assert again == expires or delay * (1 - JITTER) <= again - now + 1e-3
    assert again - now <= delay * (1 + JITTER) + 1e-3


def test_the_last_attempt_is_at_the_end_of_its_time() -> None:
    expires = SCHEDULE.expires(QUEUED, {})
    assert SCHEDULE.next_attempt(expires - 60, 40, expires, 0.5) == expires
    assert SCHEDULE.next_attempt(expires, 41, expires, 0.5) is None


def test_late_is_told_once_after_its_time() -> None:
    assert not SCHEDULE.late(QUEUED + 4 * 3600 - 1, QUEUED, {}, None)
    assert SCHEDULE.late(QUEUED + 4 * 3600, QUEUED, {}, None)
    assert not SCHEDULE.late(QUEUED + 9 * 3600, QUEUED, {}, QUEUED + 4 * 3600)
    assert not Schedule((300.0,), 86400.0, 0.0).late(QUEUED + 80_000, QUEUED, {}, None)


def test_what_its_sender_holds_begins_its_time_then() -> None:
    params = {"HOLDUNTIL": str(int(QUEUED + 1000))}
    assert SCHEDULE.expires(QUEUED, params) == QUEUED + 1000 + 5 * 86400
    assert not SCHEDULE.late(QUEUED + 4 * 3600, QUEUED, params, None)


@pytest.mark.parametrize("value", ["", "soon", "nan", "-5", "1e999x"])
def test_a_hold_that_is_no_time_holds_nothing(value: str) -> None:
    assert held_until({"HOLDUNTIL": value}) == 0.0
