"""Every counter and reference of a storage.db, counted again from the rows themselves."""

from __future__ import annotations

import hashlib
import sqlite3
from typing import Final

from storage import ingest
from storage.adapters.sqlite.schema import CHUNK_BITS
from storage.limits import CHUNK

# What each finds is wrong; the columns are what is told of it.
_WRONG: Final = {
    "mailbox counters": """
        SELECT m.number, m.messages, m.unseen, m.deleted, m.recent, m.size, e.* FROM mailbox AS m JOIN (
            SELECT m.number, count(e.uid) AS messages, coalesce(sum(e.flags & 1 = 0), 0) AS unseen,
                coalesce(sum(e.flags & 8 <> 0), 0) AS deleted, coalesce(sum(e.uid >= m.recent_from), 0) AS recent,
                coalesce(sum(e.size), 0) AS size, coalesce(max(e.uid), 0) AS uid, coalesce(max(e.modseq), 0) AS modseq
            FROM mailbox AS m LEFT JOIN entry AS e ON e.mailbox = m.number GROUP BY m.number
        ) AS e ON e.number = m.number
        WHERE m.name IS NOT NULL AND (
            (m.messages, m.unseen, m.deleted, m.recent, m.size)
                <> (e.messages, e.unseen, e.deleted, e.recent, e.size)
            OR e.uid >= m.uidnext OR m.recent_from > m.uidnext OR e.modseq > m.modseq)""",
    "history of a mailbox": """
        SELECT m.number, m.vanished, v.* FROM mailbox AS m JOIN (
            SELECT m.number, count(v.first) AS ranges, coalesce(max(v.modseq), 0) AS newest,
                coalesce(min(v.modseq), m.modseq) AS oldest, coalesce(max(v.last), 0) AS uid
            FROM mailbox AS m LEFT JOIN vanished AS v ON v.mailbox = m.number GROUP BY m.number
        ) AS v ON v.number = m.number
        WHERE m.name IS NOT NULL
            AND (m.vanished <> v.ranges OR v.newest > m.modseq OR v.uid >= m.uidnext OR v.oldest <= m.history_from)""",
    "a mailbox is either named or removed": "SELECT number FROM mailbox WHERE (name IS NULL) = (removed IS NULL)",
    "a mailbox above its account's counters": """
        SELECT m.number, m.modseq, m.uidvalidity FROM mailbox AS m LEFT JOIN account AS a ON a.number = m.account
        WHERE a.number IS NULL OR m.modseq > a.modseq OR m.uidvalidity > a.uidvalidity""",
    "a uidvalidity twice in an account": """
        SELECT account, uidvalidity FROM mailbox GROUP BY account, uidvalidity HAVING count(*) > 1""",
    "an access control list of no mailbox, or of its owner": """
        SELECT g.mailbox, g.identifier FROM acl AS g LEFT JOIN mailbox AS m ON m.number = g.mailbox
        LEFT JOIN account AS a ON a.number = m.account
        WHERE m.name IS NULL OR g.identifier = a.id OR g.rights NOT BETWEEN 1 AND 2047""",
    "a special use twice": """
        SELECT account, special_use FROM mailbox WHERE name IS NOT NULL AND special_use IS NOT NULL
        GROUP BY account, special_use HAVING count(*) > 1""",
    "usage of an account": """
        SELECT a.id, a.size, a.messages, e.* FROM account AS a JOIN (
            SELECT a.number, count(e.uid) AS messages, coalesce(sum(e.size), 0) AS size FROM account AS a
            LEFT JOIN mailbox AS m ON m.account = a.number AND m.name IS NOT NULL
            LEFT JOIN entry AS e ON e.mailbox = m.number GROUP BY a.number
        ) AS e ON e.number = a.number WHERE (a.messages, a.size) <> (e.messages, e.size)""",
    "an account without INBOX": """
        SELECT id FROM account WHERE state = 0 AND NOT EXISTS
            (SELECT 1 FROM mailbox WHERE account = account.number AND name = 'INBOX')""",
    "keywords of an account": """
        SELECT a.id FROM account AS a JOIN keyword AS k ON k.account = a.number AND k.number >= a.keywords""",
    "an entry without a mailbox": """
        SELECT 'entry', mailbox, uid FROM entry WHERE mailbox NOT IN (SELECT number FROM mailbox) UNION ALL
        SELECT 'lost', mailbox, uid FROM lost WHERE mailbox NOT IN (SELECT number FROM mailbox) UNION ALL
        SELECT 'vanished', mailbox, first FROM vanished WHERE mailbox NOT IN (SELECT number FROM mailbox)""",
    "a message both there and lost": "SELECT e.mailbox, e.uid FROM entry AS e JOIN lost AS l USING (mailbox, uid)",
    "a message that vanished and is there": """
        SELECT e.mailbox, e.uid FROM vanished AS v JOIN entry AS e
            ON e.mailbox = v.mailbox AND e.uid BETWEEN v.first AND v.last""",
    "an entry and its email": """
        SELECT e.mailbox, e.uid, e.email FROM (
            SELECT mailbox, uid, email, size FROM entry UNION ALL SELECT mailbox, uid, email, size FROM lost
        ) AS e JOIN mailbox AS b ON b.number = e.mailbox LEFT JOIN email AS m ON m.number = e.email
        WHERE m.number IS NULL OR m.account <> b.account OR m.size <> e.size""",
    "copies of an email": """
        SELECT m.number, m.copies, count(e.email) FROM email AS m LEFT JOIN (
            SELECT email FROM entry UNION ALL SELECT email FROM lost) AS e ON e.email = m.number
        GROUP BY m.number HAVING m.copies <> count(e.email)""",
    "an email and its blob": """
        SELECT m.number, m.blob, b.size FROM email AS m LEFT JOIN blob AS b ON b.number = m.blob
        WHERE b.number IS NULL OR b.size < 0 OR m.size <> b.size + length(m.prefix)""",
    "a spool item and its blob": """
        SELECT s.number, s.blob FROM spool AS s LEFT JOIN blob AS b ON b.number = s.blob
        WHERE b.number IS NULL OR b.size <> s.size OR s.recipients = '[]'""",
    "when a domain's first item is due": """
        SELECT coalesce(s.domain, n.domain), s.due, n.due FROM (
            SELECT domain, min(due) AS due FROM spool GROUP BY domain HAVING min(due) IS NOT NULL
        ) AS s LEFT JOIN spool_next AS n USING (domain) WHERE n.due IS NULL OR n.due <> s.due
        UNION ALL
        SELECT domain, NULL, due FROM spool_next
        WHERE domain NOT IN (SELECT domain FROM spool WHERE due IS NOT NULL)""",
    "references of a blob": """
        SELECT b.number, b.refs, count(r.blob), b.freed FROM blob AS b LEFT JOIN (
            SELECT blob FROM email UNION ALL SELECT blob FROM spool) AS r ON r.blob = b.number
        GROUP BY b.number HAVING b.refs <> count(r.blob) OR (b.refs = 0) <> (b.freed IS NOT NULL)""",
    "a whole blob that is not described": """
        SELECT number FROM blob WHERE size >= 0
        AND (sha256 IS NULL OR (version = 0 AND number IN (SELECT blob FROM email)))""",
    "usual header lines of no blob, or of an earlier release": f"""
        SELECT u.blob FROM usual AS u LEFT JOIN blob AS b ON b.number = u.blob
        WHERE b.number IS NULL OR b.version < {ingest.USUAL_SINCE}""",
    "a chunk without a blob": f"""
        SELECT key >> {CHUNK_BITS}, key FROM chunk WHERE key >> {CHUNK_BITS} NOT IN (SELECT number FROM blob)""",
}


