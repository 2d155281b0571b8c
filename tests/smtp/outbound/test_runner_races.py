"""News that comes late, or never: what a runner does when storage's answers overtake each other, or it is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from smtp.outbound.hands import Hands
from smtp.outbound.transport import Letter, Result, Unsigned
from storage.model import SYSTEM, Claimed, Operation, Settlement, SpoolAction, SpoolItem
from storage.port import Reason, Refused, Storage, Unavailable
from tests.smtp.outbound.spooled import GREY, MESSAGE, SENT, UNKNOWN, Spooled, opened, same


@pytest.fixture
async def spooled(tmp_path: Path) -> AsyncIterator[Spooled]:
    async with opened(tmp_path) as made:
        yield made


class Through:
    """A storage; a test overrides what is to be late."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def __getattr__(self, name: str) -> Any:
        return getattr(self.storage, name)


async def empty(spooled: Spooled) -> bool:
    return await spooled.waiting() == 0


class LateSettle(Through):
    """The first settlement is durable at once, and its caller hears of it after ``release``."""

    def __init__(self, storage: Storage) -> None:
        super().__init__(storage)
        self.durable, self.release = asyncio.Event(), asyncio.Event()
        self.claimed_anew = asyncio.Event()

    async def settle(self, settlements: Sequence[Settlement]) -> Any:
        outcomes = await self.storage.settle(settlements)
        self.durable.set()
        await self.release.wait()
        return outcomes

    async def claim(self, *asked: Any) -> tuple[Claimed, ...]:
        claimed = await self.storage.claim(*asked)
        if claimed and self.durable.is_set():
            asyncio.get_running_loop().call_soon(self.claimed_anew.set)
        return claimed


@pytest.mark.parametrize("tried", [True, False])
async def test_what_is_claimed_anew_before_the_news_of_its_end_is_sent_at_once(spooled: Spooled, tried: bool) -> None:
    """Without being seen as new it would wait until its lease runs out."""
    storage = LateSettle(spooled.storage)
    outcomes = [GREY, SENT]

    async def script(letter: Letter) -> Result:
        if not tried and not storage.durable.is_set():
            raise Unavailable("the text cannot be read now")
        return same(letter, outcomes.pop(0) if tried else SENT)

    spooled.transport.scripts["remote.example"] = script
    item, trace = await spooled.put("bob@remote.example")
    async with spooled.running(storage=storage), asyncio.timeout(60):
        await storage.durable.wait()
        await spooled.storage.change_spool(Operation("r" * 32, SYSTEM), [item], SpoolAction.RETRY)
        await storage.claimed_anew.wait()
        storage.release.set()
        await spooled.until(lambda: empty(spooled))
    statuses = [event.detail["status"] for event in await spooled.events(trace, "attempt")]
    assert statuses == (["deferred", "sent"] if tried else ["sent"])
    assert not await spooled.events(trace, "unsettled")


class LateClaim(Through):
    """The first lease is over at once; who claims anew hears of it after the first settlement was refused."""

    def __init__(self, storage: Storage) -> None:
        super().__init__(storage)
        self.first = True
        self.claimed_anew, self.refused = asyncio.Event(), asyncio.Event()
        self.reasons: list[Reason] = []

    async def claim(self, limit: int, per_domain: int, lease: float, wait: float, skip: frozenset[str]) -> Any:
        claimed = await self.storage.claim(limit, per_domain, 0.05 if self.first else lease, wait)
        if claimed and not self.first and not self.refused.is_set():
            self.claimed_anew.set()
            await self.refused.wait()
            await asyncio.sleep(0.2)
        self.first = self.first and not claimed
        return claimed

    async def settle(self, settlements: Sequence[Settlement]) -> Any:
        await self.claimed_anew.wait()
        outcomes = await self.storage.settle(settlements)
        self.reasons += [one.reason for one in outcomes if isinstance(one, Refused)]
        self.refused.set()
        return outcomes


async def test_what_was_sent_is_not_sent_again_where_the_news_of_its_new_lease_is_late(spooled: Spooled) -> None:
    storage = LateClaim(spooled.storage)
    _, trace = await spooled.put("bob@remote.example")
    async with spooled.running(storage=storage):
        await spooled.until(lambda: empty(spooled))
    assert storage.reasons == [Reason.NO_SUCH_ITEM]
    assert len(spooled.transport.letters) == 1
    assert [event.detail["status"] for event in await spooled.events(trace, "attempt")] == ["sent"]


