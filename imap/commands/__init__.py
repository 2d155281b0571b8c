"""The command table: every command that a session answers, one file for each family.

An extension with commands of its own comes as a file of entries that is added here, and its capability with it; one
that is part of other commands is named in `imap.capability.FEATURES`.
"""

from __future__ import annotations

from imap.commands import (
    acl,
    append,
    auth,
    copymove,
    fetch,
    idle,
    listing,
    mailboxes,
    metadata,
    misc,
    notify,
    ordering,
    quota,
    replace,
    search,
    selection,
    store,
)
from imap.session import Table


def table() -> Table:
    """All commands by name ("FETCH", "UID FETCH")."""
    families = (
        misc,
        auth,
        mailboxes,
        metadata,
        acl,
        listing,
        selection,
        fetch,
        store,
        search,
        ordering,
        copymove,
        append,
        replace,
        quota,
        idle,
        notify,
    )
    return {entry.name: entry for family in families for entry in family.ENTRIES}
