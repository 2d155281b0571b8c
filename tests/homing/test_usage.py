"""What accounts use, asked of a storage that answers, is slow, or is away."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from homing import usage
from homing.usage import AT_ONCE, telling_used, used_octets
from storage.model import Usage
from storage.port import Unavailable

IDS = [f"a{number}" for number in range(3 * AT_ONCE)]


class Storage:
    """Each account uses the number in its name; `slow` ones do not answer."""

    def __init__(self, *, away: bool = False, slow: str = "") -> None:
        self._away, self._slow = away, slow
        self.asking = 0
        self.most = 0

    async def usage(self, account: str) -> Usage:
        if self._away:
            raise Unavailable("away")
        self.asking += 1
        self.most = max(self.most, self.asking)
        try:
            await (asyncio.Event().wait() if account == self._slow else asyncio.sleep(0))
        finally:
            self.asking -= 1
        return Usage(int(account[1:]), 1)


async def test_in_their_order_and_a_few_at_once() -> None:
    storage: Any = Storage()
    assert await used_octets(storage, IDS) == list(range(len(IDS)))
    assert storage.most == AT_ONCE
    assert await telling_used(storage)(IDS) == list(range(len(IDS)))
    assert await used_octets(storage, []) == []


async def test_storage_that_is_away_is_no_reason_to_tell_nothing_of_the_accounts() -> None:
    storage: Any = Storage(away=True)
    with pytest.raises(Unavailable):
        await used_octets(storage, IDS)
    assert await telling_used(storage)(IDS) == [None] * len(IDS)


async def test_what_is_not_told_in_time_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "ANSWER_SECONDS", 0.5)
    storage: Any = Storage(slow="a5")
    assert await telling_used(storage)(IDS) == [None if id == "a5" else int(id[1:]) for id in IDS]
    assert storage.asking == 0
