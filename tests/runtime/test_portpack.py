"""Which types can be packed, and what does not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.portpack import Misfit, Octets, Shapes


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Point(NamedTuple):
    x: int
    y: int = 7


@dataclass(frozen=True, slots=True)
class Leaf:
    """No fields."""


@dataclass(frozen=True, slots=True)
class Branch:
    twigs: tuple[Tree, ...]
    colour: Colour = Colour.RED
    notes: Mapping[str, int | None] = field(default_factory=dict)


Tree = Leaf | Branch | Point


class Broken(Exception):
    def __init__(self, text: str, code: int = 3) -> None:
        super().__init__(text)
        self.text = text
        self.code = code


def there_and_back(hint: Any, value: Any) -> Any:
    shapes, octets = Shapes(), Octets()
    return shapes.of(hint).unpack(Octets.unpack(octets.pack(shapes.plain(hint, value))))


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (Tree, Branch((Leaf(), Branch((), Colour.BLUE, {"a": None}), Point(1)))),
        (Tree | None, None),
        (bytes | Leaf, b"raw"),
        (bytes | Leaf, Leaf()),
        (str | int | float | bool | None, True),
        (float, 3),
        (frozenset[str], frozenset({"a", "b"})),
        (Sequence[Point], [Point(1, 2)]),
        (tuple[Point, str], (Point(1, 2), "\udc80")),
    ],
)
def test_values_come_as_they_went(hint: Any, value: Any) -> None:
    found = there_and_back(hint, value)
    assert found == value
    assert type(found) is type(value)


def test_an_error_comes_as_it_went() -> None:
    found = there_and_back(Broken, Broken("so", 9))
    assert (type(found), str(found), found.text, found.code) == (Broken, "so", "so", 9)
    assert Shapes().of(Broken).unpack(("so",)).code == 3


@pytest.mark.parametrize("hint", [dict[str, int], list[int], object, Any, set[int], Mapping[int, str]])
def test_types_that_no_port_may_use(hint: Any) -> None:
    with pytest.raises(TypeError):
        Shapes().of(hint)


@pytest.mark.parametrize(
    ("hint", "plain"),
    [
        (int, True),
        (int, 1.5),
        (int, "1"),
        (bool, 1),
        (str, b"a"),
        (bytes, "a"),
        (float, "1"),
        (type(None), 0),
        (int | None, ()),
        (Colour, "green"),
        (Colour, ("red",)),
        (Point, ()),
        (Point, (1, "2")),
        (Point, 5),
        (Leaf, 5),
        (Branch, ((), "green")),
        (Branch, ((), "red", {1: 2})),
        (Tree, ()),
        (Tree, ("Colour", "red")),
        (Tree, (5,)),
        (Tree, "Leaf"),
        (Tree, ("Point",)),
        (tuple[int, ...], (1, None)),
        (tuple[int, ...], {}),
        (tuple[Point, ...], ((1, 2), 3)),
        (tuple[int, str], (1,)),
        (frozenset[str], ((),)),
        (Broken, ()),
    ],
)
def test_what_is_not_of_its_type_is_a_misfit(hint: Any, plain: Any) -> None:
    with pytest.raises(Misfit):
        Shapes().of(hint).unpack(plain)


@pytest.mark.parametrize(
    ("hint", "value"),
    [(int, 2**64), (int, object()), (Tree, Colour.RED), (Tree, None), (Branch, Leaf()), (Sequence[int], "12")],
)
def test_what_cannot_be_packed_is_a_misfit(hint: Any, value: Any) -> None:
    with pytest.raises(Misfit):
        there_and_back(hint, value)


def test_a_shorter_array_has_defaults_and_a_longer_one_is_cut() -> None:
    shapes = Shapes()
    assert shapes.of(Point).unpack((4,)) == Point(4, 7)
    assert shapes.of(Point).unpack((4, 5, "later")) == Point(4, 5)
    assert shapes.of(Branch).unpack(((),)) == Branch(())
    assert shapes.of(Branch).unpack(((), "blue", {}, "later")) == Branch((), Colour.BLUE)


@given(st.binary(max_size=200))
def test_any_octets_are_a_value_or_a_misfit(octets: bytes) -> None:
    try:
        plain = Octets.unpack(octets)
    except Misfit:
        return
    for hint in (Tree, Point, tuple[int, ...], Mapping[str, int]):
        try:
            Shapes().of(hint).unpack(plain)
        except Misfit:
            continue


def test_octets_that_announce_much_take_little() -> None:
    for octets in (b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x91" * 100_000):
        with pytest.raises(Misfit):
            Octets.unpack(octets)
