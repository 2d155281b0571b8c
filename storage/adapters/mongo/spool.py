"""The spool's items: messages that wait to be sent on, an item for each domain.

An item is made unseen (``pending``), and seen once its delivery is committed. ``due`` is when it may be claimed: not
there while it is unseen, held, or at its end (``going``). ``rev`` is another with each change. ``todo`` is what a
change that is committed has left to do in other documents: see ``sending``. Items without a domain are of a release
that sent nothing on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Final

from bson import ObjectId

from runtime.mongo import Document
from storage.adapters.mongo import ids, queries, spool_queries
from storage.adapters.mongo.blobs import Blobs, is_id
from storage.adapters.mongo.database import Database
from storage.domains import by_domain, domain_of, printable
from storage.limits import SPOOL_PAGE
from storage.model import INLINE_MAX, SYSTEM, Delivery, Event, RemoteRecipient, SpoolDomain, SpoolItem
from storage.port import Reason, Refused

PAGE_RECIPIENTS = 16
"""Items of one question: each holds all its recipients."""
DOMAINS_PAGE: Final = 1_000
"""Items of one question where only their figures are asked for."""
_FIGURES: Final = ("domain", "size", "queued", "next", "held")


def documents(delivery: Delivery, blob: str, size: int, now: float) -> list[Document]:
    """Items that nobody sees yet, one for each domain. blob: of ``size`` octets.

    Addresses and parameters are kept as JSON, which knows half a surrogate pair: as they were given.
    """
    return [
        {
            "_id": ids.spool(),
            "op": delivery.op.id,
            "pending": now,
            "rev": ObjectId(),
            "trace": delivery.trace,
            "sender": json.dumps(delivery.sender),
            "domain": domain,
            "blob": blob,
            "size": size,
            "queued": delivery.received_at,
            "next": now,
            "attempts": 0,
            "claims": 0,
            "params": json.dumps(dict(delivery.params)),
            "recipients": packed(recipients),
        }
        | ({} if delivery.op.actor == SYSTEM else {"account": delivery.op.actor})
        for domain, recipients in by_domain(delivery.remote).items()
    ]


def spooled_events(delivery: Delivery, items: Sequence[Document], now: float, about: Mapping[str, str]) -> list[Event]:
    """What the trace says of the items: one event for each recipient, with what it says ``about`` the message."""
    account = None if delivery.op.actor == SYSTEM else delivery.op.actor
    item_of = {item["domain"]: item["_id"] for item in items}
    return [
        Event(
            delivery.trace,
            now,
            "spooled",
            account,
            {"address": recipient.address, "item": item_of[domain_of(recipient.address)], **about},
        )
        for recipient in delivery.remote
    ]


def packed(recipients: Iterable[RemoteRecipient]) -> list[str]:
    return [json.dumps((recipient.address, dict(recipient.params))) for recipient in recipients]


def unpacked(document: Mapping[str, object]) -> tuple[RemoteRecipient, ...]:
    """The recipients of an item that are still without an outcome."""
    recipients = document["recipients"]
    if not isinstance(recipients, list):
        raise TypeError("an item's recipients are a list")
    return tuple(RemoteRecipient(address, params) for address, params in map(json.loads, recipients))


def made(document: Document, now: float) -> SpoolItem:
    """The item that the document tells of."""
    recipients = unpacked(document)
    leased = document.get("leased", 0.0)
    return SpoolItem(
        id=document["_id"],
        trace=document["trace"],
        account=document.get("account"),
        sender=json.loads(document["sender"]),
        domain=document["domain"] if "domain" in document else _first_domain(recipients),
        recipients=recipients,
        size=document["size"],
        queued_at=document["queued"],
        next_attempt=document["next"],
        attempts=document["attempts"],
        claims=document["claims"] if "claims" in document else document["attempts"],
        leased_until=leased if leased > now else 0.0,
        held="held" in document,
        route=json.loads(document["route"]) if "route" in document else None,
        told_at=document.get("told"),
        last=json.loads(document["last"]) if "last" in document else "",
        params=json.loads(document["params"]),
    )


def _first_domain(recipients: Sequence[RemoteRecipient]) -> str:
    return domain_of(recipients[0].address) if recipients else "."


async def page(
    database: Database, account: str | None, limit: int, after: str, domain: str | None
) -> tuple[SpoolItem, ...]:
    """``Storage.spool``: waiting items after the id, in order of id."""
    left = max(1, min(limit, SPOOL_PAGE))
    found: list[SpoolItem] = []
    last = after if is_id(after) else ""
    while left:
        asked = min(left, PAGE_RECIPIENTS)
        documents = await database.find(
            spool_queries.spool_page(account, last, asked)
            if domain is None
            else spool_queries.spool_of_domain(printable(domain), last, asked)
        )
        more = [made(document, database.now()) for document in documents]
        wanted = [item for item in more if domain is None or account is None or item.account == account]
        found += wanted
        if len(documents) < asked:
            break
        last = documents[-1]["_id"]
        left -= len(wanted)
    return tuple(found)


async def waiting(database: Database, item: str, account: str | None) -> Document:
    """The item's document; with an account only its own. NO_SUCH_ITEM."""
    found = await database.first(spool_queries.spool_item(item)) if is_id(item) else None
    if found is None or (account is not None and found.get("account") != account):
        raise Refused(Reason.NO_SUCH_ITEM)
    return found


async def read(database: Database, blobs: Blobs, item: str, start: int, end: int) -> bytes:
    """``Storage.spool_read``."""
    found = await waiting(database, item, None)
    blob = await database.first(queries.blob(found["blob"]))
    if blob is None or blob["size"] < 0:
        # It came to its end between the two questions.
        raise Refused(Reason.NO_SUCH_ITEM)
    start = max(0, start)
    return await blobs.octets(blob["_id"], blob["codec"], start, min(end, blob["size"], start + INLINE_MAX))


async def domains(database: Database, limit: int, after: str) -> tuple[SpoolDomain, ...]:
    """``Storage.spool_domains``: what waits is counted as it is asked, out of every item of these domains."""
    limit = max(1, min(limit, SPOOL_PAGE))
    found: dict[str, SpoolDomain] = {}
    last = printable(after)
    while True:
        documents = await database.find(spool_queries.spool_of_domains(last, DOMAINS_PAGE, _FIGURES))
        full = len(documents) == DOMAINS_PAGE
        while documents:
            for domain, group in groupby(documents, key=lambda document: str(document["domain"])):
                if domain not in found and len(found) == limit:
                    return tuple(found.values())
                found[domain] = _counted(domain, list(group), found.get(domain))
            last = documents[-1]["domain"]
            # The rest of a domain of which there is more than a page.
            documents = (
                await database.find(spool_queries.spool_of_domain(last, documents[-1]["_id"], DOMAINS_PAGE, _FIGURES))
                if full
                else []
            )
        if not full:
            return tuple(found.values())


def _counted(domain: str, items: Sequence[Document], before: SpoolDomain | None) -> SpoolDomain:
    nexts = [item["next"] for item in items if "held" not in item]
    oldest = [item["queued"] for item in items]
    if before is not None:
        nexts += [] if before.next_attempt is None else [before.next_attempt]
        oldest.append(before.oldest)
    return SpoolDomain(
        domain,
        len(items) + (before.items if before is not None else 0),
        sum("held" in item for item in items) + (before.held if before is not None else 0),
        sum(item["size"] for item in items) + (before.size if before is not None else 0),
        min(oldest),
        min(nexts, default=None),
    )
