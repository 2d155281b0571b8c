"""The grammar of MAIL and RCPT."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtp.wire import dsn, ehlo, hold, params, replies
from tests.hurry import examples


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
    assert refused("TO:<a@b.example> BY=60;R", rcpt=True) == replies.UNKNOWN_PARAMETER
    assert refused("TO:<postmaster>x", rcpt=True) == replies.RCPT_SYNTAX


@given(st.text(max_size=200))
@settings(max_examples=examples(200), deadline=None)
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
    begun = time.process_time()
    with pytest.raises(params.BadArgument):
        params.mail(start + unit * 50_000 + "\x01", extended=True)
    assert time.process_time() - begun < 5


def facts(**changed: object) -> ehlo.Facts:
    usual = ehlo.Facts("smtp", 10, 100, 1000, tls=False, starttls=True, mechanisms=())
    return replace(usual, **changed)


def offered(**changed: object) -> list[str]:
    return ehlo.answer("mx.example.org", facts(**changed)).text.split("\n")


def test_ehlo_table() -> None:
    lines = offered()
    assert lines[0] == "mx.example.org greets you"
    assert "SIZE 10" in lines
    assert "STARTTLS" in lines
    assert "LIMITS MAILMAX=1000 RCPTMAX=100" in lines
    assert {"CHUNKING", "DSN"} <= set(lines)
    assert not [line for line in lines if line.startswith(("AUTH", "REQUIRETLS", "FUTURERELEASE"))]
    under_tls = offered(tls=True, mechanisms=("PLAIN",))
    assert "STARTTLS" not in under_tls
    assert {"AUTH PLAIN", "REQUIRETLS"} <= set(under_tls)
    held = {"hold_max": 60, "hold_until": "2026-01-01T00:00:00Z"}
    assert "FUTURERELEASE 60 2026-01-01T00:00:00Z" in offered(kind="submission", **held)
    assert not [line for kind in ("smtp", "lmtp") for line in offered(kind=kind, **held) if "FUTURE" in line]
    assert ehlo.MAIL_LINE_MAX == 512 + 26 + 17 + 10 + 500 + 116 + 11 + 46
    assert ehlo.RCPT_LINE_MAX == 512 + 536


def test_the_longest_parameters_fit_their_rows() -> None:
    rows = {row.keyword: row for row in ehlo.EXTENSIONS}
    assert len(" RET=FULL ENVID=" + "x" * dsn.ENVID_MAX) == rows["DSN"].mail_octets
    assert len(" NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=" + "x" * dsn.ORCPT_MAX) == rows["DSN"].rcpt_octets
    assert len(" REQUIRETLS") == rows["REQUIRETLS"].mail_octets
    assert len(" HOLDUNTIL=2026-01-01T00:00:00.123456789+00:00") == rows["FUTURERELEASE"].mail_octets


def test_every_parameter_that_is_read_stands_in_the_table() -> None:
    every = "SIZE=1 BODY=7BIT SMTPUTF8 AUTH=<> RET=FULL ENVID=x REQUIRETLS HOLDFOR=1"
    params.mail(f"FROM:<> {every}", extended=True, kind="submission")
    assert {word.partition("=")[0] for word in every.split()} | {"HOLDUNTIL"} == ehlo.MAIL_PARAMETERS["submission"]
    assert {"NOTIFY", "ORCPT"} == ehlo.RCPT_PARAMETERS["lmtp"]


def test_dsn_parameters() -> None:
    mail = params.mail("FROM:<a@b.example> ret=hdrs ENVID=QQ+3D314159", extended=True)
    assert (mail.ret, mail.envid) == ("HDRS", "QQ+3D314159")
    for wrong in ("RET=ALL", "RET", "ENVID", "ENVID=" + "x" * 101, "ENVID=a+3d", "ENVID=+00", "ENVID=a+"):
        assert refused(f"FROM:<a@b.example> {wrong}") == replies.BAD_PARAMETER, wrong
    rcpt = params.rcpt(
        "TO:<a@b.example> notify=success,Failure ORCPT=rfc822;Bob+2Bx@c.example", extended=True, smtputf8=False
    )
    assert (rcpt.notify, rcpt.orcpt) == ("SUCCESS,FAILURE", "rfc822;Bob+2Bx@c.example")
    for wrong in (
        "NOTIFY",
        "NOTIFY=NEVER,FAILURE",
        "NOTIFY=SUCCESS,SUCCESS",
        "NOTIFY=SUCCESS,",
        "NOTIFY=ALWAYS",
        "ORCPT",
        "ORCPT=bob@c.example",
        "ORCPT=rfc822;",
        "ORCPT=;bob@c.example",
        "ORCPT=rfc822;b+zz@c.example",
        "ORCPT=rfc822;b+0A@c.example",
        "ORCPT=rfc822;" + "b" * 494,
        "ORCPT=utf-8;ä@c.example",
    ):
        assert refused(f"TO:<a@b.example> {wrong}", rcpt=True) == replies.BAD_PARAMETER, wrong
    utf8 = params.rcpt("TO:<a@b.example> ORCPT=utf-8;ä\\x{E4}@c.example", extended=True, smtputf8=True)
    assert utf8.orcpt == "utf-8;ä\\x{E4}@c.example"


@given(st.text(st.characters(max_codepoint=127)))
def test_xtext_goes_both_ways(text: str) -> None:
    made = dsn.xtext(text)
    assert dsn.from_xtext(made) == text
    assert all("!" <= c <= "~" and c != "=" for c in made)


@given(st.text(st.characters(min_codepoint=33, exclude_categories=("Cs", "Cc")), min_size=1, max_size=40))
def test_an_address_without_orcpt_gets_one_that_is_one(local: str) -> None:
    assert dsn.orcpt(dsn.original(f"{local}@b.example"), smtputf8=False) is not None


def test_what_goes_on_to_several() -> None:
    assert dsn.without_success("SUCCESS") == "NEVER"
    assert dsn.without_success("DELAY,SUCCESS,FAILURE") == "DELAY,FAILURE"
    assert dsn.without_success("NEVER") == "NEVER"
    assert dsn.without_success(None) is None


def test_hold_parameters() -> None:
    def read(parameter: str) -> params.MailArgument:
        return params.mail(f"FROM:<a@b.example> {parameter}", extended=True, kind="submission")

    assert read("HOLDFOR=60").hold_for == 60
    assert read("HOLDUNTIL=2026-11-21T10:00:00Z").hold_until == 1795255200
    assert read("HOLDUNTIL=2026-11-21t12:00:00.5+02:00").hold_until == 1795255201
    for wrong in (
        "HOLDFOR",
        "HOLDFOR=0",
        "HOLDFOR=-1",
        "HOLDFOR=1234567890",
        "HOLDFOR=1h",
        "HOLDUNTIL",
        "HOLDUNTIL=tomorrow",
        "HOLDUNTIL=2026-11-21",
        "HOLDUNTIL=2026-11-21T10:00:00",
        "HOLDUNTIL=2026-13-21T10:00:00Z",
        "HOLDUNTIL=2026-11-21T10:00:60Z",
        "HOLDUNTIL=0000-11-21T10:00:00Z",
        "HOLDFOR=60 HOLDUNTIL=2026-11-21T10:00:00Z",
    ):
        with pytest.raises(params.BadArgument) as caught:
            read(wrong)
        assert caught.value.reply == replies.BAD_PARAMETER, wrong
    assert read(f"HOLDUNTIL={hold.date_time(1795255200)}").hold_until == 1795255200


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
