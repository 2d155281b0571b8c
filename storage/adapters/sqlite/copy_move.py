"""COPY and MOVE: new entries, within an account for the same emails."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import NamedTuple

from storage import names, ranges, rights
from storage.adapters.sqlite import accounts, acl, carry_over, expunge, mailboxes, metadata
from storage.adapters.sqlite.carry_over import ALL_KEPT, Kept
from storage.adapters.sqlite.uids import source, within
from storage.limits import UID_MAX
from storage.model import INBOX, Copied, MailboxRef, Ranges, Rights
from storage.port import Reason, Refused


class Target(NamedTuple):
    """Where messages are to go. account: its owner's id. quota: octets that the owner may use, None for no limit.
    actor: who acts, where it is another than that owner."""

    account: str
    name: str
    quota: int | None
    actor: str | None


Job = Callable[
    [sqlite3.Connection, MailboxRef, Ranges, int | None, Target, float, str | None], tuple[Copied, dict[str, int]]
]


def copy(
    conn: sqlite3.Connection,
    ref: MailboxRef,
    uids: Ranges,
    messages: int | None,
    target: Target,
    now: float,
    actor: str | None,
) -> tuple[Copied, dict[str, int]]:
    """The outcome, and the new modseq of each account that it changes. messages: how many there must be. actor: who
    acts, where it is another than the owner of the source."""
    # RFC 3501 §6.4.7
    place = mailboxes.found(conn, ref, actor, Rights.READ)
    to, given = _target(conn, target)
    found, size = _present(conn, place.number, uids, messages)
    if not found:
        return Copied(to.uidvalidity, (), (), to.modseq), {}
    accounts.check_quota(conn, to.account, size, target.quota)
    count = ranges.count(found)
    modseq = accounts.next_modseq(conn, to.account, size=size, messages=count, saved=count, now=now)
    new = _bring(conn, place, found, to, given, modseq, now)
    return Copied(to.uidvalidity, found, new, modseq), {target.account: modseq}


def move(
    conn: sqlite3.Connection,
    ref: MailboxRef,
    uids: Ranges,
    messages: int | None,
    target: Target,
    now: float,
    actor: str | None,
) -> tuple[Copied, dict[str, int]]:
    """As ``copy``; the modseq of the outcome is that of the source's account."""
    # RFC 6851 §3.3, RFC 6851 §4.4: what COPY, STORE and EXPUNGE together need
    place = mailboxes.found(conn, ref, actor, Rights.READ | Rights.DELETE_MESSAGES | Rights.EXPUNGE)
    to, given = _target(conn, target)
    found, size = _present(conn, place.number, uids, messages)
    if not found:
        return Copied(to.uidvalidity, (), (), place.modseq), {}
    modseqs: dict[str, int] = {}
    count = ranges.count(found)
    if to.account != place.account:
        accounts.check_quota(conn, to.account, size, target.quota)
        entered = accounts.next_modseq(conn, to.account, size=size, messages=count, saved=count, now=now)
        modseqs[target.account] = entered
        modseq = accounts.next_modseq(conn, place.account, size=-size, messages=-count)
    else:
        entered = modseq = accounts.next_modseq(conn, place.account, saved=count, now=now)
    new = _bring(conn, place, found, to, given, entered, now)
    expunge.take_away(conn, place.number, found, modseq, now)
    return Copied(to.uidvalidity, found, new, modseq), {**modseqs, ref.account: modseq}


def _target(conn: sqlite3.Connection, target: Target) -> tuple[mailboxes.Place, Rights]:
    """The mailbox, and what may be done to it. NO_SUCH_MAILBOX, NO_PERMISSION."""
    place = mailboxes.find_named(conn, mailboxes.owner(conn, target.account), names.searchable(target.name))
    given = acl.have(conn, place.number, target.actor)
    rights.check(given, Rights.INSERT)
    return place, given