async def test_a_lost_attempt_is_told_once_whoever_tells_it(spooled: Spooled) -> None:
    item, trace = await spooled.put("bob@remote.example")
    # A runner that took it and was killed.
    await spooled.storage.claim(1, 1, 0.05)
    spooled.transport.answer("remote.example", GREY, SENT)
    async with spooled.running():
        await spooled.until(lambda: spooled.events(trace, "attempt"))
    await spooled.storage.change_spool(Operation("r" * 32, SYSTEM), [item], SpoolAction.RETRY)
    async with spooled.running():
        await spooled.until(lambda: empty(spooled))
    assert len(await spooled.events(trace, "unsettled")) == 1


def _claimed(lease: str) -> Claimed:
    return Claimed(SpoolItem("i", "t", None, "", "d.example", (), 1, 0.0, 0.0), lease)


@pytest.mark.parametrize("ending", [False, True])
async def test_a_lease_that_was_renewed_while_it_was_asked_for_is_not_lost(ending: bool) -> None:
    class Extends:
        async def extend(self, leases: Any, lease: float) -> frozenset[str]:
            assert hand is not None
            if ending:
                hand.ending = True
            else:
                hands.take(_claimed("new"), 200.0)
            return frozenset()

    hands = Hands(Extends(), 120.0)  # type: ignore[arg-type]  # one call of the port
    hand = hands.take(_claimed("old"), 0.0)
    assert hand is not None
    assert await hands.extend(100.0) == ()
    assert not hand.lost
    assert hand.claimed.lease == ("old" if ending else "new")


async def test_what_was_lost_and_is_claimed_anew_is_lost_no_more() -> None:
    class Extends:
        async def extend(self, leases: Any, lease: float) -> frozenset[str]:
            return frozenset()

    hands = Hands(Extends(), 120.0)  # type: ignore[arg-type]  # one call of the port
    hand = hands.take(_claimed("old"), 0.0)
    assert hand is not None
    assert await hands.extend(100.0) == (hand,)
    hands.take(_claimed("new"), 200.0)
    assert not hand.lost


class ShortLeases(Through):
    """Leases of the second claim and of later ones are over at once, and who has them does not know. taken: nothing is
    left to claim."""

    short = taken = False

    async def claim(self, limit: int, per_domain: int, lease: float, wait: float, skip: frozenset[str]) -> Any:
        if self.taken:
            await asyncio.sleep(wait)
            return ()
        claimed = await self.storage.claim(limit, per_domain, 0.05 if self.short else lease, wait, skip)
        # Before the next claim begins: one that waits already would have a long lease.
        self.short = self.short or bool(claimed)
        return claimed


@pytest.mark.parametrize("told", [True, False])
async def test_what_another_process_has_taken_over_is_not_sent_at_its_turn(spooled: Spooled, told: bool) -> None:
    """told: the runner has asked for more time, and heard that the lease is another's. Else it is the time that has
    passed by which it has to ask."""
    storage = ShortLeases(spooled.storage)
    going, release = asyncio.Event(), asyncio.Event()

    async def script(letter: Letter) -> Result:
        going.set()
        await release.wait()
        return same(letter, SENT)

    spooled.transport.scripts["remote.example"] = script
    first, _ = await spooled.put("bob@remote.example")
    async with spooled.running(storage=storage, per_destination=1) as runner, asyncio.timeout(60):
        await going.wait()
        second, _ = await spooled.put("bob@remote.example")

        async def both() -> bool:
            return runner.in_hand == 2

        async def none() -> bool:
            return runner.in_hand == 0

        await spooled.until(both)
        # Else the runner might be the first to claim it again, each time that its lease is over.
        storage.taken = True
        (taken,) = await spooled.until(lambda: spooled.storage.claim(1, 1, 600.0))
        assert taken.item.id == second
        if told:
            assert [hand.item.id for hand in await runner._hands.extend(runner._clock.monotonic() + 1e6)] == [second]
        for hand in runner._hands:
            hand.fresh_until = hand.fresh_until if told or hand.item.id == first else 0.0
        release.set()
        await spooled.until(none)
        assert [letter.item for letter in spooled.transport.letters] == [first]
        assert await spooled.storage.extend({second: taken.lease}, 600.0) == {second}


