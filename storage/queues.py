"""Queues beside the mail: a task of one is an item of the spool, claimed, leased and settled like any other.

What groups items, and by which they are claimed, is their ``domain``. Items of a queue have there the name of the queue
and the account that they are of, marked by a sign that no domain has: so the two never meet, in no index and no claim.
"""

from __future__ import annotations

from typing import Final

from storage.domains import by_domain, printable
from storage.model import MAIL, QUEUE_MARK, QUEUES, Delivery, RemoteRecipient

MAIL_END: Final = "\x80"
"""Above all domains, which are ASCII, and below the groups of all queues."""


def group(queue: str, account: str | None) -> str:
    """What an item of the queue has as its ``domain``. ValueError for a queue that there is not."""
    if queue not in QUEUES:
        raise ValueError(f"there is no queue {queue!r}")
    return f"{QUEUE_MARK}{queue}/{printable(account or '')}"


def bounds(queue: str) -> tuple[str, str]:
    """All groups of the queue, or (MAIL) all domains, are at or above the first and below the second."""
    if queue == MAIL:
        return "", MAIL_END
    first = group(queue, None)
    return first, first[:-1] + chr(ord(first[-1]) + 1)


def queue_of(group: str) -> str:
    """The queue of an item that has this as its ``domain``; MAIL."""
    return group[1:].partition("/")[0] if group >= MAIL_END else MAIL


def groups(delivery: Delivery, account: str | None) -> dict[str, list[RemoteRecipient]]:
    """The delivery's remote recipients by what their items have as ``domain``: an item for each."""
    if delivery.queue == MAIL:
        return by_domain(delivery.remote)
    own = group(delivery.queue, account)
    return {own: list(delivery.remote)} if delivery.remote else {}
