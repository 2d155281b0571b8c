"""Messages and trace fields that we write; read back with the standard library."""

from __future__ import annotations

from email import message_from_bytes, policy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mail import address, compose
from tests.hurry import examples


def build(subject: str = "Hi", body: str = "Hello\n", recipients: tuple[str, ...] = ("bob@example.net",)) -> bytes:
    return compose.message(
        sender="ann@example.org",
        recipients=recipients,
        subject=subject,
        body=body,
        date=1704067200,
        message_id=compose.new_message_id("unique", "example.org"),
    )


@settings(max_examples=examples(100), deadline=None)
@given(
    st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=100),
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r"), max_size=300),
)
def test_what_is_composed_is_read_back(subject: str, body: str) -> None:
    raw = build(subject, body)
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert b"\r" not in raw.replace(b"\r\n", b"")
    assert raw.isascii()
    assert all(len(line) <= compose.LINE_MAX for line in raw.split(b"\r\n"))
    read = message_from_bytes(raw, policy=policy.default)
    assert not read.defects
    content = read.get_content().replace("\r\n", "\n")
    assert content.rstrip("\n") == body.rstrip("\n")
    assert str(read["Subject"]).split() == subject.split()
    assert read["Message-ID"] == "<unique@example.org>"
    assert read["Date"] == "Mon, 01 Jan 2024 00:00:00 +0000"


def test_nothing_can_add_a_field() -> None:
    raw = build("a\r\nBcc: eve@example.com\r\n\r\nbody")
    assert b"\r\nBcc:" not in raw
    with pytest.raises(address.AddressError):
        build(recipients=("bob@example.net\r\nBcc: eve@example.com",))


def test_many_recipients_are_folded() -> None:
    raw = build(recipients=tuple(f"user{n}@example.net" for n in range(100)))
    assert all(len(line) <= 78 for line in raw.split(b"\r\n"))
    assert len(message_from_bytes(raw, policy=policy.default)["To"].addresses) == 100
    assert b"To: undisclosed-recipients:;\r\n" in build(recipients=())


def test_received() -> None:
    found = compose.received(
        helo="client.example\r\nX: y (",
        client="2001:db8::1",
        client_name="host.example",
        by="mx.example.org",
        protocol="ESMTPSA",
        id="abc",
        date=1704067200,
        tls="TLSv1.3 TLS_AES_256_GCM_SHA384",
    )
    assert found == (
        b"Received: from client.exampleX:y (host.example [IPv6:2001:db8::1])\r\n"
        b"\tby mx.example.org with ESMTPSA (TLSv1.3 TLS_AES_256_GCM_SHA384)\r\n"
        b"\tid abc;\r\n"
        b"\tMon, 01 Jan 2024 00:00:00 +0000\r\n"
    )
    local = compose.received(helo="", client="", by="mx", protocol="LMTP", id="1", date=0, recipient="a@b")
    assert local.startswith(b"Received: from unknown\r\n\tby mx with LMTP\r\n\tid 1 for <a@b>;\r\n")


def test_delivery_fields() -> None:
    assert compose.return_path("") == b"Return-Path: <>\r\n"
    assert compose.return_path("a@b\r\nX: y") == b"Return-Path: <a@bX: y>\r\n"
    assert compose.delivered_to("a@b") == b"Delivered-To: a@b\r\n"
