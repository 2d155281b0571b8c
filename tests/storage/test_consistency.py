"""Whatever is done, repeated, refused or swept: every counter and reference is what the rows say."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from runtime.clock import ManualClock
from storage import ranges
from storage.adapters.sqlite import expunge
from storage.adapters.sqlite.adapter import SqliteStorage
from storage.model import (
    ALL_UIDS,
    SYSTEM,
    Delivery,
    FlagMode,
    LocalRecipient,
    MailboxRef,
    NewMessage,
    Operation,
    Ranges,
    RemoteRecipient,
    Settlement,
    SpoolAction,
    StagedBlob,
)
from storage.port import Refused
from tests.hurry import examples
from tests.storage.consistency import problems

ACCOUNTS = ("ann", "bob")
NAMES = st.sampled_from(["INBOX", "Sent", "a", "a/a", "a/a/a", "a/b", "c", "INBOX/x"])
WHO = st.sampled_from(ACCOUNTS)
SOME_UIDS = st.sets(st.integers(1, 9), min_size=1).map(lambda uids: ranges.of(sorted(uids))) | st.just(ALL_UIDS)


def op(actor: str = SYSTEM) -> Operation:
    return Operation(uuid.uuid4().hex, actor)


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 100):
        yield content[start : start + 100]


class Anything(RuleBasedStateMachine):
    """Two accounts, of which one may be purged; each call is made up to three times with one operation id."""

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.folder = tempfile.mkdtemp()
        self.clock = ManualClock()
        self.store = SqliteStorage(self.folder, clock=self.clock)
        # So few that histories are cut.
        self.few = patch.object(expunge, "VANISHED_PER_MAILBOX", 4)
        self.few.start()
        self.staged: list[StagedBlob] = []
        self.seen: dict[str, tuple[int, int]] = {}
        self.uidvalidities: dict[str, tuple[str, int]] = {}
        self.runner.run(self.store.open(index=False))
        for account in ACCOUNTS:
            self.runner.run(self.store.open_account(op(), account))

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.runner.run(self.store.close())
            self.runner.close()
            self.few.stop()
            shutil.rmtree(self.folder)

    def do(self, call: Callable[[], Any], times: int = 1) -> Any:
        outcome: Any = None
        for time in range(times):
            try:
                again = self.runner.run(call())
            except Refused:
                return None
            outcome = again if time == 0 else outcome
        return outcome

    def ref(self, account: str, name: str) -> MailboxRef:
        found = self.do(lambda: self.store.mailbox(account, name))
        return MailboxRef(account, "M0") if found is None else found.ref

    @rule(size=st.integers(0, 300))
    def stage(self, size: int) -> None:
        self.staged.append(self.do(lambda: self.store.stage(pieces(b"y" * size))))

    @rule(names=st.lists(NAMES, max_size=2), remote=st.booleans(), old=st.booleans(), flags=st.integers(0, 31))
    def deliver(self, names: list[str], remote: bool, old: bool, flags: int) -> None:
        local = tuple(
            LocalRecipient(who, who, b"X: y\r\n", name, flags) for who, name in zip(ACCOUNTS, names, strict=False)
        )
        to = (RemoteRecipient("a@b"), RemoteRecipient("c@d")) if remote else ()
        content = self.staged[-1] if old and self.staged else b"Subject: x\r\n\r\n"
        one = Delivery(op("bob"), content, "", 0.0, "t", local, to)
        self.do(lambda: self.store.accept([one, one]), 2)

    @rule(
        limit=st.integers(1, 3), finish=st.sets(st.sampled_from(["a@b", "c@d"])), report=st.booleans(), on=st.booleans()
    )
    def attempt(self, limit: int, finish: set[str], report: bool, on: bool) -> None:
        claimed = self.do(lambda: self.store.claim(limit, 2, 60.0))
        dsn = Delivery(op(), b"Subject: dsn\r\n\r\n", "", 0.0, "t", (LocalRecipient("ann", "ann"),), ())
        batch = [
            Settlement(op(), one.item.id, one.lease, tuple(finish), 0.0, attempted=on, report=dsn if report else None)
            for one in claimed
        ]
        self.do(lambda: self.store.settle(batch[: limit - 1]), 2)

    @rule(action=st.sampled_from(SpoolAction), account=st.sampled_from(["bob", SYSTEM]))
    def queue(self, action: SpoolAction, account: str) -> None:
        again, items = op(account), [item.id for item in self.do(lambda: self.store.spool(None, 3))]
        self.do(lambda: self.store.change_spool(again, items, action, "mx"), 2)

    @rule(who=WHO, name=NAMES, old=st.booleans(), times=st.integers(1, 2))
    def append(self, who: str, name: str, old: bool, times: int) -> None:
        new = [NewMessage(b"a: b\r\n\r\nc", 8, ("k",)), *([NewMessage(self.staged[0])] if old and self.staged else [])]
        ref, again = self.ref(who, name), op()
        self.do(lambda: self.store.append(again, ref, new, 5_000), times)

    @rule(who=WHO, name=NAMES, uids=SOME_UIDS, mode=st.sampled_from(FlagMode), flags=st.integers(0, 31))
    def flags(self, who: str, name: str, uids: Ranges, mode: FlagMode, flags: int) -> None:
        ref, again = self.ref(who, name), op()
        self.do(lambda: self.store.store_flags(again, ref, uids, mode, flags, ("w",)), 2)

    @rule(who=WHO, name=NAMES, to=NAMES, uids=SOME_UIDS, move=st.booleans(), times=st.integers(1, 2))
    def copy_or_move(self, who: str, name: str, to: str, uids: Ranges, move: bool, times: int) -> None:
        ref, again = self.ref(who, name), op()
        if move:
            self.do(lambda: self.store.move(again, ref, uids, to), times)
        else:
            self.do(lambda: self.store.copy(again, ref, uids, to, 5_000), times)

    @rule(who=WHO, name=NAMES, uids=SOME_UIDS, times=st.integers(1, 2))
    def expunge(self, who: str, name: str, uids: Ranges, times: int) -> None:
        ref, again = self.ref(who, name), op()
        self.do(lambda: self.store.expunge(again, ref, uids), times)

    @rule(who=WHO, name=NAMES, times=st.integers(1, 2), use=st.sampled_from([None, None, "\\Sent", "\\Flagged"]))
    def create(self, who: str, name: str, times: int, use: str | None) -> None:
        again = op()
        self.do(lambda: self.store.create_mailbox(again, who, name, use), times)

    @rule(who=WHO, name=NAMES, times=st.integers(1, 2))
    def delete(self, who: str, name: str, times: int) -> None:
        again = op()
        self.do(lambda: self.store.delete_mailbox(again, who, name), times)

    @rule(who=WHO, name=NAMES, to=NAMES, times=st.integers(1, 2))
    def rename(self, who: str, name: str, to: str, times: int) -> None:
        again = op()
        self.do(lambda: self.store.rename_mailbox(again, who, name, to), times)

    @rule(who=WHO, name=NAMES)
    def select(self, who: str, name: str) -> None:
        ref = self.ref(who, name)
        self.do(lambda: self.store.open_mailbox(op(), ref, True))

    @rule(seconds=st.sampled_from([0.0, 700.0, 3601.0]), grace=st.sampled_from([0.0, 3600.0]))
    def sweep(self, seconds: float, grace: float) -> None:
        self.clock.advance(seconds)
        while self.do(lambda: self.store.sweep(grace)).more:
            continue

    @rule()
    def purge(self) -> None:
        self.do(lambda: self.store.purge_account(op(), "bob"))

    @invariant()
    def sound(self) -> None:
        if not hasattr(self, "uidvalidities"):
            return
        assert self.runner.run(self.store.database.read(lambda conn: problems(conn, octets=True))) == []
        rows = self.runner.run(
            self.store.database.read(
                lambda conn: conn.execute("SELECT id, modseq, uidvalidity FROM account ORDER BY id").fetchall()
            )
        )
        for account, modseq, uidvalidity in rows:
            assert (modseq, uidvalidity) >= self.seen.get(account, (0, 0))
            assert uidvalidity >= self.seen.get(account, (0, 0))[1]
            self.seen[account] = modseq, uidvalidity
        for account in ACCOUNTS:
            listed = self.do(partial(self.store.list_mailboxes, account))
            for box in listed.mailboxes if listed is not None else ():
                # A mailbox keeps its uidvalidity under whatever name, and no other ever has it.
                at = f"{account} {box.uidvalidity}"
                assert self.uidvalidities.setdefault(at, (box.ref.mailbox, 0))[0] == box.ref.mailbox
                assert box.uidnext >= self.uidvalidities[at][1]
                self.uidvalidities[at] = box.ref.mailbox, box.uidnext


Anything.TestCase.settings = settings(max_examples=examples(25), stateful_step_count=30, deadline=None)
TestAnything = Anything.TestCase


async def test_between_any_two_statements_others_see_the_last_commit(tmp_path: Path) -> None:
    store = SqliteStorage(tmp_path, clock=ManualClock())
    await store.open(index=False)
    found: list[str] = []
    looks = 0
    last: list[Any] = []

    def state(other: sqlite3.Connection) -> list[Any]:
        tables = ("account", "mailbox", "entry", "lost", "vanished", "email", "blob", "chunk", "spool", "operation")
        return [other.execute(f"SELECT * FROM {table}").fetchall() for table in tables]

    def between(statement: str) -> None:
        nonlocal looks
        if statement.startswith("COMMIT"):
            last.clear()
            return
        looks += 1
        other = sqlite3.connect(tmp_path / "storage.db", isolation_level=None)
        try:
            other.execute("BEGIN")
            seen = state(other)
            found.extend(problems(other))
        finally:
            other.close()
        if last and last[0] != seen:
            found.append(f"a part was seen before {statement}")
        last[:] = [seen]

    try:
        for account in ACCOUNTS:
            await store.open_account(op(), account)
        ref = (await store.mailbox("ann", "INBOX")).ref
        await store.database.write(lambda conn: conn.set_trace_callback(between))
        both = tuple(LocalRecipient(account, account) for account in ACCOUNTS)
        deliveries = [Delivery(op(), b"x: y\r\n\r\n", "", 0.0, "t", both, (RemoteRecipient("a@b"),)) for _ in range(3)]
        await asyncio.gather(
            store.accept(deliveries),
            store.append(op(), ref, [NewMessage(b"x", 8), NewMessage(await store.stage(pieces(b"z" * 300)), 8)], None),
        )
        await asyncio.gather(
            store.store_flags(op(), ref, ((1, 2), (4, 4)), FlagMode.ADD, 8, ("k",)),
            store.copy(op(), ref, ALL_UIDS, "Sent", None),
            store.move(op(), ref, ((1, 1), (3, 3)), "Archive"),
            store.expunge(op(), ref, ALL_UIDS),
            store.create_mailbox(op(), "ann", "a/b"),
            store.rename_mailbox(op(), "ann", "a", "c"),
            store.rename_mailbox(op(), "ann", "INBOX", "d"),
            store.delete_mailbox(op(), "ann", "c/b"),
            store.open_mailbox(op(), ref, True),
        )
        await store.sweep(0)
        await store.purge_account(op(), "bob")
        await store.database.write(lambda conn: conn.set_trace_callback(None))
    finally:
        await store.close()
    assert found == []
    assert looks > 150


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE mailbox SET unseen = unseen + 1 WHERE number = 1",
        "UPDATE mailbox SET recent = 0 WHERE number = 1",
        "UPDATE account SET size = size - 1",
        "UPDATE email SET copies = 2",
        "UPDATE blob SET refs = 1, freed = NULL",
        "UPDATE blob SET freed = 0",
        "DELETE FROM entry",
        "DELETE FROM email",
        "DELETE FROM blob",
        "UPDATE usual SET blob = blob + 1",
        "UPDATE blob SET version = 2001",
        "UPDATE chunk SET data = zeroblob(length(data))",
        "DELETE FROM chunk",
    ],
)
async def test_the_checker_sees_what_is_wrong(tmp_path: Path, damage: str) -> None:
    store = SqliteStorage(tmp_path)
    await store.open(index=False)
    try:
        await store.open_account(op(), "ann")
        to = (LocalRecipient("ann", "ann"),)
        await store.accept([Delivery(op(), b"x: y\r\n\r\n", "", 0.0, "t", to, (RemoteRecipient("a@b"),))])
        assert await store.database.read(lambda conn: problems(conn, octets=True)) == []
        await store.database.write(lambda conn: conn.execute(damage).rowcount)
        assert await store.database.read(lambda conn: problems(conn, octets=True))
    finally:
        await store.close()
