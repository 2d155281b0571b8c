"""Upkeep: sweep, purge, scrub, reparse; each in bounded steps, and each right whoever else sweeps at the same time."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Final, Protocol

from bson import ObjectId

from runtime.mongo import Document
from storage import ingest
from storage.adapters.mongo import events, ids, metadata, queries, spool_queries
from storage.adapters.mongo.blobs import Blobs, is_id
from storage.adapters.mongo.database import Database
from storage.adapters.mongo.events import Trace
from storage.adapters.mongo.operations import Operations
from storage.adapters.mongo.release import UNSEEN_AGE, Release
from storage.limits import OPERATION_AGE, PURGE_STEPS, SPOOL_RESULT_AGE, SWEEP_ENTRIES
from storage.model import Operation, SweepReport
from storage.rights import check_rights
from storage.search.document import FORM

DEAD_AGE: Final = 5.0
"""Seconds after which what is committed but not carried out everywhere is finished by the sweep."""
SETTLED_SECONDS: Final = 86400.0
"""After which no body comes any more between those of that time: one may have its id long before it is whole, and from
a process of an earlier release, or with another clock."""
MAILBOXES_AT_ONCE: Final = 20
"""Deleted mailboxes that one round looks at."""


class Purges(Protocol):
    async def begin_purge(self, account: str) -> None:
        """Close the account for good."""


class Shares(Protocol):
    async def forget_owner(self, account: str) -> None:
        """Nothing of this account is shared any more."""

    async def forget_grantee(self, account: str) -> None:
        """Nothing is shared with this account any more."""


class Recovery(Protocol):
    async def finish_undone(self, before: float, limit: int) -> int:
        """Finish deliveries and moves that were committed before that time and left unfinished; how many."""

    async def bury(self, account: str, op: str) -> None:
        """See that an operation left behind on an account is finished or can never be committed: what was unseen of it
        before and still is, is nobody's."""

    async def bury_delivery(self, op: str) -> None:
        """The same of a delivery."""


class Spool(Protocol):
    async def upgrade(self, limit: int) -> int:
        """Give items of an earlier release their domain; how many there were."""

    async def finish_undone(self, before: float, limit: int) -> int:
        """Carry out what is left of changes that were committed before that time; how many were."""


