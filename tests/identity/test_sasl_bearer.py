"""OAUTHBEARER and XOAUTH2: messages, errors, the client's answer to an error."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from identity.sasl import Challenge, CheckToken, Done, Failed, Fault, OAuthBearer, XOAuth2

TOKEN = "vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg=="


def test_the_example_of_rfc_7628() -> None:
    # RFC 7628 §4.1
    message = b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer %s\x01\x01" % TOKEN.encode()
    outcome = OAuthBearer().step(message)
    assert isinstance(outcome, CheckToken)
    assert (outcome.name, outcome.token) == ("user@example.com", TOKEN)
    assert outcome.checked(True) == Done()
    assert TOKEN not in repr(outcome)


def test_the_example_of_xoauth2() -> None:
    outcome = XOAuth2().step(b"user=someuser@example.com\x01auth=Bearer ya29.vF9dft4qmTc2\x01\x01")
    assert isinstance(outcome, CheckToken)
    assert (outcome.name, outcome.token) == ("someuser@example.com", "ya29.vF9dft4qmTc2")


@pytest.mark.parametrize("kind", [OAuthBearer, XOAuth2])
def test_without_an_initial_response_the_server_waits(kind: type[OAuthBearer] | type[XOAuth2]) -> None:
    exchange = kind()
    assert exchange.step(None) == Challenge(b"")
    assert isinstance(exchange.step(b"user=a\x01auth=Bearer t\x01\x01"), CheckToken | Failed)


@pytest.mark.parametrize(
    ("exchange", "message", "status", "answer"),
    [
        (OAuthBearer(), b"n,,\x01auth=Bearer bad\x01\x01", "invalid_token", b"\x01"),
        (XOAuth2(), b"user=a\x01auth=Bearer bad\x01\x01", "401", b""),
    ],
)
def test_a_bad_token_is_told_by_a_challenge(
    exchange: OAuthBearer | XOAuth2, message: bytes, status: str, answer: bytes
) -> None:
    outcome = exchange.step(message)
    assert isinstance(outcome, CheckToken)
    told = outcome.checked(False)
    assert isinstance(told, Challenge)
    assert json.loads(told.octets)["status"] == status
    assert exchange.step(answer) == Failed(Fault.REFUSED)


@pytest.mark.parametrize("value", [b"", b"Basic dXNlcjpw", b"Bearer", b"Bearer a b", b"Bearer \xc3\xa9"[:9]])
def test_what_is_no_bearer_token_is_told_like_a_bad_one(value: bytes) -> None:
    exchange = OAuthBearer()
    told = exchange.step(b"n,,\x01auth=" + value + b"\x01\x01")
    if b"\xc3" in value:
        assert told == Failed(Fault.MALFORMED)
        return
    assert isinstance(told, Challenge)
    assert exchange.step(b"\x01") == Failed(Fault.REFUSED)


@pytest.mark.parametrize(
    "message",
    [
        b"\x01",
        b"auth=Bearer t\x01\x01",
        b"n,,auth=Bearer t\x01\x01",
        b"n,,\x01auth=Bearer t\x01",
        b"n,,\x01auth=Bearer t",
        b"n,,\x01auth=Bearer t\x01\x01more",
        b"n,,\x01auth=Bearer t\x01auth=Bearer u\x01\x01",
        b"n,,\x01au th=Bearer t\x01\x01",
        b"x,,\x01auth=Bearer t\x01\x01",
        b"p=tls-unique,,\x01auth=Bearer t\x01\x01",
        b"n,a=,\x01auth=Bearer t\x01\x01",
        b"n,a=b=c,\x01auth=Bearer t\x01\x01",
        b"n,a=\xff,\x01auth=Bearer t\x01\x01",
        b"user=a\x01auth=Bearer t\x01\x01",
    ],
)
def test_malformed_oauthbearer(message: bytes) -> None:
    assert OAuthBearer().step(message) == Failed(Fault.MALFORMED)


@pytest.mark.parametrize(
    "message",
    [
        b"user=\x01auth=Bearer t\x01\x01",
        b"user=a",
        b"user=a\x01auth=Bearer t\x01",
        b"User=a\x01auth=Bearer t\x01\x01",
        b"user=\xff\x01auth=Bearer t\x01\x01",
        b"n,,\x01auth=Bearer t\x01\x01",
    ],
)
def test_malformed_xoauth2(message: bytes) -> None:
    assert XOAuth2().step(message) == Failed(Fault.MALFORMED)


NAMES = st.text(min_size=1, max_size=30).filter(lambda text: "\0" not in text)
TOKENS = st.text("abcXYZ019-._~+/", min_size=1, max_size=60)


@given(NAMES, TOKENS, st.sampled_from(["Bearer", "bearer", "BEARER"]))
@example("a,b=c=2C", "t", "Bearer")
def test_any_name_and_token_come_through(name: str, token: str, scheme: str) -> None:
    escaped = name.replace("=", "=3D").replace(",", "=2C")
    outcome = OAuthBearer().step(f"y,a={escaped},\x01auth={scheme} {token}\x01\x01".encode())
    assert isinstance(outcome, CheckToken)
    assert (outcome.name, outcome.token) == (name, token)
    if "\x01" not in name:
        outcome = XOAuth2().step(f"user={name}\x01auth={scheme} {token}\x01\x01".encode())
        assert isinstance(outcome, CheckToken)
        assert (outcome.name, outcome.token) == (name, token)


@given(st.sampled_from([OAuthBearer, XOAuth2]), st.binary(max_size=80))
def test_any_octets_give_an_outcome(kind: type[OAuthBearer] | type[XOAuth2], octets: bytes) -> None:
    assert isinstance(kind().step(octets), Challenge | CheckToken | Failed)


@given(
    st.sampled_from([OAuthBearer, XOAuth2]),
    st.lists(
        st.sampled_from(
            [
                b"n,",
                b",",
                b"a=x",
                b"user=x",
                b"\x01",
                b"auth=Bearer t",
                b"host=h",
                b"p=tls-unique",
                b"=2C",
                b"=",
                b"\xff",
            ]
        ),
        max_size=12,
    ),
)
def test_any_pieces_give_an_outcome(kind: type[OAuthBearer] | type[XOAuth2], pieces: list[bytes]) -> None:
    assert isinstance(kind().step(b"".join(pieces)), Challenge | CheckToken | Failed)
