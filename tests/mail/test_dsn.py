"""Delivery status notifications, parsed back with the standard library; whole ones beside kept files."""

from __future__ import annotations

import email
import email.policy
import os
import re
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mail import dsn
from mail.dsn import About, Action, Notice, Original
from tests.hurry import examples

GOLDEN = Path(__file__).parent / "golden"
TEXT = (
    b"Received: from client ([192.0.2.7])\r\n\tby mx.example.org with ESMTPSA\r\n\tid 1;\r\n"
    b"\tThu, 19 Nov 2026 12:00:00 +0000\r\n"
    b"From: Ann <ann@example.org>\r\nTo: bob@example.net\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
    b"Message-ID: <m1@example.org>\r\n\r\nHello Bob\r\n--boundary\r\n"
)
ARRIVED = 1_795_089_600.0
NOW = ARRIVED + 3600
FAILED = About(
    "bob@example.net",
    Action.FAILED,
    "5.1.1",
    "5.1.1 <bob@example.net>: Recipient address rejected: User unknown in virtual mailbox table, so there",
    550,
    "mx1.example.net [192.0.2.1]:25",
    "rfc822;bob+2Bwork@example.net",
    NOW,
    ARRIVED + 5 * 86400,
)
DELAYED = About(
    "carol@example.com", Action.DELAYED, "4.4.1", "Connection refused", None, "", None, NOW, ARRIVED + 5 * 86400
)


def make(*about: About, original: Original | None = None, to: str = "ann@example.org", unique: str = "u1") -> Notice:
    return dsn.notice(
        about or (FAILED,),
        original or Original(TEXT, ARRIVED, whole=True),
        to=to,
        hostname="mx.example.org",
        domain="example.org",
        date=NOW,
        unique=unique,
    )


def parsed(notice: Notice) -> EmailMessage:
    made = email.message_from_bytes(notice.content, policy=email.policy.default)
    assert isinstance(made, EmailMessage)
    assert not made.defects
    return made


def status_of(notice: Notice) -> list[Any]:
    (part,) = [one for one in parsed(notice).iter_parts() if one.get_content_type().endswith("delivery-status")]
    if part.get_content_type() == "message/delivery-status":
        return list(part.get_payload())
    # The library takes it for a message: its text as it stands.
    text = re.split(rb"\r\n--=_u1_*\r\n", notice.content)[2].partition(b"\r\n\r\n")[2]
    return [
        email.message_from_string(block, policy=email.policy.default.clone(utf8=True))
        for block in text.decode().split("\r\n\r\n")
        if block.strip()
    ]


