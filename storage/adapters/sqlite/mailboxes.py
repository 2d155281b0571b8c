"""Mailboxes: found by name or ref, listed, made, deleted, renamed, subscribed to, opened."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from storage import names, rights
from storage.adapters.sqlite import accounts, acl, ids, keywords
from storage.adapters.sqlite.uids import all_uids
from storage.limits import MAILBOXES_PER_ACCOUNT, SUBSCRIPTIONS_PER_ACCOUNT
from storage.model import (
    ALL_RIGHTS,
    DELIMITER,
    INBOX,
    Mailbox,
    MailboxList,
    MailboxRef,
    Opened,
    Ranges,
    Rights,
)
from storage.port import Reason, Refused

_COLUMNS = (
    "number, name, uidvalidity, uidnext, modseq, messages, unseen, deleted, recent, size, special_use, recent_from"
)
_Row = tuple[int, str, int, int, int, int, int, int, int, int, str | None, int]


class Place(NamedTuple):
    """A mailbox found by its ref: row numbers of mailbox and account, and what most calls need of it."""

    number: int
    account: int
    name: str
    uidvalidity: int
    uidnext: int
    modseq: int


def find(conn: sqlite3.Connection, ref: MailboxRef) -> Place:
    """The mailbox of a ref; NO_SUCH_MAILBOX when it was deleted, never was, or is another account's."""
    place = find_or_none(conn, ref)
    if place is None:
        raise Refused(Reason.NO_SUCH_MAILBOX)
    return place


def find_or_none(conn: sqlite3.Connection, ref: MailboxRef) -> Place | None:
    row = conn.execute(
        "SELECT m.number, m.account, m.name, m.uidvalidity, m.uidnext, m.modseq FROM mailbox AS m "
        "JOIN account AS a ON a.number = m.account WHERE m.number = ? AND a.id = ? AND m.name IS NOT NULL",
        (ids.number(ref.mailbox, "M"), ref.account),
    ).fetchone()
    return Place(*row) if row is not None else None


def found(conn: sqlite3.Connection, ref: MailboxRef, actor: str | None, needed: Rights) -> Place:
    """The mailbox of a ref, for one who may do that with it. NO_SUCH_MAILBOX, NO_PERMISSION."""
    place = find(conn, ref)
    if actor is not None:
        rights.check(acl.have(conn, place.number, actor), needed)
    return place


def readable(conn: sqlite3.Connection, ref: MailboxRef) -> Place:
    """The same for a reading call."""
    return found(conn, ref, rights.reader(ref), Rights.READ)


def owner(conn: sqlite3.Connection, account: str) -> int:
    """The account whose mailbox is asked for, perhaps by another. NO_SUCH_MAILBOX where it is not there."""
    try:
        return accounts.find(conn, account)
    except Refused:
        raise Refused(Reason.NO_SUCH_MAILBOX) from None


def find_named(conn: sqlite3.Connection, account: int, name: str) -> Place:
    """The mailbox of that (canonical) name. NO_SUCH_MAILBOX."""
    row = conn.execute(
        "SELECT number, account, name, uidvalidity, uidnext, modseq FROM mailbox WHERE account = ? AND name = ?",
        (account, name),
    ).fetchone()
    if row is None:
        raise Refused(Reason.NO_SUCH_MAILBOX)
    return Place(*row)


def by_name(conn: sqlite3.Connection, account: str, name: str, actor: str | None = None) -> Mailbox:
    """actor: another than the owner, for whom it is looked up. NO_SUCH_MAILBOX."""
    # Of an account that was never opened another learns no more than of one that shares nothing.
    number = accounts.find(conn, account) if actor is None else owner(conn, account)
    place = find_named(conn, number, names.searchable(name))
    if actor is None:
        return one(conn, account, place.number)
    given = acl.have(conn, place.number, actor)
    if not given:
        raise Refused(Reason.NO_SUCH_MAILBOX)
    return one(conn, account, place.number, actor, given)


def one(
    conn: sqlite3.Connection, account: str, number: int, actor: str | None = None, given: Rights = ALL_RIGHTS
) -> Mailbox:
    """A mailbox that is there, as the actor sees it."""
    row = conn.execute(f"SELECT {_COLUMNS} FROM mailbox WHERE number = ?", (number,)).fetchone()
    return _mailbox(account, row, actor, given)


def every(conn: sqlite3.Connection, account: str) -> MailboxList:
    number = accounts.find(conn, account)
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM mailbox WHERE account = ? AND name IS NOT NULL ORDER BY name <> ?, name",
        (number, INBOX),
    ).fetchall()
    subscribed = conn.execute("SELECT name FROM subscription WHERE account = ?", (number,)).fetchall()
    (annotated,) = conn.execute("SELECT annotated FROM account WHERE number = ?", (number,)).fetchone()
    listed = tuple(_mailbox(account, row) for row in rows)
    return MailboxList(listed, frozenset(name for (name,) in subscribed), annotated)


