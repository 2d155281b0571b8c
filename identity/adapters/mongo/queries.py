"""Every question that is put to the server: its filter, its order, and the index that answers it.

Nowhere else is a filter made. A test compares each shape with the indexes declared in ``indexes``: what is asked for by
equality, range and order is a prefix of the index named, and what is left over is looked at in a bounded number of
documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from identity.guesspolicy import Counter

BY_ID: Final = "_id_"
"""The index that every collection has."""

NAMES: Final = "identity_name"
DOMAINS: Final = "identity_domain"
DKIM: Final = "identity_dkim"
INTEGRATIONS: Final = "identity_integration"
FAMILIES: Final = "identity_token"
CHANGES: Final = "identity_change"
GUESSES: Final = "identity_guess"
DEVICES: Final = "identity_device"
COUNTS: Final = "identity_rate"
BANS: Final = "identity_ban"
STATE: Final = "identity_state"

# The kinds of documents in NAMES.
RESERVED: Final = "reserved"
ACCOUNT: Final = "account"
ALIAS: Final = "alias"
REMOVED: Final = "removed"
ADMINISTRATORS: Final = "administrators"
TRANSFER: Final = "transfer"
BANNED: Final = "bans"
SECRET: Final = "secret "
"""Before the name of a secret of the store."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A question. index: the name (in ``indexes``) of the index that answers it. limit: 0 for none."""

    collection: str
    filter: Mapping[str, Any]
    index: str = BY_ID
    sort: tuple[tuple[str, int], ...] = ()
    limit: int = 0


# -- names: accounts, aliases, reservations, removed accounts


def named(key: str) -> Shape:
    """Whatever has the name."""
    return Shape(NAMES, {"key": key}, "key")


def named_any(keys: Sequence[str]) -> Shape:
    return Shape(NAMES, {"key": {"$in": list(keys)}}, "key")


def named_as(key: str, kind: str) -> Shape:
    return Shape(NAMES, {"key": key, "kind": kind}, "key")


def by_id(id: str) -> Shape:
    return Shape(NAMES, {"_id": id})


def by_ids(ids: Sequence[str], kind: str) -> Shape:
    return Shape(NAMES, {"_id": {"$in": list(ids)}, "kind": kind})


def of_kind(id: str, kind: str) -> Shape:
    return Shape(NAMES, {"_id": id, "kind": kind})


def account_at(id: str, rev: int) -> Shape:
    """The account as it was read: what a change compares and sets."""
    return Shape(NAMES, {"_id": id, "rev": rev, "kind": ACCOUNT})


def with_hash(id: str, hash: str) -> Shape:
    return Shape(NAMES, {"_id": id, "password_hash": hash})


def with_app(id: str, app: str) -> Shape:
    """The account, while it has this app password (an id that identity made, so no other path can be named)."""
    return Shape(NAMES, {"_id": id, f"apps.{app}": {"$exists": True}})


def page_of(kind: str, domain: str | None, after: str, limit: int) -> Shape:
    """In order of the address key, after one."""
    order = (("key", 1),)
    if domain is None:
        return Shape(NAMES, {"kind": kind, "key": {"$gt": after}}, "kind", order, limit)
    return Shape(NAMES, {"domain": domain, "kind": kind, "key": {"$gt": after}}, "domain", order, limit)


def any_in(domain: str) -> Shape:
    """An account or an alias of the domain."""
    return Shape(NAMES, {"domain": domain, "kind": {"$in": [ACCOUNT, ALIAS]}}, "domain", limit=1)


def reservations_in(domain: str) -> Shape:
    return Shape(NAMES, {"domain": domain, "kind": RESERVED}, "domain")


def reserved_before(time: float, limit: int) -> Shape:
    return Shape(NAMES, {"reserved_at": {"$lt": time}}, "reserved", (("reserved_at", 1),), limit)


def removed() -> Shape:
    return Shape(NAMES, {"removed_at": {"$gt": 0}}, "removed", (("removed_at", 1),))


def without_scram() -> Shape:
    """An enabled account whose credentials have never all had keys for SCRAM."""
    return Shape(NAMES, {"kind": ACCOUNT, "enabled": True, "scrammed": None}, "scram", limit=1)


def scram_below(iterations: int) -> Shape:
    """An enabled account whose credentials do not all have keys of as many iterations."""
    return Shape(NAMES, {"kind": ACCOUNT, "enabled": True, "scrammed": {"$lt": iterations}}, "scram", limit=1)


