"""Reading the records of storage.db, a page a job."""

from __future__ import annotations

import json
import sqlite3
from bisect import bisect_right
from collections.abc import Collection, Sequence

from storage.adapters.sqlite import acl, blobs
from storage.adapters.sqlite import spool as items
from storage.adapters.sqlite.schema import ACCOUNT_OPEN, CHUNK_BITS, KEYWORD_BASE
from storage.adapters.sqlite.transfer_tables import Ids
from storage.ingest import Forms
from storage.limits import CHUNK
from storage.model import INLINE_MAX, Event
from storage.transfer import (
    AccountRecord,
    AnnotationsRecord,
    BlobRecord,
    EmailRecord,
    EntryRecord,
    EventsRecord,
    InMailbox,
    MailboxRecord,
    SpoolRecord,
    TransferRefused,
    VanishedRecord,
)


def accounts(conn: sqlite3.Connection, after: str, limit: int) -> tuple[AccountRecord, ...]:
    ids = Ids(conn)
    rows = conn.execute(
        "SELECT number, id, state, modseq, uidvalidity, size, messages, annotated FROM account WHERE id > ? "
        "ORDER BY id LIMIT ?",
        (after, limit),
    ).fetchall()
    return tuple(
        AccountRecord(id, True, modseq, uidvalidity, size, messages, *_belongings(conn, ids, number), annotated)
        if state == ACCOUNT_OPEN
        else AccountRecord(id, False, 0, 0, 0, 0)
        for number, id, state, modseq, uidvalidity, size, messages, annotated in rows
    )


def _belongings(
    conn: sqlite3.Connection, ids: Ids, account: int
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[MailboxRecord, ...]]:
    keywords = conn.execute("SELECT name FROM keyword WHERE account = ? ORDER BY number", (account,))
    subscriptions = conn.execute("SELECT name FROM subscription WHERE account = ? ORDER BY name", (account,))
    # A deleted mailbox has no name: nobody can reach what is left of it.
    mailboxes = conn.execute(
        "SELECT number, name, special_use, uidvalidity, uidnext, modseq, messages, unseen, deleted, recent, "
        "recent_from, size, vanished, history_from FROM mailbox WHERE account = ? AND name IS NOT NULL",
        (account,),
    ).fetchall()
    texts = ids.texts("M", [row[0] for row in mailboxes])
    return (
        tuple([name for (name,) in keywords]),
        tuple([name for (name,) in subscriptions]),
        tuple(sorted(MailboxRecord(texts[row[0]], *row[1:])._replace(acl=_acl(conn, row[0])) for row in mailboxes)),
    )


def annotation_sets(
    conn: sqlite3.Connection, account: str, after: tuple[str, str], limit: int
) -> tuple[AnnotationsRecord, ...]:
    ids = Ids(conn)
    sets = conn.execute(
        "SELECT DISTINCT n.account, n.mailbox, n.owner FROM account AS a "
        "JOIN annotation AS n ON n.account = a.number WHERE a.id = ?",
        (account,),
    ).fetchall()
    texts = ids.texts("M", {mailbox for _, mailbox, _ in sets if mailbox}) | {0: ""}
    following = sorted((texts[mailbox], owner, number, mailbox) for number, mailbox, owner in sets)
    wanted = [one for one in following if one[:2] > after][:limit]
    return tuple(
        AnnotationsRecord(
            text,
            owner,
            tuple(
                conn.execute(
                    "SELECT entry, modseq, value FROM annotation WHERE account = ? AND mailbox = ? AND owner = ? "
                    "ORDER BY entry",
                    (number, mailbox, owner),
                )
            ),
        )
        for text, owner, number, mailbox in wanted
    )


def _acl(conn: sqlite3.Connection, mailbox: int) -> tuple[tuple[str, bool, int], ...]:
    return tuple((grant.identifier, grant.negative, int(grant.rights)) for grant in acl.of(conn, mailbox))


def entries(conn: sqlite3.Connection, at: InMailbox, after: int, limit: int, lost: bool) -> tuple[EntryRecord, ...]:
    ids = Ids(conn)
    mailbox = ids.number("M", at.mailbox)
    table, when = ("lost", "lost") if lost else ("entry", "NULL")
    rows = conn.execute(
        f"SELECT uid, modseq, flags, keywords, email, size, internaldate, savedate, {when} FROM {table} "
        "WHERE mailbox = ? AND uid > ? ORDER BY uid LIMIT ?",
        (mailbox, after, limit),
    ).fetchall()
    texts = ids.texts("E", {row[4] for row in rows})
    gone = _gone(conn, mailbox, rows[0][0], rows[-1][0]) if lost and rows else None
    return tuple(
        EntryRecord(
            uid,
            modseq,
            flags,
            tuple([ord(one) - KEYWORD_BASE for one in keywords]),
            texts[email],
            size,
            internaldate,
            savedate,
            moment,
            0 if gone is None else gone.modseq(uid),
        )
        for uid, modseq, flags, keywords, email, size, internaldate, savedate, moment in rows
    )


class _Gone:
    """By which change uids vanished."""

    def __init__(self, ranges: Sequence[tuple[int, int, int]], before: int) -> None:
        self._ranges = ranges
        self._firsts = [first for first, _, _ in ranges]
        self._before = before

    def modseq(self, uid: int) -> int:
        at = bisect_right(self._firsts, uid) - 1
        # What the history does not know any more happened before it begins.
        return self._ranges[at][2] if at >= 0 and uid <= self._ranges[at][1] else self._before


