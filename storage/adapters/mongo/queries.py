"""Every question that is put to the server: its filter, order, fields, and the index that answers it.

Nowhere else is a filter made. A test compares each shape with the indexes declared in ``indexes``: what is asked for by
equality, range and order is a prefix of the index named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bson import ObjectId

BY_ID: Final = "_id_"
"""The index that every collection has."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A question. index: the name (in ``indexes``) of the index that answers it. fields: None for whole documents.
    limit: 0 for none."""

    collection: str
    filter: Mapping[str, Any]
    index: str = BY_ID
    sort: tuple[tuple[str, int], ...] = ()
    fields: tuple[str, ...] | None = None
    limit: int = 0


# -- account


def account(account_id: str) -> Shape:
    return Shape("account", {"_id": account_id})


def accounts(account_ids: Sequence[str]) -> Shape:
    return Shape("account", {"_id": {"$in": list(account_ids)}})


def usages(account_ids: Sequence[str]) -> Shape:
    return Shape("account", {"_id": {"$in": list(account_ids)}}, fields=("size", "messages"))


def account_at(account_id: str, rev: int) -> Shape:
    """The account as it was read: what a commit compares and sets."""
    return Shape("account", {"_id": account_id, "rev": rev}, fields=("_id",))


def modseqs(accounts: Sequence[str]) -> Shape:
    return Shape("account", {"_id": {"$in": list(accounts)}}, fields=("_id", "modseq"))


# -- shared


def shared_pair(id: str, grantee: str) -> Shape:
    return Shape("shared", {"_id": id, "grantee": grantee}, fields=("_id",))


def shared_noted(id: str, grantee: str, token: ObjectId) -> Shape:
    """A note as it was read."""
    return Shape("shared", {"_id": id, "grantee": grantee, "token": token}, fields=("_id",))


def shared_with(grantees: Sequence[str], limit: int) -> Shape:
    return Shape("shared", {"grantee": {"$in": list(grantees)}}, "grantee", (("owner", 1),), limit=limit)


def shared_by(account_id: str) -> Shape:
    return Shape("shared", {"owner": account_id}, "owner", fields=("_id",))


# -- operation


def operation(op: str) -> Shape:
    return Shape("operation", {"_id": op})


def operations(ops: Sequence[str]) -> Shape:
    return Shape("operation", {"_id": {"$in": list(ops)}})


def claimed(op: str, claim: ObjectId) -> Shape:
    """An operation that is still this claimant's and has neither an outcome nor parts."""
    return Shape(
        "operation",
        {"_id": op, "claim": claim, "outcome": {"$exists": False}, "parts": {"$exists": False}},
        fields=("_id",),
    )


def held(op: str, claim: ObjectId) -> Shape:
    """An operation that is still this claimant's and has no outcome."""
    return Shape("operation", {"_id": op, "claim": claim, "outcome": {"$exists": False}}, fields=("_id",))


def claim(op: str, claim: ObjectId) -> Shape:
    """An operation under this claim, whatever has become of it."""
    return Shape("operation", {"_id": op, "claim": claim}, fields=("_id",))


def not_ended(op: str, nonce: ObjectId, path: str) -> Shape:
    """The operation (this beginning of it) before it has its outcome, and before that field of it is set."""
    return Shape("operation", {"_id": op, "nonce": nonce, "outcome": {"$exists": False}, path: {"$exists": False}})


def leaving(op: str, leave: ObjectId) -> Shape:
    """An operation that moves messages to another account, in this attempt."""
    return Shape("operation", {"_id": op, "leave.id": leave}, fields=("_id",))


def undone_before(before: float, limit: int) -> Shape:
    return Shape("operation", {"undone": {"$lt": before}}, "undone", (("undone", 1),), limit=limit)


# -- entry

_PRESENT = ("uid", "modseq", "flags", "kw", "email", "size", "date", "saved", "gone")


def unpublished(account_id: str, entry: ObjectId) -> Shape:
    """An entry that has no uid yet."""
    return Shape("entry", {"account": account_id, "_id": entry, "uid": {"$lt": 0}})


