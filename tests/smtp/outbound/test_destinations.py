"""Who may be sent to at once: destinations that are new, quick, slow and down."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from smtp.outbound.destinations import (
    ASKED_SECONDS,
    FORGET_SECONDS,
    KNOWN_MAX,
    REFUSED_SECONDS,
    SLOW_SECONDS,
    SLOW_WINDOW,
    START,
    Destination,
    Destinations,
    Limits,
)
from tests.hurry import examples

LIMITS = Limits(concurrency=10, per_destination=4, interval=0.0, down_pause=100.0)
NOW = 50_000.0


def many(limits: Limits = LIMITS) -> Destinations[str]:
    return Destinations(limits)


def of(all_: Destinations[str], name: str, now: float = NOW) -> Destination[str]:
    return all_.of(name, name, now)


def begun(all_: Destinations[str], now: float = NOW) -> list[tuple[int, str]]:
    found = []
    while (turn := all_.next(now)) is not None:
        found.append((turn[0], turn[1].name))
    return found


def proven(all_: Destinations[str], name: str, times: int = 1) -> Destination[str]:
    one = of(all_, name)
    for _ in range(times):
        all_.add(one, "first")
        ((number, _),) = begun(all_)
        all_.end(number, NOW + 0.1, reached=True)
    return one


def test_no_more_is_claimed_than_a_relay_has_room_for() -> None:
    all_ = many()
    assert all_.most(200, NOW) == 200
    one = proven(all_, "relay", 10)
    assert all_.most(200, NOW) == 200, "of a single domain a claim takes few"
    all_.of("relay", "other.example", NOW)
    room = all_.room(one, NOW)
    assert 0 < room < 200
    assert all_.most(200, NOW) == room
    assert all_.most(3, NOW) == 3
    for _ in range(room):
        all_.add(one, "m")
    assert {"relay", "other.example"} <= all_.skip(NOW)
    assert all_.most(200, NOW) == 200, "none of its domains are claimed now"


def test_a_new_destination_begins_with_one_and_grows_with_success() -> None:
    all_ = many()
    one = of(all_, "a.example")
    seen = []
    for _ in range(5):
        for _ in range(10):
            all_.add(one, "m")
        running = begun(all_)
        seen.append(len(running))
        for number, _ in running:
            all_.end(number, NOW + 0.1, reached=True)
        while one.waiting:
            one.waiting.clear()
    assert seen[0] == START
    assert seen == sorted(seen)
    assert seen[-1] == LIMITS.per_destination


def test_what_is_not_known_has_half_the_slots_and_the_quick_have_theirs() -> None:
    all_ = many()
    quick = proven(all_, "quick.example", 5)
    for number in range(20):
        all_.add(of(all_, f"new{number}.example"), "m")
    assert len(begun(all_)) == LIMITS.apart
    for _ in range(9):
        all_.add(quick, "m")
    assert [name for _, name in begun(all_)] == ["quick.example"] * LIMITS.per_destination


def test_what_lasts_leaves_its_slot() -> None:
    all_ = many()
    for number in range(20):
        all_.add(of(all_, f"stuck{number}.example"), "m")
    first = begun(all_)
    assert len(first) == LIMITS.apart
    all_.age(NOW + SLOW_SECONDS)
    assert len(begun(all_, NOW + SLOW_SECONDS)) == LIMITS.apart
    assert all_.running == 2 * LIMITS.apart
    for number, _ in first:
        all_.end(number, NOW + SLOW_SECONDS + 1, reached=True)
    one = of(all_, first[0][1])
    assert not one.quick
    assert one.window == SLOW_WINDOW


def test_all_together_are_bounded() -> None:
    all_ = many()
    now = NOW
    for number in range(1000):
        all_.add(of(all_, f"stuck{number}.example"), "m")
    for _ in range(20):
        begun(all_, now)
        now += SLOW_SECONDS
        all_.age(now)
    assert all_.running == LIMITS.total


def test_down_gives_back_what_waits_and_counts_once() -> None:
    all_ = many()
    one = proven(all_, "a.example", 5)
    for number in range(10):
        all_.add(one, str(number))
    running = begun(all_)
    left = [all_.end(number, NOW + 1, reached=False) for number, _ in running]
    assert len(left[0]) == 10 - len(running)
    assert one.failures == 1
    assert all_.suspended(one, NOW + 100)
    assert not all_.suspended(one, NOW + 102)
    assert all_.suspended(one, NOW + 1 + ASKED_SECONDS / 2, asked_for=True)
    assert not all_.suspended(one, NOW + 1 + ASKED_SECONDS, asked_for=True)
    assert all_.down == 1


def test_one_message_asks_whether_it_is_up_again() -> None:
    all_ = many()
    one = proven(all_, "a.example")
    all_.add(one, "m")
    ((number, _),) = begun(all_)
    all_.end(number, NOW, reached=False)
    later = NOW + 101
    assert all_.room(one, later) == 1
    all_.add(one, "probe")
    assert all_.room(one, later) == 0
    assert "a.example" in all_.skip(later)
    ((number, _),) = begun(all_, later)
    all_.end(number, later + 0.1, reached=True)
    assert one.failures == 0
    assert all_.room(one, later + 0.1) > 1


def test_the_pause_grows_and_is_bounded() -> None:
    all_ = many()
    one = of(all_, "a.example")
    now = NOW
    pauses = []
    for _ in range(8):
        all_.add(one, "m")
        ((number, _),) = begun(all_, now)
        all_.end(number, now, reached=False)
        pauses.append(one.down_until - now)
        now = one.down_until
    assert pauses[:3] == [100, 200, 400]
    assert pauses[-1] == 1800


def test_the_rate_keeps_back_and_tells_when() -> None:
    all_ = many(Limits(10, 4, 2.0, 100.0))
    one = of(all_, "a.example")
    all_.add(one, "a")
    ((number, _),) = begun(all_)
    all_.end(number, NOW + 0.1, reached=True)
    all_.add(one, "b")
    assert begun(all_, NOW + 1) == []
    assert all_.paced() == (one,)
    assert one.next_start == NOW + 2
    assert "a.example" in all_.skip(NOW + 1)
    all_.again(one)
    assert len(begun(all_, NOW + 2)) == 1


def test_what_has_no_room_is_not_claimed_for_a_while() -> None:
    all_ = many()
    one = of(all_, "a.example")
    all_.refuse(one, NOW)
    assert all_.skip(NOW) == {"a.example"}
    assert all_.skip(NOW + REFUSED_SECONDS) == frozenset()


def test_a_relay_stands_for_all_its_domains() -> None:
    all_ = many()
    one = all_.of("smtp://relay.example", "a.example", NOW)
    assert all_.of("smtp://relay.example", "b.example", NOW) is one
    all_.refuse(one, NOW)
    assert all_.skip(NOW) == {"a.example", "b.example"}


def test_old_ones_are_forgotten() -> None:
    all_ = many()
    for number in range(KNOWN_MAX + 10):
        of(all_, f"d{number}.example")
    assert len(all_._all) <= KNOWN_MAX
    for number in range(KNOWN_MAX):
        of(all_, f"e{number}.example", NOW + FORGET_SECONDS)
    assert len(all_._all) <= KNOWN_MAX
    assert "d9.example" not in all_._all


@settings(max_examples=examples(60), deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["add", "next", "good", "down", "none", "age"])), max_size=80)
)
def test_counts_hold_whatever_happens(steps: list[tuple[int, str]]) -> None:
    all_ = many()
    now, running = NOW, []
    waiting = 0
    for which, what in steps:
        now += 1.5
        if what == "add":
            all_.add(of(all_, f"d{which}.example", now), "m")
            waiting += 1
        elif what == "next":
            if (turn := all_.next(now)) is not None:
                running.append(turn[0])
                waiting -= 1
        elif what == "age":
            all_.age(now)
        elif running:
            reached = {"good": True, "down": False, "none": None}[what]
            waiting -= len(all_.end(running.pop(which % len(running)), now, reached=reached))
        assert all_.running == len(running) <= LIMITS.total
        assert 0 <= all_._apart <= LIMITS.apart
        assert 0 <= all_._quick <= LIMITS.concurrency
    for number in running:
        waiting -= len(all_.end(number, now, reached=True))
    assert (all_._apart, all_._quick) == (0, 0)
    assert len(all_.take_waiting()) == waiting
    assert all(not one.running and not one.aged for one in all_._all.values())
