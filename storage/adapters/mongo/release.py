"""How messages end: entry, then email, then blob, and never one that something else still names.

What ends is taken from its root, and the root is the last to go, so that whatever a crash leaves undone is found again
by it: an *entry* (lost over the grace, of a deleted mailbox, of an account being purged, or left unseen by an operation
that died) or a *spool* item left unseen. Two sweeps at once do no harm: each marks what it takes as ``going`` before it
looks who else names the email or blob, and what is going counts as nobody. So of two that take the last two names of a
blob at once, one at least sees none but going ones.

An email that nobody names cannot be named again: a copy is committed only while its source is where it was read. A blob
can, when it is a staged body; there ``Blobs.name`` and ``_claim`` see each other. A blob that was claimed is LEAVING,
with the time 0 in ``staged``: it is its own root from then on, and its chunks go in bounded steps.

A body that was staged is looked at when its grace is over. When it is named by then it is looked at again after ever
longer times (LOOK, doubled each time), rather than forgotten: so no race can leave one behind for good.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from typing import Any, Final

from runtime.mongo import Document
from storage.adapters.mongo import queries, spool_queries, texts
from storage.adapters.mongo.blobs import LEAVING, PARTIAL, PreparedBlob, chunk_id, count
from storage.adapters.mongo.database import Change, Database
from storage.adapters.mongo.queries import Shape
from storage.limits import CHUNK, SWEEP_CHUNKS

UNSEEN_AGE: Final = 600.0
"""Seconds after which what was made unseen, or half written, counts as left behind: thirty times as long as any call
may take to commit."""
LOOK: Final = 3600.0
"""Seconds until a staged body that is named is looked at for the second time."""
LOOKS_MAX: Final = 12
"""How often that time is doubled: in the end half a year."""
NAMED_MAX: Final = 4096
"""Documents that one question for names may answer."""
ACCOUNTS_AT_ONCE: Final = 50
"""Accounts of one question."""


class Release:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def entries(self, entries: Sequence[Document]) -> int:
        """Free entries that nobody can see any more (each with its ``_id``, ``account``, ``email``), and what only they
        named; how many emails went."""
        if not entries:
            return 0
        accounts = list(dict.fromkeys(entry["account"] for entry in entries))
        names = [entry["_id"] for entry in entries]
        await self._go(queries.entries_named(accounts, names))
        owners = {entry["email"]: entry["account"] for entry in entries}
        unused = await self._unused_emails(owners)
        freed = 0
        if unused:
            owned_by = list(dict.fromkeys(owners[email] for email in unused))
            held = await self._database.find(queries.emails_named(owned_by, unused))
            await self._go(queries.emails_named(owned_by, unused))
            await self.blobs([email["blob"] for email in held])
            freed = await self._database.delete(queries.emails_named(owned_by, unused))
        await self._database.delete(queries.entries_named(accounts, names))
        return freed

    async def abandoned(
        self, entries: Sequence[Document], spool: Sequence[Document], bodies: Sequence[PreparedBlob]
    ) -> None:
        """Free what an attempt inserted (whole documents) that will not be committed. Some of it may have been swept
        before the rest was inserted, so that no root is left to find the rest by."""
        await self.entries(entries)
        await self.spool(spool)
        new = {body.id: texts.more_of(body.described.more) for body in bodies if body.staged is None}
        await self.blobs(list(new))
        there = {blob["_id"] for blob in await self._database.find(queries.blobs(list(new), ("size",)))}
        rootless = [(id, more) for id, more in new.items() if id not in there]
        await self._delete(queries.chunks, [chunk_id(id, 0) for id, _ in rootless])
        await self._delete(queries.texts, texts.ids_of(rootless))

    async def spool(self, items: Sequence[Document]) -> None:
        """Free spool items that nobody can see (each with its ``_id`` and ``blob``), and blobs that only they named."""
        if not items:
            return
        names = [item["_id"] for item in items]
        await self._go(spool_queries.spool_named(names))
        await self.blobs([item["blob"] for item in items])
        await self._database.delete(spool_queries.spool_named(names))

    async def blobs(self, names: Sequence[str]) -> None:
        """Claim those of the blobs that nobody names."""
        names = list(dict.fromkeys(names))
        if not names:
            return
        # Read before it is asked who names them: see ``_claim``.
        held = await self._database.find(queries.blobs(names, ("size", "named")))
        held = [blob for blob in held if blob["size"] >= 0]
        used = await self._used_blobs([blob["_id"] for blob in held])
        await self._claim([blob for blob in held if blob["_id"] not in used], {})

    async def staged(self, through: float, limit: int) -> tuple[int, int, bool]:
        """Take another step with bodies that were staged at that time or earlier, or are leaving: (blobs that went,
        forgotten bodies that went, whether there is more)."""
        found = await self._database.find(queries.blobs_staged(through, limit))
        fresh = self._database.now() - UNSEEN_AGE
        forgotten = [blob for blob in found if blob["size"] == PARTIAL and blob["staged"] <= fresh]
        whole = [blob for blob in found if blob["size"] >= 0]
        used = await self._used_blobs([blob["_id"] for blob in whole])
        await self._claim(
            [*forgotten, *(blob for blob in whole if blob["_id"] not in used)],
            {"forgotten": True},
        )
        await self._look_later([blob for blob in whole if blob["_id"] in used])
        leaving = [blob for blob in found if blob["size"] == LEAVING]
        gone, rest = await self._free(leaving)
        of_staged = sum([bool(blob.get("forgotten")) for blob in gone])
        claimed = len(forgotten) + len(whole) - len(used)
        return len(gone) - of_staged, of_staged, rest or claimed > 0 or len(found) == limit

    async def _go(self, shape: Shape) -> None:
        await self._database.update([Change(shape, {"$set": {"going": True}}, many=True)])

    async def _unused_emails(self, owners: Mapping[str, str]) -> list[str]:
        by_account: dict[str, list[str]] = {}
        for email, account in owners.items():
            by_account.setdefault(account, []).append(email)
        accounts = list(by_account)
        used: set[str] = set()
        for start in range(0, len(accounts), ACCOUNTS_AT_ONCE):
            asked = {account: by_account[account] for account in accounts[start : start + ACCOUNTS_AT_ONCE]}

            def shape(names: Collection[str], limit: int) -> Shape:
                kept = {account: [one for one in of if one in names] for account, of in asked.items()}  # noqa: B023
                return queries.entries_of_emails({account: of for account, of in kept.items() if of}, limit)

            used |= await self._used({email for names in asked.values() for email in names}, shape, "email")
        return [email for email in owners if email not in used]

    async def _used_blobs(self, names: Sequence[str]) -> set[str]:
        used = await self._used(set(names), _emails_of, "blob")
        return used | await self._used(set(names) - used, _spool_of, "blob")

    async def _used(self, names: Set[str], shape: Callable[[Collection[str], int], Shape], field: str) -> set[str]:
        """Those of the names that something names. A message to thousands has thousands that name its blob: so no
        answer is longer than NAMED_MAX, and what it leaves open is asked for again."""
        used: set[str] = set()
        while open_ := names - used:
            answer = await self._database.find(shape(open_, NAMED_MAX))
            used.update(one[field] for one in answer)
            if len(answer) < NAMED_MAX:
                break
        return used

    async def _claim(self, blobs: Sequence[Document], more: Mapping[str, Any]) -> None:
        """Let blobs leave, unless one was named since it was read."""
        changes = []
        for blob in blobs:
            id, size = blob["_id"], blob["size"]
            if size == PARTIAL:
                shape = queries.blob_half_written(id, PARTIAL, blob["staged"])
                chunks, octets = blob["chunks"], blob["chunks"] * CHUNK
            else:
                shape = queries.blob_unnamed_since(id, size, blob.get("named"))
                chunks, octets = count(size), size
            leave = {"size": LEAVING, "staged": 0.0, "chunks": chunks, "octets": octets, **more}
            changes.append(Change(shape, {"$set": leave}))
        await self._database.update(changes)

    async def _look_later(self, blobs: Sequence[Document]) -> None:
        now = self._database.now()
        changes = []
        for blob in blobs:
            looks = blob.get("looks", 0)
            later = {"staged": now + LOOK * 2 ** min(looks, LOOKS_MAX), "looks": looks + 1}
            changes.append(Change(queries.blob_looked_at(blob["_id"], blob["staged"]), {"$set": later}))
        await self._database.update(changes)

    async def _free(self, blobs: Sequence[Document]) -> tuple[list[Document], bool]:
        """Delete leaving blobs, a bounded number of octets at a time: (those that went, whether some are left). Chunks
        first, then texts, then the blob that tells of them."""
        gone: list[Document] = []
        room = SWEEP_CHUNKS * CHUNK
        for blob in blobs:
            if _octets(blob) > room:
                break
            room -= _octets(blob)
            gone.append(blob)
        chunks = [chunk_id(blob["_id"], n) for blob in gone for n in range(blob["chunks"])]
        await self._delete(queries.chunks, chunks)
        await self._delete(queries.texts, texts.ids_of([(blob["_id"], blob.get("more", 0)) for blob in gone]))
        await self._delete(lambda names: queries.blobs_leaving(names, LEAVING), [blob["_id"] for blob in gone])
        if len(gone) == len(blobs):
            return gone, False
        await self._shorten(blobs[len(gone)], room // CHUNK)
        return gone, True

    async def _shorten(self, blob: Document, room: int) -> None:
        """Delete the last chunks of a leaving blob."""
        left = max(blob["chunks"] - room, 0)
        await self._delete(queries.chunks, [chunk_id(blob["_id"], n) for n in range(left, blob["chunks"])])
        await self._database.update(
            [Change(queries.blob_sized(blob["_id"], LEAVING), {"$set": {"chunks": left, "octets": left * CHUNK}})]
        )

    async def _delete(self, shape: Callable[[Sequence[str]], Shape], names: Sequence[str]) -> None:
        for start in range(0, len(names), queries.NAMES):
            await self._database.delete(shape(names[start : start + queries.NAMES]))


def _emails_of(names: Collection[str], limit: int) -> Shape:
    return queries.emails_of_blobs(list(names), limit)


def _spool_of(names: Collection[str], limit: int) -> Shape:
    return spool_queries.spool_of_blobs(list(names), limit)


def _octets(blob: Document) -> int:
    """What is left of a leaving blob."""
    octets: int = blob["octets"]
    return octets
