"""INPROGRESS (RFC 9585): when a client is told, and when not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from imap import progress
from imap.commands import store
from imap.progress import PERIOD, Progress
from imap.session import House
from runtime.clock import ManualClock
from storage.model import Found, MailboxRef, Query
from tests.imap.fakes import Client, FakeIdentity, FakeOut, FakeStorage, make_house, until


class Slow(FakeStorage):
    """Searches only when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.let = asyncio.Event()

    async def search(self, ref: MailboxRef, query: Query) -> Found:
        await self.let.wait()
        return await super().search(ref, query)


@pytest.fixture
async def slow(who: FakeIdentity) -> AsyncIterator[tuple[House, Slow]]:
    storage = Slow()
    house = make_house(storage, who)
    await house.hub.start()
    yield house, storage
    await house.hub.stop()


async def test_one_long_answer(slow: tuple[House, Slow], monkeypatch: pytest.MonkeyPatch) -> None:
    house, storage = slow
    monkeypatch.setattr(progress, "PERIOD", 0.001)
    client = await Client(house).signed_in()
    storage.deliver("alice", b"Subject: x\r\n\r\n")
    await client("a SELECT INBOX")
    running = asyncio.create_task(client.run("b SEARCH SUBJECT x"))
    await until(lambda: "search" in storage.calls)
    assert isinstance(house.clock, ManualClock)
    house.clock.advance(PERIOD)
    await until(lambda: b"INPROGRESS" in client.out.sent)
    storage.let.set()
    await running
    said = client.take()
    assert said.startswith('* OK [INPROGRESS ("b" NIL NIL)] Still at it\n')
    assert said.endswith("* SEARCH 1\nb OK Searched\n")
    client.session.closed()


async def test_pages(slow: tuple[House, Slow], monkeypatch: pytest.MonkeyPatch) -> None:
    house, storage = slow
    client = await Client(house).signed_in()
    for _ in range(5):
        storage.deliver("alice", b"Subject: x\r\n\r\n")
    await client("a SELECT INBOX")
    monkeypatch.setattr(store, "STORE_PAGE", 2)
    assert isinstance(house.clock, ManualClock)
    storage.before["store_flags"] = lambda: house.clock.advance(PERIOD)  # type: ignore[attr-defined]  # as above
    said = await client("b STORE 1:5 +FLAGS.SILENT (\\Seen)")
    # once in PERIOD, however many pages there are
    assert said == '* OK [INPROGRESS ("b" 2 5)] 2 of 5 done\nb OK Stored\n'


def test_when_it_is_told() -> None:
    out, clock, half_written = FakeOut(), ManualClock(), [False]

    async def run() -> None:
        told = Progress(out, clock, lambda: half_written[0])
        told.look()
        told.begin("a")
        clock.advance(PERIOD - 0.001)
        told.look()
        assert not out.sent
        clock.advance(0.001)
        half_written[0] = True
        told.look()
        half_written[0], out.waiting = False, True
        told.look()
        assert not out.sent
        out.waiting = False
        told.look()
        assert out.sent == b'* OK [INPROGRESS ("a" NIL NIL)] Still at it\r\n'
        told.of(10)
        clock.advance(PERIOD)
        told.reached(3)
        told.reached(4)
        assert out.sent.endswith(b'* OK [INPROGRESS ("a" 3 10)] 3 of 10 done\r\n')
        clock.advance(PERIOD)
        told.reached(10)
        told.end()
        told.look()
        assert out.sent.count(b"INPROGRESS") == 2
        told.close()

    asyncio.run(run())
