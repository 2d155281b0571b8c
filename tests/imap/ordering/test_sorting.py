"""SORT's order against sorting once for each criterion, from the last to the first."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imap.sorting import Sorter, TooMuch, wants
from imap.wire.forms import Criterion
from imap.wire.parse_search import CRITERIA
from mail.text import fold
from storage.model import Entry, Keys, Row, Want
from tests.hurry import examples

FIELDS = {"SUBJECT": 0, "FROM": 1, "TO": 2, "CC": 3, "DISPLAYFROM": 4, "DISPLAYTO": 5, "DATE": 6}
TEXTS = st.one_of(st.sampled_from(["", "A", "B", "a\0", "é", "\U0001f600", "ￜ"]), st.text(max_size=3)).map(fold)
KEYS = st.builds(Keys, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, st.integers(-3, 3), st.just(""), st.just(()))


def row(keys: Keys | None = None, size: int = 0, date: int = 0, uid: int = 1) -> Row:
    return Row(Entry(uid, 1, 0, (), "e", date, 0), size, None, None, None, None, None, None, None, keys, None)


ROWS = st.lists(st.builds(row, KEYS, st.integers(0, 3), st.integers(-2, 2), st.integers(1, 3)), max_size=12)
CHOSEN = st.lists(st.builds(Criterion, st.sampled_from(sorted(CRITERIA)), st.booleans()), min_size=1, max_size=3)


def value(row: Row, name: str) -> object:
    assert row.keys is not None
    if name in FIELDS:
        found = row.keys[FIELDS[name]]
        return found.encode("utf-8", "replace") if isinstance(found, str) else found
    if name == "RELEVANCY":
        # RFC 6203 §6: the most relevant first
        return -row.entry.uid
    return row.size if name == "SIZE" else row.entry.internaldate


@settings(max_examples=examples(100), deadline=None)
@given(ROWS, CHOSEN, st.integers(1, 5))
def test_order(rows: list[Row], criteria: list[Criterion], page: int) -> None:
    sorter = Sorter(criteria, relevancy=lambda uid: uid)
    for at in range(0, len(rows), page):
        part = rows[at : at + page]
        sorter.add(range(at, at + len(part)), part)
    expected = list(range(len(rows)))
    for criterion in reversed(criteria):
        # RFC 5256 §3: REVERSE leaves the order of those that are equal
        values = sorted({value(row, criterion.name) for row in rows}, reverse=criterion.reverse)  # type: ignore[type-var]  # all of one type
        expected.sort(key=lambda at, c=criterion, v=values: v.index(value(rows[at], c.name)))  # type: ignore[misc]  # bound now
    assert list(sorter.merged()) == expected


def test_only_what_is_compared_is_read() -> None:
    assert wants((Criterion("ARRIVAL", True),)) == Want(0)
    assert wants((Criterion("SIZE", False), Criterion("ARRIVAL", False))) == Want.SIZE
    assert wants((Criterion("SIZE", False), Criterion("DATE", False))) == Want.SIZE | Want.KEYS


def test_text_has_a_bound_and_counts_once() -> None:
    sorter = Sorter((Criterion("SUBJECT", False),), most=1_000)
    same = Keys("X" * 500, "", "", "", "", "", 0, "", ())
    sorter.add(range(100), [row(same)] * 100)
    with pytest.raises(TooMuch):
        sorter.add((100,), [row(same._replace(subject="Y" * 500))])
