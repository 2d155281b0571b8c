"""Search text, preview, folding."""

from __future__ import annotations

import base64
import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mail import parts, text
from mail.structure import SLICE, parse
from tests.hurry import examples


def body(raw: bytes) -> str:
    return "".join(piece.text for piece in text.search_text(raw, parse(raw)) if piece.where == "body")


def header(raw: bytes) -> str:
    return "".join(piece.text for piece in text.search_text(raw, parse(raw)) if piece.where == "header")


def test_search_text_is_decoded() -> None:
    raw = (
        b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n =?utf-8?q?!?=\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        b"--b\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        b"caf=E9 soft=\r\nbreak\r\n"
        b"--b\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + base64.b64encode(b"<b>bold</b>")
        + b"\r\n--b\r\nContent-Type: application/pdf\r\n\r\nhidden\r\n"
        b"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: =?utf-8?q?in=6Eer?=\r\n\r\ndeep\r\n--b--\r\n"
    )
    assert "Subject: Grüße!\n" in header(raw)
    found = body(raw)
    assert "café softbreak" in found
    assert "<b>bold</b>" in found
    assert "hidden" not in found
    assert "Subject: inner" in found
    assert "deep" in found
    assert "Grüße" not in found


def test_large_text_comes_in_slices_without_a_seam() -> None:
    words = " ".join(f"word{n}" for n in range(100_000))
    encoded = base64.encodebytes(words.encode()).replace(b"\n", b"\r\n")
    raw = b"MIME-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n\r\n" + encoded
    assert body(raw) == words
    assert all(len(piece.text) <= SLICE for piece in text.search_text(raw, parse(raw)))
    assert body(b"\r\n" + words.encode()) == words


@settings(max_examples=examples(100), deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"base64", b"quoted-printable", b"8bit", b"x"]))
def test_any_body_has_text(content: bytes, encoding: bytes) -> None:
    raw = b"MIME-Version: 1.0\r\nContent-Transfer-Encoding: " + encoding + b"\r\n\r\n" + content
    body(raw).encode()
    assert len(text.preview(raw, parse(raw))) <= text.PREVIEW_MAX


@settings(max_examples=examples(50), deadline=None)
@given(st.binary(max_size=400))
def test_transfer_encodings_are_undone(content: bytes) -> None:
    encoded = base64.encodebytes(content).replace(b"\n", b"\r\n")
    assert b"".join(text.transfer_decode(encoded, 0, len(encoded), parts.BASE64)) == content


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"\r\n  Hello\r\n\r\n  there \r\n", "Hello there"),
        (b"\r\n> quoted\r\nown words\r\n", "own words"),
        (b"\r\n> only quoted\r\n", "> only quoted"),
        (b"Content-Type: text/html\r\n\r\n<style>x{}</style><p>a&amp;b<!-- c --><br>d", "a&b d"),
        (b"Content-Type: text/html\r\n\r\n<script>never closed", ""),
        (b"Content-Type: text/html\r\n\r\n&#" + b"9" * 5_000 + b";", ""),
        (b"Content-Type: image/png\r\n\r\nx", ""),
        (b"", ""),
        (b"\r\n" + b"x" * 1_000, "x" * 200),
    ],
)
def test_previews(raw: bytes, expected: str) -> None:
    found = text.preview(raw, parse(raw))
    assert found == expected or (b"&#9" in raw and len(found) <= text.PREVIEW_MAX)


def test_preview_prefers_plain_text() -> None:
    raw = (
        b"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>html\r\n"
        b"--b\r\nContent-Type: text/plain\r\nContent-Disposition: attachment\r\n\r\nattached\r\n"
        b"--b\r\nContent-Type: text/plain\r\n\r\nplain\r\n--b--\r\n"
    )
    assert text.preview(raw, parse(raw)) == "plain"


def test_fold_ignores_case_and_keeps_what_differs() -> None:
    assert text.fold("Straße") == text.fold("STRASSE") == "STRASSE"
    assert text.fold("ﬁ") == text.fold("FI")
    assert text.fold("Éa") == text.fold("e\u0301A")
    assert text.fold("ǆ") == text.fold("ǅ") == text.fold("Ǆ")
    assert text.fold("a") != text.fold("b")


def test_fold_is_idempotent_for_every_character() -> None:
    for code in range(0x80, sys.maxunicode + 1, 1):
        if 0xD800 <= code <= 0xDFFF or 0x3400 <= code <= 0xD7FF or code > 0x1FFFF:
            continue
        once = text.fold(chr(code))
        assert text.fold(once) == once, hex(code)


@settings(max_examples=examples(200), deadline=None)
@given(st.text(max_size=400))
def test_fold_is_idempotent(value: str) -> None:
    once = text.fold(value)
    assert text.fold(once) == once


def test_fold_sorts_few_combining_marks_at_a_time() -> None:
    sizes: list[int] = []

    def watch(frame: object, event: str, arg: object) -> None:
        if event == "c_call" and arg is unicodedata.normalize:
            sizes.append(1)

    sys.setprofile(watch)
    try:
        text.fold("\u0315\u0300" * 10_000)
    finally:
        sys.setprofile(None)
    # at most _CHUNK + _CHUNK_STRETCH characters a call
    assert len(sizes) >= 20_000 // 192
