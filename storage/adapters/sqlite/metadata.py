"""Annotations of mailboxes and of accounts themselves: read, set, and removed with what they belong to."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Final

from storage import metadata, rights
from storage.adapters.sqlite import accounts, acl, mailboxes
from storage.adapters.sqlite.commits import Commits
from storage.limits import (
    ANNOTATED_AT_ONCE,
    ANNOTATED_OCTETS_PER_ACCOUNT,
    ANNOTATIONS_PER_ACCOUNT,
    SWEEP_ENTRIES,
)
from storage.metadata import Kept
from storage.model import Annotation, Depth, MailboxRef, Operation
from storage.port import Reason, Refused

ITSELF: Final = 0
"""In place of a mailbox's number: the annotations of the account itself."""


class Annotations:
    """The calls of the port, for the adapter."""

    _commits: Commits

    async def annotations(
        self,
        refs: Sequence[MailboxRef],
        entries: Sequence[str] = ("/private", "/shared"),
        depth: Depth = Depth.ALL,
        values: bool = True,
    ) -> tuple[Annotation, ...]:
        return await self._commits.read(lambda conn: read(conn, refs, entries, depth, values))

    async def set_annotations(self, op: Operation, ref: MailboxRef, values: Mapping[str, bytes | None]) -> int:
        def job(conn: sqlite3.Connection, now: float) -> tuple[int, int]:
            modseq = store(conn, op, ref, values)
            return (modseq, modseq) if modseq else (accounts.modseq(conn, ref.account), 0)

        return await self._commits.once(
            op, ref.account, job, lambda modseq: modseq, lambda conn, known: int(known), shared=True
        )


def read(
    conn: sqlite3.Connection, refs: Sequence[MailboxRef], wanted: Sequence[str], depth: Depth, values: bool
) -> tuple[Annotation, ...]:
    """``Storage.annotations``."""
    if values and len(refs) > ANNOTATED_AT_ONCE:
        raise Refused(Reason.LIMIT, f"Annotations are read of {ANNOTATED_AT_ONCE} mailboxes at once.")
    names = [metadata.name(entry) for entry in wanted]
    found: list[Annotation] = []
    for ref in refs:
        place = _readable(conn, ref)
        if place is None:
            continue
        account, mailbox = place
        rows = conn.execute(
            f"SELECT entry, modseq, {'value' if values else 'NULL'} FROM annotation "
            "WHERE account = ? AND mailbox = ? AND owner IN ('', ?) ORDER BY entry",
            (account, mailbox, ref.actor or ref.account),
        )
        found += [
            Annotation(ref.mailbox, entry, modseq, value)
            for entry, modseq, value in rows
            if metadata.is_meant(entry, names, depth)
        ]
    return tuple(found)


def _readable(conn: sqlite3.Connection, ref: MailboxRef) -> tuple[int, int] | None:
    """Account and mailbox by their numbers, where the ref's actor may read what they are annotated with."""
    try:
        if not ref.mailbox:
            return (accounts.find(conn, ref.account), ITSELF) if rights.reader(ref) is None else None
        place = mailboxes.find(conn, ref)
    except Refused:
        return None
    may = metadata.may_read(acl.have(conn, place.number, rights.reader(ref)))
    return (place.account, place.number) if may else None


