"""The stores of notes, each through its own adapter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from homing.adapters.mongo.notes import MongoNotes
from homing.adapters.notes import open_sqlite_notes
from homing.connect import connect_notes
from homing.ports import NOTES, notes_codec
from runtime.clock import ManualClock
from runtime.mongo import open_mongo
from runtime.portserver import PortApp, beside
from runtime.rest import RestServer
from smtp.outbound.notes import KEY_MAX, TEXT_MAX, Note, Notes
from tests.mongo import dropped, mongo_url

TOKEN = "the-secret-of-the-services"
LATER = 1e12


@dataclass
class World:
    notes: Notes
    clock: ManualClock
    again: Callable[[], Awaitable[Notes]]


@pytest.fixture(params=["sqlite", "http", "mongodb", "ferretdb"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    clock = ManualClock()
    async with AsyncExitStack() as stack:
        match request.param:
            case "mongodb" | "ferretdb":
                url = mongo_url(request.param)
                stack.push_async_callback(dropped, url)

                async def again() -> Notes:
                    store = MongoNotes(await open_mongo(url), clock)
                    stack.push_async_callback(store.close)
                    await store.open()
                    return store

                yield World(await again(), clock, again)
            case kind:
                made = [await open_sqlite_notes(tmp_path, clock)]
                stack.push_async_callback(lambda: made[-1].close())

                async def reopened() -> Notes:
                    await made[-1].close()
                    made.append(await open_sqlite_notes(tmp_path, clock))
                    return made[-1]

                if kind == "sqlite":
                    yield World(made[0], clock, reopened)
                    return
                port = PortApp(notes_codec(), made[0], TOKEN, name=NOTES)
                server = RestServer(beside(port, port), host="127.0.0.1", port=0)
                await server.start()
                stack.push_async_callback(server.stop)

                async def opened() -> Notes:
                    store = await connect_notes(f"http://127.0.0.1:{server.port}", token=TOKEN)
                    stack.push_async_callback(store.close)
                    return store

                yield World(await opened(), clock, opened)


async def test_a_note_is_kept(world: World) -> None:
    notes = world.notes
    assert await notes.get("a", "x") is None
    await notes.put("a", "x", "one", LATER)
    await notes.put("a", "x", "zwei ü", LATER)
    await notes.put("b", "x", "other", LATER)
    assert (await notes.get("a", "x"), await notes.get("b", "x")) == ("zwei ü", "other")
    assert await (await world.again()).get("a", "x") == "zwei ü"


async def test_the_first_stays(world: World) -> None:
    found = await asyncio.gather(*[world.notes.first("a", "x", str(n), LATER) for n in range(8)])
    assert len(set(found)) == 1
    assert await world.notes.get("a", "x") == found[0]
    assert await world.notes.first("a", "x", found[0], LATER) == found[0]


async def test_its_time_ends(world: World) -> None:
    now = world.clock.now()
    await world.notes.put("a", "x", "short", now + 10)
    await world.notes.put("a", "y", "long", now + 1000)
    world.clock.advance(10)
    assert await world.notes.get("a", "x") is None
    assert await world.notes.page("a") == (Note("y", "long"),)
    assert await world.notes.first("a", "x", "new", now + 1000) == "new"
    world.clock.advance(5000)
    await world.notes.put("b", "z", "last", LATER)
    assert await world.notes.page("a") == ()


async def test_pages(world: World) -> None:
    keys = [f"{n:02d}/x y!" for n in range(7)]
    for key in reversed(keys):
        await world.notes.put("a", key, key.upper(), LATER)
    await world.notes.put("a!", "0", "another space", LATER)
    await world.notes.put("ab", "0", "another space", LATER)
    found: list[str] = []
    while page := await world.notes.page("a", found[-1] if found else "", 3):
        assert all(note.text == note.key.upper() for note in page)
        found += [note.key for note in page]
    assert found == keys
    await world.notes.remove("a", [*keys[:5], "none"])
    assert [note.key for note in await world.notes.page("a")] == keys[5:]


async def test_what_is_too_long(world: World) -> None:
    for space, key, text in (("a", "x" * (KEY_MAX + 1), ""), ("", "x", ""), ("a", "x", "x" * (TEXT_MAX + 1))):
        with pytest.raises(ValueError, match="a note has"):
            await world.notes.put(space, key, text, LATER)
        with pytest.raises(ValueError, match="a note has"):
            await world.notes.first(space, key, text, LATER)
    await world.notes.put("a", "x", "x" * TEXT_MAX, LATER)
    assert await world.notes.get("a", "x") == "x" * TEXT_MAX
