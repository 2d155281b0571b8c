"""The tables of search.db, which can be thrown away and made again from storage.db at any time.

- ``header`` and ``body`` hold each indexed email's folded text (``search.document``), apart from each other so that
  questions about fields read few pages. Their key is ``account number << 32 | email number``: an account is one range.
- ``field`` holds once more what the fields of FIELDS hold, a line each, where an email has them. They are what is asked
  for by name, and a tenth of the header: a question reads a tenth of the pages, which is most of its time when they
  have not been read before.
- ``trigram`` knows for every three characters which emails hold them, no more (detail=none): what it names is then
  compared with the stored text. Measured with 2.4 KB texts, batches of 256: 0.17 ms of CPU an email against 0.29 for
  detail=full, which stores positions, grows to twice the size and needs the stored text for deletions all the same.
- ``large`` names the emails whose text is over TEXT_MAX: their text is not kept, they are read at every question.
- ``mark``: emails up to this number have been indexed (or were gone by then). It moves in the commit that adds them.
  ``form`` is FORM at the time: an index folded in another way is thrown away at the start and
  built anew in the background; nothing else has to be done.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from runtime.sqlite import Migration
from storage.search.document import FORM, bodies

TEXT_MAX: Final = 16 * 1024 * 1024
"""Octets of one email's folded text that the index keeps."""
ACCOUNT_BITS: Final = 32
"""An email's key is its account's number, shifted left by this, plus its own."""
PAGE_SIZE: Final = 8192
"""Texts of two or three KB fill such pages better: the file is 40 % smaller than with pages of 4096."""

# What was measured with 100,000 emails: merging 16 segments at once instead of 4 costs queries nothing that can be
# seen and saves a fifth of the writes. The hash must hold a whole batch, or it is written out in pieces that are merged
# again. The case is folded before; the tokenizer must not fold a second time.
_FIRST = """
CREATE TABLE header (id INTEGER PRIMARY KEY, text BLOB NOT NULL);
CREATE TABLE body (id INTEGER PRIMARY KEY, text BLOB NOT NULL);
CREATE TABLE large (id INTEGER PRIMARY KEY);
CREATE TABLE mark (email INTEGER NOT NULL, form INTEGER NOT NULL);
CREATE VIRTUAL TABLE trigram USING fts5(
    header, body, content='', columnsize=0, detail=none, tokenize='trigram case_sensitive 1'
);
INSERT INTO trigram (trigram, rank) VALUES ('automerge', 16);
INSERT INTO trigram (trigram, rank) VALUES ('crisismerge', 64);
INSERT INTO trigram (trigram, rank) VALUES ('hashsize', 16777216);
"""

_FIELD = """
CREATE TABLE field (
    name INTEGER NOT NULL, id INTEGER NOT NULL, text BLOB NOT NULL, PRIMARY KEY (name, id)
) WITHOUT ROWID;
"""

FIELDS: Final = {b"\nFROM:": 1, b"\nTO:": 2, b"\nCC:": 3, b"\nBCC:": 4, b"\nSUBJECT:": 5}
"""The number of each field that has rows of its own, by its mark (``field_mark``)."""


def add_fields(conn: sqlite3.Connection, id: int, header: bytes) -> None:
    """Make an email's rows of ``field`` out of its header text."""
    for mark, name in FIELDS.items():
        if found := bodies(header, mark):
            conn.execute("INSERT INTO field (name, id, text) VALUES (?, ?, ?)", (name, id, b"\n".join(found)))


MIGRATIONS: Final = (
    Migration("the first tables", _FIRST + f"INSERT INTO mark VALUES (0, {FORM});"),
    # An index that is older than this table is of an older FORM, and begun anew.
    Migration("the usual fields apart", _FIELD),
)

EMAIL_MASK: Final = (1 << ACCOUNT_BITS) - 1
"""The email's number in a key."""


def key(account: int, email: int) -> int:
    """The key of an email in search.db."""
    return account << ACCOUNT_BITS | email