def create(
    conn: sqlite3.Connection, account: str, name: str, special_use: str | None, now: float, actor: str | None = None
) -> tuple[Mailbox, int]:
    """The new mailbox and the account's modseq. actor: another than the owner, who acts."""
    # RFC 3501 §6.3.3
    name = names.checked(name)
    number = accounts.find(conn, account)
    taken = _names(conn, number)
    if actor is not None:
        _check_above(conn, number, name, taken, actor)
        if special_use is not None:
            raise Refused(Reason.NO_PERMISSION, "The owner alone gives a mailbox its special use.")
    if name in taken:
        raise Refused(Reason.ALREADY_EXISTS)
    if special_use is not None:
        # RFC 6154 §3: at most one mailbox has a use.
        other = conn.execute(
            "SELECT 1 FROM mailbox WHERE account = ? AND name IS NOT NULL AND special_use = ?", (number, special_use)
        ).fetchone()
        if other is not None:
            raise Refused(Reason.CANNOT, f"Another mailbox has the use {special_use}.")
    modseq = _make(conn, number, [above for above in names.superiors(name) if above not in taken], None, taken, now)
    modseq = _make(conn, number, [name], special_use, taken, now) or modseq
    return by_name(conn, account, name, actor), modseq


def _check_above(conn: sqlite3.Connection, account: int, name: str, taken: set[str], actor: str) -> None:
    """Refused for another than the owner unless he may make mailboxes under the nearest one above the name."""
    # RFC 4314 §4
    above = next((superior for superior in reversed(names.superiors(name)) if superior in taken), None)
    # Whether there is one above that he may not know of is not told.
    if above is None or not acl.have(conn, find_named(conn, account, above).number, actor) & Rights.CREATE:
        raise Refused(Reason.NO_PERMISSION)


def _make(
    conn: sqlite3.Connection, account: int, made: list[str], special_use: str | None, taken: set[str], now: float
) -> int:
    """Make these mailboxes; the modseq they got (0 when there are none)."""
    if len(taken) + len(made) > MAILBOXES_PER_ACCOUNT:
        raise Refused(Reason.LIMIT, f"An account has at most {MAILBOXES_PER_ACCOUNT} mailboxes.")
    modseq = accounts.next_modseq(conn, account) if made else 0
    for name in made:
        conn.execute(
            "INSERT INTO mailbox (account, name, special_use, uidvalidity, modseq) VALUES (?, ?, ?, ?, ?)",
            (account, name, special_use, accounts.next_uidvalidity(conn, account, now), modseq),
        )
        # RFC 4314 §4: it is shared as the one above it. That is there: superiors come first.
        shared = conn.execute(
            "INSERT INTO acl (mailbox, identifier, negative, rights) "
            "SELECT made.number, g.identifier, g.negative, g.rights FROM mailbox AS made "
            "JOIN mailbox AS above ON above.account = made.account AND above.name = ? "
            "JOIN acl AS g ON g.mailbox = above.number WHERE made.account = ? AND made.name = ?",
            (name.rpartition(DELIMITER)[0], account, name),
        ).rowcount
        rights.check_entries(0, shared, acl.count(conn, account) if shared else 0)
        taken.add(name)
    return modseq


def delete(conn: sqlite3.Connection, account: str, name: str, now: float, actor: str | None = None) -> int:
    """Take the name away at once; the sweep carries the messages off. The account's modseq."""
    # RFC 3501 §6.3.4
    number = accounts.find(conn, account)
    place = find_named(conn, number, names.searchable(name))
    if actor is not None:
        rights.check(acl.have(conn, place.number, actor), Rights.DELETE_MAILBOX)
    if place.name == INBOX:
        raise Refused(Reason.CANNOT, "INBOX cannot be deleted.")
    messages, size = conn.execute("SELECT messages, size FROM mailbox WHERE number = ?", (place.number,)).fetchone()
    modseq = accounts.next_modseq(conn, number, size=-size, messages=-messages)
    conn.execute(
        "UPDATE mailbox SET name = NULL, removed = ?, modseq = ? WHERE number = ?", (now, modseq, place.number)
    )
    # RFC 4314 §4
    acl.keep(conn, place.number, ())
    conn.execute("DELETE FROM annotation WHERE account = ? AND mailbox = ?", (number, place.number))
    return modseq