CASES = {
    "failed": lambda: make(original=Original(TEXT, ARRIVED, whole=True, envid="QQ+2B1")),
    "delayed": lambda: make(DELAYED, original=Original(TEXT, ARRIVED)),
    "mixed": lambda: make(
        FAILED, DELAYED, About("dan@example.edu", Action.RELAYED, "2.0.0", "ok", 250, "mx.example.edu [192.0.2.2]:25")
    ),
    "international": lambda: make(
        About(
            "jürgen@bücher.example", Action.FAILED, "5.7.1", "Zugriff verweigert für jürgen", 550, "mx [192.0.2.3]:25"
        ),
        original=Original("From: ü\r\nSubject: Grüße\r\n\r\nHallo\r\n".encode(), ARRIVED, whole=True, smtputf8=True),
    ),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_whole_notices_are_as_they_were_looked_at(name: str) -> None:
    made = CASES[name]()
    file = GOLDEN / f"dsn-{name}.eml"
    if os.environ.get("HOMING_WRITE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(made.content)
    assert made.content == file.read_bytes()


def test_the_envelope_of_a_failure() -> None:
    made = parsed(make(original=Original(TEXT, ARRIVED, whole=True, envid="QQ+2B1")))
    assert made["From"] == "Mail Delivery System <mailer-daemon@example.org>"
    assert made["To"] == "ann@example.org"
    assert made["Auto-Submitted"] == "auto-replied"
    assert made["In-Reply-To"] == "<m1@example.org>"
    assert made.get_content_type() == "multipart/report"
    assert made.get_param("report-type") == "delivery-status"
    text, status, returned = made.iter_parts()
    assert "User unknown" in " ".join(text.get_content().split())
    assert "Grüße" in text.get_content()
    assert "Look whether the address" in text.get_content()
    assert all(len(line) <= 80 for line in text.get_content().splitlines())
    message, recipient = status.get_payload()
    assert message["Original-Envelope-Id"] == "QQ+1"
    assert message["Reporting-MTA"] == "dns; mx.example.org"
    assert message["Arrival-Date"] == "Thu, 19 Nov 2026 12:00:00 +0000"
    assert recipient["Original-Recipient"] == "rfc822; bob+work@example.net"
    assert recipient["Final-Recipient"] == "rfc822; bob@example.net"
    assert recipient["Action"] == "failed"
    assert recipient["Status"] == "5.1.1"
    assert recipient["Remote-MTA"] == "dns; mx1.example.net"
    assert recipient["Diagnostic-Code"].startswith("smtp; 550 5.1.1 <bob@example.net>: Recipient")
    assert "Will-Retry-Until" not in recipient
    assert returned.get_content_type() == "message/rfc822"
    assert TEXT in make().content


def test_a_delay_says_until_when_and_that_nothing_is_to_be_done() -> None:
    made = make(DELAYED, original=Original(TEXT, ARRIVED))
    text, _, returned = parsed(made).iter_parts()
    assert "need not send it again" in " ".join(text.get_content().split())
    _, recipient = status_of(made)
    assert recipient["Will-Retry-Until"] == "Tue, 24 Nov 2026 12:00:00 +0000"
    assert recipient["Diagnostic-Code"] == "X-Homing; Connection refused"
    assert returned.get_content_type() == "text/rfc822-headers"
    assert b"Hello Bob" not in made.content


def test_the_international_forms_only_where_they_are_needed() -> None:
    plain = make(original=Original(TEXT, ARRIVED, whole=True, smtputf8=True))
    assert not plain.smtputf8
    wide = CASES["international"]()
    assert wide.smtputf8
    types = [part.get_content_type() for part in parsed(wide).iter_parts()]
    assert types == ["text/plain", "message/global-delivery-status", "message/global"]
    assert status_of(wide)[1]["Final-Recipient"] == "utf-8; jürgen@bücher.example"
    head = make(original=Original("Subject: Grüße\r\n\r\nHallo\r\n".encode(), ARRIVED, smtputf8=True))
    assert [part.get_content_type() for part in parsed(head).iter_parts()][2] == "message/global-headers"


def test_eight_bit_without_smtputf8_is_kept_or_encoded() -> None:
    raw = b"Subject: Gr\xfc\xdfe\r\n\r\nK\xf6rper\r\n"
    whole = make(original=Original(raw, ARRIVED, whole=True))
    assert whole.eight_bit
    assert not whole.smtputf8
    assert raw in whole.content
    head = make(original=Original(raw, ARRIVED))
    assert not head.eight_bit
    assert head.content.isascii()
    part = list(parsed(head).iter_parts())[2]
    assert part.get_payload(decode=True) == b"Subject: Gr\xfc\xdfe\r\n"


def test_the_boundary_is_not_in_the_message() -> None:
    text = b"Subject: x\r\n\r\n--=_u1\r\n--=_u1_--\r\n"
    made = make(original=Original(text, ARRIVED, whole=True))
    assert len(list(parsed(made).iter_parts())) == 3
    assert text in made.content


def test_nobody_can_put_fields_into_a_notice() -> None:
    bad = About("a@b\r\nBcc: x@y", Action.FAILED, "5.0.0\r\nX: y", "no\r\nEvil: yes", 550, "h\r\nX: y [::1]:25")
    made = parsed(make(bad, to="ann@example.org\r\nBcc: all@example.org"))
    assert "Bcc" not in made
    for part in status_of(make(bad)):
        assert not {"Evil", "X", "Bcc"} & set(part.keys())


@pytest.mark.parametrize("char", ["x", "\u20ac"])
def test_no_line_of_the_part_for_programs_is_too_long(char: str) -> None:
    notice = make(
        replace(FAILED, text=char * 1500), original=Original(TEXT, ARRIVED, smtputf8=True), to="ünal@example.org"
    )
    # RFC 5322 §2.1.1
    assert max(len(line) for line in notice.content.split(b"\r\n")) <= 998


def test_a_header_that_is_too_long_is_cut_at_a_line() -> None:
    raw = b"X: " + b"y" * 100 + b"\r\n"
    made = make(original=Original(raw * 2000, ARRIVED))
    returned = list(parsed(made).iter_parts())[2].get_payload(decode=True)
    assert isinstance(returned, bytes)
    assert len(returned) <= dsn.HEADER_MAX
    assert returned == raw * (len(returned) // len(raw))


@pytest.mark.parametrize(
    ("notify", "asked"),
    [
        (None, {Action.FAILED, Action.DELAYED}),
        ("NEVER", set()),
        ("FAILURE", {Action.FAILED}),
        ("delay,Failure", {Action.FAILED, Action.DELAYED}),
        ("SUCCESS", {Action.DELIVERED, Action.RELAYED, Action.EXPANDED}),
        ("SUCCESS, DELAY", {Action.DELIVERED, Action.RELAYED, Action.EXPANDED, Action.DELAYED}),
    ],
)
def test_notify(notify: str | None, asked: set[Action]) -> None:
    assert {action for action in Action if dsn.wanted(notify, action)} == asked


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)))
def test_xtext_there_and_back(text: str) -> None:
    encoded = dsn.xtext_encode(text)
    assert " " not in encoded
    assert "=" not in encoded
    assert dsn.xtext_decode(encoded) == text


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=100))
def test_original_recipients_in_utf8_there_and_back(text: str) -> None:
    encoded = f"utf-8;{dsn._unitext_encode(text)}"
    assert encoded.isascii()
    assert dsn.original_recipient(encoded) == ("utf-8", text.strip())


