"""The spool: messages that wait to be sent on. An item is made unseen (``pending``), and seen once its delivery is
committed."""

from __future__ import annotations

import json

from runtime.mongo import Document
from storage.adapters.mongo import ids, queries
from storage.adapters.mongo.blobs import is_id
from storage.adapters.mongo.database import Database
from storage.model import SYSTEM, Delivery, Event, RemoteRecipient, SpoolItem

PAGE = 1_000
"""The most items that one call returns."""
PAGE_RECIPIENTS = 16
"""Items of one question: each holds all its recipients."""


def document(delivery: Delivery, blob: str, size: int, now: float) -> Document:
    """An item that nobody sees yet. blob: of ``size`` octets.

    Addresses and parameters are kept as JSON, which knows half a surrogate pair: as they were given.
    """
    return {
        "_id": ids.spool(),
        "op": delivery.op.id,
        "pending": now,
        "trace": delivery.trace,
        "sender": json.dumps(delivery.sender),
        "blob": blob,
        "size": size,
        "queued": delivery.received_at,
        "next": now,
        "attempts": 0,
        "params": json.dumps(dict(delivery.params)),
        "recipients": [json.dumps((recipient.address, dict(recipient.params))) for recipient in delivery.remote],
    } | ({} if delivery.op.actor == SYSTEM else {"account": delivery.op.actor})


def spooled_events(delivery: Delivery, item: str, now: float) -> list[Event]:
    """What the trace says of an item: one event for each recipient."""
    account = None if delivery.op.actor == SYSTEM else delivery.op.actor
    return [
        Event(delivery.trace, now, "spooled", account, {"address": recipient.address, "item": item})
        for recipient in delivery.remote
    ]


async def page(database: Database, account: str | None, limit: int, after: str) -> tuple[SpoolItem, ...]:
    """``Storage.spool``: waiting items after the id, in order of id."""
    left = max(1, min(limit, PAGE))
    found: list[SpoolItem] = []
    last = after if is_id(after) else ""
    while left:
        asked = min(left, PAGE_RECIPIENTS)
        documents = await database.find(queries.spool_page(account, last, asked))
        found += map(_item, documents)
        if len(documents) < asked:
            break
        last = documents[-1]["_id"]
        left -= asked
    return tuple(found)


def _item(document: Document) -> SpoolItem:
    recipients = [json.loads(recipient) for recipient in document["recipients"]]
    return SpoolItem(
        document["_id"],
        document["trace"],
        document.get("account"),
        json.loads(document["sender"]),
        tuple(RemoteRecipient(address, params) for address, params in recipients),
        document["size"],
        document["queued"],
        document["next"],
        document["attempts"],
        json.loads(document["params"]),
    )