async def test_memory_for_messages_being_sent_is_bounded(spooled: Spooled) -> None:
    going, most, stuck = 0, 0, asyncio.Event()

    async def script(letter: Letter) -> Result:
        nonlocal going, most
        going += 1
        most = max(most, going)
        await asyncio.wait_for(stuck.wait(), 60)
        going -= 1
        return same(letter, SENT)

    async def begun() -> bool:
        return most > 0

    for number in range(10):
        spooled.transport.scripts[f"d{number}.example"] = script
        await spooled.put(f"bob@d{number}.example", content=MESSAGE + b"x" * 200_000 + b"\r\n")
    async with spooled.running(memory_max=1 << 20):
        await spooled.until(begun)
        # All that may begin begins together.
        await asyncio.sleep(0.3)
        assert most <= 2
        stuck.set()
        await spooled.until(lambda: empty(spooled))


@pytest.mark.slow
async def test_a_stop_ends_while_storage_is_away_and_a_message_is_being_signed(spooled: Spooled) -> None:
    signing = asyncio.Event()

    class Slow:
        async def sign_all(self, letters: Sequence[Unsigned]) -> list[bytes]:
            signing.set()
            await asyncio.Event().wait()
            return []

    class Away(Through):
        async def settle(self, settlements: Sequence[Settlement]) -> Any:
            raise Unavailable("away")

    item, _ = await spooled.put("bob@remote.example")
    runner = spooled.runner(storage=Away(spooled.storage), drain_seconds=0.1)
    runner._ahead.signer = Slow()
    await runner.start()
    await signing.wait()
    async with asyncio.timeout(60):
        await runner.drain()
        await runner.stop()
    assert (await spooled.storage.spool_item(item, None)).attempts == 0


@pytest.mark.slow
async def test_a_message_that_was_not_begun_is_not_doubtful(spooled: Spooled) -> None:
    signing = asyncio.Event()

    class Slow:
        async def sign_all(self, letters: Sequence[Unsigned]) -> list[bytes]:
            signing.set()
            await asyncio.Event().wait()
            return []

    item, trace = await spooled.put("bob@remote.example")
    runner = spooled.runner(drain_seconds=0.1)
    runner._ahead.signer = Slow()
    await runner.start()
    await signing.wait()
    await runner.drain()
    await runner.stop()
    waiting = await spooled.storage.spool_item(item, None)
    assert (waiting.attempts, waiting.claims, waiting.leased_until) == (0, 0, 0.0)
    assert not await spooled.events(trace, "attempt")


async def test_a_notice_that_is_refused_does_not_have_the_message_sent_again(spooled: Spooled) -> None:
    class Refuses(Through):
        async def open_account(self, op: Operation, account: str) -> None:
            raise Refused(Reason.LIMIT, "no more accounts")

    spooled.transport.answer("remote.example", UNKNOWN)
    _, trace = await spooled.put("bob@remote.example")
    async with spooled.running(storage=Refuses(spooled.storage)):
        await spooled.until(lambda: empty(spooled))
    (event,) = await spooled.events(trace, "suppressed")
    assert event.detail["why"] == "no more accounts"


async def test_a_message_that_had_to_be_under_tls_goes_back_with_its_header_alone(spooled: Spooled) -> None:
    spooled.transport.answer("remote.example", UNKNOWN)
    await spooled.put("bob@remote.example", params={"REQUIRETLS": "", "RET": "FULL"})
    await spooled.put("bob@remote.example", params={"REQUIRETLS": ""}, sender="eve@elsewhere.example")
    async with spooled.running():
        await spooled.until(lambda: empty(spooled))
    (octets,) = await spooled.inbox()
    assert b"text/rfc822-headers" in octets
    assert b"body\r\n" not in octets
    (notice,) = [one for one in spooled.transport.letters if one.domain == "elsewhere.example"]
    assert "REQUIRETLS" in notice.params
