"""SETACL, DELETEACL, LISTRIGHTS and the responses of ACL (RFC 4314 §7)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imap.wire import write_acl, writer
from imap.wire.errors import BadSyntax
from imap.wire.forms_acl import OnIdentifier, SetAcl
from imap.wire.parser import parse


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), min_size=1, max_size=40),
    st.sampled_from(("", "+", "-")),
    st.text("lrswipkxteacdQ1", max_size=12),
)
def test_what_is_written_is_read(identifier: str, sign: str, rights: str) -> None:
    said = b"t SETACL INBOX %b %b" % (writer.astring(identifier), writer.astring(sign + rights))
    mode = {"": "set", "+": "add", "-": "remove"}[sign]
    assert parse(said).form == SetAcl("INBOX", identifier, mode, rights)  # type: ignore[arg-type]
    assert parse(b"t DELETEACL INBOX " + writer.astring(identifier)).form == OnIdentifier("INBOX", identifier)


@given(st.binary(max_size=60))
def test_any_octets_are_a_form_or_bad_syntax(rest: bytes) -> None:
    for name in (b"SETACL", b"DELETEACL", b"LISTRIGHTS", b"GETACL", b"MYRIGHTS"):
        try:
            parse(b"t %b %b" % (name, rest.replace(b"{", b"")))
        except BadSyntax:
            continue


@pytest.mark.parametrize(
    "said",
    [
        b"t SETACL INBOX ann",
        b"t SETACL INBOX ann lr more",
        b't SETACL INBOX "" lr',
        b"t LISTRIGHTS INBOX",
        b"t DELETEACL INBOX " + b"x" * 1025,
        b"t GETACL",
        b"t MYRIGHTS INBOX ann",
    ],
)
def test_what_is_no_command(said: bytes) -> None:
    with pytest.raises(BadSyntax):
        parse(said)


def test_responses() -> None:
    pairs = [("ann@example.org", "lr"), ("a b", "")]
    assert write_acl.acl("Entwürfe", pairs) == b'* ACL Entw&APw-rfe ann@example.org lr "a b" ""\r\n'
    assert write_acl.acl("Entwürfe", [], utf8=True) == '* ACL "Entwürfe"\r\n'.encode()
    assert write_acl.list_rights("INBOX", "nil", "", ["l", "rs"]) == b'* LISTRIGHTS INBOX "nil" "" l rs\r\n'
    assert write_acl.my_rights("INBOX", "lr") == b"* MYRIGHTS INBOX lr\r\n"