class Upkeep:
    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        release: Release,
        trace: Trace,
        accounts: Purges,
        operations: Operations,
        recovery: Recovery,
        spool: Spool,
        shares: Shares,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._release = release
        self._trace = trace
        self._accounts = accounts
        self._operations = operations
        self._recovery = recovery
        self._spool = spool
        self._shares = shares

    # -- purge

    async def purge(self, op: Operation, account: str) -> bool:
        """``Storage.purge_account``."""
        check_rights(op, account)
        known = await self._operations.find(op.id)
        if known is not None:
            return bool(json.loads(known))
        await self._accounts.begin_purge(account)
        await self._shares.forget_owner(account)
        await self._shares.forget_grantee(account)
        left = True
        for _ in range(PURGE_STEPS):
            left = await self._purge_step(account)
            if not left:
                break
        now, nonce = self._database.now(), ObjectId()
        ended = {"_id": op.id, "nonce": nonce, "claim": nonce, "created": now, "accounts": [account]}
        await self._database.insert("event", events.documents(op.events, now, op.id))
        await self._database.insert("operation", [ended | {"outcome": json.dumps(not left)}])
        return not left

    async def _purge_step(self, account: str) -> bool:
        """False when nothing was left. What a writer has just inserted unseen, and can commit no more, is left to the
        sweep: its parents may come after it, and are found by it alone."""
        if await metadata.forget_account(self._database, account):
            return True
        entries = await self._database.find(queries.entries_of_account(account, SWEEP_ENTRIES))
        if entries:
            await self._release.entries(entries)
            return True
        history = await self._database.find(queries.vanished_of_account(account, SWEEP_ENTRIES))
        if history:
            await self._database.delete(queries.vanished_named([account], [one["_id"] for one in history]))
            return True
        return (await self._release.staged(0.0, SWEEP_ENTRIES))[2]

    # -- sweep

    async def sweep(self, grace: float) -> SweepReport:
        """``Storage.sweep``: one step of each kind."""
        before = self._database.now() - grace
        unseen = self._database.now() - UNSEEN_AGE
        limit = SWEEP_ENTRIES
        full = [await self._recovery.finish_undone(self._database.now() - DEAD_AGE, limit) == limit]
        # Before bodies that nobody names any more go: a report that is still to be delivered may have one.
        full.append(await self._spool.finish_undone(self._database.now() - DEAD_AGE, limit) == limit)
        full.append(await self._spool.upgrade(limit) == limit)
        full.append(await self._bury_spool(unseen, limit))
        full.append(await self._forget_results(limit))
        full.append(await self._bury_history(unseen, limit))
        seen, freed = await self._bury_entries(unseen, limit)
        emails, room = freed, limit - seen
        if room > 0:
            seen, freed = await self._drain_mailboxes(before, room)
            emails, room = emails + freed, room - seen
        if room > 0:
            lost = await self._database.find(queries.entries_expired(before, room))
            emails, room = emails + await self._release.entries(lost), room - len(lost)
        full.append(room <= 0)
        blobs, staged, rest = await self._release.staged(before, limit)
        # While an item waits that long for its report to be accepted, that it was is not forgotten.
        late = await self._database.find(spool_queries.spool_undone(self._database.now() - OPERATION_AGE / 2, 1))
        operations = 0 if late else await self._expire_operations(limit)
        expired = await self._trace.expire(limit)
        full += [rest, operations == limit, expired == limit]
        return SweepReport(emails, blobs, staged, operations, expired, any(full))

    async def _bury_entries(self, before: float, limit: int) -> tuple[int, int]:
        """Free what operations that died had made unseen: (entries looked at, emails that went)."""
        found = await self._database.find(queries.entries_pending(before, limit))
        for account, op in dict.fromkeys((entry["account"], entry["op"]) for entry in found):
            await self._recovery.bury(account, op)
        if not found:
            return 0, 0
        accounts = list(dict.fromkeys(entry["account"] for entry in found))
        nobodys = await self._database.find(queries.entries_still_pending(accounts, [one["_id"] for one in found]))
        return len(found), await self._release.entries(nobodys)

    async def _forget_results(self, limit: int) -> bool:
        """Forget what was kept long enough of ended items; whether there may be more."""
        old = await self._database.find(spool_queries.results_before(self._database.now() - SPOOL_RESULT_AGE, limit))
        if old:
            await self._database.delete(spool_queries.results_named([one["_id"] for one in old]))
        return len(old) == limit

    async def _bury_spool(self, before: float, limit: int) -> bool:
        """The same with items of the spool; whether there may be more."""
        found = await self._database.find(spool_queries.spool_pending(before, limit))
        for op in dict.fromkeys(item["op"] for item in found):
            await self._recovery.bury_delivery(op)
        if found:
            names = [item["_id"] for item in found]
            await self._release.spool(await self._database.find(spool_queries.spool_still_pending(names)))
        return len(found) == limit

    async def _bury_history(self, before: float, limit: int) -> bool:
        """The same with history of expunges that was never committed."""
        found = await self._database.find(queries.vanished_pending(before, limit))
        for account, op in dict.fromkeys((one["account"], one["op"]) for one in found):
            await self._recovery.bury(account, op)
        if found:
            await self._database.delete(queries.vanished_nobodys([one["_id"] for one in found]))
        return len(found) == limit

    async def _drain_mailboxes(self, before: float, limit: int) -> tuple[int, int]:
        """Free messages of mailboxes that were deleted by then: (entries and history taken, emails that went)."""
        seen = freed = 0
        for box in await self._database.find(queries.removed(before, MAILBOXES_AT_ONCE)):
            account, mailbox = box["account"], box["_id"]
            entries = await self._database.find(queries.entries_of_mailbox(account, mailbox, limit - seen))
            freed += await self._release.entries(entries)
            seen += len(entries)
            if seen >= limit:
                break
            history = await self._database.find(queries.vanished_of_mailbox(account, mailbox, limit - seen))
            if history:
                await self._database.delete(queries.vanished_named([account], [one["_id"] for one in history]))
            seen += len(history)
            if seen >= limit:
                break
            await metadata.forget_mailbox(self._database, account, mailbox)
            await self._database.delete(queries.removed_named(mailbox))
            # A mailbox that was empty counts too, so that a round that did something says so.
            seen += 1
            if seen >= limit:
                break
        return seen, freed

    async def _expire_operations(self, limit: int) -> int:
        old = await self._database.find(queries.operations_ended(self._database.now() - OPERATION_AGE, limit))
        if not old:
            return 0
        return await self._database.delete(queries.operations_forgotten([one["_id"] for one in old]))

    # -- scrub and reparse

    async def scrub(self, after: str, limit: int) -> tuple[str, tuple[str, ...]]:
        """``Storage.scrub``."""
        found = await self._listed(after, limit)
        damaged = [blob["_id"] for blob in found if not await self._is_whole(blob)]
        return _last(found, limit), tuple(damaged)

    async def _is_whole(self, blob: Document) -> bool:
        if await self._blobs.is_whole(blob):
            return True
        # It may have been swept while it was read.
        now = await self._database.first(queries.blob(blob["_id"]))
        return now is None or now["size"] < 0

    async def reparse(self, after: str, limit: int) -> str:
        """``Storage.reparse``: a blob at a time, and its text with it, from where it came to before."""
        how = {"version": ingest.VERSION, "form": FORM}
        known = await self._database.first(queries.described())
        done: str = known["through"] if known is not None and known.items() >= how.items() else ""
        found = await self._listed(max(after, done), limit)
        for blob in found:
            if blob["version"] < ingest.VERSION or blob["form"] != FORM:
                await self._blobs.describe(blob)
        # What begins in the middle does not speak of what lies before.
        if found and after <= done:
            through = min(found[-1]["_id"], ids.blob_of(time.time() - SETTLED_SECONDS))
            if known is None:
                await self._database.insert("described", [{"_id": "blob", "through": through, **how}])
            elif through > done:
                await self._database.swap(queries.described(), {"$set": {"through": through, **how}})
        return _last(found, limit)

    async def _listed(self, after: str, limit: int) -> list[Document]:
        return await self._database.find(queries.blobs_after(after if is_id(after) else "", max(1, limit)))


def _last(found: Sequence[Document], limit: int) -> str:
    """The id to go on from; "" after the last page."""
    last: str = found[-1]["_id"] if found and len(found) >= limit else ""
    return last
