"""Counts of rates, and bans, in identity.db."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from identity import guesspolicy
from identity.adapters.sqlite.base import Base
from identity.limiting import bans, rates
from identity.limits import MAX_RATE_COUNTS
from identity.model import Ban, BannedBy, BanNews, NewBan, RateCharge, RateCount
from identity.port import Reason, Refused
from runtime.ids import new_id

_BAN = "id, target, reason, since, ends, made_by, hits, times"
_SWEPT = 50
# Calls between two looks at how many counts there are.
_LOOKED = 256


class Limiting(Base):
    """charge, ban, bans, lift_ban, bans_since, hit_bans, signed_in_from."""

    # This process alone writes them, so what it remembers of a change is enough.
    _bans_at: str = ""
    _charges: int = 0

    async def charge(self, charges: Sequence[RateCharge]) -> tuple[RateCount, ...]:
        rates.check(charges)
        if not charges:
            return ()
        self._charges += 1
        full = self._charges % _LOOKED == 0
        now = self._clock.now()
        return await self._write(lambda c: _charge(c, charges, now, full=full))

    async def ban(self, new: NewBan) -> Ban:
        target = bans.checked(new, self._settings.trusted_networks)
        now = self._clock.now()
        try:
            return await self._write(lambda c: _ban(c, new, target, now))
        finally:
            self._bans_at = new_id()

    async def bans(self) -> tuple[Ban, ...]:
        now = self._clock.now()
        return await self._read(
            lambda c: tuple(
                _ban_of(row)
                for row in c.execute(f"SELECT {_BAN} FROM ban WHERE ends > ? ORDER BY since DESC, id DESC", (now,))
            )
        )

    async def lift_ban(self, id: str) -> None:
        now = self._clock.now()
        try:
            lifted = await self._write(
                lambda c: c.execute("DELETE FROM ban WHERE id = ? AND ends > ?", (id, now)).rowcount
            )
        finally:
            self._bans_at = new_id()
        if not lifted:
            raise Refused(Reason.NO_SUCH_BAN)

    async def bans_since(self, revision: str) -> BanNews:
        # Taken before they are read, so that a change meanwhile is told the next time.
        self._bans_at = present = self._bans_at or new_id()
        return BanNews(present, None if revision == present else await self.bans())

    async def hit_bans(self, hits: Mapping[str, int]) -> None:
        bans.check_hits(hits)
        if hits:
            rows = [(more, id) for id, more in hits.items()]
            await self._write(lambda c: c.executemany("UPDATE ban SET hits = hits + ? WHERE id = ?", rows).rowcount)

    async def signed_in_from(self, address: str) -> bool:
        place = guesspolicy.place(address)
        since = self._clock.now() - guesspolicy.USUAL_SECONDS
        found = await self._read(
            lambda c: c.execute(
                "SELECT 1 FROM usual_device WHERE place = ? AND seen_at > ? LIMIT 1", (place, since)
            ).fetchone()
        )
        return found is not None


def _charge(
    connection: sqlite3.Connection, charges: Sequence[RateCharge], now: float, *, full: bool
) -> tuple[RateCount, ...]:
    counts = []
    for one in charges:
        (present,) = connection.execute(
            "INSERT INTO rate_count (key, window, slot, amount, over_at) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (key, window, slot) DO UPDATE SET amount = amount + excluded.amount RETURNING amount",
            (one.key, one.window, one.slot, one.amount, rates.over_at(one.window, one.slot)),
        ).fetchone()
        before = connection.execute(
            "SELECT amount FROM rate_count WHERE key = ? AND window = ? AND slot = ?",
            (one.key, one.window, one.slot - 1),
        ).fetchone()
        counts.append(RateCount(0 if before is None else before[0], present))
    connection.execute(
        "DELETE FROM rate_count WHERE (key, window, slot) IN"
        " (SELECT key, window, slot FROM rate_count WHERE over_at <= ? ORDER BY over_at LIMIT ?)",
        (now, _SWEPT + 2 * len(charges)),
    )
    if full:
        connection.execute(
            "DELETE FROM rate_count WHERE (key, window, slot) IN"
            " (SELECT key, window, slot FROM rate_count ORDER BY over_at DESC LIMIT -1 OFFSET ?)",
            (MAX_RATE_COUNTS,),
        )
    return tuple(counts)


def _ban(connection: sqlite3.Connection, new: NewBan, target: str, now: float) -> Ban:
    connection.execute("DELETE FROM ban WHERE ends <= ?", (now - bans.REMEMBERED_SECONDS,))
    row = connection.execute(f"SELECT {_BAN} FROM ban WHERE target = ?", (target,)).fetchone()
    former = None if row is None else _ban_of(row)
    ban = bans.made(new, target, former, now)
    if ban is former:
        return ban
    if former is None:
        _make_room(connection)
    connection.execute("DELETE FROM ban WHERE target = ?", (target,))
    connection.execute(
        f"INSERT INTO ban ({_BAN}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (ban.id, target, ban.reason, ban.since, bans.end(ban), ban.by.value, ban.hits, ban.times),
    )
    return ban


def _make_room(connection: sqlite3.Connection) -> None:
    (count,) = connection.execute("SELECT count(*) FROM ban").fetchone()
    if count < bans.MAX_BANS:
        return
    gone = connection.execute(
        "DELETE FROM ban WHERE id = (SELECT id FROM ban WHERE made_by = ? ORDER BY ends LIMIT 1)",
        (BannedBy.RULE.value,),
    ).rowcount
    if not gone:
        raise Refused(Reason.LIMIT, f"there are {bans.MAX_BANS} bans already")


def _ban_of(row: tuple[Any, ...]) -> Ban:
    id, target, reason, since, ends, by, hits, times = row
    return Ban(id, target, reason, since, None if ends >= bans.EVER else ends, BannedBy(by), hits, times)
