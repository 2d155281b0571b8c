"""The end of DATA and the dots: one result for every cut."""

from __future__ import annotations

import itertools
import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from smtp.wire.dotstuff import BLOCK_MAX, Fault, TextReader
from tests.hurry import examples

LINE_MAX = 1000
PIECES = st.sampled_from([b"\r\n", b"\r", b"\n", b".", b"..", b"a", b"\0", b"bc", b"\r\n.", b"\r\n.\r", b"x" * 999])


def read(stream: bytes, cuts: list[int], line_max: int = LINE_MAX) -> tuple[bytes, bytes, Fault | None, bool]:
    reader = TextReader(line_max)
    text = b""
    marks = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    for at, end in itertools.pairwise(marks):
        if reader.ended:
            return text, reader.rest + stream[at:], reader.fault, True
        text += reader.feed(stream[at:end])
    assert reader.size == len(text)
    return text, reader.rest, reader.fault, reader.ended


def plainly(stream: bytes) -> tuple[bytes, bytes, bool, bool]:
    """The same, said as simply as can be: (text, rest, ended, is any line end bare)."""
    whole = b"\r\n" + stream
    end = whole.find(b"\r\n.\r\n")
    if end < 0:
        return b"", b"", False, False
    body = whole[: end + 2]
    lines = body.split(b"\r\n")
    text = b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)[2:]
    bare = any(b"\r" in line or b"\n" in line for line in lines)
    return text, whole[end + 5 :], True, bare


@given(st.lists(PIECES, max_size=30).map(b"".join), st.lists(st.integers(0, 10_000), max_size=40))
@settings(max_examples=examples(200), deadline=None)
def test_any_cut_gives_what_the_plain_reading_gives(stream: bytes, cuts: list[int]) -> None:
    stream += b"\r\n.\r\nMAIL"
    text, rest, fault, ended = read(stream, cuts)
    expected, expected_rest, _, bare = plainly(stream)
    assert (text, rest, ended) == (expected, expected_rest, True)
    longest = max((len(line) + 1 for line in text.split(b"\n")[:-1]), default=0)
    assert (fault is None) == (not bare and b"\0" not in text and longest <= LINE_MAX)
    assert read(stream, [])[:2] == (text, rest)


@given(st.binary(max_size=300), st.lists(st.integers(0, 10_000), max_size=20))
@settings(max_examples=examples(200), deadline=None)
def test_what_a_client_stuffs_comes_back(text: bytes, cuts: list[int]) -> None:
    body = re.sub(rb"\r\n|\r|\n", b"\r\n", text.replace(b"\0", b"")) + b"\r\n"
    stuffed = re.sub(rb"(?m)^\.", b"..", body)
    got, rest, fault, ended = read(stuffed + b".\r\nNOOP\r\n", cuts)
    assert (got, rest, fault, ended) == (body, b"NOOP\r\n", None, True)


ENDS = [b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n\n", b""]


@pytest.mark.parametrize("before", ENDS)
@pytest.mark.parametrize("after", ENDS)
@pytest.mark.parametrize("dot", [b".", b".\0", b"\0."])
def test_only_one_sequence_ends_the_text(before: bytes, dot: bytes, after: bytes) -> None:
    stream = b"one" + before + dot + after + b"RSET\r\n"
    whole = before.endswith(b"\r\n") and dot == b"." and after.startswith(b"\r\n")
    for cuts in ([], list(range(len(stream)))):
        assert read(stream, cuts)[3] == whole
        if not whole:
            _, rest, fault, ended = read(stream + b".\r\n", cuts)
            assert ended
            assert rest == b""
            assert fault is not None or (before + dot + after).strip(b".") in (b"", b"\r\n")


def test_empty_text() -> None:
    assert read(b".\r\nQUIT\r\n", []) == (b"", b"QUIT\r\n", None, True)
    assert read(b".\r\n", [1, 2]) == (b"", b"", None, True)


@pytest.mark.parametrize("cuts", [[], list(range(0, 3000, 7)), list(range(3000))])
def test_line_limit(cuts: list[int]) -> None:
    exact = b"a" * (LINE_MAX - 2) + b"\r\n"
    assert read(exact * 2 + b".\r\n", cuts)[2] is None
    assert read(exact + b"a" + exact + b".\r\n", cuts)[2] is Fault.LINE_TOO_LONG
    # The stuffed dot does not count.
    assert read(b".." + b"a" * (LINE_MAX - 3) + b"\r\n.\r\n", cuts)[2] is None


def test_block_limit() -> None:
    reader = TextReader(LINE_MAX)
    assert len(reader.feed(b"a\r\n" * (BLOCK_MAX // 3))) <= BLOCK_MAX
    with pytest.raises(ValueError, match="long"):
        reader.feed(b"a" * (BLOCK_MAX + 1))
    reader.feed(b"\r\n.\r\n")
    with pytest.raises(ValueError, match="after the end"):
        reader.feed(b"a")


@pytest.mark.parametrize("unit", [b"\r\n.x", b"\r\n..", b"\r", b"\n", b"\r\n", b".", b"\r\n.\r", b"\0"])
def test_time_is_linear(unit: bytes) -> None:
    block = unit * (BLOCK_MAX // len(unit))
    reader = TextReader(64 * 1024)
    begun = time.process_time()
    for _ in range(16):
        reader.feed(block)
    assert time.process_time() - begun < 10


@settings(max_examples=examples(200))
@given(
    width=st.integers(0, 5),
    lines=st.integers(1, 8),
    tail=st.integers(0, 5),
    changes=st.lists(
        st.tuples(st.integers(0, 60), st.sampled_from([b"\r", b"\n", b"\n\r", b"\r\n", b"x", b"\r\r"])), max_size=3
    ),
)
@example(width=0, lines=5, tail=0, changes=[(10, b"\n")])
def test_bare_line_ends_are_found_among_lines_of_one_length(
    width: int, lines: int, tail: int, changes: list[tuple[int, bytes]]
) -> None:
    text = bytearray((b"x" * width + b"\r\n") * lines + b"x" * tail)
    for at, octets in changes:
        text[at : at + len(octets)] = octets
    reader = TextReader(65536)
    reader.feed(bytes(text) + b"\r\n.\r\n")
    body = (bytes(text) + b"\r\n.\r\n").split(b"\r\n.\r\n")[0]
    left = body.replace(b"\r\n", b"")
    assert (reader.fault is Fault.BARE_LINE_END) == (b"\r" in left or b"\n" in left)
