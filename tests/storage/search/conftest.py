"""A storage.db with a few mailboxes, filled directly, and a search index beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mail import dates
from mail.structure import Part, parse
from runtime.sqlite import Database
from storage.adapters.sqlite import query
from storage.adapters.sqlite.schema import CHUNK_BITS, KEYWORD_BASE, MIGRATIONS
from storage.adapters.sqlite.search_index import SearchIndex
from storage.limits import CHUNK
from storage.model import MailboxRef, Query
from tests.storage.search.reference import Letter


class Store:
    """The databases of one account with two mailboxes, of which ``ref`` names the first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = Database(folder / "storage.db", migrations=MIGRATIONS)
        self.index = SearchIndex(folder / "search.db", self.database)
        self.ref = MailboxRef("alice", "M1")
        self.other = MailboxRef("alice", "M2")
        self.uids = {1: 0, 2: 0}

    async def open(self) -> None:
        await self.database.open()
        await self.database.write(self._fill)
        await self.index.open()

    async def close(self) -> None:
        await self.index.close()
        await self.database.close()

    async def reopen_index(self) -> None:
        await self.index.close()
        self.index = SearchIndex(self.folder / "search.db", self.database)
        await self.index.open()

    @staticmethod
    def _fill(conn: Any) -> None:
        if conn.execute("SELECT 1 FROM account").fetchone() is None:
            conn.execute("INSERT INTO account (id) VALUES ('alice')")
            for name in ("INBOX", "Archive"):
                conn.execute("INSERT INTO mailbox (account, name, uidvalidity, modseq) VALUES (1, ?, 1, 1)", (name,))

    async def add(self, *letters: Letter, mailbox: int = 1, hand: bool = False) -> list[int]:
        """Put letters into a mailbox; their email numbers."""
        raws = [letter.raw() for letter in letters]
        return await self.add_raw(letters, raws, mailbox=mailbox, hand=hand)

    async def add_raw(
        self, letters: Sequence[Letter], raws: Sequence[bytes], *, mailbox: int = 1, hand: bool = False
    ) -> list[int]:
        parts = [parse(raw) for raw in raws]
        numbers = await self.database.write(lambda conn: self._add(conn, letters, raws, parts, mailbox))
        if hand:
            for (_, blob), raw, part in zip(numbers, raws, parts, strict=True):
                self.index.hand(blob, raw, part)
        return [email for email, _ in numbers]

    def _add(
        self, conn: Any, letters: Sequence[Letter], raws: Sequence[bytes], parts: Sequence[Part], mailbox: int
    ) -> list[tuple[int, int]]:
        numbers = []
        for letter, raw, part in zip(letters, raws, parts, strict=True):
            assert part.fields is not None
            moment = dates.parse(part.fields.first(b"DATE") or b"")
            blob = conn.execute(
                "INSERT INTO blob (size, refs, version, sent, sent_day) VALUES (?, 1, 1, ?, ?)",
                (len(raw), moment and moment.seconds, None if moment is None else moment.day * 86400),
            ).lastrowid
            for n in range(0, max(len(raw), 1), CHUNK):
                conn.execute("INSERT INTO chunk VALUES (?, ?)", (blob << CHUNK_BITS | n // CHUNK, raw[n : n + CHUNK]))
            email = conn.execute(
                "INSERT INTO email (account, blob, copies, size, saved, prefix) VALUES (1, ?, 1, ?, 0, ?)",
                (blob, len(raw), letter.prefix),
            ).lastrowid
            self.enter(conn, letter, email, len(raw) + len(letter.prefix), mailbox)
            numbers.append((email, blob))
        return numbers

    def enter(self, conn: Any, letter: Letter, email: int, size: int, mailbox: int) -> None:
        keywords = ""
        for name in letter.keywords:
            folded = name.lower()
            row = conn.execute("SELECT number FROM keyword WHERE folded = ?", (folded,)).fetchone()
            if row is None:
                row = conn.execute("SELECT count(*) FROM keyword").fetchone()
                conn.execute("INSERT INTO keyword VALUES (1, ?, ?, ?)", (row[0], name, folded))
            keywords += chr(KEYWORD_BASE + row[0])
        self.uids[mailbox] += 1 + len(letter.text) % 2
        uid = self.uids[mailbox]
        (modseq,) = conn.execute("UPDATE account SET modseq = modseq + 1 RETURNING modseq").fetchone()
        conn.execute("UPDATE mailbox SET modseq = ?, messages = messages + 1 WHERE number = ?", (modseq, mailbox))
        conn.execute(
            "INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (mailbox, uid, modseq, letter.flags, keywords, email, size, letter.internaldate, letter.savedate),
        )

    async def entries(self, mailbox: int = 1) -> list[tuple[int, int, int, int]]:
        """(uid, modseq, email number, size) of all messages."""
        return await self.database.read(
            lambda conn: conn.execute(
                "SELECT uid, modseq, email, size FROM entry WHERE mailbox = ? ORDER BY uid", (mailbox,)
            ).fetchall()
        )

    async def wipe(self, emails: Sequence[int], *, tell: bool = True) -> None:
        """Expunge emails everywhere and sweep them at once."""

        def forget(conn: Any) -> None:
            for email in emails:
                conn.execute("DELETE FROM entry WHERE email = ?", (email,))

        def free(conn: Any) -> None:
            for email in emails:
                ((blob,),) = conn.execute("DELETE FROM email WHERE number = ? RETURNING blob", (email,)).fetchall()
                conn.execute("DELETE FROM blob WHERE number = ?", (blob,))
                conn.execute("DELETE FROM chunk WHERE key >> ? = ?", (CHUNK_BITS, blob))

        await self.database.write(forget)
        if tell:
            await self.index.remove([(1, email) for email in emails])
        await self.database.write(free)

    async def search(self, what: Query, mailbox: int = 1) -> list[int]:
        """The uids found, one by one."""
        found = await query.run(self.database, self.index, MailboxRef("alice", f"M{mailbox}"), what)
        return [uid for first, last in found.uids for uid in range(first, last + 1)]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def letter() -> type[Letter]:
    return Letter


@pytest.fixture
def store_at() -> type[Store]:
    return Store
