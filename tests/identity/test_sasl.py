from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from identity.sasl import (
    MAX_LINE,
    Challenge,
    Credentials,
    Exchange,
    Failed,
    Fault,
    Ground,
    Login,
    OAuthBearer,
    Outcome,
    Plain,
    Scram,
    XOAuth2,
    mechanism,
    mechanisms,
)
from tests.hurry import examples


def b64(octets: bytes) -> bytes:
    return base64.b64encode(octets)


def plain(message: bytes) -> Outcome:
    return Exchange(Plain()).start(b64(message))


@pytest.mark.parametrize("message", [b"\0alice\0secret", b"alice\0alice\0secret"])
def test_plain(message: bytes) -> None:
    assert plain(message) == Credentials("alice", "secret")
    exchange = Exchange(Plain())
    assert exchange.start(None) == Challenge(b"")
    assert exchange.step(b64(message)) == Credentials("alice", "secret")


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        (b"", Fault.MALFORMED),
        (b"alice\0secret", Fault.MALFORMED),
        (b"\0alice\0", Fault.MALFORMED),
        (b"\0\0secret", Fault.MALFORMED),
        (b"\0alice\0sec\0ret", Fault.MALFORMED),
        (b"\0alice\0\xff\xfe", Fault.MALFORMED),
        (b"\0\xc3\0secret", Fault.MALFORMED),
        (b"admin\0alice\0secret", Fault.NOT_PERMITTED),
        (b"\0alice\0" + b"x" * 1025, Fault.MALFORMED),
        (b"\0" + b"x" * 1025 + b"\0secret", Fault.MALFORMED),
    ],
)
def test_plain_refused(message: bytes, fault: Fault) -> None:
    assert plain(message) == Failed(fault)


def test_plain_at_its_limits() -> None:
    name, password = b"n" * 1024, "é".encode() * 512
    assert plain(b"\0" + name + b"\0" + password) == Credentials("n" * 1024, "é" * 512)


def test_login_asks_for_both() -> None:
    exchange = Exchange(Login())
    assert exchange.start(None) == Challenge(b"Username:")
    assert exchange.step(b64(b"alice")) == Challenge(b"Password:")
    assert exchange.step(b64(b"secret")) == Credentials("alice", "secret")


def test_login_with_initial_response() -> None:
    exchange = Exchange(Login())
    asked = exchange.start(b64(b"alice"))
    assert asked == Challenge(b"Password:")
    assert asked.encoded == b"UGFzc3dvcmQ6"
    assert exchange.step(b64("sécret".encode())) == Credentials("alice", "sécret")


@pytest.mark.parametrize("name", [b"", b"a\0b", b"\xff", b"x" * 1025])
def test_login_refused(name: bytes) -> None:
    assert Exchange(Login()).start(b64(name) or b"=") == Failed(Fault.MALFORMED)
    exchange = Exchange(Login())
    exchange.start(b64(b"alice"))
    assert exchange.step(b64(name)) == Failed(Fault.MALFORMED)


@pytest.mark.parametrize("line", [b"%%%", b"YQ", b"YQ=", b"Y Q==", b"YQ==\n", b"YQ==YQ==", b"\xff\xfe", b"-_-_"])
def test_garbage_base64(line: bytes) -> None:
    assert Exchange(Plain()).start(line) == Failed(Fault.NOT_BASE64)
    exchange = Exchange(Login())
    exchange.start(None)
    assert exchange.step(line) == Failed(Fault.NOT_BASE64)


def test_cancel() -> None:
    for kind in (Plain, Login):
        exchange = Exchange(kind())
        exchange.start(None)
        assert exchange.step(b"*") == Failed(Fault.CANCELLED)


def test_line_at_its_limit_and_one_group_more() -> None:
    exchange = Exchange(Plain())
    exchange.start(None)
    assert exchange.step(b"A" * MAX_LINE) == Failed(Fault.MALFORMED)
    assert exchange.step(b"A" * (MAX_LINE + 4)) == Failed(Fault.TOO_LONG)
    assert Exchange(Plain()).start(b"A" * (MAX_LINE + 4)) == Failed(Fault.TOO_LONG)


def test_mechanism_by_name() -> None:
    here = Ground()
    assert isinstance(mechanism("plain", here), Plain)
    assert isinstance(mechanism("LOGIN", here), Login)
    assert isinstance(mechanism("OAuthBearer", here), OAuthBearer)
    assert isinstance(mechanism("XOAUTH2", here), XOAuth2)
    assert mechanism("CRAM-MD5", here) is None
    assert mechanism("SCRAM-SHA-256", here) is None


def test_scram_is_offered_where_it_is_ready_and_plus_where_the_channel_can_be_bound() -> None:
    assert mechanisms(Ground()) == ("PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2")
    assert mechanisms(Ground(binding=b"x")) == mechanisms(Ground())
    assert mechanisms(Ground(scram=True)) == (*mechanisms(Ground()), "SCRAM-SHA-256")
    assert mechanisms(Ground(True, b"x")) == (*mechanisms(Ground()), "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS")
    assert mechanism("SCRAM-SHA-256-PLUS", Ground(scram=True)) is None
    assert isinstance(mechanism("scram-sha-256-plus", Ground(True, b"x")), Scram)


def test_no_secret_in_a_repr() -> None:
    assert "secret" not in repr(plain(b"\0alice\0secret"))


@given(st.sampled_from([Plain, Login]), st.one_of(st.none(), st.binary(max_size=60)), st.lists(st.binary(max_size=60)))
@settings(max_examples=examples(200))
def test_any_lines_give_an_outcome(kind: type[Plain] | type[Login], initial: bytes | None, lines: list[bytes]) -> None:
    exchange = Exchange(kind())
    outcome = exchange.start(initial)
    for line in lines:
        if not isinstance(outcome, Challenge):
            break
        outcome = exchange.step(line)
    assert isinstance(outcome, Challenge | Credentials | Failed)


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
@settings(max_examples=examples(200))
def test_whatever_has_no_nul_comes_through(name: str, password: str) -> None:
    message = b"\0".join((b"", name.encode(), password.encode()))
    expected = Failed(Fault.MALFORMED) if "\0" in name + password else Credentials(name, password)
    assert plain(message) == expected
