"""The part table and the byte ranges of body sections (RFC 3501 §6.4.5)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mail import parts
from mail.structure import parse
from tests.hurry import examples

# the example of RFC 3501 §6.4.5, page 56, as a message
INNER = (
    b"Subject: part 3\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n"
    b"--c\r\nContent-Type: text/plain\r\n\r\n3.1\r\n--c\r\nContent-Type: application/octet-stream\r\n\r\n3.2\r\n--c--"
)
RAW = (
    b"Subject: all\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/plain\r\n\r\n1\r\n"
    b"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: part 2\r\n\r\n2.1\r\n"
    b"--b\r\nContent-Type: message/rfc822\r\n\r\n" + INNER + b"\r\n--b--\r\n"
)


@pytest.mark.parametrize(
    ("path", "what", "expected"),
    [
        ((), "", RAW),
        ((), "HEADER", RAW[: RAW.index(b"--b")]),
        ((), "TEXT", RAW[RAW.index(b"--b") :]),
        ((), "MIME", None),
        ((1,), "", b"1"),
        ((1,), "MIME", b"Content-Type: text/plain\r\n\r\n"),
        ((1,), "HEADER", None),
        ((1, 1), "", None),
        ((2,), "", b"Subject: part 2\r\n\r\n2.1"),
        ((2,), "HEADER", b"Subject: part 2\r\n\r\n"),
        ((2,), "TEXT", b"2.1"),
        ((2, 1), "", b"2.1"),
        ((2, 1), "MIME", b"Subject: part 2\r\n\r\n"),
        ((2, 2), "", None),
        # the line end of a closing boundary stays with the multipart that it closes
        ((3,), "", INNER + b"\r\n"),
        ((3,), "TEXT", INNER[INNER.index(b"--c") :] + b"\r\n"),
        ((3, 1), "", b"3.1"),
        ((3, 2), "", b"3.2"),
        ((3, 2), "MIME", b"Content-Type: application/octet-stream\r\n\r\n"),
        ((3, 3), "", None),
        ((4,), "", None),
        ((0,), "", None),
    ],
)
def test_sections(path: tuple[int, ...], what: str, expected: bytes | None) -> None:
    rows = parts.decode(parts.encode(parse(RAW)))
    found = parts.locate(rows, path, what)
    assert (None if found is None else RAW[slice(*found)]) == expected


def test_a_message_that_is_no_multipart_has_its_body_as_part_one() -> None:
    raw = b"Subject: x\r\n\r\nbody"
    rows = parts.table(parse(raw))
    assert parts.locate(rows, (1,)) == parts.locate(rows, (), "TEXT") == (14, 18)
    assert parts.locate(rows, (1,), "MIME") == (0, 14)
    assert parts.locate(rows, (2,)) is None


def test_a_message_in_the_message() -> None:
    raw = b"Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nbody"
    rows = parts.table(parse(raw))
    assert raw[slice(*(parts.locate(rows, (1,)) or ()))] == b"Subject: in\r\n\r\nbody"
    assert raw[slice(*(parts.locate(rows, (1,), "HEADER") or ()))] == b"Subject: in\r\n\r\n"
    assert raw[slice(*(parts.locate(rows, (1, 1)) or ()))] == b"body"


@settings(max_examples=examples(100), deadline=None)
@given(st.binary(max_size=200))
def test_decode_undoes_encode_and_knows_its_own(raw: bytes) -> None:
    part = parse(raw)
    assert parts.decode(parts.encode(part)) == parts.table(part)
    try:
        rows = parts.decode(raw)
    except ValueError:
        return
    assert len(rows) >= 1


@pytest.mark.parametrize("token", [b"base64", b"BASE64", b"x-odd", b""])
def test_encoding(token: bytes) -> None:
    part = parse(b"MIME-Version: 1.0\r\nContent-Transfer-Encoding: " + token + b"\r\n\r\nx")
    expected = {b"base64": parts.BASE64, b"x-odd": parts.OTHER, b"": parts.SEVENBIT}[token.lower()]
    assert parts.table(part)[0].encoding == expected
