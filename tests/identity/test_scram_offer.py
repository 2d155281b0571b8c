"""When doors offer SCRAM: asked now and then, never where it is off, not while identity is away."""

from __future__ import annotations

from identity.port import Unavailable
from identity.scram_offer import SECONDS, ScramOffer
from runtime.clock import ManualClock


class Asked:
    def __init__(self) -> None:
        self.times = 0
        self.answer: bool | Exception = True

    async def scram_ready(self) -> bool:
        self.times += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_off_asks_nobody() -> None:
    asked = Asked()
    assert not await ScramOffer(asked, ManualClock(), False).now()  # type: ignore[arg-type]  # one call of the port
    assert asked.times == 0


async def test_asked_every_few_seconds() -> None:
    asked, clock = Asked(), ManualClock()
    offer = ScramOffer(asked, clock, True)  # type: ignore[arg-type]  # as above
    assert await offer.now()
    asked.answer = False
    assert await offer.now()
    assert asked.times == 1
    clock.advance(SECONDS)
    assert not await offer.now()
    asked.answer = True
    clock.advance(SECONDS)
    assert await offer.now()


async def test_not_offered_while_identity_is_away() -> None:
    asked, clock = Asked(), ManualClock()
    offer = ScramOffer(asked, clock, True)  # type: ignore[arg-type]  # as above
    assert await offer.now()
    asked.answer = Unavailable("away")
    clock.advance(SECONDS)
    assert not await offer.now()
