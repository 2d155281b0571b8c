"""What a runner has in hand: claimed items, whose leases are kept running until their ends are durable."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import structlog

from storage.model import Claimed, SpoolItem
from storage.port import Refused, Storage, Unavailable

TEXTS_MAX = 16 * 1024 * 1024
"""Octets of the messages in hand that are kept as they came with their claims; others are read at their turn."""
EXTEND_MAX = 500
"""Leases that one call extends."""

log = structlog.get_logger("outbound")


@dataclass(slots=True, eq=False)
class Hand:
    """A claimed item. fresh_until: its lease surely runs until then, in monotonic seconds. task: what is done with it.
    sending: a transport has it. ending: the end of the claim is on its way to storage. again: it was claimed anew since
    then, by a call that was made at that time. lost: its lease is another's. head: its signatures where they are made
    before its turn comes; None when that has failed."""

    claimed: Claimed
    fresh_until: float
    task: asyncio.Task[None] | None = None
    sending: bool = False
    ending: bool = False
    again: tuple[Claimed, float] | None = None
    lost: bool = False
    head: asyncio.Future[bytes | None] | None = None

    @property
    def item(self) -> SpoolItem:
        return self.claimed.item


class Hands:
    """All of them, by item."""

    def __init__(self, storage: Storage, lease: float) -> None:
        self._storage = storage
        self._all: dict[str, Hand] = {}
        self._octets = 0
        self.lease = lease

    def __len__(self) -> int:
        return len(self._all)

    def take(self, claimed: Claimed, asked_at: float) -> Hand | None:
        """One more, claimed by a call that was made then. None for one that is in hand already. Either its lease had
        run out: what is being done with it goes on under the new one. Or its claim has just been ended, and the news of
        the new one has overtaken that of the end: then it is the hand's ``again``."""
        found = self._all.get(claimed.item.id)
        if found is not None:
            if found.ending:
                found.again = claimed, asked_at
            else:
                self.renew(found, claimed, asked_at)
            return None
        if claimed.text is not None and self._octets + len(claimed.text) > TEXTS_MAX:
            claimed = Claimed(claimed.item, claimed.lease)
        self._octets += len(claimed.text or b"")
        hand = self._all[claimed.item.id] = Hand(claimed, asked_at + self.lease)
        return hand

    def renew(self, hand: Hand, claimed: Claimed, asked_at: float) -> None:
        """What is done with it goes on under this claim's lease."""
        hand.claimed = Claimed(hand.item, claimed.lease, hand.claimed.text)
        hand.fresh_until = asked_at + self.lease
        hand.lost = False

    async def ours(self, hand: Hand, now: float) -> bool:
        """Is it this runner's to send? Storage is asked where its lease may have run out while it waited for its turn.
        Raises storage's errors."""
        if hand.lost or now < hand.fresh_until:
            return not hand.lost
        lease = hand.claimed.lease
        if hand.item.id in await self._storage.extend({hand.item.id: lease}, self.lease):
            hand.fresh_until = now + self.lease
            return True
        # Unless it has been claimed anew by this process meanwhile.
        hand.lost = hand.claimed.lease == lease
        return not hand.lost

    def drop(self, hand: Hand) -> None:
        """Its claim has ended."""
        if self._all.pop(hand.item.id, None) is not None:
            self._octets -= len(hand.claimed.text or b"")

    def __iter__(self) -> Iterator[Hand]:
        return iter(tuple(self._all.values()))

    async def extend(self, now: float) -> tuple[Hand, ...]:
        """Let the leases run on that have lost a third of their time; those that are no longer ours are returned, and
        their attempts are to be broken off. Storage that is away is asked again at the next call."""
        late = now + self.lease * 2 / 3
        due = [hand for hand in self if hand.fresh_until < late and not hand.lost and hand.again is None]
        lost: list[Hand] = []
        for start in range(0, len(due), EXTEND_MAX):
            some = due[start : start + EXTEND_MAX]
            leases = {hand.item.id: hand.claimed.lease for hand in some}
            try:
                kept = await self._storage.extend(leases, self.lease)
            except Unavailable:
                break
            except Refused as error:
                log.warning("leases were not extended", reason=error.text)
                break
            for hand in some:
                if hand.item.id in kept:
                    hand.fresh_until = now + self.lease
                elif hand.ending or hand.claimed.lease != leases[hand.item.id]:
                    # Its end tells what came of it; or it has been claimed anew by this process meanwhile.
                    continue
                elif self._all.get(hand.item.id) is hand:
                    hand.lost = True
                    lost.append(hand)
        return tuple(lost)
