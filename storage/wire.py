"""How the storage port crosses to another process: its codec, and which of its calls may be sent twice."""

from __future__ import annotations

from typing import Final

from runtime.portcall import PortCodec
from storage.port import Refused, Storage, Unavailable

NAME: Final = "storage"
POLLS: Final = frozenset({"watch", "claim"})
"""Wait for news, as long as the caller says."""
READS: Final = frozenset(
    {
        "usage",
        "usages",
        "list_mailboxes",
        "mailbox",
        "acl",
        "shared_with",
        "annotations",
        "columns",
        "read",
        "search",
        "changes",
        "watch",
        "spool",
        "spool_item",
        "spool_domains",
        "spool_queued",
        "spool_result",
        "spool_read",
        "trace",
        "find_traces",
        "stats",
    }
)
OPERATIONS: Final = frozenset(
    {
        "open_account",
        "purge_account",
        "create_mailbox",
        "delete_mailbox",
        "rename_mailbox",
        "subscribe",
        "open_mailbox",
        "set_acl",
        "set_annotations",
        "accept",
        "append",
        "replace",
        "store_flags",
        "copy",
        "move",
        "expunge",
        "settle",
        "change_spool",
    }
)
"""Carry an operation id: a repeat returns the first outcome."""
UPKEEP: Final = frozenset({"sweep", "scrub", "reparse", "claim", "extend"})
"""Another round does no harm: items of a claim whose answer was lost are claimed again when its lease has run out."""
REPEATABLE: Final = READS | OPERATIONS | UPKEEP
ONCE: Final = frozenset({"record", "stage"})
"""Carry no operation id: twice recorded events would be told twice, and a body that was read cannot be read again."""


def codec() -> PortCodec[Storage]:
    """Made once per use: it keeps what it has learnt of the types."""
    return PortCodec(Storage, [Refused, Unavailable])
