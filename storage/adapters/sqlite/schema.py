"""The tables of storage.db, and the steps that led to them.

Who refers to whom: account → mailbox → entry → email → blob → chunk. Numbers never come back (AUTOINCREMENT), since ids
that clients keep (MAILBOXID, EMAILID) and the search index are made of them; email numbers rise in order of commit, so
that what the search index has not seen is one range above its mark. No foreign keys: every statement that would need
one runs on the one writer, and the checks would cost a look-up for each row.

- An *entry* is one message in one mailbox: narrow, clustered by (mailbox, uid), so that a FETCH of flags or a STORE
  over thousands reads few pages; it repeats the size for that reason.
- A *lost* entry was expunged and is kept for the grace, so that a session not yet told can still read it.
- *vanished* is the history of expunges for ``changes``: ranges, so that emptying a mailbox of 10,000 is one row. A
  mailbox's ``history_from`` is the modseq below which that history was cut.
- An *email* is one message of one account (COPY shares it); ``copies`` counts its entries and lost entries.
- A *blob* is the bytes, shared by all accounts and the spool, and what was read out of them once (``storage.ingest``):
  ``version`` 0 when nothing was yet. ``refs`` counts emails and spool items; at 0 it is swept from ``freed`` on.
  ``size`` is below 0 while a staged body is not whole, or while it is being swept.
  ``sent`` is the Date header in Unix seconds, ``sent_day`` the midnight (as if UTC) of its own calendar day.
- *usual* has a blob's usual header lines, narrow as well, for a FETCH of header fields; no row where they are over the
  bound, or where the blob was last described by a release that kept other fields (``ingest.USUAL_SINCE``): whoever
  raises that empties the table in a migration. The blob's own ``headers``, where releases before this table had them,
  is read by nobody, and is emptied when the blob is described again.
- A *chunk* has the key ``blob << 12 | n``: a row of ``limits.CHUNK`` octets, the last may be shorter.
- keywords are one character a keyword: ``chr(KEYWORD_BASE + number)`` with the account's number for it, sorted.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from runtime.sqlite import Migration
from storage.adapters.sqlite import spool_schema

PAGE_SIZE: Final = 8192
"""Octets of a page of storage.db: what is kept beside a message (2 to 3 KB) then seldom spills over, and a FETCH of
ENVELOPE and BODYSTRUCTURE of 10,000 messages takes a fifth less than with 4096, at no cost to deliveries."""
CACHE_KIB: Final = 24 * 1024
"""Pages that each thread keeps: what stands beside 10,000 messages is 16 MiB. A walk through more than is kept finds
none of its pages when it comes again."""
CHUNK_BITS: Final = 12
"""So many low bits of a chunk's key count the chunks of one blob."""
KEYWORD_BASE: Final = 0x100
"""The character of keyword number 0. KEYWORDS_PER_ACCOUNT keeps the highest far below the surrogates."""

ACCOUNT_OPEN: Final = 0
ACCOUNT_PURGING: Final = 1
"""The account's mail is being removed, or has been: the row stays, because ids are never used again."""

