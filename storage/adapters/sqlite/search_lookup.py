"""Questions to search.db, on one of its readers: which of these emails hold a text.

Every answer is compared with the stored text itself; trigrams only make the list of those to compare short. Each
statement hands back one row: a row of its own for every email would give up and take back the interpreter's lock each
time, which beside a busy event loop costs milliseconds a row.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from storage.adapters.sqlite.search_schema import EMAIL_MASK, FIELDS, key
from storage.search.document import in_field
from storage.search.keys import TextKey, Where

FEW = 2_000
"""Up to so many emails are compared one by one: 8 ms at most, whatever the text."""

TERMS_MAX = 16
"""The most trigrams of a needle that the index is asked for; the comparison that follows is exact with any number."""

_EACH = "SELECT value AS id FROM json_each(:ids)"
_INDEXED = "SELECT rowid AS id FROM trigram WHERE trigram MATCH :terms AND rowid BETWEEN :low AND :high"
_BODY = "SELECT c.id FROM ({source}) c CROSS JOIN body b ON b.id = c.id WHERE instr(b.text, :needle)"
_TEXT = (
    "SELECT c.id FROM ({source}) c CROSS JOIN header h ON h.id = c.id CROSS JOIN body b ON b.id = c.id "
    "WHERE instr(h.text, :needle) OR instr(b.text, :needle)"
)
_POSSIBLE = (
    "SELECT json_group_array(id & :mask) FROM (SELECT rowid AS id FROM trigram WHERE trigram MATCH :terms "
    "AND rowid BETWEEN :low AND :high UNION ALL SELECT id FROM large WHERE id BETWEEN :low AND :high)"
)
_USUAL_FIELD = (
    "SELECT c.id FROM ({source}) c CROSS JOIN field f ON f.name = :name AND f.id = c.id WHERE instr(f.text, :needle)"
)
_FIELD_EXISTS = "SELECT c.id FROM ({source}) c CROSS JOIN header h ON h.id = c.id WHERE instr(h.text, :mark)"
# The field's first line decides in C; where it does not hold the needle and there is another one, Python looks.
_FIELD = (
    "SELECT json_group_array(id) FILTER (WHERE held), json_group_array(id) FILTER (WHERE NOT held AND again) FROM ("
    " SELECT id, instr(substr(rest, 1, instr(rest, x'0A')), :needle) AS held, instr(rest, :mark) AS again FROM ("
    "  SELECT c.id, substr(h.text, instr(h.text, :mark) + length(:mark)) AS rest"
    "  FROM ({source}) c CROSS JOIN header h ON h.id = c.id"
    "  WHERE instr(h.text, :needle) AND instr(h.text, :mark)))"
)


class Answer(NamedTuple):
    """held: for each key the emails that hold its text; they may name emails of the account that were not asked for.
    unread: emails that were asked for and of which the index cannot speak."""

    held: list[set[int]]
    unread: list[int]


class Possible(NamedTuple):
    """Emails beside which none up to the mark can hold the texts asked for. emails: their numbers, as JSON."""

    mark: int
    emails: str


def mark_of(conn: sqlite3.Connection) -> tuple[int, int]:
    """The number up to which emails are indexed, and the form of their text (``search.document.FORM``)."""
    email, form = conn.execute("SELECT email, form FROM mark").fetchone()
    return email, form


def keys_above(conn: sqlite3.Connection, last: int, limit: int) -> list[int]:
    """The next keys of indexed emails, large ones too."""
    (found,) = conn.execute(
        "SELECT json_group_array(id) FROM (SELECT id FROM (SELECT id FROM header UNION ALL SELECT id FROM large) "
        "WHERE id > ? ORDER BY id LIMIT ?)",
        (last, limit),
    ).fetchone()
    keys: list[int] = json.loads(found)
    return keys


def possible(conn: sqlite3.Connection, keys: Sequence[TextKey], account: int) -> Possible | None:
    """Which of an account's emails may hold all these texts, by their trigrams alone; None where no text has any."""
    expressions = [expression for one in keys if (expression := _terms_of(one)) is not None]
    if not expressions:
        return None
    mark, _ = mark_of(conn)
    values = {"terms": " AND ".join(expressions), "low": key(account, 0), "high": key(account, EMAIL_MASK)}
    (found,) = conn.execute(_POSSIBLE, values | {"mask": EMAIL_MASK}).fetchone()
    return Possible(mark, found)


