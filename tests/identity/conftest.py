"""An identity on a file of its own, with cheap hashes and a clock that stands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from identity.adapters.sqlite.adapter import SqliteIdentity, open_sqlite
from identity.settings import IdentitySettings, PasswordSettings
from runtime.clock import ManualClock

DOMAIN = "test.example"


@pytest.fixture
def cheap() -> IdentitySettings:
    passwords = PasswordSettings(memory_kib=64, iterations=1, lanes=1, threads=2)
    return IdentitySettings(default_domain=DOMAIN, passwords=passwords)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def identity(tmp_path: Path, cheap: IdentitySettings, clock: ManualClock) -> AsyncIterator[SqliteIdentity]:
    identity = await open_sqlite(tmp_path / "identity.db", cheap, clock)
    await identity.add_domain(DOMAIN)
    yield identity
    await identity.close()
