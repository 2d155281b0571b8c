"""What is stuffed here is unstuffed by the reader of DATA."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mail.dotstuff import DotStuffer
from smtp.wire.dotstuff import TextReader

PIECES = st.lists(st.sampled_from([b".", b"..", b"\r\n", b"a", b"\r\n.", b"\r\n.\r\n", b"xyz"]), max_size=30)


@given(PIECES, st.lists(st.integers(0, 120), max_size=10))
def test_stuffed_and_unstuffed_again(pieces: list[bytes], cuts: list[int]) -> None:
    text = b"".join(pieces)
    places = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    stuffer = DotStuffer()
    sent = b"".join(stuffer.feed(text[start:end]) for start, end in pairwise(places))
    sent += stuffer.end()
    reader = TextReader(1 << 16)
    got = reader.feed(sent)
    assert reader.ended
    assert reader.rest == b""
    assert got == (text if text.endswith(b"\r\n") or not text else text + b"\r\n")
