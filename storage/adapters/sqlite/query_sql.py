"""The part of a query that is about numbers, flags and dates, as one SQL condition on a row ``e`` of ``entry``."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, field

from storage.adapters.sqlite.schema import KEYWORD_BASE
from storage.adapters.sqlite.search_lookup import Possible
from storage.model import DateField, DateRange, HasFlags, HasKeyword, ModseqFrom, Ranges, SizeRange, Uids
from storage.search.tree import HEIGHT_MAX, Node, Op, Plain

PAGE = 50_000
"""Rows of one statement: some 350 KiB of JSON, which are read in one go."""
_LOWEST, _HIGHEST = -(2**63), 2**63 - 1

_DATE = {
    DateField.INTERNAL: "e.internaldate",
    DateField.SAVED: "e.savedate",
    # RFC 3501 §6.4.4: SENT keys disregard time and timezone, so the day as it was written is compared.
    DateField.SENT: "(SELECT b.sent_day FROM email m JOIN blob b ON b.number = m.blob WHERE m.number = e.email)",
}


@dataclass(slots=True)
class Condition:
    """Makes SQL and gathers its values. keywords: the account's keyword numbers by folded name.

    Conditions never are NULL, so that NOT means not.
    """

    keywords: dict[str, int]
    values: list[int | str] = field(default_factory=list)

    def of(self, node: Node, rest: bool = True, depth: int = 0) -> str:
        """A condition that holds for every match of the node: exactly for those where ``node.sql``. ``rest`` is what
        counts where SQL is not asked: true, and under a NOT false."""
        if node.op is Op.TEXT or not (node.sql or node.nodes) or depth > HEIGHT_MAX:
            return str(int(rest))
        if node.op is Op.NOT:
            return f"NOT {self.of(node.nodes[0], not rest, depth + 1)}"
        if node.plain is not None:
            return f"({self._plain(node.plain)})"
        if not node.nodes:
            return str(int(node.op is Op.AND))
        word = " AND " if node.op is Op.AND else " OR "
        return "(" + word.join([self.of(child, rest, depth + 1) for child in node.nodes]) + ")"

    def _plain(self, key: Plain) -> str:
        match key:
            case Uids(uids):
                return self._uids(uids)
            case HasFlags(flags):
                return f"e.flags & {self._bind(flags)} = {self._bind(flags)}"
            case HasKeyword(keyword):
                return self._keyword(keyword)
            case DateRange(DateField.SENT, start, end):
                return f"coalesce({self._between(_DATE[DateField.SENT], start, _before(end))}, 0)"
            case DateRange(name, start, end):
                return self._between(_DATE[name], start, _before(end))
            case SizeRange(larger, smaller):
                return self._between("e.size", None if larger is None else larger + 1, _before(smaller))
            case ModseqFrom(modseq):
                return self._between("e.modseq", modseq, None)

    def _bind(self, value: int) -> str:
        self.values.append(min(max(value, _LOWEST), _HIGHEST))
        return "?"

    def _between(self, what: str, least: int | None, most: int | None) -> str:
        tests = [f"{what} IS NOT NULL"] if least is None and most is None else []
        if least is not None:
            tests.append(f"{what} >= {self._bind(least)}")
        if most is not None:
            tests.append(f"{what} <= {self._bind(most)}")
        return " AND ".join(tests)

    def _uids(self, uids: Ranges) -> str:
        if not uids:
            return "0"
        # The ends alone let SQLite go straight to the rows in question.
        tests = [f"e.uid BETWEEN {self._bind(uids[0][0])} AND {self._bind(uids[-1][1])}"]
        if len(uids) > 1:
            each = [f"e.uid BETWEEN {self._bind(first)} AND {self._bind(last)}" for first, last in uids]
            tests.append("(" + " OR ".join(each) + ")")
        return " AND ".join(tests)

    def _keyword(self, keyword: str) -> str:
        number = self.keywords.get(keyword.lower())
        if number is None:
            return "0"
        self.values.append(chr(KEYWORD_BASE + number))
        return "instr(e.keywords, ?) > 0"


def _before(end: int | None) -> int | None:
    return None if end is None else end - 1


def keyword_numbers(conn: sqlite3.Connection, account: int) -> dict[str, int]:
    """The account's keywords by folded name."""
    return dict(conn.execute("SELECT folded, number FROM keyword WHERE account = ?", (account,)).fetchall())


def matching(
    conn: sqlite3.Connection, mailbox: int, node: Node, keywords: dict[str, int], possible: Possible | None = None
) -> tuple[list[int], list[int]]:
    """The uids, ascending, of the mailbox's messages that fulfil the node's condition, and the email of each; of those
    alone that are possible, where that is known.

    Handed over as JSON, one row a page: a row for each message would give up and take back the interpreter's lock
    100,000 times.
    """
    condition = Condition(keywords)
    where = condition.of(node)
    if possible is not None:
        where += " AND (e.email > ? OR e.email IN (SELECT value FROM json_each(?)))"
        condition.values += (possible.mark, possible.emails)
    uids: list[int] = []
    emails: list[int] = []
    while True:
        found = conn.execute(
            "SELECT json_group_array(uid), json_group_array(email) FROM (SELECT e.uid, e.email FROM entry AS e "
            f"WHERE e.mailbox = ? AND e.uid > ? AND {where} ORDER BY e.uid LIMIT ?)",
            (mailbox, uids[-1] if uids else 0, *condition.values, PAGE),
        ).fetchone()
        page = json.loads(found[0])
        uids += page
        emails += json.loads(found[1])
        if len(page) < PAGE:
            return uids, emails
