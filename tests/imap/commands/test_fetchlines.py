"""Sections of many messages made together: the octets that each message has by itself, whatever it looks like."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from imap.commands import sections
from imap.commands.fetchlines import LINES, WRITE, Form, Lines, Literals, between, gaps
from imap.wire.forms import Section
from mail import headers
from storage.model import Columns
from tests.hurry import examples

_NAMES = st.sampled_from(["Subject", "To", "Cc", "List-Id", "List-^]", "X-To", "Sub"])
_NAME = st.builds(lambda name, case: case(name).encode(), _NAMES, st.sampled_from([str, str.upper, str.swapcase]))
_SPACE = st.sampled_from([b"", b"", b"", b" ", b"\t ", b"\v", b"\r", b"\r\n ", b"\n\t\n "])
_END = st.sampled_from([b"\r\n", b"\n"])
_VALUE = st.lists(st.binary(max_size=6).map(lambda octets: octets.replace(b"\n", b"")), min_size=1, max_size=3)
_FIELD = st.builds(
    lambda name, space, folded, end: name + space + b":" + (end + b" ").join(folded) + end, _NAME, _SPACE, _VALUE, _END
)
_HEADER = st.lists(_FIELD | st.binary(max_size=30), max_size=8).map(lambda lines: b"".join(lines).lstrip(b" \t"))
_PREFIX = st.sampled_from([b"", b"Return-Path: <>\r\nTo: me\r\n"])
_PARTIAL = st.tuples(st.integers(0, 60), st.integers(1, 60)) | st.none()
_LABEL = b"BODY[%d]"


def told(section: Section, **columns: Any) -> bytes:
    """The lines of a page of which the section is the one item."""
    numbers = range(1, len(columns["prefixes"]) + 1)
    column = sections.column(section)
    assert column is not None
    return b"".join(Lines(b"* %d (", [column.form]).of(numbers, [column.of(Columns(numbers, False, 1, **columns))]))


def line(number: int, octets: bytes) -> bytes:
    return b"* %d (%b {%d}\r\n%b)\r\n" % (number, _LABEL, len(octets), octets)


@given(
    st.lists(st.tuples(_PREFIX, _HEADER), max_size=4),
    st.sets(st.sampled_from(["subject", "TO", "Cc", "List-^]", "list-id"]), min_size=1),
    _PARTIAL,
)
@settings(max_examples=examples(500))
def test_fields_are_those_of_each_header(
    messages: list[tuple[bytes, bytes]], fields: set[str], partial: tuple[int, int] | None
) -> None:
    section = Section(True, (), "HEADER.FIELDS", tuple(fields), partial, _LABEL)
    chosen = [sections.fields(section, prefix + header, sections.names(section)) for prefix, header in messages]
    prefixes = [prefix for prefix, _ in messages]
    usual = [headers.usual(header) for _, header in messages]
    assert told(section, prefixes=prefixes, headers=usual) == b"".join(map(line, range(1, 5), chosen))


@given(st.lists(st.tuples(_PREFIX, st.binary(max_size=100)), max_size=4), _PARTIAL)
@settings(max_examples=examples(100))
def test_whole_messages_are_their_prefixes_and_contents(
    messages: list[tuple[bytes, bytes]], partial: tuple[int, int] | None
) -> None:
    section = Section(True, (), "", (), partial, _LABEL)
    whole = [prefix + content for prefix, content in messages]
    cut = slice(None) if partial is None else slice(partial[0], sum(partial))
    prefixes, contents = [prefix for prefix, _ in messages], [content for _, content in messages]
    lines = b"".join(line(number, octets[cut]) for number, octets in enumerate(whole, 1))
    assert told(section, prefixes=prefixes, contents=contents) == lines


@given(st.lists(st.tuples(st.booleans(), st.integers(), st.binary(max_size=9), st.binary(max_size=9) | st.none())))
@settings(max_examples=examples(100))
def test_lines_between_those_that_are_not_at_hand(rows: list[tuple[bool, int, bytes, bytes | None]]) -> None:
    lines = Lines(b"* %d (", [b"UID %d", Form(b"A {%d}\r", b"\n"), Form(b"B<%%> {%d}\r\n", b""), b"C %d"])
    numbers = [at * asked for at, (asked, *_) in enumerate(rows, 1)]
    column = [number for _, number, *_ in rows]
    first = Literals([len(a) + 2 for *_, a, _ in rows], ([a for *_, a, _ in rows],))
    second = Literals([None if b is None else 2 * len(b) for *_, b in rows], ([b for *_, b in rows],) * 2)
    values = [column, first, second, column]
    missing = [at for at, row in enumerate(rows) if row[-1] is None]
    assert gaps(values) == missing
    said, start = b"", 0
    for stop in (*missing, len(rows)):
        said += b"".join(lines.of(numbers[start:stop], between(values, start, stop)))
        start = stop + 1
    assert said == b"".join(
        b"* %d (UID %d A {%d}\r%b\n B<%%> {%d}\r\n%b%b C %d)\r\n" % (at, uid, len(a) + 2, a, 2 * len(b), b, b, uid)
        for at, (asked, uid, a, b) in enumerate(rows, 1)
        if asked and b is not None
    )


@given(st.lists(st.sampled_from([0, 1, WRITE // 3, WRITE - 1, WRITE, 3 * WRITE]), max_size=20))
@settings(max_examples=examples(50))
def test_no_more_is_joined_than_is_to_be_written_together(sizes: list[int]) -> None:
    octets = [bytes(size) for size in sizes]
    written = list(Lines(b"%d", [Form(b"{%d}", b"")]).of(range(1, len(sizes) + 1), [Literals(sizes, (octets,))]))
    assert all(piece.count(b")\r\n") == 1 or len(piece) < 2 * WRITE + max(sizes) for piece in written)
    assert all(len(piece) >= WRITE for piece in written[:-1])
    assert b"".join(written).count(b")\r\n") == len(sizes)


def test_many_lines_are_made_piece_by_piece() -> None:
    count = 2 * LINES + 1
    short = [b"x"] * count
    for items, values in (([b"A %b"], [short]), ([Form(b"A {%d}", b"")], [Literals([1] * count, (short,))])):
        written = list(Lines(b"%d ", items).of(range(1, count + 1), values))
        assert [piece.count(b"\r\n") for piece in written] == [LINES, LINES, 1]
        assert b"".join(written).split(b"\r\n")[-2].startswith(b"%d A" % count)