def scram_above(iterations: int) -> Shape:
    """An enabled account whose keys are all of more iterations."""
    return Shape(NAMES, {"kind": ACCOUNT, "enabled": True, "scrammed": {"$gt": iterations}}, "scram", limit=1)


def administrators(limit: int) -> Shape:
    """Enabled administrators, the first one first."""
    return Shape(NAMES, {"admin": {"$gt": ""}}, "admin", (("admin", 1),), limit)


def untold(limit: int) -> Shape:
    """Accounts with news that nobody has published yet."""
    return Shape(NAMES, {"untold": {"$gt": 0}}, "untold", (("untold", 1),), limit)


def untold_until(id: str, rev: int) -> Shape:
    """The account, when its newest news is of this revision."""
    return Shape(NAMES, {"_id": id, "untold": rev})


# -- domains


def domain(key: str) -> Shape:
    return Shape(DOMAINS, {"_id": key})


def domains_of(keys: Sequence[str]) -> Shape:
    return Shape(DOMAINS, {"_id": {"$in": list(keys)}})


def all_domains() -> Shape:
    return Shape(DOMAINS, {}, sort=(("_id", 1),))


def open_domain(key: str) -> Shape:
    return Shape(DOMAINS, {"_id": key, "closing": {"$exists": False}})


def closing_domain(key: str, token: str) -> Shape:
    return Shape(DOMAINS, {"_id": key, "closing": token})


# -- DKIM keys


def dkim_key(id: str) -> Shape:
    return Shape(DKIM, {"_id": id})


def dkim_key_not_in(id: str, state: str) -> Shape:
    """The key, while it is in another state."""
    return Shape(DKIM, {"_id": id, "state": {"$ne": state}})


def dkim_keys_of(domain: str) -> Shape:
    """All keys of the domain of the id."""
    return Shape(DKIM, {"domain": domain}, "domain")


def dkim_keys_after(after: str, limit: int) -> Shape:
    return Shape(DKIM, {"_id": {"$gt": after}}, sort=(("_id", 1),), limit=limit)


# -- integrations


def integrations(account: str) -> Shape:
    """All of the account."""
    return Shape(INTEGRATIONS, {"_id": account})


def integrations_at(account: str, rev: str) -> Shape:
    """The same, as they were read."""
    return Shape(INTEGRATIONS, {"_id": account, "rev": rev})


def integrations_after(after: str, limit: int) -> Shape:
    return Shape(INTEGRATIONS, {"_id": {"$gt": after}}, sort=(("_id", 1),), limit=limit)


# -- token families


def family(id: str) -> Shape:
    return Shape(FAMILIES, {"_id": id})


def families(ids: Sequence[str]) -> Shape:
    return Shape(FAMILIES, {"_id": {"$in": list(ids)}})


def live_family(id: str) -> Shape:
    """A family that nothing of its own has ended."""
    return Shape(FAMILIES, {"_id": id, "ended": {"$exists": False}})


def family_by_access(kept: bytes) -> Shape:
    return Shape(FAMILIES, {"access": kept}, "access")


def family_by_refresh(kept: bytes) -> Shape:
    return Shape(FAMILIES, {"refresh": kept}, "refresh")


def renewable(id: str, kept: bytes) -> Shape:
    """The family, while this is its refresh token and nothing of its own has ended it."""
    return Shape(FAMILIES, {"_id": id, "refresh": kept, "ended": {"$exists": False}})


def family_by_spent(kept: bytes) -> Shape:
    return Shape(FAMILIES, {"spent": kept}, "spent")


def families_of(account: str) -> Shape:
    """The oldest first."""
    return Shape(FAMILIES, {"account": account}, "account", (("created_at", 1), ("_id", 1)))


def ended_families(limit: int) -> Shape:
    """Families that were ended, which nobody has told yet."""
    return Shape(FAMILIES, {"ended": {"$gt": 0}}, "ended", (("ended", 1),), limit)


def expired_families(now: float, limit: int) -> Shape:
    return Shape(FAMILIES, {"refresh_expires": {"$lte": now}}, "expires", (("refresh_expires", 1),), limit)


# -- changes


def last_change() -> Shape:
    return Shape(CHANGES, {}, sort=(("_id", -1),), limit=1)


def changes_after(seq: int, limit: int) -> Shape:
    return Shape(CHANGES, {"_id": {"$gt": seq}}, sort=(("_id", 1),), limit=limit)


def change_of(item: str) -> Shape:
    return Shape(CHANGES, {"item": item}, "item")


