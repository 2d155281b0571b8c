"""News by a change stream, against a fake that behaves as pymongo's documentation says: no stand-in has one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Self

import pytest
from pymongo.errors import AutoReconnect, OperationFailure

import storage.adapters.mongo.watch as watch
from storage.adapters.mongo.queries import Shape
from storage.adapters.mongo.watch import Watch
from storage.hub import Hub
from storage.port import Unavailable

INVALIDATE = "invalidate"


class Stream:
    """An AsyncCollectionChangeStream: ``try_next`` gives a change, None when there was none for a while, or an error;
    after an error that cannot be resumed, and after an invalidate, it is closed."""

    def __init__(self, events: asyncio.Queue[Any]) -> None:
        self._events = events
        self.alive = True
        self.asked = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.alive = False

    async def try_next(self) -> Mapping[str, Any] | None:
        assert self.alive, "a closed stream is not asked"
        self.asked += 1
        try:
            event = await asyncio.wait_for(self._events.get(), 0.01)
        except TimeoutError:
            return None
        if isinstance(event, Exception):
            self.alive = False
            raise event
        if event is INVALIDATE:
            # The pipeline leaves the event itself out; what is seen is that the cursor has ended.
            self.alive = False
            return None
        change: Mapping[str, Any] = event
        return change

    def __aiter__(self) -> Self:
        raise AssertionError("the driver bounds the wait for one change by its time for one operation")


class Server:
    """The accounts' modseqs, and the streams that were opened on them."""

    def __init__(self) -> None:
        self.modseqs: dict[str, int] = {}
        self.events: asyncio.Queue[Any] = asyncio.Queue()
        self.streams: list[Stream] = []
        self.pipelines: list[Sequence[Mapping[str, Any]]] = []
        self.fails: list[Exception] = []
        self.opening: list[Exception] = []
        self.mongo = SimpleNamespace(replica_set=True, database={"account": self})

    async def watch(self, pipeline: Sequence[Mapping[str, Any]], *, max_await_time_ms: int) -> Stream:
        assert 0 < max_await_time_ms < 10_000, "an answer has to come within the time for one operation"
        if self.opening:
            raise self.opening.pop(0)
        self.pipelines.append(pipeline)
        self.streams.append(Stream(self.events))
        return self.streams[-1]

    async def find(self, shape: Shape) -> list[dict[str, Any]]:
        await asyncio.sleep(0)
        if self.fails:
            raise self.fails.pop(0)
        return [
            {"_id": name, "modseq": self.modseqs[name]} for name in shape.filter["_id"]["$in"] if name in self.modseqs
        ]

    def change(self, account: str, **fields: Any) -> None:
        """What a change of an account is told by, with the pipeline's projection."""
        if "modseq" in fields:
            self.modseqs[account] = fields["modseq"]
        told = {key: value for key, value in fields.items() if key == "modseq"}
        self.events.put_nowait(
            {"_id": {"_data": "82"}, "documentKey": {"_id": account}, "updateDescription": {"updatedFields": told}}
        )


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(watch, "RETRY", 0.05)
    monkeypatch.setattr(watch, "PAUSE", 0.01)
    monkeypatch.setattr(watch, "POLL", 0.01)
    return Server()


def _watch(server: Server) -> Watch:
    return Watch(server, Hub())  # type: ignore[arg-type]


async def _until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def _streaming(server: Server, count: int = 1) -> None:
    await _until(lambda: len(server.streams) >= count and server.streams[-1].asked > 1)


async def test_a_change_wakes_who_waits_for_that_account(server: Server) -> None:
    server.modseqs = {"ann": 3, "bob": 1}
    watching = _watch(server)
    waiting = asyncio.create_task(watching.wait({"ann": 3}, 60))
    await _streaming(server)
    server.change("bob", modseq=2)
    server.change("ann", journal=[])
    server.events.put_nowait(
        {"_id": {}, "documentKey": {"_id": "new"}, "fullDocument": {"modseq": 1}},
    )
    await _until(server.events.empty)
    assert not waiting.done()
    server.change("ann", modseq=4)
    assert await waiting == {"ann": 4}
    ((match, project),) = server.pipelines
    assert "_id" not in project["$project"], "the resume token must stay"
    assert match["$match"] == {"operationType": {"$in": ["insert", "update", "replace"]}}
    await watching.close()
    assert not server.streams[-1].alive


async def test_a_quiet_stream_is_kept(server: Server) -> None:
    server.modseqs = {"ann": 3}
    watching = _watch(server)
    waiting = asyncio.create_task(watching.wait({"ann": 3}, 60))
    await _until(lambda: server.streams and server.streams[0].asked > 5)
    assert await watching.wait({"ann": 3}, 0.01) == {}
    assert len(server.streams) == 1
    await watching.close()
    assert await waiting == {}


@pytest.mark.parametrize(
    "end",
    [
        OperationFailure("history lost", 286),
        OperationFailure("position lost", 136),
        OperationFailure("not authorized", 13),
        OperationFailure("a bad pipeline", 40324),
        AutoReconnect("connection closed"),
        RuntimeError("a mistake"),
        INVALIDATE,
    ],
    ids=str,
)
async def test_a_stream_that_ends_is_followed_by_a_poll_and_another_stream(server: Server, end: Any) -> None:
    server.modseqs = {"ann": 3}
    watching = _watch(server)
    waiting = asyncio.create_task(watching.wait({"ann": 3}, 60))
    await _streaming(server)
    server.events.put_nowait(end)
    await _until(lambda: not server.streams[0].alive)
    # Told by no stream.
    server.modseqs["ann"] = 4
    assert await waiting == {"ann": 4}
    waiting = asyncio.create_task(watching.wait({"ann": 4}, 60))
    await _streaming(server, 2)
    server.change("ann", modseq=5)
    assert await waiting == {"ann": 5}
    await watching.close()


@pytest.mark.parametrize("error", [Unavailable("away"), RuntimeError("a mistake")], ids=str)
async def test_news_come_again_after_the_database_was_away(server: Server, error: Exception) -> None:
    server.modseqs = {"ann": 3}
    watching = _watch(server)
    waiting = asyncio.create_task(watching.wait({"ann": 3}, 60))
    await _streaming(server)
    server.opening = [AutoReconnect("away")] * 3
    server.events.put_nowait(AutoReconnect("away"))
    server.fails = [error] * 3
    await _until(lambda: not server.fails)
    server.modseqs["ann"] = 4
    assert await waiting == {"ann": 4}
    await watching.close()


async def test_nobody_waits_on_a_closed_store(server: Server) -> None:
    server.modseqs = {"ann": 3}
    watching = _watch(server)
    waiting = asyncio.create_task(watching.wait({"ann": 3}, 60))
    late = asyncio.create_task(watching.wait({"ann": 3}, 60))
    await _streaming(server)
    await watching.close()
    assert await asyncio.wait_for(waiting, 30) == {}
    assert await asyncio.wait_for(late, 30) == {}
    with pytest.raises(Unavailable):
        await watching.wait({"ann": 3}, 60)


async def test_a_wait_that_is_looking_when_the_store_closes_ends(server: Server) -> None:
    server.modseqs = {"ann": 3}
    watching = _watch(server)
    waiting = asyncio.create_task(watching.wait({"ann": 3}, 60))
    await asyncio.sleep(0)
    await watching.close()
    assert await asyncio.wait_for(waiting, 30) == {}
