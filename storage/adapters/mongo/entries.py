"""Messages of a mailbox, all read at one moment.

The account is read first, and says which modseq the moment has. A message that is read with a later one was changed
meanwhile; what was changed, came or went since is then read as well, with the account at a later moment, until nothing
that was read is later than the moment itself. What was expunged stays where it is for the grace, with its flags, so
that a moment before it still shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic
from typing import Any, Final

from storage import ranges
from storage.adapters.mongo import queries
from storage.adapters.mongo.accounts import Accounts
from storage.adapters.mongo.database import Database
from storage.adapters.mongo.queries import Shape
from storage.adapters.mongo.state import Document, names_of
from storage.adapters.mongo.uidsets import above, among, unpack, windows
from storage.limits import PAGE_ENTRIES
from storage.model import ALL_UIDS, Entry, MailboxRef, Ranges
from storage.port import Unavailable

READ_SECONDS: Final = 10.0
"""Seconds for which a read follows a mailbox that is changed faster than it is read."""


class Entries:
    def __init__(self, database: Database, accounts: Accounts) -> None:
        self._database = database
        self._accounts = accounts

    async def page(
        self, ref: MailboxRef, uids: Ranges, limit: int = 0, *, lost: bool = False
    ) -> tuple[Document, list[Document]]:
        """(the account, the first ``limit`` messages of the set in uid order (0: all), with ``lost`` those expunged
        within the grace), as they were at the account's modseq. NO_SUCH_MAILBOX."""
        doc, box = await self._accounts.place(ref)
        if lost:
            return doc, await self._read(
                uids,
                box,
                limit,
                lambda uid, most: queries.entries_lost(ref.account, ref.mailbox, uid, doc["modseq"], most),
            )
        found = await self.present(doc, ref, uids, limit)
        # The uid with which a full page ends: what came since behind it is no part of it.
        last = found[-1]["uid"] if limit and len(found) >= limit else None
        deadline = monotonic() + READ_SECONDS
        while any(entry["modseq"] > doc["modseq"] for entry in found):
            if monotonic() > deadline:
                raise Unavailable("the mailbox changes faster than it can be read")
            before = doc["modseq"]
            doc, box = await self._accounts.place(ref)
            found = await self._later(doc, ref, found, before, uids if last is None else _through(uids, last))
            if box["history_from"] > before or await self._accounts.was_cut(ref, box, before):
                found = await self.present(doc, ref, uids, limit)
                last = found[-1]["uid"] if limit and len(found) >= limit else None
                continue
            if last is None:
                found = found[: limit or None]
            elif len(found) < limit:
                found += await self.present(doc, ref, above(uids, last), limit - len(found))
                last = found[-1]["uid"] if len(found) >= limit else None
        return doc, found

    async def present(self, doc: Mapping[str, Any], ref: MailboxRef, uids: Ranges, limit: int = 0) -> list[Document]:
        """The messages of the set as they are now, without those that had gone by the account's modseq. Those that were
        changed since have a later modseq."""
        return await self._read(
            uids,
            doc["mailboxes"][ref.mailbox],
            limit,
            lambda uid, most: queries.entries_at(ref.account, ref.mailbox, uid, doc["modseq"], most),
        )

    async def all_uids(self, doc: Mapping[str, Any], ref: MailboxRef) -> Ranges:
        """The uids of all messages there were at the account's modseq."""
        box = doc["mailboxes"][ref.mailbox]
        if box["uidnext"] - 1 == box["messages"]:
            # None ever left.
            return ((1, box["messages"]),) if box["messages"] else ()
        return ranges.of(
            entry["uid"]
            for entry in await self._read(
                ALL_UIDS,
                box,
                0,
                lambda uid, most: queries.entries_at(ref.account, ref.mailbox, uid, doc["modseq"], most, ("uid",)),
            )
        )

    async def _read(
        self,
        uids: Ranges,
        box: Mapping[str, Any],
        limit: int,
        shape: Callable[[Mapping[str, Any], int], Shape],
    ) -> list[Document]:
        """The first ``limit`` of the set (0: all), in questions of a page each, and of the one behind it, by which it
        is known whether it is the last."""
        found: list[Document] = []
        for window in windows(uids, 1, box["uidnext"] - 1):
            uid = window.first
            while True:
                most = min(limit - len(found), PAGE_ENTRIES + 1) if limit else PAGE_ENTRIES
                page = await self._database.find(shape(window.from_(uid), most))
                # A window may hold uids that were not asked for.
                found += among(page, uids)
                if limit and len(found) >= limit:
                    return found
                if len(page) < most:
                    break
                uid = page[-1]["uid"] + 1
        return found

    async def _later(
        self, doc: Mapping[str, Any], ref: MailboxRef, found: Iterable[Document], before: int, uids: Ranges
    ) -> list[Document]:
        """What was found at the modseq ``before``, as it is at the account's modseq now."""
        changed = await self._database.find(queries.entries_changed(ref.account, ref.mailbox, before, None, 0))
        history = await self._database.find(queries.vanished_after(ref.account, ref.mailbox, before, doc["modseq"]))
        by_uid = {entry["uid"]: entry for entry in (*found, *changed)}
        there = [by_uid[uid] for uid in sorted(by_uid) if uid < doc["mailboxes"][ref.mailbox]["uidnext"]]
        gone = ranges.union([pair for one in history for pair in unpack(one["ranges"])])
        left = {entry["uid"] for entry in among(there, gone)}
        return among(
            [
                entry
                for entry in there
                if entry["uid"] not in left and entry.get("gone", doc["modseq"] + 1) > doc["modseq"]
            ],
            uids,
        )


def made(doc: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> tuple[Entry, ...]:
    """Entries as the port shows them."""
    known: dict[tuple[int, ...], tuple[str, ...]] = {(): ()}
    found: list[Entry] = []
    for entry in entries:
        numbers = tuple(entry.get("kw", ()))
        words = known.get(numbers)
        if words is None:
            words = known[numbers] = names_of(doc, numbers)
        found.append(
            Entry(
                entry["uid"],
                entry["modseq"],
                entry["flags"],
                words,
                entry["email"],
                entry["date"],
                entry["saved"],
            )
        )
    return tuple(found)


def _through(uids: Ranges, uid: int) -> Ranges:
    """The uids of the set up to this one."""
    return tuple((first, min(last, uid)) for first, last in uids if first <= uid)