_FIRST = """
CREATE TABLE account (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    state INTEGER NOT NULL DEFAULT 0,
    modseq INTEGER NOT NULL DEFAULT 1,
    uidvalidity INTEGER NOT NULL DEFAULT 0,
    size INTEGER NOT NULL DEFAULT 0,
    messages INTEGER NOT NULL DEFAULT 0,
    keywords INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE mailbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    account INTEGER NOT NULL,
    name TEXT,
    special_use TEXT,
    uidvalidity INTEGER NOT NULL,
    uidnext INTEGER NOT NULL DEFAULT 1,
    modseq INTEGER NOT NULL,
    messages INTEGER NOT NULL DEFAULT 0,
    unseen INTEGER NOT NULL DEFAULT 0,
    deleted INTEGER NOT NULL DEFAULT 0,
    recent INTEGER NOT NULL DEFAULT 0,
    recent_from INTEGER NOT NULL DEFAULT 1,
    size INTEGER NOT NULL DEFAULT 0,
    vanished INTEGER NOT NULL DEFAULT 0,
    history_from INTEGER NOT NULL DEFAULT 0,
    removed REAL
);
-- A deleted mailbox has no name; its messages are carried off in small steps, from the time ``removed`` on.
CREATE UNIQUE INDEX mailbox_name ON mailbox (account, name) WHERE name IS NOT NULL;
CREATE INDEX mailbox_removed ON mailbox (removed) WHERE removed IS NOT NULL;

CREATE TABLE subscription (
    account INTEGER NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (account, name)
) WITHOUT ROWID;

CREATE TABLE keyword (
    account INTEGER NOT NULL,
    number INTEGER NOT NULL,
    name TEXT NOT NULL,
    folded TEXT NOT NULL,
    PRIMARY KEY (account, number)
) WITHOUT ROWID;
CREATE UNIQUE INDEX keyword_folded ON keyword (account, folded);

CREATE TABLE entry (
    mailbox INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    modseq INTEGER NOT NULL,
    flags INTEGER NOT NULL,
    keywords TEXT NOT NULL,
    email INTEGER NOT NULL,
    size INTEGER NOT NULL,
    internaldate INTEGER NOT NULL,
    savedate INTEGER NOT NULL,
    PRIMARY KEY (mailbox, uid)
) WITHOUT ROWID;
CREATE INDEX entry_modseq ON entry (mailbox, modseq);

CREATE TABLE lost (
    mailbox INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    modseq INTEGER NOT NULL,
    flags INTEGER NOT NULL,
    keywords TEXT NOT NULL,
    email INTEGER NOT NULL,
    size INTEGER NOT NULL,
    internaldate INTEGER NOT NULL,
    savedate INTEGER NOT NULL,
    lost REAL NOT NULL,
    PRIMARY KEY (mailbox, uid)
) WITHOUT ROWID;
CREATE INDEX lost_since ON lost (lost);

CREATE TABLE vanished (
    mailbox INTEGER NOT NULL,
    modseq INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (mailbox, modseq, first)
) WITHOUT ROWID;

CREATE TABLE email (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    account INTEGER NOT NULL,
    blob INTEGER NOT NULL,
    copies INTEGER NOT NULL,
    size INTEGER NOT NULL,
    saved REAL NOT NULL,
    prefix BLOB NOT NULL
);
CREATE INDEX email_unused ON email (number) WHERE copies = 0;

CREATE TABLE blob (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    size INTEGER NOT NULL,
    refs INTEGER NOT NULL,
    freed REAL,
    version INTEGER NOT NULL,
    codec INTEGER NOT NULL DEFAULT 0,
    key INTEGER,
    sent INTEGER,
    sent_day INTEGER,
    sha256 BLOB,
    envelope BLOB,
    body BLOB,
    bodystructure BLOB,
    parts BLOB,
    headers BLOB,
    preview TEXT,
    keys TEXT
);
CREATE INDEX blob_freed ON blob (freed) WHERE freed IS NOT NULL;

CREATE TABLE chunk (
    key INTEGER PRIMARY KEY,
    data BLOB NOT NULL
);

CREATE TABLE spool (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    trace TEXT NOT NULL,
    account TEXT,
    sender TEXT NOT NULL,
    blob INTEGER NOT NULL,
    size INTEGER NOT NULL,
    queued_at REAL NOT NULL,
    next_attempt REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    params TEXT NOT NULL
);
CREATE INDEX spool_account ON spool (account) WHERE account IS NOT NULL;

CREATE TABLE spool_recipient (
    spool INTEGER NOT NULL,
    n INTEGER NOT NULL,
    address TEXT NOT NULL,
    params TEXT NOT NULL,
    outcome TEXT,
    PRIMARY KEY (spool, n)
) WITHOUT ROWID;

-- Numbers rise with time, so the sweep takes the lowest and needs no index on the time.
CREATE TABLE operation (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    created REAL NOT NULL,
    outcome TEXT NOT NULL
);

CREATE TABLE event (
    number INTEGER PRIMARY KEY,
    trace TEXT NOT NULL,
    kept REAL NOT NULL,
    data TEXT NOT NULL
);
CREATE INDEX event_trace ON event (trace);

-- Entries made on a day (days since 1970 UTC), for the statistics.
CREATE TABLE saved (
    day INTEGER PRIMARY KEY,
    messages INTEGER NOT NULL
);
"""

