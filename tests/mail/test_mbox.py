"""mbox: what is written comes back, and what others write is read."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from mail import flags, mbox
from mail.mbox import Span, Status

PIECES = st.sampled_from(
    [
        *(b"From ", b">", b"\r\n", b"\n", b"\r", b"F", b"rom ", b"a", b"Status: x", b": ", b"\xff", b" "),
        *(b"From x Thu Jan  1 00:00:00 1970\n", b"X-Keywords: b\r\n", b"Subject: s\r\n"),
    ]
)
MESSAGES = st.lists(PIECES, max_size=25).map(b"".join)
KEYWORDS = st.lists(st.sampled_from(["work", "$Forwarded", "NonJunk"]), unique=True).map(tuple)
DATES = st.integers(0, 253_402_300_799)


def _lines(octets: bytes) -> list[bytes]:
    ended = octets.split(b"\n")
    return [one + b"\n" for one in ended[:-1]] + ([ended[-1]] if ended[-1] else [])


def cut(octets: bytes, sizes: list[int]) -> Iterator[bytes]:
    at = 0
    for size in sizes:
        yield octets[at : at + size]
        at += size
    yield octets[at:]


def written(date: int, bits: int, keywords: tuple[str, ...], octets: bytes, sizes: list[int]) -> bytes:
    quoting = mbox.Quoting()
    body = b"".join(quoting.feed(piece) for piece in cut(octets, sizes)) + quoting.end()
    return mbox.from_line(date) + mbox.status_lines(bits, keywords) + body + b"\n"


def read(octets: bytes, span: Span, most: int = mbox.LINE_MAX) -> tuple[bytes, Status]:
    status = Status()
    return b"".join(mbox.content(_pieces(octets[span.begin : span.end], most), status)), status


def _pieces(octets: bytes, most: int) -> list[bytes]:
    return [line[at : at + most] for line in _lines(octets) for at in range(0, len(line), most)]


@given(
    st.lists(
        st.tuples(DATES, st.integers(0, flags.ALL), KEYWORDS, MESSAGES, st.lists(st.integers(0, 9), max_size=9)),
        max_size=5,
    )
)
def test_what_is_written_comes_back(given: list[tuple[int, int, tuple[str, ...], bytes, list[int]]]) -> None:
    file = b"".join(written(*one) for one in given)
    found = list(mbox.spans(_lines(file)))
    assert [span.date for span in found] == [one[0] for one in given]
    for span, (_, bits, keywords, octets, _) in zip(found, given, strict=True):
        back, status = read(file, span)
        assert (back, status.flags, status.keywords) == (octets, bits, keywords)


@given(st.lists(PIECES, max_size=60).map(b"".join), st.integers(1, 7))
def test_any_octets_are_read(octets: bytes, most: int) -> None:
    end = 0
    for span in mbox.spans(_lines(octets)):
        assert end <= span.start < span.begin <= span.end <= len(octets)
        end = span.end
        whole, _ = read(octets, span)
        assert isinstance(whole, bytes)
        read(octets, span, most)


def test_a_file_of_another_program() -> None:
    file = (
        b"From ann@example.org Mon Jan  2 03:04:05 2023\n"
        b"Status: RO\nX-Status: AF\nSubject: one\nX-Keywords: work\n  $Forwarded\n\n>From here\nFrom there\nend\n\n"
        b"From - Tue, 3 Jan 2023 03:04:05\n\nFrom bob Tue Jan 03 03:04:05 +0100 2023\nSubject: two\n\n.\n"
    )
    found = list(mbox.spans(_lines(file)))
    assert [span.date for span in found] == [1672628645, 1672711445]
    octets, status = read(file, found[0])
    assert octets == (b"Subject: one\r\n\r\nFrom here\r\nFrom there\r\nend\r\n\r\nFrom - Tue, 3 Jan 2023 03:04:05\r\n")
    assert status.flags == flags.SEEN | flags.ANSWERED | flags.FLAGGED
    assert read(file, found[1])[0] == b"Subject: two\r\n\r\n.\r\n"


def test_line_ends_of_windows() -> None:
    line = b"From a Mon Jan  2 03:04:05 2023\r\n"
    file = line + b"Subject: x\r\n\r\nend\r\n\r\n" + line + b"A: b\r\n"
    assert [read(file, span)[0] for span in mbox.spans(_lines(file))] == [b"Subject: x\r\n\r\nend\r\n", b"A: b\r\n"]


def test_what_is_no_from_line() -> None:
    for line in (
        b"From here to there\n",
        b"From a Mon Jan 42 03:04:05 2023\n",
        b"from a Mon Jan  2 03:04:05 2023\n",
        b"From " + b"x" * 2000 + b" Mon Jan  2 03:04:05 2023\n",
        b"From a Mon Jan  2 25:04:05 2023\n",
    ):
        assert mbox.from_date(line) is None


@given(st.lists(PIECES, max_size=40).map(b"".join), st.integers(1, 9))
def test_how_it_is_cut_is_of_no_matter(octets: bytes, block: int) -> None:
    file = mbox.from_line(0) + mbox.status_lines(0, ()) + octets
    (span,) = list(mbox.spans(_lines(file)))[:1]
    whole, _ = read(file, span)
    before, mbox.LINE_MAX = mbox.LINE_MAX, block
    try:
        assert read(file, span, 1000)[0] == whole
    finally:
        mbox.LINE_MAX = before
