"""What accounts use, asked of a storage that answers, is slow, or is away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from homing import usage
from homing.usage import telling_used, used_octets
from storage.model import Usage
from storage.port import Unavailable

IDS = [f"a{number}" for number in range(10)]


class Storage:
    """Each account uses the number in its name; what a `slow` one is asked with is not answered."""

    def __init__(self, *, away: bool = False, slow: str = "") -> None:
        self._away, self._slow = away, slow
        self.calls: list[int] = []

    async def usages(self, accounts: Sequence[str]) -> tuple[Usage, ...]:
        if self._away:
            raise Unavailable("away")
        self.calls.append(len(accounts))
        if self._slow in accounts:
            await asyncio.Event().wait()
        return tuple(Usage(int(account[1:]), 1) for account in accounts)


@pytest.fixture(autouse=True)
def four_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "USAGES_AT_ONCE", 4)


async def test_in_their_order_and_many_at_once() -> None:
    storage: Any = Storage()
    assert await used_octets(storage, IDS) == list(range(10))
    assert storage.calls == [4, 4, 2]
    assert await telling_used(storage)(IDS) == list(range(10))
    assert await used_octets(storage, []) == []


async def test_storage_that_is_away_is_no_reason_to_tell_nothing_of_the_accounts() -> None:
    storage: Any = Storage(away=True)
    with pytest.raises(Unavailable):
        await used_octets(storage, IDS)
    assert await telling_used(storage)(IDS) == [None] * len(IDS)


async def test_what_is_not_told_in_time_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "ANSWER_SECONDS", 0.5)
    storage: Any = Storage(slow="a5")
    assert await telling_used(storage)(IDS) == [0, 1, 2, 3, *[None] * 6]
