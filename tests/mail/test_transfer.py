"""Transfer decoding by pieces: against the library's own decoders, and however the input is cut."""

from __future__ import annotations

import base64
import quopri
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail import parts, transfer
from mail.transfer import LINE_MAX

KNOWN = [parts.SEVENBIT, parts.EIGHTBIT, parts.BINARY, parts.QUOTED_PRINTABLE, parts.BASE64]
SPOILT = st.one_of(
    st.binary(max_size=200),
    st.lists(st.sampled_from([b"=", b"=4", b"=41", b"= \r\n", b"=\n", b" \t", b"\r", b"\n", b"x", b"QUJD", b"\0"])).map(
        b"".join
    ),
)


def decoded(raw: bytes, encoding: int, cuts: list[int] | None = None, text: bool = False) -> bytes:
    decoder = transfer.decoder(encoding, text=text)
    assert decoder is not None
    places = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts or ())})
    return b"".join([*(decoder.feed(raw[low:high]) for low, high in pairwise(places)), decoder.end()])


@given(SPOILT, st.sampled_from(KNOWN), st.lists(st.integers(0, 300), max_size=6), st.booleans())
def test_the_cut_makes_no_difference(raw: bytes, encoding: int, cuts: list[int], text: bool) -> None:
    assert decoded(raw, encoding, cuts, text) == decoded(raw, encoding, None, text)


@given(st.binary(max_size=300), st.lists(st.integers(0, 500), max_size=4))
def test_what_was_encoded_comes_back(raw: bytes, cuts: list[int]) -> None:
    assert decoded(base64.encodebytes(raw), parts.BASE64, cuts) == raw
    assert decoded(raw, parts.BINARY, cuts) == raw


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=200))
def test_quoted_printable_comes_back(text: str) -> None:
    assert decoded(quopri.encodestring(text.encode()), parts.QUOTED_PRINTABLE) == text.encode()


@given(SPOILT, st.sampled_from(KNOWN))
def test_text_has_no_bare_lf(raw: bytes, encoding: int) -> None:
    text = decoded(raw, encoding, text=True)
    assert text.replace(b"\r\n", b"").count(b"\n") == 0
    assert text.replace(b"\r\n", b"\n") == decoded(raw, encoding).replace(b"\r\n", b"\n")


@pytest.mark.parametrize(
    ("encoding", "raw", "expected"),
    [
        (parts.BASE64, b"QU JD\r\n*RA==QUJD", b"ABCD"),
        (parts.BASE64, b"QUI", b"AB"),
        (parts.BASE64, b"", b""),
        (parts.QUOTED_PRINTABLE, b"caf=C3=A9 =\r\nx  \r\ny =", b"caf\xc3\xa9 x\r\ny "),
        (parts.QUOTED_PRINTABLE, b"soft= \t\r\nbreak", b"softbreak"),
        (parts.QUOTED_PRINTABLE, b"=ZZ =4 ==41", b"=ZZ =4 =41"),
    ],
)
def test_examples(encoding: int, raw: bytes, expected: bytes) -> None:
    assert decoded(raw, encoding) == expected


def test_an_unknown_encoding_has_no_decoder() -> None:
    assert transfer.decoder(parts.OTHER) is None


@pytest.mark.parametrize("filler", [b"x", b" ", b"=", b"= "])
def test_a_line_without_end_is_not_held(filler: bytes) -> None:
    decoder = transfer.QuotedPrintable()
    piece = filler * (LINE_MAX // len(filler))
    for _ in range(6):
        decoder.feed(piece)
        assert len(decoder._rest) <= LINE_MAX


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"\r\n", True),
        (b"Content-Type: text/html\r\n\r\n", True),
        (b"content-type: TEXT/plain; charset=x\r\n\r\n", True),
        (b"Content-Type: image/png\r\n\r\n", False),
        (b"Content-Type: nonsense\r\n\r\n", True),
        (b"Content-Type: multipart\r\n\r\n", False),
    ],
)
def test_is_text(header: bytes, expected: bool) -> None:
    assert transfer.is_text(header) is expected
