"""What every kind of store gives and takes when it is moved: out of each, into each."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mail.flags import DELETED
from runtime.clock import ManualClock
from runtime.lifecycle import StartError
from storage import ingest, migrate
from storage.adapters.mongo.adapter import MongoStorage
from storage.adapters.sqlite.adapter import SqliteStorage
from storage.compare import compare
from storage.migrate import copy, survey
from storage.model import ALL_UIDS, SYSTEM, NewMessage, Operation, TextContains
from storage.port import Unavailable
from storage.transfer import Batch, BlobRecord, MailboxRecord, Transfer, TransferRefused
from tests.hurry import examples
from tests.storage.consistency import problems
from tests.storage.mongo_consistency import problems as mongo_problems
from tests.storage.mongo_store import Store as MongoStore

from .conftest import ACCOUNTS, Kind, Maker, dump, seen


def quiet(messages: int, octets: int) -> None:
    return None


@asynccontextmanager
async def opened(kind: Kind, place: str, clock: ManualClock) -> AsyncIterator[Transfer]:
    transfer = await kind.transfer(place, clock)
    try:
        yield transfer
    finally:
        await transfer.close()


async def made(kind: Kind, tmp_path: Path, clock: ManualClock, seed: int, steps: int = 60) -> tuple[str, Maker]:
    """A random store, closed: its place."""
    place = kind.place(tmp_path)
    store = await kind.port(place, clock)
    maker = Maker(store, clock, seed)
    try:
        await maker.make(steps)
    finally:
        await store.close()
    return place, maker


async def moved(source: Transfer, target: Transfer) -> None:
    await copy(source, target, await survey(source), quiet)


async def look(kind: Kind, place: str, clock: ManualClock, *, with_ids: bool) -> dict[Any, Any]:
    store = await kind.port(place, clock)
    try:
        return await seen(store, with_ids=with_ids)
    finally:
        await store.close()


@settings(max_examples=examples(8), deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), steps=st.integers(0, 80), page=st.integers(1, 40), batch=st.integers(1, 40))
def test_what_is_moved_is_what_was_there(
    source_kind: Kind, target_kind: Kind, seed: int, steps: int, page: int, batch: int
) -> None:
    async def go(folder: Path) -> None:
        clock = ManualClock()
        old, _ = await made(source_kind, folder, clock, seed, steps)
        new = target_kind.place(folder)
        async with opened(source_kind, old, clock) as source, opened(target_kind, new, clock) as target:
            await moved(source, target)
            # Before the end, the target tells everything by the ids that it had.
            assert await dump(target) == await dump(source)
            report = await compare(source, target, quiet)
            assert (report.problems, report.damaged_before) == ([], [])
            assert all(row.same for row in report.rows)
            kept = (await dump(source), await dump(target))
            await target.finish()
            with_ids = await dump(target) == kept[1]
            assert await target.marker() is None
        assert await look(target_kind, new, clock, with_ids=with_ids) == await look(
            source_kind, old, clock, with_ids=with_ids
        )
        if source_kind.name == target_kind.name or source_kind.name == "sqlite":
            assert with_ids
        store = await target_kind.port(new, clock)
        try:
            if isinstance(store, SqliteStorage):
                assert await store.database.read(lambda conn: problems(conn, octets=True)) == []
            # It goes on as the old one would have: new messages, mailboxes, expunges.
            await Maker(store, clock, seed + 1).make(10)
        finally:
            await store.close()

    before = migrate.PAGE, migrate.BATCH_RECORDS
    migrate.PAGE, migrate.BATCH_RECORDS = page, batch
    try:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(go(Path(folder)))
    finally:
        migrate.PAGE, migrate.BATCH_RECORDS = before


class Dying:
    """A target that dies at its n-th change: before it, or after it but before anybody hears of it."""

    def __init__(self, target: Transfer, at: int, *, after: bool) -> None:
        self._target = target
        self._left = at
        self._after = after

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._target, name)
        if name not in ("put", "put_body", "begin"):
            return call

        async def dying(*arguments: Any) -> Any:
            self._left -= 1
            if self._left < 0 and not self._after:
                raise Unavailable("killed")
            value = await call(*arguments)
            if self._left < 0:
                raise Unavailable("killed")
            return value

        return dying


@pytest.mark.parametrize("after", [False, True])
async def test_a_move_that_dies_anywhere_is_gone_on_with(
    source_kind: Kind, target_kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    monkeypatch.setattr(migrate, "PAGE", 7)
    monkeypatch.setattr(migrate, "BATCH_RECORDS", 5)
    clock = ManualClock()
    old, _ = await made(source_kind, tmp_path, clock, 11)
    new = target_kind.place(tmp_path)
    deaths = 0
    async with opened(source_kind, old, clock) as source:
        wanted = await dump(source)
        while True:
            async with opened(target_kind, new, clock) as target:
                try:
                    # Each attempt comes one or two steps further.
                    await moved(source, Dying(target, 0 if after else 1, after=after))  # type: ignore[arg-type]
                except Unavailable:
                    deaths += 1
                    assert deaths < 1000
                    continue
                assert await dump(target) == wanted
                assert (await compare(source, target, quiet)).problems == []
                break
    assert deaths > 5


async def test_a_body_in_pieces_is_begun_again(source_kind: Kind, target_kind: Kind, tmp_path: Path) -> None:
    clock = ManualClock()
    old = source_kind.place(tmp_path)
    store = await source_kind.port(old, clock)
    maker = Maker(store, clock, 1)
    for account in ACCOUNTS:
        await store.open_account(maker.op(), account)
    for _ in range(3):
        await maker.append_large()
    await store.close()
    async with (
        opened(source_kind, old, clock) as source,
        opened(target_kind, target_kind.place(tmp_path), clock) as target,
    ):
        wanted = await dump(source)
        (large, *_) = (blob for blob, content in wanted["blobs"].values())

        async def cut() -> AsyncIterator[bytes]:
            yield b"y" * 300_000
            raise Unavailable("killed")

        await target.begin((await survey(source)).state, await source.highest())
        with pytest.raises(Unavailable):
            await target.put_body(large, cut())
        assert await target.lacking_blobs({large.id}) == {large.id}
        await moved(source, target)
        assert await dump(target) == wanted


async def test_forms_of_another_version_are_made_anew(
    source_kind: Kind, target_kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    old, _ = await made(source_kind, tmp_path, clock, 5)
    async with (
        opened(source_kind, old, clock) as source,
        opened(target_kind, target_kind.place(tmp_path), clock) as target,
    ):
        before = {blob.forms.version for blob, _ in (await dump(source))["blobs"].values()}
        monkeypatch.setattr(ingest, "VERSION", ingest.VERSION + 1)
        await moved(source, target)
        after = {blob.forms.version for blob, _ in (await dump(target))["blobs"].values()}
        # What is only to be sent on is not read.
        assert (before, after) == ({ingest.UNREAD, ingest.VERSION - 1}, {ingest.UNREAD, ingest.VERSION})
        assert (await compare(source, target, quiet)).problems == []


async def test_a_target_is_empty_or_of_this_very_source(source_kind: Kind, target_kind: Kind, tmp_path: Path) -> None:
    clock = ManualClock()
    old, _ = await made(source_kind, tmp_path, clock, 3)
    full, _ = await made(target_kind, tmp_path, clock, 4)
    async with opened(source_kind, old, clock) as source, opened(target_kind, full, clock) as target:
        with pytest.raises(TransferRefused, match="not empty"):
            await moved(source, target)
        with pytest.raises(TransferRefused, match="no unfinished"):
            await target.erase()
    new = target_kind.place(tmp_path)
    async with opened(target_kind, new, clock) as target:
        await target.begin("another state", {})
        async with opened(source_kind, old, clock) as source:
            with pytest.raises(TransferRefused, match="another source"):
                await moved(source, target)
            await target.put_body(_blob("B1" + "0" * 300), _once(b"left over"))
            await target.erase()
            assert await target.marker() is None
            await moved(source, target)
            assert (await compare(source, target, quiet)).problems == []


async def test_what_was_not_moved_for_searches_is_read_out_again(
    source_kind: Kind, target_kind: Kind, tmp_path: Path
) -> None:
    """Before the upkeep has done so, and after it, the answers are the same."""
    clock = ManualClock()
    old, _ = await made(source_kind, tmp_path, clock, 8)
    new = target_kind.place(tmp_path)
    async with opened(source_kind, old, clock) as source, opened(target_kind, new, clock) as target:
        await moved(source, target)
        await target.finish()
    store = await target_kind.port(new, clock)
    try:
        before = await seen(store, with_ids=True)
        after = ""
        while after := await store.reparse(after, 7):
            continue
        assert await seen(store, with_ids=True) == before
        assert any(isinstance(key[1], TextContains) and value for key, value in before.items() if len(key) == 2)
        clock.advance(3601)
        while (await store.sweep()).more:
            continue
        if isinstance(store, MongoStorage):
            assert await mongo_problems(MongoStore(new, store.database.mongo)) == []
    finally:
        await store.close()


async def test_services_do_not_start_on_an_unfinished_target(
    source_kind: Kind, target_kind: Kind, tmp_path: Path
) -> None:
    clock = ManualClock()
    old, _ = await made(source_kind, tmp_path, clock, 3, steps=5)
    new = target_kind.place(tmp_path)
    async with opened(source_kind, old, clock) as source, opened(target_kind, new, clock) as target:
        await moved(source, target)
    with pytest.raises(StartError, match="unfinished migration"):
        await target_kind.port(new, clock)
    async with opened(target_kind, new, clock) as target:
        await target.finish()
    await (await target_kind.port(new, clock)).close()


async def test_a_source_that_was_used_meanwhile_is_noticed(
    source_kind: Kind, target_kind: Kind, tmp_path: Path
) -> None:
    clock = ManualClock()
    old, _ = await made(source_kind, tmp_path, clock, 9)
    new = target_kind.place(tmp_path)
    async with opened(source_kind, old, clock) as source, opened(target_kind, new, clock) as target:
        with pytest.raises(Unavailable):
            await moved(source, Dying(target, 1, after=False))  # type: ignore[arg-type]
    store = await source_kind.port(old, clock)
    await store.subscribe(Operation("used", SYSTEM), "ann", "something", True)
    await store.close()
    async with opened(source_kind, old, clock) as source, opened(target_kind, new, clock) as target:
        with pytest.raises(TransferRefused, match="used again"):
            await moved(source, target)


async def test_what_differs_is_told(source_kind: Kind, target_kind: Kind, tmp_path: Path) -> None:
    """Each kind of difference, made by taking a changed record, or none."""
    clock = ManualClock()
    old = source_kind.place(tmp_path)
    store = await source_kind.port(old, clock)
    maker = Maker(store, clock, 21)
    await maker.make(120)
    inbox = (await store.mailbox("ann", "INBOX")).ref
    await store.append(maker.op(), inbox, [NewMessage(maker.content(), DELETED), NewMessage(maker.content())], None)
    await store.expunge(maker.op(), inbox, ALL_UIDS)
    await store.close()
    changes: list[tuple[str, Any]] = [
        ("entries", lambda one: (one[0], one[1]._replace(flags=one[1].flags ^ 1))),
        ("entries", lambda one: (one[0], one[1]._replace(modseq=one[1].modseq + 1))),
        ("entries", lambda one: (one[0], one[1]._replace(internaldate=one[1].internaldate + 1))),
        ("entries", None),
        ("vanished", None),
        ("emails", lambda one: one._replace(prefix=one.prefix + b"X: y\r\n")),
        ("blobs", lambda one: _changed(one, content=one.content[:-1] + b"?")),
        ("spool", lambda one: _changed(one, attempts=one.attempts + 1)),
        ("spool", lambda one: _changed(one, claims=one.claims + 1)),
        ("spool", lambda one: _changed(one, held=not one.held)),
        ("spool", lambda one: _changed(one, route="mx")),
        ("spool", lambda one: _changed(one, told_at=1.5)),
        ("spool", lambda one: _changed(one, last="another")),
        ("spool", lambda one: _changed(one, domain="another.example")),
        ("spool", None),
        ("events", None),
        ("accounts", lambda one: _changed(one, modseq=one.modseq + 1)),
        ("accounts", lambda one: _changed(one, subscriptions=(*one.subscriptions, "zz"))),
        ("accounts", lambda one: _changed(one, mailboxes=_renamed(one.mailboxes))),
        ("accounts", lambda one: _changed(one, mailboxes=_shared(one.mailboxes))),
    ]
    async with opened(source_kind, old, clock) as source:
        for what, change in changes:
            async with opened(target_kind, target_kind.place(tmp_path), clock) as target:
                spoiler = _Spoiler(target, what, change)
                await moved(source, spoiler)  # type: ignore[arg-type]
                assert spoiler.done, what
                report = await compare(source, target, quiet)
                assert report.problems, (what, change)
                assert not report.damaged_before


class _Spoiler:
    """Changes the first record of a kind on its way in, or loses it."""

    def __init__(self, target: Transfer, what: str, change: Any) -> None:
        self._target = target
        self._what = what
        self._change = change
        self.done = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    async def put(self, batch: Batch, place: str) -> None:
        records = getattr(batch, self._what)
        if records and not self.done:
            self.done = True
            records[:1] = [] if self._change is None else [self._change(records[0])]
        await self._target.put(batch, place)


def _changed(record: Any, **fields: Any) -> Any:
    return replace(record, **fields)


def _shared(mailboxes: tuple[MailboxRecord, ...]) -> tuple[MailboxRecord, ...]:
    """The first is shared as it was not."""
    return (mailboxes[0]._replace(acl=(*mailboxes[0].acl, ("zoe", False, 3))), *mailboxes[1:])


def _renamed(mailboxes: Any) -> Any:
    return (mailboxes[0]._replace(name="another name"), *mailboxes[1:])


def _blob(id: str) -> BlobRecord:
    forms, _ = ingest.describe(b"left over")
    return BlobRecord(id, 9, b"\0" * 32, forms)


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def test_damage_of_the_source_is_told_apart(source_kind: Kind, target_kind: Kind, tmp_path: Path) -> None:
    """A body that is damaged already is copied as it is, and said to have been so."""
    clock = ManualClock()
    first, _ = await made(source_kind, tmp_path, clock, 2)
    async with (
        opened(source_kind, first, clock) as good,
        opened(source_kind, source_kind.place(tmp_path), clock) as source,
        opened(target_kind, target_kind.place(tmp_path), clock) as target,
    ):
        spoiler = _Spoiler(source, "blobs", lambda one: _changed(one, content=one.content[:-1] + b"?"))
        await moved(good, spoiler)  # type: ignore[arg-type]
        await source.finish()
        await moved(source, target)
        report = await compare(source, target, quiet)
        assert (report.problems, len(report.damaged_before)) == ([], 1)
