"""Modified UTF-7: one spelling for each name."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imap.wire import utf7
from imap.wire.errors import BadSyntax
from tests.hurry import examples


@given(st.text(max_size=60))
@settings(max_examples=examples(200))
def test_round_trip(name: str) -> None:
    octets = utf7.encode(name)
    assert all(0x20 <= octet < 0x7F for octet in octets)
    assert utf7.decode(octets) == name


@given(st.one_of(st.binary(max_size=40), st.text("&-A,+/b ~é", max_size=20).map(lambda s: s.encode("latin-1"))))
@settings(max_examples=examples(200))
def test_any_octets_are_one_name_or_refused(octets: bytes) -> None:
    try:
        name = utf7.decode(octets)
    except BadSyntax:
        return
    assert utf7.encode(name) == octets


def test_the_example_of_the_rfc() -> None:
    # RFC 3501 §5.1.3
    assert utf7.decode(b"~peter/mail/&U,BTFw-/&ZeVnLIqe-") == "~peter/mail/台北/日本語"


@pytest.mark.parametrize(
    "octets",
    [
        b"&",
        b"&AGE-",  # "a" needs no shift
        b"&AOk-&AOk-",  # one shift where two stand
        b"&AOk",  # not ended
        b"&AO-",  # half a code unit
        b"&2D0-",  # a lone surrogate
        b"&AOl-",  # bits left over
        b"&A/k-",  # "/" is no letter of this base64
        "é".encode(),
        b"\x07",
        b"\x7f",
    ],
)
def test_other_spellings_are_refused(octets: bytes) -> None:
    with pytest.raises(BadSyntax) as caught:
        utf7.decode(octets)
    assert (caught.value.condition, caught.value.code) == ("NO", "CANNOT")
