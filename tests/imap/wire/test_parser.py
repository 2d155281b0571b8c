"""Commands: each form once, what is wrong said where, and no input that breaks the parser."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imap.wire import forms, writer
from imap.wire.errors import BadSyntax
from imap.wire.forms import (
    Append,
    AppendPart,
    Attribute,
    Authenticate,
    Bare,
    Copy,
    Create,
    Enable,
    Expunge,
    Fetch,
    Id,
    List,
    Login,
    OnMailbox,
    Rename,
    Search,
    Section,
    Select,
    Status,
    Store,
)
from imap.wire.limits import LIST_ITEMS, SEARCH_DEPTH, SEARCH_KEYS, SECTION_DEPTH
from imap.wire.numset import SAVED, NumSet, parse_numset
from imap.wire.parser import COMMANDS, decode_base64, parse
from tests.hurry import examples

ONE = parse_numset(b"1")


def form(text: bytes) -> forms.Form:
    return parse(b"a1 " + text).form


def refusal(text: bytes) -> BadSyntax:
    with pytest.raises(BadSyntax) as caught:
        parse(b"a1 " + text)
    assert caught.value.tag == "a1"
    return caught.value


def parsed(data: bytes) -> forms.Command | BadSyntax:
    try:
        return parse(data)
    except BadSyntax as error:
        return error


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"NOOP", Bare()),
        (b"noop  ", Bare()),
        (b'LOGIN joe "a \\"b\\\\"', Login("joe", 'a "b\\')),
        (b"LOGIN {3}\r\njoe {5+}\r\npa\r\n]", Login("joe", "pa\r\n]")),
        (b'LOGIN "jos\xc3\xa9" x]y', Login("josé", "x]y")),
        (b"AUTHENTICATE plain", Authenticate("PLAIN", None)),
        (b"AUTHENTICATE PLAIN =", Authenticate("PLAIN", b"")),
        (b"AUTHENTICATE PLAIN AGEAYg==", Authenticate("PLAIN", b"\0a\0b")),
        (b"ID NIL", Id(None)),
        (b"ID ()", Id(())),
        (b'ID ("name" "x" "os" NIL)', Id((("name", "x"), ("os", None)))),
        (b'ID ( "name" "x" )', Id((("name", "x"),))),
        (b"ENABLE CONDSTORE x-good", Enable(("CONDSTORE", "X-GOOD"))),
        (b"SELECT inBox", Select("INBOX", False)),
        (b"EXAMINE Entw&APw-rfe", Select("Entwürfe", True)),
        (b'CREATE "a b/"', Create("a b/")),
        (b"RENAME a {1}\r\nb", Rename("a", "b")),
        (b'LIST "" %/*', List("", "%/*")),
        (b'LSUB a/ "*"', List("a/", "*")),
        (b"STATUS inbox (messages UNSEEN Messages)", Status("INBOX", ("MESSAGES", "UNSEEN"))),
        (b"UID EXPUNGE 1", Expunge(ONE)),
        (b"COPY 1 Inbox", Copy(ONE, "INBOX", False)),
        (b"UID MOVE 1 x", Copy(ONE, "x", True)),
        (b"STORE 1 FLAGS ()", Store(ONE, "set", False, (), False)),
        (
            b"UID STORE 1 -flags.silent (\\sEEN \\Seen $Work $work \\Odd)",
            Store(ONE, "remove", True, ("\\Seen", "$Work", "\\Odd"), True),
        ),
        (b"STORE 1 +FLAGS \\Deleted a", Store(ONE, "add", False, ("\\Deleted", "a"), False)),
        (b"APPEND x {0}", Append("x", AppendPart((), None, 0, True))),
        (
            b'APPEND {5}\r\ninbox (\\Draft) " 1-Feb-1994 21:52:25 -0830" {310+}',
            Append(
                "INBOX",
                AppendPart(
                    ("\\Draft",),
                    datetime(1994, 2, 1, 21, 52, 25, tzinfo=timezone(-timedelta(hours=8, minutes=30))),
                    310,
                    False,
                ),
            ),
        ),
        (
            b'APPEND x "3-Feb-2025 18:28:47 +0000" {1}',
            Append("x", AppendPart((), datetime(2025, 2, 3, 18, 28, 47, tzinfo=UTC), 1, True)),
        ),
        (
            b'APPEND x "31-Dec-2016 23:59:60 +0000" {1}',
            Append("x", AppendPart((), datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC), 1, True)),
        ),
    ],
)
def test_forms(text: bytes, expected: forms.Form) -> None:
    assert form(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        b"SEARCH ALL",
        b"UID SEARCH UNSEEN (OR 1 2)",
        b"SORT (DATE) UTF-8 SEEN",
        b"ENABLE CONDSTORE",
        b"STORE 1 +FLAGS \\Seen a",
    ],
)
def test_spaces_at_the_end_are_passed_over(text: bytes) -> None:
    assert form(text + b" ") == form(text + b"   ") == form(text)


def section(label: bytes, peek: bool = False) -> Section:
    fetched = form(b"FETCH 1 " + label)
    assert isinstance(fetched, Fetch)
    (item,) = fetched.items
    assert isinstance(item, Section)
    assert item.peek is peek
    return item


def test_fetch_sections() -> None:
    assert section(b"BODY[]") == Section(False, (), "", (), None, b"BODY[]")
    assert section(b"body.peek[1.2]<5.10>", True) == Section(True, (1, 2), "", (), (5, 10), b"BODY[1.2]<5>")
    assert section(b"BODY[3.mime]") == Section(False, (3,), "MIME", (), None, b"BODY[3.MIME]")
    assert section(b"BODY[TEXT]<0.1>") == Section(False, (), "TEXT", (), (0, 1), b"BODY[TEXT]<0>")
    fields = section(b'BODY[4.HEADER.FIELDS.NOT ("subject" From)]')
    assert fields == Section(
        False, (4,), "HEADER.FIELDS.NOT", ("subject", "From"), None, b"BODY[4.HEADER.FIELDS.NOT (subject From)]"
    )
    assert section(b"RFC822") == Section(False, (), "", (), None, b"RFC822")
    assert section(b"RFC822.HEADER", True) == Section(True, (), "HEADER", (), None, b"RFC822.HEADER")
    assert section(b"RFC822.TEXT") == Section(False, (), "TEXT", (), None, b"RFC822.TEXT")
    assert section(b"rfc822.peek", True) == Section(True, (), "", (), None, b"RFC822")
    assert section(b"RFC822.TEXT.PEEK", True) == Section(True, (), "TEXT", (), None, b"RFC822.TEXT")


def test_fetch_items_and_macros() -> None:
    assert form(b"FETCH 1 FAST") == Fetch(ONE, tuple(map(Attribute, ("FLAGS", "INTERNALDATE", "RFC822.SIZE"))), False)
    assert form(b"FETCH 1 (BODY body uid)") == Fetch(ONE, (Attribute("BODY"), Attribute("UID")), False)
    assert form(b"UID FETCH 1 FLAGS") == Fetch(ONE, (Attribute("UID"), Attribute("FLAGS")), True)
    assert form(b"UID FETCH 1 (FLAGS UID)") == form(b"UID FETCH 1 (FLAGS)")


def key(text: bytes) -> forms.SearchKey:
    found = form(b"SEARCH " + text)
    assert isinstance(found, Search)
    return found.key


def test_search_keys() -> None:
    seen, unseen = forms.HasFlag("\\Seen", True), forms.HasFlag("\\Seen", False)
    recent = forms.HasFlag("\\Recent", True)
    assert key(b"all") == forms.All()
    assert key(b"(SEEN)") == seen
    assert key(b"NEW") == forms.And((recent, unseen))
    assert key(b"OLD") == forms.HasFlag("\\Recent", False)
    assert key(b"UNKEYWORD $x") == forms.HasFlag("$x", False)
    assert key(b"OR SEEN (1 UID 1)") == forms.Or(seen, forms.And((forms.InSet(ONE, False), forms.InSet(ONE, True))))
    assert key(b"NOT LARGER 10 SMALLER 20") == forms.And((forms.Not(forms.Larger(10)), forms.Smaller(20)))
    assert key(b'SENTON "1-feb-1994"') == forms.OnDate("sent", "on", date(1994, 2, 1))
    assert key(b"BEFORE 12-Dec-2020") == forms.OnDate("internal", "before", date(2020, 12, 12))
    assert key(b'HEADER X-A ""') == forms.Header("x-a", "")
    assert key(b"CHARSET utf-8 SUBJECT {3}\r\n\xe2\x82\xac") == forms.Header("subject", "€")
    assert key(b'BODY a TEXT "b c"') == forms.And((forms.Body("a"), forms.Text("b c")))


def test_search_results() -> None:
    all_, count = frozenset(("ALL",)), frozenset(("COUNT",))
    assert form(b"SEARCH RETURN () ALL") == Search(forms.All(), False, returns=forms.Return(all_))
    assert form(b"UID SEARCH RETURN (count Count) CHARSET UTF-8 ALL") == Search(
        forms.All(), True, returns=forms.Return(count), charset=True
    )
    window = forms.Window(1, 9, True, b"-9:-1")
    assert form(b"SEARCH RETURN (partial -9:-1) ALL") == Search(
        forms.All(), False, returns=forms.Return(frozenset(), window)
    )
    assert form(b"UID FETCH 1 UID (PARTIAL -9:-1)") == Fetch(ONE, (Attribute("UID"),), True, window=window)
    assert key(b"$") == forms.InSet(SAVED, False)
    assert key(b"UID $") == forms.InSet(SAVED, True)
    assert form(b"COPY $ x") == forms.Copy(SAVED, "x", False)
    assert key(b"1,$") == forms.InSet(NumSet(ONE.fixed, saved=True), False)
    for wrong in (b"$,1", b"1$", b"1,$,2", b"$:3", b"$$"):
        assert refusal(b"FETCH " + wrong + b" UID").condition == "BAD"


def test_sort_and_thread() -> None:
    everything = Search(forms.All(), False)
    criteria = (forms.Criterion("DATE", True), forms.Criterion("DISPLAYTO", False))
    assert form(b'sort (reverse date displayto reverse DATE) "us-ascii" all') == forms.Sort(everything, criteria)
    assert form(b"THREAD references utf-8 ALL") == forms.Thread(everything, "REFERENCES")
    for wrong in (b"SORT DATE UTF-8 ALL", b"SORT (REVERSE) UTF-8 ALL", b"THREAD REFS UTF-8 ALL", b"SORT (DATE) UTF-8"):
        assert refusal(wrong).condition == "BAD"


def test_search_charsets() -> None:
    # the session answers it: strings in it cannot be read
    assert form(b"SEARCH CHARSET ISO-8859-1 BODY {1}\r\n\xe9") == Search(
        forms.All(), False, known_charset=False, charset=True
    )
    assert refusal(b"SORT (DATE) ISO-8859-1").condition == "BAD"
    assert refusal(b"SEARCH CHARSET UTF-8 BODY {1}\r\n\xe9").condition == "BAD"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "Expected a space and a command name"),
        (b"FROB", "Unknown command FROB"),
        (b"UID NOOP", "Unknown command UID NOOP"),
        (b"NOOP x", "NOOP: expected the end of the command at octet 8"),
        (b"LOGIN joe", "LOGIN: expected a space at octet 13"),
        (b"LOGIN joe (", "LOGIN: expected a password at octet 14"),
        (b"LOGIN joe {5}\r\nabc", "LOGIN: expected a password at octet 14"),
        (b"LOGIN joe \xff", "LOGIN: expected a password at octet 14"),
        (b'LOGIN joe "\xff"', "LOGIN: expected a password in UTF-8 before octet 17"),
        (b"FETCH 1 (FLAGS", 'FETCH: expected ")" at octet 18'),
        (b"FETCH 1 FLAG", "FETCH: expected a FETCH item at octet 12"),
        (b"FETCH 1 BODY[MIME]", "FETCH: expected a section such as HEADER, TEXT, MIME or 1.2 at octet 17"),
        (b"FETCH 1 BODY[]<0.0>", "FETCH: expected a number of octets that is not 0 before this at octet 22"),
        (b"FETCH 0 FLAGS", "FETCH: Expected a set of message numbers such as 1,3:5 or 7:*"),
        (b"STORE 1 FLUGS ()", "STORE: expected FLAGS or FLAGS.SILENT before this at octet 17"),
        (b"APPEND x hello", "APPEND: expected the message as a literal at octet 13"),
        (b'APPEND x "99-Feb-1994 21:52:25 -0800" {1}', "expected a date and time"),
        (b'APPEND x "01-Feb-1994 00:00:00 +2400" {1}', "expected a date and time"),
        (b"SEARCH SINCE 31-Feb-2020", "SEARCH: expected a date such as 1-Feb-1994 at octet 17"),
        (b"STATUS x ()", "STATUS: expected a STATUS item at octet 14"),
        (b"AUTHENTICATE PLAIN !", "expected an initial response in base64"),
        (b"AUTHENTICATE PLAIN ab=c", "Expected a line of base64"),
        (b"SELECT a\0", "A command has no NUL octets"),
        (b"STORE 1 FLAGS " + b"k" * 129, "keyword too long"),
    ],
)
def test_what_is_wrong_is_said(text: bytes, says: str) -> None:
    assert says in refusal(text).text


def test_a_command_without_a_tag() -> None:
    for data in (b"", b" NOOP", b"+ NOOP", b"(", b"t" * 256 + b" NOOP"):
        with pytest.raises(BadSyntax) as caught:
            parse(data)
        assert caught.value.tag == "*"


def test_limits() -> None:
    # as many alternatives as some clients write, each in the right hand of an OR
    form(b"SEARCH " + b"OR FROM a " * (SEARCH_DEPTH - 1) + b"FROM b")
    nested = b"NOT " * (SEARCH_DEPTH - 1) + b"ALL"
    form(b"SEARCH " + nested)
    assert "levels" in refusal(b"SEARCH NOT " + nested).text
    assert "levels" in refusal(b"SEARCH " + b"(" * 20_000).text
    many = b" ".join([b"ALL"] * SEARCH_KEYS)
    form(b"SEARCH " + many)
    assert "keys" in refusal(b"SEARCH ALL " + many).text
    flags = b" ".join(b"f%d" % n for n in range(LIST_ITEMS))
    form(b"STORE 1 FLAGS (" + flags + b")")
    assert "members" in refusal(b"STORE 1 FLAGS (x " + flags + b")").text
    path = b".".join([b"1"] * SECTION_DEPTH)
    form(b"FETCH 1 BODY[" + path + b"]")
    assert "part path" in refusal(b"FETCH 1 BODY[1." + path + b"]").text


WORDS = [name.encode() for name in COMMANDS]
WORDS += (
    b'UID ( ) [ ] < > "a" {1}\r\nx {9}\r\n {3+} 1:* 1,2 FLAGS +FLAGS BODY[ BODY.PEEK[ HEADER.FIELDS TEXT 1.2'.split()
)
WORDS += b"OR NOT SINCE 1-Feb-1994 CHARSET UTF-8 KEYWORD \\Seen INBOX &AOk- & * % NIL = FULL <0.1> \xff \0".split(b" ")
WORDS += b"RETURN (SAVE) PARTIAL -1:-2 REVERSE DATE REFERENCES $".split(b" ")
WORDS += b"FUZZY RELEVANCY BINARY[1] BINARY.SIZE[ BINARY.PEEK[] ~{1+} UTF8 (~{1} )".split(b" ")


@given(st.lists(st.sampled_from(WORDS), max_size=12), st.sampled_from([b" ", b""]))
@settings(max_examples=examples(200))
def test_any_words_are_a_form_or_bad_syntax(words: list[bytes], between: bytes) -> None:
    outcome = parsed(b"t " + between.join(words))
    if isinstance(outcome, BadSyntax):
        assert outcome.tag in ("t", "*")
        assert outcome.text
    else:
        assert outcome.tag == "t"
        assert outcome.name in COMMANDS


@given(st.binary(max_size=80))
@settings(max_examples=examples(200))
def test_any_octets_are_a_form_or_bad_syntax(octets: bytes) -> None:
    for prefix in (b"", b"t ", b"t UID FETCH ", b"t SEARCH ", b"t APPEND "):
        outcome = parsed(prefix + octets)
        assert outcome.tag in ("t", "*") or prefix == b""


@given(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40),
    st.text("ab/ é&", min_size=1),
)
@settings(max_examples=examples(200))
def test_what_the_writer_writes_the_parser_reads(password: str, mailbox: str) -> None:
    assert form(b"LOGIN u " + writer.string(password)) == Login("u", password)
    assert form(b"LOGIN u " + writer.astring(password)) == Login("u", password)
    assert form(b"DELETE " + writer.mailbox(mailbox)) == OnMailbox(mailbox)


@pytest.mark.parametrize("fill", [b"(", b'"', b"\\", b"1,", b"1.", b"a ", b"NOT ", b"{1}\r\n", b"&", b"-", b"*"])
@pytest.mark.parametrize(
    "command", [b"SEARCH ", b"FETCH 1 (", b"FETCH 1 BODY[", b"LIST ", b'LOGIN "', b"STORE 1 FLAGS ("]
)
def test_long_nonsense_costs_little(command: bytes, fill: bytes) -> None:
    began = time.process_time()
    with pytest.raises(BadSyntax):
        parse(b"t " + command + fill * (250_000 // len(fill)))
    assert time.process_time() - began < 5


def test_base64() -> None:
    assert decode_base64(b"") == b""
    assert decode_base64(b"YQ==") == b"a"
    for line in (b"YQ=", b"Y Q=", b"====", b"YQ==YQ==", b"\xff\xff\xff\xff", b"*"):
        with pytest.raises(BadSyntax):
            decode_base64(line)


def test_inbox_in_any_case_and_nothing_that_looks_like_it() -> None:
    for name in (b"INBOX", b"inbox", b'"InBox"', b"{5}\r\niNBOX"):
        assert form(b"DELETE " + name) == OnMailbox("INBOX")
    # a dotless i is another letter, though its capital is I
    assert form(b"DELETE &ATE-nbox") == OnMailbox("\u0131nbox")
