"""Messages of a store, one by one, for tests that look at few."""

from __future__ import annotations

from storage.model import Entry, MailboxRef, Ranges, Row, Want
from storage.port import Storage


async def entries_of(store: Storage, ref: MailboxRef, uids: Ranges, limit: int = 4096) -> tuple[Entry, ...]:
    """The first page of the set."""
    return (await store.columns(ref, uids, Want.ENTRY, limit)).entries()


async def rows_of(
    store: Storage, ref: MailboxRef, uids: Ranges, want: Want, limit: int = 512, lost: bool = False
) -> tuple[Row, ...]:
    """The same with what is wanted beside the entries."""
    return (await store.columns(ref, uids, Want.ENTRY | want, limit, lost)).rows()


async def lost_rows_of(store: Storage, ref: MailboxRef, uids: Ranges, want: Want, limit: int = 512) -> tuple[Row, ...]:
    """And of messages that were expunged and are within the grace."""
    return await rows_of(store, ref, uids, want, limit, lost=True)