_TRACE_KEYS = """
-- Octets of all rows up to this one, so that the size of the log is a difference.
ALTER TABLE event ADD COLUMN upto INTEGER NOT NULL DEFAULT 0;
CREATE TABLE event_key (
    key INTEGER NOT NULL,
    event INTEGER NOT NULL,
    PRIMARY KEY (key, event)
) WITHOUT ROWID;
"""

_SHARING = """
-- Who beside the owner may do what (bits of model.Rights). identifier: an account's id, or "anyone".
CREATE TABLE acl (
    mailbox INTEGER NOT NULL,
    identifier TEXT NOT NULL,
    negative INTEGER NOT NULL,
    rights INTEGER NOT NULL,
    PRIMARY KEY (mailbox, identifier, negative)
) WITHOUT ROWID;
CREATE INDEX acl_identifier ON acl (identifier, mailbox);
"""

_ANNOTATIONS = """
-- Named values beside a mailbox, or (mailbox 0) an account itself. owner: the account whose private ones they are, ""
-- for shared ones. octets: of entry and value.
CREATE TABLE annotation (
    number INTEGER PRIMARY KEY,
    account INTEGER NOT NULL,
    mailbox INTEGER NOT NULL,
    owner TEXT NOT NULL,
    entry TEXT NOT NULL,
    modseq INTEGER NOT NULL,
    octets INTEGER NOT NULL,
    value BLOB NOT NULL
);
CREATE UNIQUE INDEX annotation_entry ON annotation (account, mailbox, owner, entry);
CREATE INDEX annotation_owner ON annotation (owner) WHERE owner <> '';
-- The modseq of the last change of an annotation.
ALTER TABLE account ADD COLUMN annotated INTEGER NOT NULL DEFAULT 0;
"""

_DESCRIBED = """
-- The blobs up to this one have been described by this version of ``storage.ingest``: who looks for older ones goes on
-- from there, not through the whole store at each start.
CREATE TABLE described (version INTEGER NOT NULL, blob INTEGER NOT NULL);
INSERT INTO described VALUES (0, 0);
"""

_USUAL = """
CREATE TABLE usual (blob INTEGER PRIMARY KEY, lines BLOB NOT NULL);
"""

_SAVED = """
-- Entries made on the latest day on which any were (days since 1970 UTC), for the statistics: beside the modseq, which
-- changes with them. What was counted of this day for all accounts is put down to one of them.
ALTER TABLE account ADD COLUMN saved_day INTEGER NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN saved INTEGER NOT NULL DEFAULT 0;
UPDATE account SET saved_day = last.day, saved = last.messages
FROM (SELECT day, messages FROM saved ORDER BY day DESC LIMIT 1) AS last
WHERE number = (SELECT min(number) FROM account WHERE state = 0);
DROP TABLE saved;
"""

_SECURE_DELETE: Final = ("OFF", "ON", "FAST")
"""What SQLite means by its numbers."""


def _empty_usual(conn: sqlite3.Connection) -> None:
    """Leave no lines of an earlier release. Quick for a large table too: its pages are not written, as is the custom of
    many builds of SQLite (a million messages: 430 MB), but only counted as free, and the lines of today come there."""
    (custom,) = conn.execute("PRAGMA secure_delete").fetchone()
    conn.execute("PRAGMA secure_delete = FAST")
    conn.execute("DROP TABLE usual")
    conn.execute(f"PRAGMA secure_delete = {_SECURE_DELETE[custom]}")
    conn.execute(_USUAL)


MIGRATIONS: Final = (
    Migration("the first tables", _FIRST),
    spool_schema.MIGRATION,
    Migration("keys of trace events", _TRACE_KEYS),
    Migration("access control lists", _SHARING),
    spool_schema.RESULTS,
    Migration("annotations", _ANNOTATIONS),
    Migration("how far blobs are described", _DESCRIBED),
    Migration("usual header lines beside blobs", _USUAL),
    Migration("entries of the day beside the account", _SAVED),
    # of ingestform.USUAL_SINCE, which the name tells
    Migration("usual header lines of version 3", _empty_usual),
)
