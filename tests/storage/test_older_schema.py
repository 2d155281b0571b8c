"""A database of the release before sharing, queues and annotations opens, keeps what it has, and has all of these."""

from __future__ import annotations

import contextlib
import sqlite3
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

from runtime.clock import ManualClock
from runtime.sqlite import migrate
from storage.adapters.sqlite.adapter import SqliteStorage
from storage.adapters.sqlite.schema import MIGRATIONS
from storage.model import (
    ALL_RIGHTS,
    ALL_UIDS,
    SYSTEM,
    TASKS,
    Accepted,
    Grant,
    MailboxRef,
    NewMessage,
    Operation,
    Rights,
    Settlement,
    Want,
)
from tests.reading import rows_of
from tests.storage.consistency import problems
from tests.storage.mongo_world import delivery

BEFORE = next(number for number, one in enumerate(MIGRATIONS) if one.name == "access control lists")
NEW = ("acl", "spool_result", "annotation")
"""Tables that the release had not."""


def op(actor: str = "ann") -> Operation:
    return Operation(uuid.uuid4().hex, actor)


async def _opened(folder: Path) -> SqliteStorage:
    store = SqliteStorage(folder, clock=ManualClock())
    await store.open(index=False)
    return store


async def _old(folder: Path) -> list[Any]:
    """Make the database with mail and an item of the spool: what is seen of it."""
    store = await _opened(folder)
    for account in ("ann", "bob"):
        await store.open_account(op(account), account)
    ref = (await store.mailbox("ann", "INBOX")).ref
    await store.append(op(), ref, [NewMessage(b"Subject: %d\r\n\r\nx" % n, 8, ("old",)) for n in range(3)], None)
    await store.expunge(op(), ref, ((2, 2),))
    await store.accept([delivery("waits", remote=("a@far.example",))])
    seen = await _seen(store)
    await store.close()
    # Nothing above has used what the release did not know: without it the file is one of that release.
    with contextlib.closing(sqlite3.connect(folder / "storage.db", isolation_level=None)) as conn:
        for table in NEW:
            assert conn.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
            conn.execute(f"DROP TABLE {table}")
        conn.execute("ALTER TABLE account DROP COLUMN annotated")
        conn.execute("DROP TABLE described")
        conn.execute("CREATE TABLE saved (\n    day INTEGER PRIMARY KEY,\n    messages INTEGER NOT NULL\n)")
        conn.execute("INSERT INTO saved SELECT saved_day, saved FROM account WHERE saved > 0")
        assert conn.execute("SELECT messages FROM saved").fetchall() == [(3,)]
        conn.execute("INSERT INTO saved SELECT day - 1, 9 FROM saved")
        for column in ("saved", "saved_day"):
            conn.execute(f"ALTER TABLE account DROP COLUMN {column}")
        assert conn.execute("SELECT count(*) FROM usual").fetchone() == (3,)
        conn.execute("UPDATE blob SET version = 2001, headers = (SELECT lines FROM usual WHERE blob = number)")
        conn.execute("DROP TABLE usual")
        conn.execute(f"PRAGMA user_version = {BEFORE}")
        tables = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name"
        made = conn.execute(tables).fetchall()
        with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as released:
            migrate(released, MIGRATIONS[:BEFORE], "released")
            assert made == released.execute(tables).fetchall()
    return seen


async def _seen(store: SqliteStorage) -> list[Any]:
    listed = await store.list_mailboxes("ann")
    ref = listed.mailboxes[0].ref
    rows = [await rows_of(store, ref, ALL_UIDS, want) for want in (Want.CONTENT, Want.HEADERS)]
    rows.append(await rows_of(store, ref, ALL_UIDS, Want.HEADERS | Want.ENVELOPE))
    today = (await store.stats()).emails_today
    return [listed, rows, await store.changes(ref, 0), await store.usage("ann"), await store.spool(None), today]


async def test_it_keeps_what_it_has_and_has_what_is_new(tmp_path: Path) -> None:
    before = await _old(tmp_path)
    store = await _opened(tmp_path)
    try:
        # The header lines of that release are not those of this one.
        now = await _seen(store)
        assert [row.headers for rows in now[1] for row in rows] == [None] * 6
        assert await store.reparse() == ""
        assert await _seen(store) == before
        ref = (await store.mailbox("ann", "INBOX")).ref
        await store.set_acl(op(), ref, "bob", ALL_RIGHTS)
        assert await store.acl(ref) == (Grant("bob", ALL_RIGHTS),)
        assert [(box.name, box.rights) for box in await store.shared_with("bob")] == [("INBOX", ALL_RIGHTS)]
        theirs = MailboxRef("ann", ref.mailbox, "bob")
        assert (await store.move(op("bob"), theirs, ALL_UIDS, "INBOX", None, "bob")).source == ((1, 1), (3, 3))
        modseq = await store.set_annotations(op("bob"), theirs, {"/shared/x": b"1", "/private/x": b"2"})
        assert (await store.list_mailboxes("ann")).annotated == modseq
        assert [one.value for one in await store.annotations([theirs])] == [b"2", b"1"]
        (outcome,) = await store.accept([replace(delivery("task", remote=("t@far.example",)), queue=TASKS)])
        assert isinstance(outcome, Accepted)
        for queue in ("", TASKS):
            (claimed,) = await store.claim(9, 9, 60.0, queue=queue)
            addresses = tuple(one.address for one in claimed.item.recipients)
            end = Settlement(op(SYSTEM), claimed.item.id, claimed.lease, addresses, result="sent" if queue else None)
            assert list(await store.settle([end])) == [None]
        assert (await store.spool_result(*outcome.spooled, None)).text == "sent"
        await store.set_acl(op(), ref, "bob", Rights.NONE)
    finally:
        await store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "storage.db")) as conn:
        assert problems(conn) == []


async def test_what_an_account_set_on_mailboxes_of_others_is_found_by_its_index(tmp_path: Path) -> None:
    """By a purge, which asks again after each step."""
    asked: list[str] = []
    store = await _opened(tmp_path)
    try:
        await store.open_account(op(), "ann")
        await store.database.write(lambda conn: conn.set_trace_callback(asked.append))
        assert await store.purge_account(op(), "ann")
    finally:
        await store.close()
    (step,) = {one for one in asked if "FROM annotation" in one and "owner" in one}
    with contextlib.closing(sqlite3.connect(tmp_path / "storage.db")) as conn:
        plan = [row[3] for row in conn.execute(f"EXPLAIN QUERY PLAN {step}")]
    assert "SEARCH annotation USING COVERING INDEX annotation_owner (owner=?)" in plan
