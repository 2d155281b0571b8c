"""What storage.db holds besides its own tables while it is the target of a move: the marker, and the ids that its rows
had in the store that they come from, where they could not keep them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from storage.adapters.sqlite import ids
from storage.transfer import Marker

TABLES: Final = {"M": "mailbox", "E": "email", "B": "blob", "S": "spool"}
"""The table whose rows an id of the letter names."""

_TEXTS: Final = {"M": ids.mailbox, "E": ids.email, "B": ids.blob, "S": ids.spool}
_NUMBER_MAX: Final = {"M": 1 << 52, "E": 1 << 31, "B": 1 << 50, "S": 1 << 48}
"""Above these no number of another store is kept: keys of chunks and of the search index are made of them."""

_MAKE = (
    "CREATE TABLE transfer (source TEXT NOT NULL, place TEXT NOT NULL, highest TEXT NOT NULL)",
    # number: of the row here. id: in the store that it comes from.
    "CREATE TABLE transfer_id (letter TEXT NOT NULL, id TEXT NOT NULL, number INTEGER NOT NULL, "
    "PRIMARY KEY (letter, id)) WITHOUT ROWID",
    "CREATE UNIQUE INDEX transfer_number ON transfer_id (letter, number)",
)


def is_marked(conn: sqlite3.Connection) -> bool:
    """Is the database the target of a move that is not finished?"""
    return conn.execute("SELECT 1 FROM sqlite_master WHERE name = 'transfer'").fetchone() is not None


def marker(conn: sqlite3.Connection) -> Marker | None:
    if not is_marked(conn):
        return None
    return Marker(*conn.execute("SELECT source, place FROM transfer").fetchone())


def highest(conn: sqlite3.Connection) -> dict[str, int]:
    """The highest number that a row of each letter's table has ever had."""
    known = dict(conn.execute("SELECT name, seq FROM sqlite_sequence"))
    return {letter: known.get(table, 0) for letter, table in TABLES.items()}


def make(conn: sqlite3.Connection, source: str, numbers: Mapping[str, int]) -> None:
    """Mark the database. Rows without an old number of their own get those above all old ones."""
    kept = {letter: min(numbers.get(letter, 0), _NUMBER_MAX[letter]) for letter in TABLES}
    for statement in _MAKE:
        conn.execute(statement)
    conn.execute("INSERT INTO transfer VALUES (?, '', ?)", (source, json.dumps(kept)))
    for letter, table in TABLES.items():
        had = conn.execute("DELETE FROM sqlite_sequence WHERE name = ? RETURNING seq", (table,)).fetchall()
        seq = max([kept[letter], *(seq for (seq,) in had)])
        conn.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, seq))


def remember(conn: sqlite3.Connection, place: str) -> None:
    conn.execute("UPDATE transfer SET place = ?", (place,))


def renamed(conn: sqlite3.Connection) -> dict[str, int]:
    """How many rows of each letter have other ids than they had."""
    found = dict.fromkeys(TABLES, 0)
    found.update(conn.execute("SELECT letter, count(*) FROM transfer_id GROUP BY letter"))
    return found


def drop(conn: sqlite3.Connection) -> None:
    """The move is finished."""
    conn.execute("DROP TABLE transfer_id")
    conn.execute("DROP TABLE transfer")


class Ids:
    """Ids of the old store ↔ numbers of rows here, for one job. In a store that is no target they are its own."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn
        self._kept: dict[str, int] | None = None
        if is_marked(conn):
            (kept,) = conn.execute("SELECT highest FROM transfer").fetchone()
            self._kept = json.loads(kept)

    def kept(self, letter: str, id: str) -> int:
        """The number that a row of this id has because of the id itself; 0 where it gets one of the table's choice."""
        number = ids.number(id, letter)
        if number == 0 or _TEXTS[letter](number) != id:
            return 0
        return number if self._kept is None or number <= self._kept[letter] else 0

    def numbers(self, letter: str, wanted: Iterable[str]) -> dict[str, int]:
        """The row numbers of these ids, in their order, as far as they have any; whether the rows are there, others
        look."""
        found = {id: self.kept(letter, id) for id in wanted}
        others = [id for id, number in found.items() if not number]
        if others and self._kept is not None:
            rows = self._conn.execute(
                "SELECT t.id, t.number FROM json_each(?) AS j CROSS JOIN transfer_id AS t "
                "ON t.letter = ? AND t.id = j.value",
                (json.dumps(others), letter),
            )
            found.update(rows)
        return {id: number for id, number in found.items() if number}

    def number(self, letter: str, id: str) -> int:
        """The one row's number; 0 for none."""
        return self.numbers(letter, (id,)).get(id, 0)

    def texts(self, letter: str, numbers: Collection[int]) -> dict[int, str]:
        """The ids of these rows."""
        text = _TEXTS[letter]
        found = {number: text(number) for number in numbers}
        if self._kept is not None:
            above = [number for number in found if number > self._kept[letter]]
            rows = self._conn.execute(
                "SELECT t.number, t.id FROM json_each(?) AS j CROSS JOIN transfer_id AS t "
                "ON t.letter = ? AND t.number = j.value",
                (json.dumps(above), letter),
            )
            found.update(rows if above else ())
        return found

    def text(self, letter: str, number: int) -> str:
        """The one row's id."""
        return self.texts(letter, (number,))[number]

    def note(self, letter: str, id: str, number: int) -> None:
        """A row got a number of the table's choice."""
        self._conn.execute("INSERT INTO transfer_id (letter, id, number) VALUES (?, ?, ?)", (letter, id, number))
