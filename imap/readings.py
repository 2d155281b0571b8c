"""That messages were read, for their traces: noted without anybody's waiting, recorded in the background.

Noted once for each message and session. What was read is found by its Message-ID among the account's traces, and by the
email's id in them; a message that did not come by a delivery of the time that traces are kept has none, and nothing is
recorded of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import structlog

from runtime.backlog import Backlog
from storage import ranges
from storage.model import Event, MailboxRef, Want
from storage.port import Refused, Storage, Unavailable

BUFFER_MAX: Final = 10_000
"""Readings that wait; what comes beyond is not recorded."""
BATCH_MAX: Final = 100
PAUSE_SECONDS: Final = 1.0
TRACES_MAX: Final = 8
"""Traces of one Message-ID among which the message is looked for: its sender's own copy has the same."""

log = structlog.get_logger("imap")


class Reading(NamedTuple):
    """One message that was read. email: its id; at: Unix seconds; client: as it calls itself, or ""."""

    ref: MailboxRef
    uid: int
    email: str
    at: float
    client: str


class Readings(Backlog[Reading]):
    """``dropped`` counts readings that came while the buffer was full."""

    def __init__(self, storage: Storage) -> None:
        super().__init__(self._keep, name="imap readings", most=BUFFER_MAX, batch=BATCH_MAX, pause=PAUSE_SECONDS)
        self._storage = storage

    async def _keep(self, batch: Sequence[Reading]) -> bool:
        try:
            events = [event for ref in {one.ref for one in batch} for event in await self._events(ref, batch)]
            if events:
                await self._storage.record(events)
        except Unavailable:
            return False
        except Exception:
            log.exception("readings not recorded")
        return True

    async def _events(self, ref: MailboxRef, batch: Iterable[Reading]) -> list[Event]:
        mine: dict[int, list[Reading]] = {}
        for one in batch:
            if one.ref == ref:
                mine.setdefault(one.uid, []).append(one)
        try:
            wanted = ranges.union([(uid, uid) for uid in mine])
            page = await self._storage.columns(ref, wanted, Want.KEYS | Want.EMAIL)
        except Refused:
            # The mailbox is gone, and with it who would ask.
            return []
        found: list[Event] = []
        for uid, email, keys in zip(page.uids, page.emails, page.keys, strict=True):
            trace = await self._trace_of(ref.account, email, keys.message_id) if keys.message_id else ""
            for one in mine[uid] if trace else ():
                detail: dict[str, str | int] = {"uid": one.uid, "mailbox": ref.mailbox}
                found.append(
                    Event(trace, one.at, "read", ref.account, detail | ({"client": one.client} if one.client else {}))
                )
        return found

    async def _trace_of(self, account: str, email: str, message_id: str) -> str:
        for found in await self._storage.find_traces(message_id, account, limit=TRACES_MAX):
            for event in await self._storage.trace(found.trace, account):
                if event.kind == "stored" and event.detail.get("email") == email:
                    return found.trace
        return ""
