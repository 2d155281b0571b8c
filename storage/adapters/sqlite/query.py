"""Search: numbers, flags and dates are asked of storage.db, texts of the index.

The cheap keys go first: one SQL condition that every match fulfils gives the candidates, and only their texts are
looked at. Then each part of the query is a set of uids, and the sets are combined. In a large mailbox the index is
asked before for what can hold the texts at all: 100,000 candidates take 30 ms to list and hand over.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from runtime.sqlite import Database
from storage import ranges
from storage.adapters.sqlite import mailboxes, search_lookup
from storage.adapters.sqlite.query_sql import keyword_numbers, matching
from storage.adapters.sqlite.search_index import SearchIndex
from storage.adapters.sqlite.search_lookup import Possible
from storage.model import Found, MailboxRef, Query, Ranges, Uids
from storage.ranges import intersect, subtract
from storage.search.keys import TextKey
from storage.search.tree import Node, Op, grouped, ready, texts


@dataclass(frozen=True, slots=True)
class _Seen:
    """One look at storage.db. uids, emails: of the candidates, in pairs. answers: the uids that each part of the query
    matches, of those that SQL answers."""

    account: int
    highest_modseq: int
    uids: Sequence[int]
    emails: Sequence[int]
    answers: Mapping[Node, Ranges] | None = None


async def run(storage: Database, index: SearchIndex, ref: MailboxRef, query: Query) -> Found:
    """``Storage.search``: exactly the mailbox's messages that match, as they were at one moment.

    Raises Refused: NO_SUCH_MAILBOX, or LIMIT for a query over a bound of ``search.tree`` or ``search.keys``. Raises
    DatabaseUnavailable when storage cannot be read.
    """
    root = ready(query)
    open_ = _open(root)
    possible = None
    if needed := _needed(open_):
        account = await storage.read(lambda conn: _account_of_many(conn, ref))
        if account is not None:
            possible = await index.possible(needed, account)
    seen = await storage.read(lambda conn: _look(conn, ref, root, open_, possible))
    if open_ is None or not seen.uids:
        return Found(await asyncio.to_thread(ranges.of, seen.uids), seen.highest_modseq)
    keys = texts(open_)
    held = await index.find(keys, seen.account, seen.emails) if keys else []
    uids = await asyncio.to_thread(_combine, open_, seen, dict(zip(keys, held, strict=True)))
    return Found(uids, seen.highest_modseq)


def _open(root: Node) -> Node | None:
    """What is still to be asked of the candidates; of an AND the SQL part is answered by their being candidates."""
    if root.sql:
        return None
    if root.op is not Op.AND:
        return root
    _, others = grouped(root)
    return others[0] if len(others) == 1 else replace(root, nodes=others)


def _needed(open_: Node | None) -> Sequence[TextKey]:
    """Texts that every match holds."""
    if open_ is None:
        return ()
    parts = open_.nodes if open_.op is Op.AND else (open_,)
    return [node.text for node in parts if node.text is not None]


def _account_of_many(conn: sqlite3.Connection, ref: MailboxRef) -> int | None:
    """The number of the mailbox's account; None where the mailbox is so small that all its texts can be compared."""
    place = mailboxes.readable(conn, ref)
    (messages,) = conn.execute("SELECT messages FROM mailbox WHERE number = ?", (place.number,)).fetchone()
    return place.account if messages > search_lookup.FEW else None


def _look(
    conn: sqlite3.Connection, ref: MailboxRef, root: Node, open_: Node | None, possible: Possible | None
) -> _Seen:
    """possible: of an earlier moment. What has come since is above its mark."""
    place = mailboxes.readable(conn, ref)
    keywords = keyword_numbers(conn, place.account)
    uids, emails = matching(conn, place.number, root, keywords, possible)
    if open_ is None or not uids:
        return _Seen(place.account, place.modseq, uids, emails)
    answers = {part: ranges.of(matching(conn, place.number, part, keywords)[0]) for part in _sql_parts(open_)}
    return _Seen(place.account, place.modseq, uids, emails, answers)


def _sql_parts(node: Node) -> Iterator[Node]:
    """The largest parts of a tree that SQL can answer whole."""
    if node.sql:
        yield node
    elif node.op in (Op.AND, Op.OR):
        plain, others = grouped(node)
        if plain is not None:
            yield plain
        for other in others:
            yield from _sql_parts(other)
    elif node.op is Op.NOT:
        yield from _sql_parts(node.nodes[0])


def _combine(root: Node, seen: _Seen, held: Mapping[TextKey, set[int]]) -> Ranges:
    """The matches among the candidates; what texts say is known of no others."""
    answers = dict(seen.answers or {})
    by_text = {
        key: ranges.of([uid for uid, email in zip(seen.uids, seen.emails, strict=True) if email in emails])
        for key, emails in held.items()
    }

    if root.text is not None:
        return by_text[root.text]
    candidates = ranges.of(seen.uids)

    def of(node: Node) -> Ranges:
        if node.sql:
            return answers[node]
        if node.text is not None:
            return by_text[node.text]
        if isinstance(node.plain, Uids):
            return node.plain.uids
        if node.op is Op.NOT:
            return subtract(candidates, of(node.nodes[0]))
        plain, others = grouped(node)
        parts = ([answers[plain]] if plain is not None else []) + [of(other) for other in others]
        if node.op is Op.OR:
            return ranges.union([pair for part in parts for pair in part])
        found = parts[0]
        for part in parts[1:]:
            found = intersect(found, part)
        return found

    return intersect(of(root), candidates)
