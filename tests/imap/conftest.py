"""Fixtures of the reading room: a house, on fakes or on the real store, and clients in it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from imap.session import House
from storage.connect import connect
from storage.model import INLINE_MAX, SYSTEM, Delivery, LocalRecipient, Operation
from tests.imap.fakes import Client, FakeIdentity, FakeStorage, make_house

Deliver = Callable[..., Awaitable[None]]


@pytest.fixture
def storage() -> FakeStorage:
    return FakeStorage()


@pytest.fixture
def who() -> FakeIdentity:
    return FakeIdentity(alice="secret", bob="secret")


@pytest.fixture
async def house(storage: FakeStorage, who: FakeIdentity) -> AsyncIterator[House]:
    house = make_house(storage, who)
    await house.hub.start()
    await house.sign_ins.start()
    yield house
    await house.hub.stop()
    await house.sign_ins.stop()


@pytest.fixture
async def alice(house: House) -> Client:
    return await Client(house).signed_in()


@pytest.fixture(params=["memory", "sqlite"])
async def any_storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    """The fake and the real store, one after the other."""
    if request.param == "memory":
        yield FakeStorage()
        return
    store = await connect(f"sqlite://{tmp_path}")
    yield store
    await store.close()


@pytest.fixture
async def any_house(any_storage: Any, who: FakeIdentity) -> AsyncIterator[House]:
    house = make_house(any_storage, who)
    await house.hub.start()
    await house.sign_ins.start()
    yield house
    await house.hub.stop()
    await house.sign_ins.stop()


async def _pieces(raw: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(raw), INLINE_MAX):
        yield raw[at : at + INLINE_MAX]


@pytest.fixture
def deliver(any_storage: Any) -> Deliver:
    """Delivers a message to an account that was opened, as SMTP does."""

    async def run(account: str, raw: bytes, prefix: bytes = b"") -> None:
        if isinstance(any_storage, FakeStorage):
            any_storage.deliver(account, raw, prefix)
            return
        content = raw if len(raw) <= INLINE_MAX else await any_storage.stage(_pieces(raw))
        to = LocalRecipient(account, f"{account}@example.org", prefix)
        op = Operation(uuid.uuid4().hex, SYSTEM)
        (outcome,) = await any_storage.accept([Delivery(op, content, "", 1_700_000_000.0, "t", (to,))])
        assert not isinstance(outcome, Exception), outcome

    return run
