"""Flags as bits, keywords as atoms."""

from __future__ import annotations

import pytest

from mail import flags


def test_bits_and_names() -> None:
    assert flags.bits_of(["\\seen", "\\DRAFT", "other"]) == flags.SEEN | flags.DRAFT
    assert flags.names_of(flags.SEEN | flags.ANSWERED) == ("\\Answered", "\\Seen")
    assert flags.bit_of("\\Recent") is None
    for bits in range(flags.ALL + 1):
        assert flags.bits_of(flags.names_of(bits)) == bits


@pytest.mark.parametrize("name", ["$Forwarded", "a", "x" * flags.KEYWORD_MAX, "[tag", "a}b", "NonJunk"])
def test_keywords(name: str) -> None:
    assert flags.is_keyword(name)


@pytest.mark.parametrize(
    "name", ["", "a b", "\\Seen", "a]", "(", ")", "{", "%", "*", '"', "ü", "a\n", "\x7f", "x" * (flags.KEYWORD_MAX + 1)]
)
def test_what_is_no_keyword(name: str) -> None:
    assert not flags.is_keyword(name)
