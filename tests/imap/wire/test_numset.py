"""Sequence sets: what they mean, however hostile, without ever being expanded."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imap.wire.errors import BadSyntax
from imap.wire.numset import LARGEST, MAX_PARTS, NumSet, Ranges, format_numbers, format_sequence, parse_numset
from tests.hurry import examples

NUMBERS = st.integers(1, 60)
END = st.one_of(NUMBERS, st.just("*"))
PART = st.one_of(END, st.tuples(END, END))


def meaning(parts: list[object], largest: int) -> set[int]:
    """RFC 3501 §9 read literally, number by number."""
    found: set[int] = set()
    for part in parts:
        ends = part if isinstance(part, tuple) else (part, part)
        low, high = sorted(largest if end == "*" else int(end) for end in ends)
        found.update(range(low, high + 1))
    return found


def spell(parts: list[object]) -> bytes:
    return ",".join(f"{p[0]}:{p[1]}" if isinstance(p, tuple) else str(p) for p in parts).encode()


@given(st.lists(PART, min_size=1, max_size=12), NUMBERS)
@settings(max_examples=examples(200))
def test_means_what_the_grammar_says(parts: list[object], largest: int) -> None:
    ranges = parse_numset(spell(parts)).resolve(largest)
    expected = meaning(parts, largest)
    assert {n for n in range(1, 70) if n in ranges} == expected
    assert len(ranges) == len(expected)
    assert ranges.pick(range(1, 100)) == sorted(expected)
    assert ranges.ranges == Ranges.numbers(expected).ranges
    assert parse_numset(ranges.format()) == NumSet(ranges)
    assert format_numbers(sorted(expected)) == ranges.format()


@given(st.lists(PART, min_size=1, max_size=8), st.sets(NUMBERS, max_size=30), NUMBERS)
def test_picks_from_sparse_uids(parts: list[object], uids: set[int], largest: int) -> None:
    ordered = sorted(uids)
    ranges = parse_numset(spell(parts)).resolve(largest)
    assert ranges.pick(ordered) == [uid for uid in ordered if uid in meaning(parts, largest)]
    for start, stop in ranges.slices(ordered):
        assert start < stop


@pytest.mark.parametrize(
    "text",
    [b"", b",", b"1,", b",1", b"0", b"1:0", b"01", b"1:2:3", b"1 2", b"a", b"4294967296", b"9" * 30, b"*:", b"1:,2"],
)
def test_refuses_what_is_no_set(text: bytes) -> None:
    with pytest.raises(BadSyntax):
        parse_numset(text)


@given(st.text("0123456789*:,$", max_size=30))
def test_any_text_is_a_set_or_bad_syntax(text: str) -> None:
    try:
        parse_numset(text.encode()).resolve(7)
    except BadSyntax:
        return


@given(st.lists(PART, min_size=1, max_size=12), NUMBERS)
def test_what_was_saved_may_end_a_set(parts: list[object], largest: int) -> None:
    numset, without = parse_numset(spell(parts) + b",$"), parse_numset(spell(parts))
    assert (numset.saved, numset.named, without.saved) == (True, True, False)
    assert numset.resolve(largest) == without.resolve(largest)


@pytest.mark.parametrize("text", [b"$,1", b"$$", b",$", b"1$", b"1:$", b"1,,$", b"1,$,2", b"$,$"])
def test_what_was_saved_stands_alone_or_last(text: bytes) -> None:
    with pytest.raises(BadSyntax):
        parse_numset(text)


def test_the_whole_range_is_one_pair() -> None:
    ranges = parse_numset(b"1:4294967295").resolve(3)
    assert ranges.ranges == ((1, LARGEST),)
    assert len(ranges) == LARGEST
    assert ranges.pick([5, 9]) == [5, 9]


def test_an_empty_mailbox_has_no_largest() -> None:
    assert parse_numset(b"*").resolve(0) == Ranges()
    assert parse_numset(b"*:*").resolve(0) == Ranges()
    assert parse_numset(b"3:*").resolve(0).pick([]) == []
    assert parse_numset(b"5:*").resolve(3).format() == b"3:5"


def test_as_many_parts_as_allowed_and_no_more() -> None:
    full = b",".join(b"%d" % n for n in range(2 * MAX_PARTS, 0, -2))
    began = time.process_time()
    ranges = parse_numset(full).resolve(1)
    assert time.process_time() - began < 5
    assert len(ranges.ranges) == MAX_PARTS
    with pytest.raises(BadSyntax):
        parse_numset(full + b",1")


def test_an_order_that_is_kept() -> None:
    # RFC 5267 §3.2: 3:1 would be 1:3
    assert format_sequence([5, 4, 3, 7, 8, 9, 1]) == b"5,4,3,7:9,1"
    assert format_sequence([]) == b""
    assert format_sequence([1]) == b"1"


@given(st.lists(st.integers(1, 12), unique=True))
def test_a_kept_order_reads_back(numbers: list[int]) -> None:
    read: list[int] = []
    for part in format_sequence(numbers).decode().split(","):
        low, _, high = part.partition(":")
        read.extend(range(int(low), int(high or low) + 1) if part else ())
    assert read == numbers
