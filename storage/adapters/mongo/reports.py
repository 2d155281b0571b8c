"""A delivery kept in another document until it is accepted: texts as JSON, which knows half a surrogate pair."""

from __future__ import annotations

import json
from typing import Any

from runtime.mongo import Document
from storage.model import MAIL, Delivery, Event, LocalRecipient, Operation, RemoteRecipient, StagedBlob


def document(delivery: Delivery) -> Document:
    """The delivery as a field of a document."""
    op, content = delivery.op, delivery.content
    told = {
        "op": [op.id, op.actor, [[one.trace, one.at, one.kind, one.account, dict(one.detail)] for one in op.events]],
        "sender": delivery.sender,
        "received_at": delivery.received_at,
        "trace": delivery.trace,
        "local": [[one.account, one.address, one.mailbox, one.flags] for one in delivery.local],
        "remote": [[one.address, dict(one.params)] for one in delivery.remote],
        "params": dict(delivery.params),
        "queue": delivery.queue,
    }
    kept: Document = {"told": json.dumps(told), "prefixes": [one.prefix for one in delivery.local]}
    if isinstance(content, StagedBlob):
        return kept | {"staged": {"id": content.id, "size": content.size, "sha256": content.sha256}}
    return kept | {"content": content}


def delivery(document: Document) -> Delivery:
    """The delivery of which this was made."""
    told: dict[str, Any] = json.loads(document["told"])
    id, actor, events = told["op"]
    staged = document.get("staged")
    return Delivery(
        Operation(id, actor, tuple(Event(*event) for event in events)),
        bytes(document["content"])
        if staged is None
        else StagedBlob(staged["id"], staged["size"], bytes(staged["sha256"])),
        told["sender"],
        told["received_at"],
        told["trace"],
        tuple(
            LocalRecipient(account, address, bytes(prefix), mailbox, flags)
            for (account, address, mailbox, flags), prefix in zip(told["local"], document["prefixes"], strict=True)
        ),
        tuple(RemoteRecipient(address, params) for address, params in told["remote"]),
        told["params"],
        told.get("queue", MAIL),
    )
