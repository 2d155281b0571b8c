"""STORE: flags and keywords of many messages in one change."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

from mail.flags import DELETED, SEEN
from storage import ranges, rights
from storage.adapters.sqlite import accounts, acl, keywords, mailboxes
from storage.adapters.sqlite.uids import source, within
from storage.model import Flagged, FlagMode, FlagsStored, MailboxRef, Ranges, Rights

_Has = tuple[int, str]
"""Flags and keywords of a message."""
_State = tuple[int, int, int, str]
"""Of a message: uid, modseq, flags and keywords."""
_STATE = "e.uid, e.modseq, e.flags, e.keywords"
_HIGHEST = 2**63 - 1
# One statement whatever the messages have: a mailbox's flags lie about in thousands of runs.
_BITS = {
    FlagMode.ADD: "SET modseq = ?1, flags = flags | ?2 WHERE flags & ?2 <> ?2",
    FlagMode.REMOVE: "SET modseq = ?1, flags = flags & ~?2 WHERE flags & ?2 <> 0",
}


def store(
    conn: sqlite3.Connection,
    ref: MailboxRef,
    uids: Ranges,
    mode: FlagMode,
    flags: int,
    words: tuple[str, ...],
    unchanged_since: int | None,
    actor: str | None = None,
) -> FlagsStored:
    """All that change get one new modseq. actor: another than the owner, who acts."""
    # RFC 3501 §6.4.6
    place = mailboxes.find(conn, ref)
    given = acl.have(conn, place.number, actor)
    rights.check_flags(given, mode, flags, bool(words))
    mine, words_mine = rights.flags_allowed(given), bool(given & Rights.WRITE)
    flags &= mine
    words = words if words_mine else ()
    chosen = keywords.stored(conn, place.account, words, make=mode is not FlagMode.REMOVE) if words else ""
    rows, parameters = source("entry", place.number, uids)
    found: list[_State] = conn.execute(f"SELECT {_STATE} {rows}", parameters).fetchall()
    modified: list[int] = []
    groups: dict[_Has, list[int]] = {}
    for uid, modseq, had_flags, had_words in found:
        if unchanged_since is not None and modseq > unchanged_since:
            # RFC 7162 §3.1.3: left alone, though it may have the flags already
            modified.append(uid)
            continue
        had = (had_flags, had_words)
        group = groups.get(had)
        if group is None:
            group = groups[had] = []
        group.append(uid)
    combined = {had: _combine(had, mode, flags, chosen, mine, words_mine) for had in groups}
    changes = {had: new for had, new in combined.items() if new != had}
    if not changes:
        return FlagsStored(_shown(found, keywords.Names(conn, place.account)), ranges.of(modified), place.modseq)
    modseq = accounts.next_modseq(conn, place.account)
    if mode is FlagMode.REPLACE or chosen:
        results: dict[_Has, list[int]] = {}
        for had, new in changes.items():
            results.setdefault(new, []).extend(groups[had])
        for (new_flags, new_words), changed in results.items():
            condition, parameters = within(place.number, ranges.of(sorted(changed)))
            conn.execute(
                f"UPDATE entry SET modseq = ?, flags = ?, keywords = ? WHERE {condition}",
                (modseq, new_flags, new_words, *parameters),
            )
    else:
        condition, parameters = within(place.number, uids)
        most = _HIGHEST if unchanged_since is None else min(unchanged_since, _HIGHEST)
        conn.execute(f"UPDATE entry {_BITS[mode]} AND modseq <= ? AND {condition}", (modseq, flags, most, *parameters))
    unseen = deleted = 0
    for had, new in changes.items():
        unseen += (bool(had[0] & SEEN) - bool(new[0] & SEEN)) * len(groups[had])
        deleted += (bool(new[0] & DELETED) - bool(had[0] & DELETED)) * len(groups[had])
    conn.execute(
        "UPDATE mailbox SET modseq = ?, unseen = unseen + ?, deleted = deleted + ? WHERE number = ?",
        (modseq, unseen, deleted, place.number),
    )
    left = frozenset(modified)
    after = [
        (uid, modseq, *changes[had])
        if (had := (had_flags, had_words)) in changes and uid not in left
        else (uid, had_modseq, *had)
        for uid, had_modseq, had_flags, had_words in found
    ]
    return FlagsStored(_shown(after, keywords.Names(conn, place.account)), ranges.of(modified), modseq)


def again(conn: sqlite3.Connection, ref: MailboxRef, uids: Ranges, known: Any) -> FlagsStored:
    """The outcome of a repeat: what it was, with the messages' state read anew."""
    modified, modseq = known
    place = mailboxes.find(conn, ref)
    rows, parameters = source("entry", place.number, uids)
    found = _shown(conn.execute(f"SELECT {_STATE} {rows}", parameters), keywords.Names(conn, place.account))
    return FlagsStored(found, tuple((first, last) for first, last in modified), modseq)


def _combine(had: _Has, mode: FlagMode, flags: int, words: str, mine: int, words_mine: bool) -> _Has:
    if mode is FlagMode.REPLACE:
        # RFC 4314 §4: what the actor has no right to stays as it is
        return (had[0] & ~mine) | flags, words if words_mine else had[1]
    if mode is FlagMode.ADD:
        return had[0] | flags, "".join(sorted({*had[1], *words})) if words else had[1]
    return had[0] & ~flags, "".join(one for one in had[1] if one not in words) if words else had[1]


def _shown(rows: Iterable[_State], names: keywords.Names) -> tuple[Flagged, ...]:
    make = tuple.__new__
    return tuple(
        [make(Flagged, (uid, modseq, flags, names.of(words) if words else ())) for uid, modseq, flags, words in rows]
    )
