"""GETMETADATA, SETMETADATA and the entries of LIST: what is written is read, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imap.wire import write_metadata
from imap.wire.errors import BadSyntax
from imap.wire.forms import List
from imap.wire.forms_metadata import GetMetadata, SetMetadata
from imap.wire.parser import parse
from imap.wire.writer import astring, literal

LETTERS = "".join(chr(n) for n in range(0x20, 0x7F) if chr(n) not in "*%/")
ENTRIES = st.lists(st.text(LETTERS, min_size=1, max_size=6), min_size=1, max_size=4).flatmap(
    lambda parts: st.sampled_from(("/private", "/shared", "/PRIVATE")).map(lambda top: "/".join((top, *parts)))
)
VALUES = st.none() | st.binary(max_size=40)


def _written(value: bytes | None) -> bytes:
    if value is None:
        return b"NIL"
    return b"~" + literal(value) if b"\0" in value else literal(value)


@given(st.dictionaries(ENTRIES, VALUES, min_size=1, max_size=5))
def test_values(values: dict[str, bytes | None]) -> None:
    once = {entry.lower(): (entry, value) for entry, value in values.items()}
    pairs = b" ".join(astring(entry) + b" " + _written(value) for entry, value in once.values())
    form = parse(b"a SETMETADATA INBOX (" + pairs + b")").form
    assert form == SetMetadata("INBOX", tuple(once.values()))
    # What the server writes is what a client would.
    assert write_metadata.values("INBOX", once.values()).startswith(b"* METADATA INBOX (")


@given(st.lists(ENTRIES, min_size=1, max_size=5), st.none() | st.integers(0, 2**32 - 1), st.sampled_from("01i"))
def test_what_is_asked(entries: list[str], largest: int | None, depth: str) -> None:
    depth = "infinity" if depth == "i" else depth
    options = [b"DEPTH " + depth.encode()] + ([] if largest is None else [b"MAXSIZE %d" % largest])
    named = b"(" + b" ".join(map(astring, entries)) + b")"
    once = tuple({entry.lower(): entry for entry in reversed(entries)}.values())
    for command in (b"(%b) Sent %b", b"Sent (%b) %b"):
        arguments = (b" ".join(options), named)
        form = parse(b"a getmetadata " + command % arguments).form
        assert isinstance(form, GetMetadata)
        assert (form.mailbox, form.largest, form.depth) == ("Sent", largest, depth)
        assert {entry.lower() for entry in form.entries} == {entry.lower() for entry in once}
    listed = parse(b'a LIST "" * RETURN (METADATA ' + named + b" CHILDREN)").form
    assert isinstance(listed, List)
    assert listed.options is not None
    assert listed.options.metadata == form.entries
    assert listed.options.returns == {"CHILDREN"}


@given(st.sampled_from((b"GETMETADATA ", b"SETMETADATA ")), st.binary(max_size=60))
def test_anything_is_a_form_or_bad_syntax(name: bytes, octets: bytes) -> None:
    try:
        form = parse(b"a " + name + octets).form
    except BadSyntax:
        return
    assert isinstance(form, GetMetadata | SetMetadata)


@pytest.mark.parametrize(
    "line",
    [
        b'SETMETADATA INBOX (/shared/a "x\0")',
        b"SETMETADATA INBOX (/shared/a ~NIL)",
        b'SETMETADATA INBOX (/shared/a ~"x")',
        b"SETMETADATA INBOX ()",
        b'SETMETADATA INBOX /shared/a "x"',
        b"SETMETADATA INBOX (/shared/a ~{2}\r\n\0\0 /shared/b {1}\r\n\0)",
        b'SETMETADATA "a\0" (/shared/a "x")',
        b"GETMETADATA INBOX ()",
        b"GETMETADATA INBOX /Shared\xc3\xa9/x",
        b"GETMETADATA () INBOX /shared/x",
        b"GETMETADATA (DEPTH) INBOX /shared/x",
        b'LIST "" * RETURN (METADATA)',
        b'LIST "" * RETURN (METADATA (' + b" ".join(b"/shared/%d" % n for n in range(101)) + b"))",
    ],
)
def test_what_is_wrong(line: bytes) -> None:
    with pytest.raises(BadSyntax):
        parse(b"a " + line)


def test_nul_is_in_no_other_command() -> None:
    with pytest.raises(BadSyntax, match="no NUL"):
        parse(b"a LOGIN a ~{1}\r\n\0")
