"""What happened in a mailbox after a modseq, in pages that end between two modseqs."""

from __future__ import annotations

from storage import ranges
from storage.adapters.mongo import acl, queries
from storage.adapters.mongo.accounts import Accounts
from storage.adapters.mongo.database import Database
from storage.adapters.mongo.entries import Entries, made
from storage.adapters.mongo.state import Document
from storage.adapters.mongo.uidsets import unpack
from storage.limits import PAGE_ENTRIES
from storage.model import Changes, MailboxRef, Ranges
from storage.port import Reason, Refused, Unavailable
from storage.rights import reader

TRIES = 20
"""How often a page is read anew because of changes meanwhile."""


class History:
    def __init__(self, database: Database, accounts: Accounts, entries: Entries) -> None:
        self._database = database
        self._accounts = accounts
        self._entries = entries

    async def since(self, ref: MailboxRef, modseq: int, limit: int) -> Changes:
        """One page. What shares a modseq stays together, so a page is longer than ``limit`` where one change was.

        A message that is changed while this is read has a modseq above that of the account, and would be told by the
        next page alone; but no message may appear after one with a higher uid. So all is read anew then.
        """
        for _ in range(TRIES):
            try:
                doc, box = await self._accounts.place(ref)
            except Refused as refusal:
                if refusal.reason not in (Reason.NO_SUCH_MAILBOX, Reason.NO_PERMISSION):
                    raise
                return Changes((), (), modseq, more=False, gone=True)
            found = await self._at(ref, modseq, limit, doc, box)
            if found is not None:
                return found
        raise Unavailable("the mailbox is changed faster than it can be read")

    async def _at(self, ref: MailboxRef, modseq: int, limit: int, doc: Document, box: Document) -> Changes | None:
        """The page as of the account's document; None where a message that was there then has been changed since."""
        newest: int = doc["modseq"]
        given = acl.have(box, reader(ref))
        if box["modseq"] <= modseq:
            return Changes((), (), max(modseq, newest), more=False, rights=given)
        limit = max(1, min(limit, PAGE_ENTRIES))
        entries = await self._changed(ref, modseq, None, limit + 1)
        if any(entry["modseq"] > newest and entry["uid"] < box["uidnext"] for entry in entries):
            return None
        entries = [entry for entry in entries if entry["modseq"] <= newest]
        history = await self._database.find(queries.vanished_after(ref.account, ref.mailbox, modseq, newest, limit + 1))
        through = _through(entries, history, limit)
        end = newest if through is None else through
        if len(entries) > limit and entries[-1]["modseq"] <= end:
            # One change of more messages than a page holds.
            entries = await self._changed(ref, modseq, end, 0)
        if history and len(history) > limit and history[-1]["modseq"] <= end:
            history = await self._database.find(queries.vanished_after(ref.account, ref.mailbox, modseq, end))
        there = [entry for entry in entries if entry["modseq"] <= end and entry.get("gone", newest + 1) > newest]
        there.sort(key=lambda entry: (entry["modseq"], entry["uid"]))
        # Another process may have cut the history while it was read.
        cut = modseq < box["history_from"] or await self._accounts.was_cut(ref, box, modseq)
        vanished = await self._vanished(doc, ref, None if cut else [one for one in history if one["modseq"] <= end])
        return Changes(made(doc, there), vanished, end, more=end < box["modseq"], rights=given)

    async def _changed(self, ref: MailboxRef, after: int, through: int | None, limit: int) -> list[Document]:
        return await self._database.find(queries.entries_changed(ref.account, ref.mailbox, after, through, limit))

    async def _vanished(self, doc: Document, ref: MailboxRef, history: list[Document] | None) -> Ranges:
        """history: None where it was cut."""
        if history is None:
            # RFC 7162 §3.2.6: where the history is gone, every uid that is not there may be told.
            uidnext = doc["mailboxes"][ref.mailbox]["uidnext"]
            return ranges.outside(await self._entries.all_uids(doc, ref), uidnext)
        return ranges.union([pair for one in history for pair in unpack(one["ranges"])])


def _through(entries: list[Document], history: list[Document], limit: int) -> int | None:
    """The modseq at which a page of about ``limit`` ends; None when all that is left fits. Each expunged range counts
    as a message does."""
    modseqs = [entry["modseq"] for entry in entries]
    modseqs += [one["modseq"] for one in history for _ in range(min(one["count"], limit + 1))]
    modseqs.sort()
    if len(modseqs) <= limit:
        return None
    last: int = modseqs[limit]
    # The change that would be cut is left for the next page, unless it is the only one.
    before = [modseq for modseq in modseqs[:limit] if modseq < last]
    return before[-1] if before else last
