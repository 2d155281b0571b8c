"""Is a question to MongoDB answered by an index? Judged from its shape alone, without a server.

A shape is anything with ``collection``, ``filter``, ``index`` (a name, ``_id_`` for the one that every collection has)
and ``sort``. The rule is MongoDB's (equality, then order, then range): of the index's keys, in their order,

- first those that the filter asks by equality (a value, ``$in``, ``$all``),
- then those of the sort, all of them, in its order and one direction (those asked by one value may be left out),
- a range (``$gt`` …) on the first key that is not asked by equality.

What else the filter asks is looked at in each document that the index gives, which is a scan unless it is few: such
fields are to be named, with their index, by whoever calls.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, Protocol

from runtime.mongo import Index

BY_ID = Index((("_id", 1),), unique=True, name="_id_", sparse=False)
_EQUAL = {"$in", "$all", "$eq"}
_RANGE = {"$gt", "$gte", "$lt", "$lte"}

SAMPLES: Mapping[str, Any] = {
    "str": "x",
    "str | None": "x",
    "bytes": b"x",
    "int": 7,
    "int | None": 7,
    "float": 7.0,
    "Sequence[str]": ("x", "y"),
    "Sequence[int]": (7, 8),
}
"""An argument for each annotation."""


class Shape(Protocol):
    @property
    def collection(self) -> str: ...

    @property
    def filter(self) -> Mapping[str, Any]: ...

    @property
    def index(self) -> str: ...

    @property
    def sort(self) -> Sequence[tuple[str, int]]: ...


def shapes(module: ModuleType, samples: Mapping[str, Any] = SAMPLES) -> Iterator[tuple[str, Shape]]:
    """The shapes that the public functions of a module of questions make, each by its function's name. An argument that
    may be None is also tried as None. KeyError names an annotation that `samples` has no argument for."""
    for name, function in inspect.getmembers(module, inspect.isfunction):
        if name.startswith("_") or function.__module__ != module.__name__:
            continue
        for arguments in _arguments(function, samples):
            yield name, function(**arguments)


def _arguments(function: Callable[..., Any], samples: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    annotations = {name: str(one.annotation) for name, one in inspect.signature(function).parameters.items()}
    whole = {name: samples[annotation] for name, annotation in annotations.items()}
    yield whole
    for name, annotation in annotations.items():
        if annotation.endswith("| None"):
            yield whole | {name: None}


def problem(
    shape: Shape, indexes: Mapping[str, Sequence[Index]], looked_at: Mapping[str, frozenset[str]] | None = None
) -> str | None:
    """What is wrong with a shape; None when its filter and sort are a prefix of the index that it names.

    looked_at: by the index's name, fields that may be left to be looked at in the few documents that it gives.
    """
    if shape.collection not in indexes:
        return f"collection {shape.collection} is not declared"
    index = next((one for one in (BY_ID, *indexes[shape.collection]) if one.name == shape.index), None)
    if index is None:
        return f"no index {shape.index} of {shape.collection}"
    equal, ranges, others = _asked(shape.filter)
    keys = list(index.keys)
    used: set[str] = set()
    while keys and keys[0][0] in equal:
        used.add(keys.pop(0)[0])
    sort = [(field, way) for field, way in shape.sort if field not in used or field not in _single(shape.filter)]
    if sort:
        if [field for field, _ in sort] != [field for field, _ in keys[: len(sort)]]:
            return f"sort {list(shape.sort)} does not follow {sorted(used)} in {index.name} {index.keys}"
        if len({way * turned for (_, way), (_, turned) in zip(sort, keys, strict=False)}) != 1:
            return f"sort {list(shape.sort)} goes two ways in {index.name}"
        if index.sparse and not (used | ranges) & {field for field, _ in index.keys}:
            return f"{index.name} is sparse: it does not hold what the filter may want"
    if keys and keys[0][0] in ranges:
        used.add(keys[0][0])
    if not used and not sort:
        return f"nothing of {dict(shape.filter)} is in {index.name} {index.keys}"
    left = (equal | ranges | others) - used - (looked_at or {}).get(index.name, frozenset())
    return f"{sorted(left)} are looked at in each document of {index.name}" if left else None


def _asked(filter: Mapping[str, Any]) -> tuple[set[str], set[str], set[str]]:
    """The fields asked by equality, by a range, and in other ways."""
    equal: set[str] = set()
    ranges: set[str] = set()
    others: set[str] = set()
    for field, wanted in filter.items():
        if field.startswith("$"):
            others |= {inner for part in wanted for inner in part}
            continue
        operators = set(wanted) if isinstance(wanted, Mapping) else {"$eq"}
        if operators <= _EQUAL:
            equal.add(field)
        elif operators <= _RANGE:
            ranges.add(field)
        else:
            others.add(field)
    return equal, ranges, others


def _single(filter: Mapping[str, Any]) -> set[str]:
    """The fields asked by one value."""
    return {field for field, wanted in filter.items() if not isinstance(wanted, Mapping)}
