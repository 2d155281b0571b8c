"""A power cut at the level of files: what was synced is there, of what was written later any part may be.

At every step of the writer the database and its log are copied as a disk might have them: the log cut off or damaged
anywhere behind the last commit that was synced, the file as it was when the log began (a checkpoint was under way) or
as it is. Each copy is opened as the next start would: every acknowledged delivery is whole, and all counts are right.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import random
import sqlite3
import struct
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from storage import intake
from storage.adapters.sqlite import blobs
from storage.adapters.sqlite.adapter import SqliteStorage
from storage.model import SYSTEM, Accepted, Delivery, LocalRecipient, NewMessage, Operation, RemoteRecipient
from tests.storage.consistency import problems

CHUNK = 8 * 1024
LOG_HEADER, FRAME_HEADER = 32, 24


class Log(NamedTuple):
    """A write-ahead log (https://www.sqlite.org/fileformat2.html#the_write_ahead_log): the salt that it was begun with,
    and where each frame of this beginning ends; behind the last may be frames of an earlier one."""

    salt: bytes
    ends: list[int]


def parsed(log: bytes) -> Log:
    if len(log) < LOG_HEADER:
        return Log(b"", [])
    (page_size,) = struct.unpack(">I", log[8:12])
    salt = log[16:24]
    ends = []
    for start in range(LOG_HEADER, len(log) - FRAME_HEADER - page_size + 1, FRAME_HEADER + page_size):
        if log[start + 8 : start + 16] != salt:
            break
        ends.append(start + FRAME_HEADER + page_size)
    return Log(salt, ends)


class PowerCuts:
    """Tries power cuts at the steps of a store's writer, in its thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store: SqliteStorage | None = None
        self.acknowledged: dict[tuple[str, int], bytes] = {}
        self.found: list[str] = []
        self.cuts = self.behind = self.beginnings = 0
        self._random = random.Random(1)
        self._synced = (b"", 0)
        self._salt = b""
        self._file = self._file_at_beginning = b""

    def __call__(self, step: str) -> None:
        if self.store is None or step not in ("begin", "committed"):
            return
        file = (self.folder / "storage.db").read_bytes()
        log = (self.folder / "storage.db-wal").read_bytes()
        now = parsed(log)
        if now.salt != self._salt:
            # The log is begun anew only when all of it is in the file, and that is synced.
            self._salt = now.salt
            self._file_at_beginning = file
            self.beginnings += 1
        end = now.ends[-1] if now.ends else LOG_HEADER
        if file != self._file or (step == "committed" and self.store.database._lasting):
            # The log is synced before any of it is written into the file, too.
            self._synced = (now.salt, end)
        self._file = file
        safe = self._synced[1] if self._synced[0] == now.salt else LOG_HEADER
        cuts = [cut for cut in now.ends if cut >= safe]
        self.behind += len(cuts) > 1
        if safe == LOG_HEADER:
            cuts.append(LOG_HEADER)
        for cut in self._random.sample(cuts, min(len(cuts), 3)):
            self._try(file, log[:cut])
            # A frame that never reached the disk, with others behind it that did.
            self._try(file, log[:cut] + bytes(min(1000, len(log) - cut)) + log[cut + 1000 :])
            if self._random.random() < 0.5:
                self._try(self._file_at_beginning, log[:cut])

    def _try(self, file: bytes, log: bytes) -> None:
        self.cuts += 1
        copy = self.folder / f"cut-{self.cuts}.db"
        copy.write_bytes(file)
        copy.with_name(f"{copy.name}-wal").write_bytes(log)
        with contextlib.closing(sqlite3.connect(copy)) as conn:
            wrong = problems(conn, octets=True, chunk=CHUNK)
            for (account, uid), sha256 in list(self.acknowledged.items()):
                row = conn.execute(
                    "SELECT b.sha256 FROM account AS a JOIN mailbox AS m ON m.account = a.number AND m.name = 'INBOX' "
                    "JOIN entry AS e ON e.mailbox = m.number JOIN email AS i ON i.number = e.email "
                    "JOIN blob AS b ON b.number = i.blob WHERE a.id = ? AND e.uid = ?",
                    (account, uid),
                ).fetchone()
                # That the octets are those of the digest is what ``problems`` looks at.
                if row != (sha256,):
                    wrong.append(f"{account}'s message {uid} is lost")
        for left in self.folder.glob(f"{copy.name}*"):
            left.unlink()
        self.found += wrong


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 10_000):
        yield content[start : start + 10_000]


async def test_no_acknowledged_message_is_lost_or_without_its_body(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "CHUNK", CHUNK)
    monkeypatch.setattr(intake, "STAGED_AT_ONCE", 1)
    # Not out of memory alone: so each body takes several commits.
    monkeypatch.setattr(intake, "STAGED_IN_MEMORY", 3 * CHUNK)
    monkeypatch.setattr(blobs, "CHUNK", CHUNK)
    power = PowerCuts(tmp_path)
    store = SqliteStorage(tmp_path, on_step=power)
    # The log is begun anew every few commits, between those of one body too.
    store.database._checkpoint_pages = 14
    await store.open(index=False)
    numbers = itertools.count()

    async def lane(kind: int) -> None:
        for _ in range(5):
            number = next(numbers)
            content = f"Subject: {number}\r\n\r\n".encode() + random.Random(number).randbytes(20_000).replace(
                b"\0", b"0"
            )
            digest = hashlib.sha256(content).digest()
            body = await store.stage(pieces(content))
            op = Operation(uuid.uuid4().hex, SYSTEM)
            if kind == 0:
                ref = (await store.mailbox("ann", "INBOX")).ref
                appended = await store.append(op, ref, [NewMessage(body)], None)
                power.acknowledged["ann", appended.uids[0]] = digest
                continue
            local = tuple(LocalRecipient(account, account) for account in ("ann", "bob"))
            (outcome,) = await store.accept([Delivery(op, body, "", 0.0, "t", local, (RemoteRecipient("a@b"),))])
            assert isinstance(outcome, Accepted)
            power.acknowledged.update({(at.account, at.uid): digest for at in outcome.stored})

    try:
        for account in ("ann", "bob"):
            await store.open_account(Operation(uuid.uuid4().hex, SYSTEM), account)
        power.store = store
        await asyncio.gather(lane(0), lane(1), lane(1))
        power.store = None
        assert len(power.acknowledged) == 25
    finally:
        power.store = None
        await store.close()
    assert power.found == []
    # It was tried, and there was something to lose.
    assert power.cuts > 100
    assert power.behind > 5
    assert power.beginnings > 3