def store(conn: sqlite3.Connection, op: Operation, ref: MailboxRef, values: Mapping[str, bytes | None]) -> int:
    """``Storage.set_annotations``: the modseq of the change, 0 where nothing changes."""
    values = metadata.checked(values, op.actor, account_itself=not ref.mailbox)
    actor = rights.writer(op, ref.account)
    if ref.mailbox:
        place = mailboxes.find(conn, ref)
        metadata.check_write(acl.have(conn, place.number, actor), values)
        account, mailbox = place.account, place.number
    else:
        rights.check_rights(op, ref.account)
        account, mailbox = accounts.find(conn, ref.account), ITSELF
    changes: dict[str, dict[str, bytes | None]] = {}
    for owner, some in metadata.by_owner(values, op.actor).items():
        have = _set(conn, account, mailbox, owner)
        changes[owner] = metadata.differing(have, some)
        metadata.changed(have, changes[owner], 0)
    if not any(changes.values()):
        return 0
    modseq = accounts.next_modseq(conn, account)
    conn.execute("UPDATE account SET annotated = ? WHERE number = ?", (modseq, account))
    # RFC 7162 §3.2
    conn.execute("UPDATE mailbox SET modseq = ? WHERE number = ?", (modseq, mailbox))
    before = _counted(conn, account)
    for owner, some in changes.items():
        _write(conn, account, mailbox, owner, some, modseq)
    _check_room(conn, account, before)
    return modseq


def copy(conn: sqlite3.Connection, account: int, source: int, target: int, modseq: int) -> None:
    """Annotate a mailbox that was just made at ``modseq`` as another one is: with what is shared, and with what is the
    account's own. LIMIT."""
    before = _counted(conn, account)
    made = conn.execute(
        "INSERT INTO annotation (account, mailbox, owner, entry, modseq, octets, value) "
        "SELECT account, ?, owner, entry, ?, octets, value FROM annotation "
        "WHERE account = ? AND mailbox = ? AND owner IN ('', (SELECT id FROM account WHERE number = ?))",
        (target, modseq, account, source, account),
    ).rowcount
    if made:
        conn.execute("UPDATE account SET annotated = ? WHERE number = ?", (modseq, account))
        _check_room(conn, account, before)


def _check_room(conn: sqlite3.Connection, account: int, before: tuple[int, int]) -> None:
    """LIMIT where there are too many, and were not ``before``."""
    limits = (ANNOTATIONS_PER_ACCOUNT, ANNOTATED_OCTETS_PER_ACCOUNT)
    for was, now, limit in zip(before, _counted(conn, account), limits, strict=True):
        if now > max(was, limit):
            raise Refused(Reason.LIMIT, "The account has too many annotations.")


def _set(conn: sqlite3.Connection, account: int, mailbox: int, owner: str) -> metadata.Set:
    rows = conn.execute(
        "SELECT entry, value, modseq FROM annotation WHERE account = ? AND mailbox = ? AND owner = ?",
        (account, mailbox, owner),
    )
    return {entry: Kept(value, modseq) for entry, value, modseq in rows}


def _counted(conn: sqlite3.Connection, account: int) -> tuple[int, int]:
    """How many the account has, and their octets."""
    row = conn.execute(
        "SELECT count(*), coalesce(sum(octets), 0) FROM annotation WHERE account = ?", (account,)
    ).fetchone()
    return row[0], row[1]


def _write(
    conn: sqlite3.Connection, account: int, mailbox: int, owner: str, values: Mapping[str, bytes | None], modseq: int
) -> None:
    key = (account, mailbox, owner)
    conn.executemany(
        "DELETE FROM annotation WHERE account = ? AND mailbox = ? AND owner = ? AND entry = ?",
        [(*key, entry) for entry in values],
    )
    conn.executemany(
        "INSERT INTO annotation (account, mailbox, owner, entry, modseq, octets, value) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(*key, entry, modseq, len(entry) + len(value), value) for entry, value in values.items() if value is not None],
    )


def drain_account(conn: sqlite3.Connection, account: int, limit: int = SWEEP_ENTRIES) -> bool:
    """Remove some of an account that is being purged: of its mailboxes, and what it set on those of others. False when
    nothing is left."""
    # The second with what its index is about, which else would not be used.
    for condition in ("account = ?1", "owner = (SELECT id FROM account WHERE number = ?1) AND owner <> ''"):
        gone = conn.execute(
            f"DELETE FROM annotation WHERE number IN (SELECT number FROM annotation WHERE {condition} LIMIT ?2)",
            (account, limit),
        ).rowcount
        if gone:
            return True
    return False
