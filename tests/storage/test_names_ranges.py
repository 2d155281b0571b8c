from __future__ import annotations

import unicodedata
from contextlib import nullcontext
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import names, ranges
from storage.adapters.sqlite import ids
from storage.port import Refused

SETS = st.sets(st.integers(1, 60))


def bad(name: str) -> bool:
    return not all(name.split("/")) or any(unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") for one in name)


@given(st.text(max_size=40))
def test_any_name_is_checked_or_refused(name: str) -> None:
    with pytest.raises(Refused) if bad(name) else nullcontext():
        found = names.checked(name)
        assert names.checked(found) == found
        assert found.casefold() == unicodedata.normalize("NFC", name).casefold()
        assert all(names.is_under(found, above) for above in names.superiors(found))


@given(st.text())
def test_composed_or_not_it_is_one_name(name: str) -> None:
    assert names.canonical(unicodedata.normalize("NFD", name)) == names.canonical(name)
    assert unicodedata.is_normalized("NFC", names.canonical(name))


def test_what_is_too_long_for_a_name_is_not_composed() -> None:
    # it would take time quadratic in the number of marks
    marks = "a" + "\u0315\u0300" * 512
    assert names.canonical(marks) == marks != unicodedata.normalize("NFC", marks)
    with pytest.raises(Refused):
        names.checked(marks)


def test_inbox_in_capitals() -> None:
    assert names.checked("inBOX") == "INBOX"
    assert names.checked("Inbox/inbox") == "INBOX/inbox"
    assert names.checked("inboxes") == "inboxes"


@given(SETS)
def test_ranges_of_and_each(uids: set[int]) -> None:
    found = ranges.of(sorted(uids))
    assert list(ranges.each(found)) == sorted(uids)
    assert ranges.count(found) == len(uids)
    assert all(before[1] + 1 < after[0] for before, after in pairwise(found))
    assert set(ranges.each(ranges.outside(found, 50))) == set(range(1, 50)) - uids


@given(SETS, SETS)
def test_union(one: set[int], other: set[int]) -> None:
    found = ranges.union((*ranges.of(sorted(one)), *ranges.of(sorted(other))))
    assert found == ranges.of(sorted(one | other))


@given(st.integers(1, 2**59))
def test_ids(number: int) -> None:
    assert ids.number(ids.mailbox(number), "M") == number
    assert ids.number(ids.email(number), "E") == number
    assert ids.number(ids.mailbox(number), "E") == 0


@pytest.mark.parametrize("text", ["", "M", "Mxyz", "M1 ", "M" + "f" * 16, "M１", "m1", "M-1"])
def test_what_is_no_id(text: str) -> None:
    assert ids.number(text, "M") == 0


def test_spool_ids_sort_as_numbers() -> None:
    assert sorted(ids.spool(n) for n in (9, 10, 16, 255, 256)) == [ids.spool(n) for n in (9, 10, 16, 255, 256)]


def test_inbox_is_known_by_its_ascii_letters_alone() -> None:
    assert names.canonical("inBox/a") == "INBOX/a"
    assert names.canonical("\u0131nbox") == "\u0131nbox"
