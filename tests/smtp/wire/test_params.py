"""The grammar of MAIL and RCPT."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtp.wire import ehlo, params, replies


def refused(argument: str, *, rcpt: bool = False, extended: bool = True, smtputf8: bool = False) -> replies.Reply:
    def read() -> object:
        if rcpt:
            return params.rcpt(argument, extended=extended, smtputf8=smtputf8)
        return params.mail(argument, extended=extended)

    with pytest.raises(params.BadArgument) as caught:
        read()
    return caught.value.reply


@pytest.mark.parametrize(
    ("argument", "address"),
    [
        ("FROM:<a@b.example>", "a@b.example"),
        ("from:<a@b.example>", "a@b.example"),
        ("FROM: <a@b.example>", "a@b.example"),
        ("FROM:a@b.example", "a@b.example"),
        ("FROM:<>", ""),
        ('FROM:<"a b"@c.example>', '"a b"@c.example'),
        ('FROM:<"ab"@c.example>', "ab@c.example"),
        ('FROM:<"a\\"b"@c.example>', '"a\\"b"@c.example'),
        ('FROM:<"a@b"@c.example>', '"a@b"@c.example'),
        ("FROM:<@one.example,@two.example:a@b.example>", "a@b.example"),
        ("FROM:<a@[192.0.2.1]>", "a@[192.0.2.1]"),
        ("FROM:<a@[IPv6:2001:db8::1]>", "a@[IPv6:2001:db8::1]"),
        ("FROM:<a..b.@c_d.example>", "a..b.@c_d.example"),
    ],
)
def test_paths(argument: str, address: str) -> None:
    assert params.mail(argument, extended=True).address == address


@pytest.mark.parametrize(
    "argument",
    [
        "FROM:",
        "FROM:<",
        "FROM:<a>",
        "FROM:<@>",
        "FROM:<a@>",
        "FROM:<a@b.example",
        "FROM:<a@b.example>x",
        "FROM:<a@b..example>",
        "FROM:<a@-b.example>",
        'FROM:<"a@b.example>',
        'FROM:<"a"b@c.example>',
        "FROM:<@one.example a@b.example>",
        "FROM:<a@b.example> =x",
        "FROM:<a@b.example> SIZE=",
        "FROM:<a b@c.example>",
        "FROM:<" + "a" * 320 + "@b.example>",
        "FROM:<a@" + "b." * 200 + "example>",
        "TO:<a@b.example>",
    ],
)
def test_not_paths(argument: str) -> None:
    assert refused(argument).code == 501


def test_mail_parameters() -> None:
    mail = params.mail("FROM:<a@b.example> size=42 BODY=8bitmime SMTPUTF8 AUTH=<>", extended=True)
    assert mail == params.MailArgument("a@b.example", 42, "8BITMIME", True)
    assert refused("FROM:<a@b.example> SIZE=1 SIZE=2") == replies.BAD_PARAMETER
    assert refused("FROM:<a@b.example> SIZE=-1") == replies.BAD_PARAMETER
    assert refused("FROM:<a@b.example> SIZE") == replies.BAD_PARAMETER
    assert refused("FROM:<a@b.example> BODY=BINARYMIME") == replies.BAD_PARAMETER
    assert refused("FROM:<a@b.example> SMTPUTF8=1") == replies.BAD_PARAMETER
    assert params.mail("FROM:<a@b.example> AUTH=e+3Dmc2@example.com", extended=True).address == "a@b.example"
    for value in ("", "=", "=e+3dmc2@example.com", "=é@example.com", "=+"):
        assert refused(f"FROM:<a@b.example> AUTH{value}") in (replies.BAD_PARAMETER, replies.MAIL_SYNTAX)
    assert refused("FROM:<a@b.example> HOLDFOR=9") == replies.UNKNOWN_PARAMETER
    assert refused("FROM:<a@b.example> SIZE=1", extended=False) == replies.UNKNOWN_PARAMETER
    assert refused("FROM:<ä@b.example>") == replies.SENDER_NEEDS_SMTPUTF8


def test_rcpt() -> None:
    assert params.rcpt("TO:<PostMaster>", extended=False, smtputf8=False).address == "postmaster"
    assert params.rcpt("TO:<ä@b.example>", extended=True, smtputf8=True).address == "ä@b.example"
    assert refused("TO:<>", rcpt=True) == replies.BAD_RECIPIENT
    assert refused("TO:<ä@b.example>", rcpt=True) == replies.RECIPIENT_NEEDS_SMTPUTF8
    assert refused("TO:<a@b.example> NOTIFY=NEVER", rcpt=True) == replies.UNKNOWN_PARAMETER
    assert refused("TO:<postmaster>x", rcpt=True) == replies.RCPT_SYNTAX


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text_gives_a_value_or_a_refusal(text: str) -> None:
    for argument in (text, "FROM:" + text, "FROM:<" + text, f"FROM:<{text}>", f"FROM:<a@b.example> {text}"):
        try:
            mail = params.mail(argument, extended=True)
        except params.BadArgument:
            continue
        assert len(mail.address.encode()) <= params.PATH_MAX
        assert not set(mail.address) & set("\r\n\0<>") or mail.address.startswith('"')


@pytest.mark.parametrize("unit", ["a", "a.", "@a,", '\\"', " A=", "[", "-", "ä"])
@pytest.mark.parametrize("start", ["FROM:<", 'FROM:<"', "FROM:<@", "FROM:<a@", "FROM:<a@b.example> "])
def test_time_is_linear(start: str, unit: str) -> None:
    begun = time.perf_counter()
    with pytest.raises(params.BadArgument):
        params.mail(start + unit * 50_000 + "\x01", extended=True)
    assert time.perf_counter() - begun < 0.5


def test_ehlo_table() -> None:
    answer = ehlo.answer("mx.example.org", ehlo.Facts(size_max=10, tls=False, starttls=True, mechanisms=()))
    lines = answer.text.split("\n")
    assert lines[0] == "mx.example.org greets you"
    assert "SIZE 10" in lines
    assert "STARTTLS" in lines
    assert not [line for line in lines if line.startswith("AUTH")]
    under_tls = ehlo.answer("mx", ehlo.Facts(size_max=10, tls=True, starttls=True, mechanisms=("PLAIN",)))
    assert "STARTTLS" not in under_tls.text
    assert "AUTH PLAIN" in under_tls.text
    assert ehlo.MAIL_LINE_MAX == 512 + 26 + 17 + 10 + 500


def test_every_reply_has_an_enhanced_code_of_its_class() -> None:
    table = [reply for reply in vars(replies).values() if isinstance(reply, replies.Reply)]
    assert len(table) > 60
    for reply in table:
        assert reply.wire.endswith(b"\r\n")
        assert len(reply.wire) <= 512
        if reply.code >= 400 or 200 <= reply.code < 300:
            assert reply.enhanced[0] == str(reply.code)[0], reply
            assert len(reply.enhanced.split(".")) == 3
        else:
            assert reply.enhanced == ""


def test_long_replies_have_a_code_on_each_line() -> None:
    assert replies.Reply(214, "2.0.0", "a\nb").wire == b"214-2.0.0 a\r\n214 2.0.0 b\r\n"
    assert replies.challenge(b"").wire == b"334 \r\n"
