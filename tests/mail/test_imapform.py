"""ENVELOPE, BODY and BODYSTRUCTURE on the wire: worked examples and any bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mail import imapform, parts
from mail.headers import parse as parse_headers
from mail.structure import parse
from tests.hurry import examples


def envelope(*lines: bytes) -> bytes:
    return imapform.envelope(parse_headers(b"\r\n".join(lines) + b"\r\n\r\n"))


def test_envelope_of_rfc_3501() -> None:
    # the FETCH example of RFC 3501 §8
    found = envelope(
        b"Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)",
        b"From: Terry Gray <gray@cac.washington.edu>",
        b"Subject: IMAP4rev1 WG mtg summary and minutes",
        b"To: imap@cac.washington.edu",
        b"cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>",
        b"Message-Id: <B27397-0100000@cac.washington.edu>",
    )
    gray = b'(("Terry Gray" NIL "gray" "cac.washington.edu"))'
    assert found == (
        b'("Wed, 17 Jul 1996 02:23:25 -0700 (PDT)" "IMAP4rev1 WG mtg summary and minutes" '
        + b" ".join([gray] * 3)
        + b' ((NIL NIL "imap" "cac.washington.edu"))'
        b' ((NIL NIL "minutes" "CNRI.Reston.VA.US")("John Klensin" NIL "KLENSIN" "MIT.EDU")) NIL NIL'
        b' "<B27397-0100000@cac.washington.edu>")'
    )


def test_envelope_of_nothing() -> None:
    assert envelope() == b"(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"
    assert envelope(b"Subject:", b"From:").startswith(b'(NIL "" NIL')


def test_groups_routes_and_defaults() -> None:
    found = envelope(b"From: <@a.x,@b.x:u@d.x>", b"To: Team: a@x, B <b@x>;, c@x", b"Sender: ", b"Reply-To: r@x")
    author = b'((NIL "@a.x,@b.x" "u" "d.x"))'
    assert found == (
        b"(NIL NIL " + author + b" " + author + b' ((NIL NIL "r" "x")) '
        b'((NIL NIL "Team" NIL)(NIL NIL "a" "x")("B" NIL "b" "x")(NIL NIL NIL NIL)(NIL NIL "c" "x")) NIL NIL NIL NIL)'
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", b'""'),
        (b"plain", b'"plain"'),
        (b'a "b" \\c', b'"a \\"b\\" \\\\c"'),
        ("grün".encode(), "{5}\r\ngrün".encode()),
        (b"a\r\nb", b"{4}\r\na\r\nb"),
        (b"a\0b", b"{3}\r\na\x80b"),
        (b"NIL", b'"NIL"'),
        (b"\t\x7f", b'"\t\x7f"'),
    ],
)
def test_strings(value: bytes, expected: bytes) -> None:
    assert imapform.string(value) == expected


def test_text_for_people_is_tidied() -> None:
    assert b' "a b c" ' in envelope(b"Subject:  a \t b\r\n\tc  ")


RFC_3501_EXAMPLE = (
    b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: TEXT/PLAIN; CHARSET=US-ASCII\r\n\r\n" + b"x" * 10 + b"\r\n\r\n"
    b"--b\r\nContent-Type: TEXT/PLAIN; CHARSET=US-ASCII; NAME=cc.diff\r\n"
    b"Content-ID: <960723163407.20117h@cac.washington.edu>\r\nContent-Description: Compiler diff\r\n"
    b"Content-Transfer-Encoding: BASE64\r\n\r\nAAAA\r\n--b--\r\n"
)


def test_body_as_in_rfc_3501() -> None:
    # the shape of RFC 3501 §7.4.2, BODYSTRUCTURE
    part = parse(RFC_3501_EXAMPLE)
    assert imapform.structures(part).body == (
        b'(("TEXT" "PLAIN" ("CHARSET" "US-ASCII") NIL NIL "7bit" 12 1)'
        b'("TEXT" "PLAIN" ("CHARSET" "US-ASCII" "NAME" "cc.diff") "<960723163407.20117h@cac.washington.edu>"'
        b' "Compiler diff" "BASE64" 4 0) "mixed")'
    )
    assert imapform.structures(part).bodystructure == (
        b'(("TEXT" "PLAIN" ("CHARSET" "US-ASCII") NIL NIL "7bit" 12 1 NIL NIL NIL NIL)'
        b'("TEXT" "PLAIN" ("CHARSET" "US-ASCII" "NAME" "cc.diff") "<960723163407.20117h@cac.washington.edu>"'
        b' "Compiler diff" "BASE64" 4 0 NIL NIL NIL NIL) "mixed" ("boundary" "b") NIL NIL NIL)'
    )


def test_extension_data() -> None:
    raw = (
        b"MIME-Version: 1.0\r\nContent-Type: application/pdf; name*0=a; name*1=b\r\nContent-MD5: xyz==\r\n"
        b'Content-Disposition: attachment; filename="a b"\r\nContent-Language: en, de-CH (Swiss)\r\n'
        b"Content-Location: http://x/\r\n\r\nabc"
    )
    assert imapform.structures(parse(raw)).bodystructure == (
        b'("application" "pdf" ("name" "ab") NIL NIL "7bit" 3 "xyz==" ("attachment" ("filename" "a b"))'
        b' ("en" "de-CH") "http://x/")'
    )


def test_a_message_in_a_message() -> None:
    raw = b"Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\none\r\ntwo\r\n"
    assert imapform.structures(parse(raw)).body == (
        b'("message" "rfc822" NIL NIL NIL "7bit" 25 (NIL "in" NIL NIL NIL NIL NIL NIL NIL NIL)'
        b' ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 10 2) 4)'
    )


def test_an_international_message_in_a_message() -> None:
    # RFC 9051 §9: body-type-msg for MESSAGE/GLOBAL too
    raw = "Content-Type: Message/Global\r\n\r\nSubject: ü\r\n\r\none\r\ntwo\r\n".encode()
    part = parse(raw)
    assert part.is_message
    assert (
        imapform.structures(part).body
        == (
            '("message" "global" NIL NIL NIL "7bit" 25 (NIL {2}\r\nü NIL NIL NIL NIL NIL NIL NIL NIL)'
            ' ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 10 2) 4)'
        ).encode()
    )
    rows = parts.table(part)
    assert [row.kind for row in rows] == [parts.MESSAGE, parts.LEAF]
    assert raw[slice(*parts.locate(rows, (1,), "HEADER") or (0, 0))] == "Subject: ü\r\n\r\n".encode()
    assert raw[slice(*parts.locate(rows, (1, 1)) or (0, 0))] == b"one\r\ntwo\r\n"
    basic = b"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n"
    assert imapform.structures(parse(basic)).body == b'("message" "delivery-status" NIL NIL NIL "7bit" 23)'


def test_a_multipart_without_parts_has_one_empty_text() -> None:
    part = parse(b"Content-Type: multipart/mixed\r\n\r\nx")
    assert imapform.structures(part).body == b'(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0) "mixed")'
    assert imapform.structures(part).bodystructure == (
        b'(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL) "mixed" NIL NIL NIL NIL)'
    )


def scan(wire: bytes) -> None:
    """Fails when these bytes are not one value of the grammar: lists, quoted strings, literals, NIL, numbers."""
    at, level = 0, 0
    while at < len(wire):
        byte = wire[at : at + 1]
        if byte == b"(":
            level += 1
        elif byte == b")":
            level -= 1
            assert level > 0 or at == len(wire) - 1
        elif byte == b'"':
            at += 1
            while wire[at : at + 1] != b'"':
                at += 1 if wire[at : at + 1] == b"\\" else 0
                assert wire[at] not in b"\r\n\0"
                assert wire[at] < 0x80
                at += 1
        elif byte == b"{":
            end = wire.index(b"}\r\n", at)
            size = int(wire[at + 1 : end])
            assert b"\0" not in wire[end + 3 : end + 3 + size]
            at = end + 2 + size
        else:
            assert byte in b"NIL 0123456789"
        at += 1
    assert level == 0


WORDS = [b"From: ", b"To: ", b"Subject: ", b"Content-Type: ", b"a@b", b"<", b">", b'"', b"\\", b"(", b")", b",", b";"]
WORDS += [b":", b"@", b".", b" ", b"\r\n", b"\r\n ", b"multipart/mixed; boundary=b", b"message/rfc822", b"--b", b"\0"]
WORDS += [b"\xff", b"=?utf-8?q?x?=", b"name*0*=", b"=", b"'", b"[", b"]", b"Content-Disposition: ", b"\r\n\r\n"]
ANY = st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(WORDS), max_size=50).map(b"".join))


@settings(max_examples=examples(200), deadline=None)
@given(ANY)
def test_any_bytes_give_proper_wire_forms(raw: bytes) -> None:
    part = parse(raw)
    assert part.fields is not None
    for form in (imapform.envelope(part.fields), *imapform.structures(part)):
        scan(form)


def test_the_corpus_gives_proper_wire_forms(corpus: list[tuple[str, bytes]]) -> None:
    for _, raw in corpus:
        part = parse(raw)
        assert part.fields is not None
        scan(imapform.envelope(part.fields))
        scan(imapform.structures(part).bodystructure)
