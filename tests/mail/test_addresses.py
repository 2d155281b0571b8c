"""Addresses: of SMTP, and lists of them in header fields."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mail import address, addresslist
from mail.addresslist import END_OF_GROUP, Entry
from tests.hurry import examples


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", []),
        (b" (c) ", []),
        (b"a@b", [Entry(None, None, b"a", b"b")]),
        (b"a@b,", [Entry(None, None, b"a", b"b")]),
        (b"A B <a@b>, c@d", [Entry(b"A B", None, b"a", b"b"), Entry(None, None, b"c", b"d")]),
        (b'"A, B" <a@b>', [Entry(b"A, B", None, b"a", b"b")]),
        (b'"q\\"q" <a@b>', [Entry(b'q"q', None, b"a", b"b")]),
        (b"a@b (Ann (x) B)", [Entry(b"Ann (x) B", None, b"a", b"b")]),
        (b'"a b"@c', [Entry(None, None, b"a b", b"c")]),
        (b"<@r.x:a@b>", [Entry(None, b"@r.x", b"a", b"b")]),
        (b"a@[1.2.3.4]", [Entry(None, None, b"a", b"[1.2.3.4]")]),
        (b"a . b @ c . d", [Entry(None, None, b"a.b", b"c.d")]),
        (b"G: a@b;", [Entry(None, None, b"G", None), Entry(None, None, b"a", b"b"), END_OF_GROUP]),
        (b"G:;", [Entry(None, None, b"G", None), END_OF_GROUP]),
        (b"ann", [Entry(None, None, b"ann", b"MISSING_DOMAIN", False)]),
        (b"Ann <ann", [Entry(b"Ann", None, b"ann", b"SYNTAX_ERROR", False)]),
        (b"Ann B", [Entry(b"Ann B", None, b"MISSING_MAILBOX", b"MISSING_DOMAIN", False)]),
    ],
)
def test_lists(value: bytes, expected: list[Entry]) -> None:
    assert addresslist.parse(value) == expected


def test_most() -> None:
    assert len(addresslist.parse(b"a@b, " * 50, most=3)) == 3


PIECES = [
    b"a",
    b"@",
    b"b.c",
    b"<",
    b">",
    b",",
    b";",
    b":",
    b'"',
    b"\\",
    b"(",
    b")",
    b" ",
    b".",
    b"[",
    b"]",
    b"\xc3\xbc",
]


@settings(max_examples=examples(200), deadline=None)
@given(st.one_of(st.binary(max_size=80), st.lists(st.sampled_from(PIECES), max_size=60).map(b"".join)))
def test_any_list_has_entries_with_balanced_groups(value: bytes) -> None:
    inside = False
    for entry in addresslist.parse(value):
        if entry == END_OF_GROUP:
            assert inside
            inside = False
        elif entry.host is None:
            assert not inside
            assert entry.mailbox is not None
            inside = True
        else:
            assert entry.mailbox is not None
    assert not inside


@pytest.mark.parametrize(
    ("text", "local", "key"),
    [
        ("ann@example.org", "ann", "example.org"),
        ("Ann+x@EXAMPLE.org", "Ann+x", "example.org"),
        ("a@example.org.", "a", "example.org"),
        ('"a b"@example.org', "a b", "example.org"),
        ('"a\\"b\\\\"@example.org', 'a"b\\', "example.org"),
        ('"plain"@example.org', "plain", "example.org"),
        ("a@[192.0.2.1]", "a", "[192.0.2.1]"),
        ("a@[IPv6:2001:DB8:0::1]", "a", "[IPv6:2001:db8::1]"),
        ("a@BÜCHER.example", "a", "xn--bcher-kva.example"),
        ("a@bu\u0308cher.example", "a", "xn--bcher-kva.example"),
        ("ju\u0308rgen@example.org", "j\u00fcrgen", "example.org"),
        ("a@faß.example", "a", "xn--fa-hia.example"),
        ("a@under_score.example", "a", "under_score.example"),
        ("x" * 64 + "@example.org", "x" * 64, "example.org"),
    ],
)
def test_mailboxes(text: str, local: str, key: str) -> None:
    found = address.parse_mailbox(text)
    assert (found.local, found.domain_key) == (local, key)
    assert address.parse_mailbox(str(found)) == found
    assert address.parse_mailbox(found.key).key == found.key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ann",
        "@example.org",
        "ann@",
        "a b@example.org",
        ".a@example.org",
        "a..b@example.org",
        "a@b@c",
        '"a@example.org',
        '""@example.org',
        "a@-x.example",
        "a@x..example",
        "a@exa mple",
        "a@[1.2.3]",
        "a@[IPv6:::zz]",
        "a@[::1]",
        "a@x\r\n.example",
        "a\n@x.example",
        "a@\ud800.example",
        "x" * 65 + "@example.org",
        "a@" + "x" * 64 + ".example",
        "a@" + ".".join(["x" * 60] * 5),
        "a" * 10_000 + "@b",
    ],
)
def test_what_is_no_mailbox(text: str) -> None:
    with pytest.raises(address.AddressError):
        address.parse_mailbox(text)


def test_length_limits_are_exact() -> None:
    labels = ".".join(["x" * 61] * 3)
    fits = "a" * 64 + "@" + labels + ".yyy"
    assert len(fits) == address.MAILBOX_MAX
    address.parse_mailbox(fits)
    with pytest.raises(address.AddressError):
        address.parse_mailbox(fits + "y")


def test_utf8_needs_leave() -> None:
    with pytest.raises(address.AddressError):
        address.parse_mailbox("ü@example.org", allow_utf8=False)


def test_paths() -> None:
    assert address.parse_path("<>") is None
    assert str(address.parse_path("<a@b.example>")) == "a@b.example"
    assert str(address.parse_path("a@b.example")) == "a@b.example"
    assert str(address.parse_path("<@r.example,@s.example:a@b.example>")) == "a@b.example"
    assert str(address.parse_path("<Postmaster>", allow_postmaster=True)) == "Postmaster"
    for text in ("<Postmaster>", "<a@b.example", "", "<a@b> x"):
        with pytest.raises(address.AddressError):
            address.parse_path(text)


def test_subaddress() -> None:
    assert address.split_subaddress("ann+list+x") == ("ann", "list+x")
    assert address.split_subaddress("ann") == ("ann", None)
    assert address.split_subaddress("+ann") == ("+ann", None)
    assert address.split_subaddress("ann-x", "-") == ("ann", "x")
    assert address.split_subaddress("ann+x", "") == ("ann+x", None)


def test_display_domain() -> None:
    assert address.display_domain("xn--bcher-kva.example") == "bücher.example"
    assert address.display_domain("xn--\u0000.example") == "xn--\u0000.example"


@settings(max_examples=examples(200), deadline=None)
@given(st.one_of(st.text(max_size=40), st.text('ab."\\@[]+ü:1', max_size=30)))
def test_any_text_is_a_mailbox_or_an_address_error(text: str) -> None:
    try:
        found = address.parse_mailbox(text)
    except address.AddressError:
        return
    assert address.parse_mailbox(str(found)).key == found.key
    assert address.domain_key(found.domain_key) == found.domain_key
