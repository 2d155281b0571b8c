"""The text that is searched: decoding, folding, fields, trigrams."""

from __future__ import annotations

import hashlib
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mail.structure import parse
from storage.adapters.sqlite.search_lookup import terms
from storage.model import BodyContains, HeaderContains, TextContains
from storage.port import Reason, Refused
from storage.search.document import (
    FORM,
    HEADER_MAX,
    body_pieces,
    field_mark,
    header_text,
    in_field,
    octets,
)
from storage.search.keys import NEEDLE_MAX, TextKey, Where, key_of, scan
from tests.hurry import examples


@pytest.mark.parametrize(
    ("text", "needle"),
    [
        ("Straße", "STRASSE"),
        ("STRAẞE", "straẞe"),
        ("İstanbul", "i\u0307STANBUL"),
        ("caf\u00e9", "cafe\u0301"),
        ("cafe\u0301", "CAF\u00c9"),
        ("ﬁle", "FILE"),
        ("Ω", "ω"),
        ("a\0b", "A\0B"),
    ],
)
def test_folding_makes_equal_what_differs_in_case_or_composition(text: str, needle: str) -> None:
    assert octets(needle) in octets(text)


def test_half_a_surrogate_pair_is_no_error() -> None:
    assert octets("\ud800x") == "\ufffdX".encode()


def test_header_text_has_a_field_a_line() -> None:
    block = b"Subject: one\r\n two\r\nX-Old\t : three\r\nTo: =?utf-8?q?caf=C3=A9=0AFrom:_boss?=\r\n\r\n"
    assert header_text(block).decode() == "\nSUBJECT: ONE TWO\nX-OLD: THREE\nTO: CAFE\u0301 FROM: BOSS\n"


def test_charsets_mixed_in_one_header_are_told_apart() -> None:
    header = header_text(b"A: caf\xe9\r\nB: caf\xc3\xa9\r\n\r\n")
    assert in_field(header, b"\nA:", octets("café"))
    assert in_field(header, b"\nB:", octets("café"))


def test_header_text_is_bounded() -> None:
    assert len(header_text(b"A: " + b"x" * (2 * HEADER_MAX))) <= HEADER_MAX + 2


@pytest.mark.parametrize("name", ["", "a:b", "a\nb", "X\uff1a"])
def test_what_cannot_be_a_field_name_is_in_no_message(name: str) -> None:
    assert field_mark(name) is None
    assert key_of(HeaderContains(name, "x")) is False


def test_a_field_is_found_in_each_of_its_lines_and_in_no_other() -> None:
    header = header_text(b"X: one\r\nY: two\r\nX: three\r\nX:\r\n\r\n")
    assert in_field(header, b"\nX:", b"THREE")
    assert not in_field(header, b"\nX:", b"TWO")
    assert not in_field(header, b"\nZ:", b"")
    assert in_field(header, b"\nX:", b"")


@pytest.mark.parametrize("needle", ["", "a", "ab", "é"])
def test_no_trigram_no_terms(needle: str) -> None:
    assert terms(needle.encode()) is None


@given(st.text(min_size=3, max_size=60), st.text(max_size=20), st.text(max_size=20))
@settings(max_examples=examples(200), deadline=None)
def test_fts5_finds_every_text_that_holds_the_needle(needle: str, before: str, after: str) -> None:
    needle_octets = octets(needle.replace("\n", " "))
    expression = terms(needle_octets)
    if expression is None:
        return
    conn = sqlite3.connect(":memory:")
    conn.execute(
        "CREATE VIRTUAL TABLE t USING fts5(x, content='', columnsize=0, detail=none, "
        "tokenize='trigram case_sensitive 1')"
    )
    text = octets(before) + needle_octets + octets(after)
    conn.execute("INSERT INTO t (rowid, x) VALUES (1, ?)", (text,))
    assert conn.execute("SELECT rowid FROM t WHERE t MATCH ?", (expression,)).fetchall() == [(1,)]
    conn.execute("INSERT INTO t (t, rowid, x) VALUES ('delete', 1, ?)", (text,))
    assert conn.execute("SELECT rowid FROM t WHERE t MATCH ?", (expression,)).fetchall() == []


def test_needles_are_bounded() -> None:
    assert isinstance(key_of(BodyContains("x" * NEEDLE_MAX)), TextKey)
    with pytest.raises(Refused) as refused:
        key_of(BodyContains("x" * (NEEDLE_MAX + 1)))
    assert refused.value.reason is Reason.LIMIT


def test_the_empty_text_is_in_every_message() -> None:
    assert key_of(TextContains("")) is True
    assert key_of(BodyContains("")) is True


@given(st.text("ab", max_size=30), st.lists(st.integers(0, 30), max_size=5), st.text("ab", min_size=1, max_size=8))
@settings(max_examples=examples(200), deadline=None)
def test_a_needle_is_found_across_pieces(text: str, cuts: list[int], needle: str) -> None:
    ends = sorted({min(cut, len(text)) for cut in cuts} | {len(text)})
    pieces = [text[start:end].encode() for start, end in zip([0, *ends], ends, strict=False)]
    answers = scan([TextKey(Where.BODY, b"", needle.encode()), TextKey(Where.TEXT, b"", b"abba")], b"\n", pieces)
    assert answers == [needle in text, "abba" in text]


def test_enclosed_messages_and_html_belong_to_the_body() -> None:
    raw = (
        b"Subject: outer\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        b"--b\r\nContent-Type: text/html\r\n\r\n<p>tag</p>\r\n"
        b"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ntext\r\n--b--\r\n"
    )
    body = b"".join(body_pieces(raw, parse(raw)))
    assert b"<P>TAG</P>" in body
    assert b"INNER" in body
    assert b"OUTER" not in body


FORMS = {1: "bc17c0dc9b21a7c0", 2: "f6bf133f2e9635ef"}
"""What the texts of ``SAMPLES`` amount to, by FORM."""

SAMPLES = (
    b"Subject: =?utf-8?q?Stra=C3=9Fe?=\r\n =?iso-8859-1?q?_caf=E9?=\r\nX-Old : \xe9\xff \xc3\xa9\r\n\r\nA b\r\nc",
    b"Content-Type: text/plain; charset=iso-8859-15\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=A4 =\r\n=E9",
    b"Content-Type: text/html; charset=utf-8\r\n\r\n<p>One&amp;<b>two</b><script>no</script><br>caf\xc3\xa9</p>",
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\nlead\r\n"
    b"--b\r\nContent-Transfer-Encoding: base64\r\n\r\nSGVsbG8=\r\n"
    b"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: within\r\n\r\nletter\r\n"
    b"--b\r\nContent-Type: application/pdf; name=a.pdf\r\n\r\n%PDF\r\n--b--\r\ntrail",
    b"no header at all",
    b"Content-Type: message/global\r\n\r\nSubject: Gr\xc3\xbc\xc3\x9fe\r\n\r\nletter",
)


def test_another_text_has_another_form() -> None:
    """An index holds texts of one form only: when these change, FORM rises, and its digest joins FORMS."""
    digest = hashlib.sha256()
    for raw in SAMPLES:
        part = parse(raw)
        digest.update(header_text(raw[part.header_start : part.body_start]))
        digest.update(b"".join(body_pieces(raw, part)))
    assert FORMS[FORM] == digest.hexdigest()[:16]
