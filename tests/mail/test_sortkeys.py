"""Sort and thread keys (RFC 5256)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mail import sortkeys
from mail.headers import parse
from tests.hurry import examples


@pytest.mark.parametrize(
    ("subject", "base", "marked"),
    [
        ("Hello", "Hello", False),
        ("Re: Hello", "Hello", True),
        ("RE : re[2]: FW: Fwd: Hello", "Hello", True),
        ("[list] Re: [other] Hello", "Hello", True),
        ("[list] Hello", "Hello", False),
        ("[only]", "[only]", False),
        ("Hello (fwd) (FWD)", "Hello", True),
        ("[Fwd: Re: Hello]", "Hello", True),
        ("[fwd: [fwd: Hello (fwd)]]", "Hello", True),
        ("  a \t b ", "a b", False),
        ("Re:", "", True),
        ("Reply: x", "Reply: x", False),
        ("", "", False),
    ],
)
def test_base_subject(subject: str, base: str, marked: bool) -> None:
    assert sortkeys.base_subject(subject) == (base, marked)


@settings(max_examples=examples(200), deadline=None)
@given(st.text("reRE fwd:[]()\t x", max_size=60))
def test_a_base_subject_has_no_base_subject_but_itself(subject: str) -> None:
    base, _ = sortkeys.base_subject(subject)
    assert sortkeys.base_subject(base) == (base, False)


def test_message_ids() -> None:
    assert sortkeys.message_ids(b'<a@x> text <"b"@x> <"c d"@x> <no-at> <open') == ["a@x", "b@x", '"c d"@x']
    assert sortkeys.message_ids(b"") == []


def keys(*lines: bytes) -> sortkeys.SortKeys:
    return sortkeys.keys(parse(b"\r\n".join(lines) + b"\r\n\r\n"))


def test_keys() -> None:
    found = keys(
        b"From: =?utf-8?q?J=C3=BCrgen?= <Juergen@example.org>, other@x",
        b"To: <bob@example.org>",
        b"Subject: Re: =?utf-8?q?Stra=C3=9Fe?=",
        b"Date: Mon, 1 Jan 2024 23:00:00 -0800",
        b"Message-ID:\r\n <id@x>",
        b"In-Reply-To: <b@x> <c@x>",
    )
    assert (found.subject, found.is_reply) == ("STRASSE", True)
    assert (found.sender, found.sender_display) == ("JUERGEN", "JU\u0308RGEN")
    assert (found.to, found.to_display, found.cc) == ("BOB", "BOB@EXAMPLE.ORG", "")
    assert (found.sent, found.sent_day) == (1704178800, 19723)
    assert (found.message_id, found.references) == ("id@x", ("b@x",))


def test_references_win_and_are_bounded() -> None:
    many = b"".join(b"<%d@x>" % n for n in range(500))
    found = keys(b"References: " + many, b"In-Reply-To: <z@x>")
    assert len(found.references) == sortkeys.REFERENCES_MAX
    assert (found.references[0], found.references[1], found.references[-1]) == ("0@x", "301@x", "499@x")


@settings(max_examples=examples(100), deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_have_keys(value: bytes) -> None:
    found = keys(b"From: " + value, b"Subject: " + value, b"Date: " + value, b"References: " + value)
    for part in (found.subject, found.sender, found.sender_display, *found.references):
        part.encode()