def _gone(conn: sqlite3.Connection, mailbox: int, first: int, last: int) -> _Gone:
    ranges = conn.execute(
        "SELECT first, last, modseq FROM vanished WHERE mailbox = ? AND first <= ? AND last >= ? ORDER BY first",
        (mailbox, last, first),
    ).fetchall()
    (before,) = conn.execute("SELECT history_from FROM mailbox WHERE number = ?", (mailbox,)).fetchone()
    return _Gone(ranges, before)


def vanished(conn: sqlite3.Connection, at: InMailbox, after: int, limit: int) -> tuple[VanishedRecord, ...]:
    mailbox = Ids(conn).number("M", at.mailbox)
    rows = conn.execute(
        "SELECT modseq, first, last FROM vanished WHERE mailbox = ?1 AND modseq > ?2 AND modseq <= ("
        "SELECT max(modseq) FROM (SELECT modseq FROM vanished WHERE mailbox = ?1 AND modseq > ?2 "
        "ORDER BY modseq, first LIMIT ?3)) ORDER BY modseq, first",
        (mailbox, after, limit),
    )
    found: dict[int, list[tuple[int, int]]] = {}
    for modseq, first, last in rows:
        found.setdefault(modseq, []).append((first, last))
    return tuple(VanishedRecord(modseq, tuple(ranges)) for modseq, ranges in found.items())


def emails(conn: sqlite3.Connection, account: str, wanted: Collection[str]) -> tuple[EmailRecord, ...]:
    ids = Ids(conn)
    numbers = {number: id for id, number in ids.numbers("E", wanted).items()}
    rows = conn.execute(
        "SELECT e.number, e.blob, e.size, e.saved, e.prefix FROM json_each(?) AS j CROSS JOIN email AS e "
        "ON e.number = j.value AND e.account = (SELECT number FROM account WHERE id = ?)",
        (json.dumps(sorted(numbers)), account),
    ).fetchall()
    texts = ids.texts("B", {row[1] for row in rows})
    return tuple(
        EmailRecord(numbers[number], account, texts[blob], size, saved, bytes(prefix))
        for number, blob, size, saved, prefix in rows
    )


def bodies(conn: sqlite3.Connection, wanted: Sequence[str], octets: int) -> tuple[BlobRecord, ...]:
    found: list[BlobRecord] = []
    total = 0
    for id, number in Ids(conn).numbers("B", wanted).items():
        row = conn.execute(
            "SELECT codec, size, sha256, version, sent, sent_day, envelope, body, bodystructure, parts, "
            "(SELECT lines FROM usual WHERE blob = number), preview, keys FROM blob "
            "WHERE number = ? AND size >= 0",
            (number,),
        ).fetchone()
        if row is None:
            continue
        codec, size, sha256, *forms = row
        if codec != blobs.RAW:
            raise TransferRefused(f"Body {id} is kept in a form that this release does not know.")
        content = None
        if octets and size <= INLINE_MAX:
            total += size
            if found and total > octets:
                break
            content = octets_of(conn, number, 0, size)
        found.append(BlobRecord(id, size, sha256, Forms(*forms), content))
    return tuple(found)


def octets_of(conn: sqlite3.Connection, number: int, start: int, end: int) -> bytes:
    """Octets [start, end) of a body; fewer where its chunks have fewer."""
    rows = conn.execute(
        "SELECT data FROM chunk WHERE key BETWEEN ? AND ? ORDER BY key",
        (number << CHUNK_BITS | start // CHUNK, number << CHUNK_BITS | max(start, end - 1) // CHUNK),
    )
    skip = start % CHUNK
    return b"".join([data for (data,) in rows])[skip : skip + end - start]


def listed(conn: sqlite3.Connection, after: str, limit: int) -> tuple[str, ...]:
    ids = Ids(conn)
    found = [kept.number for kept in blobs.listed(conn, ids.number("B", after) if after else 0, limit)]
    texts = ids.texts("B", found)
    return tuple(texts[number] for number in found)


def spool(conn: sqlite3.Connection, after: str, limit: int) -> tuple[SpoolRecord, ...]:
    ids = Ids(conn)
    rows = conn.execute(
        f"SELECT blob, {items.COLUMNS} FROM spool WHERE number > ? ORDER BY number LIMIT ?",
        (ids.number("S", after) if after else 0, limit),
    ).fetchall()
    texts, of_blobs = ids.texts("S", [row[1] for row in rows]), ids.texts("B", {row[0] for row in rows})
    waiting = items.items([row[1:] for row in rows], 0.0)
    return tuple(
        SpoolRecord(
            texts[number],
            item.trace,
            item.account,
            item.sender,
            item.domain,
            item.recipients,
            of_blobs[blob],
            item.size,
            item.queued_at,
            item.next_attempt,
            item.attempts,
            item.claims,
            item.held,
            item.route,
            item.told_at,
            item.last,
            item.params,
        )
        for (blob, number, *_), item in zip(rows, waiting, strict=True)
    )


def kept_events(conn: sqlite3.Connection, after: str, limit: int) -> tuple[EventsRecord, ...]:
    rows = conn.execute(
        "SELECT number, trace, kept, data FROM event WHERE number > ? ORDER BY number LIMIT ?",
        (int(after or 0), limit),
    ).fetchall()
    return tuple(
        EventsRecord(
            str(number),
            trace,
            kept,
            tuple([Event(trace, at, kind, owner, detail) for at, kind, owner, detail in json.loads(data)]),
        )
        for number, trace, kept, data in rows
    )
