"""New messages: delivered (accept) or appended. All statements of one message are here, for they are the hot path."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from mail.flags import ALL, DELETED, SEEN
from storage import outcomes, rights, tracekeys
from storage.adapters.sqlite import accounts, acl, blobs, ids, keywords, mailboxes, operations, spool
from storage.adapters.sqlite.events import keep as keep_events
from storage.adapters.sqlite.schema import ACCOUNT_OPEN
from storage.ingest import message_id_of
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
    count_saved(conn, sum(len(arrival.modseqs) for arrival in arrivals), now)
    return arrivals


def arrive(conn: sqlite3.Connection, delivery: Delivery, described: Described | Refused, now: float) -> Arrival:
    """Deliver one; ``count_saved`` is for the caller. Refused before anything is written."""
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
    blob = _blob(conn, described, refs) if refs else 0
    events = list(delivery.op.events)
    about = tracekeys.about(delivery.sender, _message_id(conn, described, blob)) if refs else {}
    stored: list[StoredAt] = []
    modseqs: dict[str, int] = {}
    for recipient, (account, mailbox) in zip(delivery.local, places, strict=True):
        size = described.size + len(recipient.prefix)
        modseq = accounts.next_modseq(conn, account, size=size, messages=1)
        email = _email(conn, account, blob, size, recipient.prefix, now)
        flags = recipient.flags & ALL
        uid, uidvalidity = enter(conn, mailbox, modseq, email, size, flags, "", int(delivery.received_at), int(now))
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


def _places(conn: sqlite3.Connection, recipients: Sequence[LocalRecipient]) -> list[tuple[int, int]]:
    """(account, mailbox) of each. NO_SUCH_ACCOUNT; INBOX where there is no mailbox of the name."""
    places: list[tuple[int, int]] = []
    for recipient in recipients:
        row = conn.execute(
            "SELECT a.number, m.number, m.uidnext FROM account AS a JOIN mailbox AS m ON m.account = a.number "
            "AND m.name IN (?, ?) WHERE a.id = ? AND a.state = ? ORDER BY m.name = ? LIMIT 1"
            if recipient.mailbox != INBOX
            else "SELECT a.number, m.number, m.uidnext FROM account AS a JOIN mailbox AS m ON m.account = a.number "
            "AND m.name = ? WHERE a.id = ? AND a.state = ?",
            (encodable(recipient.mailbox), INBOX, recipient.account, ACCOUNT_OPEN, INBOX)
            if recipient.mailbox != INBOX
            else (INBOX, recipient.account, ACCOUNT_OPEN),
        ).fetchone()
        if row is None:
            raise Refused(Reason.NO_SUCH_ACCOUNT, f"{recipient.account} has no mailboxes here.")
        if row[2] > UID_MAX:
            raise Refused(Reason.LIMIT, "The mailbox has no uid left.")
        places.append(row[:2])
    if len({account for account, _ in places}) != len(places):
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
) -> tuple[Appended, list[int]]:
    """The outcome and the blobs, in order. actor: another than the owner, who acts."""
    # RFC 3501 §6.3.11, RFC 3502
    place = mailboxes.found(conn, ref, actor, Rights.INSERT)
    # RFC 4314 §4: flags without the right to them are left out
    given = acl.have(conn, place.number, actor)
    allowed = rights.flags_allowed(given)
    size = sum(body.size for body in described)
    accounts.check_quota(conn, place.account, size, quota)
    if place.uidnext + len(messages) - 1 > UID_MAX:
        raise Refused(Reason.LIMIT, "The mailbox has no uid left.")
    modseq = accounts.next_modseq(conn, place.account, size=size, messages=len(messages))
    uids: list[int] = []
    made: list[int] = []
    for message, body in zip(messages, described, strict=True):
        made.append(_blob(conn, body, 1))
        email = _email(conn, place.account, made[-1], body.size, b"", now)
        kept = message.keywords if given & Rights.WRITE else ()
        words = keywords.stored(conn, place.account, kept, make=True) if kept else ""
        internaldate = int(now) if message.internaldate is None else message.internaldate
        flags = message.flags & allowed
        uid, _ = enter(conn, place.number, modseq, email, body.size, flags, words, internaldate, int(now))
        uids.append(uid)
    count_saved(conn, len(uids), now)
    return Appended(place.uidvalidity, tuple(uids), modseq), made


def enter(
    conn: sqlite3.Connection,
    mailbox: int,
    modseq: int,
    email: int,
    size: int,
    flags: int,
    words: str,
    internaldate: int,
    savedate: int,
) -> tuple[int, int]:
    """Give the message its uid in the mailbox: (uid, uidvalidity)."""
    uid, uidvalidity = conn.execute(
        "UPDATE mailbox SET uidnext = uidnext + 1, modseq = ?, messages = messages + 1, unseen = unseen + ?, "
        "deleted = deleted + ?, recent = recent + 1, size = size + ? WHERE number = ? "
        "RETURNING uidnext - 1, uidvalidity",
        (modseq, 0 if flags & SEEN else 1, 1 if flags & DELETED else 0, size, mailbox),
    ).fetchone()
    conn.execute(
        "INSERT INTO entry (mailbox, uid, modseq, flags, keywords, email, size, internaldate, savedate) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (mailbox, uid, modseq, flags, words, email, size, internaldate, savedate),
    )
    return uid, uidvalidity


def count_saved(conn: sqlite3.Connection, messages: int, now: float) -> None:
    """Count entries made today (UTC)."""
    if messages:
        conn.execute(
            "INSERT INTO saved (day, messages) VALUES (?, ?) "
            "ON CONFLICT (day) DO UPDATE SET messages = messages + excluded.messages",
            (int(now // 86400), messages),
        )


def _message_id(conn: sqlite3.Connection, body: Described, blob: int) -> str:
    if body.forms is not None:
        return body.forms.message_id
    row = conn.execute("SELECT keys FROM blob WHERE number = ?", (blob,)).fetchone()
    return message_id_of(row[0]) if row is not None and row[0] else ""


def _blob(conn: sqlite3.Connection, body: Described, refs: int) -> int:
    if isinstance(body.content, StagedBlob):
        return blobs.refer(conn, body.content, refs)
    if body.forms is None:
        raise ValueError("an inline body comes described")
    return blobs.add(conn, body.content, body.sha256, body.forms, refs)


def _email(conn: sqlite3.Connection, account: int, blob: int, size: int, prefix: bytes, now: float) -> int:
    number = conn.execute(
        "INSERT INTO email (account, blob, copies, size, saved, prefix) VALUES (?, ?, 1, ?, ?, ?)",
        (account, blob, size, now, prefix),
    ).lastrowid
    if number is None:
        raise RuntimeError("no row was made")
    return number
