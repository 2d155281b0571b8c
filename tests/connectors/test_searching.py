"""Search words from anyone: a tree or our error, and on the wire one line in which values stay values."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import searching
from connectors.exceptions import MessageError

ITEMS: Any = st.recursive(
    st.text(max_size=30)
    | st.sampled_from(["SUBJECT", "ALL", "HEADER", "NOT", '"', "(", "SINCE 1-Jan-2024"])
    | st.integers(),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


@given(st.text(max_size=60) | st.lists(ITEMS, max_size=8))
def test_any_words_give_a_line_or_an_error(criteria: Any) -> None:
    try:
        tree = searching.parse(criteria)
    except MessageError:
        return
    line = searching.wire(tree)
    assert not any(ord(char) < 0x20 for char in line)
    bare = _STRING.sub("S", line)
    assert '"' not in bare
    depth = 0
    for char in bare:
        depth += {"(": 1, ")": -1}.get(char, 0)
        assert depth >= 0
    assert depth == 0
    searching.literals(tree)


@given(st.text(alphabet=st.characters(min_codepoint=0x20, exclude_categories=("Cs", "Cc")), max_size=40))
def test_a_value_stays_one_value(value: str) -> None:
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return
    tree = searching.parse(["SUBJECT", value, "SEEN"])
    assert tree == [searching.Word("SUBJECT"), searching.Word(value, True), searching.Word("SEEN")]


def test_limits() -> None:
    most = ["ALL"] * searching.MAX_WORDS
    searching.parse(most)
    with pytest.raises(MessageError, match="more than"):
        searching.parse([*most, "ALL"])
    deep: Any = ["ALL"]
    for _ in range(searching.MAX_DEPTH):
        deep = [deep]
    searching.parse(deep)
    with pytest.raises(MessageError, match="nested deeper"):
        searching.parse([deep])
    brackets = searching.MAX_DEPTH
    with pytest.raises(MessageError, match="nested deeper"):
        searching.parse("(" * brackets + "ALL" + ")" * brackets)
    with pytest.raises(MessageError, match="too long"):
        searching.parse(["TEXT", "x" * (searching.MAX_CHARS + 1)])
