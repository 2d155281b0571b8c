"""BDAT's argument, and texts that come in chunks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp.wire import chunks, replies
from smtp.wire.chunks import Chunk, ChunkReader
from smtp.wire.dotstuff import TextReader
from smtp.wire.params import BadArgument
from smtp.wire.textrules import Fault

TEXTS = st.lists(
    st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b".", b"\0", b"long line ", b"\r\n.\r\n"]), max_size=30
).map(b"".join)


@pytest.mark.parametrize(
    ("text", "chunk"),
    [
        ("0", Chunk(0, False)),
        ("10", Chunk(10, False)),
        ("0 LAST", Chunk(0, True)),
        ("12 \tlast", Chunk(12, True)),
        ("9" * 20, Chunk(10**20 - 1, False)),
    ],
)
def test_arguments(text: str, chunk: Chunk) -> None:
    assert chunks.argument(text) == chunk


@pytest.mark.parametrize("text", ["", "LAST", "-1", "+1", "1 2", "1 LAST LAST", "0x10", "1LAST", "9" * 21, "１", "1,0"])
def test_no_arguments(text: str) -> None:
    with pytest.raises(BadArgument) as caught:
        chunks.argument(text)
    assert caught.value.reply == replies.BDAT_SYNTAX


def read(text: bytes, cuts: list[int], line_max: int = 20) -> tuple[bytes, Fault | None]:
    reader = ChunkReader(line_max)
    made, at = b"", 0
    for cut in sorted({cut % (len(text) + 1) for cut in cuts}):
        made += reader.feed(text[at:cut])
        at = cut
    made += reader.feed(text[at:])
    made += reader.end()
    assert reader.size == len(made)
    return made, reader.fault


@given(TEXTS, st.lists(st.integers(0, 1000), max_size=8))
def test_cutting_changes_nothing(text: bytes, cuts: list[int]) -> None:
    made, fault = read(text, cuts)
    assert made == text
    assert (fault is None) == (read(text, [])[1] is None)


@given(TEXTS, st.lists(st.integers(0, 1000), max_size=8))
def test_what_data_takes_bdat_takes_and_keeps_the_same(text: bytes, cuts: list[int]) -> None:
    """A text that ends with CRLF, sent dot-stuffed after DATA and as it is after BDAT."""
    text += b"\r\n"
    after_data = TextReader(20)
    stuffed = (b"\r\n" + text).replace(b"\r\n.", b"\r\n..")[2:]
    kept = after_data.feed(stuffed + b".\r\n")
    assert after_data.ended
    made, fault = read(text, cuts)
    # Of two faults either may be the one that is seen first.
    assert (made, fault is None) == (kept, after_data.fault is None)


def test_a_cr_at_the_very_end_is_bare() -> None:
    assert read(b"a\r\n\r", [])[1] is Fault.BARE_LINE_END
    assert read(b"a\r\n", [2])[1] is None