def _bring(
    conn: sqlite3.Connection,
    place: mailboxes.Place,
    uids: Ranges,
    to: mailboxes.Place,
    given: Rights,
    modseq: int,
    now: float,
) -> Ranges:
    # RFC 4314 §4: flags without the right to them are left out
    kept = Kept(rights.flags_allowed(given), bool(given & Rights.WRITE))
    if to.account == place.account:
        return _enter_all(conn, place, uids, to, modseq, now, kept)
    return carry_over.enter_all(conn, place, uids, to, modseq, now, kept)


def empty_inbox(conn: sqlite3.Connection, account: str, target: int, modseq: int, now: float) -> None:
    """Move all messages of INBOX to the mailbox that was just made for them at ``modseq`` (RFC 3501 §6.3.5), which is
    annotated as INBOX is (RFC 5464 §4.1)."""
    number = accounts.find(conn, account)
    place = mailboxes.find_named(conn, number, INBOX)
    metadata.copy(conn, number, place.number, target, modseq)
    found, _ = _present(conn, place.number, ((1, UID_MAX),))
    if found:
        row = conn.execute(
            "SELECT number, account, name, uidvalidity, uidnext, modseq FROM mailbox WHERE number = ?", (target,)
        ).fetchone()
        _enter_all(conn, place, found, mailboxes.Place(*row), modseq, now)
        accounts.count_saved(conn, number, ranges.count(found), now)
        expunge.take_away(conn, place.number, found, modseq, now)


def _present(conn: sqlite3.Connection, mailbox: int, uids: Ranges, messages: int | None = None) -> tuple[Ranges, int]:
    """Those of the uids that are there, and their octets. NO_SUCH_MESSAGE where there are to be so many and are not."""
    rows, parameters = source("entry", mailbox, uids)
    found = conn.execute(f"SELECT e.uid, e.size {rows}", parameters).fetchall()
    if messages is not None and len(found) != messages:
        raise Refused(Reason.NO_SUCH_MESSAGE, "Some of the messages have been expunged.")
    return ranges.of(uid for uid, _ in found), sum(size for _, size in found)


def _enter_all(
    conn: sqlite3.Connection,
    place: mailboxes.Place,
    uids: Ranges,
    to: mailboxes.Place,
    modseq: int,
    now: float,
    kept: Kept = ALL_KEPT,
) -> Ranges:
    """Give these existing messages uids in the other mailbox too; the uids, in the same order."""
    messages = ranges.count(uids)
    if to.uidnext + messages - 1 > UID_MAX:
        raise Refused(Reason.LIMIT, "The mailbox has no uid left.")
    condition, parameters = within(place.number, uids)
    unseen, deleted, size = conn.execute(
        f"SELECT sum(NOT flags & ? & 1), sum(flags & ? & 8 <> 0), sum(size) FROM entry WHERE {condition}",
        (kept.flags, kept.flags, *parameters),
    ).fetchone()
    # The same email may be in the mailbox more than once.
    conn.execute(
        "UPDATE email SET copies = copies + found.n FROM "
        f"(SELECT email, count(*) AS n FROM entry WHERE {condition} GROUP BY email) AS found "
        "WHERE email.number = found.email",
        parameters,
    )
    # RFC 8514 §2: the save date is that of the copy.
    conn.execute(
        "INSERT INTO entry (mailbox, uid, modseq, flags, keywords, email, size, internaldate, savedate) "
        "SELECT ?, ? + row_number() OVER (ORDER BY uid), ?, flags & ?, iif(?, keywords, ''), email, size, "
        f"internaldate, ? FROM entry WHERE {condition} ORDER BY uid",
        (to.number, to.uidnext - 1, modseq, kept.flags, kept.keywords, int(now), *parameters),
    )
    conn.execute(
        "UPDATE mailbox SET uidnext = uidnext + ?, modseq = ?, messages = messages + ?, unseen = unseen + ?, "
        "deleted = deleted + ?, recent = recent + ?, size = size + ? WHERE number = ?",
        (messages, modseq, messages, unseen, deleted, messages, size, to.number),
    )
    return ((to.uidnext, to.uidnext + messages - 1),)
