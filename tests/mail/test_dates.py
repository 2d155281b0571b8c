"""Dates of header fields and of IMAP."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mail import dates
from tests.hurry import examples

NEW_YEAR = 1704067200  # 2024-01-01 00:00 UTC


@pytest.mark.parametrize(
    ("value", "seconds", "offset"),
    [
        (b"Mon, 1 Jan 2024 00:00:00 +0000", NEW_YEAR, 0),
        (b"Mon, 1 Jan 2024 01:30:00 +0130 (x)", NEW_YEAR, 5400),
        (b"1 Jan 2024 00:00 -0000", NEW_YEAR, 0),
        (b"31 Dec 23 19:00:00 EST", NEW_YEAR, -18000),
        (b"1 Jan 124 00:00:00 GMT", NEW_YEAR, 0),
        (b"Mon (x(y)), 1 (z) Jan 2024 00:00:00 Z", NEW_YEAR, 0),
        (b"Monday, 1-January-2024 00:00:00 UT", NEW_YEAR, 0),
        (b"1 Jan 2024 00:00:00", NEW_YEAR, 0),
        (b"31 Dec 1969 23:59:60 +0000", -1, 0),
        (b"1 Jan 70 00:00:00 XYZ", 0, 0),
    ],
)
def test_header_dates(value: bytes, seconds: int, offset: int) -> None:
    assert dates.parse(value) == (seconds, offset)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"yesterday",
        b"30 Feb 2024 00:00:00 +0000",
        b"1 Foo 2024 00:00:00 +0000",
        b"1 Jan 2024 24:00:00 +0000",
        b"1 Jan 0000 00:00:00 +0000",
        b"2024-01-01T00:00:00Z",
        b"(" * 500,
        b"1 Jan 2024 00:00:00 +9900",
    ],
)
def test_what_is_no_date(value: bytes) -> None:
    assert dates.parse(value) is None


def test_the_day_is_the_one_written() -> None:
    late = dates.parse(b"1 Jan 2024 23:00:00 -0800")
    assert late is not None
    assert late.day == dates.parse_date(b"1-Jan-2024")


def test_imap_forms() -> None:
    assert dates.format_date_time(NEW_YEAR) == " 1-Jan-2024 00:00:00 +0000"
    assert dates.parse_date_time(b" 1-Jan-2024 00:00:00 +0000") == (NEW_YEAR, 0)
    assert dates.parse_date_time(b"01-jan-2024 01:00:00 +0100") == (NEW_YEAR, 3600)
    for bad in (b"1-Jan-2024", b"32-Jan-2024 00:00:00 +0000", b" 1-Jan-2024 00:00:60 +0060", b""):
        assert dates.parse_date_time(bad) is None
    assert dates.parse_date(b"1-Jan-1970") == 0
    assert dates.parse_date(b"31-Feb-1970") is None
    assert dates.format_header(NEW_YEAR, -5400) == "Sun, 31 Dec 2023 22:30:00 -0130"


@settings(max_examples=examples(200), deadline=None)
@given(st.integers(-(10**10), 2 * 10**11), st.integers(-1439, 1439))
def test_what_is_formatted_is_parsed_back(seconds: int, minutes: int) -> None:
    offset = minutes * 60
    assert dates.parse_date_time(dates.format_date_time(seconds, offset).encode()) == (seconds, offset)
    assert dates.parse(dates.format_header(seconds, offset).encode()) == (seconds, offset)
    assert len(dates.format_date_time(seconds, offset)) == 26


@settings(max_examples=examples(100), deadline=None)
@given(st.integers(), st.binary(max_size=60))
def test_any_number_has_a_form_and_any_bytes_an_answer(seconds: int, value: bytes) -> None:
    assert len(dates.format_date_time(seconds)) == 26
    dates.parse(value)
    dates.parse_date(value)
