"""Counts of rates, and bans: a document each. The process that makes a ban tells the others by one more revision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from identity import guesspolicy
from identity.adapters.mongo import queries
from identity.adapters.mongo.base import Base
from identity.adapters.mongo.database import Race
from identity.adapters.mongo.queries import Shape
from identity.limiting import bans, rates
from identity.limits import MAX_RATE_COUNTS
from identity.model import Ban, BannedBy, BanNews, NewBan, RateCharge, RateCount
from identity.port import Reason, Refused
from runtime.mongo import Document

SWEPT: Final = 1000
"""Documents deleted in one command."""
_EVER: Final = 1e18


class Limiting(Base):
    """charge, ban, bans, lift_ban, bans_since, hit_bans, signed_in_from."""

    async def charge(self, charges: Sequence[RateCharge]) -> tuple[RateCount, ...]:
        rates.check(charges)
        if not charges:
            return ()
        more: dict[str, int] = {}
        for one in charges:
            id = _count_id(one, one.slot)
            more[id] = more.get(id, 0) + one.amount
        others = [_count_id(one, one.slot - 1) for one in charges]
        found = await self._database.find(queries.counts([*more, *others]))
        # What others add from here on is told with the next charge of the key.
        known = {one["_id"]: int(one["amount"]) for one in found}
        await self._add(more, known, charges)
        return tuple(
            RateCount(
                known.get(_count_id(one, one.slot - 1), 0),
                known.get(_count_id(one, one.slot), 0) + more[_count_id(one, one.slot)],
            )
            for one in charges
        )

    async def _add(self, more: Mapping[str, int], known: Mapping[str, int], charges: Sequence[RateCharge]) -> None:
        over = {_count_id(one, one.slot): rates.over_at(one.window, one.slot) for one in charges}
        there = [id for id in more if id in known]
        new = [id for id in more if id not in known]
        if new:
            lost = await self._database.insert(
                queries.COUNTS, [{"_id": id, "amount": more[id], "over_at": over[id]} for id in new]
            )
            # Another process made them meanwhile.
            there += [new[at] for at in lost]
        if there:
            changes: list[tuple[Shape, Document]] = [
                (queries.count(id), {"$inc": {"amount": more[id]}}) for id in there
            ]
            await self._database.update_each(changes)

    async def ban(self, new: NewBan) -> Ban:
        target = bans.checked(new, self._settings.trusted_networks)
        race = Race()
        while True:
            now = self._clock.now()
            document = await self._database.first(queries.ban_of(target))
            former = None if document is None else _ban_of(document)
            ban = bans.made(new, target, former, now)
            if ban is former:
                return ban
            if former is None:
                await self._make_room()
                if not await self._database.insert(queries.BANS, [{"_id": target, **_values(ban)}]):
                    break
            elif await self._database.update(queries.ban_as(target, former.id), {"$set": _values(ban)}):
                break
            await race.lost()
        await self._tell_bans()
        return ban

    async def bans(self) -> tuple[Ban, ...]:
        found = await self._database.find(queries.bans_after(self._clock.now()))
        return tuple(sorted(map(_ban_of, found), key=lambda ban: (ban.since, ban.id), reverse=True))

    async def lift_ban(self, id: str) -> None:
        document = await self._database.first(queries.ban(id)) if id.isascii() else None
        if document is None or not bans.in_force(_ban_of(document), self._clock.now()):
            raise Refused(Reason.NO_SUCH_BAN)
        if not await self._database.delete(queries.ban(id)):
            raise Refused(Reason.NO_SUCH_BAN)
        await self._tell_bans()

    async def bans_since(self, revision: str) -> BanNews:
        # Before the bans are read, so that a change meanwhile is told the next time.
        document = await self._database.first(queries.bans_state())
        present = "0" if document is None else str(document["rev"])
        return BanNews(present, None if revision == present else await self.bans())

    async def hit_bans(self, hits: Mapping[str, int]) -> None:
        bans.check_hits(hits)
        changes: list[tuple[Shape, Document]] = [
            (queries.ban(id), {"$inc": {"hits": more}}) for id, more in hits.items() if id.isascii()
        ]
        if changes:
            await self._database.update_each(changes)

    async def signed_in_from(self, address: str) -> bool:
        place = guesspolicy.place(address)
        since = self._clock.now() - guesspolicy.USUAL_SECONDS
        return await self._database.first(queries.devices_at(place, since)) is not None

    async def sweep_limits(self, now: float) -> bool:
        """Drop some of the counts and bans that are of no more use. False when nothing is left to drop."""
        over = await self._database.count(queries.COUNTS) - MAX_RATE_COUNTS
        shape = queries.counts_over(_EVER, min(over, SWEPT)) if over > 0 else queries.counts_over(now, SWEPT)
        counts = [one["_id"] for one in await self._database.find(shape)]
        if counts:
            await self._database.delete(queries.counts(counts))
        old = [
            one["id"] for one in await self._database.find(queries.bans_before(now - bans.REMEMBERED_SECONDS, SWEPT))
        ]
        for id in old:
            await self._database.delete(queries.ban(id))
        return bool(counts or old)

    async def _make_room(self) -> None:
        if await self._database.count(queries.BANS) < bans.MAX_BANS:
            return
        soonest = await self._database.first(queries.bans_by(BannedBy.RULE.value))
        if soonest is None:
            raise Refused(Reason.LIMIT, f"there are {bans.MAX_BANS} bans already")
        await self._database.delete(queries.ban(soonest["id"]))

    async def _tell_bans(self) -> None:
        """A process that dies before this has made a ban that the others learn of with their next full look."""
        race = Race()
        while not await self._database.update(queries.bans_state(), {"$inc": {"rev": 1}}):
            if not await self._database.insert(queries.STATE, [{"_id": queries.BANNED, "rev": 1}]):
                return
            await race.lost()


def _count_id(charge: RateCharge, slot: int) -> str:
    return f"{charge.key}|{charge.window}|{slot}"


def _values(ban: Ban) -> Document:
    return {
        "id": ban.id,
        "reason": ban.reason,
        "since": ban.since,
        "ends": bans.end(ban),
        "by": ban.by.value,
        "hits": ban.hits,
        "times": ban.times,
    }


def _ban_of(document: Document) -> Ban:
    ends = document["ends"]
    return Ban(
        document["id"],
        document["_id"],
        document["reason"],
        document["since"],
        None if ends >= bans.EVER else ends,
        BannedBy(document["by"]),
        document["hits"],
        document["times"],
    )