def answer(conn: sqlite3.Connection, keys: Sequence[TextKey], account: int, emails: Sequence[int]) -> Answer:
    """Each key's answer for these emails of the account. emails: their numbers, ascending or not, repeats allowed."""
    mark, _ = mark_of(conn)
    (found,) = conn.execute(
        "SELECT json_group_array(id) FROM large WHERE id BETWEEN ? AND ?", (key(account, 0), key(account, EMAIL_MASK))
    ).fetchone()
    large = {id & EMAIL_MASK for id in json.loads(found)}
    asked = emails
    unread: list[int] = []
    if large or max(emails, default=0) > mark:
        unread = sorted({email for email in emails if email > mark or email in large})
        asked = [email for email in emails if email <= mark and email not in large]
    if not asked:
        return Answer([set() for _ in keys], unread)
    return Answer([{id & EMAIL_MASK for id in _held(conn, one, account, asked)} for one in keys], unread)


def _held(conn: sqlite3.Connection, one: TextKey, account: int, asked: Sequence[int]) -> list[int]:
    """Keys of emails that hold the text: all of those asked for, perhaps others between the first and the last."""
    values: dict[str, object] = {"needle": one.needle, "mark": one.mark}
    expression = _terms_of(one)
    if len(asked) <= FEW or expression is None:
        source = _EACH
        values["ids"] = json.dumps([key(account, email) for email in asked])
    else:
        source = _INDEXED
        values |= {"terms": expression, "low": key(account, min(asked)), "high": key(account, max(asked))}
    if one.where is Where.FIELD and one.mark in FIELDS:
        shape = _USUAL_FIELD
        values["name"] = FIELDS[one.mark]
    elif one.where is Where.FIELD and one.needle:
        return _field_held(conn, one, source, values)
    else:
        shape = {Where.FIELD: _FIELD_EXISTS, Where.BODY: _BODY, Where.TEXT: _TEXT}[one.where]
    (found,) = conn.execute(f"SELECT json_group_array(id) FROM ({shape.format(source=source)})", values).fetchone()
    held: list[int] = json.loads(found)
    return held


def _terms_of(one: TextKey) -> str | None:
    return terms(one.needle) or (terms(one.mark) if one.where is Where.FIELD else None)


def _field_held(conn: sqlite3.Connection, one: TextKey, source: str, values: dict[str, object]) -> list[int]:
    found, open_ = conn.execute(_FIELD.format(source=source), values).fetchone()
    held: list[int] = json.loads(found)
    for id in json.loads(open_):
        row = conn.execute("SELECT text FROM header WHERE id = ?", (id,)).fetchone()
        if in_field(row[0], one.mark, one.needle):
            held.append(id)
    return held


def terms(needle: bytes) -> str | None:
    """An FTS5 expression that every text with the needle fulfils; None for less than three characters.

    FTS5 cannot search phrases with detail=none, so each trigram is a term of its own. A quoted string knows one
    special character, the quote.
    """
    characters = needle.decode()
    count = len(characters) - 2
    if count < 1:
        return None
    asked = min(count, TERMS_MAX)
    starts = (n * (count - 1) // max(asked - 1, 1) for n in range(asked))
    trigrams = dict.fromkeys(characters[start : start + 3] for start in starts)
    return " AND ".join('"' + trigram.replace('"', '""') + '"' for trigram in trigrams)
