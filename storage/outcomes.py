"""Outcomes of operations: how they are kept for a repeat, and made again of what was kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from storage import ranges
from storage.model import Accepted, Mailbox, MailboxRef, Opened, Ranges, Rights, StoredAt


def with_recent(found: Opened, taken: Ranges) -> Opened:
    """What was opened with its recent messages: those of the taken uids that are there."""
    if not taken:
        return replace(found, recent=(), mailbox=replace(found.mailbox, recent=0))
    ((first, last),) = taken
    recent = tuple((max(start, first), min(end, last)) for start, end in found.uids if end >= first and start <= last)
    return replace(found, recent=recent, mailbox=replace(found.mailbox, recent=ranges.count(recent)))


def mailbox(made: Mailbox) -> list[str | int | None]:
    """A mailbox as the outcome of an operation keeps it."""
    return [
        made.ref.mailbox,
        made.name,
        made.uidvalidity,
        made.uidnext,
        made.highest_modseq,
        made.messages,
        made.unseen,
        made.deleted,
        made.recent,
        made.size,
        made.special_use,
        int(made.rights),
    ]


def mailbox_again(account: str, known: Any, actor: str | None = None) -> Mailbox:
    """The mailbox that ``mailbox`` kept. actor: another than the owner, for whom it was made."""
    # One that was kept by an earlier release has no rights: its owner made it.
    return Mailbox(MailboxRef(account, known[0], actor), *known[1:11], *map(Rights, known[11:]))


def stored(at: StoredAt) -> list[str | int]:
    """Where one account's copy of a delivery is, as it is kept."""
    return [at.account, at.mailbox, at.uidvalidity, at.uid, at.email]


def accepted(known: Any) -> Accepted:
    """The outcome of a delivery that was kept as (``stored`` of each recipient, spool items)."""
    copies, items = known
    # A release that sent nothing on kept the one item, or None.
    if not isinstance(items, list):
        items = [] if items is None else [items]
    return Accepted(tuple(StoredAt(*at) for at in copies), tuple(items))
