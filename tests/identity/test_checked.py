from __future__ import annotations

import asyncio

import pytest

from identity.checked import Checked
from runtime.clock import ManualClock


class Work:
    def __init__(self, answer: str | None = "password") -> None:
        self.answer = answer
        self.runs = 0
        self.go = asyncio.Event()

    async def __call__(self) -> str | None:
        self.runs += 1
        await self.go.wait()
        return self.answer


async def test_those_who_ask_at_once_share_one_run() -> None:
    checked, work = Checked(ManualClock()), Work()
    asking = [asyncio.create_task(checked.check("a", 1, b"f", work)) for _ in range(10)]
    await asyncio.sleep(0)
    work.go.set()
    assert await asyncio.gather(*asking) == ["password"] * 10
    assert work.runs == 1


async def test_remembered_for_its_time_and_never_longer_than_a_minute() -> None:
    clock = ManualClock()
    checked, work = Checked(clock, seconds=3600), Work()
    work.go.set()
    await checked.check("a", 1, b"f", work)
    clock.advance(59.9)
    await checked.check("a", 1, b"f", work)
    assert work.runs == 1
    clock.advance(0.2)
    await checked.check("a", 1, b"f", work)
    assert work.runs == 2


async def test_another_account_version_or_password_is_a_miss() -> None:
    checked, work = Checked(ManualClock()), Work()
    work.go.set()
    for key in (("a", 1, b"f"), ("b", 1, b"f"), ("a", 2, b"f"), ("a", 1, b"g")):
        await checked.check(*key, work)
    assert work.runs == 4


async def test_no_and_errors_are_not_remembered() -> None:
    checked, work = Checked(ManualClock()), Work(None)
    work.go.set()
    for _ in range(2):
        assert await checked.check("a", 1, b"f", work) is None
    assert work.runs == 2

    async def fails() -> str | None:
        raise OSError("away")

    for _ in range(2):
        with pytest.raises(OSError, match="away"):
            await checked.check("a", 1, b"f", fails)


async def test_a_cancelled_asker_ends_nothing() -> None:
    checked, work = Checked(ManualClock()), Work()
    first = asyncio.create_task(checked.check("a", 1, b"f", work))
    second = asyncio.create_task(checked.check("a", 1, b"f", work))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    work.go.set()
    assert await second == "password"


async def test_bounded() -> None:
    clock = ManualClock()
    checked, work = Checked(clock, limit=3), Work()
    work.go.set()
    for n in range(4):
        await checked.check("a", n, b"f", work)
    await checked.check("a", 3, b"f", work)
    await checked.check("a", 1, b"f", work)
    assert work.runs == 4
    await checked.check("a", 0, b"f", work)
    assert work.runs == 5


def test_fingerprints_are_of_this_process() -> None:
    one, other = Checked(ManualClock()), Checked(ManualClock())
    assert one.fingerprint("a", "b") == one.fingerprint("a", "b")
    assert one.fingerprint("a", "b") != other.fingerprint("a", "b")
    assert one.fingerprint("a", "bc") != one.fingerprint("ab", "c")
    assert len(one.fingerprint("\ud800", "\ud800")) == 16
