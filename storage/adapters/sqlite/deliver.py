"""New messages: delivered (accept) or appended. All statements of one message are here, for they are the hot path."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from mail.flags import ALL, DELETED, SEEN
from storage import outcomes, rights, tracekeys
from storage.adapters.sqlite import accounts, acl, blobs, bulk, ids, keywords, mailboxes, operations, spool
from storage.adapters.sqlite.events import keep as keep_events
from storage.adapters.sqlite.schema import ACCOUNT_OPEN
from storage.ingest import Forms, message_id_of
from storage.intake import Described
from storage.limits import UID_MAX
from storage.model import (
    INBOX,
    SYSTEM,
    Accepted,
    Appended,
    Delivery,
    Event,
    LocalRecipient,
    MailboxRef,
    NewMessage,
    Rights,
    StagedBlob,
    StoredAt,
)
from storage.names import encodable
from storage.port import Reason, Refused
from storage.queues import groups

_PLACE = (
    "SELECT a.number, m.number, m.uidnext, m.uidvalidity FROM account AS a JOIN mailbox AS m ON m.account = a.number"
)


class Entering(NamedTuple):
    """A message on its way into a mailbox. words: its keywords as they are stored. Dates in Unix seconds."""

    email: int
    size: int
    flags: int
    words: str
    internaldate: int
    savedate: int


class Arrival(NamedTuple):
    """The outcome of one delivery, the modseq that each account has now, and the number of its new blob."""

    outcome: Accepted | Refused
    modseqs: dict[str, int]
    blob: int | None = None


def accept(
    conn: sqlite3.Connection, batch: Sequence[tuple[Delivery, Described | Refused]], now: float
) -> list[Arrival]:
    """Deliver a batch. What may be refused is looked at before the first write, so that a refusal undoes nothing."""
    arrivals: list[Arrival] = []
    for delivery, described in batch:
        try:
            arrivals.append(arrive(conn, delivery, described, now))
        except Refused as refusal:
            arrivals.append(Arrival(refusal, {}))
    return arrivals


def arrive(conn: sqlite3.Connection, delivery: Delivery, described: Described | Refused, now: float) -> Arrival:
    """Deliver one. Refused before anything is written."""
    known = operations.find(conn, delivery.op, now)
    if known is not None:
        return Arrival(outcomes.accepted(known), {})
    if isinstance(described, Refused):
        raise described
    return _deliver(conn, delivery, described, now)


def _deliver(conn: sqlite3.Connection, delivery: Delivery, described: Described, now: float) -> Arrival:
    places = _places(conn, delivery.local)
    domains = groups(delivery, None if delivery.op.actor == SYSTEM else delivery.op.actor)
    refs = len(delivery.local) + len(domains)
    # Without recipients there is nothing to keep.
    (blob,) = _blobs(conn, [described], refs) if refs else (0,)
    events = list(delivery.op.events)
    about = tracekeys.about(delivery.sender, _message_id(conn, described, blob), delivery.queue) if refs else {}
    stored: list[StoredAt] = []
    modseqs: dict[str, int] = {}
    for recipient, (account, mailbox, uid, uidvalidity) in zip(delivery.local, places, strict=True):
        size = described.size + len(recipient.prefix)
        modseq = accounts.next_modseq(conn, account, size=size, messages=1, saved=1, now=now)
        (email,) = _emails(conn, account, [(blob, size, recipient.prefix)], now)
        one = Entering(email, size, recipient.flags & ALL, "", int(delivery.received_at), int(now))
        enter(conn, mailbox, uid, modseq, [one])
        at = StoredAt(recipient.account, ids.mailbox(mailbox), uidvalidity, uid, ids.email(email))
        stored.append(at)
        modseqs[recipient.account] = modseq
        detail: dict[str, str | int] = {
            "address": recipient.address,
            "mailbox": at.mailbox,
            "uid": uid,
            "email": at.email,
            **about,
        }
        events.append(Event(delivery.trace, now, "stored", recipient.account, detail))
    items = spool.add(conn, delivery, domains, blob, described.size, now, events, about)
    outcome = Accepted(tuple(stored), items)
    operations.keep(conn, delivery.op, [[outcomes.stored(at) for at in stored], items], now)
    keep_events(conn, now, events)
    return Arrival(outcome, modseqs, blob if stored else None)


def _places(conn: sqlite3.Connection, recipients: Sequence[LocalRecipient]) -> list[tuple[int, int, int, int]]:
    """(account, mailbox, its uidnext and uidvalidity) of each. NO_SUCH_ACCOUNT; INBOX where there is no mailbox of the
    name."""
    places: list[tuple[int, int, int, int]] = []
    for recipient in recipients:
        row = conn.execute(
            f"{_PLACE} AND m.name IN (?, ?) WHERE a.id = ? AND a.state = ? ORDER BY m.name = ? LIMIT 1"
            if recipient.mailbox != INBOX
            else f"{_PLACE} AND m.name = ? WHERE a.id = ? AND a.state = ?",
            (encodable(recipient.mailbox), INBOX, recipient.account, ACCOUNT_OPEN, INBOX)
            if recipient.mailbox != INBOX
            else (INBOX, recipient.account, ACCOUNT_OPEN),
        ).fetchone()
        if row is None:
            raise Refused(Reason.NO_SUCH_ACCOUNT, f"{recipient.account} has no mailboxes here.")
        if row[2] > UID_MAX:
            raise Refused(Reason.LIMIT, "The mailbox has no uid left.")
        places.append(row)
    if len({place[0] for place in places}) != len(places):
        raise ValueError("an account stands twice among the recipients of one delivery")
    return places


def append(
    conn: sqlite3.Connection,
    ref: MailboxRef,
    messages: Sequence[NewMessage],
    described: Sequence[Described],
    quota: int | None,
    now: float,
    actor: str | None = None,
    name: str | None = None,
) -> tuple[Appended, list[int]]:
    """The outcome and the blobs, in order. actor: another than the owner, who acts. name: of the mailbox, if it is to
    have that still."""
    # RFC 3501 §6.3.11, RFC 3502
    place = mailboxes.found(conn, ref, actor, Rights.INSERT)
    if name not in (None, place.name):
        raise Refused(Reason.NO_SUCH_MAILBOX)
    # RFC 4314 §4: flags without the right to them are left out
    given = acl.have(conn, place.number, actor)
    allowed, may_name = rights.flags_allowed(given), Rights.WRITE in given
    size = sum([body.size for body in described])
    accounts.check_quota(conn, place.account, size, quota)
    if place.uidnext + len(messages) - 1 > UID_MAX:
        raise Refused(Reason.LIMIT, "The mailbox has no uid left.")
    count = len(messages)
    modseq = accounts.next_modseq(conn, place.account, size=size, messages=count, saved=count, now=now)
    made = _blobs(conn, described, 1)
    bodies = [(blob, body.size, b"") for blob, body in zip(made, described, strict=True)]
    emails = _emails(conn, place.account, bodies, now)
    entering: list[Entering] = []
    for message, body, email in zip(messages, described, emails, strict=True):
        named = message.keywords and may_name
        words = keywords.stored(conn, place.account, message.keywords, make=True) if named else ""
        internaldate = int(now) if message.internaldate is None else message.internaldate
        entering.append(Entering(email, body.size, message.flags & allowed, words, internaldate, int(now)))
    if not entering:
        return Appended(place.uidvalidity, (), modseq), []
    first = place.uidnext
    enter(conn, place.number, first, modseq, entering)
    return Appended(place.uidvalidity, tuple(range(first, first + len(entering))), modseq), made


def enter(conn: sqlite3.Connection, mailbox: int, first: int, modseq: int, entering: Sequence[Entering]) -> None:
    """Give the messages, at least one, their uids in the mailbox. first: its uidnext."""
    count = len(entering)
    unseen = sum([not one.flags & SEEN for one in entering])
    deleted = len([one for one in entering if one.flags & DELETED])
    conn.execute(
        "UPDATE mailbox SET uidnext = ?, modseq = ?, messages = messages + ?, unseen = unseen + ?, "
        "deleted = deleted + ?, recent = recent + ?, size = size + ? WHERE number = ?",
        (first + count, modseq, count, unseen, deleted, count, sum([one.size for one in entering]), mailbox),
    )
    bulk.insert(
        conn,
        "INSERT INTO entry (mailbox, uid, modseq, flags, keywords, email, size, internaldate, savedate)",
        [
            (mailbox, uid, modseq, one.flags, one.words, one.email, one.size, one.internaldate, one.savedate)
            for uid, one in enumerate(entering, first)
        ],
    )


def _message_id(conn: sqlite3.Connection, body: Described, blob: int) -> str:
    if body.forms is not None:
        return body.forms.message_id
    row = conn.execute("SELECT keys FROM blob WHERE number = ?", (blob,)).fetchone()
    return message_id_of(row[0]) if row is not None and row[0] else ""


def _blobs(conn: sqlite3.Connection, bodies: Sequence[Described], refs: int) -> list[int]:
    """The number of each body's blob."""
    inline: list[tuple[bytes, bytes, Forms]] = []
    for body in bodies:
        if isinstance(body.content, StagedBlob):
            continue
        if body.forms is None:
            raise ValueError("an inline body comes described")
        inline.append((body.content, body.sha256, body.forms))
    added = iter(blobs.add(conn, inline, refs))
    return [
        blobs.refer(conn, body.content, refs) if isinstance(body.content, StagedBlob) else next(added)
        for body in bodies
    ]


def _emails(
    conn: sqlite3.Connection, account: int, bodies: Sequence[tuple[int, int, bytes]], now: float
) -> Sequence[int]:
    """Make emails of the account, (blob, size, prefix) each, with one entry each; their numbers."""
    return bulk.numbered(
        conn,
        "INSERT INTO email (account, blob, copies, size, saved, prefix)",
        [(account, blob, 1, size, now, prefix) for blob, size, prefix in bodies],
    )
