"""How SQLite goes through messages for their columns: the order, which no statement asks for, comes of it."""

from __future__ import annotations

import sqlite3
import uuid
from functools import partial, reduce
from itertools import product
from operator import or_
from pathlib import Path

import pytest

from runtime.clock import ManualClock
from storage.adapters.sqlite import columns
from storage.adapters.sqlite.adapter import SqliteStorage
from storage.adapters.sqlite.uids import Table
from storage.model import ALL_UIDS, MailboxRef, NewMessage, Operation, Ranges, Want

TABLES: tuple[Table, ...] = ("entry", "lost")
SETS: dict[str, Ranges] = {"all": ALL_UIDS, "one": ((4, 9),), "many": ((1, 3), (7, 7), (20, 50))}
FORMS = Want.ENVELOPE | Want.BODYSTRUCTURE
OF_BLOB = FORMS | Want.BODY | Want.PARTS | Want.PREVIEW | Want.KEYS
WANTS = (
    *Want,
    Want(0),
    Want.ENTRY,
    Want.ENTRY | FORMS,
    Want.HEADERS | Want.PREFIX,
    Want.HEADERS | FORMS,
    Want.CONTENT | Want.PREFIX | Want.SIZE,
    reduce(or_, Want),
)


def op() -> Operation:
    return Operation(uuid.uuid4().hex, "ann")


def plans(conn: sqlite3.Connection, table: Table, ref: MailboxRef, uids: Ranges, want: Want) -> dict[str, list[str]]:
    """The statements that go through the table for a page, each with its steps."""
    asked: list[str] = []
    conn.set_trace_callback(asked.append)
    columns.page(conn, table, ref, uids, want, 10)
    conn.set_trace_callback(None)
    through = {one for one in asked if f" {table} AS e " in one}
    return {one: [row[3] for row in conn.execute(f"EXPLAIN QUERY PLAN {one}")] for one in through}


@pytest.mark.parametrize("analyzed", [False, True])
async def test_messages_are_gone_through_once_in_the_order_of_their_uids(tmp_path: Path, analyzed: bool) -> None:
    store = SqliteStorage(tmp_path, clock=ManualClock())
    await store.open(index=False)
    try:
        await store.open_account(op(), "ann")
        ref = (await store.mailbox("ann", "INBOX")).ref
        await store.append(op(), ref, [NewMessage(b"Subject: %d\r\n\r\nx" % n, 8 * (n % 3)) for n in range(60)], None)
        await store.expunge(op(), ref, ALL_UIDS)
        if analyzed:
            await store.database.write(lambda conn: conn.execute("ANALYZE").rowcount)
        for table, (name, uids), want in product(TABLES, SETS.items(), WANTS):
            found = await store.database.read(partial(plans, table=table, ref=ref, uids=uids, want=want))
            assert found
            for statement, plan in found.items():
                # A filter passes rows over, in whatever order they come.
                steps = [step for step in plan if not step.startswith("BLOOM FILTER")]
                first = ["SCAN r VIRTUAL TABLE INDEX 1:"] if name == "many" else []
                first.append("SEARCH e USING PRIMARY KEY (mailbox=? AND uid>? AND uid<?)")
                assert steps[: len(first)] == first, statement
                # What stands beside a message is looked up by its number: one row of each.
                for step in steps[len(first) :]:
                    assert "USING INTEGER PRIMARY KEY (rowid=?)" in step, statement
                # And the wide rows of blobs for what only they have.
                looked_at = {step.split()[1] for step in steps[len(first) :]}
                assert looked_at <= {"m", "u", "c"} | ({"b"} if want & OF_BLOB else set()), statement
    finally:
        await store.close()
