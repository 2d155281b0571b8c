"""What IMAP4rev2, UTF8=ACCEPT, BINARY and SEARCH=FUZZY add to the grammar, both ways."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imap.wire import forms, writer
from imap.wire.errors import BadSyntax
from imap.wire.forms import Append, AppendPart, Attribute, Binary, BinarySize, Fetch, Form, Fuzzy, Header, Search, Sort
from imap.wire.framer import CommandEnd, Framer, LiteralChunk, LiteralStart
from imap.wire.limits import SIGNED_IN
from imap.wire.parse_append import parse_append_part
from imap.wire.parser import parse, parsed

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), min_size=1, max_size=40)


def form(text: bytes, *, utf8: bool = True) -> Form:
    return parse(b"t " + text, utf8=utf8).form


def refused(text: bytes, *, utf8: bool = True) -> BadSyntax:
    with pytest.raises(BadSyntax) as caught:
        form(text, utf8=utf8)
    return caught.value


# --- names ---


@given(NAMES)
def test_names_come_back(name: str) -> None:
    told = writer.mailbox(name, utf8=True)
    expected = "INBOX" if name.isascii() and name.upper() == "INBOX" else name
    assert form(b"DELETE " + told) == forms.OnMailbox(expected)
    # RFC 9051 Appendix A: UTF-8 is quoted for those alone who have enabled it
    assert writer.mailbox(name).isascii()


@given(NAMES)
def test_a_pattern_is_composed(name: str) -> None:
    listed = form(b'LIST "" ' + writer.mailbox(name, utf8=True))
    assert isinstance(listed, forms.List)
    assert listed.pattern == unicodedata.normalize("NFC", name)


def test_what_is_too_long_for_a_name_is_not_composed() -> None:
    # it would take time quadratic in the number of marks
    marks = "a" + "\u0315\u0300" * 512
    listed = form(b'LIST "" {%d}\r\n%b' % (len(marks.encode()), marks.encode()))
    assert isinstance(listed, forms.List)
    assert listed.pattern == marks != unicodedata.normalize("NFC", marks)


def test_names_in_utf8_or_modified_utf7() -> None:
    assert writer.mailbox("R&D é", utf8=True) == '"R&D é"'.encode()
    assert writer.mailbox("R&D", utf8=True) == b"R&D"
    assert writer.mailbox('é"\\', utf8=True) == '"é\\"\\\\"'.encode()
    assert writer.mailbox("é" * 600, utf8=True).startswith(b"{1200}\r\n")
    assert form(b"DELETE R&D") == forms.OnMailbox("R&D")
    assert form(b"DELETE Entw&APw-rfe") == forms.OnMailbox("Entw&APw-rfe")
    assert form(b"DELETE Entw&APw-rfe", utf8=False) == forms.OnMailbox("Entwürfe")
    assert form('DELETE "Entwürfe"'.encode(), utf8=False) == forms.OnMailbox("Entwürfe")
    assert form('DELETE "é&-"'.encode(), utf8=False) == forms.OnMailbox("é&-")
    assert form(b"DELETE {2}\r\n\xc3\xa9") == forms.OnMailbox("é")


@pytest.mark.parametrize("utf8", [True, False])
@pytest.mark.parametrize("octets", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"a\xc0\x80", b"\xf4\x90\x80\x80"])
def test_what_is_not_utf8_is_refused(octets: bytes, utf8: bool) -> None:
    # RFC 6855 §3
    for text in (b'DELETE "%b"', b'SEARCH SUBJECT "%b"', b'ID ("x" "%b")', b'LIST "" "%b"'):
        assert refused(text % octets, utf8=utf8).condition == "BAD"
    assert refused(b"DELETE {%d}\r\n%b" % (len(octets), octets), utf8=utf8).condition == "BAD"


@given(st.binary(max_size=60), st.booleans())
def test_any_octets_have_an_answer(octets: bytes, utf8: bool) -> None:
    for verb in (b"LIST ", b"APPEND ", b"FETCH 1 ", b"SEARCH ", b"SORT "):
        parsed(b"t " + verb + octets, utf8=utf8)


def test_lines_with_names() -> None:
    assert writer.list_line("LIST", ["\\NonExistent"], "é", old_name="e\u0301", utf8=True) == (
        '* LIST (\\NonExistent) "/" "é" ("OLDNAME" ("e\u0301"))\r\n'.encode()
    )
    both = writer.list_line("LIST", [], "a", child_info=["SUBSCRIBED"], old_name="b")
    assert both == b'* LIST () "/" a ("CHILDINFO" ("SUBSCRIBED") "OLDNAME" (b))\r\n'
    assert writer.status("é", [("MESSAGES", 1)], utf8=True) == '* STATUS "é" (MESSAGES 1)\r\n'.encode()
    assert writer.status("é", [("MESSAGES", 1)]) == b"* STATUS &AOk- (MESSAGES 1)\r\n"


# --- APPEND ---


def test_append_of_literal8() -> None:
    assert form(b"APPEND x ~{5+}") == Append("x", AppendPart((), None, 5, False, binary=True))
    part = AppendPart(("\\Seen",), None, 5, True, binary=True, utf8=True)
    assert form(b"APPEND x (\\Seen) utf8 (~{5}") == Append("x", part)
    assert refused(b"APPEND x UTF8 ({5}").condition == "BAD"
    assert parse_append_part(b")", part) is None
    assert parse_append_part(b") ~{3+}", part) == AppendPart((), None, 3, False, binary=True)
    assert parse_append_part(b" {3+}", AppendPart((), None, 5, True)) == AppendPart((), None, 3, False)
    for rest in (b"", b" ", b" )", b"x)", b")x", b")\0"):
        with pytest.raises(BadSyntax):
            parse_append_part(rest, part)


def test_a_literal8_is_streamed() -> None:
    framer = Framer(SIGNED_IN)
    framer.feed(b"t APPEND x UTF8 (~{3+}\r\na\0b)\r\n")
    start = framer.next_event()
    assert start == LiteralStart(b"t APPEND x UTF8 (~{3+}", 3, False)
    framer.accept()
    assert framer.next_event() == LiteralChunk(b"a\0b")
    assert framer.next_event() == CommandEnd(b")")


# --- FETCH ---


@given(st.lists(st.integers(1, 99), max_size=5), st.none() | st.tuples(st.integers(0, 2**63 - 1), st.integers(1, 9)))
def test_binary_items(path: list[int], partial: tuple[int, int] | None) -> None:
    section = b"[%b]" % b".".join(b"%d" % number for number in path)
    asked = b"" if partial is None else b"<%d.%d>" % partial
    told = section + (b"" if partial is None else b"<%d>" % partial[0])
    fetch = form(b"FETCH 1 (BINARY%b%b binary.peek%b%b BINARY.SIZE%b)" % (section, asked, section, asked, section))
    assert isinstance(fetch, Fetch)
    assert fetch.items == (
        Binary(False, tuple(path), partial, b"BINARY" + told),
        Binary(True, tuple(path), partial, b"BINARY" + told),
        BinarySize(tuple(path), b"BINARY.SIZE" + section),
    )


@pytest.mark.parametrize(
    "item", [b"BINARY", b"BINARY.PEEK", b"BINARY[HEADER]", b"BINARY[1.TEXT]", b"BINARY.SIZE[1]<0.1>", b"BINARY[1]<0.0>"]
)
def test_what_is_no_binary_item(item: bytes) -> None:
    assert refused(b"FETCH 1 " + item).condition == "BAD"


def test_literals_with_and_without_nul() -> None:
    assert writer.literal8_head(b"BINARY[1]", 3, True) == b"BINARY[1] ~{3}\r\n"
    assert writer.literal8_head(b"BINARY[1]", 3, False) == b"BINARY[1] {3}\r\n"
    assert form(b"UID FETCH 1 BINARY.SIZE[1]") == Fetch(
        form(b"UID FETCH 1 UID").numset,  # type: ignore[union-attr]  # a Fetch
        (Attribute("UID"), BinarySize((1,), b"BINARY.SIZE[1]")),
        True,
    )


# --- SEARCH ---


def test_fuzzy_keys() -> None:
    subject = Header("subject", "x")
    assert form(b"SEARCH FUZZY SUBJECT x") == Search(Fuzzy(subject), False)
    assert form(b"SEARCH fuzzy (SUBJECT x SEEN)") == Search(
        Fuzzy(forms.And((subject, forms.HasFlag("\\Seen", True)))), False
    )
    relevancy = forms.Return(frozenset(("RELEVANCY",)))
    assert form(b"SEARCH RETURN (RELEVANCY) NOT FUZZY SUBJECT x") == Search(
        forms.Not(Fuzzy(subject)), False, returns=relevancy
    )
    assert form(b"SORT (REVERSE RELEVANCY) UTF-8 FUZZY SUBJECT x") == Sort(
        Search(Fuzzy(subject), False), (forms.Criterion("RELEVANCY", True),)
    )
    # RFC 6203 §4, §6
    assert refused(b"SEARCH RETURN (RELEVANCY) SUBJECT x").condition == "BAD"
    assert refused(b"SORT (RELEVANCY) UTF-8 SUBJECT x").condition == "BAD"
    assert refused(b"SEARCH FUZZY").condition == "BAD"


def test_depth_of_fuzzy_is_bounded() -> None:
    assert "levels" in refused(b"SEARCH " + b"FUZZY " * 2000 + b"ALL").text


def test_sizes_have_63_bits() -> None:
    assert form(b"SEARCH LARGER 9223372036854775807") == Search(forms.Larger(2**63 - 1), False)
    assert refused(b"SEARCH SMALLER 9223372036854775808").condition == "BAD"
