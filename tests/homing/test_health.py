"""What a service says of what it depends on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import cast

from homing.health import Check, Health
from homing.turns import Turn
from identity.port import Unavailable
from storage.model import SweepReport
from storage.port import Storage
from storage.service import StorageService


async def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


class Dependency:
    """Answers, refuses, hangs or is broken, as told."""

    def __init__(self) -> None:
        self.how = "ok"

    async def ask(self) -> None:
        match self.how:
            case "away":
                raise Unavailable("mongodb://user:secret@db does not answer")
            case "hangs":
                await asyncio.Event().wait()
            case "broken":
                raise ZeroDivisionError("secret")


async def test_states_follow_what_is_there_and_tell_nothing_behind_it() -> None:
    needed, other = Dependency(), Dependency()
    health = Health({"needed": Check(needed.ask), "other": Check(other.ask, needed=False)}, every=0.01, timeout=0.05)
    assert (health.good, set(health.states.values())) == (False, {"not asked yet"})
    await health.start()
    await until(lambda: health.good)
    for how, sentence in (
        ("away", "cannot answer now"),
        ("hangs", "no answer within 0.05 s"),
        ("broken", "met an error of its own"),
    ):
        other.how = how
        await until(lambda sentence=sentence: health.states["other"] == sentence)
        assert health.good
        needed.how = how
        await until(lambda sentence=sentence: health.states["needed"] == sentence)
        assert not health.good
        needed.how = other.how = "ok"
        await until(lambda: set(health.states.values()) == {"ok"})
    await health.stop()


class Store:
    """Counts the rounds of upkeep."""

    def __init__(self) -> None:
        self.sweeps = self.reparses = 0

    async def sweep(self, grace: float = 3600.0) -> SweepReport:
        self.sweeps += 1
        return SweepReport(0, 0, 0, 0, 0, False)

    async def reparse(self, after: str = "", limit: int = 100) -> str:
        self.reparses += 1
        return ""

    async def close(self) -> None:
        return None


class Turns:
    """The turns of several processes: each name is whose it is told to be."""

    def __init__(self) -> None:
        self.holder: dict[str, object] = {}

    def of(self, who: object) -> Turn:
        turns = self

        class Mine:
            async def mine(self, name: str, seconds: float) -> bool:
                assert seconds > 0
                return turns.holder.setdefault(name, who) is who

            async def close(self) -> None:
                return None

        return Turn(Mine())


async def test_the_upkeep_of_one_store_is_one_process_es() -> None:
    turns, stores = Turns(), [Store(), Store()]
    services = [StorageService(cast(Storage, store), sweep_seconds=0.01, turn=turns.of(store)) for store in stores]
    for service in services:
        await service.start()
    await until(lambda: stores[0].sweeps > 5)
    assert (stores[1].sweeps, stores[1].reparses) == (0, 0)
    # The one that had the turn has died.
    turns.holder = dict.fromkeys(turns.holder, stores[1])
    await until(lambda: stores[1].sweeps > 5 and stores[1].reparses == 1)
    for service in services:
        await service.stop()


async def test_the_upkeep_goes_on_after_a_bug() -> None:
    class Broken(Store):
        closed = False

        async def reparse(self, after: str = "", limit: int = 100) -> str:
            self.reparses += 1
            if self.reparses < 3:
                raise ZeroDivisionError
            return ""

        async def close(self) -> None:
            self.closed = True

    store = Broken()
    service = StorageService(cast(Storage, store), sweep_seconds=0.01)
    await service.start()
    await until(lambda: store.reparses == 3)
    await service.stop()
    assert store.closed
