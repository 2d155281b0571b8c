"""The command table: every command that a session answers, one file for each family.

An extension comes as a file of entries that is added here, and its capability with it. Their places: CONDSTORE and
QRESYNC (selection, fetch, store), MULTIAPPEND and CATENATE (append), QUOTA, ACL,
METADATA (mailboxes), NOTIFY (idle), IMAP4rev2.
"""

from __future__ import annotations

from imap.commands import (
    append,
    auth,
    copymove,
    fetch,
    idle,
    listing,
    mailboxes,
    misc,
    ordering,
    search,
    selection,
    store,
)
from imap.session import Table


def table() -> Table:
    """All commands by name ("FETCH", "UID FETCH")."""
    families = (misc, auth, mailboxes, listing, selection, fetch, store, search, ordering, copymove, append, idle)
    return {entry.name: entry for family in families for entry in family.ENTRIES}
