from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.limits import Budget, ConnectionLimit, Networks, is_loopback, parse_address, plain_address


@pytest.mark.parametrize(
    ("told", "plain"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("not an address", "not an address"),
        ("", ""),
    ],
)
def test_plain_address(told: str, plain: str) -> None:
    assert plain_address(told) == plain


@given(st.text())
def test_any_text_is_an_address_or_none(text: str) -> None:
    parse_address(text)
    assert is_loopback(text) in (True, False)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", ""])
def test_loopback(address: str) -> None:
    assert is_loopback(address)


@pytest.mark.parametrize("address", ["10.0.0.1", "::2", "localhost", "0.0.0.0"])
def test_not_loopback(address: str) -> None:
    assert not is_loopback(address)


def test_networks_hold_both_families() -> None:
    networks = Networks(["192.0.2.0/24", "2001:db8::/32", "10.1.2.3"])
    inside = ["192.0.2.77", "::ffff:192.0.2.1", "2001:db8:1::5", "10.1.2.3"]
    assert all(address in networks for address in inside)
    assert not any(address in networks for address in ("192.0.3.1", "10.1.2.4", "2001:db9::1", "nonsense"))
    with pytest.raises(ValueError, match="nonsense"):
        Networks(["nonsense"])


def test_connections_at_the_limit_and_one_past_it() -> None:
    limit = ConnectionLimit(2, exempt=[])
    assert [limit.try_enter("192.0.2.1") for _ in range(3)] == [True, True, False]
    assert limit.try_enter("192.0.2.2")
    limit.leave("192.0.2.1")
    assert limit.try_enter("192.0.2.1")
    assert limit.total == 3


def test_exempt_addresses_are_counted_but_not_refused() -> None:
    limit = ConnectionLimit(1)
    assert all(limit.try_enter("127.0.0.1") for _ in range(5))
    assert limit.total == 5


def test_the_peers_of_a_unix_socket_have_no_address_to_count_by() -> None:
    limit = ConnectionLimit(1, exempt=[])
    assert all(limit.try_enter("") for _ in range(9))
    assert limit.total == 9


def test_ipv6_counts_by_its_network() -> None:
    limit = ConnectionLimit(1, exempt=[])
    assert limit.try_enter("2001:db8::1")
    assert not limit.try_enter("2001:db8::2")
    assert limit.try_enter("2001:db8:0:1::1")


def test_a_limit_of_none_keeps_no_trace_of_the_refused() -> None:
    limit = ConnectionLimit(0, exempt=[])
    assert not limit.try_enter("192.0.2.1")
    assert limit.total == 0


@given(st.lists(st.integers(0, 60), max_size=30))
def test_a_budget_is_never_overdrawn(amounts: list[int]) -> None:
    budget = Budget(100)
    taken = [amount for amount in amounts if budget.try_take(amount)]
    assert budget.used == sum(taken) <= 100
    for amount in taken:
        budget.give(amount)
    assert budget.used == 0


def test_giving_more_than_was_taken_is_a_bug() -> None:
    budget = Budget(10)
    assert budget.try_take(10)
    assert not budget.try_take(1)
    with pytest.raises(ValueError, match="gives 11 of 10"):
        budget.give(11)
    with pytest.raises(ValueError, match="not negative"):
        budget.try_take(-1)
