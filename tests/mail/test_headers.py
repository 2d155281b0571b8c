"""Header fields, the usual lines, HEADER.FIELDS."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mail import headers
from tests.hurry import examples

BLOCK = b"Subject: one\r\n two\r\nFrom : a@b\r\njunk\r\nX-Odd:tight\r\nsubject: again\r\nList-Id: <l>\r\n\r\n"
LINES = st.lists(
    st.sampled_from([b"A: b", b"a :c", b" folded", b"\tx", b"junk", b":", b"B:", b"", b"\r", b"\n", b"\r\n"])
)
ANY = st.one_of(st.binary(max_size=200), LINES.map(b"\r\n".join), LINES.map(b"\n".join))


def test_fields_are_found_by_their_names() -> None:
    found = headers.parse(BLOCK)
    assert found.first(b"SUBJECT") == b"one two"
    assert found.last(b"SUBJECT") == b"again"
    assert found.all(b"SUBJECT") == [b"one two", b"again"]
    assert found.first(b"NONE") is None
    assert found.all(b"NONE") == []
    assert b"FROM" in found
    assert b"JUNK" not in found
    assert headers.parse(BLOCK + b"X: y", 0, len(BLOCK)) == found
    assert headers.parse(BLOCK, 5) != found


def test_limits() -> None:
    block = b"A: b\r\njunk\r\n" * 10
    assert len(headers.parse(block, max_fields=6).all(b"A")) == 3
    assert len(headers.parse(b"A: b\n" * (headers.MAX_LINES + 1), max_fields=6).all(b"A")) == 6
    assert headers.parse(block, max_bytes=15).all(b"A") == [b"b", b""]


def test_select() -> None:
    assert headers.select(BLOCK, {b"SUBJECT"}) == b"Subject: one\r\n two\r\nsubject: again\r\n\r\n"
    assert headers.select(BLOCK, [b"SUBJECT", b"FROM", b"LIST-ID"], invert=True) == b"junk\r\nX-Odd:tight\r\n\r\n"
    assert headers.select(BLOCK, [b"JUNK"]) == b"\r\n"
    assert headers.select(BLOCK, {b"NONE"}) == b"\r\n"
    assert headers.select(b"A: b", {b"A"}) == b"A: b\r\n\r\n"


def test_usual_answers_what_it_says_it_does() -> None:
    kept = headers.usual(BLOCK)
    assert kept is not None
    for name in (b"SUBJECT", b"FROM", b"LIST-ID"):
        assert headers.is_usual(name.lower())
        assert headers.select(kept, {name}) == headers.select(BLOCK, {name})
    assert not headers.is_usual(b"X-Odd")
    assert b"X-Odd" not in kept


def test_usual_is_bounded() -> None:
    fits = b"To: " + b"x" * (headers.USUAL_MAX - 6) + b"\r\n"
    assert headers.usual(fits + b"\r\n") == fits
    assert headers.usual(b"Cc: y\r\n" + fits) is None
    long = b"X: %b\r\n" % (b"y" * 123)
    assert headers.usual(long * (headers.MAX_BYTES // 128)) == b""
    assert headers.usual(long * (headers.MAX_BYTES // 128) + b"\r") is None
    assert headers.usual(b":\n" * headers.MAX_LINES) == b""
    assert headers.usual(b":\n" * (headers.MAX_LINES + 1)) is None


class Counted:
    """A pattern, and how many matches it has made in one call, which nothing else runs beside."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self._pattern = pattern
        self.most = self.all = 0

    def findall(self, *where: Any) -> list[Any]:
        found = self._pattern.findall(*where)
        self._count(len(found))
        return found

    def finditer(self, *where: Any) -> Iterator[re.Match[bytes]]:
        for match in self._pattern.finditer(*where):
            self._count(1)
            yield match

    def _count(self, matches: int) -> None:
        self.most, self.all = max(self.most, matches), self.all + matches


@pytest.mark.parametrize("line", [b":\n", b"a\n", b"\n", b"a:b\r\n", b"To:\r\n", b"\r\n x\n"])
def test_lines_without_number_are_not_taken_apart_in_one_call(line: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    fields, usual = Counted(headers._FIELD), Counted(headers._USUAL)
    monkeypatch.setattr(headers, "_FIELD", fields)
    monkeypatch.setattr(headers, "_USUAL", usual)
    for lines in (headers.MAX_LINES, headers.MAX_LINES + 1, headers.MAX_BYTES // len(line)):
        block = line * lines
        headers.parse(block)
        headers.usual(block)
        # The last one is the emptiness at the end.
        assert max(fields.most, usual.most) <= headers.MAX_LINES + 1
    assert fields.all <= headers.MAX_LINES + 1 + 2 * (headers.MAX_FIELDS + 1)


@settings(max_examples=examples(200), deadline=None)
@given(ANY)
def test_lines_tile_any_block(block: bytes) -> None:
    lines = [text for _, text in headers.lines(block)]
    assert block.startswith(b"".join(lines))
    rest = block[len(b"".join(lines)) :]
    assert rest == b"" or rest.startswith((b"\r\n", b"\n"))
    everything = headers.select(block, (), invert=True)
    assert everything.startswith(b"".join(lines))
    assert everything.endswith(b"\r\n")


@settings(max_examples=examples(200), deadline=None)
@given(ANY)
def test_fields_of_any_bytes_are_its_lines_with_a_colon(raw: bytes) -> None:
    found = headers.parse(raw)
    wanted: dict[bytes, list[bytes]] = {}
    for field in re.findall(rb"[^\n]*\n?(?:[ \t][^\n]*\n?)*", raw):
        name, colon, rest = field.partition(b"\n")[0].partition(b":")
        if colon:
            value = (rest + field[len(name + colon + rest) :]).lstrip(b" \t")
            wanted.setdefault(name.upper().rstrip(b" \t"), []).append(headers.unfold(value))
    for name, values in wanted.items():
        assert found.all(name) == values
        assert (found.first(name), found.last(name)) == (values[0], values[-1])


@settings(max_examples=examples(300), deadline=None)
@given(ANY, st.lists(st.sampled_from([b"Subject", b"LIST-x", b"cc\r", b"To \x0b", b"X", b":", b"\n", b"\r\n", b" :a"])))
def test_the_usual_lines_of_any_bytes(raw: bytes, pieces: list[bytes]) -> None:
    block = b"".join(pieces) + raw
    kept = b"".join(text for name, text in headers.lines(block) if headers.is_usual(name))
    assert headers.usual(block) == kept + (b"" if not kept or kept.endswith(b"\n") else b"\r\n")
