"""Usual header lines that an earlier release kept in SQLite: they go with the first start, and quickly."""

from __future__ import annotations

import contextlib
import sqlite3
import uuid
from pathlib import Path
from typing import Any

import pytest

from mail import headers, ingestform
from runtime.clock import ManualClock
from runtime.sqlite import migrate
from storage import ingest
from storage.adapters.sqlite.adapter import SqliteStorage
from storage.adapters.sqlite.schema import MIGRATIONS
from storage.model import ALL_UIDS, SYSTEM, Delivery, LocalRecipient, Operation, Want
from tests.storage.consistency import problems

STEP = f"usual header lines of version {ingestform.USUAL_SINCE}"
BEFORE = next(number for number, one in enumerate(MIGRATIONS) if one.name == STEP)
LONG = b"".join(b"To: %08d@example.org\r\n" % n for n in range(1000)) + b"\r\n"
MESSAGES = (b"Subject: a\1b\nTo: c\r\n\td\r\nX-Mailer: e\r\n\r\n", b"X: y\r\n\r\n", LONG, b"From: \xff\n\n")
LINES = (b"Subject: a\1b\nTo: c\r\n\td\r\n", b"", None, b"From: \xff\n")
OF_BEFORE = b"Subject: a\1b\nTo: c\r\n\td\r\nX-Mailer: e\r\n"


async def opened(folder: Path) -> SqliteStorage:
    store = SqliteStorage(folder, clock=ManualClock())
    await store.open(index=False)
    return store


async def filled(folder: Path) -> Any:
    """A store with MESSAGES, closed: the mailbox they are in."""
    store = await opened(folder)
    await store.open_account(Operation(uuid.uuid4().hex, SYSTEM), "ann")
    to = (LocalRecipient("ann", "ann", prefix=b"Return-Path: <>\r\n"),)
    await store.accept([Delivery(Operation(uuid.uuid4().hex, SYSTEM), one, "", 1.0, "t", to) for one in MESSAGES])
    assert await store.reparse() == ""
    ref = (await store.mailbox("ann", "INBOX")).ref
    await store.close()
    return ref


async def told(store: SqliteStorage, ref: Any) -> list[Any]:
    wants = (Want.HEADERS, Want.HEADERS | Want.PREFIX, Want.HEADERS | Want.ENVELOPE, Want.HEADERS | Want.CONTENT)
    return [tuple((await store.columns(ref, ALL_UIDS, want)).headers) for want in wants]


async def where(store: SqliteStorage) -> list[Any]:
    return await store.database.read(
        lambda conn: conn.execute(
            "SELECT b.version, b.headers, u.lines FROM blob AS b LEFT JOIN usual AS u ON u.blob = b.number "
            "ORDER BY b.number"
        ).fetchall()
    )


# Where an earlier release has them: beside the blobs, or in them, as the ones before it did.
@pytest.mark.parametrize("beside", [True, False])
async def test_lines_of_before_are_gone_until_they_are_read_again(tmp_path: Path, beside: bool) -> None:
    ref = await filled(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "storage.db")) as conn:
        conn.execute("UPDATE usual SET lines = ? WHERE blob = 1", (OF_BEFORE,))
        conn.execute("UPDATE blob SET version = 2001")
        conn.execute("UPDATE described SET version = 2001")
        if not beside:
            conn.execute("UPDATE blob SET version = 1001, headers = (SELECT lines FROM usual WHERE blob = number)")
            conn.execute("DELETE FROM usual")
        conn.execute(f"PRAGMA user_version = {BEFORE}")
        conn.commit()
    store = await opened(tmp_path)
    try:
        assert await told(store, ref) == [(None,) * 4] * 4
        assert [lines for _, _, lines in await where(store)] == [None] * 4
        assert await store.reparse() == ""
        assert await where(store) == [(ingest.VERSION, None, lines) for lines in LINES]
        assert await told(store, ref) == [LINES] * 4
        assert await store.database.read(problems) == []
    finally:
        await store.close()


@pytest.mark.parametrize("custom", ["OFF", "ON", "FAST"])
def test_a_large_table_goes_without_being_written(tmp_path: Path, custom: str) -> None:
    """Whatever is done otherwise with what is deleted, which stays as it was."""
    file = tmp_path / "storage.db"
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as conn:
        conn.execute("PRAGMA journal_mode = WAL")
        migrate(conn, MIGRATIONS[:BEFORE], "old")
        conn.execute("BEGIN")
        conn.executemany("INSERT INTO usual VALUES (?, ?)", [(n, b"Subject: x\r\n" * 30) for n in range(5000)])
        conn.execute("COMMIT")
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        conn.execute(f"PRAGMA secure_delete = {custom}")
        was = conn.execute("PRAGMA secure_delete").fetchone()
        migrate(conn, MIGRATIONS, "new")
        assert conn.execute("PRAGMA secure_delete").fetchone() == was
        assert conn.execute("SELECT count(*) FROM usual").fetchone() == (0,)
        assert file.stat().st_size > 5000 * 360
        assert (tmp_path / "storage.db-wal").stat().st_size < 5000 * 360 / 10
        assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_other_fields_are_of_another_version() -> None:
    """Who changes the fields that are kept, or how many octets of them, raises USUAL_SINCE (and VERSION with it),
    appends a migration that empties the table, and writes both down here."""
    kept = {
        3: (
            "BCC CC CHAT-VERSION CONTENT-DESCRIPTION CONTENT-TYPE DATE DELIVERED-TO DISPOSITION-NOTIFICATION-TO FROM "
            "IMPORTANCE IN-REPLY-TO LINES MESSAGE-ID NEWSGROUPS PRIORITY REFERENCES REPLY-TO SENDER SUBJECT TO "
            "X-DRAFT-INFO X-K9MAIL-IDENTITY X-LABEL X-ORIGINAL-TO X-PRIORITY X-UNIFORM-TYPE-IDENTIFIER "
            "X-UNIVERSALLY-UNIQUE-IDENTIFIER",
            "LIST-",
            16 * 1024,
        )
    }
    of_today = (b" ".join(headers.USUAL).decode(), headers.USUAL_PREFIX.decode(), headers.USUAL_MAX)
    assert kept[ingestform.USUAL_SINCE] == of_today
    assert ingest.USUAL_SINCE <= ingest.VERSION
    assert [one.name for one in MIGRATIONS if "usual header lines of version" in one.name][-1] == STEP