def rename(
    conn: sqlite3.Connection, account: str, name: str, new_name: str, now: float, actor: str | None = None
) -> tuple[int, int | None]:
    """Rename a mailbox and all under it: (modseq, None). For INBOX only the new mailbox is made: (modseq, its number),
    and the caller moves the messages."""
    # RFC 3501 §6.3.5
    number = accounts.find(conn, account)
    old, new = names.searchable(name), names.checked(new_name)
    taken = _names(conn, number)
    if actor is not None:
        # RFC 4314 §4
        given = acl.have(conn, find_named(conn, number, old).number, actor)
        rights.check(given, Rights.DELETE_MAILBOX)
        if old == INBOX:
            raise rights.lacking(given)
        _check_above(conn, number, new, taken, actor)
    moved = [found for found in taken if found == old or names.is_under(found, old)]
    if not moved:
        raise Refused(Reason.NO_SUCH_MAILBOX)
    if new in taken:
        raise Refused(Reason.ALREADY_EXISTS)
    if old == INBOX:
        above = [superior for superior in names.superiors(new) if superior not in taken]
        modseq = _make(conn, number, [*above, new], None, taken, now)
        return modseq, find_named(conn, number, new).number
    if names.is_under(new, old):
        raise Refused(Reason.CANNOT, "A mailbox cannot be moved under itself.")
    renamed = {found: names.checked(new + found[len(old) :]) for found in moved}
    # A name that moves away itself is free: "a/a" may become "a" and "a/a/a" then "a/a".
    if not taken.difference(moved).isdisjoint(renamed.values()):
        raise Refused(Reason.ALREADY_EXISTS)
    _make(conn, number, [superior for superior in names.superiors(new) if superior not in taken], None, taken, now)
    modseq = accounts.next_modseq(conn, number)
    conn.executemany(
        "UPDATE mailbox SET name = ? WHERE account = ? AND name = ?",
        # The highest first: such a name is free once the one above has left it.
        [(renamed[found], number, found) for found in sorted(moved, key=len)],
    )
    return modseq, None


def subscribe(conn: sqlite3.Connection, account: str, name: str, on: bool) -> int:
    """The account's modseq, 0 where nothing changes."""
    # RFC 3501 §6.3.6, §6.3.7
    number = accounts.find(conn, account)
    if not on:
        asked = names.searchable(name)
        gone = conn.execute("DELETE FROM subscription WHERE account = ? AND name = ?", (number, asked)).rowcount
        return accounts.next_modseq(conn, number) if gone else 0
    name = names.checked(name)
    (have,) = conn.execute(
        "SELECT count(*) FROM subscription WHERE account = ? AND name <> ?", (number, name)
    ).fetchone()
    if have >= SUBSCRIPTIONS_PER_ACCOUNT:
        raise Refused(Reason.LIMIT, f"An account subscribes to at most {SUBSCRIPTIONS_PER_ACCOUNT} names.")
    made = conn.execute("INSERT OR IGNORE INTO subscription (account, name) VALUES (?, ?)", (number, name)).rowcount
    return accounts.next_modseq(conn, number) if made else 0


def opened(conn: sqlite3.Connection, ref: MailboxRef) -> Opened:
    """What SELECT shows, with the recent messages not yet taken."""
    place = readable(conn, ref)
    row = conn.execute(f"SELECT {_COLUMNS} FROM mailbox WHERE number = ?", (place.number,)).fetchone()
    actor = rights.reader(ref)
    mailbox, recent_from = _mailbox(ref.account, row, actor, acl.have(conn, place.number, actor)), row[11]
    present = all_uids(conn, place.number, mailbox.messages)
    first_unseen = None
    if mailbox.unseen:
        first_unseen = conn.execute(
            "SELECT uid FROM entry WHERE mailbox = ? AND NOT flags & 1 ORDER BY uid LIMIT 1", (place.number,)
        ).fetchone()[0]
    recent = tuple((max(first, recent_from), last) for first, last in present if last >= recent_from)
    # What words the owner uses elsewhere is not for others.
    words = keywords.every(conn, place.account) if actor is None else ()
    return Opened(mailbox, present, recent, first_unseen, words)


def take_recent(conn: sqlite3.Connection, ref: MailboxRef) -> Ranges:
    """Take the uids, from the first recent one to the last there ever was, so that no other session gets them."""
    place = readable(conn, ref)
    (first,) = conn.execute("SELECT recent_from FROM mailbox WHERE number = ?", (place.number,)).fetchone()
    conn.execute("UPDATE mailbox SET recent = 0, recent_from = uidnext WHERE number = ?", (place.number,))
    return ((first, place.uidnext - 1),) if first < place.uidnext else ()


def _names(conn: sqlite3.Connection, account: int) -> set[str]:
    rows = conn.execute("SELECT name FROM mailbox WHERE account = ? AND name IS NOT NULL", (account,)).fetchall()
    return {name for (name,) in rows}


def _mailbox(account: str, row: _Row, actor: str | None = None, given: Rights = ALL_RIGHTS) -> Mailbox:
    number, name, uidvalidity, uidnext, modseq, messages, unseen, deleted, recent, size, special_use, _ = row
    return Mailbox(
        MailboxRef(account, ids.mailbox(number), actor),
        name,
        uidvalidity,
        uidnext,
        modseq,
        messages,
        unseen,
        deleted,
        recent,
        size,
        special_use,
        given,
    )
