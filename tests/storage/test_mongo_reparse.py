"""Describing again on MongoDB: how far it has come is known at the next start."""

from __future__ import annotations

from typing import Any

import pytest

from storage import ingest
from storage.adapters.mongo import blobs, queries, upkeep
from tests.storage.mongo_world import KINDS, World, delivery, operation, world


async def all_blobs(there: World) -> list[dict[str, Any]]:
    return await there.mongo.database["blob"].find({}).to_list()


@pytest.mark.parametrize("kind", KINDS)
async def test_reparse_goes_on_where_an_earlier_one_came_to(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(kind) as there:
        storage = await there.store()
        await storage.open_account(operation(), "ann")
        listed = queries.blobs_after
        asked: list[str] = []

        def noted(after: str, limit: int) -> queries.Shape:
            asked.append(after)
            return listed(after, limit)

        monkeypatch.setattr(queries, "blobs_after", noted)
        await storage.accept([delivery(str(n), "ann") for n in range(5)])
        names = sorted(blob["_id"] for blob in await all_blobs(there))
        # What is younger may still have others come between.
        assert await storage.reparse() == ""
        assert await storage.reparse() == ""
        assert asked[0] == ""
        assert "" < asked[1] < names[0]
        monkeypatch.setattr(upkeep, "SETTLED_SECONDS", -60.0)
        # What begins in the middle does not speak of what lies before.
        assert await storage.reparse(names[1], 2) == names[3]
        after = await storage.reparse("", 2)
        assert after == names[1]
        assert await storage.reparse(await storage.reparse(after, 2), 2) == ""
        # Another process, at its start.
        other = await there.store()
        assert await other.reparse("", 2) == ""
        assert asked[3:] == [asked[1], names[1], names[3], names[4]]
        # Of another release: all of them again, whichever of the two numbers has risen.
        form = upkeep.FORM + 1
        for changed in ([(ingest, "VERSION", ingest.VERSION + 1)], [(upkeep, "FORM", form), (blobs, "FORM", form)]):
            for module, name, value in changed:
                monkeypatch.setattr(module, name, value)
            assert await other.reparse("", 10) == ""
            assert asked[-1] == ""
            assert {blob["version"] for blob in await all_blobs(there)} == {ingest.VERSION}
            assert await other.reparse("", 10) == ""
            assert asked[-1] == names[4]
        assert {blob["form"] for blob in await all_blobs(there)} == {form}
