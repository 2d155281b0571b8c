"""Bodies on MongoDB: byte-exact whatever their length, in bounded memory, and damage is found."""

from __future__ import annotations

import hashlib
import random
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from storage import ingest
from storage.adapters.mongo import blobs
from storage.limits import CHUNK
from storage.model import ALL_UIDS, INLINE_MAX, Accepted, NewMessage, Want
from storage.port import Reason, Refused
from tests.reading import rows_of
from tests.storage.mongo_store import Store, message, mongo_store, op, pieces, sweep_all


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with mongo_store() as found:
        yield found


async def generated(size: int, digest: Any) -> AsyncIterator[bytes]:
    """A message of pseudo-random octets without NUL, never whole in memory."""
    source = random.Random(size)
    head = b"Subject: much\r\nContent-Type: application/octet-stream\r\n\r\n"
    digest.update(head)
    yield head
    sent = len(head)
    while sent < size:
        piece = source.randbytes(min(200_000, size - sent)).replace(b"\0", b"\1")
        digest.update(piece)
        sent += len(piece)
        yield piece


async def test_forty_megabytes_are_staged_in_bounded_memory_and_come_back_as_they_were(store: Store) -> None:
    storage = await store.open()
    await storage.open_account(op(), "ann")
    digest = hashlib.sha256()
    size = 40 * 1024 * 1024
    highest = 0

    async def measured() -> AsyncIterator[bytes]:
        nonlocal highest
        async for piece in generated(size, digest):
            highest = max(highest, tracemalloc.get_traced_memory()[0])
            yield piece

    tracemalloc.start()
    try:
        staged = await storage.stage(measured())
    finally:
        tracemalloc.stop()
    # While it came. (Then it is described, for which it is held whole, so many at a time as limits.BIG_PARSES says.)
    assert highest < 12 * 1024 * 1024
    assert (staged.size, staged.sha256) == (size, digest.digest())
    (outcome,) = await storage.accept([store.delivery("ann", content=staged)])
    assert isinstance(outcome, Accepted)
    again = hashlib.sha256()
    at = 0
    while piece := await storage.read("ann", outcome.stored[0].email, at, at + INLINE_MAX):
        again.update(piece)
        at += len(piece)
    assert (at, again.digest()) == (size, digest.digest())
    documents = await store.all("chunk")
    assert {len(one["data"]) for one in documents[:-1]} == {CHUNK}
    assert await storage.scrub() == ("", ())


@pytest.mark.parametrize("size", [1, CHUNK - 1, CHUNK, CHUNK + 1, 17 * 1024 * 1024])
async def test_any_range_of_any_length(store: Store, size: int) -> None:
    storage = await store.open()
    await storage.open_account(op(), "ann")
    content = random.Random(size).randbytes(size).replace(b"\0", b"\1")
    staged = await storage.stage(pieces(content))
    (outcome,) = await storage.accept([store.delivery("ann", content=staged)])
    assert isinstance(outcome, Accepted)
    email = outcome.stored[0].email
    edges = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, size - 1, size, size + 1]
    for start in edges:
        for length in (0, 1, CHUNK - 1, CHUNK, INLINE_MAX):
            assert await storage.read("ann", email, start, start + length) == content[start : start + length]


async def test_a_small_staged_body_and_an_empty_one(store: Store) -> None:
    storage = await store.open()
    await storage.open_account(op(), "ann")
    for content in (b"", b"x", message("small")):
        staged = await storage.stage(pieces(content))
        await storage.accept([store.delivery("ann", content=staged)])
        await storage.append(op(), await store.ref(storage), [NewMessage(content)], None)
    rows = await rows_of(storage, await store.ref(storage), ALL_UIDS, Want(1023))
    assert [row.content for row in rows] == [b"", b"", b"x", b"x", message("small"), message("small")]
    for staged_row, inline in zip(rows[::2], rows[1::2], strict=True):
        assert staged_row[1:] == inline[1:]