def entries_at(
    account_id: str, mailbox: str, uids: Mapping[str, Any], modseq: int, limit: int, fields: Sequence[str] = _PRESENT
) -> Shape:
    """Messages that are there, or were at that modseq, in uid order. uids: a condition on the uid."""
    return Shape(
        "entry",
        {
            "account": account_id,
            "mailbox": mailbox,
            "uid": uids,
            "$or": [{"gone": {"$exists": False}}, {"gone": {"$gt": modseq}}],
        },
        "uid",
        (("uid", 1),),
        tuple(fields),
        limit,
    )


def entries_lost(account_id: str, mailbox: str, uids: Mapping[str, Any], modseq: int, limit: int) -> Shape:
    """Messages that were expunged by that modseq and are still within the grace."""
    return Shape(
        "entry",
        {"account": account_id, "mailbox": mailbox, "uid": uids, "gone": {"$lte": modseq}},
        "uid",
        (("uid", 1),),
        _PRESENT,
        limit,
    )


def entries_changed(account_id: str, mailbox: str, after: int, through: int | None, limit: int) -> Shape:
    """Messages that came or changed after one modseq and (unless None) not after another, in order of modseq."""
    return Shape(
        "entry",
        {"account": account_id, "mailbox": mailbox, "modseq": {"$gt": after} | _through(through)},
        "modseq",
        (("modseq", 1),),
        _PRESENT,
        limit,
    )


def entries_unchanged(account_id: str, mailbox: str, uids: Mapping[str, Any], modseq: int) -> Shape:
    """Of these messages, those that a change at this modseq has not reached yet."""
    return Shape(
        "entry",
        {
            "account": account_id,
            "mailbox": mailbox,
            "uid": uids,
            "modseq": {"$lt": modseq},
            "gone": {"$exists": False},
        },
        "uid",
    )


def unseen(account_id: str, mailbox: str, uids: Mapping[str, Any], flags: Sequence[int]) -> Shape:
    """Messages that have any of these sets of flags, in uid order."""
    return Shape(
        "entry",
        {
            "account": account_id,
            "mailbox": mailbox,
            "uid": uids,
            "flags": {"$in": list(flags)},
            "gone": {"$exists": False},
        },
        "uid",
        (("uid", 1),),
        ("uid",),
    )


# -- vanished


def history(account_id: str, mailbox: str) -> Shape:
    """All history of a mailbox, the oldest first."""
    return Shape(
        "vanished",
        {"account": account_id, "mailbox": mailbox, "modseq": {"$gt": 0}},
        "modseq",
        (("modseq", 1),),
        ("modseq", "count"),
    )


def vanished_after(account_id: str, mailbox: str, after: int, through: int | None, limit: int = 0) -> Shape:
    """The history of expunges after one modseq and not after another, in order. Unpublished ones have modseq 0."""
    return Shape(
        "vanished",
        {"account": account_id, "mailbox": mailbox, "modseq": {"$gt": after} | _through(through)},
        "modseq",
        (("modseq", 1),),
        ("modseq", "count", "ranges"),
        limit,
    )


def vanished_unpublished(account_id: str, vanished: ObjectId) -> Shape:
    return Shape("vanished", {"account": account_id, "_id": vanished, "modseq": 0})


def history_from(account_id: str, mailbox: str) -> Shape:
    """The account with the modseq alone up to which the mailbox's history was cut."""
    return Shape("account", {"_id": account_id}, fields=(f"mailboxes.{mailbox}.history_from",))


def vanished_until(account_id: str, mailbox: str, through: int) -> Shape:
    """History that is to be forgotten."""
    return Shape(
        "vanished", {"account": account_id, "mailbox": mailbox, "modseq": {"$gt": 0, "$lte": through}}, "modseq"
    )


def vanished_pending(before: float, limit: int) -> Shape:
    return Shape("vanished", {"pending": {"$lt": before}}, "pending", (("pending", 1),), limit=limit)


# -- spool


def _through(modseq: int | None) -> dict[str, int]:
    return {} if modseq is None else {"$lte": modseq}


