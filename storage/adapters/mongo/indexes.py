"""The indexes, made at the start. Every filter and sort of ``queries`` is a prefix of one of these, or asks by _id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from runtime.mongo import Index


def _index(name: str, *fields: str, unique: bool = False, sparse: bool = False) -> Index:
    rising: Literal[1] = 1
    return Index(tuple((field, rising) for field in fields), unique=unique, name=name, sparse=sparse)


INDEXES: Final[Mapping[str, Sequence[Index]]] = {
    "account": (),
    "entry": (
        # The last guard of all: no uid is given twice in a mailbox.
        _index("uid", "account", "mailbox", "uid", unique=True),
        _index("modseq", "account", "mailbox", "modseq"),
        _index("email", "account", "email"),
        _index("pending", "pending", sparse=True),
        _index("lost", "lost", sparse=True),
    ),
    "email": (_index("blob", "blob"),),
    "blob": (_index("staged", "staged", sparse=True),),
    # How far they have been described by this release.
    "described": (),
    "chunk": (),
    "vanished": (
        _index("modseq", "account", "mailbox", "modseq"),
        _index("pending", "pending", sparse=True),
    ),
    "operation": (
        _index("created", "created"),
        # Deliveries that are committed and not yet in all their mailboxes.
        _index("undone", "undone", sparse=True),
    ),
    "removed": (_index("removed", "removed"),),
    # Sets of annotations; owner: of private ones.
    "annotation": (_index("mailbox", "account", "mailbox"), _index("owner", "owner", sparse=True)),
    # Below: what the other half of the adapter reads (bodies, spool, trace, search).
    "spool": (
        _index("account", "account", "_id"),
        _index("blob", "blob"),
        _index("pending", "pending", sparse=True),
        # What of a domain may be claimed, and all that waits for it.
        _index("due", "domain", "due"),
        _index("domain", "domain", "_id"),
        _index("queued", "queued"),
        _index("held", "held", sparse=True),
        # Items with something left to do of a change that is committed.
        _index("undone", "undone", sparse=True),
    ),
    # When the first item of each domain is due, and the same of the groups of queues.
    "due": (_index("due", "due"),),
    "queue_due": (_index("due", "due"),),
    # What became of items that have ended.
    "result": (_index("ended", "ended"),),
    "text": (),
    # Whom each account shares something with: found by grantee.
    "shared": (_index("grantee", "grantee", "owner"), _index("owner", "owner")),
    # Of a move from another store, while it lasts.
    "transfer": (),
    "event": (_index("trace", "trace", "kept"), _index("keys", "keys", "kept"), _index("kept", "kept")),
}
"""By collection."""
