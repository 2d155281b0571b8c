"""Queries are bounded and told apart; sets are combined; answers belong to one moment."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import ranges
from storage.adapters.sqlite import query
from storage.model import (
    All,
    And,
    BodyContains,
    HasFlags,
    HasKeyword,
    MailboxRef,
    ModseqFrom,
    Not,
    Or,
    Query,
    SizeRange,
    TextContains,
    Uids,
)
from storage.port import Reason, Refused
from storage.ranges import intersect, subtract
from storage.search import tree
from storage.search.tree import ready

uids = st.sets(st.integers(1, 40)).map(lambda numbers: ranges.of(sorted(numbers)))


@given(uids, uids)
def test_sets(one: Any, other: Any) -> None:
    first, second = set(ranges.each(one)), set(ranges.each(other))
    assert intersect(one, other) == ranges.of(sorted(first & second))
    assert subtract(one, other) == ranges.of(sorted(first - second))


def nested(depth: int, leaf: Query) -> Query:
    found = leaf
    for n in range(depth):
        found = (Not(found), And((found, HasFlags(1))), Or((found, HasFlags(2))))[n % 3]
    return found


def nested_holds(depth: int, flags: int) -> bool:
    found = flags & 3 == 3
    for n in range(depth):
        found = (not found, found and bool(flags & 1), found or bool(flags & 2))[n % 3]
    return found


@pytest.mark.parametrize(
    ("fits", "too_much"),
    [
        (Or((HasFlags(1),) * (tree.KEYS_MAX - 1)), Or((HasFlags(1),) * tree.KEYS_MAX)),
        (nested(tree.DEPTH_MAX, BodyContains("x")), nested(tree.DEPTH_MAX + 1, All())),
        (
            And(tuple(TextContains(f"text{n}") for n in range(tree.TEXTS_MAX))),
            And(tuple(TextContains(f"text{n}") for n in range(tree.TEXTS_MAX + 1))),
        ),
    ],
)
async def test_bounds(store: Any, letter: Any, fits: Query, too_much: Query) -> None:
    await store.add(letter((), "x", flags=3))
    await store.search(fits)
    with pytest.raises(Refused) as refused:
        await store.search(too_much)
    assert refused.value.reason is Reason.LIMIT


def test_chains_are_flattened() -> None:
    chain: Query = HasFlags(1)
    for n in range(100):
        chain = Or((HasFlags(n), chain))
    assert ready(chain).height == 1
    assert ready(Not(Not(HasFlags(1)))) == ready(HasFlags(1))


async def test_deep_and_wide_queries_are_answered(store: Any, letter: Any) -> None:
    await store.add(letter((), "x", flags=3), letter((), "xx", flags=0))
    for depth in (5, 30, 99, 120):
        expected = [uid for uid, flags in ((2, 3), (3, 0)) if nested_holds(depth, flags)]
        assert await store.search(nested(depth, HasFlags(3))) == expected
    many = Uids(tuple((n, n) for n in range(1, 20_001, 2)))
    assert await store.search(many) == [entry[0] for entry in await store.entries() if entry[0] % 2]
    assert await store.search(Not(many)) == [entry[0] for entry in await store.entries() if not entry[0] % 2]
    assert await store.search(Or(tuple(HasFlags(3) for _ in range(400)))) == [2]
    assert await store.search(And(tuple(Not(Uids(((n, n),))) for n in range(100, 300)))) == [2, 3]


async def test_numbers_beyond_sqlite(store: Any, letter: Any) -> None:
    await store.add(letter((), "x"))
    assert await store.search(SizeRange(-(2**70), 2**70)) == await store.search(All())
    assert await store.search(ModseqFrom(2**64)) == []
    assert await store.search(HasKeyword("x" * 10_000)) == []


async def test_no_such_mailbox(store: Any) -> None:
    for ref in (MailboxRef("alice", "M99"), MailboxRef("bob", "M1"), MailboxRef("alice", "'")):
        with pytest.raises(Refused) as refused:
            await query.run(store.database, store.index, ref, All())
        assert refused.value.reason is Reason.NO_SUCH_MAILBOX


async def test_the_moment_is_told_and_mailboxes_are_apart(store: Any, letter: Any) -> None:
    await store.add(letter((), "words"))
    await store.add(letter((), "words"), mailbox=2)
    first = await query.run(store.database, store.index, store.ref, BodyContains("words"))
    second = await query.run(store.database, store.index, store.other, BodyContains("words"))
    assert (first.highest_modseq, second.highest_modseq) == (2, 3)
    assert ranges.count(first.uids) == ranges.count(second.uids) == 1


async def test_an_email_twice_in_a_mailbox(store: Any, letter: Any) -> None:
    one = letter((), "words")
    (number,) = await store.add(one)
    await store.database.write(lambda conn: store.enter(conn, one, number, 10, 1))
    await store.index.catch_up()
    assert len(await store.search(BodyContains("words"))) == 2
