"""The forest against one whose roots are found by walking up."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from imap.ancestry import NONE, Ancestry
from tests.hurry import examples

STEPS = st.lists(st.tuples(st.booleans(), st.integers(0, 11), st.integers(0, 11)), max_size=60)


@settings(max_examples=examples(100), deadline=None)
@given(STEPS)
def test_roots_are_those_of_a_walk(steps: list[tuple[bool, int, int]]) -> None:
    forest = Ancestry()
    parents = [NONE] * 12
    assert [forest.make() for _ in parents] == list(range(12))

    def top(node: int) -> int:
        while parents[node] != NONE:
            node = parents[node]
        return node

    for links, a, b in steps:
        if not links and parents[a] != NONE:
            forest.cut(a)
            parents[a] = NONE
        elif links and parents[a] == NONE and top(b) != a:
            assert forest.root(b) != a
            forest.link(a, b)
            parents[a] = b
        assert forest.root(b) == top(b)
    assert [forest.root(node) for node in range(12)] == [top(node) for node in range(12)]
    assert list(forest.parents) == parents
