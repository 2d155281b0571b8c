"""Changes that end connections: told in one order to all processes, and never lost.

A change of an account commits with its news in it, in the account's own document (``news``, by the revision that made
each, and ``untold``, the newest of these). Whoever made the change publishes the news after it, in order; what a
process left that died is published by the next change of that account that is news, and by the upkeep of any process.
A token family that is ended by itself (revoked, or refreshed twice) is marked ``ended`` first, told, and then deleted.

A published change is a document whose _id is its number: one more than the last one's, inserted, and tried again when
another process was faster. So the numbers are rising without gaps, and none appears below one that was seen. Each names
its item (account and revision, or family) under a unique index: published twice, it is there once.

Who waits for changes is woken by a change stream where the server has them, else by asking for the last number a few
times a second, in one task of the process and only while somebody waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import structlog

from identity.adapters.mongo import queries
from identity.adapters.mongo.database import Database, Race
from identity.adapters.mongo.documents import change_of
from identity.limits import CHANGES_AT_ONCE, HISTORY
from identity.model import ChangeKind, Changes
from identity.port import Unavailable
from runtime.clock import Clock
from runtime.mongo import Document

log = structlog.get_logger("identity")

POLL_SECONDS: Final = 0.1
"""How often the last number is asked for, where there are no change streams and somebody waits."""
STREAM_AGAIN_SECONDS: Final = 5.0
"""How long a process polls when its change stream ended, before it opens another."""
TRIM_EVERY: Final = 100
"""Changes between two looks at how many there are."""
TRIM_AFTER_SECONDS: Final = 3600.0
"""How long each change is kept at least: longer than any process can stand still between asking for the last number and
using it, lest a number be used again."""
_TRIMMED = 1000
# The first change is 2, so that no position that a reader can stand at is 0, which asks for "from now".
_BEFORE_FIRST = 1


def item(
    kind: ChangeKind,
    revoked: tuple[str, ...] = (),
    *,
    credential: str | None = None,
    below: int | None = None,
    name: str | None = None,
) -> dict[str, Any]:
    """News as it stands in an account's document. credential: the token families that began with it end too, and are
    told; None with `below`: all families issued under a lower version end. name: one whose usual devices are gone."""
    return {"kind": kind.value, "revoked": list(revoked), "credential": credential, "below": below, "name": name}


class News:
    """See the module."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._event = asyncio.Event()
        self._waiting = 0
        self._watcher: asyncio.Task[None] | None = None
        self._seen = 0
        self._closed = False

    # -- telling

    async def publish(self, account: str) -> None:
        """Publish what the account's document holds, oldest first."""
        document = await self._database.first(queries.by_id(account))
        if document is None or "untold" not in document:
            return
        news: Mapping[str, Any] = document.get("news", {})
        for rev in sorted(news, key=int):
            await self._publish(account, rev, news[rev])
        # Newer news are published, and taken away, by whoever added them.
        await self._database.update(
            queries.untold_until(account, document["untold"]), {"$unset": {"news": "", "untold": ""}}
        )

    async def publish_soon(self, account: str) -> None:
        """As `publish`, for a change that is made already: where it cannot be now, the upkeep does it."""
        try:
            await self.publish(account)
        except Unavailable as error:
            log.warning("news of an account waits", account=account, reason=str(error))

    async def _publish(self, account: str, rev: str, news: Mapping[str, Any]) -> None:
        kind = ChangeKind(news["kind"])
        ended = [family["_id"] for family in await self._families(account, kind, news)]
        revoked = list(news["revoked"])
        if revoked:
            revoked += [f"token:{family}" for family in ended]
        await self.tell(f"{account}:{rev}", account, kind, revoked)
        if ended:
            await self._database.delete(queries.families(ended))
        if news["name"] is not None:
            await self._database.delete(queries.devices_of(news["name"]))

    async def _families(self, account: str, kind: ChangeKind, news: Mapping[str, Any]) -> list[Document]:
        """The token families that the change ended."""
        credential, below = news["credential"], news["below"]
        if credential is None and below is None and kind is not ChangeKind.REMOVED:
            return []
        found = await self._database.find(queries.families_of(account))
        if credential is not None:
            found = [family for family in found if family["credential"] == credential]
            return [family for family in found if below is None or family["since"] < below]
        return [family for family in found if below is None or family["issued"] < below]

    async def tell(self, item: str, account: str, kind: ChangeKind, revoked: list[str]) -> None:
        """Publish one change, unless it is already."""
        race = Race()
        while True:
            seq = await self._last() + 1
            change = {
                "_id": seq,
                "item": item,
                "account": account,
                "kind": kind.value,
                "revoked": revoked,
                "at": self._clock.now(),
            }
            if not await self._database.insert(queries.CHANGES, [change]):
                break
            if await self._database.first(queries.change_of(item)) is not None:
                return
            await race.lost()
        self.wake()
        if seq % TRIM_EVERY == 0:
            await self.trim(seq)

    async def trim(self, seq: int) -> None:
        """Forget changes that are more than HISTORY before this one, and old."""
        old = await self._database.find(
            queries.old_changes(seq - HISTORY, self._clock.now() - TRIM_AFTER_SECONDS, _TRIMMED)
        )
        if old:
            await self._database.delete(queries.changes([change["_id"] for change in old]))

    # -- asking

    async def since(self, seq: int, wait: float) -> Changes:
        """See `identity.port`: wait is bounded already."""
        deadline = asyncio.get_running_loop().time() + wait
        changes = await self._since(seq)
        if seq <= 0 or changes.changes or changes.reset or wait <= 0 or self._closed:
            return changes
        with self._watching():
            while True:
                # Taken before the look, so that what is told after it is heard.
                event = self._event
                if self._watcher is None:
                    self._watcher = asyncio.create_task(self._watch(), name="identity news")
                changes = await self._since(seq)
                left = deadline - asyncio.get_running_loop().time()
                if changes.changes or changes.reset or left <= 0 or self._closed:
                    return changes
                try:
                    await asyncio.wait_for(event.wait(), left)
                except TimeoutError:
                    return changes

    async def _since(self, seq: int) -> Changes:
        if seq <= 0:
            return Changes(await self._last(), ())
        while True:
            found = await self._database.find(queries.changes_after(seq, CHANGES_AT_ONCE))
            if found and found[0]["_id"] == seq + 1:
                return Changes(found[-1]["_id"], tuple(change_of(change) for change in found))
            present = await self._last()
            if found or seq > present:
                # Older than the history, or of another store (one put back from a copy).
                return Changes(present, (), reset=True)
            if seq == present:
                return Changes(seq, ())

    async def _last(self) -> int:
        last = await self._database.first(queries.last_change())
        return _BEFORE_FIRST if last is None else int(last["_id"])

    # -- waking

    def wake(self) -> None:
        """Let those who wait look again."""
        event, self._event = self._event, asyncio.Event()
        event.set()

    @contextmanager
    def _watching(self) -> Iterator[None]:
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    async def _watch(self) -> None:
        """Wake those who wait, as long as there are any."""
        try:
            while self._waiting:
                if self._database.has_streams:
                    try:
                        await self._listen()
                        continue
                    except Unavailable as error:
                        log.warning("change stream ended", reason=str(error))
                await self._poll(STREAM_AGAIN_SECONDS)
        except Exception:
            log.exception("watching for changes")
            await asyncio.sleep(STREAM_AGAIN_SECONDS)
        finally:
            self._watcher = None
            # Who still waits looks again, and starts another.
            self.wake()

    async def _listen(self) -> None:
        async with self._database.inserts(queries.CHANGES) as next_insert:
            # What was told before the stream began is not in it.
            self.wake()
            while self._waiting:
                if await next_insert():
                    self.wake()

    async def _poll(self, seconds: float) -> None:
        until = asyncio.get_running_loop().time() + seconds
        while self._waiting and asyncio.get_running_loop().time() < until:
            try:
                last = await self._last()
            except Unavailable:
                # Who waits is told by the end of the wait; the server may be back before.
                last = self._seen
            if last != self._seen:
                self._seen = last
                self.wake()
            await asyncio.sleep(POLL_SECONDS)

    async def close(self) -> None:
        """Let those who wait go."""
        self._closed = True
        self.wake()
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