async def test_a_body_is_named_only_whole_and_as_it_was(store: Store) -> None:
    storage = await store.open()
    await storage.open_account(op(), "ann")
    staged = await storage.stage(pieces(b"x" * 300_000))
    for wrong in (
        blobs.StagedBlob(staged.id, staged.size - 1, staged.sha256),
        blobs.StagedBlob(staged.id, staged.size, b"x" * 32),
        blobs.StagedBlob("B0", staged.size, staged.sha256),
        blobs.StagedBlob("\udc80", staged.size, staged.sha256),
        blobs.StagedBlob(staged.id, blobs.PARTIAL, staged.sha256),
    ):
        (outcome,) = await storage.accept([store.delivery("ann", content=wrong)])
        assert isinstance(outcome, Refused)
        assert outcome.reason is Reason.NO_SUCH_BLOB
    (outcome,) = await storage.accept([store.delivery("ann", content=staged)])
    assert isinstance(outcome, Accepted)


async def test_a_body_that_is_swept_while_it_comes_leaves_nothing(store: Store) -> None:
    storage, other = await store.open(), await store.open()

    async def slow() -> AsyncIterator[bytes]:
        for n in range(20):
            yield b"x" * 200_000
            if n == 12:
                store.clock.advance(3601)
                await sweep_all(other)

    with pytest.raises(Refused) as refused:
        await storage.stage(slow())
    assert refused.value.reason is Reason.NO_SUCH_BLOB
    assert await store.counts() == {}


async def test_scrub_finds_damage(store: Store) -> None:
    storage = await store.open()
    await storage.open_account(op(), "ann")
    await storage.accept([store.delivery("ann", content=message(str(n))) for n in range(4)])
    await storage.stage(pieces(b"y" * 700_000))
    ids = [blob["_id"] for blob in await store.all("blob")]
    chunk = store.mongo.database["chunk"]
    await chunk.update_one({"_id": f"{ids[0]}:0000"}, {"$set": {"data": b"\0" * len(message("0"))}})
    await chunk.update_one({"_id": f"{ids[1]}:0000"}, {"$set": {"data": message("1")[:-1]}})
    await chunk.delete_one({"_id": f"{ids[2]}:0000"})
    await chunk.delete_one({"_id": f"{ids[4]}:0001"})
    assert await storage.scrub() == ("", (ids[0], ids[1], ids[2], ids[4]))
    after, damaged = await storage.scrub("", 2)
    assert (after, damaged) == (ids[1], (ids[0], ids[1]))
    assert await storage.scrub(after, 3) == (ids[4], (ids[2], ids[4]))
    assert await storage.scrub(ids[4], 3) == ("", ())


async def test_a_damaged_message_is_an_error_and_not_other_octets(store: Store) -> None:
    storage = await store.open()
    await storage.open_account(op(), "ann")
    (outcome,) = await storage.accept([store.delivery("ann", content=message("x"))])
    await store.mongo.database["chunk"].delete_many({})
    (row,) = await rows_of(storage, await store.ref(storage), ALL_UIDS, Want.CONTENT)
    assert row.content is None
    with pytest.raises(ValueError, match="not whole"):
        await storage.read("ann", outcome.stored[0].email, 0, 100)  # type: ignore[union-attr]


async def test_reparse_renews_forms_and_text(store: Store) -> None:
    storage = await store.open()
    await storage.open_account(op(), "ann")
    await storage.accept([store.delivery("ann", content=message(str(n))) for n in range(3)])
    long = b"Subject: long\r\n\r\n" + b"word " * 120_000
    await storage.accept([store.delivery("ann", content=await storage.stage(pieces(long)))])
    before = await store.all("blob"), await store.all("text")
    assert len(before[1]) == 6
    update = {"$set": {"version": 1, "envelope": b"", "sent": 5}}
    await store.mongo.database["blob"].update_many({}, update)
    assert await storage.reparse() == ""
    assert (await store.all("blob"), await store.all("text")) == before
    # Text of another form, longer than what replaces it.
    await store.mongo.database["blob"].update_many({}, {"$set": {"form": 0, "more": 4}})
    await store.mongo.database["text"].insert_many(
        [{"_id": f"{before[0][3]['_id']}:{n:04}", "body": b""} for n in (3, 4)]
    )
    assert await storage.reparse("", 2)
    assert await storage.reparse() == ""
    assert (await store.all("blob"), await store.all("text")) == before
    assert {blob["version"] for blob in before[0]} == {ingest.VERSION}
