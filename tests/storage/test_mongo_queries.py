"""Every question of the MongoDB adapter is answered by an index that is declared."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from bson import ObjectId

from runtime.mongo import ensure_indexes
from storage.adapters.mongo import queries, spool_queries
from storage.adapters.mongo.indexes import INDEXES
from storage.adapters.mongo.queries import BY_ID, Shape
from tests.mongo import mongo

# By the name of the parameter, else by its annotation.
EXAMPLES: dict[str, Any] = {
    "uids": {"$gte": 1, "$lte": 9},
    "flags": [0, 2],
    "by_account": {"ann": ["E1"]},
    "path": "parts.0.at",
    "more": {"flags": {"$in": [1]}},
    "fields": ["size"],
    "queue": "tasks",
    "int": 5,
    "int | None": 5,
    "str": "x",
    "str | None": "x",
    "float": 1.0,
    "float | None": 1.0,
    "bytes": b"x",
    "ObjectId": ObjectId(),
    "ObjectId | None": ObjectId(),
    "bool": True,
    "Sequence[str]": ["x", "y"],
    "Sequence[str] | None": ["x"],
    "Sequence[ObjectId]": [ObjectId()],
    "Sequence[int]": [1],
    "Mapping[str, Any]": {"$gte": 1},
}


def _shapes() -> dict[str, Shape]:
    found: dict[str, Shape] = {}
    made = [*inspect.getmembers(queries, inspect.isfunction), *inspect.getmembers(spool_queries, inspect.isfunction)]
    for name, make in made:
        if name.startswith("_") or inspect.signature(make).return_annotation != "Shape":
            continue
        found[name] = _example(make)
    return found


def _example(make: Callable[..., Shape]) -> Shape:
    asked = inspect.signature(make).parameters
    return make(**{name: EXAMPLES.get(name, EXAMPLES.get(one.annotation)) for name, one in asked.items()})


SHAPES = _shapes()


def _keys(shape: Shape) -> list[str]:
    if shape.index == BY_ID:
        return ["_id"]
    (index,) = [index for index in INDEXES[shape.collection] if index.name == shape.index]
    return [field for field, _ in index.keys]


def _is_equality(condition: Any) -> bool:
    return not isinstance(condition, Mapping) or set(condition) in ({"$in"}, {"$all"})


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_what_is_asked_and_its_order_are_a_prefix_of_the_index(name: str) -> None:
    shape = SHAPES[name]
    keys = _keys(shape)
    asked = [key for key in keys if key in shape.filter]
    assert asked == keys[: len(asked)], "the fields that are asked for are no prefix"
    assert asked or shape.sort, "nothing of the index is asked for"
    equal = 0
    while equal < len(keys) and keys[equal] in shape.filter and _is_equality(shape.filter[keys[equal]]):
        equal += 1
    assert len(asked) <= equal + 1, "a field behind a range is asked for"
    order = [field for field, _ in shape.sort]
    # An index is read from either end.
    assert len({way for _, way in shape.sort}) <= 1
    assert order == keys[equal : equal + len(order)], "the order is not that of the index"


def test_every_shape_was_looked_at() -> None:
    assert len(SHAPES) > 40
    assert {shape.collection for shape in SHAPES.values()} <= set(INDEXES) | {"transfer"}


async def test_a_server_answers_every_shape_by_its_index() -> None:
    """Only a real MongoDB explains its plans in these words."""
    async with mongo("mongodb") as client:
        if not client.replica_set:
            pytest.skip("what stands in for MongoDB does not explain its plans")
        await ensure_indexes(client.database, INDEXES)
        for name, shape in SHAPES.items():
            collection = client.database[shape.collection]
            told = await collection.find(
                shape.filter, hint=shape.index, sort=list(shape.sort) or None, limit=shape.limit
            ).explain()
            plan = str(told["queryPlanner"]["winningPlan"])
            assert "COLLSCAN" not in plan, name
            assert "'SORT'" not in plan, name
