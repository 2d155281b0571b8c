"""News of accounts, whoever changed them: this process at once; others by a change stream where the server has them,
else by asking, while anybody waits, for the modseqs of the accounts that are waited for."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Mapping
from time import monotonic
from typing import Any, Final

import structlog
from pymongo.errors import OperationFailure

from runtime.mongo import MongoUnavailable, told_unavailable
from storage.adapters.mongo import queries
from storage.adapters.mongo.database import Database
from storage.hub import Hub
from storage.limits import WATCH_MAX
from storage.port import Unavailable

POLL: Final = 0.1
"""Seconds between two questions."""
PAUSE: Final = 1.0
"""Seconds until the next question, while the server cannot be had."""
POLLED: Final = 1_000
"""Accounts in one question."""
AWAIT_MILLISECONDS: Final = 1_000
"""How long the server waits for a change before it answers that there is none."""
FELL_BEHIND: Final = (136, 280, 286)
"""CappedPositionLost, ChangeStreamFatalError, ChangeStreamHistoryLost: the oplog does not reach back to where the
stream was. A new one begins now, after a look at what happened until then."""
RETRY: Final = 30.0
"""Seconds for which the modseqs are asked for instead, after a change stream broke off or could not be had."""

log = structlog.get_logger("storage")


class Watch:
    def __init__(self, database: Database, hub: Hub) -> None:
        self._database = database
        self._hub = hub
        self._waited_for: Counter[str] = Counter()
        self._listening: asyncio.Task[None] | None = None
        self._closed = False

    async def wait(self, accounts: Mapping[str, int], seconds: float) -> dict[str, int]:
        """``Storage.watch``."""
        if self._closed:
            raise Unavailable("the store is closed")
        self._waited_for.update(list(accounts))
        try:
            # Listening begins before the look, so that nothing falls in between.
            if self._listening is None and seconds > 0:
                self._listening = asyncio.create_task(self._listen(), name="storage watch")
            self._hub.learn(accounts, await self._look(list(accounts)))
            return await self._hub.wait(accounts, min(seconds, WATCH_MAX))
        finally:
            self._waited_for.subtract(list(accounts))
            for account in accounts:
                if not self._waited_for[account]:
                    del self._waited_for[account]

    async def close(self) -> None:
        self._closed = True
        self._hub.close()
        task, self._listening = self._listening, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _look(self, accounts: list[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        for start in range(0, len(accounts), POLLED):
            shape = queries.modseqs(accounts[start : start + POLLED])
            found.update({doc["_id"]: doc["modseq"] for doc in await self._database.find(shape)})
        return found

    async def _listen(self) -> None:
        streams = self._database.mongo.replica_set
        while True:
            try:
                if streams:
                    await self._stream()
            except (MongoUnavailable, Unavailable) as error:
                log.warning("the change stream broke off", reason=str(error))
            except OperationFailure as error:
                if error.code not in FELL_BEHIND:
                    log.exception("the change stream failed")
                else:
                    log.warning("the change stream fell off the oplog", reason=str(error))
            except Exception:
                log.exception("the change stream failed")
            await self._poll(RETRY)

    async def _poll(self, seconds: float) -> None:
        end = monotonic() + seconds
        while monotonic() < end:
            await asyncio.sleep(POLL)
            if self._waited_for:
                try:
                    self._hub.publish(await self._look(list(self._waited_for)))
                except Unavailable as error:
                    log.warning("news of other processes wait", reason=str(error))
                    await asyncio.sleep(PAUSE)
                except Exception:
                    # Without this task no news of other processes would ever come again.
                    log.exception("looking for news of other processes failed")
                    await asyncio.sleep(PAUSE)

    async def _stream(self) -> None:
        """Follow the changes of all accounts, each of which comes with the account's modseq alone, until the stream is
        closed, as it is when the collection is dropped."""
        steps: list[Mapping[str, Any]] = [
            {"$match": {"operationType": {"$in": ["insert", "update", "replace"]}}},
            {"$project": {"documentKey": 1, "fullDocument.modseq": 1, "updateDescription.updatedFields.modseq": 1}},
        ]
        with told_unavailable(MongoUnavailable):
            accounts = self._database.mongo.database["account"]
            async with await accounts.watch(steps, max_await_time_ms=AWAIT_MILLISECONDS) as stream:
                # What happened before the stream began.
                self._hub.publish(await self._look(list(self._waited_for)))
                # Not "async for": the driver's time for one operation would be that for the next change, however long
                # nothing happens.
                while stream.alive:
                    change = await stream.try_next()
                    if change is not None:
                        self._tell(change)

    def _tell(self, change: Mapping[str, Any]) -> None:
        account = change["documentKey"]["_id"]
        told = change.get("fullDocument") or change.get("updateDescription", {}).get("updatedFields", {})
        if account in self._waited_for and "modseq" in told:
            self._hub.publish({account: told["modseq"]})
