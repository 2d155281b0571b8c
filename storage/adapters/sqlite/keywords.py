"""Keywords: numbered per account, one character each in an entry."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from mail.flags import is_keyword
from storage.adapters.sqlite.schema import KEYWORD_BASE
from storage.limits import KEYWORDS_PER_ACCOUNT
from storage.port import Reason, Refused


class Names:
    """The keywords of one account, read when the first is met."""

    def __init__(self, conn: sqlite3.Connection, account: int) -> None:
        self._conn = conn
        self._account = account
        self._by_character: dict[str, str] = {}
        self._known: dict[str, tuple[str, ...]] = {"": ()}

    def of(self, stored: str) -> tuple[str, ...]:
        """The names of an entry's keywords, sorted."""
        known = self._known.get(stored)
        if known is not None:
            return known
        if not self._by_character:
            rows = self._conn.execute("SELECT number, name FROM keyword WHERE account = ?", (self._account,))
            self._by_character = {chr(KEYWORD_BASE + number): name for number, name in rows}
        # A purge takes the account's keywords before its messages.
        found = tuple(sorted(self._by_character[one] for one in stored if one in self._by_character))
        self._known[stored] = found
        return found


def every(conn: sqlite3.Connection, account: int) -> tuple[str, ...]:
    """All keywords of the account, sorted."""
    return tuple(
        name for (name,) in conn.execute("SELECT name FROM keyword WHERE account = ? ORDER BY name", (account,))
    )


def stored(conn: sqlite3.Connection, account: int, names: Iterable[str], *, make: bool) -> str:
    """The characters of these keywords, sorted; unknown ones are made or (``make`` false) left out. LIMIT."""
    found: set[str] = set()
    for name in names:
        folded = name.lower()
        row = conn.execute("SELECT number FROM keyword WHERE account = ? AND folded = ?", (account, folded)).fetchone()
        if row is not None:
            found.add(chr(KEYWORD_BASE + row[0]))
        elif make:
            found.add(chr(KEYWORD_BASE + _make(conn, account, name, folded)))
    return "".join(sorted(found))


def _make(conn: sqlite3.Connection, account: int, name: str, folded: str) -> int:
    if not is_keyword(name):
        raise Refused(Reason.BAD_NAME, "A keyword is an atom of at most 128 characters.")
    number: int
    (number,) = conn.execute("SELECT keywords FROM account WHERE number = ?", (account,)).fetchone()
    if number >= KEYWORDS_PER_ACCOUNT:
        raise Refused(Reason.LIMIT, f"An account has at most {KEYWORDS_PER_ACCOUNT} different keywords.")
    conn.execute("UPDATE account SET keywords = ? WHERE number = ?", (number + 1, account))
    conn.execute(
        "INSERT INTO keyword (account, number, name, folded) VALUES (?, ?, ?, ?)", (account, number, name, folded)
    )
    return number