# ---- bodies, rows, search, spool, trace, upkeep ----------------------------------------------------------------------

NAMES: Final = 1_000
"""Ids named in one question."""


def email(account_id: str, email_id: str) -> Shape:
    return Shape("email", {"account": account_id, "_id": email_id}, fields=("blob", "size", "prefix"))


def emails(account_id: str, names: Sequence[str]) -> Shape:
    return Shape("email", {"account": account_id, "_id": {"$in": list(names)}}, fields=("blob", "size", "prefix"))


def blob(blob_id: str) -> Shape:
    return Shape("blob", {"_id": blob_id}, fields=("size", "codec"))


def blobs(names: Sequence[str], fields: Sequence[str]) -> Shape:
    return Shape("blob", {"_id": {"$in": list(names)}}, fields=tuple(fields))


def blob_sized(blob_id: str, size: int) -> Shape:
    """A blob while it has this size, or is in one of the states that its size tells."""
    return Shape("blob", {"_id": blob_id, "size": size}, fields=("_id",))


def blob_whole(blob_id: str, size: int, sha256: bytes) -> Shape:
    """A staged body that is all there, as it was staged."""
    return Shape("blob", {"_id": blob_id, "size": size, "sha256": sha256}, fields=("_id",))


def blob_there(blob_id: str) -> Shape:
    """A body that is all there."""
    return Shape("blob", {"_id": blob_id, "size": {"$gte": 0}}, fields=("_id",))


def blob_unnamed_since(blob_id: str, size: int, named: float | None) -> Shape:
    """A blob that nobody named since it was read."""
    return Shape("blob", {"_id": blob_id, "size": size, "named": {"$exists": False} if named is None else named})


def blob_half_written(blob_id: str, size: int, staged: float) -> Shape:
    """A body that is still being written, and got nothing since it was read."""
    return Shape("blob", {"_id": blob_id, "size": size, "staged": staged})


def blob_looked_at(blob_id: str, staged: float) -> Shape:
    """A staged body that nobody else has looked at since it was read."""
    return Shape("blob", {"_id": blob_id, "staged": staged})


def blobs_leaving(names: Sequence[str], leaving: int) -> Shape:
    return Shape("blob", {"_id": {"$in": list(names)}, "size": leaving})


def blobs_staged(through: float, limit: int) -> Shape:
    """Bodies to be looked at: staged until then, or leaving."""
    return Shape(
        "blob",
        {"staged": {"$lte": through}},
        "staged",
        (("staged", 1),),
        ("size", "staged", "named", "chunks", "octets", "more", "looks", "forgotten"),
        limit,
    )


def blobs_after(after: str, limit: int) -> Shape:
    """Whole blobs in order of id."""
    return Shape(
        "blob",
        {"_id": {"$gt": after}, "size": {"$gte": 0}},
        sort=(("_id", 1),),
        fields=("size", "codec", "sha256", "version", "form", "more"),
        limit=limit,
    )


def described() -> Shape:
    """Through which blob all have been described, and how."""
    return Shape("described", {"_id": "blob"})


def chunks(names: Sequence[str]) -> Shape:
    return Shape("chunk", {"_id": {"$in": list(names)}})


def texts(names: Sequence[str], fields: Sequence[str] | None = None) -> Shape:
    return Shape("text", {"_id": {"$in": list(names)}}, fields=None if fields is None else tuple(fields))


def candidates(
    account_id: str, mailbox: str, uids: Mapping[str, Any], modseq: int, more: Mapping[str, object], limit: int
) -> Shape:
    """Messages as ``entries_at`` finds them, of which more is asked, each with what a search may look at."""
    found = entries_at(account_id, mailbox, uids, modseq, limit)
    return Shape("entry", {**found.filter, **more}, found.index, found.sort, found.fields, limit)


# What ends. ``going`` are those that are being freed: they name nothing any more.

_ROOT = ("account", "mailbox", "email", "op")
STAYING: Final[Mapping[str, Any]] = {"going": {"$exists": False}}


