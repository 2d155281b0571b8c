"""STORE of many messages: several changes, one answer."""

from __future__ import annotations

import pytest

import imap.commands.store
from imap.commands.store import _pages
from imap.session import House
from tests.imap.fakes import Client, FakeStorage

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"


@pytest.mark.parametrize("page", [1, 2, 3, 100])
async def test_pages_are_one_answer(
    house: House, storage: FakeStorage, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(imap.commands.store, "STORE_PAGE", page)
    a, b = await Client(house).signed_in(), await Client(house).signed_in()
    for _ in range(7):
        storage.deliver("alice", MESSAGE)
    await a("x EXAMINE INBOX")
    await b("x SELECT INBOX")
    answer = await b("x STORE 1,3:6 +FLAGS (\\Flagged)")
    assert [line.split()[1] for line in answer.splitlines()] == ["1", "3", "4", "5", "6", "OK"]
    assert (await a("x NOOP")).count("\\Flagged") == 5
    assert await b("x STORE 1:* +FLAGS.SILENT (\\Seen)") == "x OK Stored\n"
    assert await b("x NOOP") == "x OK Done\n"
    assert (await a("x NOOP")).count("\\Seen") == 7


def test_pages_hold_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imap.commands.store, "STORE_PAGE", 4)
    slices = ((0, 3), (5, 6), (8, 20))
    pages = list(_pages(slices))
    assert pages == [((0, 3), (5, 6)), ((8, 12),), ((12, 16),), ((16, 20),)]
    assert list(_pages(())) == []
