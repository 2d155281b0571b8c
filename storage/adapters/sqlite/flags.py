"""STORE: flags and keywords of many messages in one change."""

from __future__ import annotations

import sqlite3
from typing import Any

from mail.flags import ALL, DELETED, SEEN
from storage import ranges
from storage.adapters.sqlite import accounts, entries, keywords, mailboxes
from storage.adapters.sqlite.uids import source, within
from storage.model import Entry, FlagMode, FlagsStored, MailboxRef, Ranges


def store(
    conn: sqlite3.Connection,
    ref: MailboxRef,
    uids: Ranges,
    mode: FlagMode,
    flags: int,
    words: tuple[str, ...],
    unchanged_since: int | None,
) -> FlagsStored:
    """All that change get one new modseq; the statements are as many as there are different results."""
    # RFC 3501 §6.4.6
    place = mailboxes.find(conn, ref)
    flags &= ALL
    chosen = keywords.stored(conn, place.account, words, make=mode is not FlagMode.REMOVE) if words else ""
    rows, parameters = source("entry", place.number, uids)
    found: list[entries.EntryRow] = conn.execute(f"SELECT {entries.ENTRY} {rows}", parameters).fetchall()
    modified: list[int] = []
    groups: dict[tuple[int, str], list[int]] = {}
    combined: dict[tuple[int, str], tuple[int, str]] = {}
    unseen = deleted = 0
    for uid, modseq, had_flags, had_words, *_ in found:
        if unchanged_since is not None and modseq > unchanged_since:
            # RFC 7162 §3.1.3: left alone, though it may have the flags already
            modified.append(uid)
            continue
        had = (had_flags, had_words)
        new = combined.get(had)
        if new is None:
            new = combined[had] = _combine(had, mode, flags, chosen)
        if new != had:
            groups.setdefault(new, []).append(uid)
            unseen += bool(had_flags & SEEN) - bool(new[0] & SEEN)
            deleted += bool(new[0] & DELETED) - bool(had_flags & DELETED)
    if not groups:
        return FlagsStored(entries.made(found, keywords.Names(conn, place.account)), ranges.of(modified), place.modseq)
    modseq = accounts.next_modseq(conn, place.account)
    for (new_flags, new_words), changed in groups.items():
        condition, parameters = within(place.number, ranges.of(changed))
        conn.execute(
            f"UPDATE entry SET modseq = ?, flags = ?, keywords = ? WHERE {condition}",
            (modseq, new_flags, new_words, *parameters),
        )
    conn.execute(
        "UPDATE mailbox SET modseq = ?, unseen = unseen + ?, deleted = deleted + ? WHERE number = ?",
        (modseq, unseen, deleted, place.number),
    )
    now_have = {uid: new for new, changed in groups.items() for uid in changed}
    names = keywords.Names(conn, place.account)
    after = entries.made((_after(row, now_have, modseq) for row in found), names)
    return FlagsStored(after, ranges.of(modified), modseq)


def again(conn: sqlite3.Connection, ref: MailboxRef, uids: Ranges, known: Any) -> FlagsStored:
    """The outcome of a repeat: what it was, with the messages' state read anew."""
    modified, modseq = known
    place = mailboxes.find(conn, ref)
    rows, parameters = source("entry", place.number, uids)
    found: tuple[Entry, ...] = entries.made(
        conn.execute(f"SELECT {entries.ENTRY} {rows}", parameters), keywords.Names(conn, place.account)
    )
    return FlagsStored(found, tuple((first, last) for first, last in modified), modseq)


def _combine(had: tuple[int, str], mode: FlagMode, flags: int, words: str) -> tuple[int, str]:
    if mode is FlagMode.REPLACE:
        return flags, words
    if mode is FlagMode.ADD:
        return had[0] | flags, "".join(sorted({*had[1], *words})) if words else had[1]
    return had[0] & ~flags, "".join(one for one in had[1] if one not in words) if words else had[1]


def _after(row: entries.EntryRow, now_have: dict[int, tuple[int, str]], modseq: int) -> entries.EntryRow:
    new = now_have.get(row[0])
    return row if new is None else (row[0], modseq, new[0], new[1], row[4], row[5], row[6])