def entries_pending(before: float, limit: int) -> Shape:
    return Shape("entry", {"pending": {"$lt": before}}, "pending", (("pending", 1),), _ROOT, limit)


def entries_still_pending(accounts: Sequence[str], names: Sequence[ObjectId]) -> Shape:
    return Shape(
        "entry",
        {"account": {"$in": list(accounts)}, "_id": {"$in": list(names)}, "pending": {"$exists": True}},
        fields=_ROOT,
    )


def entries_expired(through: float, limit: int) -> Shape:
    """Messages that were expunged at that time or earlier."""
    return Shape("entry", {"lost": {"$lte": through}}, "lost", (("lost", 1),), _ROOT, limit)


def entries_of_mailbox(account_id: str, mailbox: str, limit: int) -> Shape:
    return Shape("entry", {"account": account_id, "mailbox": mailbox}, "uid", (("uid", 1),), _ROOT, limit)


def entries_of_account(account_id: str, limit: int) -> Shape:
    """Those that were ever seen."""
    asked = {"account": account_id, "pending": {"$exists": False}}
    return Shape("entry", asked, "uid", fields=_ROOT, limit=limit)


def entries_named(accounts: Sequence[str], names: Sequence[ObjectId]) -> Shape:
    return Shape("entry", {"account": {"$in": list(accounts)}, "_id": {"$in": list(names)}})


def entries_of_emails(by_account: Mapping[str, Sequence[str]], limit: int) -> Shape:
    """What is in mailboxes of these emails (by account), or on its way there."""
    each = [{"account": one, "email": {"$in": list(names)}} for one, names in by_account.items()]
    asked = each[0] if len(each) == 1 else {"$or": each}
    return Shape("entry", {**asked, **STAYING}, "email", fields=("email",), limit=limit)


def emails_named(accounts: Sequence[str], names: Sequence[str]) -> Shape:
    return Shape("email", {"account": {"$in": list(accounts)}, "_id": {"$in": list(names)}}, fields=("account", "blob"))


def emails_of_blobs(names: Sequence[str], limit: int) -> Shape:
    return Shape("email", {"blob": {"$in": list(names)}, **STAYING}, "blob", fields=("blob",), limit=limit)


def removed(through: float, limit: int) -> Shape:
    """Mailboxes that were deleted at that time or earlier."""
    return Shape("removed", {"removed": {"$lte": through}}, "removed", (("removed", 1),), limit=limit)


def removed_named(mailbox: str) -> Shape:
    return Shape("removed", {"_id": mailbox})


def vanished_of_mailbox(account_id: str, mailbox: str, limit: int) -> Shape:
    return Shape("vanished", {"account": account_id, "mailbox": mailbox}, "modseq", fields=("_id",), limit=limit)


def vanished_of_account(account_id: str, limit: int) -> Shape:
    return Shape("vanished", {"account": account_id}, "modseq", fields=("_id",), limit=limit)


def vanished_named(accounts: Sequence[str], names: Sequence[ObjectId]) -> Shape:
    return Shape("vanished", {"account": {"$in": list(accounts)}, "_id": {"$in": list(names)}})


def vanished_nobodys(names: Sequence[ObjectId]) -> Shape:
    return Shape("vanished", {"_id": {"$in": list(names)}, "modseq": 0})


def operations_ended(before: float, limit: int) -> Shape:
    """Operations that began before; a delivery that is not in all its mailboxes is none of them."""
    return Shape(
        "operation",
        {"created": {"$lt": before}, "undone": {"$exists": False}},
        "created",
        (("created", 1),),
        ("_id",),
        limit,
    )


def operations_forgotten(names: Sequence[str]) -> Shape:
    return Shape("operation", {"_id": {"$in": list(names)}, "undone": {"$exists": False}})


def trace(trace_id: str, limit: int) -> Shape:
    return Shape("event", {"trace": trace_id}, "trace", (("kept", 1),), limit=limit)


def events_oldest(limit: int) -> Shape:
    return Shape("event", {}, "kept", (("kept", 1),), ("kept", "size"), limit)