def problems(conn: sqlite3.Connection, *, octets: bool = False, chunk: int = CHUNK) -> list[str]:
    """What is wrong in the database as this connection sees it: none in a store that is as it should be, whatever was
    interrupted. octets: read every whole blob too and compare it with its length and SHA-256. chunk: octets a chunk."""
    conn.execute("SAVEPOINT look")
    try:
        found = [f"{what}: {row}" for what, query in _WRONG.items() for row in conn.execute(query)]
        if octets:
            for number, size, sha256 in conn.execute("SELECT number, size, sha256 FROM blob WHERE size >= 0"):
                pieces = _chunks(conn, number)
                whole = b"".join(pieces)
                if (len(whole), hashlib.sha256(whole).digest()) != (size, sha256):
                    found.append(f"octets of a blob: {number}, {len(whole)} of {size}")
                if any(len(piece) != chunk for piece in pieces[:-1]):
                    found.append(f"chunks of a blob: {number}")
        return found
    finally:
        conn.execute("RELEASE look")


def _chunks(conn: sqlite3.Connection, blob: int) -> list[bytes]:
    first = blob << CHUNK_BITS
    rows = conn.execute(
        "SELECT key, data FROM chunk WHERE key BETWEEN ? AND ? ORDER BY key", (first, first + (1 << CHUNK_BITS) - 1)
    ).fetchall()
    return [data for _, data in rows]
