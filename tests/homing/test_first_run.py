"""The first run of several identity processes over one store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from identity.model import Account, ImportOutcome, NewAccount, Role
from identity.port import Identity, Reason, Refused
from identity.service import FirstRun, ensure_first_run


class Accounts:
    """A store in which each row of an import is a commit of its own, as MongoDB's are, with a pause between any two
    steps for the others."""

    def __init__(self, pauses: Callable[[], int]) -> None:
        self._pauses = pauses
        self.made: dict[str, NewAccount] = {}
        self.domains: set[str] = set()

    async def accounts(self, domain: str | None = None, limit: int = 1000, after: str = "") -> tuple[Any, ...]:
        await self._pause()
        return tuple(self.made)[:limit]

    async def domain_exists(self, domain: str) -> bool:
        await self._pause()
        return domain in self.domains

    async def add_domain(self, name: str, catch_all: str | None = None) -> None:
        await self._pause()
        if name in self.domains:
            raise Refused(Reason.ALREADY_EXISTS)
        self.domains.add(name)

    async def import_accounts(self, rows: tuple[NewAccount, ...]) -> tuple[ImportOutcome, ...]:
        outcomes = []
        for row in rows:
            await self._pause()
            if row.address in self.made:
                outcomes.append(ImportOutcome(row.address, None, "already exists"))
                continue
            self.made[row.address] = row
            account = Account(row.address, row.address, "", row.role, None, True, 1, 0.0)
            outcomes.append(ImportOutcome(row.address, account, None))
        return tuple(outcomes)

    async def _pause(self) -> None:
        for _ in range(self._pauses()):
            await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(40))
async def test_each_login_is_made_once_and_told_by_who_made_it(seed: int) -> None:
    import random

    chance = random.Random(seed)
    store = Accounts(lambda: chance.randrange(4))
    runs = await asyncio.gather(*(ensure_first_run(cast(Identity, store), "example.org") for _ in range(3)))
    told: dict[str, str | None] = {}
    for run in runs:
        if isinstance(run, FirstRun):
            for address, password in ((run.admin, run.admin_password), (run.user, run.user_password)):
                if address is not None:
                    assert address not in told
                    told[address] = password
    assert told == {address: row.password for address, row in store.made.items()}
    assert [row.role for row in store.made.values()].count(Role.ADMIN) == 1
    assert set(told) == {"admin@example.org", "user@example.org"}
