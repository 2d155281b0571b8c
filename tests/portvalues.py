"""Values of a port's types for property tests, made from the annotations."""

from __future__ import annotations

import dataclasses
import types
from collections import abc
from enum import Enum, Flag
from typing import Any, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from runtime.portpack import error_fields

INT64 = st.integers(-(2**63), 2**64 - 1)
# With lone surrogates: an address need not be UTF-8.
TEXT = st.text(st.characters(), max_size=12)
SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    int: INT64,
    float: st.floats(allow_nan=False) | INT64,
    str: TEXT,
    bytes: st.binary(max_size=40),
    bool: st.booleans(),
    type(None): st.none(),
}
_made: dict[Any, st.SearchStrategy[Any]] = {}


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of the type."""
    if hint not in _made:
        _made[hint] = st.deferred(lambda: _made[hint])
        _made[hint] = _values(hint)
    return _made[hint]


def _values(hint: Any) -> st.SearchStrategy[Any]:
    origin, args = get_origin(hint), get_args(hint)
    if hint in SCALARS:
        return SCALARS[hint]
    if origin in (Union, types.UnionType):
        return st.one_of([values(arg) for arg in args])
    if origin is tuple and args[-1] is not Ellipsis:
        return st.tuples(*(values(arg) for arg in args))
    if origin in (tuple, abc.Sequence, frozenset):
        many = st.lists(values(args[0]), max_size=4)
        return many.map({tuple: tuple, abc.Sequence: list, frozenset: frozenset}[origin])
    if origin is abc.Mapping:
        return st.dictionaries(values(args[0]), values(args[1]), max_size=3)
    if issubclass(hint, Flag):
        return st.integers(0, (max(hint).value << 1) - 1).map(hint)
    if issubclass(hint, Enum):
        return st.sampled_from(hint)
    if issubclass(hint, Exception):
        fields = error_fields(hint) or {"text": str}
        if set(fields) == {"text"}:
            return values(str).map(hint)
        return st.builds(hint, **{name: values(field) for name, field in fields.items()})
    hints = get_type_hints(hint)
    names = [field.name for field in dataclasses.fields(hint)] if dataclasses.is_dataclass(hint) else hint._fields
    return st.tuples(*(values(hints[name]) for name in names)).map(lambda given: hint(*given))


def same(one: Any, other: Any) -> bool:
    """Equal, and of equal types all the way down; errors by what they were made with."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Exception):
        return str(one) == str(other) and same(vars(one), vars(other))
    if dataclasses.is_dataclass(one):
        return all(same(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