def old_changes(through: int, before: float, limit: int) -> Shape:
    return Shape(CHANGES, {"_id": {"$lte": through}, "at": {"$lt": before}}, sort=(("_id", 1),), limit=limit)


def changes(seqs: Sequence[int]) -> Shape:
    return Shape(CHANGES, {"_id": {"$in": list(seqs)}})


# -- guess counters and usual devices


def guesses(ids: Sequence[str]) -> Shape:
    return Shape(GUESSES, {"_id": {"$in": list(ids)}})


def counter_as(key: str, counter: Counter) -> Shape:
    """The counter, while it is as it was read."""
    return Shape(GUESSES, {"_id": key, "level": counter.level, "at": counter.at})


def forgotten(through: float, limit: int) -> Shape:
    """Those that are forgotten soonest."""
    return Shape(GUESSES, {"forgotten_at": {"$lte": through}}, "forgotten", (("forgotten_at", 1),), limit)


def device(id: str) -> Shape:
    return Shape(DEVICES, {"_id": id})


def devices(ids: Sequence[str]) -> Shape:
    return Shape(DEVICES, {"_id": {"$in": list(ids)}})


def devices_of(name: str) -> Shape:
    """The one seen longest ago first."""
    return Shape(DEVICES, {"name": name}, "name", (("seen_at", 1),))


def devices_before(time: float, limit: int) -> Shape:
    return Shape(DEVICES, {"seen_at": {"$lte": time}}, "seen", (("seen_at", 1),), limit)


def devices_at(place: str, since: float) -> Shape:
    return Shape(DEVICES, {"place": place, "seen_at": {"$gt": since}}, "place")


# -- counts of rates, and bans


def count(id: str) -> Shape:
    return Shape(COUNTS, {"_id": id})


def counts(ids: Sequence[str]) -> Shape:
    return Shape(COUNTS, {"_id": {"$in": list(ids)}})


def counts_over(through: float, limit: int) -> Shape:
    """Those that are of no more use soonest."""
    return Shape(COUNTS, {"over_at": {"$lte": through}}, "over", (("over_at", 1),), limit)


def ban_of(target: str) -> Shape:
    return Shape(BANS, {"_id": target})


def ban_as(target: str, id: str) -> Shape:
    """The ban of the target, while it is the one that was read."""
    return Shape(BANS, {"_id": target, "id": id})


def ban(id: str) -> Shape:
    return Shape(BANS, {"id": id}, "id")


def bans_after(time: float) -> Shape:
    """Those that end after a time."""
    return Shape(BANS, {"ends": {"$gt": time}}, "ends")


def bans_before(time: float, limit: int) -> Shape:
    """Those that have ended by then."""
    return Shape(BANS, {"ends": {"$lte": time}}, "ends", (("ends", 1),), limit)


def bans_by(maker: str) -> Shape:
    """The one that ends soonest first."""
    return Shape(BANS, {"by": maker}, "by", (("ends", 1),))


def bans_state() -> Shape:
    """The document that counts the changes of bans."""
    return Shape(STATE, {"_id": BANNED})


# -- the one document for all changes of administrators


def state() -> Shape:
    return Shape(STATE, {"_id": ADMINISTRATORS})


def state_at(rev: int) -> Shape:
    return Shape(STATE, {"_id": ADMINISTRATORS, "rev": rev})


# -- what the store alone knows


def secret(name: str) -> Shape:
    return Shape(STATE, {"_id": f"{SECRET}{name}"})


# -- moving all of it


def transfer() -> Shape:
    """The mark of an unfinished move to this database."""
    return Shape(STATE, {"_id": TRANSFER})


def domains_after(after: str, limit: int) -> Shape:
    return Shape(DOMAINS, {"_id": {"$gt": after}}, sort=(("_id", 1),), limit=limit)


def secrets_after(after: str, limit: int) -> Shape:
    """The store's secrets in order of name."""
    # "!" comes behind the blank at the end.
    among = {"$gt": f"{SECRET}{after}", "$lt": f"{SECRET.rstrip()}!"}
    return Shape(STATE, {"_id": among}, sort=(("_id", 1),), limit=limit)


def accounts_after(after: str, limit: int) -> Shape:
    """Accounts, removed ones too, in order of id."""
    return Shape(NAMES, {"_id": {"$gt": after}, "kind": {"$in": [ACCOUNT, REMOVED]}}, sort=(("_id", 1),), limit=limit)
