"""Each question of the MongoDB adapter is answered by an index that is made at the start."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

from identity.adapters.mongo import queries
from identity.adapters.mongo.indexes import INDEXES
from identity.adapters.mongo.queries import Shape
from identity.guesspolicy import Counter
from runtime.mongo import ensure_indexes
from tests.mongo import mongo
from tests.mongo_shapes import SAMPLES, problem, shapes

# What is looked at beside the index, in how many documents.
LOOKED_AT = {
    # one; or one page of the oldest changes
    "_id_": frozenset(
        {
            "kind",
            "rev",
            "password_hash",
            "apps.x",
            "untold",
            "closing",
            "ended",
            "refresh",
            "level",
            "at",
            "id",
            "state",
        }
    ),
    # one
    "key": frozenset({"kind"}),
}
SHAPES = list(shapes(queries, {**SAMPLES, "Counter": Counter(1.0, 2.0)}))


@pytest.mark.parametrize(("name", "shape"), SHAPES, ids=[name for name, _ in SHAPES])
def test_a_question_is_a_prefix_of_its_index(name: str, shape: Shape) -> None:
    assert problem(shape, INDEXES, LOOKED_AT) is None


def test_every_index_answers_a_question_or_guards() -> None:
    used = {(shape.collection, shape.index) for _, shape in SHAPES}
    declared = {(collection, one.name) for collection, indexes in INDEXES.items() for one in indexes if not one.unique}
    assert declared <= used


def test_the_checker_finds_what_is_wrong() -> None:
    good = queries.page_of(queries.ACCOUNT, "d", "a", 10)
    assert problem(good, INDEXES) is None
    for wrong in (
        replace(good, index="nowhere"),
        replace(good, index="kind"),
        replace(good, index="key"),
        replace(good, collection="unknown"),
        replace(good, sort=(("address", 1),)),
        replace(good, filter={"kind": "account", "key": {"$gt": ""}}),
        replace(good, filter={**good.filter, "enabled": True}),
        replace(queries.administrators(1), filter={}),
        Shape(queries.NAMES, {"$or": [{"_id": 1}, {"key": "x"}]}),
    ):
        assert problem(wrong, INDEXES) is not None, wrong


def test_filters_are_made_in_one_module_alone() -> None:
    for path in sorted(Path(queries.__file__).parent.glob("*.py")):
        made = [
            node
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Shape"
        ]
        assert not made or path.name == "queries.py", path


async def test_the_indexes_can_be_made_twice_and_answer_where_the_server_explains() -> None:
    async with mongo("mongodb") as server:
        await ensure_indexes(server.database, INDEXES)
        await ensure_indexes(server.database, INDEXES)
        if not server.replica_set:
            return
        for name, shape in SHAPES:
            cursor = server.database[shape.collection].find(shape.filter, sort=list(shape.sort) or None)
            plan = str((await cursor.explain())["queryPlanner"]["winningPlan"])
            assert "COLLSCAN" not in plan, name
            assert "'stage': 'SORT'" not in plan, name
