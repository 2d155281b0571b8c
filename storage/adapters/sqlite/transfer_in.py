"""Writing records into storage.db while it is the target of a move: each function is part of one transaction."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Sequence

from storage.adapters.sqlite import accounts, acl, blobs, events, spool, transfer_tables
from storage.adapters.sqlite.schema import ACCOUNT_OPEN, ACCOUNT_PURGING, CHUNK_BITS, KEYWORD_BASE
from storage.adapters.sqlite.transfer_tables import Ids
from storage.model import Grant, Rights
from storage.transfer import (
    AccountRecord,
    AnnotationsRecord,
    Batch,
    BlobRecord,
    EmailRecord,
    EntryRecord,
    EventsRecord,
    InMailbox,
    SpoolRecord,
    VanishedRecord,
)

_NOT_EMPTY = "SELECT EXISTS (SELECT 1 FROM account) OR EXISTS (SELECT 1 FROM spool) OR EXISTS (SELECT 1 FROM blob)"


def is_empty(conn: sqlite3.Connection) -> bool:
    """Has the store never been used?"""
    (used,) = conn.execute(_NOT_EMPTY).fetchone()
    return not used


def put(conn: sqlite3.Connection, batch: Batch, place: str, now: float) -> None:
    """All of the batch and the place."""
    ids = Ids(conn)
    for account in batch.accounts:
        _account(conn, ids, account)
    for owner, some in batch.annotations:
        _annotations(conn, ids, owner, some)
    for blob in batch.blobs:
        _body(conn, ids, blob, now)
    for email in batch.emails:
        _email(conn, ids, email)
    _entries(conn, ids, batch.entries)
    _vanished(conn, ids, batch.vanished)
    for item in batch.spool:
        _item(conn, ids, item)
    spool.renew(conn, (item.domain for item in batch.spool))
    _events(conn, batch.events)
    transfer_tables.remember(conn, place)


def _account(conn: sqlite3.Connection, ids: Ids, record: AccountRecord) -> None:
    number = conn.execute(
        "INSERT INTO account (id, state, modseq, uidvalidity, size, messages, keywords, annotated) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING number",
        (
            record.id,
            ACCOUNT_OPEN if record.open else ACCOUNT_PURGING,
            record.modseq,
            record.uidvalidity,
            record.size,
            record.messages,
            len(record.keywords),
            record.annotated,
        ),
    ).fetchone()[0]
    conn.executemany(
        "INSERT INTO keyword (account, number, name, folded) VALUES (?, ?, ?, ?)",
        [(number, n, name, name.lower()) for n, name in enumerate(record.keywords)],
    )
    conn.executemany(
        "INSERT INTO subscription (account, name) VALUES (?, ?)", [(number, name) for name in record.subscriptions]
    )
    for mailbox in record.mailboxes:
        row = conn.execute(
            "INSERT INTO mailbox (number, account, name, special_use, uidvalidity, uidnext, modseq, messages, unseen, "
            "deleted, recent, recent_from, size, vanished, history_from) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
            "RETURNING number",
            (ids.kept("M", mailbox.id) or None, number, *mailbox[1:-1]),
        ).fetchone()
        acl.keep(conn, row[0], [Grant(who, Rights(given), negative) for who, negative, given in mailbox.acl])
        _noted(ids, "M", mailbox.id, row[0])


def _annotations(conn: sqlite3.Connection, ids: Ids, account: str, record: AnnotationsRecord) -> None:
    mailbox = ids.number("M", record.mailbox) if record.mailbox else 0
    conn.executemany(
        "INSERT INTO annotation (account, mailbox, owner, entry, modseq, octets, value) "
        "SELECT number, ?, ?, ?, ?, ?, ? FROM account WHERE id = ?",
        [
            (mailbox, record.owner, entry, modseq, len(entry) + len(value), value, account)
            for entry, modseq, value in record.entries
        ],
    )


def _body(conn: sqlite3.Connection, ids: Ids, record: BlobRecord, now: float) -> None:
    if record.content is None:
        raise ValueError(f"the body {record.id} comes without its content")
    begin_body(conn, ids, record.id, now)
    if record.content:
        write_body(conn, record.id, 0, [record.content], now)
    finish_body(conn, record, now)


def begin_body(conn: sqlite3.Connection, ids: Ids, id: str, now: float) -> None:
    """Make the row of a body that is about to come; what is there of it goes."""
    number = ids.number("B", id)
    if number:
        first = number << CHUNK_BITS
        conn.execute("DELETE FROM chunk WHERE key BETWEEN ? AND ?", (first, first + (1 << CHUNK_BITS) - 1))
        blobs.forget(conn, number)
    made = conn.execute(
        "INSERT INTO blob (number, size, refs, freed, version) VALUES (?, ?, 0, ?, 0) RETURNING number",
        (number or None, blobs.PARTIAL, now),
    ).fetchone()[0]
    if not number:
        _noted(ids, "B", id, made)


def write_body(conn: sqlite3.Connection, id: str, first: int, chunks: Sequence[bytes], now: float) -> None:
    """Keep chunks from number ``first`` on."""
    blobs.write(conn, Ids(conn).number("B", id), first, chunks, now)


def finish_body(conn: sqlite3.Connection, record: BlobRecord, now: float) -> None:
    """The body is whole."""
    number = Ids(conn).number("B", record.id)
    blobs.finish(conn, number, record.size, record.sha256, record.forms, now)


def _email(conn: sqlite3.Connection, ids: Ids, record: EmailRecord) -> None:
    row = conn.execute(
        "INSERT INTO email (number, account, blob, copies, size, saved, prefix) "
        "SELECT ?, number, ?, 0, ?, ?, ? FROM account WHERE id = ? RETURNING number",
        (
            ids.kept("E", record.id) or None,
            _refer(conn, ids, record.blob),
            record.size,
            record.saved,
            record.prefix,
            record.account,
        ),
    ).fetchall()
    _noted(ids, "E", record.id, row[0][0])


def _refer(conn: sqlite3.Connection, ids: Ids, blob: str) -> int:
    """One more names the body; its number."""
    number = ids.number("B", blob)
    conn.execute("UPDATE blob SET refs = refs + 1, freed = NULL WHERE number = ?", (number,))
    return number


def _entries(conn: sqlite3.Connection, ids: Ids, entries: Sequence[tuple[InMailbox, EntryRecord]]) -> None:
    if not entries:
        return
    mailboxes = ids.numbers("M", {at.mailbox for at, _ in entries})
    emails = ids.numbers("E", {entry.email for _, entry in entries})
    days: Counter[tuple[int, str]] = Counter()
    here, lost = [], []
    for at, entry in entries:
        row = (
            mailboxes[at.mailbox],
            entry.uid,
            entry.modseq,
            entry.flags,
            "".join([chr(KEYWORD_BASE + number) for number in entry.keywords]),
            emails[entry.email],
            entry.size,
            entry.internaldate,
            entry.savedate,
        )
        if entry.lost is None:
            here.append(row)
        else:
            lost.append((*row, entry.lost))
        days[entry.savedate // accounts.DAY, at.account] += 1
    columns = "mailbox, uid, modseq, flags, keywords, email, size, internaldate, savedate"
    conn.executemany(f"INSERT INTO entry ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", here)
    conn.executemany(f"INSERT INTO lost ({columns}, lost) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", lost)
    conn.executemany(
        "UPDATE email SET copies = copies + 1 WHERE number = ?", [(emails[entry.email],) for _, entry in entries]
    )
    for (day, account), saved in sorted(days.items()):
        number = accounts.number_of(conn, account)
        if number is not None:
            accounts.count_saved(conn, number, saved, day * accounts.DAY)


def _vanished(conn: sqlite3.Connection, ids: Ids, records: Sequence[tuple[InMailbox, VanishedRecord]]) -> None:
    for at, record in records:
        mailbox = ids.number("M", at.mailbox)
        conn.executemany(
            "INSERT INTO vanished (mailbox, modseq, first, last) VALUES (?, ?, ?, ?)",
            [(mailbox, record.modseq, first, last) for first, last in record.ranges],
        )


def _item(conn: sqlite3.Connection, ids: Ids, record: SpoolRecord) -> None:
    number = conn.execute(
        "INSERT INTO spool (number, trace, account, sender, domain, recipients, blob, size, queued_at, next_attempt, "
        "attempts, claims, held, route, told_at, last, params) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING number",
        (
            ids.kept("S", record.id) or None,
            record.trace,
            record.account,
            json.dumps(record.sender),
            record.domain,
            spool.packed(record.recipients),
            _refer(conn, ids, record.blob),
            record.size,
            record.queued_at,
            record.next_attempt,
            record.attempts,
            record.claims,
            int(record.held),
            None if record.route is None else json.dumps(record.route),
            record.told_at,
            json.dumps(record.last),
            json.dumps(dict(record.params)),
        ),
    ).fetchone()[0]
    _noted(ids, "S", record.id, number)


def _events(conn: sqlite3.Connection, records: Sequence[EventsRecord]) -> None:
    for record in records:
        events.keep(conn, record.kept, record.events)


def _noted(ids: Ids, letter: str, id: str, number: int) -> None:
    """Remember the old id where the row's number does not tell it."""
    if ids.kept(letter, id) != number:
        ids.note(letter, id, number)