@pytest.mark.parametrize("orcpt", ["", "bob@example.net", ";bob", "a b;bob"])
def test_what_is_no_original_recipient(orcpt: str) -> None:
    assert dsn.original_recipient(orcpt) is None


@settings(max_examples=examples(150), deadline=None)
@given(
    st.lists(
        st.builds(
            About,
            address=st.text(max_size=60),
            action=st.sampled_from(Action),
            status=st.sampled_from(["5.1.1", "4.4.1", "2.0.0", "x", ""]),
            text=st.text(max_size=300),
            code=st.none() | st.integers(200, 599),
            remote=st.text(max_size=40),
            original=st.none() | st.text(max_size=40),
            at=st.none() | st.floats(0, 4e9),
            until=st.none() | st.floats(0, 4e9),
        ),
        min_size=1,
        max_size=3,
    ),
    st.binary(max_size=500),
    st.booleans(),
    st.booleans(),
)
def test_any_notice_has_three_parts_and_as_many_recipients(
    about: list[About], text: bytes, whole: bool, smtputf8: bool
) -> None:
    made = make(*about, original=Original(text, ARRIVED, whole=whole, smtputf8=smtputf8))
    found = email.message_from_bytes(made.content)
    assert found.get_content_type() == "multipart/report"
    parts = found.get_payload()
    assert isinstance(parts, list)
    assert len(parts) == 3
    assert len(status_of(made)) == len(about) + 1
    assert made.eight_bit or made.content.isascii()
    assert all(len(line) <= 998 for line in made.content.split(b"\r\n")) or len(text) > 900


def test_a_notice_of_nobody_is_none() -> None:
    with pytest.raises(ValueError, match="at least one"):
        dsn.notice([], Original(TEXT, ARRIVED), to="a@b.example", hostname="h", domain="d", date=NOW, unique="u")
