"""CATENATE, the URLs in it, REPLACE, and quotas: parsed, and never anything but a value or BadSyntax."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imap.wire.errors import BadSyntax
from imap.wire.forms import (
    Append,
    AppendPart,
    Catenation,
    CatLiteral,
    CatUrl,
    GetQuota,
    InSet,
    OnMailbox,
    Replace,
    Search,
    SetQuota,
)
from imap.wire.imapurl import URL_MAX, MessageUrl, parse_url
from imap.wire.numset import LARGEST, Ranges
from imap.wire.parse_catenate import parse_catenation_further
from imap.wire.parse_fetch import parse_section
from imap.wire.parser import parse

TEXT, UTF8 = CatLiteral(3, False, False), CatLiteral(3, False, False, utf8=True)

URL = st.text(st.characters(codec="ascii", exclude_characters='\r\n\0"\\'), min_size=1, max_size=30)


def catenation(line: bytes) -> Catenation:
    form = parse(b"a APPEND Drafts CATENATE (" + line).form
    assert isinstance(form, Append)
    assert form.first.catenation is not None
    return form.first.catenation


def test_parts_of_one_line() -> None:
    assert catenation(b'URL "/a/;UID=1" url b TEXT {5}') == Catenation(
        (CatUrl("/a/;UID=1"), CatUrl("b"), CatLiteral(5, True, False)), None
    )
    assert catenation(b"URL {7+}") == Catenation((CatLiteral(7, False, True),), None)
    assert catenation(b"URL x) (\\Seen) {3}") == Catenation((CatUrl("x"),), b" (\\Seen) {3}")


def test_text_in_a_literal8() -> None:
    # RFC 6855 §4
    assert catenation(b"UTF8 (~{3+}") == Catenation((UTF8,), None)
    assert catenation(b"URL x utf8 (~{3+}") == Catenation((CatUrl("x"), UTF8), None)
    assert parse_catenation_further(b"))", UTF8) == Catenation((), b"")
    assert parse_catenation_further(b") TEXT {3+}", UTF8) == Catenation((TEXT,), None)
    assert parse_catenation_further(b" UTF8 (~{3+}", TEXT) == Catenation((UTF8,), None)
    for bad in (b"UTF8 ({3+}", b"UTF8 ~{3+}", b"TEXT ~{3+}", b"TEXT (~{3+}", b"UTF8 (~x", b"URL (~{3+}"):
        with pytest.raises(BadSyntax):
            catenation(bad)
    for bad in (b"", b")", b" )", b" TEXT {3+}", b")TEXT {3+}"):
        with pytest.raises(BadSyntax):
            parse_catenation_further(bad, UTF8)


def test_parts_behind_a_literal() -> None:
    assert parse_catenation_further(b")", TEXT) == Catenation((), b"")
    assert parse_catenation_further(b" URL x TEXT {0}", TEXT) == Catenation(
        (CatUrl("x"), CatLiteral(0, True, False)), None
    )
    for bad in (b"", b" ", b"x", b" )", b" TEXT x", b" TEXT {1}x", b" OTHER x)", b" URL", b" URL x\0)", b" URL {1}) "):
        with pytest.raises(BadSyntax):
            parse_catenation_further(bad, TEXT)


@given(st.lists(URL, min_size=1, max_size=8), st.none() | st.integers(0, 2**40), st.binary(max_size=20))
def test_what_was_written_is_read(urls: list[str], size: int | None, rest: bytes) -> None:
    rest = rest.replace(b"\0", b"")
    line = b" ".join(b'URL "%b"' % url.encode() for url in urls)
    pieces: tuple[CatUrl | CatLiteral, ...] = tuple(map(CatUrl, urls))
    if size is None:
        assert parse_catenation_further(b" " + line + b")" + rest, TEXT) == Catenation(pieces, rest)
    else:
        wanted = Catenation((*pieces, CatLiteral(size, False, False)), None)
        assert parse_catenation_further(b" " + line + b" TEXT {%d+}" % size, TEXT) == wanted


@given(st.binary(max_size=60))
def test_any_line_gives_a_value_or_bad_syntax(line: bytes) -> None:
    readers = (
        lambda text: parse_catenation_further(text, TEXT),
        lambda text: parse_catenation_further(text, UTF8),
        parse_section,
        lambda text: parse(b"a " + text),
        lambda text: parse(b"a APPEND Drafts CATENATE (" + text),
    )
    for read in readers:
        with contextlib.suppress(BadSyntax):
            read(line)


# --- URLs ---


def test_urls_of_messages_and_parts() -> None:
    whole = parse_section(b"")
    assert parse_url("/INBOX/;UID=20") == MessageUrl("INBOX", None, 20, whole)
    assert parse_url("/inbox;uidvalidity=3/;uid=20") == MessageUrl("INBOX", 3, 20, whole)
    assert parse_url(";UID=5/;section=1.2.MIME") == MessageUrl(None, None, 5, parse_section(b"1.2.MIME"))
    fields = parse_url("/a%2Fb%20%C3%BC/c;UIDVALIDITY=1/;UID=1/;SECTION=HEADER.FIELDS%20(To%20Cc)")
    assert (fields.mailbox, fields.section.fields) == ("a/b ü/c", ("To", "Cc"))
    assert parse_url("/x/;UID=1/;PARTIAL=7.9").section.partial == (7, 9)
    start = parse_url("/x/;UID=1/;SECTION=TEXT/;PARTIAL=7").section.partial
    assert start is not None
    assert start[0] == 7
    assert start[1] > 2**60


@pytest.mark.parametrize(
    "url",
    [
        *("", "/", "/INBOX", ";UID=0", "/;UID=1", "INBOX/;UID=1", "/INBOX;UID=1", "/INBOX/;UID=4294967296"),
        *("/a/;UID=1/", "/a/;UID=1/;SECTION=", "/a/;UID=1/;SECTION=x", "/a/;UID=1/;SECTION=1]", "/a b/;UID=1"),
        *("/a;UIDVALIDITY=0/;UID=1", "/a%00/;UID=1", "/a%FF/;UID=1", "/a%2/;UID=1", "/a/;UID=1;URLAUTH=x:internal:y"),
        *("imap://u@h/INBOX/;UID=1", "http://h/;UID=1", "/a/;UID=1/;PARTIAL=1.0", "/a/;UID=1/;SECTION=1%0D"),
        "/" + "a" * URL_MAX + "/;UID=1",
    ],
)
def test_what_is_no_such_url(url: str) -> None:
    with pytest.raises(BadSyntax):
        parse_url(url)


@given(
    st.text(max_size=60) | st.from_regex(r"(/[a-z%/;=]{0,9})?(;UIDVALIDITY=[0-9]{0,3})?/?;UID=[0-9]{1,3}[/;A-Z=.0-9]*")
)
def test_any_url_gives_a_value_or_bad_syntax(url: str) -> None:
    try:
        found = parse_url(url)
    except BadSyntax:
        return
    assert 1 <= found.uid <= LARGEST


def test_a_long_url_costs_no_more_than_its_length() -> None:
    # each of these would let a pattern that goes back try every split of it
    for url in ("/" + "a/" * 4000, "/" + ";UID=1" * 1300, "/a/;UID=1/;SECTION=" + "1." * 4000, "%41" * 2700):
        with pytest.raises(BadSyntax):
            parse_url(url)


# --- REPLACE, quotas, UIDAFTER ---


def test_replace() -> None:
    part = AppendPart(("\\Seen",), None, 5, True)
    assert parse(b"a REPLACE 3 Drafts (\\Seen) {5}").form == Replace(3, "Drafts", part, False)
    assert parse(b"a UID REPLACE * INBOX (\\Seen) {5}").form == Replace(None, "INBOX", part, True)
    for bad in (b"REPLACE 0 a {1}", b"REPLACE 1,2 a {1}", b"REPLACE 1:* a {1}", b"REPLACE 1 a", b"REPLACE $ a {1}"):
        with pytest.raises(BadSyntax):
            parse(b"a " + bad)


def test_quotas() -> None:
    assert parse(b'a GETQUOTA ""').form == GetQuota("")
    assert parse(b"a GETQUOTAROOT inbox").form == OnMailbox("INBOX")
    assert parse(b"a SETQUOTA {1}\r\nx (storage 5 MESSAGE 0)").form == SetQuota("x", (("STORAGE", 5), ("MESSAGE", 0)))
    assert parse(b"a SETQUOTA x ()").form == SetQuota("x", ())
    for bad in (b"SETQUOTA x (STORAGE -1)", b"SETQUOTA x (STORAGE 1", b"SETQUOTA x STORAGE 1", b"GETQUOTA a b"):
        with pytest.raises(BadSyntax):
            parse(b"a " + bad)


@given(
    st.text(max_size=20).filter(lambda text: "\0" not in text),
    st.dictionaries(st.from_regex(r"[A-Z][A-Z0-9-]{0,9}", fullmatch=True), st.integers(0, 2**63 - 1), max_size=4),
)
def test_a_quota_that_was_written_is_read(root: str, limits: dict[str, int]) -> None:
    octets = root.encode("utf-8", "surrogatepass")
    try:
        octets.decode()
    except UnicodeDecodeError:
        return
    listed = " ".join(f"{name} {limit}" for name, limit in limits.items()).encode()
    line = b"a SETQUOTA {%d}\r\n%b (%b)" % (len(octets), octets, listed)
    assert parse(line).form == SetQuota(root, tuple(limits.items()))


@given(st.integers(0, LARGEST))
def test_uidafter_and_uidbefore_leave_out_the_uid_itself(uid: int) -> None:
    sets = []
    for name in (b"UIDBEFORE", b"UIDAFTER"):
        form = parse(b"a UID SEARCH %b %d" % (name, uid)).form
        assert isinstance(form, Search)
        assert isinstance(form.key, InSet)
        assert form.key.uid
        sets.append(form.key.numset.fixed)
    before, after = sets
    assert uid not in before
    assert uid not in after
    assert before == Ranges(((1, uid - 1),) if uid > 1 else ())
    assert after == Ranges(((uid + 1, LARGEST),) if uid < LARGEST else ())