def events_newest(limit: int) -> Shape:
    return Shape("event", {}, "kept", (("kept", -1),), ("trace",), limit)


def events_by_keys(keys: Sequence[int], limit: int) -> Shape:
    """The newest that have all these keys."""
    return Shape("event", {"keys": {"$all": list(keys)}}, "keys", (("kept", -1),), ("trace",), limit)


def traces(names: Sequence[str], limit: int) -> Shape:
    """The events of these traces, each of at most so many documents."""
    return Shape("event", {"trace": {"$in": list(names)}}, "trace", limit=limit * len(names))


def events_named(names: Sequence[str]) -> Shape:
    return Shape("event", {"_id": {"$in": list(names)}}, fields=("_id",))


def events(names: Sequence[str]) -> Shape:
    return Shape("event", {"_id": {"$in": list(names)}})


def accounts_after(after: str, limit: int) -> Shape:
    """What counts of accounts in order of id."""
    return Shape(
        "account",
        {"_id": {"$gt": after}},
        sort=(("_id", 1),),
        fields=("state", "messages", "size", "saved"),
        limit=limit,
    )


# ---- annotations -----------------------------------------------------------------------------------------------------


def annotation_sets(account_id: str, names: Sequence[str], *, values: bool) -> Shape:
    """These sets, perhaps without their values."""
    fields = ("mailbox", "modseq", "names", "modseqs", *(("values",) if values else ()))
    return Shape("annotation", {"account": account_id, "_id": {"$in": list(names)}}, fields=fields)


def annotation_before(account_id: str, name: str, modseq: int) -> Shape:
    """A set that a change at this modseq has not reached yet."""
    return Shape("annotation", {"account": account_id, "_id": name, "modseq": {"$lt": modseq}})


def annotation_sizes(account_id: str) -> Shape:
    """How much all sets of an account have."""
    return Shape("annotation", {"account": account_id}, "mailbox", fields=("names", "octets"))


def annotations_kept(account_id: str) -> Shape:
    """Which sets there are of an account, with the names of their entries."""
    return Shape("annotation", {"account": account_id}, "mailbox", fields=("mailbox", "owner", "names"))


def annotations_of_mailbox(account_id: str, mailbox: str) -> Shape:
    return Shape("annotation", {"account": account_id, "mailbox": mailbox}, "mailbox")


def annotations_of_account(account_id: str) -> Shape:
    return Shape("annotation", {"account": account_id}, "mailbox")


def annotations_of_owner(account_id: str) -> Shape:
    """What an account has for itself on mailboxes, its own and others'."""
    return Shape("annotation", {"owner": account_id}, "owner")


# ---- moving a whole store --------------------------------------------------------------------------------------------

MARKER: Final = "marker"
HIGHEST: Final = "highest"


def transfer(name: str) -> Shape:
    """What is remembered of a move."""
    return Shape("transfer", {"_id": name})


def whole_accounts_after(after: str, limit: int) -> Shape:
    return Shape("account", {"_id": {"$gt": after}}, sort=(("_id", 1),), limit=limit)


def entries_after(account_id: str, mailbox: str, after: int, limit: int) -> Shape:
    """Messages that are there, above a uid, in uid order."""
    asked = {"account": account_id, "mailbox": mailbox, "uid": {"$gt": after}, "gone": {"$exists": False}, **STAYING}
    return Shape("entry", asked, "uid", (("uid", 1),), (*_PRESENT, "lost"), limit)


def entries_lost_after(account_id: str, mailbox: str, after: int, limit: int) -> Shape:
    """The same of those that were expunged within the grace."""
    found = entries_after(account_id, mailbox, after, limit)
    return Shape("entry", {**found.filter, "gone": {"$gt": 0}}, found.index, found.sort, found.fields, limit)


def emails_moved(account_id: str, names: Sequence[str]) -> Shape:
    return Shape("email", {"account": account_id, "_id": {"$in": list(names)}})


def events_after(after: str, limit: int) -> Shape:
    return Shape("event", {"_id": {"$gt": after}}, sort=(("_id", 1),), limit=limit)
