"""What is the SQLite adapter's own: disk full, damage, the event loop left alone, a process killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
import textwrap
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from blockbuster import blockbuster_ctx

from runtime.clock import ManualClock
from storage import ingest, intake
from storage.adapters.sqlite import blobs
from storage.adapters.sqlite.adapter import SqliteStorage
from storage.adapters.sqlite.mailboxes import take_recent
from storage.connect import connect
from storage.limits import CHUNK
from storage.model import (
    ALL_UIDS,
    SYSTEM,
    Accepted,
    All,
    Delivery,
    FlagMode,
    LocalRecipient,
    MailboxRef,
    NewMessage,
    Operation,
    RemoteRecipient,
    Unrepeated,
    Want,
)
from storage.port import Reason, Refused, Unavailable
from storage.service import StorageService
from tests.reading import entries_of, lost_rows_of, rows_of
from tests.storage.consistency import problems

ROOT = Path(__file__).parents[2]


def op(actor: str = SYSTEM, id: str | None = None) -> Operation:
    return Operation(id or uuid.uuid4().hex, actor)


def delivery(n: int, *accounts: str, size: int = 2048) -> Delivery:
    content = f"Subject: {n}\r\n\r\n".encode() + b"x" * size
    local = tuple(LocalRecipient(account, account) for account in accounts or ("ann",))
    return Delivery(op(id=f"op-{n}"), content, "", 1.0, f"t{n}", local)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStorage]:
    found = SqliteStorage(tmp_path, clock=ManualClock())
    await found.open(index=False)
    try:
        await found.open_account(op(), "ann")
        yield found
    finally:
        await found.close()


async def inbox(store: SqliteStorage) -> MailboxRef:
    return (await store.mailbox("ann", "INBOX")).ref


async def test_nothing_is_kept_of_an_operation_that_is_not_repeated(store: SqliteStorage) -> None:
    ref = await inbox(store)

    def kept(conn: sqlite3.Connection) -> set[str]:
        return {id for (id,) in conn.execute("SELECT id FROM operation")}

    before = await store.database.read(kept)
    message = NewMessage(b"Subject: 1\r\n\r\n", 0, (), None)
    await store.append(Unrepeated("once", SYSTEM), ref, [message], None)
    await store.append(Operation("twice", SYSTEM), ref, [message], None)
    assert await store.database.read(kept) - before == {"twice"}


async def test_a_full_disk_is_unavailable_and_recovers(store: SqliteStorage) -> None:
    await store.accept([delivery(0)])
    ref = await inbox(store)

    def limit(more: int | None) -> Any:
        def job(conn: sqlite3.Connection) -> None:
            (pages,) = conn.execute("PRAGMA page_count").fetchone()
            conn.execute(f"PRAGMA max_page_count = {2**31 - 2 if more is None else pages + more}").fetchone()

        return store.database.write(job)

    await limit(4)
    (outcome,) = await store.accept([delivery(1, size=200_000)])
    assert isinstance(outcome, Unavailable)
    assert outcome.full
    with pytest.raises(Unavailable) as told:
        await store.append(op(), ref, [NewMessage(b"x" * 200_000)], None)
    assert told.value.full
    assert len(await entries_of(store, ref, ALL_UIDS)) == 1
    await limit(None)
    (outcome,) = await store.accept([delivery(1, size=200_000)])
    assert isinstance(outcome, Accepted)
    assert outcome.stored[0].uid == 2


async def test_scrub_finds_damage(store: SqliteStorage) -> None:
    await store.accept([delivery(n) for n in range(4)])
    found = await store.database.read(lambda conn: conn.execute("SELECT key FROM chunk ORDER BY key").fetchall())
    await store.database.write(
        lambda conn: (
            conn.execute("UPDATE chunk SET data = CAST(data || x'79' AS BLOB) WHERE key = ?", found[0]).rowcount
        )
    )
    await store.database.write(
        lambda conn: conn.execute("UPDATE chunk SET data = zeroblob(length(data)) WHERE key = ?", found[1]).rowcount
    )
    await store.database.write(lambda conn: conn.execute("DELETE FROM chunk WHERE key = ?", found[2]).rowcount)
    _, damaged = await store.scrub()
    assert damaged == ("B000000000002", "B000000000003")


async def test_reparse_writes_the_new_version(store: SqliteStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.accept([delivery(n) for n in range(3)])
    await store.database.write(lambda conn: conn.execute("UPDATE blob SET version = 1, envelope = x''").rowcount)
    assert await store.reparse() == ""
    rows = await store.database.read(lambda conn: conn.execute("SELECT version, envelope FROM blob").fetchall())
    assert {version for version, _ in rows} == {ingest.VERSION}
    assert all(envelope for _, envelope in rows)


async def test_a_blob_that_went_while_it_was_read_again_leaves_nothing(store: SqliteStorage) -> None:
    await store.accept([delivery(1)])
    forms, _ = ingest.describe(b"Subject: x\r\n\r\n")

    def work(conn: sqlite3.Connection) -> Any:
        (number,) = conn.execute("SELECT number FROM blob").fetchone()
        blobs.forget(conn, number)
        blobs.describe(conn, number, b"", forms)
        return conn.execute("SELECT count(*) FROM usual").fetchone()

    assert await store.database.write(work) == (0,)


async def test_who_only_looks_for_work_does_not_hold_up_the_search_index(store: SqliteStorage) -> None:
    await store.accept([delivery(1)])
    before = store.database.last_used
    assert await store.claim(1, 1, 60.0) == ()
    assert await store.reparse() == ""
    assert store.database.last_used == before
    await store.usage("ann")
    assert store.database.last_used > before


async def test_reparse_goes_on_where_an_earlier_one_came_to(
    store: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = blobs.listed
    seen: list[list[int]] = []

    def noted(*args: Any) -> Any:
        found = listed(*args)
        seen.append([blob.number for blob in found])
        return found

    monkeypatch.setattr(blobs, "listed", noted)
    await store.accept([delivery(n) for n in range(5)])
    # What begins in the middle does not speak of what lies before.
    assert await store.reparse("B000000000002", 2) == "B000000000004"
    after = await store.reparse("", 2)
    assert await store.reparse(await store.reparse(after, 2), 2) == ""
    assert seen == [[3, 4], [1, 2], [3, 4], [5]]
    await store.accept([delivery(9)])
    assert await store.reparse("", 2) == ""
    assert seen[4:] == [[6]]
    monkeypatch.setattr(ingest, "VERSION", ingest.VERSION + 1)
    assert await store.reparse("", 10) == ""
    assert seen[5:] == [[1, 2, 3, 4, 5, 6]]


async def test_the_event_loop_is_left_alone(tmp_path: Path) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(12):
            yield b"x" * 200_000

    with blockbuster_ctx():
        store = SqliteStorage(tmp_path)
        await store.open()
        try:
            await store.open_account(op(), "ann")
            ref = await inbox(store)
            remote = Delivery(op(), b"x", "", 1.0, "t", (), (RemoteRecipient("a@b"),))
            await store.accept([delivery(n) for n in range(40)] + [remote])
            staged = await store.stage(chunks())
            await store.append(op(), ref, [NewMessage(b"\r\nx"), NewMessage(staged)], None)
            await store.open_mailbox(op(), ref, True)
            await store.store_flags(op(), ref, ((1, 30),), FlagMode.ADD, 8, ("k",))
            await store.copy(op(), ref, ALL_UIDS, "Sent", None)
            await store.move(op(), ref, ((1, 2),), "Sent")
            await store.expunge(op(), ref, ALL_UIDS)
            await rows_of(store, ref, ALL_UIDS, Want(1023))
            await lost_rows_of(store, ref, ALL_UIDS, Want(1023))
            await entries_of(store, ref, ALL_UIDS)
            await store.changes(ref, 0)
            await store.search(ref, All())
            await store.watch({"ann": 0}, 0)
            await store.create_mailbox(op(), "ann", "a/b")
            await store.rename_mailbox(op(), "ann", "a", "c")
            await store.delete_mailbox(op(), "ann", "c/b")
            await store.list_mailboxes("ann")
            await store.spool(None)
            await store.trace("t1", None)
            await store.stats()
            await store.sweep(0)
            await store.scrub()
            await store.reparse()
            await store.purge_account(op(), "ann")
        finally:
            await store.close()


async def test_blobs_keep_their_chunks_whole(store: SqliteStorage) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for n in range(30):
            yield bytes([n + 1]) * 99_999

    staged = await store.stage(chunks())
    sizes = await store.database.read(
        lambda conn: [size for (size,) in conn.execute("SELECT length(data) FROM chunk ORDER BY key")]
    )
    assert sum(sizes) == staged.size
    assert set(sizes[:-1]) == {CHUNK}


CHILD = textwrap.dedent(
    """
    import asyncio, sys
    from storage.adapters.sqlite.adapter import SqliteStorage
    from storage.model import SYSTEM, Accepted, Delivery, LocalRecipient, Operation, RemoteRecipient

    async def main(folder, first):
        store = SqliteStorage(folder)
        await store.open()
        for account in ("ann", "bob"):
            await store.open_account(Operation(f"open-{account}-{first}", SYSTEM), account)

        async def deliver(lane):
            n = first + lane
            while True:
                content = b"Subject: %d\\r\\n\\r\\n" % n + b"x" * (n % 5000)
                local = (LocalRecipient("ann", "ann"), LocalRecipient("bob", "bob"))
                one = Delivery(
                    Operation(f"op-{n}", SYSTEM), content, "", 1.0, f"t{n}", local, (RemoteRecipient("x@y"),)
                )
                (outcome,) = await store.accept([one])
                assert isinstance(outcome, Accepted), outcome
                print(n, outcome.stored[0].uid, outcome.stored[1].uid, *outcome.spooled, flush=True)
                n += 8

        await asyncio.gather(*(deliver(lane) for lane in range(8)))

    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
    """
)


@pytest.mark.crash
async def test_what_was_acknowledged_survives_kill_9_exactly_once(tmp_path: Path) -> None:
    told: dict[int, tuple[str, ...]] = {}
    for round_ in range(3):
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            CHILD,
            str(tmp_path),
            str(round_ * 100_000),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.PIPE,
        )
        assert child.stdout is not None
        wanted = len(told) + 40 + 37 * round_
        while len(told) < wanted:
            words = (await asyncio.wait_for(child.stdout.readline(), 30)).decode().split()
            assert words
            if words[0].isdigit() and len(words) == 4:
                told[int(words[0])] = tuple(words[1:])
        child.send_signal(signal.SIGKILL)
        for line in (await child.stdout.read()).decode().split("\n")[:-1]:
            if len(words := line.split()) == 4 and words[0].isdigit():
                told[int(words[0])] = tuple(words[1:])
        await child.wait()
    store = SqliteStorage(tmp_path)
    await store.open()
    try:
        kept: dict[str, dict[int, int]] = {"ann": {}, "bob": {}}
        for account, by_number in kept.items():
            ref = (await store.mailbox(account, "INBOX")).ref
            last = 0
            while page := await rows_of(store, ref, ((last + 1, 0xFFFF_FFFF),), Want.CONTENT):
                for row in page:
                    last = row.entry.uid
                    assert row.content is not None
                    number = int(row.content.split(b"\r\n")[0].split()[1])
                    assert row.content == b"Subject: %d\r\n\r\n" % number + b"x" * (number % 5000)
                    assert number not in by_number, "delivered twice"
                    by_number[number] = last
            box = await store.mailbox(account, "INBOX")
            assert (box.messages, box.uidnext) == (len(by_number), last + 1)
        # One that was in flight came to both or to none.
        assert kept["ann"].keys() == kept["bob"].keys()
        spooled = {item.id for item in await store.spool(None, 1000)}
        assert len(spooled) == len(kept["ann"])
        for number, (ann, bob, item) in told.items():
            assert (kept["ann"][number], kept["bob"][number]) == (int(ann), int(bob))
            assert item in spooled
            (outcome,) = await store.accept([delivery(number)])
            assert isinstance(outcome, Accepted)
            assert outcome.stored[0].uid == int(ann)
        assert (await store.scrub("", 10_000))[1] == ()
        assert await store.database.read(lambda conn: problems(conn, octets=True)) == []
    finally:
        await store.close()


async def test_who_may_read_no_more_takes_no_recent_messages(store: SqliteStorage) -> None:
    """The right may go between what an opening reads and what it writes."""
    ref = await inbox(store)
    await store.append(op(), ref, [NewMessage(b"a\r\n")], None)
    theirs = MailboxRef(ref.account, ref.mailbox, "bob")
    with pytest.raises(Refused):
        await store.database.write(lambda conn: take_recent(conn, theirs))
    assert (await store.mailbox("ann", "INBOX")).recent == 1


async def test_the_service_sweeps_and_closes(tmp_path: Path) -> None:
    clock = ManualClock()
    store = SqliteStorage(tmp_path, clock=clock)
    await store.open()
    await store.open_account(op(), "ann")
    await store.accept([delivery(n) for n in range(3)])
    ref = await inbox(store)
    await store.store_flags(op(), ref, ALL_UIDS, FlagMode.ADD, 8)
    await store.expunge(op(), ref, ALL_UIDS)
    service = StorageService(store, sweep_seconds=0.01)
    await service.start()
    clock.advance(3601)
    deadline = asyncio.get_running_loop().time() + 30
    while await lost_rows_of(store, ref, ALL_UIDS, Want.SIZE):
        assert asyncio.get_running_loop().time() < deadline
    await service.drain()
    assert (await store.usage("ann")).messages == 0
    await service.stop()
    with pytest.raises(Unavailable):
        await store.usage("ann")


async def test_connect_opens_by_url(tmp_path: Path) -> None:
    folder = tmp_path / "a b"
    folder.mkdir()
    store = await connect(f"sqlite://{tmp_path}/a%20b")
    await store.open_account(op(), "ann")
    await store.close()
    assert (folder / "storage.db").stat().st_mode & 0o777 == 0o600
    for url in ("imap://x/y", "sqlite://host/path", "sqlite:///", "", "/a/path"):
        with pytest.raises(ValueError, match="sqlite:///path"):
            await connect(url)


async def test_a_repeat_with_a_name_taken_meanwhile(store: SqliteStorage) -> None:
    first = op("ann")
    made = await store.create_mailbox(first, "ann", "a")
    await store.delete_mailbox(op(), "ann", "a")
    assert await store.create_mailbox(first, "ann", "a") == made
    with pytest.raises(Refused):
        await store.mailbox("ann", "a")


async def test_a_staged_body_that_the_sweep_has_begun_on_is_not_taken_for_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waited over the grace to be described, with so many chunks that the sweep takes several rounds."""
    monkeypatch.setattr(intake, "STAGED_IN_MEMORY", 0)
    clock = ManualClock(1_000_000.0)
    store = SqliteStorage(tmp_path, clock=clock)
    await store.open(index=False)
    whole = store._intake.whole

    async def late(number: int, codec: int, size: int) -> bytes:
        raw = await whole(number, codec, size)
        clock.advance(3700.0)
        await store.sweep()
        return raw

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(90):
            yield b"x" * (256 * 1024)

    monkeypatch.setattr(store._intake, "whole", late)
    try:
        with pytest.raises(Refused) as refused:
            await store.stage(chunks())
        assert refused.value.reason is Reason.NO_SUCH_BLOB
        assert not await store.database.read(lambda conn: problems(conn, octets=True))
    finally:
        await store.close()
