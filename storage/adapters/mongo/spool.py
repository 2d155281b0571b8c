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
from storage.domains import domain_of, printable
from storage.limits import SPOOL_PAGE, SPOOL_RESULT_AGE
from storage.model import INLINE_MAX, SYSTEM, Delivery, Event, RemoteRecipient, SpoolDomain, SpoolItem, SpoolResult
from storage.port import Reason, Refused
from storage.queues import group, groups, queue_of

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
        for domain, recipients in groups(delivery, None if delivery.op.actor == SYSTEM else delivery.op.actor).items()
    ]


def spooled_events(delivery: Delivery, items: Sequence[Document], now: float, about: Mapping[str, str]) -> list[Event]:
    """What the trace says of the items: one event for each recipient, with what it says ``about`` the message."""
    account = None if delivery.op.actor == SYSTEM else delivery.op.actor
    item_of = {address: item["_id"] for item in items for address, _ in map(json.loads, item["recipients"])}
    return [
        Event(
            delivery.trace,
            now,
            "spooled",
            account,
            {"address": recipient.address, "item": item_of[recipient.address], **about},
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
            spool_queries.spool_mail(account, last, asked)
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


async def queued(database: Database, queue: str, account: str | None) -> int:
    """``Storage.spool_queued``: counted as it is asked, out of an index."""
    if account is not None:
        return await _count(database, group(queue, account), "")
    count, last = 0, ""
    while documents := await database.find(spool_queries.spool_of_groups(queue, last, DOMAINS_PAGE)):
        last = documents[-1]["domain"]
        count += len(documents) + await _count(database, last, documents[-1]["_id"])
    return count


async def _count(database: Database, domain: str, after: str) -> int:
    count = 0
    while documents := await database.find(spool_queries.spool_of_domain(domain, after, DOMAINS_PAGE, ("_id",))):
        after = documents[-1]["_id"]
        count += len(documents)
        if len(documents) < DOMAINS_PAGE:
            break
    return count


def result_document(item: Document, now: float, text: str | None, *, attempted: bool = False) -> Document:
    """What is kept of an item that ends now. text: None of one that is dropped."""
    return {
        "_id": item["_id"],
        "domain": item["domain"],
        "recipients": item["recipients"],
        "attempts": item["attempts"] + int(attempted),
        "claims": item["claims"],
        "ended": now,
        "dropped": text is None,
        # As JSON, which knows half a surrogate pair.
        "text": json.dumps(text or ""),
    } | ({"account": item["account"]} if "account" in item else {})


async def result(database: Database, item: str, account: str | None) -> SpoolResult:
    """``Storage.spool_result``."""
    found = await _result(database, item) if is_id(item) else None
    if found is None or found["ended"] <= database.now() - SPOOL_RESULT_AGE:
        raise Refused(Reason.NO_SUCH_ITEM)
    if account is not None and found.get("account") != account:
        raise Refused(Reason.NO_SUCH_ITEM)
    return SpoolResult(
        found["_id"],
        queue_of(found["domain"]),
        found.get("account"),
        unpacked(found),
        found["attempts"],
        found["claims"],
        found["ended"],
        found["dropped"],
        json.loads(found["text"]),
    )


async def _result(database: Database, item: str) -> Document | None:
    if (kept := await database.first(spool_queries.result(item))) is not None:
        return kept
    # It has come to its end, and nobody has carried that out yet; or it was carried out between the two questions.
    for ending in await database.find(spool_queries.spool_named([item])):
        told: Document | None = ending.get("todo", {}).get("result")
        return told
    return await database.first(spool_queries.result(item))


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
            for domain, together in groupby(documents, key=lambda document: str(document["domain"])):
                if domain not in found and len(found) == limit:
                    return tuple(found.values())
                found[domain] = _counted(domain, list(together), found.get(domain))
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
