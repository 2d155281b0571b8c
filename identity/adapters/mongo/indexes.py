"""The indexes, made at the start. Every filter and sort of ``queries`` is a prefix of one of these, or asks by _id.

None of these collections is sharded: a million accounts are about a gigabyte, and a name must be unique over all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from identity.adapters.mongo import queries
from runtime.mongo import Index


def _index(name: str, *fields: str, unique: bool = False, sparse: bool = False) -> Index:
    rising: Literal[1] = 1
    return Index(tuple((field, rising) for field in fields), unique=unique, name=name, sparse=sparse)


INDEXES: Final[Mapping[str, Sequence[Index]]] = {
    queries.NAMES: (
        # No two accounts or aliases have one name.
        _index("key", "key", unique=True),
        _index("kind", "kind", "key"),
        _index("domain", "domain", "kind", "key"),
        _index("admin", "admin", sparse=True),
        _index("reserved", "reserved_at", sparse=True),
        _index("removed", "removed_at", sparse=True),
        _index("untold", "untold", sparse=True),
        _index("scram", "kind", "enabled", "scrammed"),
    ),
    queries.DOMAINS: (),
    queries.DKIM: (_index("domain", "domain"),),
    queries.INTEGRATIONS: (),
    queries.FAMILIES: (
        _index("access", "access", unique=True),
        _index("refresh", "refresh", unique=True),
        _index("spent", "spent"),
        _index("account", "account", "created_at", "_id"),
        _index("expires", "refresh_expires"),
        _index("ended", "ended", sparse=True),
    ),
    # No change is told twice.
    queries.CHANGES: (_index("item", "item", unique=True),),
    queries.GUESSES: (_index("forgotten", "forgotten_at"),),
    queries.DEVICES: (
        _index("name", "name", "seen_at"),
        _index("seen", "seen_at"),
        _index("place", "place", "seen_at"),
    ),
    queries.COUNTS: (_index("over", "over_at"),),
    queries.BANS: (
        _index("id", "id", unique=True),
        _index("ends", "ends"),
        _index("by", "by", "ends"),
    ),
    queries.STATE: (),
}
"""By collection."""
