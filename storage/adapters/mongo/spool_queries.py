"""Every question about the spool that is put to the server: as ``queries``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from bson import ObjectId

from storage.adapters.mongo.queries import STAYING, Shape
from storage.queues import MAIL_END, bounds

_WAITING: Final[Mapping[str, Any]] = {"pending": {"$exists": False}, "going": {"$exists": False}}
"""Seen, and not at its end."""
_MAIL: Final[Sequence[Mapping[str, Any]]] = ({"domain": {"$lt": MAIL_END}}, {"domain": {"$exists": False}})
"""Of no queue; items without a domain are of a release that had none."""


def spool_item(item: str) -> Shape:
    return Shape("spool", {"_id": item, **_WAITING})


def spool_at(item: str, rev: ObjectId | None) -> Shape:
    """The item as it was read: what a change compares and sets. It has nothing left to do of an earlier one."""
    return Shape("spool", {"_id": item, "rev": rev, "todo": {"$exists": False}})


def spool_todo(item: str, todo: ObjectId) -> Shape:
    """The item while that change is not carried out."""
    return Shape("spool", {"_id": item, "todo.id": todo})


def spool_undone(before: float, limit: int) -> Shape:
    return Shape("spool", {"undone": {"$lt": before}}, "undone", (("undone", 1),), limit=limit)


def spool_due(domain: str, now: float, limit: int) -> Shape:
    """What of a domain may be claimed, that longest due first."""
    return Shape(
        "spool", {"domain": domain, "due": {"$lte": now}}, "due", (("due", 1),), ("due", "domain", "todo"), limit
    )


def spool_first(domain: str) -> Shape:
    """What of a domain may be claimed first, now or later."""
    return Shape("spool", {"domain": domain, "due": {"$gte": 0}}, "due", (("due", 1),), ("due",), 1)


def spool_claimable(names: Sequence[str], now: float) -> Shape:
    """Those of these items that nobody has claimed meanwhile."""
    return Shape("spool", {"_id": {"$in": list(names)}, "due": {"$lte": now}, "todo": {"$exists": False}})


def spool_leased(names: Sequence[str], lease: str) -> Shape:
    """Those of these items that are under this lease."""
    return Shape("spool", {"_id": {"$in": list(names)}, "lease": lease})


def spool_extended(item: str, lease: str, held: bool) -> Shape:
    return Shape("spool", {"_id": item, "lease": lease, "held": {"$exists": held}, "todo": {"$exists": False}})


def spool_without_domain(limit: int) -> Shape:
    """Items of a release that sent nothing on."""
    return Shape("spool", {"domain": {"$exists": False}, "pending": {"$exists": False}}, "due", limit=limit)


def spool_to_upgrade(item: str) -> Shape:
    return Shape("spool", {"_id": item, "domain": {"$exists": False}})


def spool_of_domain(domain: str, after: str, limit: int, fields: Sequence[str] | None = None) -> Shape:
    """What waits for a domain, in order of id."""
    asked = {"domain": domain, "_id": {"$gt": after}, **_WAITING}
    return Shape("spool", asked, "domain", (("_id", 1),), None if fields is None else tuple(fields), limit)


def spool_of_domains(after: str, limit: int, fields: Sequence[str]) -> Shape:
    """What waits for the domains after the name, by domain and id."""
    asked = {"domain": {"$gt": after, "$lt": MAIL_END}, **_WAITING}
    return Shape("spool", asked, "domain", (("domain", 1), ("_id", 1)), tuple(fields), limit)


def spool_oldest() -> Shape:
    """Of the mail."""
    asked = {"queued": {"$gte": 0}, "$or": _MAIL, **_WAITING}
    return Shape("spool", asked, "queued", (("queued", 1),), ("queued",), 1)


def spool_held(limit: int) -> Shape:
    """Of the mail."""
    return Shape("spool", {"held": {"$gte": 0}, "$or": _MAIL}, "held", fields=("_id",), limit=limit)


def dues(domain: str) -> str:
    """The collection that says when something of the domain, or of the group of a queue, is due."""
    return "due" if domain < MAIL_END else "queue_due"


def domains_due(limit: int) -> Shape:
    """The domains in the order in which their first items are due."""
    return Shape("due", {"due": {"$gte": 0}}, "due", (("due", 1),), limit=limit)


def groups_due(queue: str, limit: int) -> Shape:
    """The same of the groups of a queue."""
    first, end = bounds(queue)
    asked = {"due": {"$gte": 0}, "$or": [{"_id": {"$gte": first, "$lt": end}}]}
    return Shape("queue_due", asked, "due", (("due", 1),), limit=limit)


def domain_due(domain: str) -> Shape:
    return Shape(dues(domain), {"_id": domain})


def domain_due_at(domain: str, rev: ObjectId) -> Shape:
    """As it was read: nothing of the domain has become due earlier since."""
    return Shape(dues(domain), {"_id": domain, "rev": rev})


def spool_unpublished(item: str) -> Shape:
    return Shape("spool", {"_id": item, "pending": {"$exists": True}})


def spool_of_blobs(names: Sequence[str], limit: int) -> Shape:
    return Shape("spool", {"blob": {"$in": list(names)}, **STAYING}, "blob", fields=("blob",), limit=limit)


def spool_named(names: Sequence[str]) -> Shape:
    return Shape("spool", {"_id": {"$in": list(names)}})


def spool_pending(before: float, limit: int) -> Shape:
    return Shape("spool", {"pending": {"$lt": before}}, "pending", (("pending", 1),), ("op", "blob"), limit)


def spool_still_pending(names: Sequence[str]) -> Shape:
    return Shape("spool", {"_id": {"$in": list(names)}, "pending": {"$exists": True}}, fields=("op", "blob"))


def spool_unseen(limit: int) -> Shape:
    return Shape("spool", {"pending": {"$gt": 0}}, "pending", fields=("_id",), limit=limit)


def spool_of_groups(queue: str, after: str, limit: int) -> Shape:
    """Items of a queue by group and id, of the groups after the one given."""
    first, end = bounds(queue)
    asked = {"domain": {"$gt": after, "$lt": end} if after else {"$gte": first, "$lt": end}, **_WAITING}
    return Shape("spool", asked, "domain", (("domain", 1), ("_id", 1)), ("domain",), limit)


def result(item: str) -> Shape:
    return Shape("result", {"_id": item})


def results_before(ended: float, limit: int) -> Shape:
    return Shape("result", {"ended": {"$lte": ended}}, "ended", (("ended", 1),), ("_id",), limit)


def results_named(names: Sequence[str]) -> Shape:
    return Shape("result", {"_id": {"$in": list(names)}})


def spool_mail(account_id: str | None, after: str, limit: int) -> Shape:
    """Mail that waits to be sent, in order of id."""
    every = spool_page(account_id, after, limit)
    return replace(every, filter={**every.filter, "$or": _MAIL})


def spool_page(account_id: str | None, after: str, limit: int) -> Shape:
    """Items that wait to be sent, of the mail and of queues, in order of id."""
    asked = {"_id": {"$gt": after}, **_WAITING}
    if account_id is None:
        return Shape("spool", asked, sort=(("_id", 1),), limit=limit)
    return Shape("spool", {"account": account_id, **asked}, "account", (("_id", 1),), limit=limit)
